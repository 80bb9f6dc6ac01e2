//! What a builder can be told of the network.

use std::time::Duration;

use super::Builder;
use crate::error::Result;

/// These hold for token requests and for API calls; where an `http_client` is given, for token requests only. With any of
/// them set, the client and those made of it by `with` have connections of their own.
impl<T> Builder<T> {
    /// Trusts one more certificate authority, or several, beside those of the system: PEM, as in a `.crt` or `.pem` file.
    /// Given again, it adds to them.
    ///
    /// What the system trusts is found anew for each transport; the environment variables `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name other places (Linux and other Unix).
    pub fn root_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.config.replaces("root_certificate");
        let outcome = self.config.network.add_roots(pem.as_ref());
        self.noted(outcome)
    }

    /// The certificate that the client shows to servers which ask for one (mutual TLS), with its private key and where
    /// needed the authorities in between, all in one PEM. The key is PKCS #8, PKCS #1 or SEC 1, and not encrypted.
    ///
    /// At the token endpoint it may also stand for the app secret: see
    /// [`ClientAuth::TlsClientAuth`](crate::ClientAuth::TlsClientAuth).
    pub fn client_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        let outcome = self.config.network.set_identity(pem.as_ref());
        self.noted(outcome)
    }

    /// The HTTP proxy for connections: `http://` or `https://`, host and port, and `user:password@` where it wants
    /// them. https goes through it by `CONNECT`, unread.
    ///
    /// By default the environment says: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` (macOS and Windows: the
    /// system's settings as well). They are not read if a proxy is set here.
    /// `NO_PROXY` lists names, which include their subdomains, and addresses and networks (`10.0.0.0/8`); `*` stands for
    /// every host. `build` reports a variable that names no usable proxy.
    ///
    /// Plain http to loopback bypasses every proxy, this one too: it is allowed only because nothing leaves the machine.
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        self.config.replaces("proxy");
        let outcome = self.config.network.set_proxy(url.as_ref());
        self.noted(outcome)
    }

    /// How long a connection may take to come about, TLS included: 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.network.set_connect_timeout(timeout);
        self
    }

    /// Keeps the first mistake for `build` to tell of.
    fn noted(mut self, outcome: Result<()>) -> Self {
        if let Err(error) = outcome {
            self.config.mistake.get_or_insert(error);
        }
        self
    }
}
