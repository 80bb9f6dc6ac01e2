//! What is told to the outside has stable names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::collections::BTreeSet;
use std::time::Duration;

use evertoken::testing::{AuthServer, Fault};
use house::{client, until};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

#[tokio::test]
async fn renewals_failures_waits_and_recoveries_are_counted() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    // One thread runs it all, so that the recorder can be this thread's.
    let _mine = metrics::set_default_local_recorder(&recorder);

    let server = AuthServer::start().await.unwrap();
    server.fail_next(Fault::Reset);
    let api = client(&server).build().unwrap();
    api.prefetch().await.unwrap();
    server.revoke_all();
    assert!(api.get("orders").send().await.unwrap().status().is_success());
    until("the next step was taken", || {
        api.status().next_attempt.is_some_and(|left| left > Duration::from_secs(9))
    })
    .await;

    let seen = snapshots.snapshot().into_vec();
    let names: BTreeSet<_> = seen.iter().map(|(key, ..)| key.key().name().to_owned()).collect();
    assert_eq!(
        names.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "evertoken_recoveries_total",
            "evertoken_renewal_failures_total",
            "evertoken_renewal_seconds",
            "evertoken_renewals_total",
            "evertoken_token_age_seconds",
            "evertoken_token_remaining_seconds",
            "evertoken_wait_seconds",
        ]
    );
    let count = |name: &str| {
        seen.iter().find(|(key, ..)| key.key().name() == name).map(|(.., value)| match value {
            DebugValue::Counter(count) => *count,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(count("evertoken_renewals_total"), Some(2));
    assert_eq!(count("evertoken_renewal_failures_total"), Some(1));
    assert_eq!(count("evertoken_recoveries_total"), Some(1));
    let failure =
        seen.iter().find(|(key, ..)| key.key().name() == "evertoken_renewal_failures_total").unwrap();
    let labels: Vec<_> = failure.0.key().labels().map(|label| (label.key(), label.value())).collect();
    assert_eq!(labels, [("server", server.token_url().as_str()), ("kind", "AuthServerUnavailable")]);
}
