//! What a call carries, and what the answers to it lead to: the one place for the client, both middlewares, and whoever
//! adapts another HTTP stack.

use std::fmt;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use url::Url;

use super::TokenSource;
use super::challenge::{Refusal, may_refuse, refusal, refuses_proof};
use crate::error::{Error, Result};
use crate::grant::{NonceOf, PROOF};
use crate::origin;
use crate::renewal::{AccessToken, Refused};
use crate::secret::TokenText;

/// Where a call goes.
pub(crate) trait Target {
    /// Scheme, host and port.
    fn origin(&self) -> (&str, &str, Option<u16>);

    /// It without query and fragment (RFC 9449 4.2).
    fn htu(&self) -> String;
}

impl Target for Url {
    fn origin(&self) -> (&str, &str, Option<u16>) {
        (self.scheme(), self.host_str().unwrap_or_default(), self.port_or_known_default())
    }

    fn htu(&self) -> String {
        origin::htu(self)
    }
}

impl Target for Uri {
    fn origin(&self) -> (&str, &str, Option<u16>) {
        let scheme = self.scheme_str().unwrap_or_default();
        let port = self.port_u16().or(match scheme {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        });
        (scheme, self.host().unwrap_or_default(), port)
    }

    fn htu(&self) -> String {
        let scheme = origin::over_http(self.scheme_str().unwrap_or_default());
        let host = self.host().unwrap_or_default();
        let port = self.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{host}{port}{}", self.path())
    }
}

/// The headers that authorize one sending.
pub(crate) struct Signed {
    authorization: HeaderValue,
    proof: Option<HeaderValue>,
}

impl Signed {
    pub(crate) fn put_into(self, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, self.authorization);
        if let Some(proof) = self.proof {
            headers.insert(PROOF, proof);
        }
    }
}

/// One call's way through an HTTP stack that this crate does not know: what authorizes it, and whether an answer to it is
/// worth another sending. [`TokenSource::pass`] gives it.
///
/// A call may be sent once more because its token was refused (RFC 6750 3.1) and, under DPoP, once more for a nonce
/// (RFC 9449 9) and once more if the API's `Date` shows that its clock refused the proof's time. A
/// token counts as refused
///
/// - by a 401, unless it is about scopes, the strength of the authentication, or a DPoP proof. One whose challenges are for
///   other schemes only leads to one renewal, and to no other until a call succeeds;
/// - by a 400 or 403 with `error="invalid_token"` for the token's scheme;
/// - by what [`refused_when`](crate::Builder::refused_when) says.
///
/// If the API refuses a token within 5 s of its arrival, it may not know it yet: the call is sent once more with the previous
/// token, without a renewal, if that is still valid, was never refused and is of the same credential. If that is refused as
/// well, it is not used again, and the renewal takes its course.
///
/// ```no_run
/// # use evertoken::{http, reqwest, TokenSource};
/// # async fn run(source: TokenSource, stack: reqwest::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let (method, url) = (http::Method::GET, "https://api.acme.com/v1/orders".parse()?);
/// let mut pass = source.pass().await?;
/// let answer = loop {
///     let headers = pass.headers(&method, &url)?;
///     let answer = stack.request(method.clone(), url.clone()).headers(headers).send().await?;
///     if !pass.repeats(&url, answer.status(), answer.headers(), true).await {
///         break answer;
///     }
/// };
/// # drop(answer); Ok(()) }
/// ```
pub struct Pass {
    source: TokenSource,
    token: AccessToken,
    /// The token that was refused so young that the previous one is tried now.
    young: Option<AccessToken>,
    /// Which of the trusted origins it was sent to, where that is known.
    sent_to: Option<usize>,
    renewed: bool,
    nonce_given: bool,
    /// Whether it was sent again with the API's time in its proof.
    time_given: bool,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").finish_non_exhaustive()
    }
}

/// Whether a call of this method to `sent` may be sent again though its answer came from there, by a redirect: who was asked
/// first may have done it already.
pub(crate) fn outlives_redirects(method: &Method, sent: &Url, came_to: &Url) -> bool {
    use url::Position::AfterQuery;
    method.is_idempotent() || sent[..AfterQuery] == came_to[..AfterQuery]
}

