//! Auth0's Management API as it is on the outside, for the clients of a box: real HTTP, real tokens, its pages, its checks
//! of what is sent, and its errors.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evertoken::testing::AuthServer;
use serde_json::{Map, Value, json};

/// The Management API's identifier, which tokens for it have as their audience.
pub const MANAGEMENT: &str = "https://tenant.example/api/v2/";
/// The API whose keys are managed.
pub const AUDIENCE: &str = "https://api.example";
pub const SCOPES: &str =
    "create:clients read:clients update:clients delete:clients update:client_keys create:client_grants";

#[derive(Clone)]
pub struct Auth0 {
    pub url: String,
    tenant: Arc<Mutex<Tenant>>,
    server: AuthServer,
}

#[derive(Default)]
struct Tenant {
    clients: BTreeMap<String, Map<String, Value>>,
    grants: HashSet<(String, String)>,
    made: u64,
    faults: HashMap<&'static str, VecDeque<(StatusCode, Value)>>,
    log: Vec<String>,
}

type Shared = State<Auth0>;

impl Auth0 {
    /// A tenant beside this box, with a management app and some that nobody may touch.
    pub async fn start(server: &AuthServer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v2/", listener.local_addr().unwrap());
        let this = Self { url, tenant: Arc::default(), server: server.clone() };
        for foreign in ["management", "somebody-s"] {
            let client = json!({ "name": foreign, "app_type": "non_interactive", "grant_types": ["client_credentials"] });
            this.lock()
                .clients
                .insert(foreign.into(), filled(foreign.into(), client.as_object().unwrap().clone()));
        }
        let app = Router::new()
            .route("/api/v2/clients", get(list).post(create))
            .route("/api/v2/clients/{id}", get(read).patch(update).delete(delete))
            .route("/api/v2/clients/{id}/rotate-secret", post(rotate))
            .route("/api/v2/client-grants", post(grant))
            .layer(axum::middleware::from_fn_with_state(this.clone(), guard))
            .with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        this
    }

    fn lock(&self) -> MutexGuard<'_, Tenant> {
        self.tenant.lock().unwrap()
    }

    /// Has the next request of this method and path (`POST /clients`) fail.
    pub fn fail_next(&self, what: &'static str, status: u16, body: Value) {
        let fault = (StatusCode::from_u16(status).unwrap(), body);
        self.lock().faults.entry(what).or_default().push_back(fault);
    }

    pub fn has(&self, id: &str) -> bool {
        self.lock().clients.contains_key(id)
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().clients.keys().cloned().collect()
    }

    pub fn field(&self, id: &str, name: &str) -> Value {
        self.lock().clients[id][name].clone()
    }

    /// Methods and paths so far.
    pub fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    /// What the token endpoint knows of a client: only one with grant and grant type gets tokens.
    fn sync(&self, tenant: &Tenant, id: &str) {
        let client = tenant.clients.get(id).filter(|client| {
            let may = client["grant_types"].as_array().unwrap().contains(&"client_credentials".into());
            may && tenant.grants.contains(&(id.to_owned(), AUDIENCE.to_owned()))
        });
        match client {
            Some(client) => self.server.register(id, client["client_secret"].as_str().unwrap()),
            None => self.server.remove(id),
        }
    }
}

fn error(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    let body = json!({
        "statusCode": status.as_u16(),
        "error": status.canonical_reason(),
        "message": message.into(),
        "errorCode": code,
    });
    (status, Json(body)).into_response()
}

