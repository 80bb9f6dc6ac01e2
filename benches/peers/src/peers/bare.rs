//! The limit: what any client with an expiring token must do at least.

use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use rustix::time::{ClockId, clock_gettime};

use super::{Peer, bearer};
use crate::server::TokenServer;

pub struct Bare(ArcSwap<Held>);

struct Held {
    header: HeaderValue,
    until: Duration,
}

fn coarse() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl Peer for Bare {
    const NAME: &str = "limit: arc-swap + coarse clock + clone";

    async fn new(_: &TokenServer) -> Self {
        let header = bearer(&"x".repeat(900)).expect("a header");
        Self(ArcSwap::from_pointee(Held { header, until: coarse() + Duration::from_secs(86_400) }))
    }

    async fn header(&self) -> Option<HeaderValue> {
        let held = self.0.load();
        (coarse() < held.until).then(|| held.header.clone())
    }
}
