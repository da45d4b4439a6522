//! How long to wait before trying again, and how often to say so.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const SAY_EVERY: Duration = Duration::from_secs(30);
/// What comes and goes is not told of more often than this.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// What passes within this time is not worth a word.
const QUIET: Duration = Duration::from_millis(500);

/// Doubles from 100 ms to 5 s, each time with up to a quarter more or less, so that many who wait do not come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    /// When it was last said, be it of this trouble or of one before.
    said: Option<Instant>,
    failing_since: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST, said: None, failing_since: None }
    }

    /// Notes a success. Gives how long it had failed before, if that was said.
    pub(crate) fn reset(&mut self) -> Option<Duration> {
        let since = self.failing_since.take();
        self.next = FIRST;
        since.filter(|since| self.has_said_since(*since)).map(|since| since.elapsed())
    }

    /// For how long there were failures only.
    pub(crate) fn failing_for(&self) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn has_said_since(&self, since: Instant) -> bool {
        self.said.is_some_and(|at| at >= since)
    }

    /// Notes a failure. Gives how long to wait, and whether to say so: when it has lasted for half a second, and then
    /// every 30 s. Trouble that comes and goes is told of every 10 s at most.
    pub(crate) fn fail(&mut self) -> (Duration, bool) {
        self.fail_at(Instant::now())
    }

    /// The same of an attempt that began then, and may have taken its time to fail: that counts.
    pub(crate) fn fail_since(&mut self, begun: Instant) -> (Duration, bool) {
        self.failing_since.get_or_insert(begun);
        self.fail()
    }

    fn fail_at(&mut self, now: Instant) -> (Duration, bool) {
        let since = *self.failing_since.get_or_insert(now);
        let pause = if self.has_said_since(since) { SAY_EVERY } else { SAY_AGAIN };
        let say = now.duration_since(since) >= QUIET && self.said.is_none_or(|at| now.duration_since(at) >= pause);
        if say {
            self.said = Some(now);
        }
        let wait = self.next.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        (wait, say)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_told_once() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        let waits: Vec<_> = (0..20).map(|second| backoff.fail_at(now + Duration::from_secs(second))).collect();
        assert!(!waits[0].1 && waits[1].1, "not at once, but soon");
        assert!(waits[0].0 >= FIRST.mul_f64(0.75) && waits[0].0 <= FIRST.mul_f64(1.25));
        assert!(waits.iter().all(|(wait, _)| *wait <= LONGEST.mul_f64(1.25)));
        assert!(waits[19].0 >= LONGEST.mul_f64(0.75));
        assert_eq!(waits.iter().filter(|(_, say)| *say).count(), 1);
        assert!(backoff.reset().is_some());
        assert!(backoff.reset().is_none(), "nothing to say of a success after a success");
    }

    #[test]
    fn what_takes_long_to_fail_is_told_at_once() {
        let begun = Instant::now().checked_sub(QUIET).expect("the clock is further on than that");
        assert!(Backoff::new().fail_since(begun).1);
        assert!(!Backoff::new().fail_since(Instant::now()).1);
    }

    #[test]
    fn trouble_that_comes_and_goes_is_told_now_and_then() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        let mut said = 0;
        for second in 0..60 {
            let now = now + Duration::from_secs(second);
            assert!(!backoff.fail_at(now).1, "not at once");
            said += usize::from(backoff.fail_at(now + QUIET).1);
            backoff.reset();
        }
        assert_eq!(said, 6);
    }
}