/// The token, its scopes and the faults that were asked for.
async fn guard(State(this): Shared, request: Request, next: Next) -> Response {
    let path = request.uri().path().strip_prefix("/api/v2").unwrap().to_owned();
    let what = match path.split('/').collect::<Vec<_>>()[..] {
        ["", of] => format!("{} /{of}", request.method()),
        ["", of, _] => format!("{} /{of}/id", request.method()),
        _ => format!("{} /clients/id/rotate-secret", request.method()),
    };
    this.lock().log.push(what.clone());
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = token.filter(|token| this.server.accepts(token)) else {
        let mut answer = error(StatusCode::UNAUTHORIZED, "invalid_token", "Invalid token");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"".parse().unwrap());
        return answer;
    };
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let needed = match what.as_str() {
        "POST /clients" => "create:clients",
        "GET /clients" | "GET /clients/id" => "read:clients",
        "PATCH /clients/id" => "update:clients",
        "DELETE /clients/id" => "delete:clients",
        "POST /clients/id/rotate-secret" => "update:client_keys",
        _ => "create:client_grants",
    };
    if !claims["scope"].as_str().unwrap_or_default().split(' ').any(|scope| scope == needed) {
        return error(
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            format!("Insufficient scope, expected any of: {needed}"),
        );
    }
    let fault =
        this.lock().faults.iter_mut().find(|(of, _)| **of == what).and_then(|(_, faults)| faults.pop_front());
    match fault {
        Some((status, body)) if status == StatusCode::TOO_MANY_REQUESTS => {
            let reset =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 30;
            (
                [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset.to_string())],
                (status, Json(body)),
            )
                .into_response()
        }
        Some((status, body)) => (status, Json(body)).into_response(),
        None => next.run(request).await,
    }
}

/// A client as it is shown and kept, with what Auth0 puts in.
fn filled(id: String, mut client: Map<String, Value>) -> Map<String, Value> {
    let secret = format!("{id}-secret-0_Zk3uYw5nTq8rVx2pLm6sHj9dFg4bNc7eQa1tUo");
    let defaults = json!({
        "tenant": "tenant", "global": false, "is_first_party": true, "client_id": id, "client_secret": secret,
        "app_type": "regular_web", "grant_types": ["authorization_code", "implicit", "refresh_token", "client_credentials"],
        "token_endpoint_auth_method": "client_secret_post", "oidc_conformant": false,
        "jwt_configuration": { "alg": "HS256", "lifetime_in_seconds": 36000 },
    });
    for (name, value) in defaults.as_object().unwrap() {
        client.entry(name.clone()).or_insert(value.clone());
    }
    client
}

/// What Auth0 refuses of a body; there is more, but not of what is sent here.
fn invalid(body: &Map<String, Value>) -> Option<Response> {
    const KNOWN: [&str; 6] = [
        "name",
        "app_type",
        "grant_types",
        "token_endpoint_auth_method",
        "oidc_conformant",
        "client_metadata",
    ];
    let refused = |message: String| {
        Some(error(
            StatusCode::BAD_REQUEST,
            "invalid_body",
            format!("Payload validation error: '{message}'."),
        ))
    };
    if let Some(name) = body.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return refused(format!("Additional properties not allowed: {name}"));
    }
    if body
        .get("name")
        .is_some_and(|name| name.as_str().is_none_or(|name| name.is_empty() || name.contains(['<', '>'])))
    {
        return refused("String does not match pattern ^[^<>]+$ on property name".into());
    }
    let metadata = body.get("client_metadata").and_then(Value::as_object);
    let too_long = |value: &Value| value.as_str().is_none_or(|value| value.len() > 255);
    if metadata.is_some_and(|metadata| metadata.len() > 10 || metadata.values().any(too_long)) {
        return refused("client_metadata property values must be strings of at most 255 characters".into());
    }
    None
}

async fn create(State(this): Shared, Json(body): Json<Map<String, Value>>) -> Response {
    if !body.contains_key("name") {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_body",
            "Payload validation error: 'Missing required property: name'.",
        );
    }
    if let Some(refused) = invalid(&body) {
        return refused;
    }
    let mut tenant = this.lock();
    tenant.made += 1;
    let id = format!("made{:04}", tenant.made);
    let client = filled(id.clone(), body);
    tenant.clients.insert(id, client.clone());
    (StatusCode::CREATED, Json(client)).into_response()
}

