//! The issuer's published keys: when they are read, and how long they serve. How one verifies is in `key_set`.
//!
//! `turn` guards who reads next and what went wrong; `held` is replaced under it and read without a lock. No other lock is
//! taken under `turn`.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::algorithm::TokenAlgorithm;
use super::key_set::{KeyId, KeySet};
use super::lookups::{Lookups, Verdict};
use crate::clock::{Clock, Moment};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{Discovery, Transport, fetch};
use crate::server::peer::Sender;
use crate::server::refusal::{Refusal, RefusalKind};

/// How long keys serve before they are read again; that begins at 0.75 to 0.9 of it.
pub(super) const MAX_AGE: Duration = Duration::from_secs(600);

/// How long keys serve on while the server cannot be read.
pub(super) const MAX_STALE: Duration = Duration::from_secs(86_400);

/// After a failed reading, how long keys that are held are not read again for an unknown name.
const COOLDOWN: Duration = Duration::from_secs(10);

/// Between failed readings: from one second doubling to a minute.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long one reading may take, and a caller waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest `kid` that is looked for.
const LONGEST_KID: usize = 256;

/// Where the keys are read.
pub(super) struct Origin {
    pub(super) issuer: String,
    pub(super) jwks_url: Option<url::Url>,
    pub(super) allow_insecure: bool,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) discovery: Arc<Discovery>,
    pub(super) allowed: Vec<TokenAlgorithm>,
}

/// The issuer's public keys: read with the first need, renewed ahead of their age by one task, and kept when that fails.
pub(super) struct Jwks {
    origin: Origin,
    clock: Clock,
    held: ArcSwapOption<Held>,
    turn: Mutex<Turn>,
    wanted: Notify,
    /// How many readings have ended.
    ended: watch::Sender<u64>,
    /// Called with the keys that a reading no longer found.
    withdrawn: Withdrawn,
}

pub(super) type Withdrawn = Box<dyn Fn(&[KeyId]) + Send + Sync>;

struct Held {
    keys: KeySet,
    since: Moment,
}

/// What the keys are read for.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// A key of this name; or any, where there is none yet.
    Named(Option<&'a str>),
    /// A newer key without a name.
    Nameless,
}

/// Whose turn it is to read, and when the next is.
#[derive(Default)]
struct Turn {
    task: Option<AbortHandle>,
    reading: bool,
    /// Whom the reading is for, and the name that is looked for; none for a key without one, of which nobody can say
    /// whether it was found.
    wanted: Option<(Sender, Option<String>)>,
    /// After a failure, nobody has the keys read before this has passed.
    pause: Option<(Moment, Duration)>,
    failures: u32,
    error: Option<Error>,
    lookups: Lookups,
}

impl Jwks {
    pub(super) fn new(origin: Origin, clock: Clock, withdrawn: Withdrawn) -> Arc<Self> {
        Arc::new(Self {
            origin,
            clock,
            held: ArcSwapOption::empty(),
            turn: Mutex::default(),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            withdrawn,
        })
    }

    /// Returns the keys for a token of `sender` with this `kid`: those at hand, without waiting, if they know it.
    pub(super) async fn keys(self: &Arc<Self>, kid: Option<&str>, sender: Sender) -> Result<Keys, Refusal> {
        let at_hand = || self.at_hand(kid);
        if let Some(keys) = at_hand() {
            return Ok(keys);
        }
        if kid.is_some_and(|kid| kid.len() > LONGEST_KID) {
            return Err(unknown_key());
        }
        self.read_for(Wanted::Named(kid), sender, at_hand).await?.ok_or_else(unknown_key)
    }

