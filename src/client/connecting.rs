//! Whether a call opened a connection of its own, or went over one that was open already: reqwest does not say.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use reqwest::Request;
use tower_layer::Layer;
use tower_service::Service;

thread_local! {
    /// How many connections have been begun on this thread.
    static BEGUN: Cell<u64> = const { Cell::new(0) };
}

/// Counts connections. A connection is begun while the call that needs it is polled, and on the same thread.
#[derive(Debug, Clone)]
pub(super) struct CountConnections;

#[derive(Debug, Clone)]
pub(super) struct Counted<S>(S);

impl<S> Layer<S> for CountConnections {
    type Service = Counted<S>;

    fn layer(&self, connector: S) -> Counted<S> {
        Counted(connector)
    }
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: R) -> S::Future {
        BEGUN.set(BEGUN.get().wrapping_add(1));
        self.0.call(target)
    }
}

/// A request on its way.
pub(super) struct Sending {
    answer: <reqwest::Client as Service<Request>>::Future,
    /// It began to open a connection. Never known of a transport without [`CountConnections`].
    pub(super) opened: bool,
}

impl Sending {
    pub(super) fn new(http: &reqwest::Client, request: Request) -> Self {
        Self { answer: Service::call(&mut &*http, request), opened: false }
    }
}

impl Future for Sending {
    type Output = Result<reqwest::Response, reqwest::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = BEGUN.get();
        let polled = Pin::new(&mut self.answer).poll(context);
        self.opened |= BEGUN.get() != before;
        polled
    }
}
