//! PURE. The circuit breaker: whether nearly all messages fail, so that it is not they that are wrong.
//!
//! ```text
//!           nearly all of the last messages failed,
//!           and nearly all of the last seconds'
//!   closed ─────────────────────────────────────────▶ open: one message at a time is tried, with backoff
//!     ▲                                                 │
//!     └────────────── a task succeeded ─────────────────┘
//! ```
//!
//! - The window is of both messages and time: the last [`Breaker::most`] messages, and the attempts of the last [`WINDOW`]. In
//!   both of them [`SHARE`] percent must have failed, of [`LEAST`] messages at the least. So tasks that hang, on all workers
//!   at once, and are timed out together are no outage where others go well beside them or went well before; nor are a few
//!   messages that fail at each attempt.
//! - One failure of the set-up ([`Advice::Setup`]) is enough where nothing went well in the window.
//! - While the last messages failed and the last seconds have not decided it yet, it is in doubt: no message is given up.
//! - While it is open, messages whose tasks fail are kept. Those that are tried take turns, the failed with the fresh, so
//!   that a message which always fails does not keep it open. Where there is nothing else to be tried (the first of its key
//!   holds back all others, or it is the last), it is given up after [`ALONE`] tries in a row, unless it is the set-up that
//!   is wrong.
//!
//! What is malformed counts neither way.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    record::{AssignmentId, Offset},
    task::Advice,
};

/// The share of tasks that fail at which it opens, in percent.
pub(super) const SHARE: usize = 90;
/// The least outcomes that it opens by.
pub(super) const LEAST: usize = 20;
/// The time that counts, beside the last messages.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// How long it waits before the first attempt; twice as long for each that follows.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between attempts.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often one message is tried while there is no other, before it is given up: for five minutes, or longer.
pub(super) const ALONE: u32 = 10;

/// Parts of [`WINDOW`] by which time is told.
const SLICES: usize = 10;

/// See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Breaker {
    /// Messages that count, beside the attempts of the last seconds.
    most: usize,
    /// Whether each of the last ones failed: at its first attempt, or at none.
    last: VecDeque<bool>,
    failed: usize,
    /// How many ended in each slice of the last seconds, and how many of them failed; and the latest slice's number.
    slices: [(usize, usize); SLICES],
    slice: u64,
    begun: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Off,
    Closed,
    Open(Open),
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// When the next message may be tried.
    due: Instant,
    wait: Duration,
    /// The one that is being tried.
    trying: Option<(AssignmentId, Offset)>,
    /// How many were tried.
    tries: u64,
    /// The last one, and how often in a row it was.
    last: Option<(AssignmentId, Offset)>,
    in_a_row: u32,
}

/// What changed with an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed {
        after: Duration,
    },
    /// It stays open, and the next try comes after this time.
    StillOpen {
        wait: Duration,
    },
}

