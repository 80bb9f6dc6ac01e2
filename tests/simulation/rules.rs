//! What must always hold, as an onlooker sees it who knows the truth.

use std::time::Duration;

use evertoken::Error;

use crate::authority::{Answer, Entry, Habits, State, Weather, leeway};
use crate::clock::s;

pub type Verdict = Result<(), String>;

const MS: Duration = Duration::from_millis(1);

/// From when the server is well to a token, but for the pause: a hung attempt's end, the floor, an answer.
const ANSWERED: Duration = s(10 + 1 + 1);
/// The last step of the pauses, in a short outage and in the longest.
const PAUSE: (Duration, Duration) = (s(30), s(300));
/// The same after a refusal.
const PROBED_RECOVERY: Duration = s(10 + 300 + 1 + 1);
/// The longest pause while callers wait, and the default deadline of a caller, which is longer.
const BRISK: Duration = s(8);
const PATIENT: Duration = s(10);
/// The longest `Retry-After` that is obeyed, and how far beyond it clients spread out.
const MOST_RETRY_AFTER: Duration = s(300);
const SPREAD: Duration = s(30);
/// A refused token is withheld for the floor and one attempt at most.
const MOST_WITHHELD: Duration = s(12);
/// A refused credential is shown so often in its first minute, and then once in so long.
const MOST_IN_A_MINUTE: usize = 5;
const LEAST_PROBE: Duration = s(60);
const LEAST_IF_DOUBTFUL: Duration = s(40);
const COOLDOWN: Duration = s(10);

struct Asked {
    at: Duration,
    /// Where the attempt began; a second request, with the next secret, belongs to it.
    attempt: Duration,
    request: u64,
    app_id: String,
    secret: String,
}

/// All times but `withheld` are true ones.
pub struct Rules {
    habits: Habits,
    has_boot: bool,
    asked: Option<Asked>,
    /// When it was first asked for a token since the one that is held came.
    trying: Option<Duration>,
    answered: Option<(Duration, Answer)>,
    hold_off: Duration,
    hold_off_since: Duration,
    /// When refused requests were sent, since the last time that one was not or another credential was set.
    refused: Vec<Duration>,
    /// The least time between two requests, by the life of the last token.
    floor: Option<(String, Duration)>,
    /// The app id and when it or its secret was last set by hand.
    pub app_id: String,
    pub set: Duration,
    /// Since when the server answers well to the credential that is in use.
    pub well_since: Option<Duration>,
    /// The last thing that may cost a token or time through no fault of the client.
    pub disturbed: Duration,
    pub stepped_forward: Duration,
    /// A wall clock set back hides a suspend, unless the refresher looks in between.
    pub blind: bool,
    /// The refresher's runtime stands still.
    pub frozen: bool,
    /// When the machine last woke.
    pub resumed: Duration,
    /// Its runtime is gone, and nobody has come by since for whom another token was asked.
    pub orphaned: bool,
    held: Option<String>,
    /// By the running clock.
    withheld: Option<Duration>,
    invalidated: Option<Duration>,
    /// The API has refused the held token, so that its leeway is no resort.
    refused_by_api: bool,
    down: Option<(Duration, u64)>,
    pub requests: u64,
    pub tokens: u64,
    /// Ages at renewal, in twentieths of the life.
    pub ages: [u64; 20],
    /// Pauses after a failure: up to 2 s, and longer ones.
    pub pauses: [u64; 2],
}

impl Rules {
    pub fn new(habits: Habits, has_boot: bool, now: Duration) -> Self {
        Self {
            habits,
            has_boot,
            asked: None,
            trying: None,
            answered: None,
            hold_off: Duration::ZERO,
            hold_off_since: Duration::ZERO,
            refused: Vec::new(),
            floor: None,
            app_id: "app-0".into(),
            set: Duration::ZERO,
            well_since: Some(now),
            disturbed: now,
            stepped_forward: Duration::ZERO,
            blind: false,
            frozen: false,
            resumed: Duration::ZERO,
            orphaned: false,
            held: None,
            withheld: None,
            invalidated: None,
            refused_by_api: false,
            down: None,
            requests: 0,
            tokens: 0,
            ages: [0; 20],
            pauses: [0; 2],
        }
    }

