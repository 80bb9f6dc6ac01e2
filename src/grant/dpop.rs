use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::jws::{encoded, signed, unique};
use super::nonce::{NonceOf, Nonces};
use super::public_jwk::hash;
use super::server_clock::{self, Offset};
use super::signer::Signer as _;
use super::signing_key::SigningKey;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};

/// How long before it is made a proof says that it was issued: some servers take none from their future.
const ISSUED_BEFORE: Duration = Duration::from_secs(2);

/// How long the answer of an API to one call may take, where that is not measured.
const LONGEST_CALL: Duration = Duration::from_secs(10);

/// Binds the tokens to a key of the client (DPoP, RFC 9449), so that a stolen token is of no use: every token request and
/// every call carries a proof, signed with the key and good for this one request.
///
/// A key is held in memory and stays for the life of the client and of all that is made of it by `with`; another key is
/// another client. A [`Signer`](crate::Signer) is not taken: a KMS would be asked at every call of the API.
///
/// ```no_run
/// # fn run() -> evertoken::Result<()> {
/// let api = evertoken::Client::builder("my-app", "my-secret")
///     .issuer("https://as.example")
///     .base_url("https://api.example/v1/")
///     .dpop(evertoken::Dpop::new())
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Dpop {
    key: Option<SigningKey>,
}

impl Dpop {
    /// With a key for ES256 that `build` makes, and that never leaves the process.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this key: EC on P-256 (ES256) or Ed25519 (EdDSA). `build` refuses an RSA key, whose signatures are slow and
    /// large for one at every call.
    pub fn with_key(key: SigningKey) -> Self {
        Self { key: Some(key) }
    }

    pub(crate) fn into_possession(self) -> Result<Possession> {
        let key = match self.key {
            Some(key) => key,
            None => SigningKey::generate()?,
        };
        Possession::new(key)
    }
}

/// The key that tokens are bound to, and the nonces that servers want in its proofs. A family of sources shares it.
pub(crate) struct Possession {
    key: SigningKey,
    /// The header of every proof, encoded, and the dot behind it.
    header: String,
    nonces: Nonces,
    /// The clocks of the APIs that refused a proof, by trusted origin.
    clocks: Mutex<HashMap<usize, Offset>>,
}

impl Possession {
    fn new(key: SigningKey) -> Result<Self> {
        let jwk = key.public_jwk().ok_or_else(|| {
            Error::configuration("`dpop` has a key that cannot sign proofs")
                .advice("give it one on P-256 or of Ed25519, or let it make its own")
        })?;
        let header = encoded(&json!({ "typ": "dpop+jwt", "alg": key.algorithm().name(), "jwk": jwk }));
        Ok(Self { key, header: header + ".", nonces: Nonces::default(), clocks: Mutex::default() })
    }

    /// The `DPoP` header for one request (RFC 9449 4.2), with the server's nonce where one is known. `htu` is its URL
    /// without query and fragment; `token` goes along on a call of an API; `time` is the server's, since the Unix epoch.
    pub(crate) fn proof(
        &self,
        of: NonceOf,
        method: &Method,
        htu: &str,
        token: Option<&str>,
        time: Duration,
    ) -> Result<HeaderValue> {
        let mut claims = json!({
            "jti": unique()?,
            "htm": method.as_str(),
            "htu": htu,
            "iat": time.saturating_sub(ISSUED_BEFORE).as_secs(),
        });
        if let Some(nonce) = self.nonces.get(of) {
            claims["nonce"] = Value::from(&*nonce);
        }
        if let Some(token) = token {
            claims["ath"] = hash(token.as_bytes()).into();
        }
        let input = self.header.clone() + &encoded(&claims);
        let unsigned = || Error::new(ErrorKind::CredentialsUnavailable, "the DPoP proof could not be signed");
        let signature = self.key.sign_now(input.as_bytes()).map_err(|error| unsigned().with_source(error))?;
        let proof = Bytes::from_owner(signed(&input, &signature));
        let mut proof = HeaderValue::from_maybe_shared(proof).map_err(|_| unsigned())?;
        proof.set_sensitive(true);
        Ok(proof)
    }

    /// The time at the API, since the Unix epoch: by what it said when it refused a proof, else with the offset of the
    /// authorization server's clock, if that fits.
    pub(crate) fn api_time(&self, origin: usize, offset: i64, now: &Moment) -> Duration {
        server_clock::shifted(now.wall, self.api_offset(origin, offset, now))
    }

    fn api_offset(&self, origin: usize, guess: i64, now: &Moment) -> i64 {
        let clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.get(&origin).map_or(guess, |held| held.or_guess(guess, now))
    }

    /// Learns the time from an API's refusal of a proof, and returns whether a new proof would bear another one. Other
    /// answers say nothing about a proof's time, and may be read long after they were made.
    pub(crate) fn learn_time(&self, origin: usize, answer: &HeaderMap, offset: i64, now: &Moment) -> bool {
        let used = self.api_offset(origin, offset, now);
        let Some(newer) = Offset::of(answer, LONGEST_CALL, now).filter(Offset::is_believed) else {
            return false;
        };
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner).insert(origin, newer);
        server_clock::matters(used, newer.or_guess(offset, now))
    }

    /// Keeps the nonce that an answer has (RFC 9449 8.2); false where it has none.
    pub(crate) fn note(&self, of: NonceOf, answer: &HeaderMap) -> bool {
        self.nonces.note(of, answer)
    }
}

impl fmt::Debug for Possession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Possession").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