impl TokenSource {
    /// What authorizes one call that something else carries, and tells whether an answer is worth another sending.
    /// [`Client`](crate::Client), `TokenLayer` and `TokenMiddleware` do this by themselves.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub async fn pass(&self) -> Result<Pass> {
        self.pass_within(None).await
    }

    /// Waits for the token as [`token_within`](Self::token_within) does.
    pub(crate) async fn pass_within(&self, wait: Option<Duration>) -> Result<Pass> {
        let token = self.token_within(wait).await?;
        Ok(self.clone().pass_with(token))
    }

    /// That of a call which was sent with this token, known by its text alone. For bindings only.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where the text is not a token.
    #[doc(hidden)]
    pub fn pass_sent(&self, token: &str) -> Result<Pass> {
        let text = TokenText::new(self.scheme(), token)
            .ok_or_else(|| Error::configuration("the token has characters that none may have"))?;
        let token = AccessToken::new(text, std::time::SystemTime::UNIX_EPOCH, None);
        Ok(self.clone().pass_with(token))
    }

    /// That of a call with this token.
    pub(crate) fn pass_with(self, token: AccessToken) -> Pass {
        let unbound = self.family.dpop.is_none();
        Pass {
            source: self,
            token,
            young: None,
            sent_to: None,
            renewed: false,
            nonce_given: unbound,
            time_given: unbound,
        }
    }

    /// What authorizes one sending with `token`: it, and under DPoP a proof for this one request, whose target was let
    /// through by [`check_origin`](Self::check_origin) or the like.
    pub(crate) fn sign(&self, token: &AccessToken, method: &Method, target: &impl Target) -> Result<Signed> {
        let proof = match &self.family.dpop {
            None => None,
            Some(key) => {
                let origin = self.family.origins.index_of(target.origin())?;
                let token = Some(token.as_str());
                let now = self.family.clock.now();
                let time = key.api_time(origin, self.family.endpoint.clock_offset(&now), &now);
                Some(key.proof(NonceOf::Api(origin), method, &target.htu(), token, time)?)
            }
        };
        Ok(Signed { authorization: token.authorization().clone(), proof })
    }

    /// Whether [`Pass::repeats`] is to be asked about this answer: others say nothing about the token. Notes a success, so every
    /// answer belongs here. For bindings only.
    #[doc(hidden)]
    #[inline]
    pub fn heeds(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let refuses = may_refuse(status, headers) || self.is_refused_when(status, headers);
        if status.is_success() && !refuses {
            self.refresher().note_success();
        }
        refuses || self.family.dpop.is_some()
    }

    fn is_refused_when(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.family.refused_when.as_ref().is_some_and(|refused| refused(status, headers))
    }
}

impl Pass {
    /// Of a stack that follows redirects: where it sends the token first, and so nowhere else.
    pub(crate) fn sent_to(self, origin: usize) -> Self {
        Self { sent_to: Some(origin), ..self }
    }

    /// The token of the next sending.
    pub fn token(&self) -> &AccessToken {
        &self.token
    }

    /// All headers that authorize the next sending, `method` to `url`. The stack must follow no redirects under DPoP, and
    /// to no other origin without.
    ///
    /// # Errors
    /// [`UntrustedOrigin`](crate::ErrorKind::UntrustedOrigin) where the token may not go there.
    pub fn headers(&self, method: &Method, url: &Url) -> Result<HeaderMap> {
        self.source.check_origin(url)?;
        let mut headers = HeaderMap::new();
        self.sign(method, url)?.put_into(&mut headers);
        Ok(headers)
    }

    /// Whether the call is to be sent again, with new [`headers`](Self::headers), having been answered like this from
    /// `url`. Every answer belongs here, since it may bring a nonce. Where the token was refused, this waits for the next
    /// one, for at most the source's `token_timeout` (10 s by default).
    ///
    /// With `repeatable` false (a body that is gone) it answers false, and has a refused token renewed all the same.
    pub async fn repeats(
        &mut self,
        url: &Url,
        status: StatusCode,
        headers: &HeaderMap,
        repeatable: bool,
    ) -> bool {
        self.repeats_within(url, status, headers, repeatable, None).await
    }

    pub(crate) fn sign(&self, method: &Method, target: &impl Target) -> Result<Signed> {
        self.source.sign(&self.token, method, target)
    }

    /// Whether some answer can lead to another sending.
    pub(crate) fn may_repeat(&self) -> bool {
        !self.renewed || !self.nonce_given || !self.time_given
    }

