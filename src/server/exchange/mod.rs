//! App ids and secrets in, access tokens out, for very many customers.

mod builder;
mod cache;
mod failures;
mod flight;
mod flights;
mod gate;
mod key;
mod pace;
mod status;
mod strikes;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache as Quick;
use tokio::runtime::Handle;
use tokio::sync::watch;

use cache::{Cache, Held, Look};
use failures::Failures;
use flight::{Flight, Lane};
use flights::{Begun, Flights, Newcomer, Outcome, Ticket};
use gate::{Gate, Rank};
use key::{CustomerHashing, Hashing, Key, Tag};
use strikes::Strikes;

use crate::clock::{Clock, Moment};
use crate::credentials::{Credentials, LONGEST_PART};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::TokenEndpoint;
use crate::renewal::{AccessToken, RenewalPolicy};
use crate::secret::{ExposeSecret, SecretString};
use crate::server::digest::AsItIs;
use crate::server::{Revocations, Usage};

pub use builder::ExchangeBuilder;
pub use status::ExchangeStatus;

/// App id and app secret in, access token out, by the client-credentials grant (RFC 6749 4.4): for an API whose callers
/// send the credentials themselves.
///
/// Each customer's token is kept while it lives and shared by all calls that bring the same app id and the same secret, and
/// ask for the same; a wrong secret never gets it. The secret itself is not kept: a keyed hash stands for it. A clone is a
/// handle to the same exchange.
///
/// ```no_run
/// # async fn run() -> evertoken::Result<()> {
/// use evertoken::server::Exchange;
///
/// let exchange = Exchange::builder("https://acme.eu.auth0.com/").audience("https://api.acme.com").build()?;
/// let token = exchange.token("app-7", &"s3cr3t".into(), None).await?;
/// # drop(token); Ok(()) }
/// ```
///
/// # What it asks for, and when
///
/// A customer's first call asks for a token, and all who come meanwhile wait for that one request. From renew-at on (see
/// [`RenewalPolicy`]) the next call that comes by has it renewed in the background, and is served with the one at hand. So
/// a customer who does not call costs nothing. While the authorization server is down, tokens serve to their end.
///
/// A refused secret is refused from memory for 10 s, at the next time for 20 s, up to a minute. Who sends refused
/// secrets again and again is slowed down: by address from the 21st in a row on, by app id from the 6th on, the
/// latter only where that address has sent refused ones itself; pauses are 2 and 5 s at most. What is held passes all of it,
/// and a quarter of the token requests that may be made at once is kept for customers who had a token before, so that
/// nobody can shut another out. A 5xx, a time-out or a bare 403 is never a refusal.
///
/// If the server answers 429, what is held serves on. Newcomers and renewals are held back for its
/// `Retry-After` (5 min at most). Customers whose token has ended are let through one at a time, one
/// more at once with each answer, after pauses of 0.25 to 10 s for each further 429. Newcomers then get
/// half of the rate that the server has answered, which grows again slowly. They get less if quota
/// headers that all clients share run low, or by
/// [`max_newcomers_per_second`](ExchangeBuilder::max_newcomers_per_second). If the server says that the
/// quota is the client's own (`Auth0-Client-Quota-Limit`), only that customer waits.
///
/// A held token ends if the server refuses its client at a renewal: at once with `invalid_client`,
/// `unauthorized_client`, `access_denied` or `invalid_grant` (RFC 6749 5.2), and with any other OAuth
/// code from the third refusal in a row on, if other customers get tokens meanwhile.
///
/// # What it costs
///
/// Tokens are not shared between processes: N replicas ask for up to N tokens for each customer and lifetime, and each
/// restart asks again. [`max_age`](ExchangeBuilder::max_age) has tokens replaced, and secrets checked, sooner: each time at
/// the price of a token.
#[derive(Clone)]
pub struct Exchange {
    core: Arc<Core>,
    asked: Arc<Asked>,
}

/// What all handles share.
struct Core {
    clock: Clock,
    policy: RenewalPolicy,
    max_age: Option<Duration>,
    token_timeout: Duration,
    hashing: Hashing,
    cache: Cache,
    flights: Flights,
    gate: Gate,
    failures: Failures,
    /// When app ids were purged last: a token under way may turn out to be one of theirs.
    purged: Quick<Tag, Moment, UnitWeighter, AsItIs>,
    /// Refused credentials by app id, and by address.
    apps: Strikes,
    peers: Strikes,
    usage: Option<Usage>,
    revocations: Option<Revocations>,
    /// Whose turn it is to look for the token endpoint.
    discovering: tokio::sync::Mutex<()>,
    random: Mutex<fastrand::Rng>,
}

