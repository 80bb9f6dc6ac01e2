#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::access_token::check(data));
