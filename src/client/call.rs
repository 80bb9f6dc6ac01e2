//! One call: wait for the token, send, and once more where that may help.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{AUTHORIZATION, Entry, USER_AGENT};
use http::{HeaderMap, Method, Version};
use reqwest::Request;
use url::Url;

use super::connecting::Sending;
use super::{Client, Inner, Response};
use crate::api_error::{Effect, call_failed, was_interrupted};
use crate::clock::Moment;
use crate::error::Result;
use crate::renewal::AccessToken;
use crate::source::{Pass, outlives_redirects};

/// A call on its way. By hand, since the state of an async function holds the request several times: moving that about
/// before anything was sent took longer than all else that is done here.
pub(super) struct Call {
    client: Client,
    step: Step,
}

enum Step {
    /// Nobody has asked yet.
    Begun(Result<Request>),
    /// For a token.
    Waiting(Boxed<Sent>),
    Sent(Sent),
    /// The token or its proof may have been refused, or the connection was closed before an answer came.
    Again(Boxed<Response>),
    Over,
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

struct Sent {
    answer: Sending,
    /// `None` with an `Authorization` of the caller's own: what the API says to it is theirs.
    token: Option<AccessToken>,
    replay: Option<Replay>,
    effect: Effect,
    /// To which of the trusted ones.
    origin: usize,
    deadline: Option<Deadline>,
}

impl Call {
    pub(super) fn new(client: Client, request: Result<Request>) -> Self {
        Self { client, step: Step::Begun(request) }
    }

    fn take_step(&mut self) -> Step {
        mem::replace(&mut self.step, Step::Over)
    }

    /// The first step; nothing but a missing token is waited for.
    fn begin(&self, request: Request) -> Result<Step> {
        let api = &*self.client.0;
        let origin = api.source.origins().check(request.url())?;
        let timeout = request.timeout().copied().or(api.timeout);
        let deadline = timeout.map(|timeout| Deadline { begun: api.source.clock().now(), timeout });
        if request.headers().contains_key(AUTHORIZATION) {
            return Ok(Step::Sent(api.send_with(None, request, origin, deadline)?));
        }
        if let Some(token) = api.source.fresh_token() {
            return Ok(Step::Sent(api.send_with(Some(token), request, origin, deadline)?));
        }
        let client = self.client.clone();
        Ok(Step::Waiting(Box::pin(async move {
            let api = &*client.0;
            let token = api.source.token_within(api.remaining(deadline)).await?;
            api.send_with(Some(token), request, origin, deadline)
        })))
    }
}

impl Future for Call {
    type Output = Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let Self { client, step } = &mut *self;
            match step {
                Step::Begun(_) => {
                    if let Step::Begun(request) = self.take_step() {
                        self.step = self.begin(request?)?;
                    }
                }
                Step::Waiting(token) => self.step = Step::Sent(ready!(token.as_mut().poll(context))?),
                Step::Sent(sent) => {
                    let outcome = ready!(Pin::new(&mut sent.answer).poll(context));
                    let leads_on = match &outcome {
                        Ok(response) => {
                            sent.token.is_some()
                                && client.0.source.heeds(response.status(), response.headers())
                        }
                        Err(error) => sent.survives(error),
                    };
                    if !leads_on {
                        let effect = sent.effect;
                        self.step = Step::Over;
                        return Poll::Ready(finished(outcome, effect));
                    }
                    if let Step::Sent(sent) = self.take_step() {
                        self.step = Step::Again(Box::pin(again(self.client.clone(), sent, outcome)));
                    }
                }
                Step::Again(answer) => return answer.as_mut().poll(context),
                Step::Over => return Poll::Pending,
            }
        }
    }
}

type Outcome = Result<reqwest::Response, reqwest::Error>;

fn finished(outcome: Outcome, effect: Effect) -> Result<Response> {
    match outcome {
        Ok(response) => Ok(Response::new(response, effect)),
        Err(error) => Err(call_failed(error, effect)),
    }
}

impl Sent {
    /// Whether the request is to be sent once more after this.
    fn survives(&self, error: &reqwest::Error) -> bool {
        self.replay.is_some() && survives(self.effect, self.answer.opened, error)
    }
}

