//! The JSON objects that token endpoints answer with, read leniently. What the fields mean lies in `response` and `refusal`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// A JSON object from a token endpoint. Servers differ in the types of their fields, so each keeps its own.
pub(super) struct Document(BTreeMap<String, Field>);

enum Field {
    Text(Zeroizing<String>),
    Number(f64),
    Other,
}

impl Document {
    /// The object, or where it stopped being one. A serde_json error would quote what it met.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        // Raw at first: a number that is too large for any type would make the whole of it unreadable.
        let fields = serde_json::from_slice::<BTreeMap<String, &RawValue>>(body);
        let read = |fields: BTreeMap<String, &RawValue>| {
            Self(fields.into_iter().map(|(name, value)| (name, Field::read(value))).collect())
        };
        fields.map(read).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Eof => "ends too early",
                serde_json::error::Category::Data => "is not a JSON object",
                _ => "is not JSON",
            };
            format!("{what} (line {}, column {})", error.line(), error.column())
        })
    }

    /// A string that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Field::Text(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// A string, even an empty one.
    pub(super) fn any_text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Field::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// A number, be it written as a string.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name)? {
            Field::Text(text) => text.trim().parse().ok(),
            Field::Number(number) => Some(*number),
            Field::Other => None,
        }
    }
}

impl Field {
    fn read(value: &RawValue) -> Self {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'"') => {
                serde_json::from_str(text).map_or(Field::Other, |text| Field::Text(Zeroizing::new(text)))
            }
            // Beyond what an `f64` can hold it is infinite, and whoever asks for it has a limit.
            Some(b'-' | b'0'..=b'9') => text.parse().map_or(Field::Other, Field::Number),
            _ => Field::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_the_type_they_came_in() {
        let body = "\u{FEFF}{\"t\":\"x\",\"e\":\"\",\"i\":-3,\"f\":1.5,\"s\":\" 7 \",\"n\":null,\"b\":true,\"a\":[[1]],\"o\":{\"t\":1}}";
        let document = Document::parse(body.as_bytes()).unwrap();
        assert_eq!(
            (document.text("t"), document.text("e"), document.any_text("e")),
            (Some("x"), None, Some(""))
        );
        assert_eq!(
            (document.number("i"), document.number("f"), document.number("s")),
            (Some(-3.0), Some(1.5), Some(7.0))
        );
        for other in ["n", "b", "a", "o", "missing"] {
            assert!(document.text(other).is_none() && document.number(other).is_none(), "{other}");
        }
    }

    #[test]
    fn numbers_of_any_size_leave_the_rest_readable() {
        let digits = "9".repeat(400);
        let body = format!(
            r#"{{"t":"x","a":{digits},"b":1e400,"c":-1e400,"d":"{digits}","e":99999999999999999999}}"#
        );
        let document = Document::parse(body.as_bytes()).unwrap();
        assert_eq!(document.text("t"), Some("x"));
        for name in ["a", "b", "d"] {
            assert_eq!(document.number(name), Some(f64::INFINITY), "{name}");
        }
        assert_eq!((document.number("c"), document.number("e")), (Some(f64::NEG_INFINITY), Some(1e20)));
    }

    #[test]
    fn what_is_no_object_is_told_without_quoting_it() {
        for (body, said) in [
            ("", "ends too early"),
            ("{\"access_token\":\"canary", "ends too early"),
            ("[\"canary\",\"Bearer\"]", "is not a JSON object"),
            ("\"canary\"", "is not a JSON object"),
            ("<html>canary", "is not JSON"),
            ("{\"a\":1} canary", "is not JSON"),
        ] {
            let error = Document::parse(body.as_bytes()).err().unwrap();
            assert!(error.starts_with(said) && !error.contains("canary"), "{body}: {error}");
        }
    }
}
