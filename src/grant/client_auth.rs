use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::ExposeSecret;

/// How the app id and app secret are shown to the token endpoint (RFC 6749 2.3.1).
///
/// Where none is set, what the server's metadata announces chooses, and `ClientSecretBasic` where they say
/// nothing; only then is `ClientSecretBasicRaw` tried as well, where the two differ and the first was refused. A
/// method that was set is never departed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

const BASIC: &str = "Basic ";

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
        } else {
            let offered: String = methods.join(", ").chars().take(200).collect();
            Err(Error::new(
                ErrorKind::RequestRefused,
                format!("the authorization server announces no way to send an app secret, only {offered:?}"),
            )
            .advice("set `client_auth` if it takes one nevertheless"))
        }
    }

    /// Whether the connection itself says who the client is (RFC 8705 2).
    pub(crate) fn is_mutual_tls(self) -> bool {
        matches!(self, ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth)
    }

    /// What goes into the form body, for the methods that have something there.
    pub(super) fn fields(self, credentials: &Credentials) -> Vec<(&'static str, &str)> {
        match self {
            ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretBasicRaw => Vec::new(),
            ClientAuth::ClientSecretPost => vec![
                ("client_id", &credentials.app_id),
                ("client_secret", credentials.app_secret.expose_secret()),
            ],
            ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => {
                vec![("client_id", &credentials.app_id)]
            }
        }
    }

    /// The `Authorization` header, for the methods that have one.
    pub(super) fn header(self, credentials: &Credentials) -> Option<HeaderValue> {
        let pair = match self {
            ClientAuth::ClientSecretBasic => encoded_pair(credentials),
            ClientAuth::ClientSecretBasicRaw => raw_pair(credentials),
            ClientAuth::ClientSecretPost
            | ClientAuth::TlsClientAuth
            | ClientAuth::SelfSignedTlsClientAuth => return None,
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

/// Which kind of Basic has worked, and for which generation of the credentials.
#[derive(Debug, Default)]
pub(super) struct Proven(Mutex<Option<(u64, ClientAuth)>>);

impl Proven {
    pub(super) fn get(&self, generation: u64) -> Option<ClientAuth> {
        let proven = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        proven.filter(|(of, _)| *of == generation).map(|(_, auth)| auth)
    }

    pub(super) fn set(&self, generation: u64, auth: Option<ClientAuth>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = auth.map(|auth| (generation, auth));
    }
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
        };
        assert_eq!(choose(&[]).unwrap(), ClientAuth::ClientSecretBasic);
        assert_eq!(choose(&["private_key_jwt", "client_secret_post"]).unwrap(), ClientAuth::ClientSecretPost);
        assert_eq!(
            choose(&["client_secret_post", "client_secret_basic"]).unwrap(),
            ClientAuth::ClientSecretBasic
        );
        let error = choose(&["private_key_jwt", "none"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RequestRefused);
        assert!(error.to_string().contains("\"private_key_jwt, none\""), "{error}");
    }

    #[test]
    fn what_is_proven_holds_for_one_generation() {
        let proven = Proven::default();
        proven.set(3, Some(ClientAuth::ClientSecretBasicRaw));
        assert_eq!(proven.get(3), Some(ClientAuth::ClientSecretBasicRaw));
        assert_eq!(proven.get(4), None);
        proven.set(3, None);
        assert_eq!(proven.get(3), None);
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
