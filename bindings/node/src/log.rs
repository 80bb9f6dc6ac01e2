//! The crate's log records: with `NODE_DEBUG=evertoken` on standard error, as `util.debuglog` would write them, and those that
//! warn of a `problem`, of which no event tells, for JavaScript to fetch. What becomes of them there is `lib/log.ts`'s matter.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use evertoken_bindings::Language;
use napi_derive::napi;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// The most warnings that wait for JavaScript; the oldest go first.
const MOST: usize = 100;

static TO_STDERR: AtomicBool = AtomicBool::new(false);
static WARNINGS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Takes the records from now on, for the whole process, and with `to_stderr` writes them.
#[napi]
pub fn take_records(to_stderr: bool) {
    TO_STDERR.fetch_or(to_stderr, Ordering::Relaxed);
    // This library's `tracing` is its own: there is no other subscriber, unless this was called before, by another thread.
    let _ = tracing::subscriber::set_global_default(Records);
}

/// Returns what there was to warn of since the last call, each without a secret.
#[napi]
pub fn warnings() -> Vec<String> {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
}

struct Records;

impl Subscriber for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let least =
            if TO_STDERR.load(Ordering::Relaxed) { tracing::Level::DEBUG } else { tracing::Level::WARN };
        metadata.target().starts_with("evertoken") && *metadata.level() <= least
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let (level, Line { message, problem, fields }) = (event.metadata().level(), line);
        if let Some(problem) = problem.as_ref().filter(|_| *level == tracing::Level::WARN) {
            let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
            if warnings.len() == MOST {
                warnings.pop_front();
            }
            warnings.push_back(Language::Node.spell(&format!("{message}: {problem}")).into_owned());
        }
        if !TO_STDERR.load(Ordering::Relaxed) {
            return;
        }
        let text = message + &fields;
        let text = Language::Node.spell(&text);
        let line = format!("EVERTOKEN {}: {level} {text}\n", std::process::id());
        // Who has closed it does not want to know.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    problem: Option<String>,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "problem" {
            self.problem = Some(value.to_owned());
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}
