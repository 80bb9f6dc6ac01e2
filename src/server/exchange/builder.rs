use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as Quick, DefaultLifecycle};

use super::cache::Cache;
use super::failures::Failures;
use super::flights::{Flights, Room};
use super::gate::Gate;
use super::key::{Hashing, Normalize};
use super::strikes::{Patience, Strikes};
use super::{Asked, Core, Exchange};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::grant::{ClientAuth, Discovery, GrantRequest, HttpTransport, Server, TokenEndpoint, Transport};
use crate::network::Network;
use crate::origin::shown_text;
use crate::renewal::RenewalPolicy;
use crate::server::digest::AsItIs;
use crate::server::{Revocations, Usage};

const CAPACITY: usize = 100_000;
const CONCURRENT: usize = 64;
const PER_APP: usize = 4;
const WAITING: usize = 10_000;
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many purges are remembered.
const PURGED: usize = 10_000;

/// An app id's secret can be guessed by everybody, an address may be a proxy's with thousands behind it.
const APPS: Patience = Patience { free: 5, longest: Duration::from_secs(5) };
const PEERS: Patience = Patience { free: 20, longest: Duration::from_secs(2) };

/// Sets up an [`Exchange`]. Mistakes are told by `build`, without a word to any server.
pub struct ExchangeBuilder {
    issuer: String,
    token_url: Option<String>,
    request: GrantRequest,
    client_auth: Option<ClientAuth>,
    allow_insecure_http: bool,
    policy: RenewalPolicy,
    capacity: usize,
    max_age: Option<Duration>,
    concurrent: usize,
    per_app: usize,
    waiting: usize,
    newcomers: Option<f64>,
    token_timeout: Duration,
    network: Network,
    clock: Clock,
    transport: Option<Arc<dyn Transport>>,
    usage: Option<Usage>,
    revocations: Option<Revocations>,
    seed: Option<u64>,
    normalize: Option<Normalize>,
    mistake: Option<Error>,
}

impl ExchangeBuilder {
    pub(super) fn new(issuer: String) -> Self {
        Self {
            issuer,
            token_url: None,
            request: GrantRequest::default(),
            client_auth: None,
            allow_insecure_http: false,
            policy: RenewalPolicy::default(),
            capacity: CAPACITY,
            max_age: None,
            concurrent: CONCURRENT,
            per_app: PER_APP,
            waiting: WAITING,
            newcomers: None,
            token_timeout: TOKEN_TIMEOUT,
            network: Network::default(),
            clock: Clock::System,
            transport: None,
            usage: None,
            revocations: None,
            seed: None,
            normalize: None,
            mistake: None,
        }
    }

