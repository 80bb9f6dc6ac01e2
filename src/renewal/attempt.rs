//! One attempt: the credential as its source has it, the token request, and where that is refused one more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::Instrument;

use super::refresher::Refresher;
use crate::credentials::{Credentials, Good, Known};
use crate::error::Result;
use crate::grant::{TokenResponse, Tries, is_authentication_refused};

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
    let tries = Tries::after(refresher.credential_refusals());
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

/// The first time that a credential is refused, all that could have been meant is tried: another way to send it, what its
/// source has by now, the next secret. From then on each check is one request, for one of these in turn.
async fn requests(
    refresher: &Refresher,
    changes: &mut Changes,
    timeout: Duration,
    tries: &Tries,
    refused: &mut bool,
) -> Option<(Option<Arc<Credentials>>, Result<TokenResponse>)> {
    let asked = ask(refresher, changes, timeout, Good::For(FRESH)).await;
    let Some(first) = refresher.credentials.known() else {
        // A provider or a file that has given nothing yet, and why.
        return Some((None, Err(asked.err()?.with_server(refresher.endpoint.server()))));
    };
    let sent = refresher.clock.now();
    let begins = match &first.next {
        Some(next) if tries.begins_with_next_secret(true) => next,
        _ => &first.current,
    };
    let mut outcome = request(refresher, changes, &first, begins, tries).await?;
    let mut sent_as = begins;
    // The turn of the next secret says nothing of the one that is in use.
    if begins.generation != first.current.generation && outcome.as_ref().is_err_and(is_authentication_refused)
    {
        sent_as = &first.current;
        outcome = request(refresher, changes, &first, sent_as, tries).await?;
    }
    let refusal = match outcome {
        Ok(response) => {
            if sent_as.generation != first.current.generation {
                refresher.credentials.promote(sent_as);
            }
            return Some((Some(sent_as.clone()), Ok(response)));
        }
        Err(error) if is_authentication_refused(&error) => error,
        Err(error) => return Some((Some(first.current), Err(error))),
    };

    *refused = true;
    // What is wrong with the source was told.
    let _ = ask(refresher, changes, timeout, Good::Since(sent)).await;
    let second = refresher.credentials.known()?;
    let replaced = second.current.generation != first.current.generation;
    let untried = match &second.next {
        _ if replaced => Some(&second.current),
        Some(next) if tries.is_first() => Some(next),
        _ => None,
    };
    let Some(untried) = untried else { return Some((Some(second.current), Err(refusal))) };
    tracing::debug!(target: "evertoken", replaced, "credential refused; trying what comes next");
    match request(refresher, changes, &second, untried, tries).await? {
        Ok(response) => {
            refresher.credentials.promote(untried);
            Some((Some(untried.clone()), Ok(response)))
        }
        Err(error) if !replaced && is_authentication_refused(&error) => {
            let both = refusal.advice("the next secret was refused, too: check both, and the app id");
            Some((Some(second.current), Err(both)))
        }
        // The next secret is only a try: whatever comes of it counts against the current one.
        Err(error) => Some((Some(second.current), Err(error))),
    }
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

/// `None` where another credential than that of `known` is the current one by now.
async fn request(
    refresher: &Refresher,
    changes: &mut Changes,
    known: &Known,
    credentials: &Credentials,
    tries: &Tries,
) -> Option<Result<TokenResponse>> {
    let replaced = changes
        .wait_for(|now| now.as_ref().is_none_or(|now| now.current.generation != known.current.generation));
    let span = tracing::debug_span!(target: "evertoken", "renewal", server = refresher.endpoint.server());
    tokio::select! {
        biased;
        outcome = refresher.endpoint.request(&refresher.clock, credentials, tries).instrument(span) => Some(outcome),
        _ = replaced => None,
    }
}
