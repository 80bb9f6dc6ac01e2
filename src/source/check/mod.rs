//! Why it does not work: one try of everything, and what came of it. What each step says is in `findings.rs`, the call to the
//! API in `api.rs`.

mod api;
mod findings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::Api;
use findings::{audience, clock, discovery, failure, granted, lifetime, quota, resource, revocation, scope};
use tokio::runtime::Handle;

use super::TokenSource;
use super::builder::Builder;
use super::ending::Revocation;
use super::family::Family;
use crate::credentials::{Credentials, Good};
use crate::error::{Error, Result};
use crate::grant::{
    BASIC, ClientAuth, POST, Recorded, SIGNED, TokenEndpoint, TokenResponse, Tries, is_authentication_refused,
};
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
    /// What was looked at: `settings`, `credential`, `discovery`, `token`, `auth`, `lifetime`, `scope`, `audience`, `clock`,
    /// `quota`, `api` or `revocation`. There can be several findings of one kind.
    pub check: &'static str,
    /// What was found: one fact. It holds neither secret nor token.
    pub text: String,
    /// What to do about it, if there is something to do.
    pub advice: Option<String>,
}

/// What [`Builder::check`] found. Its [`Display`](fmt::Display) has a line for each finding, one below it for the advice if
/// there is some, and a verdict.
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
        self.findings.push(Finding {
            level,
            check,
            text: one_line(text.as_ref(), &[], MOST_TEXT),
            advice: None,
        });
    }

    /// Adds what to do about the finding that was added last.
    fn advise(&mut self, advice: impl AsRef<str>) {
        if let Some(last) = self.findings.last_mut() {
            last.advice = Some(one_line(advice.as_ref(), &[], MOST_TEXT));
        }
    }

    fn fail(&mut self, check: &'static str, error: &Error) {
        let (text, advice) = failure(error);
        self.add(Level::Fail, check, text);
        if let Some(advice) = advice {
            self.advise(advice);
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, check, text, advice } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "FAIL",
            };
            writeln!(f, "{level:<5} {check:<10} {text}")?;
            if let Some(advice) = advice {
                writeln!(f, "{:<5} {:<10} {advice}", "", "  advice:")?;
            }
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
    /// authenticated, lifetime, scope, audience, clocks, quota. For a person who wants to know why it does not work.
    ///
    /// If there is a [`base_url`](Self::base_url), one GET goes there with the token: every answer but a 401 is fine. A
    /// secret that is refused by Basic is tried once in the body (`client_secret_post`), and the other way round, unless the
    /// metadata announce only other ways. The token is dropped, and revoked if `shutdown` would do so.
    ///
    /// Each step takes at most the policy's `request_timeout` (10 s by default): the request, one more with the next secret
    /// and one in the other way if it is refused, the call, and the revocation; the credential source half of it. It costs a
    /// token of the quota.
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
        let mut this = self;
        this.config.fill();
        let mut diagnosis = Diagnosis { findings: Vec::new() };
        let environment = this.config.environment.clone();
        for problem in environment.iter().flat_map(|environment| &environment.unknown) {
            diagnosis.add(Level::Warn, "settings", problem);
        }
        let api = this.parsed_base_url().ok().flatten().map(|url| Api::new(url, &this.config));
        match this.into_source() {
            Ok(source) => diagnosis = source.checked(diagnosis, api).await,
            Err(error) => diagnosis.fail("settings", &error),
        }
        if let Some(environment) = environment {
            for Finding { text, advice, .. } in &mut diagnosis.findings {
                *text = environment.spell(text);
                *advice = advice.take().map(|advice| environment.spell(&advice));
            }
        }
        diagnosis
    }
}

