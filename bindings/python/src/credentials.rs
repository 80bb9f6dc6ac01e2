//! How a client authenticates, as Python says it.

use evertoken::{AssertionAudience, ClientAuth, HmacAlgorithm, SigningKey};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::OrRaise;

/// PEM as text or bytes, or a JWK as text.
#[derive(FromPyObject)]
enum KeyText {
    Text(String),
    Bytes(Vec<u8>),
}

fn key(py: Python<'_>, key: KeyText, key_id: Option<String>) -> PyResult<SigningKey> {
    let read = match key {
        KeyText::Text(text) if text.trim_start().starts_with('{') => SigningKey::from_jwk(text),
        KeyText::Text(text) => SigningKey::from_pem(text),
        KeyText::Bytes(bytes) if bytes.starts_with(b"-----") => SigningKey::from_pem(bytes),
        KeyText::Bytes(bytes) => SigningKey::from_der(bytes),
    };
    let key = read.or_raise(py)?;
    Ok(match key_id {
        Some(id) => key.with_key_id(id),
        None => key,
    })
}

fn audience(name: &str) -> PyResult<AssertionAudience> {
    match name {
        "issuer" => Ok(AssertionAudience::default()),
        "token_endpoint" => Ok(AssertionAudience::TokenEndpoint),
        other => Err(PyValueError::new_err(format!(
            "audience must be 'issuer' or 'token_endpoint', not {other:?}"
        ))),
    }
}

#[pyclass(frozen, module = "evertoken")]
pub struct PrivateKeyJwt(pub evertoken::PrivateKeyJwt);

#[pymethods]
impl PrivateKeyJwt {
    #[new]
    #[pyo3(signature = (private_key, *, key_id=None, audience="issuer"))]
    fn new(py: Python<'_>, private_key: KeyText, key_id: Option<String>, audience: &str) -> PyResult<Self> {
        let key = key(py, private_key, key_id)?;
        Ok(Self(evertoken::PrivateKeyJwt::new(key).audience(self::audience(audience)?)))
    }

    fn __repr__(&self) -> &'static str {
        "<PrivateKeyJwt>"
    }
}

#[pyclass(frozen, module = "evertoken")]
pub struct SecretJwt(pub evertoken::SecretJwt);

#[pymethods]
impl SecretJwt {
    #[new]
    #[pyo3(signature = (*, algorithm=None, audience="issuer"))]
    fn new(algorithm: Option<&str>, audience: &str) -> PyResult<Self> {
        let method = evertoken::SecretJwt::new().audience(self::audience(audience)?);
        Ok(Self(match algorithm {
            None => method,
            Some("HS256") => method.algorithm(HmacAlgorithm::Hs256),
            Some("HS384") => method.algorithm(HmacAlgorithm::Hs384),
            Some("HS512") => method.algorithm(HmacAlgorithm::Hs512),
            Some(other) => {
                return Err(PyValueError::new_err(format!(
                    "algorithm must be 'HS256', 'HS384' or 'HS512', not {other:?}"
                )));
            }
        }))
    }

    fn __repr__(&self) -> &'static str {
        "<SecretJwt>"
    }
}

#[pyclass(frozen, module = "evertoken")]
pub struct Dpop(pub evertoken::Dpop);

#[pymethods]
impl Dpop {
    #[new]
    #[pyo3(signature = (private_key=None))]
    fn new(py: Python<'_>, private_key: Option<KeyText>) -> PyResult<Self> {
        Ok(Self(match private_key {
            Some(text) => evertoken::Dpop::with_key(key(py, text, None)?),
            None => evertoken::Dpop::new(),
        }))
    }

    fn __repr__(&self) -> &'static str {
        "<Dpop>"
    }
}

/// The methods that are no more than a name (RFC 7591 2).
#[derive(FromPyObject)]
pub enum Method<'py> {
    Name(String),
    PrivateKey(Bound<'py, PrivateKeyJwt>),
    Secret(Bound<'py, SecretJwt>),
}

impl Method<'_> {
    pub fn client_auth(self) -> PyResult<ClientAuth> {
        Ok(match self {
            Self::PrivateKey(method) => method.get().0.clone().into(),
            Self::Secret(method) => method.get().0.clone().into(),
            Self::Name(name) => match name.as_str() {
                "client_secret_basic" => ClientAuth::ClientSecretBasic,
                "client_secret_basic_raw" => ClientAuth::ClientSecretBasicRaw,
                "client_secret_post" => ClientAuth::ClientSecretPost,
                "client_secret_jwt" => evertoken::SecretJwt::new().into(),
                "tls_client_auth" => ClientAuth::TlsClientAuth,
                "self_signed_tls_client_auth" => ClientAuth::SelfSignedTlsClientAuth,
                other => {
                    return Err(PyValueError::new_err(format!(
                        "client_auth {other:?} is not known; private_key_jwt is PrivateKeyJwt(key)"
                    )));
                }
            },
        })
    }
}
