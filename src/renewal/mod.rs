//! How the token stays fresh: a schedule, a backoff, a slot, and the one task that renews.

mod attempt;
mod backoff;
mod events;
#[cfg(test)]
mod fleet;
mod handover;
mod outcome;
mod plan;
mod policy;
mod refresher;
mod schedule;
#[cfg(test)]
mod slices;
mod slot;
mod status;
mod stripes;
mod task;
mod telemetry;
#[cfg(feature = "server")]
mod term;
mod token;

pub use events::{Event, Events};
pub use policy::RenewalPolicy;
pub(crate) use refresher::{GRACE, Invalidation, Refresher, Refused};
pub(crate) use schedule::Schedule;
#[cfg(feature = "server")]
pub(crate) use schedule::attempt_timeout;
pub(crate) use slot::{Held, Look};
pub use status::{State, Status};
#[cfg(feature = "server")]
pub(crate) use term::Term;
pub use token::AccessToken;
#[cfg(feature = "server")]
pub(crate) use token::Note;
