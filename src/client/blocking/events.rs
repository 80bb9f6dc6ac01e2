use std::fmt;
use std::sync::Arc;

use super::worker::Worker;
use crate::renewal::{self, Event};

/// The events of a client, from the moment it was asked for: an iterator that waits for each of them and ends once the
/// client is shut down or gone, which it does not hinder. A reader who falls more than 64 events behind gets
/// [`Event::Missed`].
///
/// ```no_run
/// # fn run(api: evertoken::blocking::Client) {
/// let events = api.events();
/// std::thread::spawn(move || {
///     for event in events {
///         eprintln!("{event:?}");
///     }
/// });
/// # }
/// ```
pub struct Events {
    /// `None` after a wait that could not be.
    events: Option<renewal::Events>,
    worker: Arc<Worker>,
}

impl Events {
    pub(super) fn new(events: renewal::Events, worker: Arc<Worker>) -> Self {
        Self { events: Some(events), worker }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.as_mut()?.try_next()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut events = self.events.take()?;
        let next = async move {
            let event = events.next().await;
            (events, event)
        };
        let (events, event) = self.worker.run(next).ok()?;
        self.events = Some(events);
        event
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