    /// Returns keys read after these, for a token that none of these has signed, and of which no name says whose it is:
    /// there may be newer ones. `None` if names say it, or they were read for this sender a short time ago.
    pub(super) async fn keys_anew(
        self: &Arc<Self>,
        kid: Option<&str>,
        sender: Sender,
        these: &Keys,
    ) -> Result<Option<Keys>, Refusal> {
        if these.names(kid) {
            return Ok(None);
        }
        let newer = || self.at_hand(kid).filter(|keys| !keys.are(these));
        if let Some(newer) = newer() {
            return Ok(Some(newer));
        }
        self.read_for(Wanted::Nameless, sender, newer).await
    }

    /// Reads them for the first time, where that has not been done.
    pub(super) async fn prefetch(self: &Arc<Self>) -> Result<()> {
        let outcome = self.keys(None, Sender::Unknown).await;
        outcome.map(drop).map_err(|refusal| {
            let error = self.lock().error.clone();
            error.unwrap_or_else(|| Error::new(ErrorKind::AuthServerUnavailable, refusal.reason()))
        })
    }

    /// Has the keys read again in the background, unless a reading is under way, or the pause after a failed one.
    pub(super) fn refresh(self: &Arc<Self>) {
        let mut turn = self.lock();
        let held = self.held.load().is_some();
        let pauses = turn.pause_left(&self.clock.now()).is_some();
        if held && !turn.reading && !pauses && !self.attend(&mut turn) {
            turn.reading = true;
            self.wanted.notify_one();
        }
    }

    /// Returns when the keys at hand were read, by the monotonic clock.
    pub(super) fn since(&self) -> Option<Duration> {
        self.held.load().as_ref().map(|held| held.since.monotonic)
    }

    fn at_hand(self: &Arc<Self>, kid: Option<&str>) -> Option<Keys> {
        let held = self.held.load();
        let keys = held.as_ref()?;
        let age = self.clock.now().since(&keys.since);
        if age >= MAX_AGE {
            // The task may have ended with its runtime.
            self.attend(&mut self.lock());
        }
        (age < MAX_STALE && keys.keys.knows(kid)).then_some(Keys(held))
    }

    /// Has the keys read, if that may be, and returns what `found` makes of them. Those that come meanwhile wait for the
    /// same reading. It may have begun before their key was published, so one that does not find it is followed by another.
    async fn read_for<T>(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        sender: Sender,
        found: impl Fn() -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let has_joined = match self.read_once(wanted, sender).await? {
            Read::Refused => return Ok(None),
            Read::Joined => true,
            Read::Begun => false,
        };
        if let Some(found) = found() {
            return Ok(Some(found));
        }
        if let Some(error) = &self.lock().error {
            return Err(Refusal::unavailable(error.retry_after()));
        }
        if has_joined {
            self.read_once(wanted, sender).await?;
        }
        Ok(found())
    }

    async fn read_once(self: &Arc<Self>, wanted: Wanted<'_>, sender: Sender) -> Result<Read, Refusal> {
        let mut ended = self.ended.subscribe();
        let before = *ended.borrow();
        let read = {
            let mut turn = self.lock();
            if turn.task.as_ref().is_some_and(AbortHandle::is_finished) {
                turn.reading = false;
            }
            if turn.reading {
                Read::Joined
            } else {
                let now = self.clock.now();
                if let Some(left) = turn.pause_left(&now) {
                    return Err(Refusal::unavailable(Some(left)));
                }
                let kid = match wanted {
                    Wanted::Named(kid) => kid,
                    Wanted::Nameless => None,
                };
                let is_lookup =
                    self.held.load().is_some() && (kid.is_some() || matches!(wanted, Wanted::Nameless));
                if is_lookup {
                    match (turn.lookups.judge(kid, sender, &now), wanted) {
                        (Verdict::Read, _) => {}
                        (Verdict::InVain, Wanted::Named(_)) => return Err(unknown_key()),
                        (Verdict::InVain | Verdict::Cooling(_), Wanted::Nameless) => {
                            return Ok(Read::Refused);
                        }
                        (Verdict::Later(left) | Verdict::Cooling(left), _) => return Err(too_new(left)),
                    }
                }
                if !self.attend(&mut turn) {
                    if turn.task.as_ref().is_none_or(AbortHandle::is_finished) {
                        // Outside of a runtime nothing can be read, nor waited for.
                        return Err(Refusal::unavailable(None));
                    }
                    self.wanted.notify_one();
                }
                turn.reading = true;
                turn.wanted = is_lookup.then(|| (sender, kid.map(str::to_owned)));
                Read::Begun
            }
        };
        let reading = async {
            // It cannot end early: the sender lives as long as `self`.
            let _ = ended.changed().await;
        };
        tokio::select! {
            biased;
            () = reading => {}
            () = self.clock.wait(PATIENCE + Duration::from_secs(1)) => {}
        }
        if *ended.borrow() > before { Ok(read) } else { Err(Refusal::unavailable(None)) }
    }

