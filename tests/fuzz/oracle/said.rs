use std::error::Error as _;
use std::time::Duration;

use evertoken::Error;

/// The longest error text: our own words, a server's URL, and 200 characters of what it says.
const LONGEST: usize = 2500;

/// The longest that a server can make us wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// One line of bounded length for a person's eyes, with none of these secrets.
pub fn check(error: &Error, secrets: &[&str]) {
    let text = error.to_string();
    assert!(error.retry_after().is_none_or(|wait| wait <= LONGEST_WAIT * 2), "{text}");
    assert!(!text.is_empty() && text.chars().count() <= LONGEST, "{} characters", text.len());
    for said in [Some(text.as_str()), error.description(), error.oauth_error()].into_iter().flatten() {
        assert!(!said.chars().any(is_no_text), "{said:?}");
    }
    assert!(error.description().is_none_or(|said| said.chars().count() <= 200), "{text}");
    assert!(error.oauth_error().is_none_or(|code| (1..=64).contains(&code.len())), "{text}");
    let mut all = format!("{text}\n{error:?}\n{:?}", error.server());
    let mut source = error.source();
    while let Some(cause) = source {
        all.push_str(&format!("\n{cause}\n{cause:?}"));
        source = cause.source();
    }
    no_secret(&all, secrets);
}

pub fn no_secret(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret:?} in {text:?}");
    }
}

/// What ends a line, moves the cursor or turns the direction of text.
fn is_no_text(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The words of an input that are long enough not to stand in our own sentences by chance.
pub fn long_words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() >= 20).collect()
}
