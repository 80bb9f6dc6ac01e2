//! Why it does not work, for whom it does not.

mod findings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use findings::{audience, clock, discovery, granted, lifetime, quota, resource, revocation, scope};
use tokio::runtime::Handle;

use super::TokenSource;
use super::builder::Builder;
use super::ending::Revocation;
use super::family::Family;
use crate::credentials::{Credentials, Good};
use crate::error::Result;
use crate::grant::{Recorded, SIGNED, TokenEndpoint, TokenResponse, Tries, is_authentication_refused};
use crate::secret::one_line;

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
    /// What was looked at: `settings`, `credential`, `discovery`, `token`, `lifetime`, `scope`, `audience`, `clock`, `quota` or `revocation`.
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

    /// A finding is one line, whatever a server put into it.
    fn add(&mut self, level: Level, check: &'static str, text: impl AsRef<str>) {
        self.findings.push(Finding { level, check, text: one_line(text.as_ref(), &[], MOST_TEXT) });
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
    /// token is dropped, and revoked where `shutdown` would. The credential source, the request, one more with the next secret where the first is refused, and the revocation take
    /// at most three and a half times the policy's `request_timeout` (10 s by default). It costs a token of the quota.
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
                diagnosis
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
        let patience = family.policy.request_timeout / 2;
        let given = family.credentials.ask(&family.clock, patience, Good::For(Duration::ZERO)).await;
        let Some(known) = family.credentials.known() else {
            let text = given.err().map(|error| error.to_string()).unwrap_or_default();
            diagnosis.add(Level::Fail, "credential", text);
            return diagnosis;
        };
        let (app_id, server) = (&known.current.app_id, family.endpoint.server());
        diagnosis.add(Level::Ok, "settings", format!("app id {app_id:?} at {server}"));
        if let Err(error) = given {
            diagnosis.add(Level::Warn, "credential", format!("{error}; what was given before is used"));
        }
        resource(&mut diagnosis, family.endpoint.grant_request());
        let mut used = &known.current;
        let (mut outcome, mut recorded, mut endpoint) = self.asked(used).await;
        if let (Err(refusal), Some(next)) = (&outcome, &known.next)
            && is_authentication_refused(refusal)
        {
            let second = self.asked(next).await;
            if second.0.is_ok() {
                let text = "the server refused it, and took the next one: put that in its place";
                diagnosis.add(Level::Warn, "credential", text);
                used = next;
                (outcome, recorded, endpoint) = second;
            } else {
                diagnosis.add(Level::Warn, "credential", "the next secret gave no token either");
            }
        }

        if outcome.as_ref().is_err_and(is_authentication_refused) {
            for oddity in Some(&known.current).into_iter().chain(&known.next).filter_map(|one| one.oddity()) {
                let text = format!("{oddity}: see whether that belongs there");
                diagnosis.add(Level::Warn, "credential", text);
            }
        }

        let Recorded { method, answers, .. } = &recorded;
        let has_issuer = family.endpoint.has_issuer();
        if !has_issuer {
            diagnosis.add(Level::Ok, "discovery", "none: the token endpoint is given by `token_url`");
        }
        let metadata = family.endpoint.metadata(&family.clock);
        let error = outcome.as_ref().err().filter(|_| method.is_none());
        if !has_issuer || discovery(&mut diagnosis, metadata.as_deref(), error) {
            granted(&mut diagnosis, &recorded, outcome.as_ref(), family.dpop.is_some());
        }
        if let Ok(response) = &outcome {
            let (request, answer) = (family.endpoint.grant_request(), answers.last());
            lifetime(&mut diagnosis, &family.policy, response, answer);
            scope(&mut diagnosis, request, response);
            audience(&mut diagnosis, request, answer.and_then(|answer| answer.claims.as_ref()));
        }
        clock(&mut diagnosis, &recorded, family.dpop.is_some() || *method == Some(SIGNED));
        if let Ok(response) = &outcome {
            quota(&mut diagnosis, response.quotas.first());
        }
        if let (Ok(response), Some(Revocation(url))) = (&outcome, &family.revocation) {
            let token = response.text.token();
            revocation(
                &mut diagnosis,
                self.in_time(endpoint.revoke(&family.clock, used, token, url.as_ref())).await,
            );
        }
        diagnosis
    }

    /// One token request, and what was said.
    async fn asked(
        &self,
        credentials: &Arc<Credentials>,
    ) -> (Result<TokenResponse>, Recorded, TokenEndpoint) {
        let clock = &self.family.clock;
        let (endpoint, recording) = self.family.endpoint.recorded(clock, credentials);
        let outcome = self.in_time(endpoint.request(clock, credentials, &Tries::default())).await;
        (outcome, recording.so_far(), endpoint)
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let Family { policy, clock, endpoint, .. } = &*self.family;
        let timeout = policy.request_timeout;
        tokio::select! {
            outcome = answer => outcome,
            () = clock.wait(timeout) => Err(endpoint.silent(timeout)),
        }
    }
}
