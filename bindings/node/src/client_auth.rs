//! How a client authenticates, as JavaScript says it.

use evertoken::{AssertionAudience, ClientAuth, Dpop, HmacAlgorithm, SigningAlgorithm, SigningKey};
use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;

use crate::errors::thrown;

#[napi(object)]
pub struct NativeClientAuth {
    /// As RFC 7591 2 names it.
    pub method: String,
    /// PEM, or a JWK in JSON.
    pub key: Option<String>,
    pub key_id: Option<String>,
    pub algorithm: Option<String>,
    pub audience: Option<String>,
}

/// Says what is wrong with an option, as `EvertokenError` in JSON.
pub fn mistake(message: String) -> Error {
    let fields =
        serde_json::json!({ "code": "ERR_EVERTOKEN_CONFIGURATION", "message": message, "retryable": false });
    Error::from_reason(fields.to_string())
}

fn key(text: &str) -> Result<SigningKey> {
    let read = match text.trim_start().starts_with('{') {
        true => SigningKey::from_jwk(text),
        false => SigningKey::from_pem(text),
    };
    read.map_err(|error| thrown(&error))
}

pub fn dpop(text: Option<String>) -> Result<Dpop> {
    Ok(match text {
        Some(text) => Dpop::with_key(key(&text)?),
        None => Dpop::new(),
    })
}

fn audience(name: Option<String>) -> AssertionAudience {
    match name.as_deref() {
        None | Some("issuer") => AssertionAudience::default(),
        Some("token_endpoint") => AssertionAudience::TokenEndpoint,
        Some(named) => AssertionAudience::Named(named.to_owned()),
    }
}

impl NativeClientAuth {
    pub fn into_client_auth(self) -> Result<ClientAuth> {
        Ok(match self.method.as_str() {
            "client_secret_basic" => ClientAuth::ClientSecretBasic,
            "client_secret_basic_raw" => ClientAuth::ClientSecretBasicRaw,
            "client_secret_post" => ClientAuth::ClientSecretPost,
            "tls_client_auth" => ClientAuth::TlsClientAuth,
            "self_signed_tls_client_auth" => ClientAuth::SelfSignedTlsClientAuth,
            "client_secret_jwt" => {
                let method = evertoken::SecretJwt::new().audience(audience(self.audience));
                match self.algorithm.as_deref() {
                    None => method,
                    Some("HS256") => method.algorithm(HmacAlgorithm::Hs256),
                    Some("HS384") => method.algorithm(HmacAlgorithm::Hs384),
                    Some("HS512") => method.algorithm(HmacAlgorithm::Hs512),
                    Some(other) => return Err(unknown(other, "HS256, HS384 or HS512")),
                }
                .into()
            }
            "private_key_jwt" => {
                let text = self.key.ok_or_else(|| mistake("`clientAuth.key` is missing".to_owned()))?;
                let mut key = key(&text)?;
                if let Some(id) = self.key_id {
                    key = key.with_key_id(id);
                }
                if let Some(name) = self.algorithm {
                    let algorithm = match name.as_str() {
                        "RS256" => SigningAlgorithm::Rs256,
                        "PS256" => SigningAlgorithm::Ps256,
                        "ES256" => SigningAlgorithm::Es256,
                        "EdDSA" => SigningAlgorithm::EdDsa,
                        other => return Err(unknown(other, "RS256, PS256, ES256 or EdDSA")),
                    };
                    key = key.with_algorithm(algorithm).map_err(|error| thrown(&error))?;
                }
                evertoken::PrivateKeyJwt::new(key).audience(audience(self.audience)).into()
            }
            other => return Err(mistake(format!("`clientAuth.method` {other:?} is not known"))),
        })
    }
}

fn unknown(algorithm: &str, known: &str) -> Error {
    mistake(format!("`clientAuth.algorithm` must be {known}, not {algorithm:?}"))
}
