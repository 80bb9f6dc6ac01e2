//! What a server does off the standards and is taken all the same: logged once per client, however many tokens come. Whether
//! it is taken is decided where the answer is parsed.

use std::sync::atomic::{AtomicBool, Ordering};

use url::Url;

use super::server_clock::Offset;
use crate::origin;

/// By how many milliseconds clocks may differ without a word.
const MOST_SILENT: u64 = 5_000;

/// What was logged so far. All sources of a client share it.
#[derive(Debug, Default)]
pub(super) struct Oddities {
    token_type: AtomicBool,
    padded_token: AtomicBool,
    clock: AtomicBool,
}

impl Oddities {
    /// Logs that a token of this type is taken as Bearer. `given` is ready to be shown.
    pub(super) fn token_type(&self, endpoint: &Url, given: &str) {
        if first(&self.token_type) {
            let server = origin::shown(endpoint);
            tracing::warn!(
                target: "evertoken", server, token_type = given,
                "the server gives tokens of a type that no standard names; they are sent as Bearer tokens"
            );
        }
    }

    /// Logs that white space or control characters were removed from the ends of a token.
    pub(super) fn padded_token(&self, endpoint: &Url) {
        if first(&self.padded_token) {
            let server = origin::shown(endpoint);
            tracing::warn!(
                target: "evertoken", server,
                "the server gives tokens with white space or a line end around them; it is removed (RFC 6749 A.12)"
            );
        }
    }

    /// Logs that this machine's clock and the server's differ by more than a few seconds. Only for clients whose requests
    /// bear a time.
    pub(super) fn clock(&self, endpoint: &Url, offset: Offset) {
        let proven = offset.proven();
        if proven.unsigned_abs() <= MOST_SILENT || !first(&self.clock) {
            return;
        }
        let server = origin::shown(endpoint);
        let seconds = proven.unsigned_abs() / 1000;
        let place = if proven < 0 { "ahead of" } else { "behind" };
        if offset.is_believed() {
            tracing::warn!(
                target: "evertoken", server,
                "this machine's clock is {seconds} s {place} the server's: set it by NTP; until then assertions and proofs \
                 are issued by the server's"
            );
        } else {
            tracing::warn!(
                target: "evertoken", server,
                "this machine's clock is {seconds} s {place} the server's, which is too much to be corrected: set it by \
                 NTP; assertions and proofs are refused until then"
            );
        }
    }
}

fn first(said: &AtomicBool) -> bool {
    !said.swap(true, Ordering::Relaxed)
}
