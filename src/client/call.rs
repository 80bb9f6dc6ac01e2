//! One call: wait for the token, send, and once more where that may help.

use std::time::Duration;

use http::header::{AUTHORIZATION, Entry, USER_AGENT};
use http::{HeaderMap, Method, Version};
use reqwest::{Request, Response};
use url::Url;

use super::Inner;
use crate::clock::{Clock, Moment};
use crate::error::Result;
use crate::source::Pass;

impl Inner {
    pub(super) async fn call(&self, mut request: Request) -> Result<Response> {
        self.source.origins().check(request.url())?;
        let timeout = request.timeout().copied().or(self.timeout);
        let deadline = timeout.map(|timeout| Deadline::new(self.source.clock(), timeout));
        let remaining = || deadline.as_ref().map(Deadline::remaining);
        if request.headers().contains_key(AUTHORIZATION) {
            return Ok(self.send(request, remaining()).await?);
        }

        let token = self.source.token_within(remaining()).await?;
        let replay = Replay::of(&request);
        self.source.sign(&token, request.method(), request.url())?.put_into(request.headers_mut());
        let response = self.send(request, remaining()).await?;
        if !self.source.heeds(response.status()) {
            return Ok(response);
        }
        // Boxed, so that the future of a call that is simply answered stays small: it is moved before it is sent.
        Box::pin(self.recovered(response, replay, self.source.clone().pass_with(token), &remaining)).await
    }

    /// The answer to a call whose token or proof may have been refused: this one, or that to another sending.
    async fn recovered(
        &self,
        mut response: Response,
        mut replay: Option<Replay>,
        mut pass: Pass,
        remaining: &(impl Fn() -> Option<Duration> + Sync),
    ) -> Result<Response> {
        loop {
            let (from, status, headers) = (response.url(), response.status(), response.headers());
            let repeats = pass.repeats_within(from, status, headers, replay.is_some(), remaining()).await;
            let Some(again) = replay.filter(|_| repeats) else { return Ok(response) };
            let mut request = again.into_request(response.url());
            replay = if pass.may_repeat() { Replay::of(&request) } else { None };
            pass.sign(request.method(), request.url())?.put_into(request.headers_mut());
            response = self.send(request, remaining()).await?;
        }
    }

    fn send(
        &self,
        mut request: Request,
        remaining: Option<Duration>,
    ) -> impl Future<Output = reqwest::Result<Response>> + use<> {
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
        self.http.execute(request)
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
    Whole(Box<Request>),
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
            _ => request.try_clone().map(Box::new).map(Self::Whole),
        }
    }

    fn into_request(self, came_to: &Url) -> Request {
        match self {
            Self::Whole(request) => *request,
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
