//! To the second, by a clock that stands still in between.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};

use super::*;
use crate::error::ErrorKind;
use crate::server::caller::{How, Identity};
use crate::testing::ManualClock;

#[derive(Debug, Clone, Copy)]
enum Does {
    Take,
    Fail,
    /// It has it and says that it has not.
    TakeAndFail,
    Hang,
    Panic,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// What it does next; beyond it takes what comes.
    does: VecDeque<Does>,
    taken: Vec<UsageBatch>,
    offered: Vec<u64>,
}

impl Sink {
    fn does(&self, all: impl IntoIterator<Item = Does>) {
        self.0.lock().unwrap().does.extend(all);
    }

    fn taken(&self) -> Vec<UsageBatch> {
        self.0.lock().unwrap().taken.clone()
    }

    /// The numbers of all batches that were offered.
    fn offered(&self) -> Vec<u64> {
        self.0.lock().unwrap().offered.clone()
    }
}

impl UsageSink for Sink {
    fn write<'a>(&'a self, batch: &'a UsageBatch) -> Written<'a> {
        let does = {
            let mut all = self.0.lock().unwrap();
            all.offered.push(batch.sequence);
            let does = all.does.pop_front().unwrap_or(Does::Take);
            // As one that goes by the number.
            let has = all
                .taken
                .iter()
                .any(|taken| (&taken.instance, taken.sequence) == (&batch.instance, batch.sequence));
            if matches!(does, Does::Take | Does::TakeAndFail) && !has {
                all.taken.push(batch.clone());
            }
            does
        };
        Box::pin(async move {
            match does {
                Does::Take => Ok(()),
                Does::Fail | Does::TakeAndFail => Err("the disk is\nfull".into()),
                Does::Hang => pending().await,
                Does::Panic => panic!("sink"),
            }
        })
    }
}

struct Scene {
    sink: Sink,
    clock: Arc<ManualClock>,
    usage: Usage,
}

impl Scene {
    fn new() -> Self {
        let (sink, clock) = (Sink::default(), Arc::new(ManualClock::default()));
        let usage = Usage::builder(sink.clone())
            .customer(|app_id| match app_id {
                "boom" => panic!("customer"),
                app_id => app_id.split_once('-').map(|(customer, _)| customer.to_owned()),
            })
            .clock(clock.clone())
            .start()
            .unwrap();
        Self { sink, clock, usage }
    }

    fn accepted(&self, app_id: &str) {
        self.usage.call(Some(app_id), CallOutcome::Accepted, Some("read"));
    }

    async fn pass(&self, seconds: u64) {
        rest().await;
        self.clock.advance(Duration::from_secs(seconds));
        rest().await;
    }

    /// Of all batches that were taken.
    fn calls(&self) -> u64 {
        self.sink.taken().iter().flat_map(|batch| &batch.records).map(UsageRecord::total_calls).sum()
    }
}

async fn rest() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn caller(app_id: &str) -> Caller {
    let identity = Identity {
        app_id: app_id.into(),
        scopes: Box::default(),
        claims: Map::new(),
        expires: None,
        issued: None,
        binding: Default::default(),
    };
    Caller::new(Arc::new(identity), How::Bearer)
}

