//! What must be true of whatever outsiders feed us: the seeds of the fuzz targets (tests/fuzz), each of them spoiled in
//! hundreds of ways, and arbitrary bytes; the same at every run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "fuzz/oracle/mod.rs"]
mod oracle;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const CASES: u32 = 400;

/// What means something to one parser or another.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    ",",
    ";",
    "=",
    ":",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\0",
    "{",
    "}",
    "[",
    "null",
    "-1",
    "0",
    "1e400",
    "NaN",
    "inf",
    "18446744073709551616",
    "0.5",
    "\u{2028}",
    "\u{202e}",
    "\u{1b}[2J",
    "\u{feff}",
    "é",
    "Bearer ",
    "DPoP ",
    "Basic ",
    "error=",
    "s3cr3t/c4nary+Xy7=",
    "s3cr3t%2Fc4nary%2BXy7%3D",
    "invalid_client",
    "retry-after: ",
    "_",
    "#",
    "https://",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, Vec<u8>),
    Replace(Index, u8),
    Remove(Index, Index),
    Repeat(Index, Index),
    Cut(Index),
}

impl Edit {
    fn apply(&self, text: &mut Vec<u8>) {
        let range = |text: &[u8], a: &Index, b: &Index| {
            let (a, b) = (a.index(text.len() + 1), b.index(text.len() + 1));
            a.min(b)..a.max(b)
        };
        match self {
            Self::Insert(at, bytes) => {
                let at = at.index(text.len() + 1);
                text.splice(at..at, bytes.iter().copied());
            }
            Self::Replace(at, byte) if !text.is_empty() => *at.get_mut(text) = *byte,
            Self::Replace(..) => {}
            Self::Remove(a, b) => drop(text.drain(range(text, a, b))),
            Self::Repeat(a, b) => {
                let range = range(text, a, b);
                let copy = text[range.clone()].to_vec();
                text.splice(range.end..range.end, copy);
            }
            Self::Cut(at) => text.truncate(at.index(text.len() + 1)),
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), select(WORDS)).prop_map(|(at, word)| Edit::Insert(at, word.into())),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Remove(a, b)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Repeat(a, b)),
        1 => any::<Index>().prop_map(Edit::Cut),
    ]
}

fn holds(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(seeds.len() >= 5, "{target} has its seeds");
    for (file, seed) in files.iter().zip(&seeds) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(seed))) {
            println!("the seed is {}", file.display());
            resume_unwind(panic);
        }
    }
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let spoiled = (select(seeds), vec(edit(), 1..6)).prop_map(|(mut text, edits)| {
        edits.iter().for_each(|edit| edit.apply(&mut text));
        text
    });
    let input = prop_oneof![9 => spoiled, 1 => vec(any::<u8>(), 0..200)];
    let held = runner.run(&input, |bytes| {
        check(&bytes);
        Ok(())
    });
    held.unwrap();
}

macro_rules! targets {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            holds(stringify!($target), oracle::$target::check);
        }
    )*};
}

targets!(token_response error_response pacing discovery challenge jwk jwks access_token api_key credentials);
