use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;

use super::batch::UsageBatch;

/// What a sink gives back: whether it has the batch.
pub type Written<'a> = Pin<Box<dyn Future<Output = Result<(), Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// Where usage goes: a file ([`UsageFile`](super::UsageFile)), a database, a billing service.
///
/// It gets one batch at a time. A batch that fails comes again, the very same with the same `sequence`, until it is taken
/// or the process ends; a sink that may have taken it before it failed tells by `instance` and `sequence`.
///
/// ```
/// use evertoken::server::{UsageBatch, UsageSink, Written};
///
/// struct Lines;
///
/// impl UsageSink for Lines {
///     fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
///         Box::pin(async move {
///             print!("{}", batch.to_json_lines());
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait UsageSink: Send + Sync + 'static {
    /// Takes a batch: when this is done, it is safe.
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a>;
}