/// Whether a call that failed like this had an open connection that was closed under it, and may be sent again. A new
/// connection that is closed without an answer would probably meet the same end again.
fn survives(effect: Effect, opened: bool, error: &reqwest::Error) -> bool {
    effect == Effect::Once && !opened && was_interrupted(error)
}

/// What comes of a call whose token or proof may have been refused, or whose connection was closed before an answer came:
/// this outcome, or that of another sending.
async fn again(client: Client, sent: Sent, mut outcome: Outcome) -> Result<Response> {
    let api = &*client.0;
    let Sent { token, mut replay, effect, origin, deadline, mut answer } = sent;
    let mut pass = token.map(|token| api.source.clone().pass_with(token).sent_to(origin));
    let mut was_closed = false;
    loop {
        let (url, repeats) = match (&outcome, &mut pass) {
            (Ok(response), Some(pass)) => {
                let (from, status, headers) = (response.url(), response.status(), response.headers());
                replay = replay.filter(|replay| replay.outlives_redirects(from));
                let left = api.remaining(deadline);
                let repeats = pass.repeats_within(from, status, headers, replay.is_some(), left).await;
                (Some(from), repeats)
            }
            (Ok(_), None) => (None, false),
            (Err(error), _) => {
                let repeats = !was_closed && survives(effect, answer.opened, error);
                was_closed = true;
                // A redirect may have led elsewhere.
                let url = error.url();
                let is_ours = |url| api.source.origins().check(url).is_ok_and(|of| of == origin);
                (url, repeats && url.is_some_and(is_ours))
            }
        };
        let (Some(replay_now), Some(url)) = (replay.take().filter(|_| repeats), url) else {
            return finished(outcome, effect);
        };
        let mut request = replay_now.into_request(url);
        let may_repeat = !was_closed || pass.as_ref().is_some_and(Pass::may_repeat);
        replay = if may_repeat { Replay::of(&request) } else { None };
        if let Some(pass) = &pass {
            pass.sign(request.method(), request.url())?.put_into(request.headers_mut());
        }
        answer = api.send(request, api.remaining(deadline));
        outcome = (&mut answer).await;
    }
}

impl Inner {
    fn send_with(
        &self,
        token: Option<AccessToken>,
        mut request: Request,
        origin: usize,
        deadline: Option<Deadline>,
    ) -> Result<Sent> {
        let replay = Replay::of(&request);
        let effect = Effect::of(request.method());
        if let Some(token) = &token {
            self.source.sign(token, request.method(), request.url())?.put_into(request.headers_mut());
        }
        let answer = self.send(request, self.remaining(deadline));
        Ok(Sent { answer, token, replay, effect, origin, deadline })
    }

    fn send(&self, mut request: Request, remaining: Option<Duration>) -> Sending {
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
        Sending::new(&self.http, request)
    }

    fn remaining(&self, deadline: Option<Deadline>) -> Option<Duration> {
        let left =
            |Deadline { begun, timeout }| timeout.saturating_sub(self.source.clock().now().since(&begun));
        deadline.map(left)
    }
}

/// What it takes to send a request a second time, without our token.
enum Replay {
    /// A read, sent again to where the first one came to in the end: cheaper than keeping its URL.
    Read {
        method: Method,
        /// `None` where it has none, as is usual.
        headers: Option<HeaderMap>,
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
                headers: (!request.headers().is_empty()).then(|| request.headers().clone()),
                version: request.version(),
            }),
            _ => request.try_clone().map(Box::new).map(Self::Whole),
        }
    }

    fn outlives_redirects(&self, came_to: &Url) -> bool {
        match self {
            Self::Whole(request) => outlives_redirects(request.method(), request.url(), came_to),
            Self::Read { .. } => true,
        }
    }

    fn into_request(self, came_to: &Url) -> Request {
        match self {
            Self::Whole(request) => *request,
            Self::Read { method, headers, version } => {
                let mut request = Request::new(method, came_to.clone());
                *request.headers_mut() = headers.unwrap_or_default();
                *request.version_mut() = version;
                request
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Deadline {
    begun: Moment,
    timeout: Duration,
}
