//! Who may have the issuer's keys read for a `kid` that is not among them, so that made-up ones neither flood the issuer nor
//! keep a new key from being found. It decides, and reads nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::server::peer::Sender;

/// After keys were read in vain for a sender, how long they are not read for it again.
const COOLDOWN: Duration = Duration::from_secs(10);

/// Readings for unknown names, whoever sends them: so many at once, then one in each such time.
const BURST: u32 = 5;
const REFILL: Duration = Duration::from_secs(5);

/// How long a name that was not found is not looked for again for its sender, and how many of them are held.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);
const MOST_UNKNOWN: usize = 64;

/// How many names are held whose keys were withdrawn.
const MOST_WITHDRAWN: usize = 64;

/// What comes of a wish to have the keys read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Read,
    /// It would find nothing: the name was looked for, or its key is gone.
    InVain,
    /// The key may be too new to be known. It may be looked for after this time, since too many names were lately.
    Later(Duration),
    /// The same, because of what this sender has sent.
    Cooling(Duration),
}

pub(super) struct Lookups {
    unknown: VecDeque<Unknown>,
    /// Those for whom the keys were read in vain lately.
    cooling: VecDeque<(Sender, Moment)>,
    withdrawn: VecDeque<String>,
    left: u32,
    refilled: Option<Moment>,
}

struct Unknown {
    kid: String,
    sender: Sender,
    since: Moment,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            unknown: VecDeque::new(),
            cooling: VecDeque::new(),
            withdrawn: VecDeque::new(),
            left: BURST,
            refilled: None,
        }
    }
}

impl Lookups {
    /// Decides whether the keys are read for a token of `sender` now. `kid` is the name that is not among the keys; `None`
    /// if names do not say whose the token is. A reading counts as begun.
    pub(super) fn judge(&mut self, kid: Option<&str>, sender: Sender, now: &Moment) -> Verdict {
        if kid.is_some_and(|kid| self.withdrawn.iter().any(|withdrawn| withdrawn == kid)) {
            return Verdict::InVain;
        }
        self.unknown.retain(|unknown| now.since(&unknown.since) < UNKNOWN_FOR);
        let looked_for = |by: &dyn Fn(Sender) -> bool| {
            self.unknown.iter().any(|unknown| Some(unknown.kid.as_str()) == kid && by(unknown.sender))
        };
        if looked_for(&|by| by == sender) {
            return Verdict::InVain;
        }
        let is_known_in_vain = looked_for(&|_| true);
        self.cooling.retain(|(_, since)| now.since(since) < COOLDOWN);
        let verdict = match self.cooling.iter().find(|(of, _)| *of == sender) {
            Some((_, since)) => Verdict::Cooling(COOLDOWN.saturating_sub(now.since(since))),
            // The authorization server makes up none.
            None if sender == Sender::Exchange => Verdict::Read,
            None => self.spend(now).map_or(Verdict::Read, Verdict::Later),
        };
        if is_known_in_vain && verdict != Verdict::Read { Verdict::InVain } else { verdict }
    }

    /// Takes one reading from the budget of all senders, or returns how long it is until there is one.
    fn spend(&mut self, now: &Moment) -> Option<Duration> {
        let refilled = *self.refilled.get_or_insert(*now);
        let passed = now.since(&refilled);
        if passed >= REFILL {
            let times = u32::try_from(passed.as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(times).min(BURST);
            self.refilled = Some(*now);
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                None
            }
            None => Some(REFILL.saturating_sub(passed)),
        }
    }

    /// Notes a reading that has found what it was for: it costs nobody anything.
    pub(super) fn found(&mut self) {
        self.left = self.left.saturating_add(1).min(BURST);
    }

    /// Notes a reading that has not found this name, or no newer key if it was for none.
    pub(super) fn in_vain(&mut self, kid: Option<&str>, sender: Sender, now: Moment) {
        self.cooling.push_back((sender, now));
        let Some(kid) = kid else { return };
        if self.unknown.len() == MOST_UNKNOWN {
            self.unknown.pop_front();
        }
        self.unknown.push_back(Unknown { kid: kid.to_owned(), sender, since: now });
    }

