#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::token_response::check(data));
