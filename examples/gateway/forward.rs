//! Hands requests on to the upstream, and its responses back.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use evertoken::http::header::{self, HeaderValue};
use evertoken::http::{StatusCode, Uri};
use evertoken::reqwest::{self, Url};
use evertoken::server::Caller;
use tokio::sync::watch;
use tokio::time::{error::Elapsed, timeout};

use super::Failure;
use super::config::{Config, Limits};
use super::headers::{FORWARDED_FOR, introduce, remove_claims, remove_hop_by_hop};
use super::pace::{Paced, Upload};

/// Where requests go on to.
#[derive(Debug, Clone)]
pub struct Upstream {
    base: Url,
    http: reqwest::Client,
    limits: Limits,
}

impl Upstream {
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let base = Url::parse(config.upstream.trim_end_matches('/'))?;
        if !base.has_host() || base.query().is_some() || base.fragment().is_some() {
            return Err("UPSTREAM is no URL that paths can be appended to".into());
        }
        // Every request carries a token: proxies of the environment, meant for other programs, do not get to see it.
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_gzip()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5));
        // Nor does one that is named, if plain http would stay on this machine without it.
        if let Some(proxy) = config.upstream_proxy.as_ref().filter(|_| !is_plain_loopback(&base)) {
            http = http.proxy(reqwest::Proxy::all(proxy)?);
        }
        Ok(Self { base, http: http.build()?, limits: config.limits })
    }

    /// Returns the address of this request at the upstream, or `None` if that lies outside of the base.
    fn url(&self, uri: &Uri) -> Option<Url> {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{target}")).ok()?;
        let path = self.base.path().trim_end_matches('/');
        let is_below = url.path().strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        (is_below && url.origin() == self.base.origin()).then_some(url)
    }
}

pub async fn hand_on(
    State(upstream): State<Upstream>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    caller: Option<Caller>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(url) = upstream.url(&parts.uri) else { return short(StatusCode::BAD_REQUEST) };
    remove_hop_by_hop(&mut parts.headers);
    remove_claims(&mut parts.headers);
    parts.headers.remove(header::HOST);
    if !introduce(caller.as_ref(), &mut parts.headers) {
        println!("refused: no header can name the app id or the scopes of {caller:?}");
        return short(StatusCode::FORBIDDEN);
    }
    parts.headers.insert(FORWARDED_FOR, address(peer.ip()));
    let (body, progress) = Paced::from_client(body, upstream.limits.body);
    let sent = upstream
        .http
        .request(parts.method, url)
        .headers(parts.headers)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()))
        .send();
    match answer(sent, progress.clone(), upstream.limits.upstream).await {
        Ok(Ok(answer)) => {
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            remove_hop_by_hop(&mut headers);
            let body = Body::from_stream(answer.bytes_stream());
            (status, headers, Paced::from_upstream(body, upstream.limits.upstream)).into_response()
        }
        Ok(Err(_)) if *progress.borrow() == Upload::TooSlow => short(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(error)) => {
            println!("the upstream did not answer: {}", error.without_url());
            short(StatusCode::BAD_GATEWAY)
        }
        Err(_) => {
            println!("the upstream did not answer within {:?}", upstream.limits.upstream);
            short(StatusCode::GATEWAY_TIMEOUT)
        }
    }
}

/// Waits for the upstream's answer, for `limit` at most since it was last sent a part of the request.
async fn answer<T>(
    sent: impl Future<Output = T>,
    mut progress: watch::Receiver<Upload>,
    limit: Duration,
) -> Result<T, Elapsed> {
    let mut sent = pin!(sent);
    loop {
        tokio::select! {
            answer = &mut sent => return Ok(answer),
            outcome = timeout(limit, progress.changed()) => {
                // The channel is closed: all of it was sent.
                if outcome?.is_err() {
                    return timeout(limit, sent).await;
                }
            }
        }
    }
}

fn is_plain_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.scheme() == "http" && is_loopback
}

fn short(status: StatusCode) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")]).into_response()
}

fn address(ip: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}