/// What is asked for, the same for all customers of a handle.
struct Asked {
    endpoint: TokenEndpoint,
    hashing: CustomerHashing,
    /// When the last token was issued, in milliseconds by the monotonic clock; 0 before the first.
    issued: AtomicU64,
}

impl Asked {
    fn new(endpoint: TokenEndpoint, hashing: CustomerHashing) -> Self {
        Self { endpoint, hashing, issued: AtomicU64::new(0) }
    }

    fn note_issued(&self, now: &Moment) {
        self.issued.fetch_max(milliseconds(now), Ordering::Relaxed);
    }

    fn has_issued_since(&self, moment: &Moment) -> bool {
        self.issued.load(Ordering::Relaxed) > milliseconds(moment)
    }
}

fn milliseconds(moment: &Moment) -> u64 {
    u64::try_from(moment.monotonic.as_millis()).unwrap_or(u64::MAX)
}

enum Arrival {
    Token(AccessToken),
    Waiting(watch::Receiver<Outcome>, Place),
}

/// The memory of a call that waits, given back when dropped.
struct Place {
    core: Arc<Core>,
    newcomer: Option<Newcomer>,
    size: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.flights.lock().leave(self.newcomer, self.size);
    }
}

impl Exchange {
    /// An exchange at this authorization server, whose endpoints are found by discovery (RFC 8414, then OpenID Connect
    /// Discovery); [`token_url`](ExchangeBuilder::token_url) names the endpoint instead.
    pub fn builder(issuer: impl Into<String>) -> ExchangeBuilder {
        ExchangeBuilder::new(issuer.into())
    }

    /// The customer's token: the one at hand, else from the authorization server. Dropping the future ends the waiting, not
    /// the request. `peer` is the address of whoever sent the credentials, where it is known.
    ///
    /// # Errors
    /// - [`CredentialsRejected`](ErrorKind::CredentialsRejected): the server refused them, now or a short while ago.
    /// - [`RequestRefused`](ErrorKind::RequestRefused): it knows the customer, who may not have such a token.
    /// - [`Throttled`](ErrorKind::Throttled): this customer or this address is to slow down.
    /// - [`AuthServerUnavailable`](ErrorKind::AuthServerUnavailable), [`InvalidResponse`](ErrorKind::InvalidResponse),
    ///   [`Timeout`](ErrorKind::Timeout): there is no answer to rely on.
    ///
    /// [`Error::retry_after`] tells when it is worth trying again.
    pub async fn token(
        &self,
        app_id: &str,
        app_secret: &SecretString,
        peer: Option<IpAddr>,
    ) -> Result<AccessToken> {
        let core = &*self.core;
        if app_id.len().max(app_secret.expose_secret().len()) > LONGEST_PART {
            return Err(self.at_server(Error::new(
                ErrorKind::CredentialsRejected,
                format!("app id or app secret is longer than {LONGEST_PART} bytes"),
            )));
        }
        let key = self.asked.hashing.key(app_id, app_secret);
        let customer = Customer { key, app_id, app_secret, peer };
        let known = match core.cache.look(&key, &core.clock) {
            Look::Token(token) => return Ok(token),
            Look::Due(held) => {
                self.renew(&customer, &held);
                return Ok(held.token);
            }
            Look::Ended => true,
            Look::Nothing => false,
        };
        if app_id.is_empty() || app_secret.expose_secret().is_empty() {
            return Err(
                self.at_server(Error::new(ErrorKind::CredentialsRejected, "app id or app secret is empty"))
            );
        }
        let outcome = match self.ask(&customer, known) {
            Ok(Arrival::Token(token)) => return Ok(token),
            Ok(Arrival::Waiting(waiting, _place)) => self.arrived(waiting).await,
            Err(error) => Err(self.at_server(error)),
        };
        // A token that is only in its leeway is better than none at all.
        outcome.or_else(|error| match core.cache.held(&key) {
            Some(held) if error.is_retryable() && held.token.term().extend(&core.clock.now()) => {
                Ok(held.token)
            }
            _ => Err(error),
        })
    }

