//! Reads back what a [`UsageFile`](super::UsageFile) has written. What writes it is in `file.rs`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::batch::{UsageBatch, UsageRecord, parsed};

/// A batch as it was read back from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredBatch {
    /// The batch, with the records that were found.
    pub batch: UsageBatch,
    /// Whether all of its records were found. If not, its writer was killed while it wrote, and the rest is lost.
    pub is_complete: bool,
}

#[derive(Deserialize)]
struct Line {
    instance: String,
    sequence: u64,
    #[serde(deserialize_with = "parsed")]
    from: Option<SystemTime>,
    #[serde(deserialize_with = "parsed")]
    until: Option<SystemTime>,
    records: usize,
    overflowed: u64,
    #[serde(flatten)]
    record: UsageRecord,
}

/// What has been found of a batch.
struct Found {
    from: SystemTime,
    until: SystemTime,
    expected: usize,
    overflowed: u64,
    records: BTreeMap<Option<String>, UsageRecord>,
}

pub(super) fn read(path: &Path) -> io::Result<Vec<StoredBatch>> {
    let mut order = Vec::new();
    let mut all: HashMap<(String, u64), Found> = HashMap::new();
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        // One that a crash has torn is no JSON.
        let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
        let (Some(from), Some(until)) = (line.from, line.until) else { continue };
        let name = (line.instance, line.sequence);
        let found = all.entry(name.clone()).or_insert_with(|| {
            order.push(name);
            Found {
                from,
                until,
                expected: line.records,
                overflowed: line.overflowed,
                records: BTreeMap::new(),
            }
        });
        // A batch that is written again is the very same one.
        found.records.insert(line.record.app_id.clone(), line.record);
    }
    let batch = |(instance, sequence): (String, u64)| {
        let found = all.remove(&(instance.clone(), sequence))?;
        let is_complete = found.records.len() == found.expected;
        let records = found.records.into_values().collect();
        let Found { from, until, overflowed, .. } = found;
        let batch = UsageBatch { instance, sequence, from, until, records, overflowed };
        Some(StoredBatch { batch, is_complete })
    };
    Ok(order.into_iter().filter_map(batch).collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::batch::{CallOutcome, StatusClass};
    use super::super::file::UsageFile;
    use super::super::sink::UsageSink;
    use super::*;

    fn file(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("evertoken-usage-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn batch(instance: &str, sequence: u64, records: usize) -> UsageBatch {
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000 + sequence);
        let record = |number: usize| UsageRecord {
            app_id: number.checked_sub(1).map(|number| format!("app-{number:06} \"\u{e9}\\n")),
            customer: Some("Initech".to_owned()),
            calls: [(CallOutcome::Accepted, 7), (CallOutcome::Failed, 1)].into(),
            responses: [(StatusClass::Success, 7), (StatusClass::ServerError, 1)].into(),
            scopes: [("orders:read".to_owned(), 7)].into(),
            tokens_issued: 1,
            units: [("pages".to_owned(), u64::MAX)].into(),
            last_used: Some(time).filter(|_| number != 2),
        };
        let records = (0..records).map(record).collect();
        UsageBatch {
            instance: instance.to_owned(),
            sequence,
            from: time,
            until: time,
            records,
            overflowed: 3,
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_a_batch_cut_anywhere_is_told() {
        let path = file("cut");
        let (first, second, other) = (batch("a", 1, 4), batch("a", 2, 3), batch("b", 1, 1));
        let whole = |batch: &UsageBatch| StoredBatch { batch: batch.clone(), is_complete: true };
        let text = first.to_json_lines();
        let (last_line, next) = (text.trim_end().rfind('\n').unwrap() + 1, second.to_json_lines());
        for cut in 0..=text.len() {
            // The next process closes a torn line.
            let mut bytes = text.as_bytes()[..cut].to_vec();
            if !bytes.is_empty() && bytes.last() != Some(&b'\n') {
                bytes.push(b'\n');
            }
            bytes.extend(next.as_bytes());
            bytes.extend(other.to_json_lines().as_bytes());
            std::fs::write(&path, &bytes).unwrap();
            let read = read(&path).unwrap();
            let found = usize::from(read.len() == 3);
            assert_eq!(read[found..], [whole(&second), whole(&other)], "{cut}");
            // Without its last line end, a line is whole.
            assert_eq!(found == 1 && read[0].is_complete, cut >= text.len() - 1, "{cut}");
            if found == 1 {
                assert_eq!(read[0].batch.records, first.records[..read[0].batch.records.len()]);
                assert!(cut >= last_line || read[0].batch.records.len() < first.records.len());
            }
            // Whoever failed to take it back writes it again.
            bytes.extend(text.as_bytes());
            std::fs::write(&path, &bytes).unwrap();
            let mut again = super::read(&path).unwrap();
            again.sort_by_key(|stored| (stored.batch.instance.clone(), stored.batch.sequence));
            assert_eq!(again, [whole(&first), whole(&second), whole(&other)], "{cut}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(super::read(&path).is_err());
    }

    const CHILD: &str = "EVERTOKEN_TEST_USAGE_FILE";
    const RECORDS: usize = 4_000;

    /// Writes large batches until it is killed, in a child of the next test.
    #[tokio::test]
    async fn writes_in_a_child() {
        let Some(path) = std::env::var_os(CHILD) else { return };
        let file = UsageFile::new(path);
        for sequence in 1.. {
            let instance = std::process::id().to_string();
            file.write(&batch(&instance, sequence, RECORDS)).await.unwrap();
        }
    }

    /// SIGKILL in the midst of a batch, again and again, on the same file.
    #[cfg(unix)]
    #[test]
    fn a_batch_whose_writer_is_killed_never_passes_for_a_whole_one() {
        use std::process::{Command, Stdio};

        let path = file("killed");
        for _ in 0..4 {
            let length = || std::fs::metadata(&path).map_or(0, |file| file.len());
            let before = length();
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "server::usage::read::tests::writes_in_a_child"])
                .env(CHILD, &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            while length() == before {
                assert!(child.try_wait().unwrap().is_none(), "the child writes until it is killed");
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            for stored in read(&path).unwrap() {
                assert_eq!(stored.is_complete, stored.batch.records.len() == RECORDS);
            }
        }
        assert!(read(&path).unwrap().len() >= 4);
        std::fs::remove_file(&path).unwrap();
    }
}
