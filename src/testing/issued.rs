use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::state::{State, lock};

/// The tokens that were handed out, oldest first.
#[derive(Default)]
pub(super) struct Issued(Mutex<Vec<Record>>);

struct Record {
    jti: String,
    token: String,
    grant: Grant,
    /// Exact to the nanosecond, where the JWT's `exp` has whole seconds; `None` is beyond what the clock can say.
    expires: Option<Instant>,
    revoked: bool,
    /// What an opaque token stands for.
    claims: Option<Value>,
}

/// What a token is for.
#[derive(Clone, PartialEq)]
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) audience: Value,
    pub(super) scope: Option<String>,
    /// The thumbprint of the key that it is bound to.
    pub(super) jkt: Option<String>,
}

impl Record {
    fn remaining(&self, now: Instant) -> Duration {
        self.expires.map_or(Duration::MAX, |expires| expires.saturating_duration_since(now))
    }
}

impl State {
    /// A new access token (RFC 9068 2.2), which the API accepts for exactly `lifetime` from now.
    pub(super) fn mint(&self, grant: Grant, lifetime: Duration) -> io::Result<String> {
        let now = Instant::now();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(io::Error::other)?;
        let jti = URL_SAFE_NO_PAD.encode(random);
        let ends = wall.saturating_add(lifetime);
        let mut claims = json!({
            "iss": self.issuer,
            "sub": grant.client_id,
            "client_id": grant.client_id,
            "aud": grant.audience,
            "iat": wall.as_secs(),
            // Rounded up, so that a token of a second lives for a second.
            "exp": ends.as_secs().saturating_add(u64::from(ends.subsec_nanos() > 0)),
            "jti": jti,
        });
        if let Some(scope) = &grant.scope {
            claims["scope"] = scope.as_str().into();
        }
        if let Some(jkt) = &grant.jkt {
            claims["cnf"] = json!({ "jkt": jkt });
        }
        let (token, claims) = if self.settings().opaque {
            (format!("opaque-{jti}"), Some(claims))
        } else {
            (self.keys.sign(&claims)?, None)
        };
        let expires = now.checked_add(lifetime);
        lock(&self.issued.0).push(Record {
            jti,
            token: token.clone(),
            grant,
            expires,
            revoked: false,
            claims,
        });
        Ok(token)
    }

    /// The client that a token which the API accepts now belongs to, and the key that it is bound to.
    pub(super) fn check(&self, token: &str) -> Option<(String, Option<String>)> {
        let claims = self.active(token)?;
        let for_us = match &claims["aud"] {
            Value::Array(all) => all.iter().any(|one| *one == self.audience),
            one => *one == self.audience,
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if for_us { Some((text(&claims["client_id"])?, text(&claims["cnf"]["jkt"]))) } else { None }
    }

    /// The claims of a token that has not ended, whatever it is for.
    pub(super) fn active(&self, token: &str) -> Option<Value> {
        let signed = self.keys.verify(token).filter(|claims| claims["iss"] == self.issuer);
        let issued = lock(&self.issued.0);
        let record = issued.iter().rev().find(|record| match &signed {
            Some(claims) => claims["jti"] == record.jti,
            None => record.claims.is_some() && record.token == token,
        })?;
        let claims = signed.or(record.claims.clone())?;
        (!record.revoked && record.remaining(Instant::now()) > Duration::ZERO).then_some(claims)
    }
}

impl Issued {
    /// The newest token for the same, and what is left of its life.
    pub(super) fn live(&self, grant: &Grant) -> Option<(String, Duration)> {
        let now = Instant::now();
        let issued = lock(&self.0);
        let record = issued.iter().rev().find(|record| record.grant == *grant)?;
        let left = record.remaining(now);
        (left > Duration::ZERO).then(|| (record.token.clone(), left))
    }

    pub(super) fn all(&self) -> Vec<String> {
        lock(&self.0).iter().map(|record| record.token.clone()).collect()
    }

    /// The client that a token was issued to.
    pub(super) fn owner(&self, token: &str) -> Option<String> {
        let issued = lock(&self.0);
        issued.iter().find(|record| record.token == token).map(|record| record.grant.client_id.clone())
    }

    pub(super) fn revoke(&self, token: &str) {
        lock(&self.0).iter_mut().filter(|record| record.token == token).for_each(|r| r.revoked = true);
    }

    pub(super) fn revoke_all(&self) {
        lock(&self.0).iter_mut().for_each(|record| record.revoked = true);
    }
}
