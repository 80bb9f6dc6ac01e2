//! What is counted until it goes into a batch.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use quick_cache::sync::Cache;

use super::batch::UsageRecord;

/// So that threads do not wait for each other.
const SHARDS: usize = 16;

/// The longest app id that is counted on its own, and the most scopes and units that one may have.
const LONGEST: usize = 256;
const MOST_NAMES: usize = 32;

/// The name of what is beyond [`MOST_NAMES`].
pub(super) const OTHER: &str = "other";

/// One shard: records of app ids, of which those that may be made up have an eighth at most.
#[derive(Default)]
struct Shard {
    records: HashMap<Box<str>, UsageRecord>,
    unknown: usize,
    /// Of calls without an app id, and of all that found no room.
    other: UsageRecord,
    overflowed: u64,
}

pub(super) struct Table {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// How many records a shard may have.
    most: usize,
    /// When those that have gone into batches were last used, as far as they are known to be ones.
    last_used: Cache<String, SystemTime>,
}

/// What a table held.
pub(super) struct Drained {
    pub(super) records: Vec<UsageRecord>,
    pub(super) overflowed: u64,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        let most = capacity.div_ceil(SHARDS).max(2);
        let last_used = Cache::new(capacity);
        Self { shards: Default::default(), hasher: RandomState::new(), most, last_used }
    }

    /// Counts something for an app id, which was `used` then, or not at all.
    pub(super) fn count(
        &self,
        app_id: Option<&str>,
        used: Option<SystemTime>,
        count: impl FnOnce(&mut UsageRecord),
    ) {
        let mut shard = self.shard(app_id.unwrap_or_default());
        let shard = &mut *shard;
        let counted = |record: &mut UsageRecord| {
            record.last_used = record.last_used.max(used);
            count(record);
        };
        let Some(app_id) = app_id else { return counted(&mut shard.other) };
        if let Some(record) = shard.records.get_mut(app_id) {
            let known = record.is_known();
            counted(record);
            shard.unknown -= usize::from(!known && record.is_known());
            return;
        }
        let mut record = UsageRecord { app_id: Some(app_id.to_owned()), ..UsageRecord::default() };
        counted(&mut record);
        let unknown = usize::from(!record.is_known());
        let room = shard.records.len() < self.most && shard.unknown + unknown <= self.most.div_ceil(8);
        if room && app_id.len() <= LONGEST {
            shard.unknown += unknown;
            shard.records.insert(app_id.into(), record);
        } else {
            shard.overflowed += 1;
            merge(&mut shard.other, record);
        }
    }

    /// Takes all of it.
    pub(super) fn drain(&self) -> Drained {
        let mut drained = Drained { records: Vec::new(), overflowed: 0 };
        let mut other = UsageRecord::default();
        for shard in &self.shards {
            let shard = std::mem::take(&mut *lock(shard));
            drained.records.extend(shard.records.into_values());
            drained.overflowed += shard.overflowed;
            merge(&mut other, shard.other);
        }
        for record in drained.records.iter().filter(|record| record.is_known()) {
            if let (Some(app_id), Some(last_used)) = (&record.app_id, record.last_used) {
                self.last_used.insert(app_id.clone(), last_used);
            }
        }
        drained.records.sort_by(|one, other| one.app_id.cmp(&other.app_id));
        if !other.is_empty() {
            drained.records.insert(0, other);
        }
        drained
    }

    pub(super) fn last_used(&self, app_id: &str) -> Option<SystemTime> {
        let current = self.shard(app_id).records.get(app_id).and_then(|record| record.last_used);
        current.or_else(|| self.last_used.get(app_id))
    }

    fn shard(&self, app_id: &str) -> MutexGuard<'_, Shard> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash will do")]
        let hash = self.hasher.hash_one(app_id) as usize;
        lock(&self.shards[hash % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds to what has a name, in a map of which anybody may choose the names.
pub(super) fn add(to: &mut BTreeMap<String, u64>, name: &str, number: u64) {
    let name =
        if to.contains_key(name) || to.len() < MOST_NAMES && name.len() <= LONGEST { name } else { OTHER };
    match to.get_mut(name) {
        Some(sum) => *sum = sum.saturating_add(number),
        None => {
            to.insert(name.to_owned(), number);
        }
    }
}

/// Puts one's numbers to another's.
fn merge(into: &mut UsageRecord, from: UsageRecord) {
    for (outcome, calls) in from.calls {
        let sum = into.calls.entry(outcome).or_insert(0);
        *sum = sum.saturating_add(calls);
    }
    from.scopes.iter().for_each(|(scope, calls)| add(&mut into.scopes, scope, *calls));
    from.units.iter().for_each(|(unit, number)| add(&mut into.units, unit, *number));
    into.tokens_issued = into.tokens_issued.saturating_add(from.tokens_issued);
    for (class, calls) in from.responses {
        let sum = into.responses.entry(class).or_insert(0);
        *sum = sum.saturating_add(calls);
    }
    into.last_used = into.last_used.max(from.last_used);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::batch::CallOutcome;
    use super::*;

    fn call(table: &Table, app_id: &str, outcome: CallOutcome) {
        table.count(Some(app_id), Some(UNIX_EPOCH), |record| *record.calls.entry(outcome).or_insert(0) += 1);
    }

    fn sum(drained: &Drained) -> u64 {
        drained.records.iter().map(UsageRecord::total_calls).sum()
    }

    #[test]
    fn what_is_made_up_drives_nobody_out_and_nothing_is_lost() {
        let table = Table::new(1_600);
        for number in 0..10_000 {
            call(&table, &format!("guess-{number}"), CallOutcome::Unauthorized);
        }
        for number in 0..1_000 {
            call(&table, &format!("app-{number}"), CallOutcome::Accepted);
        }
        let drained = table.drain();
        assert_eq!(sum(&drained), 11_000);
        let of = |prefix: &str| {
            let is =
                |record: &&UsageRecord| record.app_id.as_ref().is_some_and(|app| app.starts_with(prefix));
            drained.records.iter().filter(is).count()
        };
        assert_eq!(of("app-"), 1_000);
        assert!((150..=16 * 13).contains(&of("guess-")), "{}", of("guess-"));
        assert_eq!(drained.overflowed, 10_000 - of("guess-") as u64);
        assert_eq!(drained.records[0].app_id, None);
        assert_eq!(sum(&table.drain()), 0);
    }

    #[test]
    fn a_full_table_counts_on_for_all_together() {
        let table = Table::new(32);
        for number in 0..1_000 {
            call(&table, &format!("app-{number}"), CallOutcome::Accepted);
            call(&table, &format!("app-{number}"), CallOutcome::Accepted);
        }
        let drained = table.drain();
        assert_eq!((drained.records.len(), sum(&drained)), (33, 2_000));
        assert_eq!(drained.records[0].total_calls(), drained.overflowed);
    }

    #[test]
    fn one_who_turns_out_to_be_known_leaves_the_room_of_the_others() {
        let table = Table::new(32);
        for number in 0..1_000 {
            let app_id = format!("app-{number}");
            call(&table, &app_id, CallOutcome::Unauthorized);
            call(&table, &app_id, CallOutcome::Accepted);
        }
        assert_eq!(table.drain().records.len(), 33, "all the room there is, and the other");
    }

    #[test]
    fn names_are_bounded_and_numbers_do_not_wrap() {
        let mut names = BTreeMap::new();
        for number in 0..100 {
            add(&mut names, &format!("unit-{number:02}"), 1);
        }
        add(&mut names, &"x".repeat(LONGEST + 1), 1);
        assert_eq!((names.len(), names[OTHER]), (MOST_NAMES + 1, 100 - MOST_NAMES as u64 + 1));
        add(&mut names, "unit-00", u64::MAX);
        assert_eq!(names["unit-00"], u64::MAX);
        let table = Table::new(32);
        table.count(Some(&"x".repeat(LONGEST + 1)), Some(UNIX_EPOCH), |record| record.tokens_issued += 1);
        let drained = table.drain();
        assert_eq!(
            (drained.records.len(), drained.records[0].app_id.is_none(), drained.overflowed),
            (1, true, 1)
        );
    }

    #[test]
    fn the_last_use_is_the_latest() {
        let table = Table::new(32);
        for seconds in [5, 9, 7] {
            table.count(Some("app"), Some(UNIX_EPOCH + Duration::from_secs(seconds)), |_| {});
            call(&table, "app", CallOutcome::Unauthorized);
        }
        let last = Some(UNIX_EPOCH + Duration::from_secs(9));
        assert_eq!(table.last_used("app"), last);
        call(&table, "app", CallOutcome::Accepted);
        assert_eq!(table.drain().records[0].last_used, last);
        assert_eq!((table.last_used("app"), table.last_used("other")), (last, None), "a batch later, too");
    }
}
