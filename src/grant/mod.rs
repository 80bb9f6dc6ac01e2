//! How a token is asked for: one attempt at the client-credentials grant (RFC 6749 4.4). It knows nothing of when.

mod about;
mod assertion;
mod client_auth;
mod client_auth_name;
mod code;
mod discovery;
mod document;
mod dpop;
#[cfg(feature = "server")]
mod fetch;
mod introduced;
#[cfg(feature = "server")]
mod introspection;
mod jwk;
mod jws;
mod key_format;
mod nonce;
mod oddities;
mod pacing;
#[cfg(any(feature = "server", feature = "testing"))]
pub(crate) mod proof;
mod public_jwk;
mod quota;
mod quote;
mod recording;
mod refusal;
mod request;
mod response;
mod revocation;
mod server_clock;
mod signer;
mod signing_key;
mod token_type;
mod transport;
mod tries;
mod ways;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use url::Url;
use zeroize::Zeroizing;

use assertion::Recipient;
pub(crate) use discovery::Metadata;
use oddities::Oddities;
use response::Asked;
use server_clock::{ServerClock, Stamp};

use crate::clock::{Clock, Moment};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;
use crate::padding::trimmed_url;

pub use assertion::{AssertionAudience, HmacAlgorithm, PrivateKeyJwt, SecretJwt};
pub use client_auth::ClientAuth;
#[cfg(feature = "server")]
pub(crate) use code::known as known_code;
pub(crate) use discovery::Discovery;
pub use dpop::Dpop;
pub(crate) use dpop::Possession;
#[cfg(feature = "server")]
pub(crate) use fetch::fetch;
pub(crate) use introduced::Introduced;
pub(crate) use nonce::NonceOf;
pub(crate) use pacing::said_retry_after;
#[cfg(feature = "server")]
pub(crate) use pacing::throttled;
pub use quota::Quota;
pub(crate) use recording::{Answer, BASIC, Claims, POST, Recorded, SIGNED};
pub(crate) use request::GrantRequest;
pub(crate) use response::TokenResponse;
pub(crate) use server_clock::corrects;
pub use signer::{Signed, Signer, SigningAlgorithm};
pub use signing_key::SigningKey;
pub(crate) use transport::HttpTransport;
pub use transport::Transport;
#[cfg(feature = "testing")]
pub use transport::{TransportError, TransportErrorKind};
pub(crate) use tries::{MOST, Tries, Turn};
use ways::Learned;
pub(crate) use ways::Ways;

/// The header of a proof (RFC 9449 4.1).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");

/// Where tokens are to be had.
#[derive(Debug, Clone)]
pub(crate) enum Server {
    TokenUrl(Url),
    Issuer(String),
}

impl Server {
    /// The token endpoint itself.
    pub(crate) fn token_url(text: &str, allow_insecure: bool) -> Result<Self> {
        origin::parse_secure("`token_url`", text, allow_insecure).map(Self::TokenUrl)
    }

    /// An issuer whose metadata name the token endpoint.
    pub(crate) fn issuer(text: &str, allow_insecure: bool) -> Result<Self> {
        let text = trimmed_url(text);
        discovery::parse_issuer(text, allow_insecure)?;
        Ok(Self::Issuer(text.to_owned()))
    }
}

/// One token endpoint and what is asked of it.
pub(crate) struct TokenEndpoint {
    server: Server,
    request: GrantRequest,
    auth: Option<ClientAuth>,
    allow_insecure: bool,
    transport: Arc<dyn Transport>,
    discovery: Arc<Discovery>,
    /// Shared by all that is asked of this server.
    learned: Arc<Learned>,
    /// Where tokens are to be bound to a key.
    dpop: Option<Arc<Possession>>,
    /// Whether connections show a certificate.
    has_certificate: bool,
    server_clock: Arc<ServerClock>,
    oddities: Arc<Oddities>,
}

