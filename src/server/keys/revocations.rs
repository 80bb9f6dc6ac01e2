//! Apps whose tokens are refused before they end, and how other replicas learn of it. How a verifier applies it to a token's
//! times is in `server::verifier::issue_time`.
//!
//! `turn` is held while a shard of `moments` is replaced; hooks are called without a lock.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::admin::Managed;
use super::said;
use crate::clock::{Clock, Moment, system_time};
use crate::error::{Error, Result};

/// By how much a token may exceed the longest lifetime: servers round, and count from when the request came.
pub(crate) const TOLERANCE: Duration = Duration::from_secs(60);

/// For how much longer than the longest lifetime each is kept: a token's `iat` may be ahead by the longest leeway of a
/// verifier, and the token is taken for as long after its `exp`.
const GRACE: Duration = Duration::from_secs(2 * 300 + TOLERANCE.as_secs());

/// How many are kept at most.
const CAPACITY: usize = 100_000;

/// A change replaces one of so many parts of all that is kept.
const SHARDS: usize = 256;

/// What is out of date is looked for no more often than this.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// From this moment on tokens of this app are refused that were issued before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Revocation {
    /// OAuth's `client_id`.
    pub app_id: String,
    /// The moment.
    pub at: SystemTime,
}

impl Revocation {
    /// As a replica got it.
    pub fn new(app_id: impl Into<String>, at: SystemTime) -> Self {
        Self { app_id: app_id.into(), at }
    }
}

/// How revocations come to the other replicas: a message bus, a table, Redis. What comes from them goes to
/// [`Revocations::apply`].
pub trait RevocationChannel: Send + Sync + 'static {
    /// Sends it to all; when this is done, it is on its way.
    fn publish<'a>(&'a self, revocation: &'a Revocation) -> Managed<'a, ()>;
}

type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// Apps whose tokens are refused though they have not expired: what makes a deleted or reset key void at once, where the
/// API verifies tokens by itself (a JWT knows nothing of its client's end).
///
/// All tokens that were issued up to the moment are refused: to the second in which they were issued, since a JWT's `iat`
/// says no more, and where they do not say when, all of them. Each is kept until the last of these tokens has expired by
/// itself: for the longest lifetime that tokens have. A verifier with revocations refuses tokens that live longer, and
/// logs a warning. There are 100,000 at most.
///
/// # Clocks
///
/// The moment is told by this machine's clock, and `iat` by the authorization server's. If tokens show that the server's
/// clock is ahead, the verifier's leeway is added to the moment, so that none of the old tokens survives; tokens that are
/// issued within that time are refused as well. If this machine's clock is ahead, new tokens that come as bearer tokens are
/// refused until the server's clock has passed the moment. An [`Exchange`](crate::server::Exchange) knows when it asked for
/// a token, and so serves an app that was just reset at once. A moment of another replica that lies in the future counts as
/// now.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use evertoken::server::Revocations;
///
/// # #[tokio::main]
/// # async fn main() -> evertoken::Result<()> {
/// let revocations = Revocations::new(Duration::from_secs(86_400));
/// let issued_at = SystemTime::now();
/// revocations.revoke("app-7").await?;
/// assert!(revocations.is_revoked("app-7", Some(issued_at)));
/// assert!(!revocations.is_revoked("app-7", Some(issued_at + Duration::from_secs(2))));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

/// The latest moment of each app.
type Moments = HashMap<Arc<str>, Known>;

struct Inner {
    longest_lifetime: Duration,
    /// The latest moment of each app, by its hash. Each shard is replaced whole, so that looking takes no lock.
    moments: Box<[ArcSwap<Moments>]>,
    hasher: RandomState,
    /// How many moments there are.
    count: AtomicUsize,
    /// When what is out of date was last removed. Whoever replaces a shard, holds this.
    turn: Mutex<Option<Moment>>,
    hooks: Mutex<Vec<Arc<Hook>>>,
    channel: Option<Box<dyn RevocationChannel>>,
    clock: Clock,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Not in the future of the clock here.
    at: SystemTime,
    /// As the replica that revoked has told it.
    told: SystemTime,
    /// When it came here.
    since: Moment,
}

impl Revocations {
    /// For tokens that live for so long at most, with a minute of tolerance. Each revocation is kept for eleven minutes
    /// longer than that, since a verifier may give five of leeway at either end of a token's life.
    pub fn new(longest_lifetime: Duration) -> Self {
        Self::make(longest_lifetime, None, Clock::System)
    }

    /// The same, told to the other replicas.
    pub fn replicated(longest_lifetime: Duration, channel: impl RevocationChannel) -> Self {
        Self::make(longest_lifetime, Some(Box::new(channel)), Clock::System)
    }

