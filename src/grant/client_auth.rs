use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use zeroize::Zeroizing;

use super::assertion::{PrivateKeyJwt, Recipient, SecretJwt};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::ExposeSecret;

/// How the client shows the token endpoint who it is (RFC 6749 2.3.1, RFC 7523 2.2, RFC 8705 2).
///
/// If none is set, what the server's metadata announces chooses, `ClientSecretBasic` before `ClientSecretPost` before
/// `ClientSecretJwt`, and `ClientSecretBasic` if they say nothing. Only then are other ways tried if the first is refused,
/// once for each secret: `ClientSecretBasicRaw` if the two differ, and `ClientSecretPost` unless the metadata list methods
/// without it, over https or to loopback. The one that works is remembered. Some servers and proxies log form bodies, which
/// then hold the secret: set `ClientSecretBasic` to keep it out of them. A method that was set is never departed from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientAuth {
    /// HTTP Basic with id and secret form-encoded first, as RFC 6749 2.3.1 wants it (a space is `%20`).
    ClientSecretBasic,
    /// HTTP Basic with id and secret as they are, which is what some servers expect against the RFC. It is the same
    /// as `ClientSecretBasic` for ids and secrets of `A-Z a-z 0-9 - . _ ~` alone.
    ClientSecretBasicRaw,
    /// `client_id` and `client_secret` in the form body.
    ClientSecretPost,
    /// Mutual TLS with a certificate of an authority that the server trusts (RFC 8705 2.1). It needs the builder's
    /// `client_certificate`; the app secret is not sent and may be empty.
    TlsClientAuth,
    /// Mutual TLS with a self-signed certificate that the server knows (RFC 8705 2.2), else as `TlsClientAuth`.
    SelfSignedTlsClientAuth,
    /// A short-lived JWT whose MAC has the app secret as its key, so that the secret itself is not sent
    /// (`client_secret_jwt`, OpenID Connect Core 9, RFC 7523 2.2).
    ClientSecretJwt(SecretJwt),
    /// A short-lived JWT signed with a private key (`private_key_jwt`, OpenID Connect Core 9, RFC 7523 2.2). The app
    /// secret is not used and may be empty.
    PrivateKeyJwt(PrivateKeyJwt),
}

impl From<SecretJwt> for ClientAuth {
    fn from(method: SecretJwt) -> Self {
        ClientAuth::ClientSecretJwt(method)
    }
}

impl From<PrivateKeyJwt> for ClientAuth {
    fn from(method: PrivateKeyJwt) -> Self {
        ClientAuth::PrivateKeyJwt(method)
    }
}

const BASIC: &str = "Basic ";

/// RFC 7523 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What `application/x-www-form-urlencoded` leaves alone, by the strictest reading: all servers agree on it.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Form-encoded, with `%20` for a space: every server decodes that, and not every one decodes `+`.
pub(super) fn form_encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, FORM)
}

impl ClientAuth {
    /// The method for a server that announces these (`token_endpoint_auth_methods_supported`, RFC 8414 2).
    pub(super) fn announced(methods: &[String]) -> Result<Self> {
        let offers = |method: &str| methods.iter().any(|offered| offered == method);
        if methods.is_empty() || offers("client_secret_basic") {
            Ok(ClientAuth::ClientSecretBasic)
        } else if offers("client_secret_post") {
            Ok(ClientAuth::ClientSecretPost)
        } else if offers("client_secret_jwt") {
            Ok(SecretJwt::new().into())
        } else {
            let offered: String = methods.join(", ").chars().take(200).collect();
            Err(Error::new(
                ErrorKind::RequestRefused,
                format!("the authorization server announces no use of an app secret, only {offered:?}"),
            )
            .advice("set `client_auth`: with a key where that is `private_key_jwt`"))
        }
    }

    /// Whether the app secret is used.
    pub(crate) fn needs_secret(&self) -> bool {
        !(self.is_mutual_tls() || matches!(self, ClientAuth::PrivateKeyJwt(_)))
    }

    /// Whether the connection itself says who the client is (RFC 8705 2).
    pub(crate) fn is_mutual_tls(&self) -> bool {
        matches!(self, ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth)
    }

    /// A refusal with advice that fits the method.
    pub(super) fn advised(&self, error: Error) -> Error {
        match self {
            ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretBasicRaw if error.wants_body() => error
                .advice("the server looks for app id and secret in the form body: set `client_auth` to client_secret_post"),
            _ if error.kind() != ErrorKind::CredentialsRejected => error,
            ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => error.advice(
                "check that the server has this certificate, or its authority and subject, for the app id",
            ),
            ClientAuth::PrivateKeyJwt(_) => error.advice(
                "check that the server has this key for the app id, under this `kid` and algorithm, what audience it \
                 wants, and both clocks",
            ),
            _ => error,
        }
    }