    /// Starts the task where none runs; says whether it did.
    fn attend(self: &Arc<Self>, turn: &mut Turn) -> bool {
        if turn.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return false;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
        turn.reading = true;
        turn.task = Some(runtime.spawn(self.clone().keep()).abort_handle());
        true
    }

    /// The one task that reads: at once, then ahead of each age, and whenever it is asked.
    async fn keep(self: Arc<Self>) {
        loop {
            let outcome = tokio::select! {
                outcome = self.read() => outcome,
                () = self.clock.wait(PATIENCE) => Err(Error::new(
                    ErrorKind::AuthServerUnavailable,
                    format!("the key set was not read within {} s", PATIENCE.as_secs()),
                ).with_server(self.origin.issuer.as_str())),
            };
            let (ended, next) = (self.clock.now(), self.note(outcome));
            loop {
                let left = next.saturating_sub(self.clock.now().since(&ended));
                tokio::select! {
                    () = self.clock.wait(left) => {}
                    () = self.wanted.notified() => {}
                }
                let mut turn = self.lock();
                // A wish may be left over from a reading that has ended.
                turn.reading |= next <= self.clock.now().since(&ended);
                if turn.reading {
                    break;
                }
            }
        }
    }

    async fn read(&self) -> Result<KeySet> {
        let Origin { issuer, jwks_url, allow_insecure, transport, discovery, allowed } = &self.origin;
        let url = match jwks_url {
            Some(url) => url.clone(),
            None => {
                let nobody = Credentials { app_id: String::new(), app_secret: "".into(), generation: 0 };
                let metadata =
                    discovery.metadata(issuer, *allow_insecure, &**transport, &self.clock, &nobody).await?;
                metadata.jwks_uri.clone().ok_or_else(|| {
                    Error::new(ErrorKind::InvalidResponse, "the issuer's metadata name no usable `jwks_uri`")
                        .with_server(metadata.read_from.as_str())
                        .advice("set `jwks_url`, or have tokens introspected")
                })?
            }
        };
        let document = fetch("the key set", &url, &**transport, &self.clock).await.inspect_err(|_| {
            // The metadata may be those of yesterday.
            discovery.doubt();
        })?;
        KeySet::parse(&document, allowed).map_err(|what| {
            Error::new(ErrorKind::InvalidResponse, what)
                .with_server(crate::origin::shown(&url))
                .retryable(true)
        })
    }