    /// Notes which names a reading has found and no longer found.
    pub(super) fn published<'a>(
        &mut self,
        knows: impl Fn(&str) -> bool,
        withdrawn: impl Iterator<Item = &'a str>,
    ) {
        self.unknown.retain(|unknown| !knows(&unknown.kid));
        self.withdrawn.retain(|kid| !knows(kid));
        for kid in withdrawn {
            if self.withdrawn.len() == MOST_WITHDRAWN {
                self.withdrawn.pop_front();
            }
            self.withdrawn.push_back(kid.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(seconds: u64) -> Moment {
        let time = Duration::from_secs(1_000_000 + seconds);
        Moment::new(time, time, Some(time))
    }

    fn peer(number: u8) -> Sender {
        Sender::Peer(IpAddr::from([10, 0, 0, number]))
    }

    fn later(seconds: u64) -> Verdict {
        Verdict::Later(Duration::from_secs(seconds))
    }

    #[test]
    fn a_made_up_name_costs_its_sender_and_nobody_else() {
        let mut lookups = Lookups::default();
        assert_eq!(lookups.judge(Some("made up"), peer(1), &at(0)), Verdict::Read);
        lookups.in_vain(Some("made up"), peer(1), at(0));
        assert_eq!(lookups.judge(Some("made up"), peer(1), &at(4)), Verdict::InVain);
        assert_eq!(lookups.judge(Some("new"), peer(1), &at(4)), Verdict::Cooling(Duration::from_secs(6)));
        assert_eq!(lookups.judge(Some("new"), peer(2), &at(4)), Verdict::Read);
        lookups.found();
        // Nor does whoever has guessed the name of the next key.
        assert_eq!(lookups.judge(Some("made up"), peer(2), &at(4)), Verdict::Read);
        assert_eq!(lookups.judge(Some("new"), peer(1), &at(10)), Verdict::Read);
        assert_eq!(lookups.judge(Some("made up"), peer(1), &at(59)), Verdict::InVain);
        assert_eq!(lookups.judge(Some("made up"), peer(1), &at(60)), Verdict::Read);
    }

    #[test]
    fn all_senders_together_have_a_budget_and_the_exchange_needs_none() {
        let mut lookups = Lookups::default();
        for number in 0..5 {
            assert_eq!(lookups.judge(Some("x"), peer(number), &at(0)), Verdict::Read);
            lookups.in_vain(Some("x"), peer(number), at(0));
        }
        // A name that was looked for in vain is not worth waiting for.
        assert_eq!(lookups.judge(Some("x"), peer(9), &at(2)), Verdict::InVain);
        assert_eq!(lookups.judge(Some("y"), peer(9), &at(2)), later(3));
        assert_eq!(lookups.judge(None, peer(9), &at(2)), later(3));
        assert_eq!(lookups.judge(Some("y"), Sender::Exchange, &at(2)), Verdict::Read);
        assert_eq!(lookups.judge(Some("y"), peer(9), &at(5)), Verdict::Read);
        assert_eq!(lookups.judge(Some("y"), peer(8), &at(5)), later(5));
        for number in 0..5 {
            assert_eq!(lookups.judge(Some("z"), peer(100 + number), &at(10_000)), Verdict::Read);
        }
        assert_eq!(lookups.judge(Some("z"), peer(99), &at(10_000)), later(5));
    }

    #[test]
    fn a_withdrawn_name_is_not_looked_for_until_it_is_published_again() {
        let mut lookups = Lookups::default();
        lookups.published(|_| false, ["old"].into_iter());
        assert_eq!(lookups.judge(Some("old"), peer(1), &at(0)), Verdict::InVain);
        assert_eq!(lookups.judge(Some("older"), peer(1), &at(0)), Verdict::Read);
        lookups.published(|kid| kid == "old", std::iter::empty());
        assert_eq!(lookups.judge(Some("old"), peer(1), &at(0)), Verdict::Read);
        for number in 0..1000 {
            lookups.in_vain(Some(&number.to_string()), peer(1), at(0));
            lookups.published(|_| false, [number.to_string().as_str()].into_iter());
        }
        assert!(lookups.unknown.len() <= MOST_UNKNOWN && lookups.withdrawn.len() <= MOST_WITHDRAWN);
    }
}