    pub(super) fn make(
        longest_lifetime: Duration,
        channel: Option<Box<dyn RevocationChannel>>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner {
            longest_lifetime,
            moments: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            turn: Mutex::default(),
            hooks: Mutex::default(),
            channel,
            clock,
        }))
    }

    /// Refuses all tokens of this app that were issued up to now, here and by the other replicas.
    ///
    /// # Errors
    /// - [`Configuration`](crate::ErrorKind::Configuration) where there are 100,000 already.
    /// - [`Api`](crate::ErrorKind::Api) where the channel failed; here they are refused all the same.
    pub async fn revoke(&self, app_id: &str) -> Result<()> {
        let revocation = Revocation::new(app_id, system_time(self.0.clock.now().wall));
        self.apply(&revocation)?;
        match &self.0.channel {
            Some(channel) => channel
                .publish(&revocation)
                .await
                .map_err(|error| said("the revocation holds here, but could not be passed on", &*error)),
            None => Ok(()),
        }
    }

    /// Takes the time from elsewhere, for tests. Does nothing if the handle was cloned before.
    #[cfg(any(test, feature = "testing"))]
    pub fn clock(self, clock: Arc<dyn crate::clock::TimeSource>) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { clock: Clock::Injected(clock), ..inner })),
            Err(shared) => Self(shared),
        }
    }

    pub(crate) fn longest_lifetime(&self) -> Duration {
        self.0.longest_lifetime
    }

    /// Returns for how long each revocation is kept.
    pub(crate) fn kept_for(&self) -> Duration {
        self.0.longest_lifetime.saturating_add(GRACE)
    }

    /// Takes over what another replica has revoked. A moment in the future counts as now, and a revocation that was
    /// delivered before changes nothing.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where there are 100,000 already.
    pub fn apply(&self, revocation: &Revocation) -> Result<()> {
        self.apply_all([revocation])
    }

    /// Takes over all that other replicas have revoked, such as at the start of a process, in one go.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if there are 100,000 already, for the first that finds no room.
    /// All that find room are taken over regardless. What is out of date makes room once a minute.
    pub fn apply_all<'a>(&self, revocations: impl IntoIterator<Item = &'a Revocation>) -> Result<()> {
        let inner = &*self.0;
        let mut shards: HashMap<usize, Vec<&Revocation>> = HashMap::new();
        for revocation in revocations {
            shards.entry(inner.shard(&revocation.app_id)).or_default().push(revocation);
        }
        let mut applied = Vec::new();
        let mut is_full = false;
        {
            let now = inner.clock.now();
            let mut turn = lock(&inner.turn);
            self.prune(&mut turn, &now);
            for (shard, revocations) in shards {
                let mut moments = HashMap::clone(&inner.moments[shard].load());
                for revocation in revocations {
                    let app_id = revocation.app_id.as_str();
                    let known = moments.get(app_id).copied();
                    if known.is_some_and(|known| known.told == revocation.at) {
                        continue;
                    }
                    if known.is_none() {
                        if inner.count.load(Ordering::Relaxed) >= CAPACITY {
                            is_full = true;
                            continue;
                        }
                        inner.count.fetch_add(1, Ordering::Relaxed);
                    }
                    let at = revocation.at.min(system_time(now.wall));
                    let at = known.map_or(at, |known| known.at.max(at));
                    moments.insert(app_id.into(), Known { at, told: revocation.at, since: now });
                    applied.push(app_id);
                }
                inner.moments[shard].store(Arc::new(moments));
            }
        }
        let hooks = lock(&inner.hooks).clone();
        for app_id in applied {
            hooks.iter().for_each(|hook| hook(app_id));
        }
        if is_full {
            return Err(Error::configuration(format!(
                "{CAPACITY} apps are revoked already, and this one is not"
            ))
            .advice("disable it at the authorization server; there is room when the oldest have ended"));
        }
        Ok(())
    }

    /// Whether a token of this app that was issued then is refused. `None` where the token does not say when.
    pub fn is_revoked(&self, app_id: &str, issued_at: Option<SystemTime>) -> bool {
        self.is_revoked_at(app_id, || issued_at)
    }

    /// The same, with the time looked for only if the app was revoked at all.
    pub(crate) fn is_revoked_at(&self, app_id: &str, issued_at: impl FnOnce() -> Option<SystemTime>) -> bool {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.known(app_id)
            .is_some_and(|known| issued_at().is_none_or(|issued_at| seconds(issued_at) <= seconds(known.at)))
    }

    /// Whether a token of this app is refused that this process asked for at `asked`, by the same clock as the moment: it
    /// may be told within the second.
    pub(crate) fn is_revoked_before(&self, app_id: &str, asked: SystemTime) -> bool {
        self.known(app_id).is_some_and(|known| asked <= known.at)
    }

    fn known(&self, app_id: &str) -> Option<Known> {
        if self.0.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.0.moments[self.0.shard(app_id)].load().get(app_id).copied()
    }

    /// Removes what is out of date, unless that was done a moment ago.
    fn prune(&self, turn: &mut Option<Moment>, now: &Moment) {
        if turn.as_ref().is_some_and(|last| now.since(last) < PRUNE_EVERY) {
            return;
        }
        *turn = Some(*now);
        let inner = &*self.0;
        let kept_for = self.kept_for();
        for shard in &inner.moments {
            let mut moments = HashMap::clone(&shard.load());
            let before = moments.len();
            // By the clock that nobody sets: a wall clock that is ahead for a while must not have them all forgotten.
            moments.retain(|_, known| now.since(&known.since) <= kept_for);
            if moments.len() < before {
                inner.count.fetch_sub(before - moments.len(), Ordering::Relaxed);
                shard.store(Arc::new(moments));
            }
        }
    }

    /// Has this called with each app id that is revoked, here or by another replica.
    pub(crate) fn on_revoked(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        lock(&self.0.hooks).push(Arc::new(Box::new(hook)));
    }
}

