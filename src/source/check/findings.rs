//! What each step of the way to a token says.

use std::time::Duration;

use super::{Diagnosis, Level};
use crate::error::{Error, ErrorKind};
use crate::grant::{
    Answer, BASIC, Claims, GrantRequest, Metadata, POST, Quota, Recorded, TokenResponse, corrects,
};
use crate::origin;
use crate::renewal::{RenewalPolicy, Schedule};

/// By how many seconds clocks may differ without a word, beyond what cannot be told apart.
const MOST_SKEW: f64 = 10.0;
/// Lifetimes shorter than this cost many tokens.
const SHORT: Duration = Duration::from_secs(60);

/// Whether the token endpoint was found; `error` is what happened before it was asked.
pub(super) fn discovery(
    diagnosis: &mut Diagnosis,
    metadata: Option<&Metadata>,
    error: Option<&Error>,
) -> bool {
    if let Some(Metadata { read_from, issuer, token_endpoint, auth_methods, .. }) = metadata {
        let methods = match &auth_methods[..] {
            [] => "it does not say how to authenticate".to_owned(),
            methods => format!("it takes {}", methods.join(", ")),
        };
        diagnosis.add(Level::Ok, "discovery", format!("{read_from} says: issuer {issuer}"));
        diagnosis.add(Level::Ok, "discovery", format!("token endpoint {}", origin::shown(token_endpoint)));
        diagnosis.add(Level::Ok, "discovery", methods);
    } else if let Some(error) = error {
        diagnosis.fail("discovery", error);
    }
    metadata.is_some()
}

/// What an error says, and what to do about it.
pub(super) fn failure(error: &Error) -> (String, Option<String>) {
    let status = error.status().map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let hint = match error.kind() {
        ErrorKind::AuthServerUnavailable if error.status().is_none() => {
            Some("check the address, and from this machine DNS, firewall and proxy (`HTTPS_PROXY`)")
        }
        ErrorKind::AuthServerUnavailable => Some("look at the server's own status"),
        ErrorKind::Throttled => Some("wait, and see how many processes ask for tokens"),
        _ => None,
    };
    let advice: Vec<_> = error.advice_given().into_iter().chain(hint).collect();
    let advice = (!advice.is_empty()).then(|| advice.join("; "));
    (format!("{}{status}", error.facts()), advice)
}

pub(super) fn granted(
    diagnosis: &mut Diagnosis,
    recorded: &Recorded,
    outcome: Result<&TokenResponse, &Error>,
    bound: bool,
) {
    let (Recorded { answers, methods, .. }, method) = (recorded, recorded.method());
    match (outcome, &answers[..]) {
        (Err(error), _) => {
            diagnosis.fail("token", error);
            let sent = match &methods[..] {
                [] => "nothing was sent".to_owned(),
                methods => format!("sent by {}", methods.join(", then by ")),
            };
            diagnosis.add(Level::Ok, "auth", sent);
        }
        // Without a nonce to repeat there is one other reason to ask again.
        (Ok(_), [_, .., last]) if !bound && method == Some(BASIC) => {
            let text =
                format!("granted by {} only after a refusal: it takes id and secret as they are", last.url);
            diagnosis.add(Level::Warn, "token", text);
            diagnosis.advise("set `ClientAuth::ClientSecretBasicRaw`");
        }
        (Ok(_), [_, .., last]) if !bound && method == Some(POST) => {
            let text = format!("granted by {} only after a refusal, by {POST}", last.url);
            diagnosis.add(Level::Warn, "token", text);
            diagnosis.advise(format!("set `client_auth` to {POST}"));
        }
        (Ok(_), answers) => {
            let (url, status) =
                answers.last().map(|answer| (&*answer.url, answer.status.as_u16())).unwrap_or_default();
            let bound = if bound { ", with a token that is bound by DPoP" } else { "" };
            diagnosis.add(Level::Ok, "token", format!("{url} answered {status}{bound}"));
            diagnosis.add(Level::Ok, "auth", format!("accepted by {}", method.unwrap_or_default()));
        }
    }
}

pub(super) fn lifetime(
    diagnosis: &mut Diagnosis,
    policy: &RenewalPolicy,
    response: &TokenResponse,
    answer: Option<&Answer>,
) {
    let TokenResponse { lifetime, round_trip, refresh_in, .. } = response;
    let plan = |draw| Schedule::new(policy, *lifetime, *round_trip, *refresh_in, draw);
    let (Some(early), Some(late)) = (plan(1.0), plan(0.0)) else {
        diagnosis.add(Level::Fail, "lifetime", format!("{lifetime:?} leaves no time to use the token"));
        return diagnosis.advise("have the server give a longer one");
    };
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let text = seconds(*lifetime);
    let renewal = format!(
        "renewed between {} and {}, served until {}",
        seconds(early.renew_after),
        seconds(late.renew_after),
        seconds(late.serve_for)
    );
    let claimed =
        answer.and_then(|answer| answer.claims.as_ref()).and_then(|claims| Some(claims.exp? - claims.iat?));
    if answer.is_some_and(|answer| !answer.has_lifetime) {
        let text = format!("{text}, which is a guess: the server does not say it (`expires_in`)");
        diagnosis.add(Level::Warn, "lifetime", text);
        diagnosis.advise("have the server say it");
    } else if let Some(claimed) = claimed.filter(|claimed| claimed + MOST_SKEW < lifetime.as_secs_f64()) {
        let text = format!("{text} by the server, but the token itself says {claimed:.0} s");
        diagnosis.add(Level::Warn, "lifetime", text);
        diagnosis.advise("have the server's `expires_in` corrected");
    } else if *lifetime < SHORT {
        diagnosis.add(
            Level::Warn,
            "lifetime",
            format!("{text}, which is short: each process asks that often"),
        );
        diagnosis.advise("have the server give longer ones");
    } else {
        diagnosis.add(Level::Ok, "lifetime", text);
    }
    diagnosis.add(Level::Ok, "lifetime", renewal);
}

