use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::issued::Grant;
use super::listen::Connection;
use super::state::{Settings, State, lock};
use crate::grant::proof::{Expected, Unproven};

pub(super) const CHALLENGE: &str = r#"Basic realm="evertoken", charset="UTF-8""#;

/// The token endpoint (RFC 6749 3.2). What the answer says is what was true when the request came; latency delays
/// the answer only.
pub(super) async fn answer(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let entry = state.log.arrived(format!("POST {}", uri.path()), &headers);
    let in_flight = state.in_flight.enter(connection.clone());
    let settings = state.settings();
    let (fault, late) = state.faults.next();
    state.log.count_token_request();

    let late = settings.latency + late;
    let response = match fault {
        Some(fault) => {
            delay(late).await;
            fault.play(&connection, CHALLENGE, in_flight).await
        }
        None => {
            let answer = grant(&state, &settings, &headers, &body, entry);
            delay(late).await;
            drop(in_flight);
            let mut answer = answer.unwrap_or_else(Refusal::into_response);
            state.quota.tell(answer.headers_mut());
            offer(&mut answer, settings.token_nonce.as_deref());
            answer
        }
    };
    state.log.add(entry, |entry| entry.status = Some(response.status().as_u16()));
    response
}

/// Gives the nonce for the next proof (RFC 9449 8.2).
pub(super) fn offer(answer: &mut Response, nonce: Option<&str>) {
    if let Some(nonce) = nonce.and_then(|nonce| http::HeaderValue::from_str(nonce).ok()) {
        answer.headers_mut().insert("dpop-nonce", nonce);
    }
}

pub(super) async fn delay(late: Duration) {
    if late > Duration::ZERO {
        tokio::time::sleep(late).await;
    }
}

/// An error answer (RFC 6749 5.2).
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str, pub(super) &'static str);

impl Refusal {
    pub(super) fn request(description: &'static str) -> Self {
        Self(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    fn client(description: &'static str) -> Self {
        Self(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    pub(super) fn into_response(self) -> Response {
        let Self(status, error, description) = self;
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = (status, [(CACHE_CONTROL, "no-store")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static(CHALLENGE));
        }
        response
    }
}

fn grant(
    state: &State,
    settings: &Settings,
    headers: &HeaderMap,
    body: &[u8],
    entry: u64,
) -> Result<Response, Refusal> {
    let form = Form::parse(headers, body)?;
    let client_id = authenticated(state, settings, headers, &form, entry)?;
    match form.one("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(Refusal(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "only client_credentials is supported",
            ));
        }
        None => return Err(Refusal::request("grant_type is missing")),
    }

    let mut audience = form.all("audience").chain(form.all("resource")).collect::<Vec<_>>();
    let audience = match audience.len() {
        0 => state.audience.as_str().into(),
        1 => audience.remove(0).into(),
        _ => audience.into(),
    };
    let scope = form.one("scope").map(str::to_owned);
    let jkt = proven(state, settings, headers)?;
    if !state.quota.spend() {
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "the quota is used up"));
    }
    let token_type = if jkt.is_some() { "DPoP" } else { "Bearer" };
    let grant = Grant { client_id, audience, scope: scope.clone(), jkt };
    let again = settings.same_token.then(|| state.issued.live(&grant)).flatten();
    let (token, lifetime) = match again {
        Some(again) => again,
        None => match state.mint(grant, settings.lifetime) {
            Ok(token) => (token, settings.lifetime),
            Err(_) => {
                return Err(Refusal(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "server_error",
                    "the token could not be signed",
                ));
            }
        },
    };

    let mut answer =
        json!({ "access_token": token, "token_type": token_type, "expires_in": seconds(lifetime) });
    if let Some(scope) = scope {
        answer["scope"] = scope.into();
    }
    merge(&mut answer, settings.answer.as_ref());
    Ok(([(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")], Json(answer)).into_response())
}

/// The thumbprint of the key that proved itself (RFC 9449 5).
fn proven(state: &State, settings: &Settings, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let expected = Expected {
        method: &Method::POST,
        url: &format!("{}/token", state.issuer),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        nonce: settings.token_nonce.as_deref(),
        token: None,
    };
    let (code, description) = match state.proofs.verify(headers, &expected) {
        Ok(jkt) => return Ok(Some(jkt)),
        Err(Unproven::Missing) if !settings.dpop_required => return Ok(None),
        Err(Unproven::Missing) => ("invalid_dpop_proof", "there is none"),
        Err(Unproven::Invalid(why)) => ("invalid_dpop_proof", why),
        Err(Unproven::NoRoom) => ("temporarily_unavailable", "too many proofs came"),
        Err(Unproven::Nonce) => ("use_dpop_nonce", "the proof needs the nonce of this answer"),
    };
    Err(Refusal(StatusCode::BAD_REQUEST, code, description))
}

/// The client, once it has shown who it is.
pub(super) fn authenticated(
    state: &State,
    settings: &Settings,
    headers: &HeaderMap,
    form: &Form<'_>,
    entry: u64,
) -> Result<String, Refusal> {
    let client = presented(headers, form, settings.raw_basic)?;
    state.log.add(entry, |entry| {
        entry.client_id = Some(client.id.clone());
        entry.client_auth = Some(client.method);
    });
    let known = lock(&state.clients).get(&client.id).cloned();
    let matches = |secret: &String| verify_slices_are_equal(secret.as_bytes(), client.secret.as_bytes());
    if !known.is_some_and(|secrets| secrets.iter().any(|secret| matches(secret).is_ok())) {
        return Err(Refusal::client("unknown client, or wrong secret"));
    }
    Ok(client.id)
}

/// Whole where it is whole.
fn seconds(duration: Duration) -> Value {
    match duration.subsec_nanos() {
        0 => duration.as_secs().into(),
        _ => duration.as_secs_f64().into(),
    }
}

/// Puts in the fields of an object, and takes out those that are `null`; what is no object stands for all of it.
pub(super) fn merge(answer: &mut Value, change: Option<&Value>) {
    match (answer.as_object_mut(), change) {
        (_, None) => {}
        (Some(answer), Some(Value::Object(changes))) => {
            for (name, value) in changes {
                match value {
                    Value::Null => answer.remove(name),
                    value => answer.insert(name.clone(), value.clone()),
                };
            }
        }
        (_, Some(whole)) => *answer = whole.clone(),
    }
}

/// The request's parameters.
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    pub(super) fn parse(headers: &HeaderMap, body: &'a [u8]) -> Result<Self, Refusal> {
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal::request("the content type must be application/x-www-form-urlencoded"));
        }
        // An empty parameter counts as left out (RFC 6749 3.2).
        let form = Self(url::form_urlencoded::parse(body).filter(|(_, value)| !value.is_empty()).collect());
        let mut seen = HashSet::new();
        let repeatable = ["audience", "resource"];
        if form.0.iter().any(|(name, _)| !repeatable.contains(&name.as_ref()) && !seen.insert(name)) {
            return Err(Refusal::request("a parameter is repeated"));
        }
        Ok(form)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_ref())
    }

    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }
}

