//! A thousand callers, and no token yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::DAY;
use crate::peers::{self, Peer};
use crate::results::{Table, median};
use crate::server::TokenServer;

const CALLERS: usize = 1_000;
const LATENCY: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;

async fn row<P: Peer>(table: &mut Table) {
    let (mut requests, mut served, mut took) = (0, 0, Vec::new());
    for _ in 0..ROUNDS {
        let server = TokenServer::start(DAY, LATENCY).await;
        let peer = Arc::new(P::new(&server).await);
        let start = Arc::new(Barrier::new(CALLERS + 1));
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (peer, start) = (peer.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    peer.header().await.is_some()
                })
            })
            .collect();
        start.wait().await;
        let began = Instant::now();
        for caller in callers {
            served += usize::from(caller.await.expect("no panic"));
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
        requests = requests.max(server.asked().len());
    }
    table.row([
        P::NAME.to_owned(),
        requests.to_string(),
        format!("{:.1}", median(&mut took)),
        (CALLERS * ROUNDS - served).to_string(),
    ]);
}

pub async fn measure() -> Table {
    let mut table =
        Table::new("cold", &["client", "token_requests_at_most", "ms_to_the_last", "failed_calls"]);
    row::<peers::ever::Evertoken>(&mut table).await;
    row::<peers::aliri::Aliri>(&mut table).await;
    row::<peers::google::Google>(&mut table).await;
    row::<peers::oauth2_rwlock::Oauth2>(&mut table).await;
    row::<peers::gcp_auth::GcpAuth>(&mut table).await;
    row::<peers::yup::Yup>(&mut table).await;
    row::<peers::azure::Azure>(&mut table).await;
    row::<peers::gears::Gears>(&mut table).await;
    row::<peers::huskarl::Huskarl>(&mut table).await;
    row::<peers::aws::Aws>(&mut table).await;
    table
}