#[tokio::test]
async fn a_batch_has_all_that_was_counted_and_the_next_one_begins_where_it_ends() {
    let scene = Scene::new();
    let start = scene.clock.wall();
    scene.accepted("acme-1");
    scene.accepted("acme-1");
    scene.usage.call(Some("acme-1"), CallOutcome::Forbidden, Some("write"));
    scene.usage.call(Some("nobody"), CallOutcome::Unauthorized, None);
    scene.usage.call(None, CallOutcome::Unauthorized, None);
    scene.usage.record(&caller("acme-1"), "pages", 12);
    scene.usage.record(&caller("acme-1"), "pages", 30);
    scene.usage.issued("acme-1");
    scene.usage.call(Some("boom"), CallOutcome::Accepted, None);
    scene.pass(59).await;
    assert!(scene.sink.taken().is_empty());
    scene.pass(1).await;
    let batch = scene.sink.taken().remove(0);
    let names: Vec<_> = batch.records.iter().map(|record| record.app_id.as_deref()).collect();
    assert_eq!(names, [None, Some("acme-1"), Some("boom"), Some("nobody")]);
    assert_eq!((batch.sequence, batch.from, batch.until), (1, start, start + Duration::from_secs(60)));
    let record = &batch.records[1];
    assert_eq!(record.customer.as_deref(), Some("acme"));
    assert_eq!(record.calls, BTreeMap::from([(CallOutcome::Accepted, 2), (CallOutcome::Forbidden, 1)]));
    assert_eq!(record.scopes, BTreeMap::from([("read".to_owned(), 2)]));
    assert_eq!((record.units["pages"], record.tokens_issued, record.last_used), (42, 1, Some(start)));

    scene.pass(60).await;
    assert_eq!(scene.sink.taken().len(), 1, "one without records is none");
    scene.accepted("acme-1");
    scene.pass(60).await;
    let next = scene.sink.taken().remove(1);
    assert_eq!((next.sequence, next.from, &next.instance), (2, batch.until, &batch.instance));
    assert_eq!(scene.calls(), 7);
}

#[tokio::test]
async fn a_batch_that_fails_comes_again_the_very_same_and_nothing_is_counted_twice() {
    let scene = Scene::new();
    scene.sink.does([Does::Fail, Does::TakeAndFail, Does::Panic, Does::Hang]);
    scene.accepted("app");
    scene.pass(60).await;
    for pause in [1, 2, 4] {
        // What comes meanwhile waits for the next one.
        scene.accepted("app");
        scene.pass(pause - 1).await;
        let offered = scene.sink.offered().len();
        scene.pass(1).await;
        assert_eq!(scene.sink.offered().len(), offered + 1, "{pause}");
    }
    scene.pass(10).await; // the one that hangs
    scene.pass(8).await;
    assert_eq!(scene.sink.offered(), [1, 1, 1, 1, 1]);
    scene.pass(60).await;
    assert_eq!(scene.sink.offered(), [1, 1, 1, 1, 1, 2]);
    assert_eq!(scene.sink.taken().iter().map(|batch| batch.sequence).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(scene.calls(), 4);
}

#[tokio::test]
async fn after_shutdown_nothing_is_lost_and_without_a_sink_it_is_told() {
    let scene = Scene::new();
    scene.sink.does([Does::Fail, Does::Fail]);
    scene.accepted("app");
    scene.pass(60).await;
    scene.accepted("app");
    let usage = scene.usage.clone();
    let ending = tokio::spawn(async move { usage.shutdown().await });
    for _ in 0..5 {
        scene.pass(1).await;
    }
    ending.await.unwrap().unwrap();
    assert_eq!((scene.calls(), scene.sink.taken().len()), (2, 2));
    scene.usage.shutdown().await.unwrap();

    let scene = Scene::new();
    scene.sink.does([Does::Fail; 50]);
    scene.accepted("app");
    let usage = scene.usage.clone();
    let ending = tokio::spawn(async move { usage.shutdown().await });
    for _ in 0..11 {
        scene.pass(1).await;
    }
    let error = ending.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Api);
    assert!(error.to_string().contains("batch 1: the disk isfull"), "{error}");
}

#[tokio::test]
async fn with_the_last_handle_what_is_left_is_handed_on() {
    let scene = Scene::new();
    scene.accepted("app");
    let sink = scene.sink.clone();
    drop(scene);
    rest().await;
    assert_eq!(sink.taken().len(), 1);
}