impl Breaker {
    /// One for so many workers.
    pub(super) fn new(on: bool, workers: usize, now: Instant) -> Self {
        Self {
            most: LEAST.max(4 * workers),
            last: VecDeque::new(),
            failed: 0,
            slices: [(0, 0); SLICES],
            slice: 0,
            begun: now,
            state: if on { State::Closed } else { State::Off },
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether a message whose attempts are spent is to be kept all the same.
    pub(super) fn keeps(&self, id: AssignmentId, offset: Offset, advice: Advice) -> bool {
        match &self.state {
            State::Off => false,
            State::Closed => self.is_bad(self.failed, self.last.len()),
            State::Open(open) => advice == Advice::Setup || open.in_a_row < ALONE || open.last != Some((id, offset)),
        }
    }

    fn is_bad(&self, failed: usize, all: usize) -> bool {
        all > 0 && self.last.len() >= LEAST && failed * 100 >= all * SHARE
    }

    /// Takes in that a task has succeeded, or why it failed, and whether the same message has failed before.
    pub(super) fn note(&mut self, failed: Option<Advice>, again: bool, now: Instant) -> Option<Change> {
        if matches!(self.state, State::Off) {
            return None;
        }
        self.count(failed.is_some(), again, now);
        match (&mut self.state, failed) {
            (State::Open(open), None) => {
                let after = now.duration_since(open.since);
                self.state = State::Closed;
                (self.failed, self.slices) = (0, [(0, 0); SLICES]);
                self.last.clear();
                Some(Change::Closed { after })
            }
            (State::Closed, Some(advice)) => {
                let (all_lately, failed_lately) =
                    self.slices.iter().fold((0, 0), |(a, f), (all, failed)| (a + all, f + failed));
                let bad = self.is_bad(self.failed, self.last.len()) && self.is_bad(failed_lately, all_lately);
                let setup = advice == Advice::Setup && self.failed == self.last.len();
                if !bad && !setup {
                    return None;
                }
                let wait = FIRST_WAIT;
                self.state = State::Open(Open {
                    since: now,
                    due: now + wait,
                    wait,
                    trying: None,
                    tries: 0,
                    last: None,
                    in_a_row: 0,
                });
                Some(Change::Opened)
            }
            _ => None,
        }
    }

    fn count(&mut self, failed: bool, again: bool, now: Instant) {
        let slice = (now.duration_since(self.begun).as_nanos() * SLICES as u128 / WINDOW.as_nanos()) as u64;
        for passed in self.slice + 1..=slice.min(self.slice + SLICES as u64) {
            self.slices[passed as usize % SLICES] = (0, 0);
        }
        self.slice = slice;
        let (all, failures) = &mut self.slices[slice as usize % SLICES];
        *all += 1;
        *failures += usize::from(failed);
        if failed && again {
            return;
        }
        if self.last.len() == self.most {
            self.failed -= usize::from(self.last.pop_front() == Some(true));
        }
        self.last.push_back(failed);
        self.failed += usize::from(failed);
    }

    /// Whether one message may be tried now, while it is open.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        matches!(&self.state, State::Open(open) if open.trying.is_none() && now >= open.due)
    }

    /// When the next one may be tried.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Open(open) if open.trying.is_none() => Some(open.due),
            _ => None,
        }
    }

    /// Whether the next to be tried should be one that has not run yet.
    pub(super) fn prefers_fresh(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.tries % 2 == 1)
    }

    /// Notes that this one is being tried.
    pub(super) fn trying(&mut self, id: AssignmentId, offset: Offset) {
        if let State::Open(open) = &mut self.state {
            open.trying = Some((id, offset));
            open.tries += 1;
            open.in_a_row = if open.last == open.trying { open.in_a_row + 1 } else { 1 };
            open.last = open.trying;
        }
    }

    /// Takes in that a task has come to its end: if it is the one that is being tried and nothing else has closed the circuit,
    /// the next may follow after a while.
    pub(super) fn tried(&mut self, id: AssignmentId, offset: Offset, now: Instant) -> Option<Change> {
        let State::Open(open) = &mut self.state else { return None };
        open.trying.take_if(|trying| *trying == (id, offset))?;
        open.wait = (open.wait * 2).min(LONGEST_WAIT);
        open.due = now + open.wait;
        Some(Change::StillOpen { wait: open.wait })
    }

    /// Takes in that the one that was to be tried was not begun.
    pub(super) fn not_tried(&mut self, id: AssignmentId, offset: Offset) {
        if let State::Open(open) = &mut self.state {
            open.trying.take_if(|trying| *trying == (id, offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Option<Advice> = Some(Advice::Retry);

    fn breaker(workers: usize) -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(true, workers, now), now)
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn it_opens_when_nearly_all_fail() {
        let (mut breaker, now) = breaker(1);
        assert_eq!(breaker.note(None, false, now), None);
        for _ in 0..18 {
            assert_eq!(breaker.note(RETRY, false, now), None);
        }
        assert_eq!(breaker.note(RETRY, false, now), Some(Change::Opened));
    }

    #[test]
    fn one_in_ten_that_goes_well_keeps_it_closed() {
        let (mut breaker, mut now) = breaker(8);
        for number in 0..10_000 {
            now += Duration::from_millis(3);
            let failed = RETRY.filter(|_| number % 9 != 0);
            assert_eq!(breaker.note(failed, false, now), None, "after {number}");
        }
    }

    #[test]
    fn all_workers_that_time_out_together_are_no_outage() {
        for workers in [4, 30, 200] {
            let (mut breaker, mut now) = breaker(workers);
            for _ in 0..5_000 {
                now += Duration::from_millis(1);
                breaker.note(None, false, now);
            }
            // Nothing else ends for a minute.
            now += secs(60.0);
            for _ in 0..workers {
                assert_eq!(breaker.note(RETRY, false, now), None, "{workers} workers");
            }
            assert!(!breaker.keeps(AssignmentId(0), Offset(0), Advice::Retry));
        }
    }

    #[test]
    fn thousands_that_went_well_within_the_last_seconds_keep_it_closed_and_in_doubt() {
        let (mut breaker, mut now) = breaker(1);
        for _ in 0..5_000 {
            breaker.note(None, false, now);
        }
        for _ in 0..100 {
            now += Duration::from_millis(50);
            assert_eq!(breaker.note(RETRY, false, now), None);
        }
        assert!(breaker.keeps(AssignmentId(0), Offset(0), Advice::Retry), "nothing is given up meanwhile");
        let opened = (0..200).find(|_| {
            now += Duration::from_millis(50);
            breaker.note(RETRY, false, now).is_some()
        });
        assert!(opened.is_some_and(|more| more < 110), "{opened:?}");
    }

    #[test]
    fn a_setup_that_is_wrong_opens_it_at_once_unless_something_went_well() {
        let (mut wrong, now) = breaker(8);
        assert_eq!(wrong.note(Some(Advice::Setup), false, now), Some(Change::Opened));
        let (mut right, now) = breaker(8);
        right.note(None, false, now);
        assert_eq!(right.note(Some(Advice::Setup), false, now), None);
    }

    #[test]
    fn one_is_tried_at_a_time_with_backoff_until_one_succeeds() {
        let (mut breaker, mut now) = breaker(8);
        breaker.note(Some(Advice::Setup), false, now);
        let mut waits = Vec::new();
        for number in 0..8 {
            let due = breaker.due().expect("it is open");
            waits.push(due.duration_since(now).as_secs());
            assert!(!breaker.may_try(now) && breaker.may_try(due));
            assert_eq!(breaker.prefers_fresh(), number % 2 == 1);
            now = due;
            breaker.trying(AssignmentId(1), Offset(number));
            assert_eq!((breaker.may_try(now + WINDOW), breaker.due()), (false, None));
            assert_eq!(breaker.note(RETRY, false, now), None);
            assert_eq!(breaker.tried(AssignmentId(2), Offset(number), now), None, "another");
            assert!(breaker.tried(AssignmentId(1), Offset(number), now).is_some());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(matches!(breaker.note(None, false, now), Some(Change::Closed { .. })));
        assert!(!breaker.is_open() && !breaker.keeps(AssignmentId(0), Offset(0), Advice::Retry));
    }

    #[test]
    fn a_few_messages_that_fail_at_each_attempt_are_no_outage() {
        let (mut breaker, now) = breaker(1);
        for number in 0..17 {
            assert_eq!(breaker.note(RETRY, false, now), None, "{number}");
        }
        assert!(
            (0..1_000).all(|_| breaker.note(RETRY, true, now).is_none())
                && !breaker.keeps(AssignmentId(0), Offset(0), Advice::Retry)
        );
    }

    #[test]
    fn the_only_one_there_is_is_given_up_in_the_end_unless_the_setup_is_wrong() {
        let (mut breaker, mut now) = breaker(8);
        breaker.note(Some(Advice::Setup), false, now);
        let (id, offset) = (AssignmentId(1), Offset(7));
        for tries in 1..=ALONE {
            now += LONGEST_WAIT;
            breaker.trying(id, offset);
            assert_eq!(breaker.keeps(id, offset, Advice::Retry), tries < ALONE, "{tries}");
            breaker.tried(id, offset, now);
        }
        assert!(breaker.keeps(id, offset, Advice::Setup) && breaker.keeps(id, Offset(8), Advice::Retry));
        breaker.trying(id, Offset(8));
        assert!(breaker.keeps(id, offset, Advice::Retry) && breaker.is_open());
    }

    #[test]
    fn it_can_be_turned_off() {
        let now = Instant::now();
        let mut off = Breaker::new(false, 1, now);
        assert!(
            (0..100).all(|_| off.note(Some(Advice::Setup), false, now).is_none())
                && !off.keeps(AssignmentId(0), Offset(0), Advice::Retry)
        );
    }
}
