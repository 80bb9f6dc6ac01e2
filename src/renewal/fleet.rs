//! A fleet on paper: the pure plan of many clients, and the requests that they make together.
//!
//! With `EVERTOKEN_FLEET_CSV=path` the worst minute of each ten, as a multiple of the mean, is written there for the plot
//! in the documentation.
#![allow(clippy::print_stdout)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::plan::{Failure, Next, Plan};
use super::policy::RenewalPolicy;
use super::slot::Held;
use super::token::AccessToken;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::secret::{Scheme, TokenText};

const CLIENTS: u32 = 10_000;
const LIFE: Duration = Duration::from_secs(3600);
const ROUND_TRIP: Duration = Duration::from_millis(200);
const MINUTES: usize = 7 * 24 * 60;
/// The first lifetimes, in which a fleet that was started together spreads out.
const SETTLED: usize = 3 * 60;
/// The outage falls where the renewals of a fleet without jitter come (every 54 minutes), that it may see one.
const OUT: Range<usize> = 5_020..5_040;
const RECOVERY: usize = 10;
/// What a floor, a pause and a round trip need.
const SOON: Duration = Duration::from_secs(5);

struct Client {
    plan: Plan,
    held: Option<Held>,
}

/// What a fleet did.
struct Fleet {
    /// In each minute, those in the outage and those that failed included.
    requests: Vec<u32>,
    /// For how long after the outage those clients waited whose token had ended by then.
    waits: Vec<Duration>,
    /// Clients whose token outlasted the outage, if only by `SOON`, and ended before they had another.
    lost: usize,
}

fn minutes(count: usize) -> Duration {
    Duration::from_secs(60 * count as u64)
}

fn at(after: Duration) -> Moment {
    // Away from zero, as clocks are.
    let after = after + LIFE;
    Moment::new(after, after, Some(after))
}

impl Fleet {
    /// So many minutes in the life of clients that are all started at 0. If they are `busy`, a caller waits at each that has
    /// no token.
    fn run(policy: &RenewalPolicy, out: &Range<usize>, length: usize, busy: bool) -> Self {
        let token = AccessToken::new(TokenText::new(Scheme::Bearer, "t").unwrap(), SystemTime::now(), None);
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|seed| Client { plan: Plan::new(policy.clone(), Some(seed.into())), held: None })
            .collect();
        let mut fleet = Self { requests: vec![0; length], waits: Vec::new(), lost: 0 };
        let back = minutes(out.end);
        let mut queue: BinaryHeap<_> = (0..CLIENTS as usize).map(|n| Reverse((Duration::ZERO, n))).collect();
        while let Some(Reverse((time, number))) = queue.pop().filter(|next| next.0.0 < minutes(length)) {
            let Client { plan, held } = &mut clients[number];
            let now = at(time);
            let mut after = Duration::ZERO;
            if let Next::Attempt { .. } = plan.next(&now, held.as_ref()) {
                let minute = usize::try_from(time.as_secs() / 60).unwrap();
                fleet.requests[minute] += 1;
                after = ROUND_TRIP;
                let then = at(time + after);
                let left =
                    |moment| held.as_ref().map(|held| held.remaining(&moment)).filter(|left| !left.is_zero());
                if out.contains(&minute) {
                    let error = Error::new(ErrorKind::AuthServerUnavailable, "down");
                    plan.failed(&then, Failure { error, requests: 1, refused: false }, left(then));
                    if busy {
                        plan.want();
                    }
                } else {
                    if plan.failures > 0 && left(at(back)).is_none() {
                        fleet.waits.push(time + after - back);
                    } else if left(at(back + SOON)).is_some() && left(then).is_none() {
                        fleet.lost += 1;
                    }
                    let schedule = plan.schedule(LIFE, ROUND_TRIP, None).unwrap();
                    plan.succeeded(&schedule, held.as_ref());
                    *held = Some(Held::new(token.clone(), schedule, now, false));
                }
            }
            let due = plan.due_in(&at(time + after), held.as_ref()).unwrap();
            queue.push(Reverse((time + after + due, number)));
        }
        fleet
    }

    /// Requests in a minute, all being well.
    fn mean(&self) -> f64 {
        let well = &self.requests[SETTLED..OUT.start];
        f64::from(well.iter().sum::<u32>()) / well.len() as f64
    }

    /// The worst minute of these, against the mean.
    fn worst(&self, of: Range<usize>) -> f64 {
        f64::from(*self.requests[of].iter().max().unwrap()) / self.mean()
    }

    fn longest_wait(&self) -> Duration {
        self.waits.iter().max().copied().unwrap_or_default()
    }
}