#[test]
fn it_needs_a_runtime_and_says_when_that_is_gone() {
    let error = Usage::builder(Sink::default()).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let usage = runtime.block_on(async { Usage::builder(Sink::default()).start().unwrap() });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(other.block_on(usage.shutdown()).unwrap_err().kind(), ErrorKind::Closed);
    for bad in [
        Usage::builder(Sink::default()).interval(Duration::ZERO),
        Usage::builder(Sink::default()).patience(Duration::ZERO),
        Usage::builder(Sink::default()).capacity(0),
    ] {
        assert_eq!(bad.start().unwrap_err().kind(), ErrorKind::Configuration);
    }
}

#[tokio::test]
async fn the_file_has_one_line_for_each_app_id_and_batch() {
    let path = std::env::temp_dir().join(format!("evertoken-usage-lines-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let usage = Usage::builder(UsageFile::new(&path)).start().unwrap();
    usage.call(Some("a\"\n"), CallOutcome::Accepted, Some("read"));
    usage.call(None, CallOutcome::Malformed, None);
    usage.shutdown().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["app_id"], &lines[0]["calls"]["malformed"]), (&Value::Null, &1.into()));
    assert_eq!((&lines[1]["app_id"], &lines[1]["scopes"]["read"]), (&"a\"\n".into(), &1.into()));
    assert_eq!((&lines[0]["sequence"], &lines[1]["sequence"]), (&1.into(), &1.into()));
    assert_eq!(
        (lines[0]["instance"].as_str().unwrap().len(), &lines[0]["instance"]),
        (32, &lines[1]["instance"])
    );
    let last_used = lines[1]["last_used"].as_str().unwrap();
    assert!(last_used.ends_with('Z') && last_used.len() == 24, "{last_used}");
}

#[tokio::test]
async fn a_refused_secret_is_no_use_of_the_key() {
    let scene = Scene::new();
    let first = scene.clock.wall();
    scene.accepted("app");
    scene.pass(10).await;
    for outcome in [CallOutcome::Unauthorized, CallOutcome::Throttled, CallOutcome::Unavailable] {
        scene.usage.call(Some("app"), outcome, None);
        scene.usage.call(Some("victim"), outcome, None);
    }
    let last_used = || ["app", "victim"].map(|app_id| scene.usage.last_used(app_id));
    assert_eq!(last_used(), [Some(first), None]);
    scene.pass(60).await;
    assert_eq!(last_used(), [Some(first), None]);
    let records = scene.sink.taken().remove(0).records;
    assert_eq!((records[0].last_used, records[1].last_used), (Some(first), None));
    assert_eq!((records[1].app_id.as_deref(), records[1].total_calls()), (Some("victim"), 3));

    // Nor of no key at all; it is counted all the same.
    scene.usage.call(None, CallOutcome::Unauthorized, None);
    scene.usage.flush().await.unwrap();
    let record = scene.sink.taken().pop().unwrap().records.remove(0);
    assert_eq!((record.app_id, record.last_used, record.calls[&CallOutcome::Unauthorized]), (None, None, 1));

    scene.usage.answered(Some("app"), Some(StatusCode::BAD_GATEWAY), None);
    assert_eq!(scene.usage.last_used("app"), Some(scene.clock.wall()), "the key was used, though in vain");
}

