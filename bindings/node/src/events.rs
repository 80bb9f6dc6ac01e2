//! What looks after a client while JavaScript is elsewhere: it tells the client's word of all that happens, and hands the
//! events on where somebody listens.

use std::sync::Weak;
use std::time::{Duration, UNIX_EPOCH};

use evertoken::{Event, Events, Quota};
use serde_json::{Value, json};

use crate::client::Shared;
use crate::errors::told;
use crate::mailbox::Letter;

/// The longest sleep in one go, so that a suspend of the machine is noticed.
const SLICE: Duration = Duration::from_secs(30);

/// JavaScript compares the wall clock with the end of what it holds. This is the other clock: once the token's time is up it
/// marks the word, so that a wall clock that was set back makes nobody serve an expired token.
pub async fn watch(client: Weak<Shared>, mut events: Events) {
    let mut held = false;
    loop {
        let pause = {
            let Some(client) = client.upgrade() else { return };
            let left = client.source.status().expires_in;
            if held && left.is_none() {
                client.word.bump();
            }
            held = left.is_some();
            left.map_or(SLICE, |left| left.min(SLICE))
        };
        tokio::select! {
            biased;
            event = events.next() => {
                let Some(client) = client.upgrade() else { return };
                client.word.bump();
                let Some(event) = event else { return };
                if client.is_listened_to() || matches!(event, Event::Closed) {
                    client.mailbox.send(Letter { event: Some(text(&event)), ..Letter::default() });
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub fn quota(quota: &Quota) -> Value {
    let resets_at = quota.resets_at.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    json!({ "limit": quota.limit, "remaining": quota.remaining, "resetsAt": resets_at.map(ms) })
}

fn text(event: &Event) -> String {
    let error = |error| serde_json::from_str::<Value>(&told(error)).unwrap_or_default();
    let fields = match event {
        Event::Renewed { lifetime, missing_scopes, .. } => {
            json!({ "kind": "renewed", "lifetimeMs": ms(*lifetime), "missingScopes": missing_scopes })
        }
        Event::RenewalFailed { error: why, next_attempt, .. } => {
            json!({ "kind": "renewalFailed", "error": error(why), "nextAttemptMs": ms(*next_attempt) })
        }
        Event::CredentialsRejected { error: why, .. } => {
            json!({ "kind": "credentialsRejected", "error": error(why) })
        }
        Event::CredentialsRotated => json!({ "kind": "credentialsRotated" }),
        Event::QuotaLow { quota: left, .. } => json!({ "kind": "quotaLow", "quota": quota(left) }),
        Event::Invalidated => json!({ "kind": "invalidated" }),
        Event::Closed => json!({ "kind": "closed" }),
        Event::Missed(missed) => json!({ "kind": "missed", "missed": missed }),
        // One that this package does not know yet.
        _ => json!({ "kind": "other" }),
    };
    fields.to_string()
}
