use bytes::Bytes;
use url::Url;

use super::transport::Transport;
use super::{discovery, pacing, refusal};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::origin;

/// Gets a public document of the server's, called `what`.
pub(crate) async fn fetch(what: &str, url: &Url, transport: &dyn Transport, clock: &Clock) -> Result<Bytes> {
    let at = |error: Error| error.with_server(origin::shown(url));
    let answer = transport.send(discovery::request(url)?).await.map_err(refusal::unanswered).map_err(at)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let kind = match status.as_u16() {
        429 => ErrorKind::Throttled,
        500.. => ErrorKind::AuthServerUnavailable,
        _ => ErrorKind::InvalidResponse,
    };
    let wait = pacing::retry_after(answer.headers(), clock.now().wall);
    let through = refusal::handed_on(&answer);
    let error = Error::new(kind, format!("{what} could not be read: the server answered {status}{through}"));
    Err(at(error.with_status(status.as_u16()).with_retry_after(wait)))
}