    async fn arrived(&self, mut waiting: watch::Receiver<Outcome>) -> Result<AccessToken> {
        let patience = self.core.token_timeout;
        let outcome = tokio::select! {
            biased;
            outcome = waiting.wait_for(Option::is_some) => outcome.ok().and_then(|outcome| outcome.clone()),
            () = self.core.clock.wait(patience) => {
                let what = format!("no token within {:.1} s", patience.as_secs_f64());
                Some(Err(Error::new(ErrorKind::Timeout, what)))
            }
        };
        let abandoned =
            || Err(Error::new(ErrorKind::AuthServerUnavailable, "the token request was abandoned"));
        outcome.unwrap_or_else(abandoned).map_err(|error| match error.server() {
            Some(_) => error,
            None => self.at_server(error),
        })
    }

    /// Joins the request under way, or begins one, unless something speaks against it.
    fn ask(&self, customer: &Customer<'_>, known: bool) -> Result<Arrival> {
        let core = &self.core;
        let now = core.clock.now();
        let app = core.hashing.app(customer.app_id);
        let newcomer =
            (!known).then(|| Newcomer { app, peer: customer.peer.map(|peer| core.hashing.peer(peer)) });
        let size = flights::size(customer.app_id, customer.app_secret);
        let room = core.flights.room();
        let mut flights = core.flights.lock();
        if let Some(waiting) = flights.join(&customer.key) {
            flights.wait(newcomer, size, room)?;
            return Ok(Arrival::Waiting(waiting, Place { core: core.clone(), newcomer, size }));
        }
        // It may have landed just now.
        let held = core.cache.held(&customer.key);
        let rank = match held {
            Some(Held { token, .. }) if !token.term().remaining(&now).is_zero() => {
                return Ok(Arrival::Token(token));
            }
            _ if !known => Rank::Newcomer,
            Some(Held { token, .. }) if !token.term().is_over(&now) => Rank::Renewal,
            _ => Rank::Known,
        };
        if let Some(error) = core.failures.recent(&customer.key, &now) {
            return Err(error);
        }
        core.may_ask(rank, newcomer, &now)?;
        let runtime = runtime()?;
        flights.wait(newcomer, size, room)?;
        let begun = flights.begin(customer.key, app, newcomer, size, room);
        let Begun { ticket, outcome, permits } = begun.inspect_err(|_| flights.leave(newcomer, size))?;
        // A runtime that is ending drops the flight at once, and that takes the lock.
        drop(flights);
        let lane = newcomer.map_or(Lane::Known(rank), |newcomer| Lane::Newcomer(newcomer, permits));
        let place = Place { core: core.clone(), newcomer, size };
        runtime.spawn(self.flight(customer, ticket, app, lane).fly());
        Ok(Arrival::Waiting(outcome, place))
    }

    /// In the background, by whoever comes first after renew-at.
    fn renew(&self, customer: &Customer<'_>, Held { token, app }: &Held) {
        let core = &self.core;
        let begun = runtime().and_then(|runtime| {
            core.may_ask(Rank::Renewal, None, &core.clock.now())?;
            let size = flights::size(customer.app_id, customer.app_secret);
            let room = core.flights.room();
            let ticket = core.flights.lock().begin(customer.key, *app, None, size, room)?.ticket;
            runtime.spawn(self.flight(customer, ticket, *app, Lane::Renewal(token.clone())).fly());
            Ok(())
        });
        if let Err(error) = begun {
            let now = core.clock.now();
            token.term().extend(&now);
            token.term().renewal_failed(&now, error.retry_after().unwrap_or(RENEWAL_RETRY));
        }
    }

    /// Has a token replaced that the API does not take: true where it is asked for anew by whoever comes next. Another one
    /// would be no better than one that has just come, and each may have its price.
    pub(crate) fn give_up(&self, token: &AccessToken) -> bool {
        self.end_after(GIVE_UP_AFTER, token)
    }

    /// The same for a token whose app was revoked after it was asked for: the next one is better, unless a clock was set.
    pub(crate) fn end(&self, token: &AccessToken) -> bool {
        self.end_after(RENEWAL_RETRY, token)
    }

    fn end_after(&self, least_age: Duration, token: &AccessToken) -> bool {
        let is_due = token.term().age(&self.core.clock.now()) >= least_age;
        if is_due {
            token.term().end();
        }
        is_due
    }

