use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ApiKey, AppCredentials};
use crate::error::{Error, Result};

/// More than this is no credential.
pub(super) const LONGEST: usize = 64 << 10;

type Text = Zeroizing<String>;

/// What may stand in a file, in a secret store or in the environment.
#[derive(Deserialize, Default)]
pub(super) struct Fields {
    pub(super) app_id: Option<Text>,
    pub(super) app_secret: Option<Text>,
    /// Who goes by the one form's name in the other would get no next secret, and no word of it.
    #[serde(alias = "app_secret_next")]
    pub(super) next_app_secret: Option<Text>,
    pub(super) api_key: Option<Text>,
}

impl Fields {
    /// An API key must have this prefix, where one is given.
    pub(super) fn into_credentials(self, key_prefix: Option<&str>) -> Result<AppCredentials> {
        let given = |field: Option<Text>| field.filter(|text| !text.is_empty());
        let (app_id, app_secret) = (given(self.app_id), given(self.app_secret));
        let credentials = match given(self.api_key) {
            Some(_) if app_id.is_some() || app_secret.is_some() => {
                return Err(Error::configuration("there is an API key, and an app id or app secret as well")
                    .advice("leave out the one or the others"));
            }
            Some(key) => ApiKey::parse(&key)?.of_prefix(key_prefix)?.into(),
            None => {
                let app_id = app_id.ok_or_else(|| Error::configuration("there is no app id"))?;
                AppCredentials::new(app_id.as_str(), app_secret.as_ref().map_or("", |secret| secret.as_str()))
            }
        };
        Ok(match given(self.next_app_secret) {
            Some(next) => credentials.next_secret(next.as_str()),
            None => credentials,
        })
    }
}

/// Reads JSON or lines. What is wrong is told without a word of what stands there.
pub(super) fn parse(text: &str, key_prefix: Option<&str>) -> Result<AppCredentials> {
    if text.len() > LONGEST {
        return Err(Error::configuration(format!("it is longer than {LONGEST} bytes")));
    }
    let text = text.trim_start_matches('\u{feff}').trim();
    let fields = match text.as_bytes().first() {
        None => return Err(Error::configuration("it is empty")),
        // Not serde's own words: they may repeat a value.
        Some(b'{') => serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let what = if error.is_data() {
                "has a value twice, or one that is no text,"
            } else {
                "is no valid JSON"
            };
            Error::configuration(format!("it {what} at line {line}, column {column}"))
        })?,
        Some(_) => lines(text)?,
    };
    fields.into_credentials(key_prefix)
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
        let field = match name.strip_prefix("EVERTOKEN_").unwrap_or(name) {
            "APP_ID" => &mut fields.app_id,
            "APP_SECRET" => &mut fields.app_secret,
            "APP_SECRET_NEXT" | "NEXT_APP_SECRET" => &mut fields.next_app_secret,
            "API_KEY" => &mut fields.api_key,
            _ => continue,
        };
        if field.replace(Zeroizing::new(unquoted(value.trim()).to_owned())).is_some() {
            return Err(Error::configuration(format!("its line {number} gives a value for the second time")));
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
            ("APP_ID=a\nEVERTOKEN_APP_ID=h1dden".to_owned(), "second time"),
            ("APP_SECRET=h1dden".to_owned(), "no app id"),
            (r#"{"app_id":"a","app_secret":"h1dden"#.to_owned(), "no valid JSON at line 1"),
            (r#"{"app_id":["h1dden"]}"#.to_owned(), "no text"),
            (r#"{"app_id":"a","app_id":"h1dden"}"#.to_owned(), "twice"),
            ("APP_ID=a\nAPP_SECRET_NEXT=b\nNEXT_APP_SECRET=h1dden".to_owned(), "second time"),
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