    /// Keeps what a reading gave, and says how long it is until the next.
    fn note(&self, outcome: Result<KeySet>) -> Duration {
        let now = self.clock.now();
        let mut turn = self.lock();
        let mut withdrawn = Vec::new();
        let next = match outcome {
            Ok(keys) => {
                match turn.wanted.take() {
                    Some((_, Some(kid))) if keys.knows(Some(&kid)) => turn.lookups.found(),
                    Some((sender, kid)) => turn.lookups.in_vain(kid.as_deref(), sender, now),
                    None => {}
                }
                (turn.failures, turn.error, turn.pause) = (0, None, None);
                let newer = Arc::new(Held { keys, since: now });
                if let Some(old) = self.held.swap(Some(newer.clone())) {
                    withdrawn = old.keys.withdrawn_in(&newer.keys);
                    let knows = |kid: &str| newer.keys.names_of_keys().any(|name| name == kid);
                    let gone = old.keys.names_of_keys().filter(|kid| !knows(kid));
                    turn.lookups.published(knows, gone);
                }
                MAX_AGE.mul_f64(0.75 + 0.15 * fastrand::f64())
            }
            Err(error) => {
                let doubled = BACKOFF.0.saturating_mul(1 << turn.failures.min(6)).min(BACKOFF.1);
                let jittered = doubled.mul_f64(0.5 + 0.5 * fastrand::f64());
                // Never earlier than the server wants, and not together with those who were told the same.
                let wait = error.retry_after().unwrap_or_default().min(5 * BACKOFF.1);
                let pause = jittered.max(wait + (wait / 2).min(BACKOFF.1).mul_f64(fastrand::f64()));
                let error = error.with_retry_after(Some(pause));
                if turn.failures == 0 {
                    tracing::warn!(target: "evertoken", %error, "the issuer's keys could not be read; those at hand serve on");
                }
                turn.failures = turn.failures.saturating_add(1);
                // The task tries again after its pause; unknown names bring that about no sooner than they may at all.
                let held = self.held.load().is_some();
                turn.pause = Some((now, if held { pause.max(COOLDOWN) } else { pause }));
                turn.error = Some(error);
                pause
            }
        };
        turn.reading = false;
        drop(turn);
        if !withdrawn.is_empty() {
            tracing::info!(
                target: "evertoken", keys = withdrawn.len(),
                "the issuer withdrew signing keys: the tokens they signed are forgotten"
            );
            (self.withdrawn)(&withdrawn);
        }
        self.ended.send_modify(|ended| *ended += 1);
        next
    }

    /// What is told of them: how many, how old, and what went wrong last.
    pub(super) fn condition(&self) -> (usize, Option<Duration>, Option<Error>) {
        let held = self.held.load();
        let age = held.as_ref().map(|held| self.clock.now().since(&held.since));
        (held.as_ref().map_or(0, |held| held.keys.len()), age, self.lock().error.clone())
    }

    /// Ends the task.
    pub(super) fn stop(&self) {
        if let Some(task) = self.lock().task.take() {
            task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has become of a wish to have the keys read.
enum Read {
    Begun,
    /// Somebody else has begun it before.
    Joined,
    Refused,
}

fn too_new(left: Duration) -> Refusal {
    let reason = "the key that signed it may be too new to be known here: try again";
    Refusal::new(RefusalKind::Unavailable, reason).after(Some(left))
}

fn unknown_key() -> Refusal {
    Refusal::token("it is signed with a key that its issuer does not publish")
}

impl Turn {
    fn pause_left(&self, now: &Moment) -> Option<Duration> {
        let (since, pause) = self.pause?;
        Some(pause.saturating_sub(now.since(&since))).filter(|left| !left.is_zero())
    }
}

/// The keys at hand.
pub(super) struct Keys(Guard<Option<Arc<Held>>>);

impl Keys {
    /// Whether they come from the same reading.
    fn are(&self, others: &Self) -> bool {
        self.0.as_ref().zip(others.0.as_ref()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    fn names(&self, kid: Option<&str>) -> bool {
        self.0.as_ref().is_some_and(|held| held.keys.names(kid))
    }

    pub(super) fn verifies(
        &self,
        kid: Option<&str>,
        of: TokenAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<KeyId> {
        self.0.as_ref()?.keys.verifies(kid, of, message, signature)
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, age, error) = self.condition();
        f.debug_struct("Jwks").field("keys", &keys).field("age", &age).field("error", &error).finish()
    }
}