    /// Whether the call is to be sent again, having been answered like this from there. Where it cannot be
    /// (`repeatable`), the next call is better off all the same.
    pub(crate) async fn repeats_within(
        &mut self,
        from: &impl Target,
        status: StatusCode,
        headers: &HeaderMap,
        repeatable: bool,
        wait: Option<Duration>,
    ) -> bool {
        let source = &self.source;
        if !source.heeds(status, headers) {
            return false;
        }
        let dpop = source.family.dpop.as_deref();
        // A redirect may have led to where no token went; what comes from there says nothing about it.
        let Ok(origin) = source.family.origins.index_of(from.origin()) else { return false };
        if self.sent_to.is_some_and(|sent_to| sent_to != origin) {
            return false;
        }
        let has_nonce = dpop.is_some_and(|key| key.note(NonceOf::Api(origin), headers));
        if let Some(key) = dpop.filter(|_| refuses_proof(status, headers)) {
            let now = source.family.clock.now();
            let learned = key.learn_time(origin, headers, source.family.endpoint.clock_offset(&now), &now);
            return learned && repeatable && !std::mem::replace(&mut self.time_given, true);
        }
        let refused = match refusal(status, headers, source.scheme()) {
            Some(Refusal::Nonce) => {
                let repeats = has_nonce && repeatable && !self.nonce_given;
                self.nonce_given |= repeats;
                return repeats;
            }
            _ if source.is_refused_when(status, headers) => Refused::Token,
            Some(Refusal::Token) => Refused::Token,
            Some(Refusal::Foreign) => Refused::Foreign,
            None => return false,
        };
        self.refused(refused, repeatable, wait).await
    }

    /// The caller's own `refused_when` says that the answer from `url` refuses the token. For bindings only.
    #[doc(hidden)]
    pub async fn repeats_refused(&mut self, url: &Url, repeatable: bool) -> bool {
        let Ok(origin) = self.source.family.origins.index_of(Target::origin(url)) else { return false };
        let is_sent_there = self.sent_to.is_none_or(|sent_to| sent_to == origin);
        is_sent_there && self.refused(Refused::Token, repeatable, None).await
    }

    async fn refused(&mut self, how: Refused, repeatable: bool, wait: Option<Duration>) -> bool {
        let source = &self.source;
        if self.renewed {
            return false;
        }
        match self.young.take() {
            Some(young) => {
                // Both are refused: an API at which a new token ends the previous one.
                source.refuse(&std::mem::replace(&mut self.token, young), how);
            }
            None => {
                if let Some(previous) = source.previous_to(&self.token) {
                    // Without another sending the newer token is left to become known.
                    if repeatable {
                        self.young = Some(std::mem::replace(&mut self.token, previous));
                    }
                    return repeatable;
                }
            }
        }
        if !repeatable {
            source.refuse(&self.token, how);
            return false;
        }
        let newer = source.recover(&self.token, how, wait).await;
        self.renewed = newer.is_some();
        if let Some(newer) = newer {
            self.token = newer;
        }
        self.renewed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn a_refused_token_is_replaced_once_however_many_there_are() {
        use crate::grant::{Dpop, TokenResponse};
        use crate::secret::{Scheme, TokenText};

        let source = TokenSource::builder("app", "secret").token_url("http://127.0.0.1:9/token");
        let source = source.base_url("http://127.0.0.1:9/").dpop(Dpop::new()).build().unwrap();
        let hold = |token: &str| {
            source.hold(TokenResponse {
                text: TokenText::new(Scheme::Dpop, token).unwrap(),
                sent: source.clock().now(),
                round_trip: Duration::ZERO,
                lifetime: Duration::from_secs(100),
                refresh_in: None,
                scope: None,
                missing_scopes: Vec::new(),
                quotas: Vec::new(),
            });
        };
        let url = Url::parse("http://127.0.0.1:9/x").unwrap();
        hold("a");
        let mut pass = source.pass().await.unwrap();
        let none = HeaderMap::new();
        for (token, repeats) in [("b", true), ("c", false)] {
            hold(token);
            assert_eq!(pass.repeats(&url, StatusCode::UNAUTHORIZED, &none, true).await, repeats);
            assert!(pass.may_repeat(), "for a nonce");
            assert_eq!(pass.token.as_str(), "b");
        }
    }

    #[test]
    fn a_proof_names_the_url_without_query_fragment_and_user() {
        for (url, htu) in [
            ("https://api.example/v1/x?y=1#z", "https://api.example/v1/x"),
            ("https://API.example:8443/a%20b/?y", "https://api.example:8443/a%20b/"),
            ("https://u:p@api.example:443", "https://api.example/"),
            ("http://[::1]:80/", "http://[::1]/"),
            ("wss://api.example/x?y", "https://api.example/x"),
        ] {
            assert_eq!(Url::parse(url).unwrap().htu(), htu);
        }
        for (uri, htu) in [
            ("https://api.example/v1/x?y=1", "https://api.example/v1/x"),
            ("https://api.example:8443?y", "https://api.example:8443/"),
            ("https://u:p@api.example/a/../b", "https://api.example/a/../b"),
            ("wss://api.example/x?y", "https://api.example/x"),
            ("ws://127.0.0.1:8080/x", "http://127.0.0.1:8080/x"),
        ] {
            assert_eq!(uri.parse::<Uri>().unwrap().htu(), htu);
        }
    }
}
