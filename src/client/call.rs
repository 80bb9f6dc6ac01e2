//! One call: wait for the token, send, and once more where that may help.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{AUTHORIZATION, Entry, USER_AGENT};
use http::{HeaderMap, Method, Version};
use reqwest::{Request, Response};
use tower_service::Service;
use url::Url;

use super::{Client, Inner};
use crate::clock::Moment;
use crate::error::Result;
use crate::renewal::AccessToken;
use crate::source::outlives_redirects;

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
    /// With an `Authorization` of the caller's own: whatever comes of it is theirs.
    SentAsItIs(Sending),
    /// The token or its proof may have been refused.
    Answered(Boxed<Response>),
    Over,
}

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// What reqwest does.
type Sending = <reqwest::Client as Service<Request>>::Future;

struct Sent {
    answer: Sending,
    token: AccessToken,
    replay: Option<Replay>,
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
            return Ok(Step::SentAsItIs(api.send(request, api.remaining(deadline))));
        }
        if let Some(token) = api.source.fresh_token() {
            return Ok(Step::Sent(api.send_with(token, request, origin, deadline)?));
        }
        let client = self.client.clone();
        Ok(Step::Waiting(Box::pin(async move {
            let api = &*client.0;
            let token = api.source.token_within(api.remaining(deadline)).await?;
            api.send_with(token, request, origin, deadline)
        })))
    }
}

impl Future for Call {
    type Output = Result<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.step {
                Step::Begun(_) => {
                    if let Step::Begun(request) = self.take_step() {
                        self.step = self.begin(request?)?;
                    }
                }
                Step::Waiting(token) => self.step = Step::Sent(ready!(token.as_mut().poll(context))?),
                Step::Sent(sent) => {
                    let response = ready!(Pin::new(&mut sent.answer).poll(context))?;
                    if !self.client.0.source.heeds(response.status()) {
                        self.step = Step::Over;
                        return Poll::Ready(Ok(response));
                    }
                    if let Step::Sent(sent) = self.take_step() {
                        self.step = Step::Answered(Box::pin(recovered(self.client.clone(), sent, response)));
                    }
                }
                Step::SentAsItIs(answer) => return Pin::new(answer).poll(context).map_err(Into::into),
                Step::Answered(answer) => return answer.as_mut().poll(context),
                Step::Over => return Poll::Pending,
            }
        }
    }
}

/// The answer to a call whose token or proof may have been refused: this one, or that to another sending.
async fn recovered(client: Client, sent: Sent, mut response: Response) -> Result<Response> {
    let api = &*client.0;
    let Sent { token, mut replay, origin, deadline, answer: _ } = sent;
    let mut pass = api.source.clone().pass_with(token).sent_to(origin);
    loop {
        let (from, status, headers) = (response.url(), response.status(), response.headers());
        replay = replay.filter(|replay| replay.outlives_redirects(from));
        let left = api.remaining(deadline);
        let repeats = pass.repeats_within(from, status, headers, replay.is_some(), left).await;
        let Some(again) = replay.filter(|_| repeats) else { return Ok(response) };
        let mut request = again.into_request(response.url());
        replay = if pass.may_repeat() { Replay::of(&request) } else { None };
        pass.sign(request.method(), request.url())?.put_into(request.headers_mut());
        response = api.send(request, api.remaining(deadline)).await?;
    }
}

impl Inner {
    fn send_with(
        &self,
        token: AccessToken,
        mut request: Request,
        origin: usize,
        deadline: Option<Deadline>,
    ) -> Result<Sent> {
        let replay = Replay::of(&request);
        self.source.sign(&token, request.method(), request.url())?.put_into(request.headers_mut());
        let answer = self.send(request, self.remaining(deadline));
        Ok(Sent { answer, token, replay, origin, deadline })
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
        Service::call(&mut &*self.http, request)
    }

    fn remaining(&self, deadline: Option<Deadline>) -> Option<Duration> {
        let left =
            |Deadline { begun, timeout }| timeout.saturating_sub(self.source.clock().now().since(&begun));
        deadline.map(left)
    }
}

/// What it takes to send a request a second time, without its token.
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
