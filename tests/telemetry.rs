//! What is told to the outside has stable names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod house;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use evertoken::testing::{AuthServer, Fault};
use evertoken::{AppCredentials, CredentialSource, TokenSource};
use house::{client, until};
use metrics::{SharedString, Unit};
use metrics_util::CompositeKey;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

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

    let seen = series(&snapshots);
    let labels =
        format!("client={} audience={} server={}", AuthServer::APP_ID, server.audience(), server.token_url());
    let failures = |kind: &str| format!("evertoken_renewal_failures_total {labels} kind={kind}");
    let of =
        |name: &str| seen.get(&format!("{name} {labels}")).unwrap_or_else(|| panic!("{name}: {seen:#?}"));
    assert_eq!(*of("evertoken_renewals_total"), 2.0);
    assert_eq!(*of("evertoken_recoveries_total"), 1.0);
    assert_eq!(seen[&failures("auth_server_unavailable")], 1.0);
    assert_eq!(seen[&failures("credentials_rejected")], 0.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let left = of("evertoken_token_expiry_timestamp_seconds") - now;
    assert!((3000.0..3601.0).contains(&left), "{left}");
    assert!((3000.0..=3600.0).contains(of("evertoken_token_remaining_seconds")));
    for name in ["evertoken_token_age_seconds", "evertoken_renewal_seconds", "evertoken_wait_seconds"] {
        of(name);
    }
    // The documentation has these and no others of the client, with their labels.
    let documented = documented();
    for key in seen.keys() {
        let mut words = key.split(' ');
        let name = words.next().unwrap();
        let labels: Vec<_> = words.map(|label| label.split('=').next().unwrap()).collect();
        assert_eq!(documented.get(name).map(|row| &row[..]), Some(&labels[..]), "{key}");
    }
    for name in documented.keys() {
        let is_other = ["_exchange_", "_usage_", "_quota_"].iter().any(|other| name.contains(other));
        let has_it = seen.keys().any(|key| key.split(' ').next() == Some(name));
        assert!(is_other || has_it, "{name} is documented, and not there");
    }
}

/// Every series, as its name and labels, and its value; that of a histogram is the number of its samples.
fn series(snapshots: &Snapshotter) -> BTreeMap<String, f64> {
    let shown =
        |(key, _, described, value): (CompositeKey, Option<Unit>, Option<SharedString>, DebugValue)| {
            let key = key.key();
            let name = key.name();
            assert!(described.is_some(), "{name} is not described");
            let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
            let value = match value {
                DebugValue::Counter(count) => f64::from(u32::try_from(count).unwrap()),
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(samples) => f64::from(u32::try_from(samples.len()).unwrap()),
            };
            (format!("{name}{}", labels.collect::<String>()), value)
        };
    snapshots.snapshot().into_vec().into_iter().map(shown).collect()
}

/// The labels of each metric, by the table of the README.
fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
    let readme = include_str!("../README.md");
    let (_, table) = readme.split_once("| Metric | Kind | Labels |\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let ticked = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    let mut found = BTreeMap::new();
    for row in rows.skip(1) {
        let cells: Vec<_> = row.split('|').collect();
        let labels: Vec<_> = ticked(cells[3])
            .filter(|word| !word.contains('_') && *word != "issued" && *word != "other")
            .collect();
        for name in ticked(cells[1]) {
            found.insert(name, labels.clone());
        }
    }
    found
}

#[tokio::test]
async fn clients_have_series_of_their_own_from_the_start() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _mine = metrics::set_default_local_recorder(&recorder);
    let server = AuthServer::builder().client("other", "secret").start().await.unwrap();
    let build = |id: &str, name: &str, audience: &str| {
        let builder = TokenSource::builder(id, "secret").token_url(server.token_url());
        let builder = if audience.is_empty() {
            builder.resource("https://r.example/")
        } else {
            builder.audience(audience)
        };
        builder.name(name).build().unwrap()
    };
    let sources = [
        build("app", "", "https://one.example"),
        build("app", "", "https://two.example"),
        build("app", "billing", "https://one.example"),
        build("other", "", ""),
    ];
    let of = |labels: [&str; 2]| {
        format!(
            "evertoken_renewals_total client={} audience={} server={}",
            labels[0],
            labels[1],
            server.token_url()
        )
    };
    let mut expected: BTreeMap<_, _> = [
        ["app", "https://one.example"],
        ["app", "https://two.example"],
        ["billing", "https://one.example"],
        ["other", "https://r.example/"],
    ]
    .map(|labels| (of(labels), 0.0))
    .into();
    let renewals = || {
        let all = series(&snapshots).into_iter();
        all.filter(|(key, _)| key.starts_with("evertoken_renewals_total")).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(renewals(), expected, "nothing has been asked yet");
    sources[2].token().await.unwrap();
    sources[2].with("https://three.example", ["read"]).unwrap().token().await.unwrap();
    expected.insert(of(["billing", "https://one.example"]), 1.0);
    expected.insert(of(["billing", "https://three.example"]), 1.0);
    assert_eq!(renewals(), expected);
}

#[tokio::test]
async fn a_client_whose_app_id_comes_late_has_series_from_then_on() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _mine = metrics::set_default_local_recorder(&recorder);
    let server = AuthServer::start().await.unwrap();
    let given = || async { Ok::<_, String>(AppCredentials::new(AuthServer::APP_ID, AuthServer::APP_SECRET)) };
    let source = TokenSource::builder_with(CredentialSource::provider(given)).token_url(server.token_url());
    let source = source.build().unwrap();
    assert_eq!(series(&snapshots).len(), 0);
    source.token().await.unwrap();
    let seen = series(&snapshots);
    assert!(seen.keys().all(|key| key.contains("client=app ")), "{seen:#?}");
    assert!(seen.keys().any(|key| key.ends_with("kind=throttled")), "{seen:#?}");
}

#[tokio::test]
async fn the_log_names_the_client_and_rounds_its_numbers() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || Writer(writer.clone()))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = AuthServer::start().await.unwrap();
    let api = client(&server).name("billing").build().unwrap();
    api.token().await.unwrap();
    let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("client=\"billing\"")).collect();
    for said in ["token renewed", "waited for a token", "token held"] {
        assert!(lines.iter().any(|line| line.contains(said)), "{said}: {text}");
    }
    for number in lines
        .iter()
        .flat_map(|line| line.split(' '))
        .filter_map(|word| word.split_once("_s=").or(word.split_once("_ms=")))
    {
        let digits = number.1.split_once('.').map_or(0, |(_, digits)| digits.len());
        assert!(digits <= 1, "{number:?}");
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
