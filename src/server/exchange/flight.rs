//! One token request for one customer, from its place in the queue to its outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::cache::Held;
use super::flights::{Newcomer, Ticket};
use super::gate::{self, Pass, Rank};
use super::key::Tag;
use super::{Asked, Core, failures, telemetry};
use crate::clock::{Moment, system_time};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{TokenResponse, Tries, is_authentication_refused};
use crate::renewal::{AccessToken, Schedule, Term, attempt_timeout};

/// For whom it is.
pub(super) enum Lane {
    /// For one who sends this secret for the first time, or for the first time in long.
    Newcomer(Newcomer, Option<Arc<Semaphore>>),
    /// For one who had a token, which has ended. It may have its leeway yet: then the rank is that of
    /// a renewal.
    Known(Rank),
    /// For one who has a token, which is to be replaced.
    Renewal(AccessToken),
}

/// The credentials are in here, and nowhere else: they are wiped when it ends.
pub(super) struct Flight {
    pub(super) core: Arc<Core>,
    pub(super) asked: Arc<Asked>,
    pub(super) ticket: Ticket,
    pub(super) app: Tag,
    pub(super) lane: Lane,
    pub(super) credentials: Credentials,
    pub(super) landed: bool,
}

/// Why there is no token.
enum Failed {
    /// The server was not asked.
    Unasked(Error),
    Asked(Error),
}

impl Flight {
    pub(super) async fn fly(mut self) {
        let outcome = self.attempt().await;
        let settled = self.core.flights.land(self.ticket, |keep| {
            let settled = self.settle(outcome, keep);
            (Some(settled.clone()), settled)
        });
        self.landed = true;
        if let Some(settled) = settled {
            let server = self.asked.endpoint.server();
            let audience = self.asked.endpoint.grant_request().audience.as_deref();
            telemetry::settled(&server, audience, &self.credentials.app_id, settled.as_ref().map(drop));
        }
    }

    fn timeout(&self) -> Duration {
        let remaining = match &self.lane {
            Lane::Renewal(token) => Some(token.term().remaining(&self.core.clock.now())),
            Lane::Newcomer(..) | Lane::Known(_) => None,
        };
        attempt_timeout(&self.core.policy, remaining)
    }

    async fn attempt(&self) -> Result<TokenResponse, Failed> {
        let core = &*self.core;
        let began = core.clock.now();
        loop {
            let patience = self.timeout().saturating_sub(core.clock.now().since(&began));
            let pass = tokio::select! {
                biased;
                pass = self.enter() => pass.map_err(|error| Failed::Unasked(self.at_server(error)))?,
                () = core.clock.wait(patience) => return Err(Failed::Unasked(self.crowded())),
            };
            // Once more: much may have come to pass while it waited.
            self.may_ask(&core.clock.now()).map_err(|error| Failed::Unasked(self.at_server(error)))?;
            let timeout = self.timeout();
            // Boxed, so that those who wait for their turn are small.
            let request = Box::pin(self.request());
            let outcome = tokio::select! {
                biased;
                outcome = request => outcome,
                () = core.clock.wait(timeout) => Err(self.asked.endpoint.silent(timeout)),
            };
            let now = core.clock.now();
            match &outcome {
                Err(error) if is_of_all(error) => {
                    self.note_pause(now, error, &pass);
                    drop(pass);
                    if self.is_patient(&now) && now.since(&began) < timeout {
                        continue;
                    }
                }
                Err(error) if error.status().is_none_or(|status| status >= 500) => {}
                Ok(_) | Err(_) => core.gate.answered(&now, &pass),
            }
            return outcome.map_err(Failed::Asked);
        }
    }

    async fn enter(&self) -> Result<Pass> {
        let gate = &self.core.gate;
        match &self.lane {
            Lane::Newcomer(_, Some(permits)) => {
                gate.enter_newcomer(permits, &self.core.clock, |now| self.may_ask(now)).await
            }
            Lane::Newcomer(_, None) | Lane::Known(_) | Lane::Renewal(_) => {
                gate.enter(self.rank(), &self.core.clock).await
            }
        }
    }