#[test]
fn a_fleet_spreads_out_and_comes_back_from_an_outage_in_good_order() {
    let [with, without] = std::thread::scope(|scope| {
        [RenewalPolicy::default(), RenewalPolicy::default().jitter(0.0)]
            .map(|policy| scope.spawn(move || Fleet::run(&policy, &OUT, MINUTES, false)))
            .map(|run| run.join().unwrap())
    });
    let (recovery, after) = (OUT.end..OUT.end + RECOVERY, OUT.end + RECOVERY..MINUTES);
    for (name, fleet) in [("with", &with), ("without", &without)] {
        println!(
            "{name} jitter: mean {:.1} a minute; at worst {:.2} x, in the outage {:.1} x, in recovery {:.2} x, then {:.2} x; \
             {} without a token when it ended, for {:?} more at most; {} lost",
            fleet.mean(),
            fleet.worst(SETTLED..OUT.start),
            fleet.worst(OUT),
            fleet.worst(recovery.clone()),
            fleet.worst(after.clone()),
            fleet.waits.len(),
            fleet.longest_wait(),
            fleet.lost,
        );
    }
    if let Ok(path) = std::env::var("EVERTOKEN_FLEET_CSV") {
        let mut csv = String::from("minute,with_jitter,without_jitter\n");
        for minute in (0..MINUTES).step_by(10) {
            let of = |fleet: &Fleet| fleet.worst(minute..minute + 10);
            writeln!(csv, "{minute},{:.2},{:.2}", of(&with), of(&without)).unwrap();
        }
        std::fs::write(path, csv).unwrap();
    }
    assert!(with.worst(SETTLED..OUT.start) <= 2.5);
    assert!(with.worst(recovery.clone()) <= 10.0);
    assert!(with.worst(after.clone()) <= 3.0);
    // No token that outlasted the outage ended before there was another.
    assert_eq!(with.lost, 0);
    assert!(with.longest_wait() <= minutes(5) + ROUND_TRIP);
    // It is the jitter that does it.
    assert!(without.worst(SETTLED..OUT.start) > 2.5 && without.worst(after) > 3.0);
}

/// All are started in an outage, with no token.
#[test]
fn a_fleet_that_starts_in_an_outage_calms_down_and_is_served_within_a_pause() {
    let fleet = Fleet::run(&RenewalPolicy::default(), &(0..20), 60, false);
    println!(
        "cold: {} requests in the first minute, {} in the last of the outage, {} in the worst after it; served within {:?}",
        fleet.requests[0],
        fleet.requests[19],
        fleet.requests[20..].iter().max().unwrap(),
        fleet.longest_wait(),
    );
    // At most the ladder's way up in the first minute, and then ever fewer.
    assert!(fleet.requests[0] <= 12 * CLIENTS && fleet.requests[19] <= CLIENTS / 2);
    assert!(fleet.requests[20] <= CLIENTS / 2);
    assert_eq!(fleet.waits.len(), CLIENTS as usize);
    assert!(fleet.longest_wait() <= minutes(5) + ROUND_TRIP);
}

/// Callers that wait bring attempts forward: the fleet is served at once after the outage, for more requests in it.
#[test]
fn a_busy_fleet_is_served_within_seconds_after_an_outage() {
    let fleet = Fleet::run(&RenewalPolicy::default(), &OUT, OUT.end + RECOVERY, true);
    println!(
        "busy: in the outage {:.1} x, in recovery {:.1} x; {} without a token when it ended, for {:?} more at most",
        fleet.worst(OUT),
        fleet.worst(OUT.end..OUT.end + RECOVERY),
        fleet.waits.len(),
        fleet.longest_wait(),
    );
    assert_eq!(fleet.lost, 0);
    assert!(fleet.longest_wait() <= Duration::from_secs(8) + ROUND_TRIP);
    // Each client without a token asks once in 4 s at most, and once when the server is back.
    assert!(fleet.requests[OUT].iter().all(|requests| *requests <= CLIENTS * 15));
    assert!(fleet.requests[OUT.end] <= CLIENTS);
}
