//! PURE. How often tasks may start (`--rate`).

use std::time::{Duration, Instant};

/// How much of what was not started may be made up for at once.
const BURST: Duration = Duration::from_millis(100);

/// Lets so many start in a time, evenly.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time that each of them takes up.
    each: Option<Duration>,
    next: Instant,
}

impl Pace {
    pub(super) fn new(each: Option<Duration>, now: Instant) -> Self {
        Self { each, next: now }
    }

    /// Whether there is any limit.
    pub(super) fn is_limited(&self) -> bool {
        self.each.is_some()
    }

    /// When the next may start, where there is a limit.
    pub(super) fn next(&self) -> Option<Instant> {
        Some(self.next).filter(|_| self.is_limited())
    }

    /// Notes that so many start.
    pub(super) fn start(&mut self, count: usize, now: Instant) {
        let Some(each) = self.each else { return };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        self.next = self.next.max(earliest) + each * u32::try_from(count).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_start_in_a_second_and_no_more_however_often_it_is_asked() {
        let begin = Instant::now();
        let mut pace = Pace::new(Some(Duration::from_millis(20)), begin);
        let mut started = 0;
        for millis in 0..10_000 {
            let now = begin + Duration::from_millis(millis);
            // Nothing to do for a while.
            if !(3_000..5_000).contains(&millis) && pace.next().is_none_or(|next| next <= now) {
                pace.start(1, now);
                started += 1;
            }
        }
        assert!((400..=405 + 5).contains(&started), "{started}");
        assert_eq!(Pace::new(None, begin).next(), None);
    }
}
