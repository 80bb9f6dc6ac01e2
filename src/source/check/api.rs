//! One call to the API, which shows whether its address is right and whether it takes the token.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Method, StatusCode};
use reqwest::redirect::Policy;
use url::Url;

use super::{Diagnosis, Level};
use crate::api_error::{Effect, call_failed};
use crate::clock::system_time;
use crate::error::Result;
use crate::grant::TokenResponse;
use crate::origin;
use crate::renewal::AccessToken;
use crate::secret::one_line;
use crate::source::TokenSource;
use crate::source::builder::Config;
use crate::user_agent;

/// Of a challenge, in characters.
const MOST_CHALLENGE: usize = 200;

/// Where a call goes, and over what.
pub(super) struct Api {
    http: reqwest::Client,
    url: Url,
}

impl Api {
    pub(super) fn new(url: Url, config: &Config) -> Result<Self> {
        let http = match config.http_client.clone() {
            Some(own) => own,
            None => {
                let set = |client: reqwest::ClientBuilder| {
                    // A redirect is an answer as well.
                    client.redirect(Policy::none()).referer(false).user_agent(user_agent::OURS)
                };
                config.network.build(set)?.0
            }
        };
        Ok(Self { http, url })
    }

    /// Sends a GET to the base URL with this token, and says what came of it.
    pub(super) async fn call(
        &self,
        source: &TokenSource,
        response: &TokenResponse,
        diagnosis: &mut Diagnosis,
    ) {
        let expiry = system_time(response.sent.wall + response.lifetime);
        let token = AccessToken::new(response.text.clone(), expiry, None);
        let timeout = source.family.policy.request_timeout;
        let shown = origin::shown(&self.url);
        let outcome = tokio::select! {
            outcome = self.answer(source, &token) => outcome,
            () = source.clock().wait(timeout) => {
                diagnosis.add(Level::Fail, "api", format!("{shown} did not answer within {:.1} s", timeout.as_secs_f64()));
                return diagnosis.advise("check `base_url`, and the API's own status");
            }
        };
        let (status, headers) = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                diagnosis.add(Level::Fail, "api", error.facts());
                let network = "check `base_url`, and from this machine DNS, firewall and proxy";
                return diagnosis.advise(error.advice_given().unwrap_or(network));
            }
        };
        let answered = format!("{shown} answered {}", status.as_u16());
        if status == StatusCode::UNAUTHORIZED {
            let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
            let challenge = challenges.collect::<Vec<_>>().join(", ");
            let challenge = one_line(&challenge, &[token.as_str()], MOST_CHALLENGE);
            let said = if challenge.is_empty() { String::new() } else { format!(": {challenge}") };
            diagnosis.add(Level::Fail, "api", format!("{answered}, so it refuses the token{said}"));
            diagnosis.advise(
                "check `audience`, `resource` and `scope`, and that `base_url` is the API that they are for",
            );
        } else if status.is_server_error() {
            diagnosis.add(Level::Warn, "api", format!("{answered}, and does not refuse the token"));
            diagnosis.advise("look at the API's own status, and check `base_url`");
        } else {
            diagnosis.add(Level::Ok, "api", format!("{answered}, and does not refuse the token"));
        }
    }

    /// The answer, to a second call if the first gives a nonce for the proof (RFC 9449 9).
    async fn answer(&self, source: &TokenSource, token: &AccessToken) -> Result<(StatusCode, HeaderMap)> {
        let mut repeated = false;
        loop {
            let mut headers = HeaderMap::new();
            source.sign(token, &Method::GET, &self.url)?.put_into(&mut headers);
            let answer = self.http.get(self.url.clone()).headers(headers).send().await;
            let answer = answer.map_err(|error| call_failed(error, Effect::Once))?;
            let has_nonce = source.note_nonce(&self.url, answer.headers());
            if answer.status() != StatusCode::UNAUTHORIZED || !has_nonce || repeated {
                return Ok((answer.status(), answer.headers().clone()));
            }
            repeated = true;
        }
    }
}
