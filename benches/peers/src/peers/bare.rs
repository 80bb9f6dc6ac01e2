//! The limits: what any client with an expiring token must do at least.

use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustix::time::{ClockId, clock_gettime};

use super::{Peer, bearer};
use crate::server::TokenServer;

/// With so many clocks: the monotonic one alone, which does not see a suspend, or the wall clock besides.
pub struct Bare<const CLOCKS: usize>(ArcSwap<Held>);

struct Held {
    header: HeaderValue,
    until: [Duration; 2],
}

const CLOCK: [ClockId; 2] = [ClockId::MonotonicCoarse, ClockId::RealtimeCoarse];

fn coarse(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl<const CLOCKS: usize> Peer for Bare<CLOCKS> {
    const NAME: &str = if CLOCKS == 1 { "limit with one clock" } else { "limit with two clocks" };

    async fn new(_: &TokenServer) -> Self {
        let header = bearer(&"x".repeat(900)).expect("a header");
        let until = CLOCK.map(|clock| coarse(clock) + Duration::from_secs(86_400));
        Self(ArcSwap::from_pointee(Held { header, until }))
    }

    async fn header(&self) -> Option<HeaderValue> {
        let held = self.0.load();
        (0..CLOCKS).all(|n| coarse(CLOCK[n]) < held.until[n]).then(|| held.header.clone())
    }
}
