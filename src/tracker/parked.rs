//! PURE. What was started and is held back: for a time to come, a turn, or somebody's word.
//!
//! ```text
//!   start ──▶ runs ──park──▶ parked ──unpark──▶ returned ──start──▶ runs
//!      └───────────park────────▲
//! ```
//!
//! It counts as started and not as begun: it holds the committable offset down, and no end waits for it.

use super::Tracker;
use crate::record::Offset;

impl<T> Tracker<T> {
    /// Holds back what was started, and does not run or runs no more.
    ///
    /// # Panics
    /// If the offset was not started: our own bug.
    pub fn park(&mut self, offset: Offset, what: T) {
        assert!(self.is_started(offset), "offset {offset} parked but not started");
        self.ended.clear(offset);
        self.parked.insert(offset, what);
    }

    /// Lets what was held back start again, after what was let so before. Gives whether there was such a one.
    pub fn unpark(&mut self, offset: Offset) -> bool {
        let Some(what) = self.parked.remove(&offset) else { return false };
        self.returned.push_back((offset, what));
        true
    }

    /// As [`start`](Self::start), but what was started before has to wait.
    pub fn start_fresh(&mut self) -> Option<(Offset, T)> {
        let returned = std::mem::take(&mut self.returned);
        let fresh = self.start();
        self.returned = returned;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::SPAN;

    fn tracker() -> Tracker<i64> {
        let mut tracker = Tracker::new(Offset(0), SPAN);
        for offset in 0..4 {
            tracker.fetched(Offset(offset), offset);
        }
        tracker
    }

    #[test]
    fn what_is_parked_is_unfinished_and_holds_nobody_up() {
        let mut tracker = tracker();
        tracker.start();
        tracker.park(Offset(0), 0);
        assert_eq!((tracker.committable(), tracker.begun(), tracker.unfinished()), (Offset(0), 0, 4));
        assert_eq!(tracker.start(), Some((Offset(1), 1)));
        assert_eq!((tracker.begun(), tracker.in_hand()), (1, vec![Offset(1)]));
        assert!(tracker.unpark(Offset(0)) && !tracker.unpark(Offset(0)));
        assert_eq!(tracker.start_fresh(), Some((Offset(2), 2)));
        assert_eq!(tracker.start(), Some((Offset(0), 0)));
        [0, 1, 2].into_iter().for_each(|offset| tracker.finish(Offset(offset)));
        assert_eq!(tracker.committable(), Offset(3));
    }

    #[test]
    fn what_is_parked_is_forgotten_with_what_waits_and_with_what_is_cut_off() {
        let mut tracker = tracker();
        for offset in 0..3 {
            tracker.start();
            tracker.park(Offset(offset), offset);
        }
        assert_eq!(tracker.cut(Offset(2)), (vec![3, 2], 0));
        assert_eq!(tracker.abandon_waiting(), [0, 1]);
        assert_eq!((tracker.committable(), tracker.begun()), (Offset(0), 0));
        assert!(!tracker.unpark(Offset(1)));
    }
}
