//! PURE. What is finished above the committable offset: to be kept with a commit, and known from one.
//!
//! ```text
//!   committable            waiting.front()          next()          known from an earlier life
//!   ────┴────────────────────────┴────────────────────┴──────────────▓▓▓──▓▓▓▓▓▓────────────▶ offsets
//!       │ all but those that run │ what was passed    │ not fetched yet: passed when it is
//! ```

use super::{Known, Tracker};
use crate::{
    progress::{Finished, Run},
    record::Offset,
};

impl<T> Tracker<T> {
    /// Takes over what was finished in an earlier life, at or above the start.
    #[must_use]
    pub fn with_finished(self, known: Finished) -> Self {
        Self { known, ..self }
    }

    /// Where it began.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.start
    }

    /// What is known of an offset that was read, if anything is: it is finished, or in hand. Then it counts as read, and is
    /// not to be [`fetched`](Self::fetched).
    pub fn pass(&mut self, offset: Offset) -> Option<Known> {
        let known = match self.unread.remove(&offset) {
            true => Known::InHand,
            false if self.known.contains(offset) => Known::Finished,
            false => return None,
        };
        self.skip_to(offset.next());
        Some(known)
    }

    /// What is finished from `from` on, which is the committable offset or below it. What does not exist counts as
    /// finished below the highest that was started, and not above.
    #[must_use]
    pub fn finished_from(&self, from: Offset) -> Finished {
        let mut finished = Finished::default();
        let mut at = from;
        let unstarted = self.first_unstarted();
        for running in self.started().take_while(|offset| *offset < unstarted) {
            finished.push(Run::new(at, running));
            at = running.next();
        }
        finished.push(Run::new(at, unstarted));
        let mut known = self.known.clone();
        known.cut_below(unstarted.max(at));
        for run in known.runs() {
            finished.push(*run);
        }
        finished
    }

    /// Starts nothing from `reach` on for as long as `base` is the lowest unfinished offset: a commit cannot say of more
    /// that it is finished. `None` lifts it.
    pub fn hold_below(&mut self, base: Offset, reach: Option<Offset>) {
        self.hold = reach.map(|reach| (base, reach));
    }

    pub(super) fn is_held(&self, lowest: Offset, offset: Offset) -> bool {
        self.hold.is_some_and(|(base, reach)| lowest == base && offset >= reach)
    }

    /// Forgets what is known of where all has been started.
    pub(super) fn forget_known(&mut self) {
        if self.known.end().is_some_and(|end| end <= self.first_unstarted()) {
            self.known = Finished::default();
        }
    }

    pub(super) fn first_unstarted(&self) -> Offset {
        self.waiting.front().map_or(self.next, |(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::SPAN;

    fn set(runs: &[(i64, i64)]) -> Finished {
        runs.iter().map(|(first, end)| Run::new(Offset(*first), Offset(*end))).collect()
    }

    /// 5 to 9 are there, and 6 and 8 known to be finished, as is 20, which is not there yet.
    fn tracker() -> Tracker<i64> {
        let mut tracker = Tracker::new(Offset(5), SPAN).with_finished(set(&[(6, 7), (8, 9), (20, 21)]));
        for offset in 5..10 {
            if tracker.pass(Offset(offset)).is_none() {
                tracker.fetched(Offset(offset), offset);
            }
        }
        tracker
    }

    #[test]
    fn what_is_known_to_be_finished_does_not_start() {
        let mut tracker = tracker();
        assert_eq!(tracker.waiting(), 3);
        let started: Vec<_> = std::iter::from_fn(|| tracker.start()).map(|(_, what)| what).collect();
        assert_eq!(started, [5, 7, 9]);
    }

    #[test]
    fn what_is_known_stays_known_until_all_of_it_is_below_the_commit() {
        let mut tracker = tracker();
        let finished = |tracker: &Tracker<i64>| tracker.finished_from(tracker.committable());
        assert_eq!(finished(&tracker), set(&[(6, 7), (8, 9), (20, 21)]));
        tracker.start();
        tracker.start();
        tracker.finish(Offset(7));
        assert_eq!((tracker.committable(), finished(&tracker)), (Offset(5), set(&[(6, 9), (20, 21)])));
        tracker.finish(Offset(5));
        assert_eq!((tracker.committable(), finished(&tracker)), (Offset(9), set(&[(20, 21)])));
        tracker.abandon_waiting();
        assert_eq!((tracker.committable(), finished(&tracker)), (Offset(9), set(&[(20, 21)])));
    }

    #[test]
    fn what_is_known_of_a_log_that_was_cut_off_is_forgotten() {
        let mut tracker = tracker();
        tracker.cut(Offset(7));
        assert_eq!(tracker.finished_from(Offset(5)), set(&[(6, 7)]));
    }

    #[test]
    fn nothing_starts_above_what_a_commit_can_say_until_the_lowest_is_finished() {
        let mut tracker = tracker();
        assert_eq!(tracker.start(), Some((Offset(5), 5)));
        tracker.hold_below(Offset(5), Some(Offset(9)));
        assert_eq!(tracker.start(), Some((Offset(7), 7)));
        assert!(!tracker.can_start() && tracker.start().is_none());
        tracker.finish(Offset(5));
        assert_eq!(tracker.start(), Some((Offset(9), 9)));
    }
}