impl TokenEndpoint {
    /// Without `auth`, what discovery announces chooses, and Basic may fall back to its raw form and to the body.
    pub(crate) fn new(
        server: Server,
        request: GrantRequest,
        auth: Option<ClientAuth>,
        allow_insecure: bool,
        transport: Arc<dyn Transport>,
        discovery: Arc<Discovery>,
    ) -> Self {
        let (learned, dpop, has_certificate) = (Arc::default(), None, false);
        let (server_clock, oddities) = (Arc::default(), Arc::default());
        Self {
            server,
            request,
            auth,
            allow_insecure,
            transport,
            discovery,
            learned,
            dpop,
            has_certificate,
            server_clock,
            oddities,
        }
    }

    /// The same, asking for tokens that are bound to this key.
    pub(crate) fn bound(mut self, dpop: Option<Arc<Possession>>) -> Self {
        self.dpop = dpop;
        self
    }

    /// The same over connections that show a certificate, for which some servers have addresses of their own.
    pub(crate) fn with_certificate(mut self, has_certificate: bool) -> Self {
        self.has_certificate = has_certificate;
        self
    }

    /// The same endpoint, asked for something else.
    pub(crate) fn for_request(&self, request: GrantRequest) -> Self {
        Self {
            server: self.server.clone(),
            request,
            auth: self.auth.clone(),
            allow_insecure: self.allow_insecure,
            transport: self.transport.clone(),
            discovery: self.discovery.clone(),
            learned: self.learned.clone(),
            dpop: self.dpop.clone(),
            has_certificate: self.has_certificate,
            server_clock: self.server_clock.clone(),
            oddities: self.oddities.clone(),
        }
    }

    /// For whoever gave up waiting for it.
    pub(crate) fn silent(&self, waited: Duration) -> Error {
        let what = format!("the authorization server did not answer within {:.1} s", waited.as_secs_f64());
        Error::new(ErrorKind::AuthServerUnavailable, what).with_server(self.server())
    }

    /// The server as messages name it.
    pub(crate) fn server(&self) -> String {
        match &self.server {
            Server::TokenUrl(url) => origin::shown(url),
            Server::Issuer(issuer) => issuer.clone(),
        }
    }

    /// Whether the token endpoint is to be found by discovery.
    pub(crate) fn has_issuer(&self) -> bool {
        matches!(self.server, Server::Issuer(_))
    }

    /// The issuer's metadata, if they were found.
    pub(crate) fn metadata(&self, clock: &Clock) -> Option<Arc<Metadata>> {
        match &self.server {
            Server::TokenUrl(_) => None,
            Server::Issuer(issuer) => Some(self.discovery.at_hand(issuer, clock.now())?.0),
        }
    }

    pub(crate) fn grant_request(&self) -> &GrantRequest {
        &self.request
    }

    /// One credential: in the way that is most likely right, and if that is refused in the others. It ends with a token or an
    /// error; how long it may take is the caller's matter, who drops it.
    pub(crate) async fn request(
        &self,
        clock: &Clock,
        credentials: &Credentials,
        tries: &Tries,
    ) -> Result<TokenResponse> {
        let mut ways = self.ways(clock, credentials, tries.is_of_many()).await?;
        match self.ask(&ways, ways.first(), clock, credentials, tries).await {
            Err(refusal) => self.ask_otherwise(&mut ways, refusal, clock, credentials, tries).await,
            outcome => outcome,
        }
    }

    /// The ways that were not tried before this refusal, for as long as it may be that which was wrong. Of several refusals,
    /// returns the one that says most.
    pub(crate) async fn ask_otherwise(
        &self,
        ways: &mut Ways,
        mut refusal: Error,
        clock: &Clock,
        credentials: &Credentials,
        tries: &Tries,
    ) -> Result<TokenResponse> {
        while !ways.is_proven
            && tries.has_one_more()
            && let Some(auth) = ways.next_after(&refusal)
        {
            tracing::debug!(target: "evertoken", auth = auth.name(), "credential refused; sending it in another way");
            match self.ask(ways, &auth, clock, credentials, tries).await {
                Err(error) if says_no_more(&error, &refusal) => {}
                Err(error) if may_be_about_client(&error) => refusal = error,
                outcome => return outcome,
            }
        }
        Err(refusal)
    }

