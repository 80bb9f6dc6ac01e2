//! The names of client-authentication methods, as metadata and registrations have them (RFC 7591 2, RFC 8414 2): those that
//! need nothing but a name. How a method works is not told here.

use super::assertion::SecretJwt;
use super::client_auth::ClientAuth;
use crate::error::{Error, Result};

impl ClientAuth {
    /// Returns the method of this name: `client_secret_basic`, `client_secret_basic_raw`, `client_secret_post`,
    /// `client_secret_jwt`, `tls_client_auth` or `self_signed_tls_client_auth`. For bindings only.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) for `private_key_jwt`, which needs a key, for `none`, and for all
    /// that is not known. The name is not repeated: it may be something else by mistake.
    #[doc(hidden)]
    pub fn named(name: &str) -> Result<Self> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        Ok(match name.as_str() {
            "client_secret_basic" => Self::ClientSecretBasic,
            "client_secret_basic_raw" => Self::ClientSecretBasicRaw,
            "client_secret_post" => Self::ClientSecretPost,
            "client_secret_jwt" => SecretJwt::new().into(),
            "tls_client_auth" => Self::TlsClientAuth,
            "self_signed_tls_client_auth" => Self::SelfSignedTlsClientAuth,
            "private_key_jwt" => {
                return Err(Error::configuration(
                    "`client_auth` is private_key_jwt, which needs a key as well",
                )
                .advice("set it in code, with `PrivateKeyJwt`"));
            }
            "none" => {
                return Err(Error::configuration(
                    "`client_auth` is none, but a client gets tokens of its own only if it authenticates (RFC 6749 4.4)",
                )
                .advice("leave it out, or name the method that the app is registered with"));
            }
            _ => {
                return Err(Error::configuration("`client_auth` is not known").advice(
                    "client_secret_basic, client_secret_basic_raw, client_secret_post, client_secret_jwt, \
                     tls_client_auth or self_signed_tls_client_auth",
                ));
            }
        })
    }
}
