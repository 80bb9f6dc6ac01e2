use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
        serde_json::from_slice(body).map(Self).map_err(|error| {
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

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyField)
    }
}

struct AnyField;

impl<'de> Visitor<'de> for AnyField {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Number(number as f64))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Field, E> {
        Ok(Field::Number(number as f64))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Field, E> {
        Ok(Field::Number(number))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Field, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
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