    /// Finds the token endpoint, so that many who come at once need not each look for it.
    #[cfg(feature = "server")]
    pub(crate) async fn prepare(&self, clock: &Clock, credentials: &Credentials) -> Result<()> {
        self.find(clock, credentials).await.map(drop)
    }

    /// The token endpoint, and the metadata that name it.
    async fn find(&self, clock: &Clock, credentials: &Credentials) -> Result<(Url, Option<Arc<Metadata>>)> {
        match &self.server {
            Server::TokenUrl(url) => Ok((url.clone(), None)),
            Server::Issuer(issuer) => {
                let transport = &*self.transport;
                let insecure = self.allow_insecure;
                let metadata =
                    self.discovery.metadata(issuer, insecure, transport, clock, credentials).await?;
                let alias = metadata.mtls_token_endpoint.as_ref().filter(|_| self.has_certificate);
                Ok((alias.unwrap_or(&metadata.token_endpoint).clone(), Some(metadata)))
            }
        }
    }

    /// Sends one request. It is sent once more if the server asks for a DPoP nonce and gives one (RFC 9449 8), and once more if
    /// it bears a time that is wrong by the clock of the server that refused it.
    pub(crate) async fn ask(
        &self,
        ways: &Ways,
        auth: &ClientAuth,
        clock: &Clock,
        credentials: &Credentials,
        tries: &Tries,
    ) -> Result<TokenResponse> {
        let to = Recipient { metadata: ways.metadata.as_deref(), token_endpoint: &ways.token_endpoint };
        let bears_time = self.dpop.is_some() || auth.is_signed();
        let (mut gave_nonce, mut set_right) = (false, false);
        let outcome = loop {
            let mut has_nonce = false;
            let stamp = if bears_time { self.server_clock.stamp(&clock.now()) } else { Stamp::default() };
            tries.count();
            let outcome = self.ask_once(to, auth, clock, credentials, stamp.time, &mut has_nonce).await;
            match &outcome {
                Err(_) if !tries.has_one_more() => break outcome,
                Err(error) if has_nonce && !gave_nonce && error.oauth_error() == Some("use_dpop_nonce") => {
                    gave_nonce = true;
                }
                Err(error)
                    if bears_time && !set_right && self.server_clock.explains(error, stamp, &clock.now()) =>
                {
                    tracing::debug!(target: "evertoken", %error, "refused with a wrong time; trying with the server's");
                    set_right = true;
                }
                _ => break outcome,
            }
        };
        match outcome {
            Ok(response) => {
                self.learned.worked(auth, credentials, response.sent);
                Ok(response)
            }
            // A server that announces nothing may miss what is not in the body, and not say what it misses.
            Err(error) if ways.is_unannounced && error.oauth_error() == Some("invalid_request") => {
                Err(error.wanting_body(!ways.others.is_empty()))
            }
            Err(error) => Err(error),
        }
    }

    /// By how many milliseconds the authorization server's clock is ahead of ours, as far as its answers show it; 0 if
    /// nothing speaks against it.
    pub(crate) fn clock_offset(&self, now: &Moment) -> i64 {
        self.server_clock.offset(now)
    }

