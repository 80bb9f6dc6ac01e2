//! How a client authenticates, as Python says it.

use evertoken::{AssertionAudience, ClientAuth, HmacAlgorithm, Signed, Signer, SigningAlgorithm, SigningKey};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::errors::{OrRaise, wrong_value};
use crate::worker;

/// What `evertoken._keys` makes of a key: PEM or a JWK as text, PEM or DER as bytes.
#[derive(FromPyObject)]
enum KeyText {
    Text(String),
    Bytes(Vec<u8>),
}

fn key(given: &Bound<'_, PyAny>, key_id: Option<String>, algorithm: Option<&str>) -> PyResult<SigningKey> {
    let py = given.py();
    let text = py.import("evertoken._keys")?.call_method1("private_key", (given,))?.extract()?;
    let read = match text {
        KeyText::Text(text) if text.trim_start().starts_with('{') => SigningKey::from_jwk(text),
        KeyText::Text(text) => SigningKey::from_pem(text),
        KeyText::Bytes(bytes) if bytes.starts_with(b"-----") => SigningKey::from_pem(bytes),
        KeyText::Bytes(bytes) => SigningKey::from_der(bytes),
    };
    let mut key = read.or_raise(py)?;
    if let Some(id) = key_id {
        key = key.with_key_id(id);
    }
    match algorithm {
        Some(name) => key.with_algorithm(signing_algorithm(name)?).or_raise(py),
        None => Ok(key),
    }
}

fn audience(name: &str) -> PyResult<AssertionAudience> {
    match name {
        "issuer" => Ok(AssertionAudience::default()),
        "token_endpoint" => Ok(AssertionAudience::TokenEndpoint),
        other => Err(wrong_value(format!("audience must be 'issuer' or 'token_endpoint', not {other:?}"))),
    }
}

fn signing_algorithm(name: &str) -> PyResult<SigningAlgorithm> {
    match name {
        "RS256" => Ok(SigningAlgorithm::Rs256),
        "PS256" => Ok(SigningAlgorithm::Ps256),
        "ES256" => Ok(SigningAlgorithm::Es256),
        "EdDSA" => Ok(SigningAlgorithm::EdDsa),
        other => {
            Err(wrong_value(format!("algorithm must be 'RS256', 'PS256', 'ES256' or 'EdDSA', not {other:?}")))
        }
    }
}

/// A function of Python's that signs, by its number there.
struct Function {
    number: u64,
    algorithm: SigningAlgorithm,
    key_id: Option<String>,
}

impl Signer for Function {
    fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Signed<'a> {
        Box::pin(worker::signature(self.number, message.to_vec()))
    }
}

/// Client authentication by a signed assertion, `private_key_jwt` (RFC 7523, OpenID Connect Core 9): RS256, PS256, ES256 or
/// EdDSA, as the key says. The app secret is empty then: `Client("app_id", client_auth=PrivateKeyJwt(key))`.
///
/// `private_key` is PEM (`str` or `bytes`), DER (`bytes`), a JWK (`str`), the path of a file with one of them, or a private
/// key of the library `cryptography`; `algorithm="PS256"` has an RSA key sign by PSS. Or `signer` is a function, sync or async, that signs the bytes it is given with a key in
/// a KMS or HSM, by `algorithm` (`RS256`, `PS256`, `ES256` with 64 bytes `r || s`, `EdDSA`).
///
/// `key_id` is the `kid`. `audience` is `"issuer"`, or `"token_endpoint"` for servers that insist on that.
#[pyclass(frozen, module = "evertoken")]
pub struct PrivateKeyJwt {
    pub method: evertoken::PrivateKeyJwt,
    /// Keeps the function, which `evertoken._worker` does not.
    function: Option<Py<PyAny>>,
}

