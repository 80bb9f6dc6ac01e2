//! What the gateway is told: [`Config`], read from the environment, and its time limits.

use std::time::Duration;

/// What the environment says; the table in `examples/gateway.rs` describes each variable.
#[derive(Debug, Default)]
pub struct Config {
    pub issuer: String,
    pub audience: String,
    pub scope: Option<String>,
    pub upstream: String,
    pub upstream_proxy: Option<String>,
    pub listen: String,
    pub admin: String,
    pub public_url: Option<String>,
    pub auth0: bool,
    pub introspection: Option<(String, String)>,
    pub usage_file: Option<String>,
    pub anonymous: bool,
    pub limits: Limits,
}

/// How long the gateway waits: for others, and between batches of usage.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A client, for a whole request head. An idle connection is closed after this time, too.
    pub head: Duration,
    /// A client, for the next part of a body that it sends, or until it takes more of a response.
    pub body: Duration,
    /// The upstream: until it answers, for the next part of its body, and until it takes more of a request.
    pub upstream: Duration,
    /// Between two batches of usage.
    pub usage: Duration,
    /// Requests that are in flight when the gateway is told to stop; then their connections are closed.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            head: seconds(20),
            body: seconds(30),
            upstream: seconds(60),
            usage: seconds(10),
            drain: seconds(15),
        }
    }
}

impl Config {
    /// Reads the environment. Returns `None` if it names no issuer, audience or upstream.
    pub fn from_env() -> Option<Self> {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let seconds = |name: &str, default: Duration| {
            get(name).and_then(|text| text.parse().ok()).map_or(default, Duration::from_secs)
        };
        let limits = Limits::default();
        Some(Self {
            issuer: get("EVERTOKEN_ISSUER")?,
            audience: get("EVERTOKEN_AUDIENCE")?,
            scope: get("EVERTOKEN_SCOPE"),
            upstream: get("UPSTREAM")?,
            upstream_proxy: get("UPSTREAM_PROXY"),
            listen: get("LISTEN").unwrap_or_else(|| "127.0.0.1:8080".to_owned()),
            admin: get("ADMIN").unwrap_or_else(|| "127.0.0.1:9090".to_owned()),
            public_url: get("PUBLIC_URL"),
            auth0: get("EVERTOKEN_PROFILE").is_some_and(|profile| profile == "auth0"),
            introspection: get("INTROSPECTION_APP_ID").zip(get("INTROSPECTION_APP_SECRET")),
            usage_file: get("USAGE_FILE"),
            anonymous: get("ANONYMOUS").is_some_and(|said| said == "yes"),
            limits: Limits {
                head: seconds("HEAD_SECONDS", limits.head),
                body: seconds("BODY_SECONDS", limits.body),
                upstream: seconds("UPSTREAM_SECONDS", limits.upstream),
                usage: seconds("USAGE_SECONDS", limits.usage),
                drain: seconds("DRAIN_SECONDS", limits.drain),
            },
        })
    }
}
