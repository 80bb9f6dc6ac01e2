//! What goes to JavaScript: outcomes that somebody awaits, events, and questions for its functions.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use evertoken::{AppCredentials, Error};
use napi::Status;
use napi::bindgen_prelude::Result;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use tokio::sync::{oneshot, watch};

use crate::errors::told;
use crate::home;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One letter. `id` says who waits for it; 0 stands for nobody.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Letter {
    pub id: u32,
    /// Why it failed: `EvertokenError` in JSON.
    pub error: Option<String>,
    pub token: Option<String>,
    /// Whether a call is to be sent once more.
    pub repeats: Option<bool>,
    /// What `check` found.
    pub found: Option<String>,
    pub well: Option<bool>,
    /// An event in JSON.
    pub event: Option<String>,
    /// The number of a question for credentials.
    pub ask: Option<u32>,
}

impl Letter {
    pub fn of<T>(outcome: evertoken::Result<T>, fill: impl FnOnce(T) -> Self) -> Self {
        match outcome {
            Ok(value) => fill(value),
            Err(error) => Self::failed(&error),
        }
    }

    pub fn failed(error: &Error) -> Self {
        Self { error: Some(told(error)), ..Self::default() }
    }
}

/// Weak: that it exists keeps no event loop alive. Where somebody waits, JavaScript sees to that.
pub type Deliver = ThreadsafeFunction<Letter, (), Letter, Status, false, true>;

/// The way to one client of one environment.
#[derive(Clone)]
pub struct Mailbox(Arc<Inner>);

struct Inner {
    way: Mutex<Way>,
    questions: Mutex<Questions>,
    closed: watch::Sender<bool>,
}

/// Where letters go.
enum Way {
    /// JavaScript has not connected yet; these are kept for it.
    Waiting(Vec<Letter>),
    Open(Deliver),
    Closed,
}

fn post(deliver: &Deliver, letter: Letter) {
    // If the environment is about to end, nobody is there to read it.
    let _ = deliver.call(letter, ThreadsafeFunctionCallMode::NonBlocking);
}

#[derive(Default)]
struct Questions {
    last: u32,
    open: HashMap<u32, oneshot::Sender<std::result::Result<AppCredentials, BoxError>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mailbox {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            way: Mutex::new(Way::Waiting(Vec::new())),
            questions: Mutex::default(),
            closed: watch::Sender::new(false),
        }))
    }

    /// Delivers what has been sent so far, in order, and from now on whatever is sent.
    pub fn connect(&self, deliver: Deliver) {
        let mut way = lock(&self.0.way);
        if let Way::Waiting(letters) = &mut *way {
            for letter in letters.drain(..) {
                post(&deliver, letter);
            }
            *way = Way::Open(deliver);
        }
    }

    /// Nothing is sent any more, and what was under way for it is given up.
    pub fn close(&self) {
        let way = std::mem::replace(&mut *lock(&self.0.way), Way::Closed);
        drop(way);
        lock(&self.0.questions).open.clear();
        self.0.closed.send_replace(true);
    }

    pub fn send(&self, letter: Letter) {
        match &mut *lock(&self.0.way) {
            Way::Waiting(letters) => letters.push(letter),
            Way::Open(deliver) => post(deliver, letter),
            Way::Closed => {}
        }
    }

    /// The outcome, if there is one at once. Else it is sent to `id` when it is there.
    pub fn answer(
        &self,
        id: u32,
        outcome: impl Future<Output = Letter> + Send + 'static,
    ) -> Result<Option<Letter>> {
        let runtime = home::runtime()?;
        let _inside = runtime.enter();
        let mut outcome: Pin<Box<dyn Future<Output = Letter> + Send>> = Box::pin(outcome);
        if let Poll::Ready(letter) = outcome.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(Some(letter));
        }
        let this = self.clone();
        let mut closed = self.0.closed.subscribe();
        runtime.spawn(async move {
            tokio::select! {
                letter = outcome => this.send(Letter { id, ..letter }),
                _ = closed.wait_for(|closed| *closed) => {}
            }
        });
        Ok(None)
    }

    /// Has JavaScript asked for credentials.
    pub async fn ask(self) -> std::result::Result<AppCredentials, BoxError> {
        let (reply, answer) = oneshot::channel();
        let number = {
            let mut questions = lock(&self.0.questions);
            questions.last = questions.last.wrapping_add(1);
            let number = questions.last;
            questions.open.retain(|_, reply| !reply.is_closed());
            questions.open.insert(number, reply);
            number
        };
        self.send(Letter { ask: Some(number), ..Letter::default() });
        answer.await.map_err(|_| "the client of this function is gone")?
    }

    pub fn reply(&self, number: u32, outcome: std::result::Result<AppCredentials, BoxError>) {
        if let Some(reply) = lock(&self.0.questions).open.remove(&number) {
            // Nobody waits any more where an attempt's time was up.
            let _ = reply.send(outcome);
        }
    }
}
