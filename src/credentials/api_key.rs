use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::base62;
use crate::error::{Error, Result};
use crate::padding::trimmed_url;
use crate::secret::{ExposeSecret, SecretString};

/// Its length in characters.
pub(crate) const CHECKSUM: usize = 6;
const LONGEST_PREFIX: usize = 32;
/// Of app id and app secret, each, in bytes.
pub(crate) const LONGEST_PART: usize = 4096;

/// An app id and an app secret in one string, which a provider hands out and scanners recognise:
/// `acme_live_<payload>_<checksum>`.
///
/// The prefix is the provider's own. The payload is base62 (`0-9A-Za-z`) of the length of the app id (2 bytes), the app id
/// and the app secret, in blocks of 8 bytes to 11 digits (the last block has as few digits as hold it). The checksum is
/// the CRC-32 of all before its underscore, as 6 base62 digits. It finds typing mistakes without asking any server; it
/// proves nothing: anybody can make one.
///
/// `Debug` and `Display` do not show the secret; [`expose`](Self::expose) gives the text. It is wiped when dropped.
///
/// ```
/// use evertoken::{ApiKey, Client};
///
/// # fn main() -> evertoken::Result<()> {
/// // The provider, once for each app:
/// let key = ApiKey::issue("acme_live", "app-7", "s3cr3t")?;
/// assert_eq!(key.expose(), "acme_live_006w3nw3huF3suq3Qy_0X7tmn");
///
/// // The customer:
/// let api = Client::builder_from("acme_live_006w3nw3huF3suq3Qy_0X7tmn")
///     .issuer("https://acme.eu.auth0.com/")
///     .base_url("https://api.acme.com/v1/")
///     .build()?;
/// # drop(api); Ok(()) }
/// ```
#[derive(Clone)]
pub struct ApiKey {
    text: SecretString,
    prefix: String,
    app_id: String,
    app_secret: SecretString,
}

impl ApiKey {
    /// Puts app id and app secret into one key. Both may be any text.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where the prefix is not 2 to 32 lower-case ASCII letters, digits
    /// and underscores that begin with a letter and do not end with an underscore, or where app id or app secret is
    /// empty or longer than 4096 bytes.
    pub fn issue(prefix: &str, app_id: &str, app_secret: impl Into<SecretString>) -> Result<Self> {
        checked_prefix(prefix)?;
        let app_secret = app_secret.into();
        for (name, part) in [("id", app_id), ("secret", app_secret.expose_secret())] {
            if !(1..=LONGEST_PART).contains(&part.len()) {
                return Err(Error::configuration(format!(
                    "the app {name} must have 1 to {LONGEST_PART} bytes"
                )));
            }
        }
        let parts: [&[u8]; 3] =
            [&(app_id.len() as u16).to_be_bytes(), app_id.as_bytes(), app_secret.expose_secret().as_bytes()];
        // With their sizes known beforehand: a buffer that grows leaves unwiped copies behind.
        let size = parts.iter().map(|part| part.len()).sum();
        let mut payload = Zeroizing::new(Vec::with_capacity(size));
        parts.iter().for_each(|part| payload.extend_from_slice(part));
        let length = prefix.len() + 1 + base62::encoded_len(size) + 1 + CHECKSUM;
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(prefix);
        text.push('_');
        base62::encode(&payload, &mut text);
        let checksum = checksum(&text);
        text.push('_');
        text.push_str(&checksum);
        Ok(Self {
            text: text.as_str().into(),
            prefix: prefix.to_owned(),
            app_id: app_id.to_owned(),
            app_secret,
        })
    }

