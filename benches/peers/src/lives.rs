//! Callers over many lives of a token, with a slow endpoint, and through an outage.
//!
//! gcp_auth, yup-oauth2 and azure_identity are not here: the margins built into them are longer than these tokens live.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::peers::{self, Peer};
use crate::results::Table;
use crate::server::TokenServer;

/// google-cloud-auth renews such a token every 10 s, whatever its life.
const LIFE: Duration = Duration::from_secs(12);
const LIVES: u32 = 10;
const SLOW: Duration = Duration::from_millis(200);

const LONGER_LIFE: Duration = Duration::from_secs(30);
/// When those who renew ahead do it.
const DOWN_AT: Duration = Duration::from_secs(18);
const DOWN_FOR: Duration = Duration::from_secs(10);
/// For whoever comes back late.
const AFTER: Duration = Duration::from_secs(25);

const CALLERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(5);

/// One call: when it began, how long it waited, whether it got a header.
type Call = (Instant, Duration, bool);

async fn calls<P: Peer>(peer: &Arc<P>, until: Instant) -> Vec<Call> {
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                let mut calls = Vec::new();
                while Instant::now() < until {
                    let began = Instant::now();
                    let served = peer.header().await.is_some();
                    calls.push((began, began.elapsed(), served));
                    tokio::time::sleep(PAUSE).await;
                }
                calls
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.expect("no panic"));
    }
    all
}

async fn held<P: Peer>(server: &TokenServer) -> (Arc<P>, Instant) {
    let peer = Arc::new(P::new(server).await);
    assert!(peer.header().await.is_some(), "{} got no token", P::NAME);
    (peer, Instant::now())
}

async fn spikes<P: Peer>() -> [String; 6] {
    let server = TokenServer::start(LIFE, SLOW).await;
    let (peer, began) = held::<P>(&server).await;
    let mut calls = calls(&peer, began + LIFE * LIVES).await;
    calls.sort_by_key(|call| call.1);
    let at = |share: f64| ms(calls[((calls.len() - 1) as f64 * share) as usize].1);
    let waited = calls.iter().filter(|call| call.1 > SLOW / 2).count() as f64 / calls.len() as f64;
    let requests = server.asked().len();
    [P::NAME.to_owned(), at(0.5), at(0.999), at(1.0), format!("{:.2}", waited * 100.0), requests.to_string()]
}

async fn outage<P: Peer>() -> [String; 5] {
    let server = Arc::new(TokenServer::start(LONGER_LIFE, Duration::ZERO).await);
    let (peer, began) = held::<P>(&server).await;
    let (down, up) = (began + DOWN_AT, began + DOWN_AT + DOWN_FOR);
    let switch = server.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(down.into()).await;
        switch.set_down(true);
        tokio::time::sleep_until(up.into()).await;
        switch.set_down(false);
    });
    let calls = calls(&peer, up + AFTER).await;
    let in_outage = calls.iter().filter(|call| (down..up).contains(&call.0));
    let (all, served) = in_outage.fold((0, 0), |(all, served), call| (all + 1, served + u32::from(call.2)));
    let asked = server.asked();
    let attempts: Vec<_> = asked.iter().filter(|at| (down..up).contains(*at)).collect();
    let busiest = attempts
        .iter()
        .map(|first| {
            attempts.iter().filter(|at| ***at >= **first && ***at < **first + Duration::from_secs(1)).count()
        })
        .max();
    // The first request that could succeed again.
    let back = asked.iter().find(|at| **at >= up).map(|at| *at - up);
    let failed_after = calls.iter().filter(|call| call.0 >= up && !call.2).count();
    [
        P::NAME.to_owned(),
        format!("{:.1}", 100.0 * f64::from(served) / f64::from(all)),
        format!("{} ({} in the busiest second)", attempts.len(), busiest.unwrap_or(0)),
        back.map_or("never".to_owned(), |back| format!("{:.1}", back.as_secs_f64())),
        failed_after.to_string(),
    ]
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

pub async fn spikes_of_all() -> Table {
    let header = ["client", "median_ms", "p99.9_ms", "longest_ms", "percent_that_waited", "token_requests"];
    let mut table = Table::new("spikes", &header);
    let rows = tokio::join!(
        spikes::<peers::ever::Evertoken>(),
        spikes::<peers::aliri::Aliri>(),
        spikes::<peers::google::Google>(),
        spikes::<peers::oauth2_rwlock::Oauth2>(),
        spikes::<peers::gears::Gears>(),
        spikes::<peers::huskarl::Huskarl>(),
        spikes::<peers::aws::Aws>(),
    );
    for row in [rows.0, rows.1, rows.2, rows.3, rows.4, rows.5, rows.6] {
        table.row(row);
    }
    table
}

pub async fn outage_of_all() -> Table {
    let header = ["client", "served_percent", "attempts", "s_to_the_next_request", "failed_calls_after"];
    let mut table = Table::new("outage", &header);
    let rows = tokio::join!(
        outage::<peers::ever::Evertoken>(),
        outage::<peers::aliri::Aliri>(),
        outage::<peers::google::Google>(),
        outage::<peers::oauth2_rwlock::Oauth2>(),
        outage::<peers::gears::Gears>(),
        outage::<peers::huskarl::Huskarl>(),
        outage::<peers::aws::Aws>(),
    );
    for row in [rows.0, rows.1, rows.2, rows.3, rows.4, rows.5, rows.6] {
        table.row(row);
    }
    table
}
