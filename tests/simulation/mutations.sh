#!/usr/bin/env bash
# Breaks the code in one place at a time, and expects the simulation to see it. Works on a copy. Given a pattern, it takes
# only those whose names match.
set -euo pipefail
cd "$(dirname "$0")/../.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy" 2>/dev/null || true
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/mutations}"
export RUST_BACKTRACE=0
root=$PWD
missed=0
only=${1:-}

# mutate NAME FILE PERL-SUBSTITUTION
mutate() {
  [[ $1 =~ $only ]] || return 0
  cp "$root/$2" "$copy/$2"
  perl -0pi -e "$3" "$copy/$2"
  if cmp -s "$root/$2" "$copy/$2"; then
    echo "gone    $1: the substitution changes nothing"
    missed=$((missed + 1))
  elif ! (cd "$copy" && cargo test --quiet --locked --release --test simulation --no-run 2>"$copy/log"); then
    echo "broken  $1: it does not build"
    tail -n 20 "$copy/log"
    missed=$((missed + 1))
  elif (cd "$copy" && timeout 300 cargo test --quiet --locked --release --test simulation the_rules >"$copy/log" 2>&1); then
    echo "MISSED  $1"
    missed=$((missed + 1))
  else
    local seen
    seen=$(grep -m 1 -E '^seed|panicked|assert' "$copy/log" | cut -c 1-140 || true)
    echo "caught  $1: ${seen:-it hangs}"
  fi
  cp "$root/$2" "$copy/$2"
}

mutate 'a late 401 takes a newer token away' src/renewal/refresher.rs \
  's/if held\.token != \*token \{\s*return Invalidation::Moved;\s*\}//'
mutate 'the slot is cleared before the renewal' src/renewal/outcome.rs \
  's/Next::Attempt \{ timeout \} => Step::Attempt\(timeout\),/Next::Attempt { timeout } => { self.slot.store(None); Step::Attempt(timeout) }/'
mutate 'a failure takes the token away' src/renewal/outcome.rs \
  's/let error = inner\.plan\.failed\(now, failure, remaining\);/let error = inner.plan.failed(now, failure, remaining); self.slot.store(None);/'
mutate 'no jitter of the renewal' src/renewal/schedule.rs \
  's/let jitter = life\.mul_f64\(policy\.jitter \* draw\.clamp\(0\.0, 1\.0\)\);/let jitter = Duration::ZERO; let _ = draw;/'
mutate 'a retry at once' src/renewal/backoff.rs \
  's/self\.between\(step\.mul_f64\(share\), step\)\.max\(least\)/{ let _ = (share, least); Duration::ZERO }/'
mutate 'the wall clock is not looked at' src/renewal/slot.rs \
  's/monotonic < self\.fresh_until\.0 && wall < self\.fresh_until\.1/{ let _ = wall; monotonic < self.fresh_until.0 }/'
mutate 'the monotonic clock is not looked at' src/renewal/slot.rs \
  's/monotonic < self\.fresh_until\.0 && wall < self\.fresh_until\.1/{ let _ = monotonic; wall < self.fresh_until.1 }/'
mutate 'a wall clock set forward ends the token' src/clock.rs \
  's/\(Some\(now\), Some\(then\)\) => now\.saturating_sub\(then\),/(Some(_), Some(_)) if self.wall > earlier.wall + self.monotonic => self.wall.saturating_sub(earlier.wall),\n            (Some(now), Some(then)) => now.saturating_sub(then).max(self.wall.saturating_sub(earlier.wall)),/'
mutate 'a suspend is not counted' src/clock.rs \
  's/\(Some\(now\), Some\(then\)\) => now\.saturating_sub\(then\),/(Some(_), Some(_)) => self.monotonic.saturating_sub(earlier.monotonic),/'
mutate 'what has ended is not over' src/renewal/slot.rs \
  's/\(over != self\.schedule\)\.then\(/(over != self.schedule \&\& false).then(/; s/if off < REANCHOR/if true || off < REANCHOR/'
mutate 'Retry-After is ignored' src/renewal/plan.rs \
  's/error\.retry_after\(\)\.map\(\|wait\|/error.retry_after().filter(|_| false).map(|wait|/'
mutate 'no floor between two requests' src/renewal/schedule.rs \
  's/FLOOR\.min\(life \/ 10\)/FLOOR.min(life \/ 10) * 0/'
mutate 'no cooldown after a 401' src/renewal/plan.rs \
  's/self\.cooldown = Some\(Pause \{ since: \*now, length \}\);/self.cooldown = Some(Pause { since: *now, length: length * 0 });/'
mutate 'a refused credential is shown again like any failure' src/renewal/plan.rs \
  's/if refused \|\| !error\.is_retryable\(\) \{\s*self\.note_refusal/if false {\n            self.note_refusal/'
mutate 'a new credential wakes nobody' src/renewal/refresher.rs \
  's/inner\.plan\.credential_changed\(\);//'
mutate 'a changed app id keeps the token' src/renewal/refresher.rs \
  's/if change == Change::AppId \{\s*self\.slot\.store\(None\);\s*\}//'
mutate 'a withheld token stays withheld' src/renewal/outcome.rs \
  's/if held\.withheld \{ Some\(held\.withholding\(false\)\) \}/if held.withheld { None }/'
mutate 'the leeway is not served while renewals fail' src/renewal/outcome.rs \
  's/held\.extended\(now\)/None/'
mutate 'a caller brings nothing forward' src/renewal/plan.rs \
  's/news \&\& brisk\.is_some\(\)/false \&\& news \&\& brisk.is_some()/; s/if self\.demanded => \{/if self.demanded \&\& false => {/'
mutate 'a dead task is not noticed' src/renewal/outcome.rs \
  's/inner\.task\.alive = false;//'
mutate 'a superseded task works on' src/renewal/refresher.rs \
  's/task\.pulse\.epoch \+= 1;\s*task\.alive = true;/task.alive = true;/'
mutate 'the lifetime counts from the answer' src/renewal/outcome.rs \
  's/Held::new\(token, schedule, sent, after_refusal\)/Held::new(token, schedule, Moment { boot: now.boot.map(|boot| boot + lifetime \/ 10), ..*now }, after_refusal)/'
mutate 'the renewal comes after the end' src/renewal/schedule.rs \
  's/let renew_after =\s*planned\.min\(serve_for\.saturating_sub\(margin\(floor, round_trip\)\)\)\.max\(floor\)\.min\(serve_for\);/let renew_after = serve_for; let _ = (planned, margin(floor, round_trip));/'
mutate 'the handle'"'"'s end leaves the task' src/renewal/refresher.rs \
  's/if let Some\(task\) = inner\.task\.abort\.take\(\) \{\s*task\.abort\(\);\s*\}//'
mutate 'no limit to an attempt' src/renewal/attempt.rs \
  's/refresher\.clock\.wait\(timeout\)/refresher.clock.wait(timeout * 1000)/'

exit "$missed"