pub(super) fn scope(diagnosis: &mut Diagnosis, request: &GrantRequest, response: &TokenResponse) {
    let asked = match &request.scopes[..] {
        [] => "none asked".to_owned(),
        scopes => format!("asked {:?}", scopes.join(" ")),
    };
    let granted = match &response.scope {
        Some(scope) => format!("granted {scope:?}"),
        None => "granted as asked".to_owned(),
    };
    if response.missing_scopes.is_empty() {
        diagnosis.add(Level::Ok, "scope", format!("{asked}, {granted}"));
    } else {
        let missing = response.missing_scopes.join(" ");
        diagnosis.add(Level::Warn, "scope", format!("{asked}, {granted}; not granted: {missing:?}"));
        diagnosis.advise("allow it to the app, or do not ask");
    }
}

pub(super) fn audience(diagnosis: &mut Diagnosis, request: &GrantRequest, claims: Option<&Claims>) {
    let asked: Vec<&String> = request.audience.iter().chain(&request.resources).collect();
    let Some(claims) = claims else {
        return diagnosis.add(Level::Ok, "audience", "not to be seen: the token is no JWT");
    };
    let said = claims.audience();
    let issuer = claims.iss.as_deref().unwrap_or("nobody named");
    match asked.iter().find(|asked| !said.contains(asked)) {
        None if said.is_empty() => {
            diagnosis.add(Level::Warn, "audience", format!("none, issued by {issuer}"));
            diagnosis.advise("if the API wants one, set `audience` or `resource`");
        }
        None => diagnosis.add(Level::Ok, "audience", format!("{said:?}, issued by {issuer}")),
        Some(missing) => {
            let text = format!("asked {missing:?}, but the token is for {said:?}, issued by {issuer}");
            diagnosis.add(Level::Warn, "audience", text);
            diagnosis.advise("the API may refuse it; some servers read `audience`, others `resource`");
        }
    }
}

/// Reports a resource in a form that most servers refuse.
pub(super) fn resource(diagnosis: &mut Diagnosis, request: &GrantRequest) {
    for resource in request.odd_resources() {
        let text = format!("`resource` {resource:?} is no absolute URI (RFC 8707 2)");
        diagnosis.add(Level::Warn, "audience", text);
        diagnosis.advise(
            "leave it for Entra ID v1 and AD FS, which take the id or the name of an API; most other servers do not",
        );
    }
}

pub(super) fn clock(diagnosis: &mut Diagnosis, recorded: &Recorded, signs: bool) {
    let answer = recorded.answers.last();
    // What was issued before is older by right; what comes from the future is not.
    let issued = answer.and_then(|answer| Some(answer.claims.as_ref()?.iat? - answer.at));
    let (skew, blur) = match (recorded.skew, issued) {
        (Some(skew), _) => (skew.seconds, skew.blur),
        (None, Some(issued)) => (issued, 1.0),
        (None, None) if !recorded.answered => return,
        (None, None) => {
            return diagnosis.add(Level::Ok, "clock", "not to be compared: the server sends no `Date`");
        }
    };
    let told = |skew: f64| format!("{:.0} s {}", skew.abs(), if skew < 0.0 { "behind" } else { "ahead of" });
    let far = |skew: f64| skew.abs() > MOST_SKEW + blur;
    if far(skew) {
        // By the answers' `Date` alone.
        let is_corrected = recorded.skew.is_some_and(|skew| corrects(skew.seconds));
        let level = if signs && !is_corrected { Level::Fail } else { Level::Warn };
        diagnosis.add(level, "clock", format!("the server's is {} ours", told(skew)));
        diagnosis.advise(if signs && is_corrected {
            "set this machine's by NTP: the times in assertions and proofs are corrected, but `iat` and `exp` mislead"
        } else {
            "set this machine's by NTP: signed assertions and proofs are refused, and `iat` and `exp` mislead"
        });
    } else if let Some(ahead) = issued.filter(|issued| *issued > MOST_SKEW) {
        diagnosis.add(Level::Warn, "clock", format!("the token's `iat` is {} our clock", told(ahead)));
        diagnosis.advise("look at the server's clocks");
    } else {
        diagnosis.add(Level::Ok, "clock", format!("within {:.0} s of the server's", skew.abs() + blur));
    }
}

pub(super) fn revocation(diagnosis: &mut Diagnosis, outcome: Result<(), Error>) {
    match outcome {
        Ok(()) => diagnosis.add(Level::Ok, "revocation", "the token is of no use any more"),
        Err(error) => {
            let (text, advice) = failure(&error);
            diagnosis.add(Level::Warn, "revocation", text);
            if let Some(advice) = advice {
                diagnosis.advise(advice);
            }
        }
    }
}

pub(super) fn quota(diagnosis: &mut Diagnosis, quota: Option<&Quota>) {
    let Some(quota) = quota else {
        return diagnosis.add(Level::Ok, "quota", "the server does not say");
    };
    let of = quota.limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    if quota.is_low() {
        diagnosis.add(Level::Warn, "quota", format!("{}{of} tokens left", quota.remaining));
        diagnosis.advise("share a client, start fewer processes, or buy more");
    } else {
        diagnosis.add(Level::Ok, "quota", format!("{}{of} tokens left", quota.remaining));
    }
}