    fn floor(&self) -> Duration {
        self.floor.as_ref().map_or(s(1), |(_, floor)| *floor)
    }

    /// Without a boot clock, a wall clock set forward looks like time that passed.
    fn deceived_since(&self, then: Duration) -> bool {
        !self.has_boot && self.stepped_forward >= then
    }

    pub fn note(&mut self, entry: &Entry, server: &State) -> Verdict {
        match entry {
            Entry::Asked { at, request, app_id, secret } => {
                self.requests += 1;
                self.trying.get_or_insert(*at);
                if std::mem::take(&mut self.orphaned) {
                    self.disturbed = *at;
                }
                self.may_ask(*at, secret, server)?;
                if let Some((_, attempts)) = &mut self.down {
                    *attempts += 1;
                }
                if *app_id != self.app_id {
                    return Err(format!("{app_id} asks, which was replaced by {}", self.app_id));
                }
                let (app_id, secret) = (app_id.clone(), secret.clone());
                let last = self.asked.take().filter(|last| last.secret != secret);
                let attempt = match (&self.answered, last) {
                    (Some((_, Answer::Refused | Answer::Forbidden)), Some(last)) => last.attempt,
                    _ => *at,
                };
                self.asked = Some(Asked { at: *at, attempt, request: *request, app_id, secret });
            }
            Entry::Answered { at, answer, request } => {
                if let Answer::Token(..) = answer {
                    self.tokens += 1;
                }
                // Nobody listens to what is said to a client that was replaced, or to one of another app id.
                let asked = self.asked.as_ref().filter(|asked| asked.request == *request);
                if asked.is_some_and(|asked| asked.app_id == self.app_id) {
                    if let Answer::Failed { retry_after: Some(length) } = answer {
                        self.hold_off_since = *at;
                        self.hold_off = *at + (*length).min(MOST_RETRY_AFTER);
                    }
                    match answer {
                        Answer::Refused | Answer::Faulty | Answer::Forbidden => {
                            self.refused.extend(asked.map(|asked| asked.at));
                        }
                        Answer::Token(..) => self.refused.clear(),
                        Answer::Failed { .. } => {}
                    }
                    if let Answer::Token(token, told) = answer {
                        self.hold_off = Duration::ZERO;
                        let floor = s(1).min(*told / 10);
                        // The life of a token that is given again does not begin anew; one that had ended when it came
                        // is not taken.
                        let again = self.floor.as_ref().is_some_and(|(last, _)| last == token);
                        let ended = asked.is_some_and(|asked| *at - asked.at + leeway(*told) >= *told);
                        if !again && !ended {
                            self.floor = Some((token.clone(), floor));
                        }
                    }
                    self.answered = Some((*at, answer.clone()));
                }
            }
            Entry::Dropped { request } => {
                if self.asked.as_ref().is_some_and(|asked| asked.request == *request) {
                    self.answered = None;
                }
            }
        }
        Ok(())
    }

