//! One attempt: the credential as its source has it, the token request, and if that is refused what else may be right.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::Instrument;

use super::refresher::Refresher;
use crate::credentials::{Credentials, Good, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{ClientAuth, TokenResponse, Tries, Turn, Ways, may_be_about_client, may_be_refused};

/// An answer of a credential source is good for so long, for all members of a family.
const FRESH: Duration = Duration::from_secs(1);

/// What an attempt came to.
pub(super) struct Attempted {
    /// The credential that the outcome counts for or against.
    pub(super) used: Option<Arc<Credentials>>,
    pub(super) outcome: Result<TokenResponse>,
    /// How many token requests it took.
    pub(super) requests: u32,
    /// One of them was refused, or may have been, for who sent it.
    pub(super) refused: bool,
}

type Changes = watch::Receiver<Option<Known>>;

/// `None` if the credential that was sent has been replaced meanwhile.
pub(super) async fn attempt(
    refresher: &Refresher,
    changes: &mut Changes,
    timeout: Duration,
) -> Option<Attempted> {
    let (refusals, most) = refresher.credential_refusals();
    let tries = Tries::after(refusals, most);
    let mut refused = false;
    let (used, outcome) = tokio::select! {
        biased;
        attempted = requests(refresher, changes, timeout, &tries, &mut refused) => attempted?,
        () = refresher.clock.wait(timeout) => {
            (refresher.credentials.get(), Err(refresher.endpoint.silent(timeout)))
        }
    };
    Some(Attempted { used, outcome, requests: tries.sent(), refused })
}

/// What an attempt came to, and the credential that it counts for or against; `None` if that has been replaced meanwhile.
type Outcome = Option<(Option<Arc<Credentials>>, Result<TokenResponse>)>;

/// The first time that a credential is refused, all that could have been meant is tried, the likeliest first: what its source has
/// by now or the next secret, other ways to send it, other ways to send the next. From then on checks take turns.
async fn requests(
    refresher: &Refresher,
    changes: &mut Changes,
    timeout: Duration,
    tries: &Tries,
    refused: &mut bool,
) -> Outcome {
    let asked = ask(refresher, changes, timeout, Good::For(FRESH)).await;
    let Some(first) = refresher.credentials.known() else {
        // A provider or a file that has given nothing yet, and why.
        return Some((None, Err(asked.err()?.with_server(refresher.endpoint.server()))));
    };
    let sent = refresher.clock.now();
    let Refused { ways: mut of_current, mut refusal } =
        match begin(refresher, changes, &first, tries, refused).await? {
            Begun::Ended(used, outcome) => return Some((Some(used), outcome)),
            Begun::Refused(refused) => refused,
        };
    *refused = true;
    // A server that looked for the client in the body says nothing of the secret.
    if tries.is_first() && refusal.wants_body() {
        let current = &first.current;
        match otherwise(refresher, changes, &first, (current, &mut of_current, refusal), tries).await? {
            Err(error) if may_be_about_client(&error) => refusal = error,
            outcome => return Some((Some(current.clone()), outcome)),
        }
    }

    // What is wrong with the source was told.
    let _ = ask(refresher, changes, timeout, Good::Since(sent)).await;
    let second = refresher.credentials.known()?;
    let replaced = second.current.generation != first.current.generation;
    let untried = match &second.next {
        _ if replaced => Some(&second.current),
        Some(next) if tries.is_first() => Some(next),
        _ => None,
    };
    let mut of_untried = None;
    if let Some(untried) = untried.filter(|_| tries.has_one_more()) {
        tracing::debug!(target: "evertoken", replaced, "credential refused; trying what comes next");
        let (ways, outcome) = in_first_way(refresher, changes, &second, untried, tries).await?;
        match outcome {
            Ok(response) => {
                refresher.credentials.promote(untried);
                return Some((Some(untried.clone()), Ok(response)));
            }
            Err(error) if may_be_refused(&error) => of_untried = ways.map(|ways| (untried, ways, error)),
            // The next secret is only a try: whatever comes of it counts against the current one.
            Err(error) => return Some((Some(second.current.clone()), Err(error))),
        }
    }
    if tries.is_first() && !replaced {
        let current = &second.current;
        match otherwise(refresher, changes, &second, (current, &mut of_current, refusal), tries).await? {
            Err(error) if may_be_refused(&error) => refusal = error,
            outcome => return Some((Some(current.clone()), outcome)),
        }
    }
    if let Some((untried, mut ways, error)) = of_untried {
        match otherwise(refresher, changes, &second, (untried, &mut ways, error), tries).await? {
            Ok(response) => {
                refresher.credentials.promote(untried);
                return Some((Some(untried.clone()), Ok(response)));
            }
            Err(error) if replaced || !may_be_refused(&error) => refusal = error,
            Err(_) if refusal.kind() == ErrorKind::CredentialsRejected => {
                refusal = refusal.advice("the next secret was refused, too: check both, and the app id");
            }
            Err(_) => {}
        }
    }
    Some((Some(second.current), Err(refusal)))
}

/// The refusal of the current credential, and in what ways it may be sent.
struct Refused {
    ways: Ways,
    refusal: Error,
}

enum Begun {
    Ended(Arc<Credentials>, Result<TokenResponse>),
    Refused(Refused),
}

/// The first request of an attempt; and that for the current credential as it was sent first, if it was not that one and was
/// refused.
async fn begin(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    tries: &Tries,
    refused: &mut bool,
) -> Option<Begun> {
    let current = &known.current;
    let turn = tries.turn(known.next.is_some());
    if let (Turn::Next(nth), Some(next)) = (turn, &known.next) {
        let outcome = match ways(refresher, changes, known, next).await? {
            Ok(ways) => {
                let auth = nth.checked_sub(1).and_then(|nth| ways.other(nth)).unwrap_or(ways.first());
                request(refresher, changes, known, (next, &ways, auth), tries).await?
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(response) => {
                refresher.credentials.promote(next);
                return Some(Begun::Ended(next.clone(), Ok(response)));
            }
            // The turn of the next secret says nothing of the one that is in use, but the server counts it.
            Err(error) if may_be_refused(&error) && tries.has_one_more() => *refused = true,
            Err(error) => return Some(Begun::Ended(current.clone(), Err(error))),
        }
    }
    let ways = match ways(refresher, changes, known, current).await? {
        Ok(ways) => ways,
        Err(error) => return Some(Begun::Ended(current.clone(), Err(error))),
    };
    let other = match turn {
        Turn::OtherWay(nth) => ways.other(nth),
        Turn::Same | Turn::Next(_) => None,
    };
    let auth = other.unwrap_or(ways.first());
    let mut outcome = request(refresher, changes, known, (current, &ways, auth), tries).await?;
    // A server that decodes finds the raw form of Basic malformed.
    let is_refused = |error: &Error| may_be_refused(error) || error.oauth_error() == Some("invalid_request");
    if other.is_some() && outcome.as_ref().is_err_and(is_refused) && tries.has_one_more() {
        *refused |= outcome.as_ref().is_err_and(may_be_refused);
        outcome = request(refresher, changes, known, (current, &ways, ways.first()), tries).await?;
    }
    Some(match outcome {
        Err(refusal) if may_be_refused(&refusal) => Begun::Refused(Refused { ways, refusal }),
        outcome => Begun::Ended(current.clone(), outcome),
    })
}

/// Asks the credential source for no more than half of the time. One that was set meanwhile is as good.
async fn ask(refresher: &Refresher, changes: &mut Changes, timeout: Duration, good: Good) -> Result<()> {
    changes.mark_unchanged();
    let outcome = tokio::select! {
        biased;
        outcome = refresher.credentials.ask(&refresher.clock, timeout / 2, good) => outcome,
        _ = changes.changed() => Ok(()),
    };
    refresher.note_credential();
    outcome
}

/// One request with a credential, in the way that is most likely right, and the ways that there are.
async fn in_first_way(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    credentials: &Credentials,
    tries: &Tries,
) -> Option<(Option<Ways>, Result<TokenResponse>)> {
    let ways = match ways(refresher, changes, known, credentials).await? {
        Ok(ways) => ways,
        Err(error) => return Some((None, Err(error))),
    };
    let outcome = request(refresher, changes, known, (credentials, &ways, ways.first()), tries).await?;
    Some((Some(ways), outcome))
}

/// In what ways a credential may be sent.
async fn ways(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    credentials: &Credentials,
) -> Option<Result<Ways>> {
    let ways = refresher.endpoint.ways(&refresher.clock, credentials, false);
    unless_replaced(refresher, changes, known, ways).await
}

/// One request, with this credential in this way.
async fn request(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    (credentials, ways, auth): (&Credentials, &Ways, &ClientAuth),
    tries: &Tries,
) -> Option<Result<TokenResponse>> {
    let asked = refresher.endpoint.ask(ways, auth, &refresher.clock, credentials, tries);
    unless_replaced(refresher, changes, known, asked).await
}

/// The other ways to send this credential, after this refusal.
async fn otherwise(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    (credentials, ways, refusal): (&Credentials, &mut Ways, Error),
    tries: &Tries,
) -> Option<Result<TokenResponse>> {
    let asked = refresher.endpoint.ask_otherwise(ways, refusal, &refresher.clock, credentials, tries);
    unless_replaced(refresher, changes, known, asked).await
}

/// `None` if another credential than that of `known` is the current one by now.
async fn unless_replaced<T>(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    asked: impl Future<Output = T>,
) -> Option<T> {
    let replaced = changes
        .wait_for(|now| now.as_ref().is_none_or(|now| now.current.generation != known.current.generation));
    let span = tracing::debug_span!(target: "evertoken", "renewal", server = refresher.endpoint.server());
    tokio::select! {
        biased;
        outcome = asked.instrument(span) => Some(outcome),
        _ = replaced => None,
    }
}
