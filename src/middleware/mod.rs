//! The token for other stacks: tower and reqwest-middleware.

mod reqwest;
mod tower;

pub use self::reqwest::TokenMiddleware;
pub use self::tower::{TokenFuture, TokenLayer, TokenService};
use crate::error::{Error, Result};
use crate::source::TokenSource;

/// An adapter cannot know which API it stands before, so the source must.
fn require_origins(source: &TokenSource) -> Result<()> {
    if source.origins().is_empty() {
        return Err(Error::configuration(
            "the token source trusts no origin, so no request could carry its token",
        )
        .advice("set `base_url` or `trusted_origin` on it"));
    }
    Ok(())
}
