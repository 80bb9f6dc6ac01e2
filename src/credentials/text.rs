//! How credentials are written: the names that id, secrets and API key go by, and the two forms of text, JSON and lines.
//! Where the text comes from is not decided here.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::{ApiKey, AppCredentials};
use crate::error::{Error, Result};
use crate::padding;

/// More than this is no credential.
pub(super) const LONGEST: usize = 64 << 10;
/// No name of a field is longer.
const LONGEST_NAME: usize = 64;

pub(super) type Text = Zeroizing<String>;

/// One value of those that make up credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    AppId,
    AppSecret,
    NextSecret,
    ApiKey,
}

impl Field {
    /// Returns the field that goes by this name, in whatever case and with whatever between its words: `client_id`,
    /// `clientId`, `CLIENT-ID`.
    pub(super) fn named(name: &str) -> Option<Self> {
        if name.len() > LONGEST_NAME {
            return None;
        }
        let words = name.chars().filter(|c| !matches!(c, '_' | '-' | '.'));
        let plain: String = words.flat_map(char::to_lowercase).collect();
        Some(match plain.strip_prefix("evertoken").unwrap_or(&plain) {
            "appid" | "clientid" => Self::AppId,
            "appsecret" | "clientsecret" => Self::AppSecret,
            "appsecretnext" | "nextappsecret" | "clientsecretnext" | "nextclientsecret" => Self::NextSecret,
            "apikey" => Self::ApiKey,
            _ => return None,
        })
    }
}

/// The values that were found, and the names that they had there.
#[derive(Default)]
pub(super) struct Fields(Vec<(Field, String, Text)>);

impl Fields {
    /// Takes note of a value. An empty one counts as none.
    ///
    /// # Errors
    /// If there is another value for the same field. The error names both, and repeats no value.
    pub(super) fn add(&mut self, field: Field, name: &str, value: Text) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        match self.0.iter().find(|(known, ..)| *known == field) {
            Some((_, _, same)) if padding::trimmed(same) == padding::trimmed(&value) => {}
            Some((_, other, _)) if other == name => {
                return Err(Error::configuration(format!("it has {name} twice, with different values"))
                    .advice("leave out the wrong one"));
            }
            Some((_, other, _)) => {
                return Err(Error::configuration(format!("{other} and {name} contradict each other"))
                    .advice("leave out the wrong one"));
            }
            None => self.0.push((field, name.to_owned(), value)),
        }
        Ok(())
    }

    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.0.iter().find(|(known, ..)| *known == field).map(|(_, _, text)| text.as_str())
    }

    /// An API key must have the prefix `key_prefix`, if there is one.
    pub(super) fn into_credentials(self, key_prefix: Option<&str>) -> Result<AppCredentials> {
        let (app_id, app_secret) = (self.get(Field::AppId), self.get(Field::AppSecret));
        let credentials = match self.get(Field::ApiKey) {
            Some(_) if app_id.is_some() || app_secret.is_some() => {
                return Err(Error::configuration("there is an API key, and an app id or app secret as well")
                    .advice("leave out the one or the others"));
            }
            Some(key) => ApiKey::parse(key)?.of_prefix(key_prefix)?.into(),
            None => {
                let missing = || Error::configuration("there is no app id (app_id or client_id)");
                AppCredentials::new(app_id.ok_or_else(missing)?, app_secret.unwrap_or_default())
            }
        };
        Ok(match self.get(Field::NextSecret) {
            Some(next) => credentials.next_secret(next),
            None => credentials,
        })
    }
}

/// The members of a JSON object that are fields.
struct Members(Vec<(Field, String, Text)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Text>()? {
                    match Field::named(&name) {
                        Some(field) => {
                            let value = map.next_value::<Option<Text>>()?;
                            members.extend(value.map(|value| (field, name.as_str().to_owned(), value)));
                        }
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Reads JSON or lines. Errors repeat nothing of what stands there but the names of fields.
pub(super) fn parse(text: &str, key_prefix: Option<&str>) -> Result<AppCredentials> {
    if text.len() > LONGEST {
        return Err(Error::configuration(format!("it is longer than {LONGEST} bytes")));
    }
    let text = text.trim_start_matches('\u{feff}').trim();
    let fields = match text.as_bytes().first() {
        None => return Err(Error::configuration("it is empty")),
        Some(b'{') => json(text)?,
        Some(_) => lines(text)?,
    };
    fields.into_credentials(key_prefix)
}

fn json(text: &str) -> Result<Fields> {
    // Not serde's own words: they may repeat a value.
    let Members(members) = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "has a value that is no text" } else { "is no valid JSON" };
        Error::configuration(format!("it {what} at line {line}, column {column}"))
    })?;
    let mut fields = Fields::default();
    for (field, name, value) in members {
        fields.add(field, &name, value)?;
    }
    Ok(fields)
}

fn lines(text: &str) -> Result<Fields> {
    let mut fields = Fields::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| Error::configuration(format!("its line {number} is no NAME=value")))?;
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if let Some(field) = Field::named(name) {
            fields.add(field, name, Zeroizing::new(unquoted(value.trim()).to_owned()))?;
        }
    }
    Ok(fields)
}

