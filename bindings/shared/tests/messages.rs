//! Every message of the crate, read from its source: what it names between backticks is an option or method that the bindings
//! have, or a word that is the same in every language.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use evertoken_bindings::{Language, NAMES};

/// Of the wire, of the operating system, or an example: the same for everybody.
const COMMON: &[&str] = &[
    "..",
    "//",
    "-----BEGIN CERTIFICATE-----",
    "Date",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "acme-sdk/1.2",
    "alg",
    "ca-certificates",
    "chmod 600",
    "exp",
    "expires_in",
    "http://host:port",
    "http://user:password@host:port",
    "https://host:port",
    "iat",
    "kid",
    "kty",
    "openssl pkey -in key.pem",
    "private_key_jwt",
    "socks5h://host:port",
    "ssh-keygen -p -m PKCS8 -f key",
    "{name}",    // a member of a JWK
    "{}_",       // the prefix of an API key
    "{wanted}_", // likewise
];

/// What no caller of a binding reads: they always have a runtime.
const RUST_ONLY: &[&str] = &["evertoken::blocking", "runtime"];

/// Parts of the crate that the bindings do not use.
const UNUSED: &[&str] = &[
    "client/blocking",
    "client/request.rs",
    "grant/introspection.rs",
    "guide",
    "middleware",
    "server",
    "testing",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The string literals of Rust source, without those of its tests.
fn literals(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['"', '/', '\'', 'r']) {
        let (before, here) = rest.split_at(at);
        let is_word = before.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '_');
        rest = &here[1..];
        if here.starts_with("//") {
            rest = here.find('\n').map_or("", |end| &here[end..]);
        } else if here.starts_with('r') && !is_word && here[1..].trim_start_matches('#').starts_with('"') {
            let hashes = here[1..].find('"').unwrap();
            let text = &here[hashes + 2..];
            let end = text.find(&format!("\"{}", "#".repeat(hashes))).unwrap();
            found.push(text[..end].to_owned());
            rest = &text[end + 1 + hashes..];
        } else if here.starts_with('\'') {
            // A character that would otherwise look like something else; a lifetime has no second quote.
            for escaped in ["'\"'", "'\\''", "'\\\"'", "'/'", "'\\\\'"] {
                rest = here.strip_prefix(escaped).unwrap_or(rest);
            }
        } else if here.starts_with('"') {
            let mut text = String::new();
            let mut chars = rest.char_indices();
            while let Some((index, char)) = chars.next() {
                match char {
                    '"' => {
                        rest = &rest[index + 1..];
                        break;
                    }
                    '\\' => match chars.next() {
                        // The text goes on in the next line.
                        Some((_, '\n')) => {
                            while chars.as_str().starts_with(char::is_whitespace) {
                                chars.next();
                            }
                        }
                        Some((_, other)) => text.push(other),
                        None => {}
                    },
                    other => text.push(other),
                }
            }
            found.push(text);
        }
    }
    found
}

