use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::file::Unread;
use super::source::{CredentialSource, Kind, Provider};
use super::text::Field;
use super::{AppCredentials, Credentials, checked_app_id};
use crate::caught::caught;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::padding;
use crate::secret::{ExposeSecret, SecretString, one_line};

/// How often a file is looked at.
const FILE_WATCH: Duration = Duration::from_secs(1);
/// How often a provider is asked while the server refuses what it gave.
const PROVIDER_WATCH: Duration = Duration::from_secs(15);
/// A file that is the same after this pause is not being written.
const PAUSE: Duration = Duration::from_millis(50);
/// Of the text of a provider's error, in characters.
const LONGEST_TEXT: usize = 200;

/// The credentials of a family of sources, where they come from, and the news of their change.
pub(crate) struct CredentialCell {
    source: Kind,
    needs_secret: bool,
    known: watch::Sender<Option<Known>>,
    state: Mutex<State>,
    /// When the source last gave an answer; whoever asks holds it.
    asked: tokio::sync::Mutex<Option<Moment>>,
}

/// What is in use, and what is to be tried where that is refused.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) current: Arc<Credentials>,
    pub(crate) next: Option<Arc<Credentials>>,
}

#[derive(Default)]
struct State {
    /// By the source, the last time; what is known may have moved on since.
    given: Option<AppCredentials>,
    generations: u64,
    /// What was last told to be wrong with the source.
    problem: Option<String>,
    /// The warnings about ids and secrets that were logged, so that each is logged once.
    warned: BTreeSet<String>,
}

/// Which answer of the source will do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Good {
    /// One that is younger.
    For(Duration),
    /// One that was asked for later.
    Since(Moment),
}

/// What a change of credentials came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// What is in use stays, but there is more to try than there was.
    Untried,
    Secret,
    AppId,
}

impl Change {
    pub(crate) fn between(before: Option<&Known>, after: Option<&Known>) -> Self {
        match (before, after) {
            (_, None) => Change::None,
            (None, Some(_)) => Change::Untried,
            (Some(before), Some(after)) if before.current.app_id != after.current.app_id => Change::AppId,
            (Some(before), Some(after)) if before.current.generation != after.current.generation => {
                Change::Secret
            }
            (Some(before), Some(after)) => {
                let of = |known: &Known| known.next.as_ref().map(|next| next.generation);
                if after.next.is_some() && of(before) != of(after) { Change::Untried } else { Change::None }
            }
        }
    }
}

impl CredentialCell {
    /// With what the source has at once. A provider is not asked, and files that are missing or torn are waited for.
    ///
    /// # Errors
    /// If that is nothing usable.
    pub(crate) fn open(source: CredentialSource, needs_secret: bool) -> Result<Self> {
        let this = Self {
            source: source.0,
            needs_secret,
            known: watch::Sender::new(None),
            state: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
        };
        match &this.source {
            Kind::Mistaken(error) => return Err(error.clone()),
            Kind::Given { credentials, missing } => {
                let credentials = this.trimmed(credentials.clone());
                this.check(&credentials.app_id, &credentials.app_secret).map_err(|error| match missing {
                    Some(missing) if credentials.app_id.is_empty() => missing.app_id.clone(),
                    Some(missing) if credentials.app_secret.expose_secret().is_empty() => {
                        missing.app_secret.clone()
                    }
                    _ => error,
                })?;
                this.take(credentials);
            }
            Kind::Files { files, missing } => {
                if let Some(missing) = missing
                    && needs_secret
                    && !(files.may_have(Field::AppSecret) || files.may_have(Field::ApiKey))
                {
                    return Err(missing.app_secret.clone());
                }
                match files.read() {
                    Ok(given) => {
                        let outcome = this.accept(this.trimmed(given));
                        this.tell(outcome.map_err(|error| error.prefixed(&files.layout)).err().as_ref());
                    }
                    Err(Unread::Unsafe(error)) => return Err(error),
                    // Whoever writes them may be about to.
                    Err(Unread::NotYet(error)) => this.tell(Some(&error.unavailable())),
                }
            }
            Kind::Provider(_) => {}
        }
        Ok(this)
    }