    /// The rate of requests.
    fn may_ask(&mut self, at: Duration, secret: &str, server: &State) -> Verdict {
        if server.in_flight() > 1 {
            return Err(format!("{} requests in flight", server.in_flight()));
        }
        let Some(last) = &self.asked else { return Ok(()) };
        let since = at - last.at;
        if self.deceived_since(last.at) {
            return Ok(());
        }
        if at + MS < self.hold_off && !self.deceived_since(self.hold_off_since) {
            return Err(format!("asked {:?} before Retry-After had passed", self.hold_off - at));
        }
        let next_secret = secret != last.secret;
        if self.set >= last.at || next_secret {
            return Ok(());
        }
        // After a failure there is a pause, the least of which is a fifth of the floor; a request that was given up or
        // panicked counts as one.
        let (from, least) = match &self.answered {
            Some((then, Answer::Token(..))) if *then >= last.at => (last.attempt, self.floor()),
            Some((then, _)) if *then >= last.at => (*then, self.floor() / 5),
            _ => (last.at, self.floor() / 5),
        };
        if at - from + MS < least {
            return Err(format!("asked again after {since:?}, and the least is {least:?}"));
        }
        let recent = self.refused.iter().filter(|asked| at - **asked < s(60)).count();
        if recent >= MOST_IN_A_MINUTE {
            return Err(format!("a refused credential was shown {recent} times within a minute"));
        }
        let checks = self.refused.len();
        match &self.answered {
            Some((then, Answer::Refused | Answer::Faulty)) if checks > 3 && at - *then + MS < LEAST_PROBE => {
                Err(format!("a refused credential was shown again after {:?}", at - *then))
            }
            Some((then, Answer::Forbidden)) if checks > 3 && at - *then + MS < LEAST_IF_DOUBTFUL => {
                Err(format!("a credential that may be refused was shown again after {:?}", at - *then))
            }
            Some((then, Answer::Failed { retry_after: None })) => {
                self.pauses[usize::from(at - *then > s(2))] += 1;
                Ok(())
            }
            Some((then, Answer::Token(token, _))) if *then >= last.at && self.withheld.is_none() => {
                let life = server.tokens[token].life;
                let age = since.as_secs_f64() / life.as_secs_f64();
                let round_trip = *then - last.at;
                let margin = leeway(life) + s(2) + round_trip * 2;
                let earliest = life.mul_f64(0.66).min(life.saturating_sub(margin));
                if self.habits.same || self.habits.refresh_in || life < s(20) {
                    return Ok(());
                }
                self.ages[((age * 20.0) as usize).min(19)] += 1;
                let held = self.held.as_ref() == Some(token) || self.held.is_none();
                if since < earliest && held {
                    return Err(format!("renewed at {age:.2} of the life of {token}"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A reader sees `token` now.
    pub fn observe(
        &mut self,
        now: Duration,
        running: Duration,
        token: Option<&str>,
        server: &State,
    ) -> Verdict {
        let Some(token) = token else { return self.may_be_without(now, running, server) };
        let Some(issued) = server.tokens.get(token) else { return Err(format!("nobody issued {token}")) };
        if now >= issued.expires && !self.blind {
            return Err(format!("{token} is served, which expired {:?} ago", now - issued.expires));
        }
        if issued.app_id != self.app_id {
            return Err(format!("{token} is served, which is for {}", issued.app_id));
        }
        if self.held.as_ref().is_some_and(|held| server.tokens[held].nth > issued.nth) {
            return Err(format!("{token} is served, after a newer one"));
        }
        if self.held.as_deref() != Some(token) {
            self.trying = None;
            self.refused_by_api = false;
        }
        self.held = Some(token.to_owned());
        self.withheld = None;
        Ok(())
    }

    /// Whether the token that was last seen should still be there.
    fn has_valid(&self, now: Duration, server: &State) -> Option<&str> {
        let held = self.held.as_deref()?;
        let issued = &server.tokens[held];
        // While renewals fail, and none is under way, the leeway is served, too.
        let failing = matches!(&self.answered, Some((then, answer))
            if !matches!(answer, Answer::Token(..)) && *then >= issued.asked && server.in_flight() == 0);
        let until = if failing && !self.refused_by_api { issued.last_resort } else { issued.served_until };
        let live = now + MS < until;
        (live && issued.app_id == self.app_id && !self.deceived_since(issued.asked)).then_some(held)
    }

    fn may_be_without(&self, now: Duration, running: Duration, server: &State) -> Verdict {
        match (self.has_valid(now, server), self.withheld) {
            (Some(held), None) => return Err(format!("{held} was lost, which is valid")),
            (Some(held), Some(since))
                if !self.frozen
                    && running - since > MOST_WITHHELD
                    && now.saturating_sub(self.disturbed) > MOST_WITHHELD =>
            {
                return Err(format!("{held} is withheld for {:?}", running - since));
            }
            _ => {}
        }
        // All was well for more than a life, and for as long as it takes to recover before that.
        let calm = self.habits.life + self.recovery(now) + s(60);
        let well = self.well_since.is_some_and(|since| {
            now.saturating_sub(since.max(self.disturbed).max(self.set).max(self.hold_off)) > calm
        });
        let ahead = !self.frozen
            && !self.orphaned
            && self.habits.life >= s(20)
            && !self.habits.same
            && self.withheld.is_none();
        if well && ahead && !self.deceived_since(now.saturating_sub(calm)) {
            return Err("no token, though all is well for long".into());
        }
        Ok(())
    }

    fn recovery(&self, now: Duration) -> Duration {
        let usual = match self.answered {
            Some((_, Answer::Faulty | Answer::Refused | Answer::Forbidden)) => PROBED_RECOVERY,
            _ => ANSWERED + self.pause(now),
        };
        usual.max((self.hold_off + SPREAD).saturating_sub(now))
    }

    /// The last step grows with the time for which attempts have failed.
    fn pause(&self, now: Duration) -> Duration {
        let Some(trying) = self.trying else { return PAUSE.0 };
        if self.deceived_since(trying) {
            return PAUSE.1;
        }
        ((now + s(10)).saturating_sub(trying) / 3).clamp(PAUSE.0, PAUSE.1)
    }

    /// A caller's wait ended with an error.
    pub fn failed(
        &self,
        now: Duration,
        waited: Duration,
        patience: Duration,
        error: &Error,
        server: &State,
    ) -> Verdict {
        if let (Some(held), None) = (self.has_valid(now, server), self.withheld) {
            return Err(format!("a call failed though {held} is valid: {error}"));
        }
        let left = patience.saturating_sub(waited);
        let later = error.retry_after().is_some_and(|after| after > left);
        if !left.is_zero() && error.is_retryable() && !later {
            return Err(format!("a call gave up {left:?} early: {error}"));
        }
        // A caller that waits for as long as callers do brings the attempt forward, unless the server speaks against it.
        let doubtful = self.asked.as_ref().is_some_and(|asked| self.refused.last() >= Some(&asked.attempt));
        let held_off = self.hold_off + SPREAD > now;
        let calm = !self.frozen && !self.orphaned && now > self.disturbed + BRISK + s(31);
        if left > PATIENT && error.is_retryable() && calm && !doubtful && !held_off {
            return Err(format!("a call failed at once, though its patience is {patience:?}: {error}"));
        }
        if let Some(since) = self.well_since {
            let recovered = (since.max(self.set).max(self.resumed) + self.recovery(since))
                .max(self.hold_off + SPREAD + ANSWERED + self.pause(since));
            if now > recovered {
                return Err(format!("a call failed though all is well for {:?}: {error}", now - since));
            }
        }
        Ok(())
    }

    /// `token`, which was the current one before, was refused by the API; `gone` tells that it is now withheld.
    pub fn invalidated(&mut self, now: Duration, running: Duration, gone: bool) -> Verdict {
        self.disturbed = now;
        self.refused_by_api = true;
        if !gone {
            return Ok(());
        }
        self.withheld = Some(running);
        match self.invalidated.replace(now) {
            Some(last) if now - last < COOLDOWN && !self.deceived_since(last) => {
                Err(format!("two renewals for a 401 within {:?}", now - last))
            }
            _ => Ok(()),
        }
    }

    pub fn weather(&mut self, now: Duration, weather: Weather) -> Verdict {
        let before = self.down.take();
        match weather {
            Weather::Fair => self.well_since = Some(now),
            Weather::Slow => self.well_since = None,
            Weather::Down => {
                self.well_since = None;
                self.down = Some((now, 0));
            }
        }
        self.disturbed = now;
        match before {
            Some((since, attempts)) if attempts > 20 + (now - since).as_secs() / 4 => {
                Err(format!("{attempts} attempts in an outage of {:?}", now - since))
            }
            _ => Ok(()),
        }
    }

    /// A credential set by hand has the outage's count begin anew, as it does the ladder.
    pub fn set(&mut self, now: Duration, app_id: &str, secret: &str) {
        let news = self.asked.as_ref().is_none_or(|asked| asked.app_id != app_id || asked.secret != secret);
        self.app_id = app_id.to_owned();
        self.set = now;
        self.disturbed = now;
        self.refused.clear();
        // What was refused before is not tried at once.
        self.answered = self.answered.take().filter(|_| !news);
        if let Some(down) = &mut self.down {
            *down = (now, 0);
        }
    }
}
