//! `NODE_DEBUG=evertoken`: the crate's log records, on standard error, as `util.debuglog` would write them.

use std::io::Write;

use evertoken_bindings::Language;
use napi_derive::napi;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// From now on, for the whole process.
#[napi]
pub fn debug_to_stderr() {
    // This library's `tracing` is its own: there is no other subscriber, unless this was called before.
    let _ = tracing::subscriber::set_global_default(Records);
}

struct Records;

impl Subscriber for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("evertoken") && *metadata.level() <= tracing::Level::DEBUG
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
        let (level, Line { message, fields }) = (event.metadata().level(), line);
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
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}
