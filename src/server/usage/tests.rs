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
