//! One token request for one customer, from its place in the queue to its outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::cache::Held;
use super::flights::{Newcomer, Ticket};
use super::gate;
use super::key::Tag;
use super::{Asked, Core, telemetry};
use crate::clock::{Moment, system_time};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{TokenResponse, Tries, is_authentication_refused};
use crate::renewal::{AccessToken, Schedule, Term, attempt_timeout};

/// For whom it is.
pub(super) enum Lane {
    /// For one who sends this secret for the first time, or for the first time in long.
    Newcomer(Newcomer, Option<Arc<Semaphore>>),
    /// For one who had a token, which has ended.
    Known,
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
            Lane::Newcomer(..) | Lane::Known => None,
        };
        attempt_timeout(&self.core.policy, remaining)
    }

    async fn attempt(&self) -> Result<TokenResponse, Failed> {
        let core = &*self.core;
        let (newcomer, permits) = match &self.lane {
            Lane::Newcomer(newcomer, permits) => (Some(*newcomer), permits.as_ref()),
            Lane::Known | Lane::Renewal(_) => (None, None),
        };
        let timeout = self.timeout();
        let _pass = tokio::select! {
            biased;
            pass = core.gate.enter(permits) => pass.map_err(Failed::Unasked)?,
            () = core.clock.wait(timeout) => return Err(Failed::Unasked(self.crowded())),
        };
        // Once more: much may have come to pass while it waited.
        core.may_ask(newcomer, &core.clock.now()).map_err(|error| Failed::Unasked(self.at_server(error)))?;
        let timeout = self.timeout();
        // Boxed, so that those who wait for their turn are small.
        let request = Box::pin(self.request());
        tokio::select! {
            biased;
            outcome = request => outcome.map_err(Failed::Asked),
            () = core.clock.wait(timeout) => Err(Failed::Asked(self.asked.endpoint.silent(timeout))),
        }
    }

    async fn request(&self) -> Result<TokenResponse> {
        let (core, endpoint) = (&*self.core, &self.asked.endpoint);
        if endpoint.has_issuer() && endpoint.metadata(&core.clock).is_none() {
            // One finds them for all.
            let _turn = core.discovering.lock().await;
            endpoint.prepare(&core.clock, &self.credentials).await?;
        }
        endpoint.request(&core.clock, &self.credentials, &Tries::default()).await
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
        let TokenResponse { text, sent, round_trip, lifetime, refresh_in, scope, .. } = response;
        let life = core.max_age.map_or(lifetime, |max_age| lifetime.min(max_age));
        let schedule = Schedule::new(&core.policy, life, round_trip, refresh_in, core.draw())
            .filter(|schedule| now.since(&sent) < schedule.serve_for)?;
        let scope = scope.or_else(|| self.asked.endpoint.grant_request().scope());
        let term = Term::new(&sent, &schedule);
        let token = AccessToken::with_term(text, system_time(sent.wall + lifetime), scope, term);
        // Revoked in the very second in which it was issued, it would be refused for all its life.
        let app_id = &self.credentials.app_id;
        let revoked =
            core.revocations.as_ref().is_some_and(|all| all.is_revoked(app_id, Some(system_time(sent.wall))));
        if keep && !revoked {
            core.cache.insert(self.ticket.key, Held { token: token.clone(), app: self.app });
            core.failures.forget(&self.ticket.key);
        }
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
        if error.kind() == ErrorKind::Throttled && !error.is_of_client() {
            core.gate.pause(now, error.retry_after());
            let error = gate::paused().with_status(429).with_retry_after(core.gate.paused_for(&now));
            let error = self.at_server(error);
            self.pause_renewal(&now, &error);
            return error;
        }
        if let Lane::Newcomer(newcomer, _) = &self.lane
            && is_authentication_refused(&error)
        {
            core.apps.add(newcomer.app, now);
            newcomer.peer.into_iter().for_each(|peer| core.peers.add(peer, now));
        }
        // Its own word, and nothing that only failed: from here on this secret is a wrong one.
        if error.kind() == ErrorKind::CredentialsRejected && keep {
            core.cache.remove(&self.ticket.key);
        }
        if !keep {
            return error;
        }
        let error = core.failures.note(self.ticket.key, self.app, now, error, &core.policy, core.draw());
        self.pause_renewal(&now, &error);
        error
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