#[tokio::test]
async fn a_failure_of_the_api_is_told_from_what_it_answered() {
    let scene = Scene::new();
    for status in [200, 204, 304, 404, 422, 500, 502, 502, 502, 503, 599, 600] {
        let status = StatusCode::from_u16(status).unwrap();
        scene.usage.answered(Some("app"), Some(status), Some("read"));
    }
    scene.usage.answered(Some("app"), None, None);
    scene.usage.flush().await.unwrap();
    let record = scene.sink.taken().remove(0).records.remove(0);
    assert_eq!(record.calls, BTreeMap::from([(CallOutcome::Accepted, 6), (CallOutcome::Failed, 7)]));
    assert_eq!(record.scopes["read"], 5);
    let responses = record.responses.iter().map(|(class, calls)| (class.as_str(), *calls));
    let expected = [("2xx", 2), ("3xx", 1), ("4xx", 2), ("5xx", 7), ("none", 1)];
    assert_eq!(responses.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn no_batch_ends_before_it_begins_when_the_clock_is_set_back() {
    let scene = Scene::new();
    let start = scene.clock.wall();
    scene.pass(30).await;
    scene.accepted("before");
    scene.clock.set_wall(start - Duration::from_secs(3600));
    scene.accepted("after");
    scene.pass(30).await;
    let last_used = scene.usage.last_used("after").unwrap();
    assert!(last_used < start, "by the new time");
    scene.accepted("later");
    scene.pass(60).await;
    // And forth.
    scene.clock.set_wall(start + Duration::from_secs(3600));
    scene.accepted("ahead");
    scene.pass(60).await;
    let taken = scene.sink.taken();
    assert_eq!(taken.len(), 3);
    for batch in &taken {
        assert!(batch.from <= batch.until, "{batch:?}");
        assert!(batch.records.iter().all(|record| record.last_used.unwrap() <= batch.until), "{batch:?}");
    }
    assert_eq!((taken[0].from, taken[0].until), (start, start + Duration::from_secs(30)));
    assert_eq!(taken[1].from, start - Duration::from_secs(3570));
    assert_eq!(taken[1].until - Duration::from_secs(60), taken[1].from);
    assert_eq!(taken[2].from, taken[1].until);
}

#[tokio::test]
async fn a_flush_hands_on_what_was_counted_and_the_count_goes_on() {
    let scene = Scene::new();
    scene.usage.flush().await.unwrap();
    scene.accepted("app");
    scene.sink.does([Does::Fail]);
    let error = scene.usage.flush().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("batch 1"), "{error}");
    scene.accepted("app");
    scene.usage.flush().await.unwrap();
    assert_eq!((scene.calls(), scene.sink.offered()), (2, vec![1, 1, 2]));
    scene.accepted("app");
    scene.pass(60).await;
    assert_eq!(scene.calls(), 3);
    scene.accepted("app");
    let (flushed, ended) = tokio::join!(scene.usage.flush(), scene.usage.shutdown());
    flushed.and(ended).unwrap();
    scene.usage.flush().await.unwrap();
    assert_eq!(scene.calls(), 4);
}

#[tokio::test]
async fn the_customer_of_an_issued_key_is_named_unless_the_builder_names_another() {
    let scene = Scene::new();
    for (app_id, customer) in [("solo", "Initech"), ("acme-1", "Initrode"), ("boom", "Globex")] {
        scene.usage.note_customer(app_id, customer);
        scene.accepted(app_id);
    }
    scene.accepted("other");
    scene.usage.flush().await.unwrap();
    let records = scene.sink.taken().remove(0).records;
    let customers = records.iter().map(|record| record.customer.as_deref());
    assert_eq!(customers.collect::<Vec<_>>(), [Some("acme"), Some("Globex"), None, Some("Initech")]);
}

#[tokio::test]
async fn metrics_tell_the_same_by_customer() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let _mine = metrics::set_default_local_recorder(&recorder);
    let scene = Scene::new();
    scene.accepted("acme-1");
    scene.accepted("acme-2");
    scene.accepted("solo");
    scene.usage.call(Some("made up"), CallOutcome::Unauthorized, None);
    scene.usage.call(None, CallOutcome::Unauthorized, None);
    scene.usage.record(&caller("solo"), "pages", 3);
    scene.usage.issued("acme-2");
    scene.pass(60).await;
    let mut told: Vec<_> = snapshots
        .snapshot()
        .into_vec()
        .into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|label| label.value().to_owned()).collect();
            let DebugValue::Counter(number) = value else { panic!("{value:?}") };
            format!("{} {} {number}", key.key().name(), labels.join(" "))
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "evertoken_usage_calls_total acme accepted 2",
            "evertoken_usage_calls_total other unauthorized 2",
            "evertoken_usage_calls_total solo accepted 1",
            "evertoken_usage_tokens_total acme 1",
            "evertoken_usage_units_total solo pages 3",
        ]
    );
}