    /// What is known: nothing until a provider or a file has given something.
    pub(crate) fn known(&self) -> Option<Known> {
        self.known.borrow().clone()
    }

    pub(crate) fn get(&self) -> Option<Arc<Credentials>> {
        self.known().map(|known| known.current)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Known>> {
        self.known.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What app id and app secret must be like, so that a mistake is told before anything is asked.
    fn check(&self, app_id: &str, app_secret: &SecretString) -> Result<()> {
        checked_app_id(app_id)?;
        if self.needs_secret && app_secret.expose_secret().is_empty() {
            return Err(Error::configuration("the app secret is empty")
                .advice("give one, or a `client_auth` that needs none, such as `PrivateKeyJwt`"));
        }
        Ok(())
    }

    /// Removes control characters from the ends of ids and secrets, however they got here, and warns of that and of what
    /// else looks wrong: once each, without the value.
    fn trimmed(&self, given: AppCredentials) -> AppCredentials {
        let clean = |name: &str, text: &str| {
            let kept = padding::trimmed(text);
            if kept.len() < text.len() {
                self.warn(format!(
                    "the {name} begins or ends with a control character or a line end; it is removed"
                ));
            }
            if let Some(oddity) = padding::oddity(kept) {
                self.warn(format!("the {name} {oddity}; it is used as it is"));
            }
            kept.len()
        };
        let secret = |name: &str, secret: SecretString| {
            let text = secret.expose_secret();
            if clean(name, text) == text.len() { secret } else { padding::trimmed(text).into() }
        };
        clean("app id", &given.app_id);
        let trimmed =
            AppCredentials::new(padding::trimmed(&given.app_id), secret("app secret", given.app_secret));
        match given.next_secret {
            Some(next) => trimmed.next_secret(secret("next app secret", next)),
            None => trimmed,
        }
    }

    fn warn(&self, problem: String) {
        let mut state = self.state();
        if !state.warned.contains(&problem) {
            tracing::warn!(target: "evertoken", source = %self.source, problem, "odd credentials");
            state.warned.insert(problem);
        }
    }

    /// By hand.
    pub(crate) fn set(&self, app_id: String, app_secret: SecretString) -> Result<()> {
        let given = self.trimmed(AppCredentials::new(app_id, app_secret));
        self.check(&given.app_id, &given.app_secret)?;
        self.change(&mut self.state(), &given);
        Ok(())
    }

    /// By the source.
    fn accept(&self, given: AppCredentials) -> Result<()> {
        self.check(&given.app_id, &given.app_secret)?;
        self.take(given);
        Ok(())
    }

    /// Whether it is another app id with the secret of the one before: files of which one has been replaced.
    fn is_half(&self, given: &AppCredentials) -> bool {
        self.state().given.as_ref().is_some_and(|before| {
            before.app_id != given.app_id
                && before.app_secret.expose_secret() == given.app_secret.expose_secret()
                && !given.app_secret.expose_secret().is_empty()
        })
    }

    /// Only what is new counts: the source need not know that the next secret was promoted, or one set by hand.
    fn take(&self, given: AppCredentials) {
        let mut state = self.state();
        if state.given.as_ref() != Some(&given) {
            self.change(&mut state, &given);
            state.given = Some(given);
        }
    }

    fn change(&self, state: &mut State, to: &AppCredentials) {
        let before = self.known();
        let mut numbered = |secret: &SecretString| {
            let same = |one: &Arc<Credentials>| {
                one.app_id == to.app_id && one.app_secret.expose_secret() == secret.expose_secret()
            };
            let known = before.as_ref().map(|known| (Some(&known.current), known.next.as_ref()));
            let known =
                known.and_then(|(current, next)| current.into_iter().chain(next).find(|one| same(one)));
            known.cloned().unwrap_or_else(|| {
                state.generations += 1;
                let generation = state.generations;
                let (app_id, app_secret) = (to.app_id.clone(), secret.clone());
                Arc::new(Credentials { app_id, app_secret, generation })
            })
        };
        let current = numbered(&to.app_secret);
        let next = to.next_secret.as_ref().filter(|_| self.needs_secret).map(numbered);
        let next = next.filter(|next| next.generation != current.generation);
        self.known.send_replace(Some(Known { current, next }));
    }

    /// The next secret has worked: from now on it is the one.
    pub(crate) fn promote(&self, used: &Credentials) {
        let _state = self.state();
        if let Some(next) = self.known().and_then(|known| known.next)
            && next.generation == used.generation
        {
            self.known.send_replace(Some(Known { current: next, next: None }));
        }
    }

    /// Asks the source, unless a provider has given an answer that will do. What is new in it is known when this returns.
    ///
    /// # Errors
    /// Where it gives nothing usable within `limit`; what was known stays.
    pub(crate) async fn ask(&self, clock: &Clock, limit: Duration, good: Good) -> Result<()> {
        let will_do = |asked: &Moment| match good {
            Good::For(length) => clock.now().since(asked) < length,
            Good::Since(moment) => !asked.since(&moment).is_zero(),
        };
        let asking = async {
            let mut asked = self.asked.lock().await;
            let now = clock.now();
            let given = match &self.source {
                Kind::Given { .. } | Kind::Mistaken(_) => return Ok(()),
                Kind::Files { files, .. } => {
                    let read = || match files.read() {
                        Ok(given) => Ok(self.trimmed(given)),
                        Err(unread) => Err(Error::from(unread).unavailable()),
                    };
                    let given = read()?;
                    if self.state().given.as_ref() != Some(&given) {
                        clock.wait(PAUSE).await;
                        if read()? != given || files.is_many() && self.is_half(&given) && !files.is_settled()
                        {
                            return Err(unavailable(format!("{}: being written", files.layout)));
                        }
                    }
                    given
                }
                Kind::Provider(_) if asked.as_ref().is_some_and(will_do) => return Ok(()),
                Kind::Provider(provider) => self.trimmed(self.provided(&**provider).await?),
            };
            self.accept(given).map_err(|error| match &self.source {
                Kind::Files { files, .. } => error.prefixed(&files.layout).unavailable(),
                _ => unavailable(format!("no use of the credential source: {error}")),
            })?;
            *asked = Some(now);
            Ok(())
        };
        let outcome = tokio::select! {
            biased;
            outcome = asking => outcome,
            () = clock.wait(limit) => Err(unavailable(format!(
                "the credential provider gave no answer within {:.1} s", limit.as_secs_f64()
            ))),
        };
        self.tell(outcome.as_ref().err());
        outcome
    }

    async fn provided(&self, provider: &Provider) -> Result<AppCredentials> {
        match caught(async { provider().await }).await {
            Some(Ok(given)) => Ok(given),
            Some(Err(error)) => {
                let known = self.known();
                let known =
                    known.iter().flat_map(|known| Some(&known.current).into_iter().chain(&known.next));
                let secrets: Vec<_> = known.map(|one| one.app_secret.expose_secret()).collect();
                let said = one_line(&error.to_string(), &secrets, LONGEST_TEXT);
                Err(unavailable(format!("the credential provider failed: {said}")))
            }
            None => Err(unavailable("the credential provider panicked".to_owned())),
        }
    }

    /// Each problem once, however often it is met.
    fn tell(&self, error: Option<&Error>) {
        let source = &self.source;
        let is_known = self.known.borrow().is_some();
        let mut state = self.state();
        match error.map(Error::to_string) {
            Some(problem) if state.problem.as_ref() == Some(&problem) => {}
            Some(problem) => {
                if is_known {
                    tracing::warn!(
                        target: "evertoken", %source, problem,
                        "nothing from the credential source; what it gave before stays in use"
                    );
                } else {
                    tracing::warn!(
                        target: "evertoken", %source, problem,
                        "nothing from the credential source yet; waiting for it"
                    );
                }
                state.problem = Some(problem);
            }
            None => {
                if state.problem.take().is_some() {
                    tracing::info!(target: "evertoken", %source, "the credential source gives credentials again");
                }
            }
        }
    }

    /// Looks for changes at the source for as long as it is polled; a provider's only while its credential is refused.
    pub(crate) async fn watch(&self, clock: &Clock, is_refused: impl Fn() -> bool) -> Infallible {
        loop {
            let look = match &self.source {
                Kind::Given { .. } | Kind::Mistaken(_) => std::future::pending().await,
                Kind::Files { files, .. } => {
                    clock.wait(FILE_WATCH).await;
                    files.may_have_changed()
                }
                Kind::Provider(_) => {
                    clock.wait(PROVIDER_WATCH).await;
                    is_refused()
                }
            };
            if look {
                // What is wrong was told.
                let _ = self.ask(clock, PROVIDER_WATCH, Good::For(PROVIDER_WATCH / 2)).await;
            }
        }
    }
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::CredentialsUnavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(id: &str, secret: &str, next: &str) -> AppCredentials {
        AppCredentials::new(id, secret).next_secret(next)
    }

    fn cell() -> CredentialCell {
        CredentialCell::open(given("id", "one", "").into(), true).unwrap()
    }

    /// Secret and generation of what is in use and of what is next.
    fn shown(cell: &CredentialCell) -> String {
        let Known { current, next } = cell.known().unwrap();
        let one = |of: &Credentials| format!("{} {}", of.app_secret.expose_secret(), of.generation);
        format!("{}, {}", one(&current), next.map_or("none".to_owned(), |next| one(&next)))
    }

    #[test]
    fn every_pair_has_a_number_of_its_own_and_keeps_it() {
        let cell = cell();
        assert_eq!(shown(&cell), "one 1, none");
        for (given, expected) in [
            (given("id", "one", "two"), "one 1, two 2"),
            (given("id", "one", "two"), "one 1, two 2"),
            (given("id", "one", "three"), "one 1, three 3"),
            (given("id", "three", "one"), "three 3, one 1"),
            (given("id", "one", "one"), "one 1, none"),
            (given("other", "one", ""), "one 4, none"),
        ] {
            cell.accept(given).unwrap();
            assert_eq!(shown(&cell), expected);
        }
        assert_eq!(format!("{:?}", cell.get().unwrap()), "Credentials { app_id: \"other\", .. }");
    }

    #[test]
    fn what_was_promoted_or_set_by_hand_stays_until_the_source_has_something_new() {
        let cell = cell();
        cell.accept(given("id", "one", "two")).unwrap();
        let old = cell.known().unwrap();
        cell.promote(&old.current);
        assert_eq!(shown(&cell), "one 1, two 2", "only the next one is promoted");
        cell.promote(&old.next.unwrap());
        assert_eq!(shown(&cell), "two 2, none");
        cell.accept(given("id", "one", "two")).unwrap();
        assert_eq!(shown(&cell), "two 2, none");
        cell.accept(given("id", "two", "")).unwrap();
        assert_eq!(shown(&cell), "two 2, none");
        cell.set("id".into(), "hand".into()).unwrap();
        cell.accept(given("id", "two", "")).unwrap();
        assert_eq!(shown(&cell), "hand 3, none");
        cell.accept(given("id", "two", "four")).unwrap();
        assert_eq!(shown(&cell), "two 4, four 5");
    }

    #[test]
    fn changes_are_told_apart() {
        let known = |given: AppCredentials, before: &CredentialCell| {
            before.accept(given).unwrap();
            before.known()
        };
        let cell = cell();
        let one = cell.known();
        let next = known(given("id", "one", "two"), &cell);
        let other_next = known(given("id", "one", "three"), &cell);
        let secret = known(given("id", "three", ""), &cell);
        let app = known(given("other", "three", ""), &cell);
        for (before, after, change) in [
            (&None, &one, Change::Untried),
            (&one, &one, Change::None),
            (&one, &next, Change::Untried),
            (&next, &other_next, Change::Untried),
            (&next, &one, Change::None),
            (&other_next, &secret, Change::Secret),
            (&secret, &app, Change::AppId),
        ] {
            assert_eq!(Change::between(before.as_ref(), after.as_ref()), change);
        }
    }

    #[test]
    fn where_no_secret_is_needed_none_comes_next() {
        let cell = CredentialCell::open(given("id", "", "two").into(), false).unwrap();
        assert_eq!(shown(&cell), " 1, none");
        assert!(cell.set("id".into(), "".into()).is_ok() && cell.set("".into(), "x".into()).is_err());
        assert!(self::cell().set("id".into(), "".into()).is_err());
    }
}
