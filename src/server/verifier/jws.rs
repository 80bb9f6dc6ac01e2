//! The compact form of a signed token (RFC 7515 3.1), taken apart and not yet believed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// The header's members that matter. Those which say where a key is to be had (`jku`, `x5u`, `jwk`, `x5c`) are not among
/// them: keys come from the issuer alone.
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    /// Extensions that must be understood (RFC 7515 4.1.11); none is.
    pub(super) crit: Option<IgnoredAny>,
}

pub(super) struct Jws<'a> {
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    pub(super) message: &'a str,
    pub(super) signature: Vec<u8>,
}

/// Whether a token is to be read as a JWS. What is not is opaque here, an encrypted JWT too.
pub(super) fn is_one(token: &str) -> bool {
    token.starts_with("ey") && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl<'a> Jws<'a> {
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            message,
            signature: decode(signature)?,
        })
    }
}