async fn list(State(this): Shared, uri: Uri) -> Response {
    let query: HashMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let number =
        |name: &str, default| query.get(name).map_or(Some(default), |text| text.parse::<usize>().ok());
    let (Some(page), Some(per_page @ 1..=100)) = (number("page", 0), number("per_page", 50)) else {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_query_string",
            "Query validation error: per_page must be at most 100.",
        );
    };
    let tenant = this.lock();
    let of_type = |client: &&Map<String, Value>| {
        query
            .get("app_type")
            .is_none_or(|wanted| wanted.split(',').any(|app_type| client["app_type"] == app_type))
    };
    let all: Vec<_> = tenant.clients.values().filter(of_type).collect();
    let fields = query.get("fields").map(|fields| fields.split(',').collect::<HashSet<_>>());
    let shown = |client: &Map<String, Value>| -> Value {
        let keeps = |name: &str| fields.as_ref().is_none_or(|fields| fields.contains(name));
        client
            .iter()
            .filter(|(name, _)| keeps(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Map<_, _>>()
            .into()
    };
    let start = page * per_page;
    let clients: Vec<_> = all.iter().skip(start).take(per_page).map(|client| shown(client)).collect();
    if query.get("include_totals").is_some_and(|wanted| wanted == "true") {
        let (length, total) = (clients.len(), all.len());
        Json(json!({ "start": start, "limit": per_page, "length": length, "total": total, "clients": clients })).into_response()
    } else {
        Json(clients).into_response()
    }
}

fn missing() -> Response {
    error(StatusCode::NOT_FOUND, "inexistent_client", "The client does not exist")
}

async fn read(State(this): Shared, Path(id): Path<String>) -> Response {
    this.lock().clients.get(&id).map_or_else(missing, |client| Json(client).into_response())
}

async fn update(
    State(this): Shared,
    Path(id): Path<String>,
    Json(body): Json<Map<String, Value>>,
) -> Response {
    if let Some(refused) = invalid(&body) {
        return refused;
    }
    let mut tenant = this.lock();
    let Some(client) = tenant.clients.get_mut(&id) else { return missing() };
    client.extend(body);
    let answer = Json(client.clone()).into_response();
    this.sync(&tenant, &id);
    answer
}

async fn delete(State(this): Shared, Path(id): Path<String>) -> Response {
    let mut tenant = this.lock();
    tenant.clients.remove(&id);
    tenant.grants.retain(|(client, _)| *client != id);
    this.sync(&tenant, &id);
    // It says so of one that was not there, too.
    StatusCode::NO_CONTENT.into_response()
}

async fn rotate(State(this): Shared, Path(id): Path<String>) -> Response {
    let mut tenant = this.lock();
    tenant.made += 1;
    let number = tenant.made;
    let Some(client) = tenant.clients.get_mut(&id) else { return missing() };
    client.insert(
        "client_secret".into(),
        format!("{id}-secret-{number}_Vx2pLm6sHj9dFg4bNc7eQa1tUoZk3uYw5nTq8r").into(),
    );
    let answer = Json(client.clone()).into_response();
    this.sync(&tenant, &id);
    answer
}

async fn grant(State(this): Shared, Json(body): Json<Value>) -> Response {
    let [id, audience] =
        ["client_id", "audience"].map(|name| body[name].as_str().unwrap_or_default().to_owned());
    if !body["scope"].is_array() {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_body",
            "Payload validation error: 'Missing required property: scope'.",
        );
    }
    let mut tenant = this.lock();
    if !tenant.clients.contains_key(&id) {
        return missing();
    }
    if audience != AUDIENCE {
        return error(
            StatusCode::NOT_FOUND,
            "inexistent_resource_server",
            "The resource server does not exist",
        );
    }
    if !tenant.grants.insert((id.clone(), audience.clone())) {
        return error(
            StatusCode::CONFLICT,
            "client_grant_conflict",
            "A resource with the same key already exists",
        );
    }
    this.sync(&tenant, &id);
    let body =
        json!({ "id": format!("cgr_{id}"), "client_id": id, "audience": audience, "scope": body["scope"] });
    (StatusCode::CREATED, Json(body)).into_response()
}