    /// Reads a key, of any prefix; white space, control characters and quotes around it are ignored. No server is asked.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where it is mistyped or cut short, without a word of what it
    /// holds.
    pub fn parse(text: &str) -> Result<Self> {
        let text = trimmed_url(text);
        let (checked, sum) = text.rsplit_once('_').ok_or_else(mistyped)?;
        let (prefix, payload) = checked.rsplit_once('_').ok_or_else(mistyped)?;
        if payload.len() > base62::encoded_len(2 + 2 * LONGEST_PART) || sum != checksum(checked) {
            return Err(mistyped());
        }
        let foreign = || Error::configuration("the API key is not of a form that is known here");
        checked_prefix(prefix).map_err(|_| foreign())?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(payload.len()));
        base62::decode(payload, &mut bytes).ok_or_else(foreign)?;
        let (length, parts) = bytes.split_first_chunk().ok_or_else(foreign)?;
        let parts = str::from_utf8(parts).map_err(|_| foreign())?;
        let (app_id, app_secret) =
            parts.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(foreign)?;
        if app_id.is_empty() || app_secret.is_empty() {
            return Err(foreign());
        }
        Ok(Self {
            text: text.into(),
            prefix: prefix.to_owned(),
            app_id: app_id.to_owned(),
            app_secret: app_secret.into(),
        })
    }

    /// The regular expression by which a secret scanner finds the keys of this prefix: what GitHub's secret scanning,
    /// gitleaks and the like are told. It uses nothing that any of their dialects lacks.
    ///
    /// ```
    /// # fn main() -> evertoken::Result<()> {
    /// let pattern = evertoken::ApiKey::pattern("acme_live")?;
    /// assert_eq!(pattern, r"\bacme_live_[0-9A-Za-z]{6,}_[0-9A-Za-z]{6}\b");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) for a prefix that [`issue`](Self::issue) would refuse.
    pub fn pattern(prefix: &str) -> Result<String> {
        checked_prefix(prefix)?;
        Ok(format!(r"\b{prefix}_[0-9A-Za-z]{{6,}}_[0-9A-Za-z]{{{CHECKSUM}}}\b"))
    }

    /// The provider's prefix, such as `acme_live`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The app id that it holds: OAuth's `client_id`.
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// The app secret that it holds: OAuth's `client_secret`.
    pub fn app_secret(&self) -> &SecretString {
        &self.app_secret
    }

    /// The whole key, secret included, for the provider who issues it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// The key, if it has this prefix.
    pub(crate) fn of_prefix(self, wanted: Option<&str>) -> Result<Self> {
        let Some(wanted) = wanted.filter(|wanted| *wanted != self.prefix) else {
            return Ok(self);
        };
        checked_prefix(wanted)?;
        Err(Error::configuration(format!("the API key begins with `{}_`, not with `{wanted}_`", self.prefix))
            .advice("it is for another service, or for another environment of this one"))
    }

    pub(crate) fn into_parts(self) -> (String, SecretString) {
        (self.app_id, self.app_secret)
    }
}

pub(crate) fn checked_prefix(prefix: &str) -> Result<()> {
    let plain = prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let framed = prefix.starts_with(|c: char| c.is_ascii_lowercase()) && !prefix.ends_with('_');
    if plain && framed && (2..=LONGEST_PREFIX).contains(&prefix.len()) {
        return Ok(());
    }
    Err(Error::configuration("the prefix of API keys is not usable").advice(
        "2 to 32 lower-case letters, digits and underscores, a letter first and no underscore at the end",
    ))
}

fn checksum(text: &str) -> String {
    let mut digits = String::with_capacity(CHECKSUM);
    base62::push_number(crc32fast::hash(text.as_bytes()).into(), CHECKSUM, &mut digits);
    digits
}

fn mistyped() -> Error {
    Error::configuration("the API key has a typo or is cut short: its checksum does not fit")
        .advice("copy it once more, as a whole")
}

impl FromStr for ApiKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for ApiKey {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ApiKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&Zeroizing::new(text))
    }
}

impl TryFrom<&String> for ApiKey {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<SecretString> for ApiKey {
    type Error = Error;

    fn try_from(text: SecretString) -> Result<Self> {
        Self::parse(text.expose_secret())
    }
}

/// Lets `builder_from` take an [`ApiKey`] as well as its text.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_[REDACTED]", self.prefix)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("prefix", &self.prefix)
            .field("app_id", &self.app_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn id_and_secret_come_back(id in "(?s).{1,60}", secret in "(?s).{1,60}") {
            let key = ApiKey::issue("acme", &id, secret.as_str()).unwrap();
            let (app_id, app_secret) = ApiKey::parse(key.expose()).unwrap().into_parts();
            prop_assert_eq!((app_id.as_str(), app_secret.expose_secret()), (id.as_str(), secret.as_str()));
        }
    }
}