fn unquoted(value: &str) -> &str {
    let within = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;
    use crate::secret::ExposeSecret;

    fn read(text: &str) -> (String, String, Option<String>) {
        let AppCredentials { app_id, app_secret, next_secret } = parse(text, None).unwrap();
        let next = next_secret.map(|next| next.expose_secret().to_owned());
        (app_id, app_secret.expose_secret().to_owned(), next)
    }

    fn triple(id: &str, secret: &str, next: Option<&str>) -> (String, String, Option<String>) {
        (id.into(), secret.into(), next.map(Into::into))
    }

    #[test]
    fn both_forms_are_read() {
        for (text, expected) in [
            (r#"{"app_id":"a","app_secret":"s"}"#, triple("a", "s", None)),
            (
                "\u{feff} {\"app_id\":\"a\",\"app_secret\":\"s\\n\\u00fc\",\"next_app_secret\":\"n\",\"port\":1}",
                triple("a", "s\nü", Some("n")),
            ),
            (r#"{"app_id":"a","app_secret":null,"next_app_secret":""}"#, triple("a", "", None)),
            (r#"{"app_id":"a","app_secret":"s","app_secret_next":"n"}"#, triple("a", "s", Some("n"))),
            ("APP_ID=a\nAPP_SECRET=s", triple("a", "s", None)),
            ("APP_ID=a\nAPP_SECRET=s\nEVERTOKEN_NEXT_APP_SECRET=n", triple("a", "s", Some("n"))),
            (
                "# who\r\n\r\nexport EVERTOKEN_APP_ID = a \r\nOTHER=1\r\nAPP_SECRET=\"s=# '\"\r\nAPP_SECRET_NEXT='n'\r\n",
                triple("a", "s=# '", Some("n")),
            ),
            ("APP_ID=a\nAPP_SECRET='half\nAPP_SECRET_NEXT=", triple("a", "'half", None)),
            ("APP_ID=a\nAPP_SECRET='", triple("a", "'", None)),
            (
                r#"{"client_id":"a","client_secret":"s","id":1,"nested":{"app_id":"b"}}"#,
                triple("a", "s", None),
            ),
            (r#"{"clientId":"a","clientSecret":"s","nextClientSecret":"n"}"#, triple("a", "s", Some("n"))),
            (r#"{"CLIENT_ID":"a","Client-Secret":"s","app_id":"a\n","appId":null}"#, triple("a", "s", None)),
            ("CLIENT_ID=a\nclient_secret=s\nAPP_ID=a\nOTHER_CLIENT_ID=b", triple("a", "s", None)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        let key = ApiKey::issue("acme_live", "a", "s").unwrap();
        assert_eq!(read(&format!("API_KEY={}", key.expose())), triple("a", "s", None));
        assert_eq!(read(&format!(r#"{{"api_key":"{}"}}"#, key.expose())), triple("a", "s", None));
        let other = parse(&format!("API_KEY={}", key.expose()), Some("acme_test")).unwrap_err();
        assert!(other.to_string().contains("acme_test_"), "{other}");
    }

    #[test]
    fn what_is_wrong_is_said_and_no_value_repeated() {
        let key = ApiKey::issue("acme", "a", "h1dden").unwrap();
        for (text, said) in [
            (String::new(), "empty"),
            (" \n".to_owned(), "empty"),
            ("h1dden".to_owned(), "line 1 is no NAME=value"),
            ("APP_ID=a\nh1dden".to_owned(), "line 2"),
            ("APP_ID=a\nEVERTOKEN_APP_ID=h1dden".to_owned(), "APP_ID and EVERTOKEN_APP_ID contradict"),
            ("APP_SECRET=h1dden".to_owned(), "no app id"),
            (r#"{"app_id":"a","app_secret":"h1dden"#.to_owned(), "no valid JSON at line 1"),
            (r#"{"app_id":["h1dden"]}"#.to_owned(), "no text"),
            (r#"{"app_id":"a","app_id":"h1dden"}"#.to_owned(), "app_id twice"),
            (r#"{"client_id":"a","appId":"h1dden"}"#.to_owned(), "client_id and appId contradict"),
            (
                r#"{"app_id":"a","clientSecret":"b","client-secret":"h1dden"}"#.to_owned(),
                "clientSecret and client-secret",
            ),
            (
                "APP_ID=a\nAPP_SECRET_NEXT=b\nNEXT_APP_SECRET=h1dden".to_owned(),
                "APP_SECRET_NEXT and NEXT_APP_SECRET",
            ),
            (format!("API_KEY={}\nAPP_ID=h1dden", key.expose()), "as well"),
            (format!("API_KEY={}h1dden", key.expose()), "typo"),
            (format!("APP_ID=a\nAPP_SECRET={}", "h1dden".repeat(20_000)), "longer than 65536"),
        ] {
            let error = parse(&text, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(said), "{error}");
            assert!(!format!("{error:?}").contains("h1dden"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_repeat_itself(text in "(?s)[ -~\\n\\t\u{feff}ü]{0,200}") {
            let _ = parse(&text, None);
        }

        #[test]
        fn no_part_of_a_file_makes_it_panic_or_tell_the_secret(
            secret in "[a-z0-9]{12,20}", cut in 0_usize..100, spoiled in any::<char>(), json in any::<bool>(),
        ) {
            let whole = match json {
                true => format!(r#"{{"app_id":"a","app_secret":"{secret}","next_app_secret":"{secret}"}}"#),
                false => format!("APP_SECRET={secret}\nAPP_SECRET_NEXT={secret}\nAPP_ID=a\n"),
            };
            let cut = cut.min(whole.len());
            for text in [whole[..cut].to_owned(), format!("{}{spoiled}{}", &whole[..cut], &whole[cut..])] {
                if let Err(error) = parse(&text, None) {
                    prop_assert!(!format!("{error} {error:?}").contains(&secret[..8]), "{}", error);
                }
            }
        }

        #[test]
        fn every_secret_comes_back_from_json(id in ".{1,20}", secret in "(?s).*", next in "(?s).+") {
            let text = serde_json::json!({ "app_id": id, "app_secret": secret, "next_app_secret": next }).to_string();
            prop_assert_eq!(read(&text), triple(&id, &secret, Some(&next)));
        }
    }
}