    /// The method as logs name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            ClientAuth::ClientSecretBasic => "client_secret_basic",
            ClientAuth::ClientSecretBasicRaw => "client_secret_basic, raw",
            ClientAuth::ClientSecretPost => "client_secret_post",
            ClientAuth::TlsClientAuth => "tls_client_auth",
            ClientAuth::SelfSignedTlsClientAuth => "self_signed_tls_client_auth",
            ClientAuth::ClientSecretJwt(_) => "client_secret_jwt",
            ClientAuth::PrivateKeyJwt(_) => "private_key_jwt",
        }
    }

    /// Whether the client authenticates by a JWT of its own, which says when it was issued.
    pub(super) fn is_signed(&self) -> bool {
        matches!(self, ClientAuth::ClientSecretJwt(_) | ClientAuth::PrivateKeyJwt(_))
    }

    /// The client assertion, for the methods that have one: another one at every call. `time` is the server's, since the
    /// Unix epoch.
    pub(super) async fn assertion(
        &self,
        for_whom: Recipient<'_>,
        credentials: &Credentials,
        time: Duration,
    ) -> Result<Option<Zeroizing<String>>> {
        match self {
            ClientAuth::ClientSecretJwt(method) => method.assertion(for_whom, credentials, time).map(Some),
            ClientAuth::PrivateKeyJwt(method) => {
                method.assertion(for_whom, credentials, time).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What goes into the form body, for the methods that have something there.
    pub(super) fn fields<'a>(
        &self,
        credentials: &'a Credentials,
        assertion: Option<&'a str>,
    ) -> Vec<(&'static str, &'a str)> {
        match (self, assertion) {
            (ClientAuth::ClientSecretPost, _) => vec![
                ("client_id", &credentials.app_id),
                ("client_secret", credentials.app_secret.expose_secret()),
            ],
            (ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth, _) => {
                vec![("client_id", &credentials.app_id)]
            }
            // The id is optional here (RFC 7521 4.2), but some servers look for it.
            (_, Some(assertion)) => vec![
                ("client_id", &credentials.app_id),
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion),
            ],
            _ => Vec::new(),
        }
    }

    /// The `Authorization` header, for the methods that have one.
    pub(super) fn header(&self, credentials: &Credentials) -> Option<HeaderValue> {
        let pair = match self {
            ClientAuth::ClientSecretBasic => encoded_pair(credentials),
            ClientAuth::ClientSecretBasicRaw => raw_pair(credentials),
            _ => return None,
        };
        let mut line = Zeroizing::new(String::with_capacity(BASIC.len() + pair.len().div_ceil(3) * 4));
        line.push_str(BASIC);
        STANDARD.encode_string(pair.as_bytes(), &mut line);
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(line)).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// Whether the two kinds of Basic differ for these credentials.
pub(super) fn raw_differs(credentials: &Credentials) -> bool {
    *encoded_pair(credentials) != *raw_pair(credentials)
}

/// `id:secret`, each form-encoded (RFC 6749 2.3.1).
pub(super) fn encoded_pair(credentials: &Credentials) -> Zeroizing<String> {
    let secret = credentials.app_secret.expose_secret();
    let mut pair = Zeroizing::new(String::with_capacity(3 * (credentials.app_id.len() + secret.len()) + 1));
    pair.extend(form_encoded(&credentials.app_id));
    pair.push(':');
    pair.extend(form_encoded(secret));
    pair
}

/// `id:secret` as they are (RFC 7617 2).
pub(super) fn raw_pair(credentials: &Credentials) -> Zeroizing<String> {
    let secret = credentials.app_secret.expose_secret();
    let mut pair = Zeroizing::new(String::with_capacity(credentials.app_id.len() + secret.len() + 1));
    pair.push_str(&credentials.app_id);
    pair.push(':');
    pair.push_str(secret);
    pair
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn credentials(id: &str, secret: &str) -> Credentials {
        Credentials { app_id: id.into(), app_secret: secret.into(), generation: 0 }
    }

    fn decoded(header: &HeaderValue) -> String {
        let text = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn basic_encodes_first_and_raw_does_not() {
        for (id, secret, encoded) in [
            ("app", "s3cr3t-._~", "app:s3cr3t-._~"),
            ("a:b", "c:d", "a%3Ab:c%3Ad"),
            ("a b", "1+1 %", "a%20b:1%2B1%20%25"),
            ("é", "ß*", "%C3%A9:%C3%9F%2A"),
        ] {
            let credentials = credentials(id, secret);
            let header = ClientAuth::ClientSecretBasic.header(&credentials).unwrap();
            assert!(header.is_sensitive());
            assert_eq!(decoded(&header), encoded);
            let raw = decoded(&ClientAuth::ClientSecretBasicRaw.header(&credentials).unwrap());
            assert_eq!(raw, format!("{id}:{secret}"));
            assert_eq!(raw_differs(&credentials), raw != encoded);
        }
        assert!(ClientAuth::ClientSecretPost.header(&credentials("a", "b")).is_none());
    }

    #[test]
    fn what_is_announced_chooses() {
        let choose = |methods: &[&str]| {
            ClientAuth::announced(&methods.iter().map(|m| (*m).into()).collect::<Vec<_>>())
                .map(|method| method.name())
        };
        for (methods, chosen) in [
            (&[][..], "client_secret_basic"),
            (&["private_key_jwt", "client_secret_post"], "client_secret_post"),
            (&["client_secret_post", "client_secret_basic"], "client_secret_basic"),
            (&["client_secret_jwt", "client_secret_post"], "client_secret_post"),
            (&["private_key_jwt", "client_secret_jwt"], "client_secret_jwt"),
        ] {
            assert_eq!(choose(methods).unwrap(), chosen, "{methods:?}");
        }
        let error = choose(&["private_key_jwt", "none"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestRefused);
        assert!(error.to_string().contains("\"private_key_jwt, none\""), "{error}");
    }

    proptest! {
        #[test]
        fn every_id_and_secret_survives_basic(id in any::<String>(), secret in any::<String>()) {
            let header = ClientAuth::ClientSecretBasic.header(&credentials(&id, &secret)).unwrap();
            let pair = decoded(&header);
            let (left, right) = pair.split_once(':').unwrap();
            let back = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
            prop_assert_eq!((back(left), back(right)), (id, secret));
        }
    }
}
