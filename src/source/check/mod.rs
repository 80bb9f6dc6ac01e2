//! Why it does not work, for whom it does not.

mod findings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use findings::{Answer, audience, clock, discovery, granted, lifetime, quota, scope};
use tokio::runtime::Handle;

use super::TokenSource;
use super::builder::Builder;
use crate::credentials::{Credentials, Good};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{Recording, SIGNED, TokenEndpoint, TokenResponse, is_authentication_refused};
use crate::secret::is_layout;

const MOST_TEXT: usize = 600;

/// How grave a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and yet somebody should look at it.
    Warn,
    /// It does not work like this.
    Fail,
}

/// One line of a [`Diagnosis`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How grave it is.
    pub level: Level,
    /// What was looked at: `settings`, `credential`, `discovery`, `token`, `lifetime`, `scope`, `audience`, `clock` or `quota`.
    pub check: &'static str,
    /// What was found, and what to do about it where that is not `Ok`. It holds neither secret nor token.
    pub text: String,
}

/// What [`Builder::check`] found. Its [`Display`](fmt::Display) is a line for each finding, and a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    findings: Vec<Finding>,
}

impl Diagnosis {
    /// What was found, in the order in which it was looked at.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing failed; there may be warnings.
    pub fn is_ok(&self) -> bool {
        self.count(Level::Fail) == 0
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    fn add(&mut self, level: Level, check: &'static str, text: impl Into<String>) {
        self.findings.push(Finding { level, check, text: text.into() });
    }

    /// A finding is one line, whatever a server put into it.
    fn on_lines(mut self) -> Self {
        for finding in &mut self.findings {
            let text: String =
                finding.text.chars().filter(|c| !c.is_control() && !is_layout(*c)).take(MOST_TEXT).collect();
            finding.text = text;
        }
        self
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, check, text } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            writeln!(f, "{level:<5} {check:<10} {text}")?;
        }
        match (self.count(Level::Fail), self.count(Level::Warn)) {
            (0, 0) => f.write_str("all is well"),
            (0, warnings) => write!(f, "it works; {warnings} to look at"),
            (failed, _) => write!(f, "it does not work; {failed} to mend"),
        }
    }
}

impl<T> Builder<T> {
    /// Asks for one token with these settings and says, step by step, what came of it: discovery, how the client
    /// authenticated, lifetime, scope, audience, clocks, quota. For a person who wants to know why it does not work; the
    /// token is dropped. The credential source, the request, and one more with the next secret where the first is refused, take
    /// at most two and a half times the policy's `request_timeout` (10 s by default). It costs a token of the quota.
    ///
    /// There is no error: whatever goes wrong, be it a mistake in the settings or no tokio runtime, is a finding.
    ///
    /// ```no_run
    /// # async fn run() {
    /// let diagnosis = evertoken::ClientBuilder::from_env().check().await;
    /// print!("{diagnosis}");
    /// # }
    /// ```
    pub async fn check(self) -> Diagnosis {
        let mut diagnosis = Diagnosis { findings: Vec::new() };
        match self.into_source() {
            Ok(source) => source.checked(diagnosis).await,
            Err(error) => {
                diagnosis.add(Level::Fail, "settings", error.to_string());
                diagnosis.on_lines()
            }
        }
    }
}

impl TokenSource {
    async fn checked(&self, mut diagnosis: Diagnosis) -> Diagnosis {
        let family = &self.family;
        if Handle::try_current().is_err() {
            diagnosis.add(Level::Fail, "settings", "there is no tokio runtime: await it within one");
            return diagnosis;
        }
        let timeout = family.policy.request_timeout;
        let given = family.credentials.ask(&family.clock, timeout / 2, Good::For(Duration::ZERO)).await;
        let (Some(known), server) = (family.credentials.known(), family.endpoint.server()) else {
            let text = given.err().map(|error| error.to_string()).unwrap_or_default();
            diagnosis.add(Level::Fail, "credential", text);
            return diagnosis.on_lines();
        };
        diagnosis.add(Level::Ok, "settings", format!("app id {:?} at {server}", known.current.app_id));
        if let Err(error) = given {
            diagnosis.add(Level::Warn, "credential", format!("{error}; what was given before is used"));
        }
        let (mut outcome, mut endpoint, mut recording) = self.asked(&known.current).await;
        if let (Err(refusal), Some(next)) = (&outcome, &known.next)
            && is_authentication_refused(refusal)
        {
            let second = self.asked(next).await;
            if second.0.is_ok() {
                let text = "the server refused it, and took the next one: put that in its place";
                diagnosis.add(Level::Warn, "credential", text);
                (outcome, endpoint, recording) = second;
            } else {
                diagnosis.add(Level::Warn, "credential", "the next secret gave no token either");
            }
        }

        let exchanges = recording.exchanges();
        let request = endpoint.grant_request();
        let method = recording.method();
        let answers: Vec<_> = exchanges.iter().filter_map(Answer::of).collect();
        let error = outcome.as_ref().err().filter(|_| method.is_none());
        if !endpoint.has_issuer() {
            diagnosis.add(Level::Ok, "discovery", "none: the token endpoint is given by `token_url`");
        }
        if !endpoint.has_issuer() || discovery(&mut diagnosis, &exchanges, error) {
            granted(&mut diagnosis, &answers, outcome.as_ref(), method, family.dpop.is_some());
        }
        if let Ok(response) = &outcome {
            let claims = answers.last().and_then(|answer| answer.claims);
            lifetime(&mut diagnosis, &family.policy, response, answers.last());
            scope(&mut diagnosis, request, response);
            audience(&mut diagnosis, request, claims);
        }
        let signs = family.dpop.is_some() || method == Some(SIGNED);
        clock(&mut diagnosis, &exchanges, answers.last(), signs);
        if let Ok(response) = &outcome {
            quota(&mut diagnosis, response.quotas.first());
        }
        diagnosis.on_lines()
    }

    /// One token request by an endpoint of its own, and what was said.
    async fn asked(
        &self,
        credentials: &Arc<Credentials>,
    ) -> (Result<TokenResponse>, TokenEndpoint, Arc<Recording>) {
        let family = &self.family;
        let timeout = family.policy.request_timeout;
        let (endpoint, recording) = family.endpoint.recorded(&family.clock, credentials);
        let outcome = tokio::select! {
            outcome = endpoint.request(&family.clock, credentials) => outcome,
            () = family.clock.wait(timeout) => Err(Error::new(
                ErrorKind::AuthServerUnavailable,
                format!("the authorization server did not answer within {timeout:?}"),
            ).with_server(endpoint.server())),
        };
        (outcome, endpoint, recording)
    }
}