    fn may_ask(&self, now: &Moment) -> Result<()> {
        let newcomer = match &self.lane {
            Lane::Newcomer(newcomer, _) => Some(*newcomer),
            Lane::Known(_) | Lane::Renewal(_) => None,
        };
        self.core.may_ask(self.rank(), newcomer, now)
    }

    fn rank(&self) -> Rank {
        match &self.lane {
            Lane::Newcomer(..) => Rank::Newcomer,
            Lane::Known(rank) => *rank,
            Lane::Renewal(_) => Rank::Renewal,
        }
    }

    fn note_pause(&self, now: Moment, error: &Error, pass: &Pass) {
        let gate = &self.core.gate;
        if gate.pause(now, error.retry_after(), pass, self.core.draw()) {
            tracing::warn!(
                target: "evertoken", server = self.asked.endpoint.server(), held_back_for = ?gate.paused_for(&now),
                "the authorization server asks for fewer token requests (429): new customers are held back, \
                 known ones without a token go one at a time"
            );
        }
    }

    /// Returns whether it waits for another turn during a pause.
    fn is_patient(&self, now: &Moment) -> bool {
        self.rank() == Rank::Known && self.core.gate.check(Rank::Known, now).is_ok()
    }

    async fn request(&self) -> Result<TokenResponse> {
        let (core, endpoint) = (&*self.core, &self.asked.endpoint);
        if endpoint.has_issuer() && endpoint.metadata(&core.clock).is_none() {
            // One finds them for all.
            let _turn = core.discovering.lock().await;
            endpoint.prepare(&core.clock, &self.credentials).await?;
        }
        endpoint.request(&core.clock, &self.credentials, &Tries::of_many()).await
    }

    /// Under the lock of the flights: whoever asks next finds all of it done.
    fn settle(&self, outcome: Result<TokenResponse, Failed>, keep: bool) -> Result<AccessToken> {
        let now = self.core.clock.now();
        let outcome = outcome.and_then(|response| {
            self.take(response, &now, keep)
                .ok_or_else(|| Failed::Asked(self.at_server(Error::expired_on_arrival())))
        });
        match outcome {
            Ok(token) => Ok(token),
            Err(failed) => Err(self.fail(failed, now, keep)),
        }
    }

    fn take(&self, response: TokenResponse, now: &Moment, keep: bool) -> Option<AccessToken> {
        let core = &*self.core;
        let TokenResponse { text, sent, round_trip, lifetime, refresh_in, scope, quotas, .. } = response;
        if let Some(quota) = quotas.first() {
            core.gate.told(now, self.app, *quota);
        }
        let life = core.max_age.map_or(lifetime, |max_age| lifetime.min(max_age));
        let (app_id, asked) = (&self.credentials.app_id, system_time(sent.wall));
        let revocations = core.revocations.as_ref();
        // Issued in the very second of its revocation it is refused elsewhere, where its `iat` counts: the next one is better.
        let is_of_that_second = revocations.is_some_and(|all| all.is_revoked(app_id, Some(asked)));
        let life = if is_of_that_second { life.min(A_SECOND) } else { life };
        let schedule = Schedule::new(&core.policy, life, round_trip, refresh_in, core.draw())
            .filter(|schedule| now.since(&sent) < schedule.serve_for)?;
        let scope = scope.or_else(|| self.asked.endpoint.grant_request().scope());
        let term = Term::new(&sent, &schedule);
        let token = AccessToken::with_term(text, system_time(sent.wall + lifetime), scope, term);
        let is_revoked = revocations.is_some_and(|all| all.is_revoked_before(app_id, asked));
        if keep && is_revoked {
            // What lands here was asked for after the revocation came, so the clock was set back since then. The next token
            // would be no better.
            let error = Error::new(
                ErrorKind::AuthServerUnavailable,
                "the token counts as revoked: it was asked for before the moment of the revocation, by the wall clock",
            )
            .advice("set the clock of this machine");
            core.failures.note(
                self.ticket.key,
                self.app,
                *now,
                self.at_server(error),
                &core.policy,
                core.draw(),
            );
        } else if keep {
            core.cache.insert(self.ticket.key, Held { token: token.clone(), app: self.app });
            core.failures.forget(&self.ticket.key);
        }
        self.asked.note_issued(now);
        if let Lane::Newcomer(newcomer, _) = &self.lane {
            core.apps.clear(newcomer.app);
            newcomer.peer.into_iter().for_each(|peer| core.peers.ease(peer));
        }
        if let Some(usage) = &core.usage {
            usage.issued(&self.credentials.app_id);
        }
        Some(token)
    }

