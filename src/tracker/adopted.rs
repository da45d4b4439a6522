//! PURE. What still runs from an earlier life of the partition, and belongs to this one.
//!
//! ```text
//!   the life before    ├──✓──running──✓──running──▶ ended            in_hand() says what runs
//!                              │ adopt      │ adopt
//!   this life          ├───────▼────────────▼──────────▶             unfinished; read again, it is passed, and not started
//! ```
//!
//! It may lie above all that was read, so it counts apart from what was started here.

use std::collections::BTreeSet;

use super::Tracker;
use crate::{gather::Gather, record::Offset};

/// Why an offset that was read is not to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// An earlier life has finished it.
    Finished,
    /// It was adopted: its task runs, or has ended since.
    InHand,
}

impl<T> Tracker<T> {
    /// Counts an offset as running that was never started here. Nothing was read yet, and it is not known to be finished.
    ///
    /// # Panics
    /// If something was read: our own bug.
    pub fn adopt(&mut self, offset: Offset) {
        assert!(self.next == self.start && offset >= self.start, "offset {offset} adopted, next is {}", self.next);
        self.adopted.insert(offset);
        self.unread.insert(offset);
    }

    /// Notes that the task of an offset that runs has ended. It is not finished yet.
    pub fn note_ended(&mut self, offset: Offset) {
        self.ended.put(offset);
    }

    /// The offsets whose tasks run: begun, and not ended.
    #[must_use]
    pub fn in_hand(&self) -> Vec<Offset> {
        let returned = self.returned.iter().map(|(offset, _)| *offset);
        let held = returned.chain(self.parked.keys().copied()).chain(self.abandoned.iter().copied());
        let given_back: BTreeSet<_> = held.gather();
        self.started().filter(|offset| !self.ended.is_set(*offset) && !given_back.contains(offset)).collect()
    }

    pub(super) fn lowest_started(&self) -> Option<Offset> {
        self.running.lowest().into_iter().chain(self.adopted.first().copied()).min()
    }

    pub(super) fn is_started(&self, offset: Offset) -> bool {
        self.running.is_set(offset) || self.adopted.contains(&offset)
    }

    pub(super) fn finish_adopted(&mut self, offset: Offset) -> bool {
        let was = self.adopted.remove(&offset);
        // Above what was started, it is not plain that all but what runs is finished.
        if was && offset >= self.first_unstarted() {
            self.known.insert(offset);
        }
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{progress::Run, tracker::SPAN};

    #[test]
    fn what_was_adopted_is_unfinished_and_not_started_again() {
        let mut tracker = Tracker::new(Offset(5), SPAN);
        tracker.adopt(Offset(7));
        assert_eq!((tracker.committable(), tracker.begun()), (Offset(5), 1));
        assert!(tracker.finished_from(Offset(5)).is_empty(), "nothing was read");
        for offset in 5..9 {
            match tracker.pass(Offset(offset)) {
                Some(known) => assert_eq!((offset, known), (7, Known::InHand)),
                None => tracker.fetched(Offset(offset), ()),
            }
        }
        let started: Vec<_> = std::iter::from_fn(|| tracker.start()).map(|(offset, ())| offset.0).collect();
        assert_eq!(started, [5, 6, 8]);
        [5, 6, 8].into_iter().for_each(|offset| tracker.finish(Offset(offset)));
        assert_eq!(tracker.committable(), Offset(7));
        tracker.finish(Offset(7));
        assert_eq!((tracker.committable(), tracker.begun()), (Offset(9), 0));
    }

    #[test]
    fn what_was_adopted_and_is_finished_before_it_is_read_is_said_to_be_finished_and_passed() {
        let mut tracker = Tracker::new(Offset(5), SPAN);
        tracker.adopt(Offset(7));
        tracker.finish(Offset(7));
        assert_eq!(tracker.committable(), Offset(5));
        assert_eq!(tracker.finished_from(Offset(5)), [Run::new(Offset(7), Offset(8))].into_iter().collect());
        tracker.fetched(Offset(5), ());
        tracker.fetched(Offset(6), ());
        assert_eq!(tracker.pass(Offset(7)), Some(Known::InHand));
        assert_eq!((tracker.next(), tracker.pass(Offset(8))), (Offset(8), None));
    }

    #[test]
    fn what_has_ended_or_was_given_back_is_not_in_hand() {
        let mut tracker = Tracker::new(Offset(0), SPAN);
        for offset in 0..200 {
            tracker.fetched(Offset(offset), ());
        }
        while tracker.start().is_some() {}
        for offset in (1..198).rev() {
            tracker.note_ended(Offset(offset));
        }
        tracker.give_back(Offset(199), ());
        assert_eq!(tracker.in_hand(), [Offset(0), Offset(198)]);
        tracker.abandon_waiting();
        tracker.finish(Offset(0));
        assert_eq!(tracker.in_hand(), [Offset(198)]);
    }

    #[test]
    fn what_lies_above_what_was_adopted_or_below_it_starts_within_the_span() {
        let mut tracker = Tracker::new(Offset(0), 10);
        tracker.adopt(Offset(5));
        for offset in [0, 14, 15] {
            tracker.fetched(Offset(offset), ());
        }
        let mut start = || tracker.start().map(|(offset, ())| offset.0);
        assert_eq!((start(), start()), (Some(0), None));
        tracker.finish(Offset(0));
        let mut start = || tracker.start().map(|(offset, ())| offset.0);
        assert_eq!((start(), start()), (Some(14), None));
    }
}
