//! Spellings of an app id that an authorization server may take for the same client: databases fold
//! case, width and accents, and ignore outer spaces. Only for counting and forgetting, where folding
//! too much costs next to nothing. Which token belongs to whom is never decided by it.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_normalizer::properties::CanonicalCombiningClassMapBorrowed;

/// Returns what all spellings of an app id have in common: without case, compatibility forms (NFKD),
/// accents, characters of no width and outer white space.
pub(super) fn folded(app_id: &str) -> Cow<'_, str> {
    if app_id.is_ascii() {
        let app_id = app_id.trim();
        let is_folded = !app_id.bytes().any(|byte| byte.is_ascii_uppercase());
        return if is_folded { app_id.into() } else { app_id.to_ascii_lowercase().into() };
    }
    let classes = CanonicalCombiningClassMapBorrowed::new();
    let folded: String = DecomposingNormalizerBorrowed::new_nfkd()
        .normalize_iter(app_id.chars())
        // Both ways, so that letters with several forms of one case meet (ß and ss, ς and σ).
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|c| classes.get_u8(*c) == 0 && !has_no_width(*c))
        .collect();
    folded.trim().to_owned().into()
}

fn has_no_width(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_what_servers_take_for_the_same() {
        for (one, other) in [
            ("customer-7", "CUSTOMER-7"),
            ("customer-7", " Customer-7\t"),
            ("customer-7", "customer-7\u{a0}"),
            ("customer-7", "\u{200b}customer\u{ad}-7\u{feff}"),
            ("customer-7", "ｃｕｓｔｏｍｅｒ－７"),
            ("café", "cafe\u{301}"),
            ("café", "CAFE"),
            ("straße", "STRASSE"),
            ("οδος", "ΟΔΟΣ"),
            ("istanbul", "İSTANBUL"),
            ("ﬁle", "FILE"),
        ] {
            assert_eq!(folded(one), folded(other), "{one:?} {other:?}");
        }
        for (one, other) in [("customer-7", "customer-8"), ("a-1-11", "a-11-1"), ("a b", "ab"), ("é", "è1")]
        {
            assert_ne!(folded(one), folded(other), "{one:?} {other:?}");
        }
        assert_eq!(folded(" \u{301}"), "");
    }
}