    /// Notes whose token it is by the issuer's own word, if that is another app id than it was asked for
    /// with: [`purge`](Self::purge) finds it by either. Returns false if that app id was purged since the
    /// token was asked for, which then has ended.
    pub(crate) fn note_owner(&self, token: &AccessToken, app_id: &str) -> bool {
        let (core, term) = (&self.core, token.term());
        if term.owner().is_some() {
            return true;
        }
        let owner = core.hashing.app(app_id);
        core.cache.note_owner(token, owner);
        let now = core.clock.now();
        // After it was noted: a purge that comes later finds it.
        let is_purged = core.purged.get(&owner).is_some_and(|at| term.age(&now) > now.since(&at));
        if is_purged {
            term.end();
        }
        !is_purged
    }

    fn flight(&self, customer: &Customer<'_>, ticket: Ticket, app: Tag, lane: Lane) -> Flight {
        Flight {
            core: self.core.clone(),
            asked: self.asked.clone(),
            ticket,
            app,
            lane,
            credentials: Credentials {
                app_id: customer.app_id.to_owned(),
                app_secret: customer.app_secret.clone(),
                generation: 0,
            },
            landed: false,
        }
    }

    /// Tokens for another audience and other scopes, of the same customers and under the same limits. An empty audience
    /// means none.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) where a scope has a character that none may have.
    pub fn with(
        &self,
        audience: impl AsRef<str>,
        scopes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self> {
        let mut request = self.asked.endpoint.grant_request().clone();
        request.audience = Some(audience.as_ref().to_owned()).filter(|audience| !audience.is_empty());
        request.scopes = scopes.into_iter().map(|scope| scope.as_ref().to_owned()).collect();
        let request = request.checked()?;
        let hashing = self.core.hashing.of_request(&request);
        let asked = Asked::new(self.asked.endpoint.for_request(request), hashing);
        Ok(Self { core: self.core.clone(), asked: Arc::new(asked) })
    }

    /// Forgets all that is held and remembered for this app id, in any spelling
    /// ([`normalize_app_id`](ExchangeBuilder::normalize_app_id)), and, behind a
    /// [`CallerLayer`](crate::server::CallerLayer), for any other app id whose tokens name this one: its next call asks the authorization server, with whatever
    /// secret it brings. What a request under way brings goes to those who wait for it, and is not kept.
    ///
    /// It goes through all tokens, one part after the other: a tenth of a second for a million. Tokens that have been handed out stay valid.
    pub fn purge(&self, app_id: &str) {
        self.core.purge(app_id);
    }

    /// How it stands.
    pub fn status(&self) -> ExchangeStatus {
        let core = &*self.core;
        ExchangeStatus {
            customers: core.cache.len(),
            requests: core.flights.len(),
            paused_for: core.gate.paused_for(&core.clock.now()),
        }
    }

    fn at_server(&self, error: Error) -> Error {
        match error.server() {
            Some(_) => error,
            None => error.with_server(self.asked.endpoint.server()),
        }
    }
}

/// How old a token is at least that is replaced because the API does not take it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Where a renewal could not begin.
const RENEWAL_RETRY: Duration = Duration::from_secs(1);

/// Whoever calls, as a call has it.
struct Customer<'a> {
    key: Key,
    app_id: &'a str,
    app_secret: &'a SecretString,
    peer: Option<IpAddr>,
}

fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        Error::configuration("a token can be asked for only within a tokio runtime").with_source(error)
    })
}

impl Core {
    /// A number between 0 and 1.
    fn draw(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }

    fn purge(&self, app_id: &str) {
        let app = self.hashing.app(app_id);
        self.purged.insert(app, self.clock.now());
        // In this order: what lands before is taken out by what follows.
        self.flights.purge(app);
        self.cache.purge(app);
        self.failures.purge(app);
        self.apps.clear(app);
    }

    /// Whether anything speaks against asking the authorization server.
    fn may_ask(&self, rank: Rank, newcomer: Option<Newcomer>, now: &Moment) -> Result<()> {
        self.gate.check(rank, now)?;
        newcomer.map_or(Ok(()), |newcomer| self.check_strikes(newcomer, now))
    }

    /// Who sent nothing wrong is not made to wait for what others sent for the same app id.
    fn check_strikes(&self, newcomer: Newcomer, now: &Moment) -> Result<()> {
        let Newcomer { app, peer } = newcomer;
        let of_peer = peer.map_or(Duration::ZERO, |peer| self.peers.pause(peer, now));
        let is_suspect = peer.is_none_or(|peer| self.peers.has_any(peer, now));
        let of_app = if is_suspect { self.apps.pause(app, now) } else { Duration::ZERO };
        let pause = of_peer.max(of_app);
        if pause.is_zero() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Throttled, "too many refused credentials").with_retry_after(Some(pause)))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("endpoint", &self.asked.endpoint)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