/// The credentials as the client sent them (RFC 6749 2.3.1).
struct Presented {
    id: String,
    secret: String,
    method: &'static str,
}

fn presented(headers: &HeaderMap, form: &Form<'_>, raw: bool) -> Result<Presented, Refusal> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return match (form.one("client_id"), form.one("client_secret")) {
            (Some(id), Some(secret)) => {
                Ok(Presented { id: id.into(), secret: secret.into(), method: "client_secret_post" })
            }
            _ => Err(Refusal::client("no client authentication")),
        };
    };
    if form.one("client_secret").is_some() {
        return Err(Refusal::request("more than one kind of client authentication"));
    }
    let (id, secret) = basic(header.to_str().unwrap_or_default(), raw)
        .ok_or(Refusal::client("the Authorization header is not valid HTTP Basic"))?;
    Ok(Presented { id, secret, method: "client_secret_basic" })
}

fn basic(header: &str, raw: bool) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    if raw { Some((id.to_owned(), secret.to_owned())) } else { Some((decoded(id)?, decoded(secret)?)) }
}

/// The `application/x-www-form-urlencoded` text, unless a percent sign in it stands for nothing.
fn decoded(text: &str) -> Option<String> {
    let well_formed = text
        .split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    let spaced = text.replace('+', " ");
    well_formed.then(|| percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_form_decoded_unless_raw() {
        let header = format!("Basic {}", STANDARD.encode("a%3Ab+%C3%A4:s%25%2B"));
        assert_eq!(basic(&header, false), Some(("a:b ä".into(), "s%+".into())));
        assert_eq!(basic(&header, true), Some(("a%3Ab+%C3%A4".into(), "s%25%2B".into())));
        for bad in ["id:100%", "id:%zz", "id:%a", "id:%ff", "id"] {
            assert_eq!(basic(&format!("Basic {}", STANDARD.encode(bad)), false), None, "{bad}");
        }
    }

    #[test]
    fn whole_seconds_are_whole_numbers() {
        assert_eq!(seconds(Duration::from_secs(3)).to_string(), "3");
        assert_eq!(seconds(Duration::from_millis(1500)).to_string(), "1.5");
    }

    #[test]
    fn null_takes_a_field_away_and_what_is_no_object_replaces_all() {
        let mut answer = json!({ "a": 1, "b": 2 });
        merge(&mut answer, Some(&json!({ "a": null, "c": "3" })));
        assert_eq!(answer, json!({ "b": 2, "c": "3" }));
        merge(&mut answer, Some(&json!([])));
        assert_eq!(answer, json!([]));
    }
}