/// Every literal of the crate that can become a part of what a binding shows, with its file.
fn messages() -> Vec<(String, String)> {
    let source = folder().join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let file = path.strip_prefix(&source).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = file.ends_with("tests.rs") || file.contains("/tests/") || file.ends_with("fleet.rs");
        if is_test || UNUSED.iter().any(|unused| file.starts_with(unused)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        found.extend(literals(&text).into_iter().map(|literal| (file.clone(), literal)));
    }
    found
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn is_known(name: &str) -> bool {
    let text = format!("`{name}`");
    NAMES.iter().any(|known| known.rust == name) || Language::Node.spell(&text) != text
}

#[test]
fn literals_are_found_as_the_compiler_reads_them() {
    let source = "let a = \"one \\\n   `two`\"; // \"three\"\n'\"' f('a', \"fo\\\"ur\") r#\"fi\"ve\"# b'/' for 'x' \"six\"\n\
                  #[cfg(test)]\nmod tests {\n\"seven\"";
    assert_eq!(literals(source), ["one `two`", "fo\"ur", "fi\"ve", "six"]);
}

#[test]
fn whatever_a_message_names_has_a_spelling_in_each_language() {
    let messages = messages();
    assert!(messages.len() > 300, "{}", messages.len());
    let mut named = BTreeSet::new();
    for (file, text) in &messages {
        assert_eq!(text.matches('`').count() % 2, usize::from(text.contains("'*+-.^_`|~")), "{file}: {text}");
        if text.contains("'*+-.^_`|~") {
            continue; // the characters of a token (RFC 9110 5.6.2)
        }
        for name in quoted(text) {
            let is_common = COMMON.contains(&name) || RUST_ONLY.contains(&name);
            assert!(is_common || is_known(name), "{file}: {text:?} names `{name}`: how do Python and Node?");
            named.insert(name);
        }
    }
    assert!(named.len() > 20, "{named:?}");
    for name in COMMON.iter().chain(RUST_ONLY) {
        assert!(named.contains(name), "no message names `{name}` any more");
    }
}

#[test]
fn options_are_named_between_backticks() {
    for (file, text) in messages() {
        // A sentence, and not a word of the wire, of `Debug` or of a format.
        if !text.contains(' ') || text.contains("'*+-.^_`|~") {
            continue;
        }
        let outside: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for word in outside.split(|char: char| !char.is_alphanumeric() && char != '_') {
            let is_placeholder =
                text.contains(&format!("{{{word}}}")) || text.contains(&format!("{{{word}:"));
            let is_option = word.contains('_') && NAMES.iter().any(|name| name.rust == word);
            assert!(!is_option || is_placeholder, "{file}: {text:?} names {word} without backticks");
        }
    }
}

/// The identifiers that a caller writes first: `clientAuth` of `clientAuth: 'client_secret_jwt'`.
fn identifiers(spelling: &str) -> Vec<&str> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    match spelling.strip_prefix("{ ") {
        Some(members) => members
            .trim_end_matches(" }")
            .split(", ")
            .map(|member| member.split(':').next().unwrap())
            .collect(),
        None => spelling.split(|char| !is_part(char) && char != '.').next().unwrap().split('.').collect(),
    }
}

#[test]
fn python_has_what_it_is_told_of() {
    let package = folder().join("bindings/python/python/evertoken");
    let read = |file: &str| fs::read_to_string(package.join(file)).unwrap();
    let source = ["_options.py", "_client.py", "_native.pyi"].map(read).concat();
    for name in NAMES {
        for identifier in identifiers(name.python) {
            let forms = [
                format!("\n        {identifier}: "),
                format!("\n    {identifier}: "),
                format!(" {identifier}: "),
                format!("def {identifier}("),
                format!("class {identifier}"),
            ];
            assert!(
                forms.iter().any(|form| source.contains(form)),
                "Python has no {identifier} for `{}`",
                name.rust
            );
        }
    }
}

#[test]
fn node_has_what_it_is_told_of() {
    let package = folder().join("bindings/node/lib");
    let read = |file: &str| fs::read_to_string(package.join(file)).unwrap();
    let source = ["options.ts", "client.ts"].map(read).concat();
    for name in NAMES {
        for identifier in identifiers(name.node) {
            let forms = [
                format!("\n  {identifier}?: "),
                format!("\n      {identifier}: "),
                format!("\n      {identifier}?: "),
                format!(" {identifier}("),
                format!(" {identifier}: PrivateKey"),
                format!("static {identifier}("),
                format!("class {identifier} "),
            ];
            assert!(
                forms.iter().any(|form| source.contains(form)),
                "Node has no {identifier} for `{}`",
                name.rust
            );
        }
        // Of times, the name says the unit.
        let is_time = ["_timeout", "leeway", "backoff_base", "backoff_cap"]
            .iter()
            .any(|time| name.rust.ends_with(time));
        assert_eq!(name.node.ends_with("Ms"), is_time, "`{}`", name.node);
    }
}