impl Inner {
    #[expect(clippy::cast_possible_truncation, reason = "any part of a hash will do")]
    fn shard(&self, app_id: &str) -> usize {
        self.hasher.hash_one(app_id) as usize % SHARDS
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("longest_lifetime", &self.0.longest_lifetime)
            .field("apps", &self.0.count.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::testing::ManualClock;

    const DAY: Duration = Duration::from_secs(86_400);

    fn scene() -> (Arc<ManualClock>, Revocations) {
        let clock = Arc::new(ManualClock::new(UNIX_EPOCH + Duration::from_millis(1_000_500)));
        let revocations = Revocations::make(DAY, None, Clock::Injected(clock.clone()));
        (clock, revocations)
    }

    #[tokio::test]
    async fn what_was_issued_up_to_the_moment_is_refused_and_no_more() {
        let (clock, revocations) = scene();
        let at = |millis| Some(UNIX_EPOCH + Duration::from_millis(millis));
        assert!(!revocations.is_revoked("app", at(0)) && !revocations.is_revoked("app", None));
        revocations.revoke("app").await.unwrap();
        for (issued, refused) in [
            (at(0), true),
            (at(1_000_000), true),
            (at(1_000_999), true),
            (at(1_001_000), false),
            (None, true),
        ] {
            assert_eq!(revocations.is_revoked("app", issued), refused, "{issued:?}");
        }
        assert!(!revocations.is_revoked("other", at(0)) && !revocations.is_revoked("ap", None));
        // The later one counts, whichever comes first.
        clock.advance(Duration::from_secs(10));
        revocations.revoke("app").await.unwrap();
        revocations.apply(&Revocation::new("app", UNIX_EPOCH)).unwrap();
        assert!(
            revocations.is_revoked("app", at(1_010_999)) && !revocations.is_revoked("app", at(1_011_000))
        );
    }

    #[tokio::test]
    async fn each_is_kept_for_the_longest_lifetime() {
        let (clock, revocations) = scene();
        revocations.revoke("app").await.unwrap();
        clock.advance(DAY + GRACE);
        revocations.revoke("other").await.unwrap();
        assert!(revocations.is_revoked("app", None));
        clock.advance(Duration::from_millis(1));
        revocations.revoke("third").await.unwrap();
        assert!(revocations.is_revoked("app", None), "they are looked through once a minute");
        clock.advance(PRUNE_EVERY);
        revocations.revoke("third").await.unwrap();
        assert!(!revocations.is_revoked("app", None) && revocations.is_revoked("other", None));
    }

    /// Neither a wall clock that is ahead for a while nor one that is set back.
    #[tokio::test]
    async fn set_clocks_neither_lose_one_nor_keep_it_for_ever() {
        let (clock, revocations) = scene();
        revocations.revoke("app").await.unwrap();
        let before = clock.wall();
        clock.set_wall(before + 30 * DAY);
        revocations.revoke("other").await.unwrap();
        clock.set_wall(before - DAY / 2);
        revocations.revoke("third").await.unwrap();
        assert!(["app", "other", "third"].iter().all(|app_id| revocations.is_revoked(app_id, None)));
        clock.advance(DAY + GRACE + Duration::from_millis(1));
        revocations.revoke("fourth").await.unwrap();
        assert!(["app", "other", "third"].iter().all(|app_id| !revocations.is_revoked(app_id, None)));
    }

    #[test]
    fn a_moment_in_the_future_counts_as_now_and_only_the_first_time() {
        let (clock, revocations) = scene();
        let calls = Arc::new(Mutex::new(0));
        let counted = calls.clone();
        revocations.on_revoked(move |_| *lock(&counted) += 1);
        let begun = clock.wall();
        let second = Duration::from_secs(1);
        let ahead = Revocation::new("app", begun + 30 * second);
        for _ in 0..3 {
            revocations.apply(&ahead).unwrap();
            assert!(revocations.is_revoked("app", Some(begun)));
            assert!(!revocations.is_revoked("app", Some(begun + second)));
            clock.advance(5 * second);
        }
        assert_eq!(*lock(&calls), 1);
        // Another one by a clock that is right comes after it, though it is dated before.
        revocations.apply(&Revocation::new("app", clock.wall())).unwrap();
        assert!(revocations.is_revoked("app", Some(begun + 15 * second)));
        assert!(!revocations.is_revoked("app", Some(begun + 16 * second)));
        assert_eq!(*lock(&calls), 2);
    }

    #[test]
    fn they_are_bounded_and_say_so() {
        let (clock, revocations) = scene();
        let all: Vec<_> =
            (0..CAPACITY).map(|number| Revocation::new(format!("app-{number}"), clock.wall())).collect();
        revocations.apply_all(&all).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        revocations.on_revoked(move |app_id| lock(&told).push(app_id.to_owned()));
        clock.advance(Duration::from_secs(1));
        let some = ["one more", "app-8", "another"].map(|app_id| Revocation::new(app_id, clock.wall()));
        assert_eq!(revocations.apply_all(&some).unwrap_err().kind(), ErrorKind::Configuration);
        assert_eq!(*lock(&seen), ["app-8"]);
        assert!(!revocations.is_revoked("one more", None) && revocations.is_revoked("app-8", None));
        let error = revocations.apply(&Revocation::new("one more", clock.wall())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        revocations.apply(&Revocation::new("app-7", clock.wall())).unwrap();
        // There is room when the oldest have ended.
        clock.advance(DAY + GRACE + Duration::from_millis(1));
        revocations.apply(&Revocation::new("one more", clock.wall())).unwrap();
        assert!(revocations.is_revoked("one more", None) && !revocations.is_revoked("app-7", None));
    }

    /// One after the other, as a message bus brings them; a copy of all for each took minutes.
    #[test]
    fn forty_thousand_one_by_one_copy_no_more_than_they_must() {
        let (clock, revocations) = scene();
        for number in 0..40_000 {
            revocations.apply(&Revocation::new(format!("app-{number}"), clock.wall())).unwrap();
        }
        let all = (0..40_000).all(|number| revocations.is_revoked(&format!("app-{number}"), None));
        assert!(all && !revocations.is_revoked("app-40000", None));
        let largest = revocations.0.moments.iter().map(|shard| shard.load().len()).max();
        assert!(largest.is_some_and(|largest| largest < 1_000), "{largest:?}");
        assert_eq!(revocations.0.count.load(Ordering::Relaxed), 40_000);
    }

    /// Two replicas, and a bus between them that may be down.
    #[tokio::test]
    async fn the_other_replicas_are_told() {
        struct Bus(Revocations, Mutex<bool>);

        impl RevocationChannel for Arc<Bus> {
            fn publish<'a>(&'a self, revocation: &'a Revocation) -> Managed<'a, ()> {
                Box::pin(async move {
                    if *lock(&self.1) {
                        return Err("the bus is down".into());
                    }
                    let line = serde_json::to_string(revocation)?;
                    Ok(self.0.apply(&serde_json::from_str(&line)?)?)
                })
            }
        }

        let replica = Revocations::new(DAY);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        replica.on_revoked(move |app_id| lock(&told).push(app_id.to_owned()));
        let bus = Arc::new(Bus(replica.clone(), Mutex::new(false)));
        let here = Revocations::replicated(DAY, bus.clone());
        here.revoke("app").await.unwrap();
        assert!(here.is_revoked("app", None) && replica.is_revoked("app", None));
        *lock(&bus.1) = true;
        let error = here.revoke("other").await.unwrap_err();
        assert!(error.to_string().contains("the bus is down"), "{error}");
        assert!(here.is_revoked("other", None) && !replica.is_revoked("other", None));
        assert_eq!(*lock(&seen), ["app"]);
    }
}
