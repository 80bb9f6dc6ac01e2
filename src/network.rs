//! How connections are made, to the authorization server and to the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, ClientBuilder, Identity};
use url::Url;

use crate::cause;
use crate::error::{Error, Result};
use crate::padding::trimmed_url;
use crate::proxies::{self, Proxies};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a builder may set of the network. Whatever is not set is as the system and the environment have it.
#[derive(Clone, Default)]
pub(crate) struct Network {
    roots: Vec<Certificate>,
    identity: Option<Identity>,
    proxy: Option<Url>,
    connect_timeout: Option<Duration>,
}

impl Network {
    /// Whether the transports that everybody shares will do.
    pub(crate) fn is_default(&self) -> bool {
        let Self { roots, identity, proxy, connect_timeout } = self;
        roots.is_empty() && identity.is_none() && proxy.is_none() && connect_timeout.is_none()
    }

    pub(crate) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    pub(crate) fn add_roots(&mut self, pem: &[u8]) -> Result<()> {
        let roots = Certificate::from_pem_bundle(pem)
            .map_err(|error| mistake("`root_certificate` is not valid PEM", error))?;
        if roots.is_empty() {
            return Err(Error::configuration("`root_certificate` holds no certificate")
                .advice("give it PEM, with `-----BEGIN CERTIFICATE-----`"));
        }
        // What is in the PEM is looked at only when it goes into a client.
        let store = ClientBuilder::new().tls_certs_only(roots.clone());
        store.build().map_err(|error| mistake("`root_certificate` holds what is no certificate", error))?;
        self.roots.extend(roots);
        Ok(())
    }

    pub(crate) fn set_identity(&mut self, pem: &[u8]) -> Result<()> {
        let has = |marker: &str| pem.windows(marker.len()).any(|part| part == marker.as_bytes());
        for (marker, what) in
            [("-----BEGIN CERTIFICATE-----", "no certificate"), ("PRIVATE KEY-----", "no private key")]
        {
            if !has(marker) {
                return Err(Error::configuration(format!("`client_certificate` holds {what}")).advice(
                    "give it certificate and private key in one PEM (PKCS #8, PKCS #1 or SEC 1, unencrypted)",
                ));
            }
        }
        let identity = Identity::from_pem(pem)
            .map_err(|error| mistake("`client_certificate` is not valid PEM", error))?;
        let client = ClientBuilder::new().tls_certs_only([]).identity(identity.clone());
        client.build().map_err(|error| {
            mistake(
                "`client_certificate` cannot be used: the key is not one, or of another certificate",
                error,
            )
        })?;
        self.identity = Some(identity);
        Ok(())
    }

    /// No error quotes the URL: it may hold a password.
    pub(crate) fn set_proxy(&mut self, url: &str) -> Result<()> {
        let parsed = Url::parse(trimmed_url(url)).map_err(|error| mistake("`proxy` is not a URL", error))?;
        self.proxy = Some(proxies::complete(parsed)?);
        Ok(())
    }

    pub(crate) fn set_connect_timeout(&mut self, timeout: Duration) {
        self.connect_timeout = Some(timeout).filter(|timeout| *timeout != CONNECT_TIMEOUT);
    }

    /// Builds an HTTP client of all this and of what `set` adds, and returns it with the proxies that it uses.
    ///
    /// A machine without a certificate store is no obstacle: plain http to loopback needs none. That https fails there is
    /// warned of, once per process.
    ///
    /// # Errors
    ///
    /// If a variable of the environment names no usable proxy, or if the client cannot be made.
    pub(crate) fn build(
        &self,
        set: impl Fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<(reqwest::Client, Arc<Proxies>)> {
        let proxies = Arc::new(match &self.proxy {
            Some(proxy) => Proxies::Given(proxy.clone()),
            None => Proxies::from_system()?,
        });
        let client = || {
            let client =
                set(ClientBuilder::new()).connect_timeout(self.connect_timeout.unwrap_or(CONNECT_TIMEOUT));
            let client = proxies::apply(&proxies, client);
            match &self.identity {
                Some(identity) => client.identity(identity.clone()),
                None => client,
            }
        };
        let full =
            if self.roots.is_empty() { client() } else { client().tls_certs_merge(self.roots.clone()) };
        let client = full.build().or_else(|error| {
            // If it can be made without the machine's certificates, there are none.
            let bare = client().tls_certs_only(self.roots.clone()).build().map_err(|_| error)?;
            if cause::note_missing_store() {
                tracing::warn!(
                    target: "evertoken",
                    problem = "https will fail: install the package ca-certificates, or set SSL_CERT_FILE or a root certificate",
                    "no certificate authorities on this machine"
                );
            }
            Ok(bare)
        });
        let client = client.map_err(|error: reqwest::Error| {
            Error::configuration("the HTTP client cannot be made").with_source(error.without_url())
        })?;
        Ok((client, proxies))
    }
}

fn mistake(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::configuration(what).with_source(error)
}

/// A private key and a proxy's password are in there.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("roots", &self.roots.len())
            .field("identity", &self.identity.is_some())
            .field("proxy", &self.proxy.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_and_certificate() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.signing_key.serialize_pem(), made.cert.pem())
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_secret_is_shown() {
        let (key, certificate) = key_and_certificate();
        let (other, _) = key_and_certificate();
        let garbage = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
        let root = |pem: &str| Network::default().add_roots(pem.as_bytes());
        let identity = |pem: &str| Network::default().set_identity(pem.as_bytes());
        let proxy = |url: &str| Network::default().set_proxy(url);
        for (outcome, said) in [
            (root("canary"), "`root_certificate` holds no certificate"),
            (root(&key), "`root_certificate` holds no certificate"),
            (root("-----BEGIN CERTIFICATE-----\ncanary!\n-----END CERTIFICATE-----\n"), "not valid PEM"),
            (root(garbage), "`root_certificate` holds what is no certificate"),
            (identity("canary"), "`client_certificate` holds no certificate"),
            (identity(&certificate), "`client_certificate` holds no private key"),
            (identity(&key), "`client_certificate` holds no certificate"),
            (identity(&(other + &certificate)), "of another certificate"),
            (proxy("canary"), "`proxy` is not a URL"),
            (proxy("ftp://canary:canary@proxy:1080"), "no URL of a proxy"),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Configuration);
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(said), "{said}: {shown}");
            assert!(!shown.contains("canary") && !shown.contains("PRIVATE"), "{shown}");
        }
    }

    #[test]
    fn what_is_set_is_not_shared_and_not_shown() {
        let (key, certificate) = key_and_certificate();
        let mut network = Network::default();
        network.set_connect_timeout(CONNECT_TIMEOUT);
        assert!(network.is_default());
        network.add_roots(certificate.as_bytes()).unwrap();
        network.set_identity((certificate + &key).as_bytes()).unwrap();
        network.set_proxy("http://user:canary@proxy:3128").unwrap();
        assert!(!network.is_default() && network.has_identity());
        let shown = format!("{network:?}");
        assert!(!shown.contains("canary") && !shown.contains("user"), "{shown}");
        network.build(|client| client).unwrap();
    }
}
