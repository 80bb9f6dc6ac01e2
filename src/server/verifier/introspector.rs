use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

use super::cache::{Place, Verified};
use super::profile::{self, Expected};
use crate::clock::{Clock, Moment};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind};
use crate::grant::TokenEndpoint;
use crate::server::caller::Identity;
use crate::server::digest::Digest;
use crate::server::refusal::Refusal;

/// How many tokens are asked about at once; the others wait.
const AT_ONCE: usize = 64;

/// How long one answer may take, and how long the wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of the turns, how many are for tokens that were good when they were last asked about: whoever makes up tokens cannot
/// shut these out.
const FOR_KNOWN: usize = AT_ONCE / 4;

/// How long a token that is no good is not asked about again, and how many of them are held.
const REFUSED_FOR: Duration = Duration::from_secs(30);
const MOST_REFUSED: usize = 4096;

/// After a failure, how long nobody asks.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks the authorization server about opaque tokens (RFC 7662): once for each, whoever else comes with it meanwhile.
pub(super) struct Introspector {
    pub(super) endpoint: TokenEndpoint,
    pub(super) credentials: Credentials,
    pub(super) url: Option<Url>,
    pub(super) max_age: Duration,
    pub(super) audience_optional: bool,
    clock: Clock,
    asking: Mutex<HashMap<Digest, Arc<Question>>>,
    refused: Cache<Digest, (Moment, &'static str)>,
    turns: Semaphore,
    turns_for_known: Semaphore,
    failed: Mutex<Option<(Moment, Duration)>>,
}

type Question = OnceCell<Result<Arc<Identity>, Refusal>>;

const INACTIVE: &str = "it has ended, or the authorization server does not know it";

impl Introspector {
    pub(super) fn new(endpoint: TokenEndpoint, credentials: Credentials, clock: Clock) -> Self {
        Self {
            endpoint,
            credentials,
            url: None,
            max_age: Duration::from_secs(30),
            audience_optional: false,
            clock,
            asking: Mutex::default(),
            refused: Cache::new(MOST_REFUSED),
            turns: Semaphore::new(AT_ONCE - FOR_KNOWN),
            turns_for_known: Semaphore::new(FOR_KNOWN),
            failed: Mutex::default(),
        }
    }

    pub(super) async fn judge(
        &self,
        token: &str,
        place: Place,
        expected: &Expected<'_>,
        verified: &Verified,
    ) -> Result<Arc<Identity>, Refusal> {
        let now = self.clock.now();
        if let Some((since, why)) = self.refused.get(&place.key)
            && now.since(&since) < REFUSED_FOR
        {
            return Err(Refusal::token(why));
        }
        let asked = Asked {
            by: self,
            key: place.key,
            question: lock(&self.asking).entry(place.key).or_default().clone(),
        };
        asked.question.get_or_init(|| self.ask(token, place, expected, verified)).await.clone()
    }

    async fn ask(
        &self,
        token: &str,
        place: Place,
        expected: &Expected<'_>,
        verified: &Verified,
    ) -> Result<Arc<Identity>, Refusal> {
        if let Some((since, pause)) = *lock(&self.failed) {
            let left = pause.saturating_sub(self.clock.now().since(&since));
            if !left.is_zero() {
                return Err(Refusal::unavailable(Some(left)));
            }
        }
        let _turn = tokio::select! {
            biased;
            turn = self.turns.acquire() => turn,
            turn = self.turns_for_known.acquire(), if verified.last(place).is_some() => turn,
            // The crowd is here, and says nothing of the server.
            () = self.clock.wait(PATIENCE) => return Err(Refusal::unavailable(Some(PAUSE))),
        };
        let answer = self.endpoint.introspect(&self.clock, &self.credentials, token, self.url.as_ref());
        let answer = tokio::select! {
            answer = answer => answer,
            () = self.clock.wait(PATIENCE) => Err(self.endpoint.silent(PATIENCE)),
        };
        match answer {
            Ok(Some(mut claims)) => {
                *lock(&self.failed) = None;
                if self.audience_optional && claims.get("aud").is_none_or(serde_json::Value::is_null) {
                    claims.insert("aud".to_owned(), expected.audiences.to_vec().into());
                }
                let identity =
                    profile::introspected(claims, expected).map_err(|why| self.refuse(place, why))?;
                expected.check_life(&identity)?;
                let latest = expected.now.wall.saturating_add(self.max_age);
                let until = identity.expires.map_or(latest, |expires| expires.min(latest));
                Ok(verified.put(place, identity, until, None))
            }
            Ok(None) => {
                *lock(&self.failed) = None;
                verified.forget(place);
                Err(self.refuse(place, INACTIVE))
            }
            Err(error) => Err(self.unanswered(&error)),
        }
    }

    /// Forgets which tokens were no good.
    pub(super) fn purge(&self) {
        self.refused.clear();
    }

    /// And the same is said of it for a while without asking.
    fn refuse(&self, place: Place, why: &'static str) -> Refusal {
        self.refused.insert(place.key, (self.clock.now(), why));
        Refusal::token(why)
    }

    fn unanswered(&self, error: &Error) -> Refusal {
        let pause = match error.kind() {
            ErrorKind::Throttled => error.retry_after().unwrap_or(PAUSE),
            _ => error.retry_after().unwrap_or(PAUSE).min(10 * PAUSE),
        };
        let pause = pause.clamp(PAUSE, 300 * PAUSE);
        let mut failed = lock(&self.failed);
        if failed.is_none() {
            tracing::warn!(target: "evertoken", %error, "introspection failed; the tokens at hand serve on");
        }
        *failed = Some((self.clock.now(), pause));
        Refusal::unavailable(Some(pause))
    }
}

/// Takes the question away when the last who waits for it lets go.
struct Asked<'a> {
    by: &'a Introspector,
    key: Digest,
    question: Arc<Question>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut asking = lock(&self.by.asking);
        let is_ours = asking.get(&self.key).is_some_and(|question| Arc::ptr_eq(question, &self.question));
        // One here, one in the map.
        if is_ours && (self.question.initialized() || Arc::strong_count(&self.question) == 2) {
            asking.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Introspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspector")
            .field("endpoint", &self.endpoint)
            .field("credentials", &self.credentials)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}
