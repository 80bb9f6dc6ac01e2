//! One call: wait for the token, send, and once more where that may help.

use std::time::Duration;

use http::header::{AUTHORIZATION, Entry, USER_AGENT};
use http::{HeaderMap, Method, Version};
use reqwest::{Request, Response};
use url::Url;

use super::Inner;
use crate::clock::{Clock, Moment};
use crate::error::Result;

impl Inner {
    pub(super) async fn call(&self, mut request: Request) -> Result<Response> {
        self.source.origins().check(request.url())?;
        let timeout = request.timeout().copied().or(self.timeout);
        let deadline = timeout.map(|timeout| Deadline::new(self.source.clock(), timeout));
        let remaining = || deadline.as_ref().map(Deadline::remaining);
        if request.headers().contains_key(AUTHORIZATION) {
            return self.send(request, remaining()).await;
        }

        let mut pass = self.source.pass_within(remaining()).await?;
        loop {
            let replay = if pass.may_repeat() { Replay::of(&request) } else { None };
            let signed = pass.sign(request.method(), request.url())?;
            signed.put_into(request.headers_mut());
            let response = self.send(request, remaining()).await?;
            let (from, status, headers) = (response.url(), response.status(), response.headers());
            let repeats = pass.repeats_within(from, status, headers, replay.is_some(), remaining()).await;
            match replay {
                Some(replay) if repeats => request = replay.into_request(response.url()),
                _ => return Ok(response),
            }
        }
    }

    async fn send(&self, mut request: Request, remaining: Option<Duration>) -> Result<Response> {
        // Only here: a replay would have to keep a copy.
        if let Some(user_agent) = &self.user_agent
            && let Entry::Vacant(absent) = request.headers_mut().entry(USER_AGENT)
        {
            absent.insert(user_agent.clone());
        }
        // Setting it costs an allocation even where it is set to nothing.
        if remaining.is_some() {
            *request.timeout_mut() = remaining;
        }
        Ok(self.http.execute(request).await?)
    }
}

/// What it takes to send a request a second time, without its token.
enum Replay {
    /// A read, sent again to where the first one came to in the end: cheaper than keeping its URL.
    Read {
        method: Method,
        headers: HeaderMap,
        version: Version,
    },
    Whole(Request),
}

impl Replay {
    /// `None` where the body cannot be sent twice.
    fn of(request: &Request) -> Option<Self> {
        match (request.method(), request.body()) {
            (&Method::GET | &Method::HEAD, None) => Some(Self::Read {
                method: request.method().clone(),
                headers: request.headers().clone(),
                version: request.version(),
            }),
            _ => request.try_clone().map(Self::Whole),
        }
    }

    fn into_request(self, came_to: &Url) -> Request {
        match self {
            Self::Whole(request) => request,
            Self::Read { method, headers, version } => {
                let mut request = Request::new(method, came_to.clone());
                *request.headers_mut() = headers;
                *request.version_mut() = version;
                request
            }
        }
    }
}

struct Deadline<'a> {
    clock: &'a Clock,
    begun: Moment,
    timeout: Duration,
}

impl<'a> Deadline<'a> {
    fn new(clock: &'a Clock, timeout: Duration) -> Self {
        Self { clock, begun: clock.now(), timeout }
    }

    fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.clock.now().since(&self.begun))
    }
}
