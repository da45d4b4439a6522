//! PURE. One request at a time: which is under way, and when to try again what failed.

use std::time::{Duration, Instant};

/// What is asked for the first time again after a failure; then after twice as long, and so on.
const FIRST: Duration = Duration::from_millis(100);
/// As in Java, no more than a second apart: a coordinator that is back is to be found again at once.
const LONGEST: Duration = Duration::from_secs(1);

/// Which requests wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// JoinGroup, SyncGroup, LeaveGroup; ConsumerGroupHeartbeat.
    Talk,
    /// Heartbeat.
    Beat,
}

/// Names a request, so that its answer is told from that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) lane: Lane,
    number: u64,
}

/// A [`Lane`], and of what is under way in it when it was sent and `T`.
#[derive(Debug)]
pub(super) struct Road<T> {
    lane: Lane,
    next: u64,
    asked: Option<(Ticket, Instant, T)>,
    failures: u32,
}

impl<T> Road<T> {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, next: 0, asked: None, failures: 0 }
    }

    /// In the same lane for something else: what is under way in the other is given up.
    pub(super) fn after<U>(other: &Road<U>) -> Self {
        Self { next: other.next, ..Self::new(other.lane) }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.asked.is_some()
    }

    /// Sends something.
    pub(super) fn ask(&mut self, what: T, now: Instant) -> Ticket {
        let ticket = Ticket { lane: self.lane, number: self.next };
        self.next += 1;
        self.asked = Some((ticket, now, what));
        ticket
    }

    /// What that was the answer to, and when it was sent; nothing if nobody waits for it any more.
    pub(super) fn answered(&mut self, ticket: Ticket) -> Option<(Instant, T)> {
        let (_, at, what) = self.asked.take_if(|(asked, _, _)| *asked == ticket)?;
        Some((at, what))
    }

    /// Nobody waits any more for what is under way.
    pub(super) fn give_up(&mut self) {
        self.asked = None;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When to try again.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        now + wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_waits_for_is_none() {
        let now = Instant::now();
        let mut road = Road::new(Lane::Talk);
        let first = road.ask("first", now);
        let second = road.ask("second", now);
        assert_eq!(road.answered(first), None);
        assert_eq!(road.answered(second), Some((now, "second")));
        assert_eq!(road.answered(second), None, "a second time");
        let third = road.ask("third", now);
        road.give_up();
        assert!(!road.is_busy());
        assert_eq!(road.answered(third), None);
        let mut other = Road::after(&road);
        other.ask((), now);
        assert_eq!(other.answered(first).or(other.answered(second)).or(other.answered(third)), None);
    }

    #[test]
    fn failures_are_ever_further_apart_up_to_a_second() {
        let now = Instant::now();
        let mut road = Road::<()>::new(Lane::Beat);
        let waits: Vec<_> = (0..6).map(|_| road.failed(now).duration_since(now).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        road.succeeded();
        assert_eq!(road.failed(now).duration_since(now), FIRST);
    }
}