    fn fail(&self, failed: Failed, now: Moment, keep: bool) -> Error {
        let core = &*self.core;
        let error = match failed {
            Failed::Unasked(error) => {
                self.pause_renewal(&now, &error);
                return error;
            }
            Failed::Asked(error) => error,
        };
        if is_of_all(&error) {
            let wait = core.gate.held_back_for(self.rank(), &now);
            let error = self.at_server(gate::paused().with_status(429).with_retry_after(wait));
            self.pause_renewal(&now, &error);
            return error;
        }
        if let Lane::Newcomer(newcomer, _) = &self.lane
            && is_authentication_refused(&error)
        {
            core.apps.add(newcomer.app, now);
            newcomer.peer.into_iter().for_each(|peer| core.peers.add(peer, now));
        }
        if keep && self.is_final(&error) {
            core.cache.remove(&self.ticket.key);
        }
        if !keep {
            return error;
        }
        let error = core.failures.note(self.ticket.key, self.app, now, error, &core.policy, core.draw());
        self.pause_renewal(&now, &error);
        error
    }

    /// Returns whether the server has refused this client, so that the token it holds ends, too.
    ///
    /// `invalid_client` and the codes of [`CONDEMNING`] say so at once. Any other code may as well
    /// be about what all customers ask for. It counts from the third refusal in a row on, and only
    /// if another customer got such a token meanwhile.
    fn is_final(&self, error: &Error) -> bool {
        if error.kind() == ErrorKind::CredentialsRejected {
            return true;
        }
        let code = error.oauth_error().filter(|_| failures::is_verdict(error));
        let is_alone = || {
            let run = self.core.failures.refusals(&self.ticket.key);
            run.is_some_and(|(count, since)| count >= 2 && self.asked.has_issued_since(&since))
        };
        code.is_some_and(|code| CONDEMNING.contains(&code) || is_alone())
    }

    fn pause_renewal(&self, now: &Moment, error: &Error) {
        if let Lane::Renewal(token) = &self.lane {
            if error.is_retryable() {
                token.term().extend(now);
            }
            token.term().renewal_failed(now, error.retry_after().unwrap_or(FLOOR));
        }
    }

    fn crowded(&self) -> Error {
        let what = "too many token requests at once: this one did not have its turn in time";
        self.at_server(Error::new(ErrorKind::AuthServerUnavailable, what).with_retry_after(Some(FLOOR)))
    }

    fn at_server(&self, error: Error) -> Error {
        error.with_server(self.asked.endpoint.server())
    }
}

/// For how long a token is kept that was issued in the second in which its app was revoked.
const A_SECOND: Duration = Duration::from_secs(1);

/// Returns whether the server asks everybody for fewer requests, and not one client alone.
fn is_of_all(error: &Error) -> bool {
    error.kind() == ErrorKind::Throttled && !error.is_of_client()
}

/// OAuth error codes by which a server refuses a client that it knows (RFC 6749 5.2, 4.1.2.1):
/// disabled, without this grant, or no longer allowed to use the API.
const CONDEMNING: [&str; 3] = ["unauthorized_client", "access_denied", "invalid_grant"];

/// The least time between two renewals that come to nothing new.
const FLOOR: Duration = Duration::from_secs(1);

/// Where its runtime ends before it does, or it panics: whoever waits is told by the closed channel.
impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.core.flights.land(self.ticket, |_| (None, ()));
            self.pause_renewal(&self.core.clock.now(), &Error::closed());
        }
    }
}
