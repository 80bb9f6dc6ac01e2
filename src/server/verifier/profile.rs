//! What a token must say to be one for this API, by its profile. Signatures are not looked at here.

use std::time::Duration;

use serde_json::{Map, Value};

use super::issue_time::Revoked;
use crate::clock::Moment;
use crate::server::caller::{Binding, Identity};
use crate::server::refusal::Refusal;

/// By which rules a JWT is read as an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// RFC 9068: `typ` is `at+jwt`, and `iss`, `exp`, `aud`, `sub`, `client_id`, `iat` and `jti` are all there. The default.
    #[default]
    Rfc9068,
    /// Auth0's own: `typ` is `JWT`, or `at+jwt` where the API's token dialect says so; the app id is `azp`, or
    /// `client_id`; `permissions` (of role-based access control) count as scopes beside `scope`.
    Auth0,
}

/// What a token must say.
pub(super) struct Expected<'a> {
    pub(super) profile: Profile,
    pub(super) issuer: &'a str,
    pub(super) audiences: &'a [String],
    /// When the token came.
    pub(super) now: Moment,
    pub(super) leeway: Duration,
    pub(super) revoked: Option<&'a Revoked>,
}

impl Expected<'_> {
    /// The check that is for tokens of which all else is known to be right: it may be worth a warning.
    pub(super) fn check_life(&self, identity: &Identity) -> Result<(), Refusal> {
        self.revoked.map_or(Ok(()), |revoked| revoked.check_life(identity, &self.now))
    }
}

/// What is wrong with a token, in words for its sender.
pub(super) type Wrong = &'static str;

impl Profile {
    /// `typ` is a media type whose `application/` may be left out (RFC 9068 2.1, RFC 7515 4.1.9).
    pub(super) fn takes_type(self, typ: Option<&str>) -> bool {
        let Some(typ) = typ else { return false };
        let typ = typ.to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            "at+jwt" => true,
            "jwt" => self == Self::Auth0,
            _ => false,
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Rfc9068 => &["iss", "exp", "aud", "sub", "client_id", "iat", "jti"],
            Self::Auth0 => &["iss", "exp", "aud", "sub", "iat"],
        }
    }
}

/// The checks of RFC 9068 4 that need no key.
pub(super) fn identity(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Identity, Wrong> {
    if expected.profile.required().iter().any(|name| claims.get(*name).is_none_or(Value::is_null)) {
        return Err("a claim is missing");
    }
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err("it is of another issuer");
    }
    judged(claims, expected)
}

/// The checks that hold for what introspection says as well, where `iss` and `aud` may be left out (RFC 7662 2.2).
pub(super) fn introspected(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Identity, Wrong> {
    if claims.get("iss").is_some_and(|issuer| issuer != expected.issuer) {
        return Err("it is of another issuer");
    }
    judged(claims, expected)
}

fn judged(claims: Map<String, Value>, expected: &Expected<'_>) -> Result<Identity, Wrong> {
    let is_ours = |audience: &Value| {
        audience.as_str().is_some_and(|audience| expected.audiences.iter().any(|ours| ours == audience))
    };
    match claims.get("aud") {
        Some(Value::Array(all)) if all.iter().any(is_ours) => {}
        Some(one) if is_ours(one) => {}
        _ => return Err("it is for another audience"),
    }
    let expires = date(&claims, "exp")?;
    if expires.is_some_and(|expires| expected.now.wall >= expires.saturating_add(expected.leeway)) {
        return Err("it has expired");
    }
    let (begins, issued) = (date(&claims, "nbf")?, date(&claims, "iat")?);
    let latest = expected.now.wall.saturating_add(expected.leeway);
    if begins.is_some_and(|begins| begins > latest) || issued.is_some_and(|issued| issued > latest) {
        return Err("it is not valid yet");
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let app_id = match expected.profile {
        Profile::Rfc9068 => text("client_id"),
        Profile::Auth0 => text("azp").or(text("client_id")),
    };
    let app_id = app_id.ok_or("it does not name its app")?.to_owned();
    let binding = binding(claims.get("cnf"))?;
    let scopes = scopes(&claims, expected.profile);
    Ok(Identity { app_id, scopes, claims, expires, issued, binding })
}

/// `NumericDate` (RFC 7519 2): seconds, with or without a fraction.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Duration>, Wrong> {
    let Some(value) = claims.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let seconds = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.map(Some).ok_or("a time in it is none")
}

fn scopes(claims: &Map<String, Value>, profile: Profile) -> Box<[String]> {
    let mut scopes: Vec<String> = Vec::new();
    let said = claims.get("scope").and_then(Value::as_str).unwrap_or_default().split_ascii_whitespace();
    let permissions = claims.get("permissions").filter(|_| profile == Profile::Auth0);
    let permissions = permissions.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for scope in said.chain(permissions) {
        if !scopes.iter().any(|has| has == scope) {
            scopes.push(scope.to_owned());
        }
    }
    scopes.into()
}

/// What is bound in a way that is not known here cannot be checked, and so is not taken.
fn binding(confirmation: Option<&Value>) -> Result<Binding, Wrong> {
    let unknown = "it is bound in a way that is not known here";
    let Some(confirmation) = confirmation.filter(|confirmation| !confirmation.is_null()) else {
        return Ok(Binding::default());
    };
    let members = confirmation.as_object().ok_or(unknown)?;
    let mut binding = Binding::default();
    for (name, value) in members {
        let slot = match name.as_str() {
            "jkt" => &mut binding.jkt,
            "x5t#S256" => &mut binding.x5t,
            _ => return Err(unknown),
        };
        *slot = Some(value.as_str().ok_or(unknown)?.to_owned());
    }
    if binding.is_none() { Err(unknown) } else { Ok(binding) }
}