    /// Assertion and proof are made anew each time, for the server's `time`. Says in `has_nonce` whether the answer had a nonce.
    async fn ask_once(
        &self,
        to: Recipient<'_>,
        auth: &ClientAuth,
        clock: &Clock,
        credentials: &Credentials,
        time: Duration,
        has_nonce: &mut bool,
    ) -> Result<TokenResponse> {
        let url = to.token_endpoint;
        let assertion = auth.assertion(to, credentials, time).await;
        let assertion = assertion.map_err(|error| error.with_server(self.server()))?;
        let assertion = assertion.as_ref().map(|assertion| assertion.as_str());
        let body = self.request.form_body(&auth.fields(credentials, assertion));
        let mut request = Self::http_request(url, auth, credentials, body)?;
        let proof = match &self.dpop {
            Some(key) => {
                Some(key.proof(NonceOf::TokenEndpoint, &Method::POST, &origin::htu(url), None, time)?)
            }
            None => None,
        };
        request.headers_mut().extend(proof.clone().map(|proof| (PROOF, proof)));
        let sent = clock.now();
        let answer = self
            .transport
            .send(request)
            .await
            .map_err(|error| refusal::unanswered(error).with_server(origin::shown(url)))?;
        let answered = clock.now();
        let status = answer.status();
        tracing::debug!(
            target: "evertoken", server = %origin::shown(url), status = status.as_u16(), auth = auth.name(), "token endpoint answered"
        );
        if status.is_redirection() || matches!(status.as_u16(), 404 | 405 | 410) {
            self.discovery.doubt();
        }
        let offset = self.server_clock.learn(answer.headers(), &sent, &answered);
        if let Some(offset) = offset.filter(|_| proof.is_some() || assertion.is_some()) {
            self.oddities.clock(url, offset);
        }
        if let Some(key) = &self.dpop {
            *has_nonce = key.note(NonceOf::TokenEndpoint, answer.headers());
        }
        let asked = Asked {
            endpoint: url,
            scopes: &self.request.scopes,
            credentials,
            assertion,
            proof: proof.as_ref().and_then(|proof| proof.to_str().ok()),
            sent,
            answered,
        };
        response::parse(&answer, &asked, &self.oddities).map_err(|error| auth.advised(error))
    }

    /// A form on its way to the authorization server, with what of the client's authentication goes into the header.
    fn http_request(
        url: &Url,
        auth: &ClientAuth,
        credentials: &Credentials,
        form: Zeroizing<String>,
    ) -> Result<Request<Bytes>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(header) = auth.header(credentials) {
            request = request.header(header::AUTHORIZATION, header);
        }
        request.body(Bytes::from_owner(form)).map_err(|error| {
            Error::configuration("the endpoint's address is not usable")
                .with_server(origin::shown(url))
                .with_source(error)
        })
    }
}

/// Whether an error says no more than the refusal before it: a server that decodes finds the raw form of Basic malformed
/// (oidc-provider: `invalid_request`), and one without the other method may say anything.
fn says_no_more(error: &Error, refusal: &Error) -> bool {
    error.oauth_error() == Some("invalid_request")
        || may_be_about_client(error) && refusal.kind() == ErrorKind::CredentialsRejected
}

/// Whether a refusal may be about the client: another secret, or another way to send it, may be right. `refused` in other
/// words, such as 400 `unauthorized_client`, `invalid_grant` or a bare 400, is common for a secret that was rotated out.
pub(crate) fn may_be_about_client(error: &Error) -> bool {
    let fits = |statuses: &[u16]| error.status().is_some_and(|status| statuses.contains(&status));
    match (error.kind(), error.oauth_error()) {
        (ErrorKind::CredentialsRejected, _) => true,
        (ErrorKind::RequestRefused, Some(code)) => code::may_be_about_client(code),
        (ErrorKind::RequestRefused, None) => fits(&[401, 403]),
        (ErrorKind::InvalidResponse, None) => fits(&[400]),
        _ => false,
    }
}

/// The same, or the server looked for the client in the body.
pub(crate) fn may_be_refused(error: &Error) -> bool {
    may_be_about_client(error) || error.wants_body()
}

/// Whether the server did not accept who we say we are, or may not have.
pub(crate) fn is_authentication_refused(error: &Error) -> bool {
    let unauthorized = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].map(|status| Some(status.as_u16()));
    error.kind() == ErrorKind::CredentialsRejected
        || (error.kind() == ErrorKind::RequestRefused
            && error.oauth_error().is_none()
            && unauthorized.contains(&error.status()))
}

/// Whether the server answered that there is no token endpoint, or no metadata that name one: the address is wrong, or the
/// server is starting.
pub(crate) fn is_endpoint_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidResponse && matches!(error.status(), Some(404 | 405 | 410))
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenEndpoint")
            .field("server", &self.server())
            .field("request", &self.request)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