    /// The token endpoint (RFC 6749 3.2), for servers without discovery.
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = Some(url.into());
        self
    }

    /// The API that tokens are for, as Auth0 and others name it: the parameter `audience`.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.request.audience = Some(audience.into());
        self
    }

    /// The API that tokens are for, by the standard: the parameter `resource` (RFC 8707), an absolute URI without
    /// fragment. Entra ID v1 and AD FS take the id or the name of an API instead. It can be given several times.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.request.resources.push(resource.into());
        self
    }

    /// The scopes to ask for, separated by spaces (RFC 6749 3.3). Given again, it adds to them.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.request.scopes.push(scope.as_ref().to_owned());
        self
    }

    /// One more parameter of the token request, where a server wants one.
    pub fn token_param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.params.push((name.into(), value.into()));
        self
    }

    /// How the customers' credentials are sent on: by default what discovery announces chooses, `client_secret_basic`
    /// before `client_secret_post`. Only methods that use the app secret can be.
    pub fn client_auth(mut self, method: impl Into<ClientAuth>) -> Self {
        self.client_auth = Some(method.into());
        self
    }

    /// Lets secrets and tokens go over plain http to hosts other than loopback. For test networks only.
    pub fn allow_insecure_http(mut self) -> Self {
        self.allow_insecure_http = true;
        self
    }

    /// When tokens are renewed, and how long one request may take (10 s by default).
    pub fn renewal(mut self, policy: RenewalPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How many tokens are held: 100,000 by default. Each takes about half a kilobyte beside its text, and with a
    /// [`CallerLayer`](crate::server::CallerLayer) also what its claims take, which are kept with it: one to two kilobytes as
    /// a rule. Beyond it, those go that were used least.
    pub fn capacity(mut self, customers: usize) -> Self {
        self.capacity = customers;
        self
    }

    /// Has every token end after so long at the latest, as if that were its life. A customer whose secret was taken away at
    /// the authorization server is refused by then; without it, when the token ends. Its price: a token for each customer
    /// who calls in that time, and with the server down customers are refused so much sooner. Unlimited by default.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How many token requests are made at once, 64 by default and at least 2. A quarter is kept for customers who had a token
    /// before.
    pub fn max_concurrent(mut self, requests: usize) -> Self {
        self.concurrent = requests;
        self
    }

    /// How many of them for one app id with secrets that are not known to be right: 4 by default.
    pub fn max_concurrent_per_app(mut self, requests: usize) -> Self {
        self.per_app = requests;
        self
    }

    /// How many such requests may be under way or wait for their turn: 10,000 by default, and as many of customers who had a
    /// token before. Who comes then is told to come again. All that waits, calls included, may hold 8 KiB for each of them:
    /// 80 MB by default for newcomers, and as much for the others.
    pub fn max_waiting(mut self, requests: usize) -> Self {
        self.waiting = requests;
        self
    }

    /// Sets how many token requests a second are made at most for customers whose secret is not known
    /// to be right: a share of what the authorization server allows, so that the rest is left to known
    /// customers. Fractions are allowed: 0.5 is one in two seconds. Unlimited by default, until the
    /// server answers 429 or the quotas that it reports run low.
    pub fn max_newcomers_per_second(mut self, requests: f64) -> Self {
        self.newcomers = Some(requests);
        self
    }

    /// How long a caller waits for a token at most, 10 s by default.
    pub fn token_timeout(mut self, timeout: Duration) -> Self {
        self.token_timeout = timeout;
        self
    }

    /// Trusts one more certificate authority, or several, beside those of the system: PEM.
    pub fn root_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        let outcome = self.network.add_roots(pem.as_ref());
        self.noted(outcome)
    }

    /// The HTTP proxy for token requests; by default the environment says.
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        let outcome = self.network.set_proxy(url.as_ref());
        self.noted(outcome)
    }

    /// How long a connection may take to come about, TLS included: 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.network.set_connect_timeout(timeout);
        self
    }

    /// Replaces how spellings of an app id are told to be the same client's, for limits and for
    /// [`purge`](Exchange::purge): all app ids for which it returns the same text are. By default case,
    /// Unicode form (NFKD), accents, characters of no width and outer white space do not count, as in
    /// many servers' databases. Tokens are shared by the app id as it was sent, whatever this returns.
    pub fn normalize_app_id(mut self, normalize: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.normalize = Some(Box::new(normalize));
        self
    }

    /// Counts the tokens that are got, by app id.
    pub fn usage(mut self, usage: &Usage) -> Self {
        self.usage = Some(usage.clone());
        self
    }

    /// Has an app's tokens forgotten when they are revoked, here or by another replica.
    pub fn revocations(mut self, revocations: &Revocations) -> Self {
        self.revocations = Some(revocations.clone());
        self
    }

    /// Replaces the clocks.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: Arc<dyn crate::clock::TimeSource>) -> Self {
        self.clock = Clock::Injected(clock);
        self
    }

    /// Replaces what carries token requests.
    #[cfg(feature = "testing")]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Seeds all jitter, so that a run can be replayed.
    #[cfg(feature = "testing")]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Keeps the first mistake for `build` to tell of.
    fn noted(mut self, outcome: Result<()>) -> Self {
        if let Err(error) = outcome {
            self.mistake.get_or_insert(error);
        }
        self
    }

    /// Makes the exchange. Nothing is asked of any server yet.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), with what is wrong and how to mend it.
    pub fn build(self) -> Result<Exchange> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        self.policy.validate()?;
        let request = self.request.checked()?;
        let server = match &self.token_url {
            Some(url) => Server::token_url(url, self.allow_insecure_http)?,
            None => Server::issuer(&self.issuer, self.allow_insecure_http)?,
        };
        if self.client_auth.as_ref().is_some_and(|auth| !auth.needs_secret()) {
            return Err(Error::configuration(
                "`client_auth` does not use the app secret, which is all that customers send",
            )
            .advice("set `ClientSecretBasic`, `ClientSecretPost` or `ClientSecretJwt`, or none"));
        }
        let problem = if self.capacity == 0 {
            "`capacity` is 0"
        } else if self.concurrent < 2 || self.concurrent > tokio::sync::Semaphore::MAX_PERMITS {
            "`max_concurrent` must be at least 2"
        } else if self.per_app == 0 || self.per_app > tokio::sync::Semaphore::MAX_PERMITS {
            "`max_concurrent_per_app` must be at least 1"
        } else if self.waiting == 0 {
            "`max_waiting` is 0"
        } else if self.newcomers.is_some_and(|rate| !rate.is_finite() || rate < 0.001) {
            "`max_newcomers_per_second` must be at least 0.001"
        } else if self.max_age.is_some_and(|age| age < Duration::from_secs(1)) {
            "`max_age` must be at least 1 s"
        } else {
            ""
        };
        if !problem.is_empty() {
            return Err(Error::configuration(problem));
        }
        let transport = match self.transport {
            Some(transport) => transport,
            None if self.network.is_default() => HttpTransport::shared()?,
            None => Arc::new(HttpTransport::new(&self.network)?),
        };
        let hashing = Hashing::new()?.with_normalize(self.normalize);
        let of_request = hashing.of_request(&request);
        let endpoint = TokenEndpoint::new(
            server,
            request,
            self.client_auth,
            self.allow_insecure_http,
            transport,
            Arc::new(Discovery::default()),
        );
        let asked = Asked::new(endpoint, of_request);
        let core = Core {
            clock: self.clock,
            policy: self.policy,
            max_age: self.max_age,
            token_timeout: self.token_timeout,
            hashing,
            cache: Cache::new(self.capacity)?,
            flights: Flights::new(Room { waiting: self.waiting, per_app: self.per_app }),
            gate: Gate::new(self.concurrent, self.newcomers),
            failures: Failures::new()?,
            purged: Quick::with(
                PURGED,
                PURGED as u64,
                UnitWeighter,
                AsItIs::default(),
                DefaultLifecycle::default(),
            ),
            apps: Strikes::new(APPS)?,
            peers: Strikes::new(PEERS)?,
            usage: self.usage,
            revocations: self.revocations,
            discovering: tokio::sync::Mutex::default(),
            random: Mutex::new(self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
        };
        let core = Arc::new(core);
        if let Some(revocations) = &core.revocations {
            let core = Arc::downgrade(&core);
            revocations.on_revoked(move |app_id| core.upgrade().iter().for_each(|core| core.purge(app_id)));
        }
        Ok(Exchange { core, asked: Arc::new(asked) })
    }
}

impl fmt::Debug for ExchangeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeBuilder")
            .field("issuer", &shown_text(&self.issuer))
            .field("token_url", &self.token_url.as_deref().map(shown_text))
            .field("request", &self.request)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