#[pymethods]
impl PrivateKeyJwt {
    #[new]
    #[pyo3(signature = (private_key=None, *, signer=None, algorithm=None, key_id=None, audience="issuer"))]
    fn new(
        py: Python<'_>,
        private_key: Option<Bound<'_, PyAny>>,
        signer: Option<Bound<'_, PyAny>>,
        algorithm: Option<&str>,
        key_id: Option<String>,
        audience: &str,
    ) -> PyResult<Self> {
        let audience = self::audience(audience)?;
        let (method, function) = match (private_key, signer) {
            (Some(private_key), None) => {
                (evertoken::PrivateKeyJwt::new(key(&private_key, key_id, algorithm)?), None)
            }
            (None, Some(signer)) => {
                let algorithm = signing_algorithm(algorithm.ok_or_else(|| {
                    PyTypeError::new_err("signer needs its algorithm: 'RS256', 'PS256', 'ES256' or 'EdDSA'")
                })?)?;
                let worker = py.import("evertoken._worker")?;
                let function = worker.call_method1("keep", ("signer", signer))?;
                let number = function.getattr("number")?.extract()?;
                let signer = Function { number, algorithm, key_id };
                (evertoken::PrivateKeyJwt::with_signer(signer), Some(function.unbind()))
            }
            _ => {
                return Err(PyTypeError::new_err("give either private_key, or signer with its algorithm"));
            }
        };
        Ok(Self { method: method.audience(audience), function })
    }

    fn __repr__(&self) -> &'static str {
        "<PrivateKeyJwt>"
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.function)
    }
}

/// Client authentication by an assertion that is signed with the app secret, `client_secret_jwt` (RFC 7523, OpenID Connect
/// Core 9). `algorithm` is `HS256` (the default), `HS384` or `HS512`; `audience` as with `PrivateKeyJwt`.
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
                return Err(wrong_value(format!(
                    "algorithm must be 'HS256', 'HS384' or 'HS512', not {other:?}"
                )));
            }
        }))
    }

    fn __repr__(&self) -> &'static str {
        "<SecretJwt>"
    }
}

/// Has tokens bound to a key (RFC 9449): every token request and every call carries a proof that is signed with it.
///
/// The key is made by each client (ES256), or is `private_key`, given as to `PrivateKeyJwt`: EC on P-256 or Ed25519.
#[pyclass(frozen, module = "evertoken")]
pub struct Dpop(Option<SigningKey>);

impl Dpop {
    /// With a key that stays: a child of a fork shows what it inherited with its parent's.
    pub fn keyed(&self, py: Python<'_>) -> PyResult<evertoken::Dpop> {
        let key = self.0.clone().map_or_else(SigningKey::generate, Ok).or_raise(py)?;
        Ok(evertoken::Dpop::with_key(key))
    }
}

#[pymethods]
impl Dpop {
    #[new]
    #[pyo3(signature = (private_key=None))]
    fn new(private_key: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Self(private_key.map(|given| key(&given, None, None)).transpose()?))
    }

    fn __repr__(&self) -> &'static str {
        "<Dpop>"
    }
}

/// The methods that are no more than a name (RFC 7591 2), and those that are more.
#[derive(FromPyObject)]
pub enum Method<'py> {
    Name(String),
    PrivateKey(Bound<'py, PrivateKeyJwt>),
    Secret(Bound<'py, SecretJwt>),
}

impl Method<'_> {
    pub fn client_auth(self) -> PyResult<ClientAuth> {
        Ok(match self {
            Self::PrivateKey(method) => method.get().method.clone().into(),
            Self::Secret(method) => method.get().0.clone().into(),
            Self::Name(name) => match name.as_str() {
                "client_secret_basic" => ClientAuth::ClientSecretBasic,
                "client_secret_basic_raw" => ClientAuth::ClientSecretBasicRaw,
                "client_secret_post" => ClientAuth::ClientSecretPost,
                "client_secret_jwt" => evertoken::SecretJwt::new().into(),
                "tls_client_auth" => ClientAuth::TlsClientAuth,
                "self_signed_tls_client_auth" => ClientAuth::SelfSignedTlsClientAuth,
                other => {
                    return Err(wrong_value(format!(
                        "client_auth {other:?} is not known; private_key_jwt is PrivateKeyJwt(key)"
                    )));
                }
            },
        })
    }
}
