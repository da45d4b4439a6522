//! PURE. A set of offsets, as runs: what is finished of a partition above its lowest unfinished offset.

use std::fmt;

use crate::record::Offset;

/// Offsets that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: Offset,
    /// The one that follows the last of them.
    pub end: Offset,
}

impl Run {
    /// The offsets from `first` on and below `end`.
    #[must_use]
    pub fn new(first: Offset, end: Offset) -> Self {
        Self { first, end }
    }

    /// How many they are.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::try_from(self.end.0 - self.first.0).unwrap_or(0)
    }
}

/// As people write it, with both ends: `5-7`, or `5` where it is one.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 1 { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.end.0 - 1) }
    }
}

/// Offsets that are finished: runs in rising order that neither overlap nor touch.
///
/// An offset that does not exist counts as whatever is shorter to say. Takes 16 bytes for each run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finished {
    runs: Vec<Run>,
}

impl Finished {
    /// Adds offsets behind those that are there. A run that touches the last one is joined to it.
    ///
    /// # Panics
    /// If it does not lie behind them: our own bug.
    pub fn push(&mut self, run: Run) {
        if run.first >= run.end {
            return;
        }
        match self.runs.last_mut() {
            Some(last) => {
                assert!(run.first >= last.end, "offset {} put behind {}", run.first, last.end);
                if last.end == run.first {
                    last.end = run.end;
                } else {
                    self.runs.push(run);
                }
            }
            None => self.runs.push(run),
        }
    }

    /// Adds one offset, wherever it lies.
    pub fn insert(&mut self, offset: Offset) {
        if self.contains(offset) {
            return;
        }
        let above = self.runs.split_off(self.first_reaching(offset));
        for run in [Run::new(offset, offset.next())].into_iter().chain(above) {
            self.push(run);
        }
    }

    /// The runs, in rising order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.count()).sum()
    }

    /// How many there are from `at` on.
    #[must_use]
    pub fn count_from(&self, at: Offset) -> u64 {
        self.runs[self.first_reaching(at)..].iter().map(|run| Run::new(run.first.max(at), run.end).count()).sum()
    }

    /// The lowest of them.
    #[must_use]
    pub fn first(&self) -> Option<Offset> {
        self.runs.first().map(|run| run.first)
    }

    /// The offset that follows the highest of them.
    #[must_use]
    pub fn end(&self) -> Option<Offset> {
        self.runs.last().map(|run| run.end)
    }

    /// The run that an offset is in.
    #[must_use]
    pub fn run_of(&self, offset: Offset) -> Option<Run> {
        self.runs.get(self.first_reaching(offset)).copied().filter(|run| run.first <= offset)
    }

    /// Whether an offset is in it.
    #[must_use]
    pub fn contains(&self, offset: Offset) -> bool {
        self.run_of(offset).is_some()
    }

    /// Takes out what lies below `at`.
    pub fn cut_below(&mut self, at: Offset) {
        self.runs.drain(..self.first_reaching(at));
        if let Some(first) = self.runs.first_mut() {
            first.first = first.first.max(at);
        }
    }

    /// Takes out what lies at `at` and above.
    pub fn cut_from(&mut self, at: Offset) {
        self.runs.truncate(self.runs.partition_point(|run| run.first < at));
        if let Some(last) = self.runs.last_mut() {
            last.end = last.end.min(at);
        }
    }

    /// The place of the first run that is not wholly below `at`.
    fn first_reaching(&self, at: Offset) -> usize {
        self.runs.partition_point(|run| run.end <= at)
    }
}

impl FromIterator<Run> for Finished {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Self {
        let mut finished = Self::default();
        for run in runs {
            finished.push(run);
        }
        finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: &[(i64, i64)]) -> Finished {
        runs.iter().map(|(first, end)| Run::new(Offset(*first), Offset(*end))).collect()
    }

    #[test]
    fn runs_that_touch_are_one() {
        assert_eq!(runs(&[(3, 5), (5, 6), (6, 6), (8, 9)]), runs(&[(3, 6), (8, 9)]));
        assert_eq!(runs(&[(3, 6), (8, 9)]).count(), 4);
    }

    #[test]
    fn an_offset_that_is_put_in_joins_what_it_touches() {
        let with = |offset| {
            let mut finished = runs(&[(3, 6), (7, 9)]);
            finished.insert(Offset(offset));
            finished
        };
        assert_eq!((with(6), with(9)), (runs(&[(3, 9)]), runs(&[(3, 6), (7, 10)])));
        assert_eq!((with(2), with(1)), (runs(&[(2, 6), (7, 9)]), runs(&[(1, 2), (3, 6), (7, 9)])));
        assert_eq!(with(4), runs(&[(3, 6), (7, 9)]));
    }

    #[test]
    fn what_is_cut_off_is_gone() {
        let cut = |below: i64, from: i64| {
            let mut finished = runs(&[(3, 6), (8, 9), (12, 20)]);
            finished.cut_below(Offset(below));
            finished.cut_from(Offset(from));
            finished
        };
        assert_eq!(cut(0, 99), runs(&[(3, 6), (8, 9), (12, 20)]));
        assert_eq!(cut(4, 13), runs(&[(4, 6), (8, 9), (12, 13)]));
        assert_eq!(cut(6, 12), runs(&[(8, 9)]));
        assert_eq!(cut(9, 9), runs(&[]));
        assert_eq!(runs(&[(3, 6), (8, 9), (12, 20)]).count_from(Offset(5)), 1 + 1 + 8);
    }

    #[test]
    fn it_says_what_is_in_it() {
        let finished = runs(&[(3, 6), (8, 9)]);
        let contained: Vec<_> = (0..12).filter(|offset| finished.contains(Offset(*offset))).collect();
        assert_eq!(contained, [3, 4, 5, 8]);
        assert_eq!((finished.first(), finished.end()), (Some(Offset(3)), Some(Offset(9))));
    }

    #[test]
    #[should_panic(expected = "put behind")]
    fn runs_rise() {
        runs(&[(3, 6), (5, 9)]);
    }
}