impl TokenSource {
    async fn checked(&self, mut diagnosis: Diagnosis, api: Option<Result<Api>>) -> Diagnosis {
        let family = &self.family;
        if Handle::try_current().is_err() {
            diagnosis.add(Level::Fail, "settings", "there is no tokio runtime");
            diagnosis.advise("await it within one");
            return diagnosis;
        }
        let patience = family.policy.request_timeout / 2;
        let given = family.credentials.ask(&family.clock, patience, Good::For(Duration::ZERO)).await;
        let Some(known) = family.credentials.known() else {
            if let Err(error) = given {
                diagnosis.fail("credential", &error);
            }
            return diagnosis;
        };
        let (app_id, server) = (&known.current.app_id, family.endpoint.server());
        diagnosis.add(Level::Ok, "settings", format!("app id {app_id:?} at {server}"));
        if let Err(error) = given {
            let (text, advice) = failure(&error);
            diagnosis.add(Level::Warn, "credential", format!("{text}; what was given before is used"));
            if let Some(advice) = advice {
                diagnosis.advise(advice);
            }
        }
        resource(&mut diagnosis, family.endpoint.grant_request());
        let mut used = &known.current;
        let (mut outcome, mut recorded, mut endpoint) = self.asked(used, None).await;
        if let (Err(refusal), Some(next)) = (&outcome, &known.next)
            && is_authentication_refused(refusal)
        {
            let second = self.asked(next, None).await;
            if second.0.is_ok() {
                diagnosis.add(Level::Warn, "credential", "the server refused it, and took the next one");
                diagnosis.advise("put the next one in its place");
                used = next;
                (outcome, recorded, endpoint) = second;
            } else {
                diagnosis.add(Level::Warn, "credential", "the next secret gave no token either");
            }
        }

        let mut other_way = None;
        if outcome.as_ref().is_err_and(is_authentication_refused) {
            for oddity in Some(&known.current).into_iter().chain(&known.next).filter_map(|one| one.oddity()) {
                diagnosis.add(Level::Warn, "credential", oddity);
                diagnosis.advise("see whether that belongs there");
            }
            if let Some((refused, auth, name)) = self.other_way(&recorded) {
                let second = self.asked(used, Some(auth)).await;
                if second.0.is_ok() {
                    other_way = Some((refused, name));
                    (outcome, recorded, endpoint) = second;
                }
            }
        }

        let (answers, method) = (&recorded.answers, recorded.method());
        let has_issuer = family.endpoint.has_issuer();
        if !has_issuer {
            diagnosis.add(Level::Ok, "discovery", "none: the token endpoint is given by `token_url`");
        }
        let metadata = family.endpoint.metadata(&family.clock);
        let error = outcome.as_ref().err().filter(|_| method.is_none());
        if !has_issuer || discovery(&mut diagnosis, metadata.as_deref(), error) {
            granted(&mut diagnosis, &recorded, outcome.as_ref(), family.dpop.is_some());
        }
        if let Some((refused, name)) = other_way {
            diagnosis.add(Level::Fail, "auth", format!("{refused} is refused, and {name} works"));
            diagnosis.advise(format!("set `client_auth` to {name}"));
        }
        if let Ok(response) = &outcome {
            let (request, answer) = (family.endpoint.grant_request(), answers.last());
            lifetime(&mut diagnosis, &family.policy, response, answer);
            scope(&mut diagnosis, request, response);
            audience(&mut diagnosis, request, answer.and_then(|answer| answer.claims.as_ref()));
        }
        clock(&mut diagnosis, &recorded, family.dpop.is_some() || method == Some(SIGNED));
        if let Ok(response) = &outcome {
            quota(&mut diagnosis, response.quotas.first());
            match api {
                Some(Ok(api)) => api.call(self, response, &mut diagnosis).await,
                Some(Err(error)) => diagnosis.fail("api", &error),
                None => {}
            }
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

    /// The way in which a secret was sent and refused, and the other one, if the server may know it.
    fn other_way(&self, recorded: &Recorded) -> Option<(&'static str, ClientAuth, &'static str)> {
        // Otherwise both have been tried.
        let [only] = recorded.methods[..] else { return None };
        let (refused, auth, name) = match only {
            BASIC => (BASIC, ClientAuth::ClientSecretPost, POST),
            POST => (POST, ClientAuth::ClientSecretBasic, BASIC),
            _ => return None,
        };
        let metadata = self.family.endpoint.metadata(&self.family.clock);
        let methods = metadata.as_deref().map_or(&[][..], |metadata| &metadata.auth_methods);
        let may_know = methods.is_empty() || methods.iter().any(|method| method == name);
        may_know.then_some((refused, auth, name))
    }

    /// One token request, in this way if one is given, and what was said.
    async fn asked(
        &self,
        credentials: &Arc<Credentials>,
        auth: Option<ClientAuth>,
    ) -> (Result<TokenResponse>, Recorded, TokenEndpoint) {
        let clock = &self.family.clock;
        let (mut endpoint, recording) = self.family.endpoint.recorded(clock, credentials);
        if let Some(auth) = auth {
            endpoint = endpoint.authenticated_by(auth);
        }
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
