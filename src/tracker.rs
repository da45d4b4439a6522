//! PURE. One partition: what waits, what runs, what is finished, and how far a commit may reach.
//!
//! ```text
//!   committable()            lowest running          waiting.front()        next()
//!        │                        │                        │                  │
//!   ─────┴────────────────────────┴────────────────────────┴──────────────────┴───▶ offsets
//!    finished │ some running, some finished, some not there │ fetched, waiting │ not fetched
//! ```
//!
//! The committable offset is the lowest one that is unfinished: the lowest that runs or, if none runs below it, the first
//! that waits, or else where fetching goes on. An offset that does not exist (compacted, a transaction marker) is simply
//! never mentioned, so gaps need no action. What is finished above the committable offset is a cleared bit.
//!
//! Deliberately not here: time, why something is parked, who runs what, and what the records are (`T` is whatever waits).

mod adopted;
mod bits;
mod parked;
mod progress;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::adopted::Known;
use self::bits::Bits;
use crate::{progress::Finished, record::Offset};

/// How many offsets may lie between the lowest unfinished one and the highest that runs.
///
/// Reached only when one task runs while this many that came after it finish; then the partition starts nothing more
/// until it is done. The bits for it take 128 KiB.
pub const SPAN: usize = 1 << 20;

/// Follows one partition through one assignment.
///
/// - getters: [`committable`](Self::committable), [`next`](Self::next), [`waiting`](Self::waiting),
///   [`unfinished`](Self::unfinished), [`begun`](Self::begun), [`can_start`](Self::can_start)
/// - in this order, for each offset: [`fetched`](Self::fetched), [`start`](Self::start), any number of times
///   [`give_back`](Self::give_back), or [`park`](Self::park) and [`unpark`](Self::unpark), and `start` again,
///   [`finish`](Self::finish)
/// - what was finished in an earlier life: [`with_finished`](Self::with_finished), [`pass`](Self::pass)
/// - what still runs from one: [`in_hand`](Self::in_hand) there, [`adopt`](Self::adopt) here
/// - what is finished above the committable offset: [`finished_from`](Self::finished_from), and
///   [`hold_below`](Self::hold_below) where that is more than a commit can say
/// - where the log turns out to be another: [`cut`](Self::cut)
#[derive(Debug)]
pub struct Tracker<T> {
    /// Where it begins.
    start: Offset,
    /// Where the fetch after the last one begins.
    next: Offset,
    /// Fetched and never started, in the order of their offsets.
    waiting: VecDeque<(Offset, T)>,
    /// Started once, then given back unstarted. Their bits stay set; they go first.
    returned: VecDeque<(Offset, T)>,
    /// Started once, and held back (`parked.rs`). Their bits stay set, too.
    parked: BTreeMap<Offset, T>,
    /// What was given back, or parked, and then forgotten. Their bits stay set, too.
    abandoned: Vec<Offset>,
    /// A bit for each offset that was started and is not finished.
    running: Bits,
    /// Those that run, and whose tasks have ended.
    ended: Bits,
    /// Those that run although they were never started here.
    adopted: BTreeSet<Offset>,
    /// Those that were adopted, and have not been read again.
    unread: BTreeSet<Offset>,
    span: usize,
    /// What is known to be finished from an earlier life, and may lie above what was started.
    known: Finished,
    /// While the first of them is the lowest that runs, nothing is started from the second on.
    hold: Option<(Offset, Offset)>,
}

impl<T> Tracker<T> {
    /// A tracker whose partition is read from `start` on.
    #[must_use]
    pub fn new(start: Offset, span: usize) -> Self {
        assert!(span > 0, "a span of 0 would start nothing");
        Self {
            start,
            next: start,
            waiting: VecDeque::new(),
            returned: VecDeque::new(),
            parked: BTreeMap::new(),
            abandoned: Vec::new(),
            running: Bits::default(),
            ended: Bits::default(),
            adopted: BTreeSet::new(),
            unread: BTreeSet::new(),
            span,
            known: Finished::default(),
            hold: None,
        }
    }

    /// The lowest unfinished offset: a commit of it loses nothing and repeats only what is unfinished. Never decreases.
    #[must_use]
    pub fn committable(&self) -> Offset {
        let unstarted = self.first_unstarted();
        // What was adopted may lie above all that was read.
        self.lowest_started().map_or(unstarted, |lowest| lowest.min(unstarted))
    }

    /// Where fetching goes on.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// How many are fetched and not running.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.returned.len() + self.parked.len()
    }

    /// How many are fetched and not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.waiting.len() + self.running.count + self.adopted.len()
    }

    /// The offsets that were started and are not finished, lowest first.
    pub fn started(&self) -> impl Iterator<Item = Offset> + '_ {
        let (mut here, mut adopted) = (self.running.iter().peekable(), self.adopted.iter().copied().peekable());
        std::iter::from_fn(move || match (here.peek(), adopted.peek()) {
            (Some(here), Some(other)) if other < here => adopted.next(),
            (None, _) => adopted.next(),
            _ => here.next(),
        })
    }

    /// How many were started and not given back, and are not finished.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.running.count + self.adopted.len() - self.returned.len() - self.parked.len() - self.abandoned.len()
    }

    /// Whether [`start`](Self::start) would give something: something waits and is within the span.
    #[must_use]
    pub fn can_start(&self) -> bool {
        !self.returned.is_empty()
            || self.waiting.front().is_some_and(|(offset, _)| {
                self.lowest_started().is_none_or(|lowest| {
                    offset.0.saturating_sub(lowest.0) < self.span as i64 && !self.is_held(lowest, *offset)
                })
            })
    }

    /// Takes in a record that was read. Offsets must rise; those left out do not exist.
    ///
    /// # Panics
    /// If the offset is below what was fetched before: our own bug.
    pub fn fetched(&mut self, offset: Offset, what: T) {
        assert!(offset >= self.next, "offset {offset} fetched again, next is {}", self.next);
        self.waiting.push_back((offset, what));
        self.next = offset.next();
    }

    /// Notes that there is nothing more below `next`.
    pub fn skip_to(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }

    /// Gives what is to run next and counts it as running, unless nothing waits or the span is reached.
    pub fn start(&mut self) -> Option<(Offset, T)> {
        if let Some(first) = self.returned.pop_front() {
            return Some(first);
        }
        if !self.can_start() {
            return None;
        }
        let (offset, what) = self.waiting.pop_front()?;
        self.running.set(offset);
        self.forget_known();
        Some((offset, what))
    }

    /// Takes back what was started and did not begin to run. It will be the next to start.
    ///
    /// # Panics
    /// If the offset does not run: our own bug.
    pub fn give_back(&mut self, offset: Offset, what: T) {
        assert!(self.is_started(offset), "offset {offset} given back but not running");
        self.returned.push_front((offset, what));
    }

    /// Counts an offset as finished.
    ///
    /// # Panics
    /// If it does not run, or was finished before: our own bug, and the one that must not be survived (promise 3).
    pub fn finish(&mut self, offset: Offset) {
        let before = self.committable();
        self.ended.clear(offset);
        let ran = self.running.clear(offset) || self.finish_adopted(offset);
        assert!(ran, "offset {offset} finished but not running");
        debug_assert!(self.committable() >= before, "the committable offset went back");
    }

    /// Forgets what was fetched and not started, and gives it.
    pub fn abandon_waiting(&mut self) -> Vec<T> {
        // What was never started keeps the committable offset down: fetching would begin there again.
        if let Some((first, _)) = self.waiting.front() {
            self.next = *first;
        }
        let held = self.returned.drain(..).chain(std::mem::take(&mut self.parked));
        let mut waited = Vec::with_capacity(self.waiting.len());
        for (offset, what) in held {
            self.abandoned.push(offset);
            waited.push(what);
        }
        waited.extend(self.waiting.drain(..).map(|(_, what)| what));
        waited
    }

    /// Forgets whatever lies at `at` and above: the log that it was read from does not hold it any more. Gives what
    /// waited, and how many of those that were forgotten had begun: they must not be [finished](Self::finish) any more.
    pub fn cut(&mut self, at: Offset) -> (Vec<T>, usize) {
        let first = self.waiting.partition_point(|(offset, _)| *offset < at);
        let mut waited: Vec<T> = self.waiting.drain(first..).map(|(_, what)| what).collect();
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = self.returned.drain(..).partition(|(offset, _)| *offset >= at);
        self.returned = kept;
        let parked = self.parked.split_off(&at);
        let abandoned = self.abandoned.len();
        self.abandoned.retain(|offset| *offset < at);
        let not_begun = gone.len() + parked.len() + abandoned - self.abandoned.len();
        waited.extend(gone.into_iter().chain(parked).map(|(_, what)| what));
        let cleared = self.running.clear_from(at) + self.adopted.split_off(&at).len();
        self.ended.clear_from(at);
        self.unread.split_off(&at);
        self.known.cut_from(at);
        self.next = self.next.min(at);
        (waited, cleared - not_begun)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::progress::Run;

    /// What the tracker should say, the slow and obvious way.
    #[derive(Default)]
    struct Oracle {
        next: i64,
        waiting: BTreeSet<i64>,
        running: BTreeSet<i64>,
        finished: BTreeMap<i64, u32>,
        /// Finished in an earlier life.
        known: BTreeSet<i64>,
    }

    impl Oracle {
        fn committable(&self) -> i64 {
            self.waiting.union(&self.running).next().map_or(self.next, |lowest| self.next.min(*lowest))
        }

        fn check_finished(&self, tracker: &Tracker<i64>) {
            let base = self.committable();
            let said = tracker.finished_from(Offset(base));
            let has = |offset: &i64| said.contains(Offset(*offset));
            assert!(self.finished.keys().chain(&self.known).filter(|offset| **offset >= base).all(has), "{said:?}");
            assert!(!self.waiting.union(&self.running).any(has), "{said:?}");
            let last = self.known.last().into_iter().chain(self.finished.keys()).max();
            let reach = last.map_or(self.next, |last| self.next.max(last + 1));
            assert!(said.first().is_none_or(|first| first.0 >= base) && said.end().is_none_or(|end| end.0 <= reach));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Fetch { gap: i64 },
        Skip { gap: i64 },
        Start,
        GiveBack(prop::sample::Index),
        Park(prop::sample::Index),
        Unpark(prop::sample::Index),
        Finish(prop::sample::Index),
        Cut { back: i64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let gap = prop_oneof![10 => Just(0i64), 3 => 1i64..200, 1 => Just(1_000_000_000i64)];
        let step = prop_oneof![
            4 => gap.clone().prop_map(|gap| Step::Fetch { gap }),
            1 => gap.prop_map(|gap| Step::Skip { gap }),
            4 => Just(Step::Start),
            1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            1 => any::<prop::sample::Index>().prop_map(Step::Park),
            1 => any::<prop::sample::Index>().prop_map(Step::Unpark),
            3 => any::<prop::sample::Index>().prop_map(Step::Finish),
            1 => (0i64..30).prop_map(|back| Step::Cut { back }),
        ];
        prop::collection::vec(step, 1..400)
    }

    fn nth(set: &BTreeSet<i64>, index: &prop::sample::Index) -> Option<i64> {
        (!set.is_empty()).then(|| *set.iter().nth(index.index(set.len())).expect("in range"))
    }

    /// What runs.
    fn busy(oracle: &Oracle, given_back: &BTreeSet<i64>, parked: &BTreeSet<i64>) -> BTreeSet<i64> {
        let held = |offset: &&i64| !given_back.contains(*offset) && !parked.contains(*offset);
        oracle.running.iter().filter(held).copied().collect()
    }

    proptest! {
        #[test]
        fn agrees_with_the_oracle(
            steps in steps(),
            span in 1usize..300,
            start in 0i64..1000,
            known in prop::collection::btree_set(0i64..200, 0..60),
            adopted in prop::collection::btree_set(0i64..200, 0..9),
        ) {
            let known: BTreeSet<_> = known.into_iter().map(|offset| start + offset).collect();
            let runs = known.iter().map(|offset| Run::new(Offset(*offset), Offset(*offset + 1)));
            let mut tracker = Tracker::new(Offset(start), span).with_finished(runs.collect());
            let adopted: BTreeSet<_> = adopted.into_iter().map(|offset| start + offset).filter(|o| !known.contains(o)).collect();
            adopted.iter().for_each(|offset| tracker.adopt(Offset(*offset)));
            let mut oracle = Oracle { next: start, known, running: adopted.clone(), ..Oracle::default() };
            let (mut given_back, mut parked) = (BTreeSet::new(), BTreeSet::new());
            for step in steps {
                let (before, cut) = (tracker.committable(), matches!(step, Step::Cut { .. }));
                match step {
                    Step::Cut { back } => {
                        let at = oracle.next - back;
                        let (waited, begun) = tracker.cut(Offset(at));
                        let waiting = oracle.waiting.iter().chain(&given_back).chain(&parked).copied().filter(|o| *o >= at);
                        let waiting: BTreeSet<_> = waiting.collect();
                        let held = given_back.union(&parked).copied().collect();
                        let runs = oracle.running.difference(&held).filter(|o| **o >= at).count();
                        prop_assert_eq!(waited.into_iter().collect::<BTreeSet<_>>(), waiting);
                        prop_assert_eq!(begun, runs);
                        for set in [&mut oracle.waiting, &mut oracle.running, &mut given_back, &mut parked] {
                            set.retain(|offset| *offset < at);
                        }
                        oracle.finished.retain(|offset, _| *offset < at);
                        oracle.known.retain(|offset| *offset < at);
                        oracle.next = oracle.next.min(at);
                    }
                    Step::Fetch { gap } => {
                        let offset = oracle.next + gap;
                        match tracker.pass(Offset(offset)) {
                            Some(Known::Finished) => prop_assert!(oracle.known.contains(&offset)),
                            Some(Known::InHand) => prop_assert!(adopted.contains(&offset)),
                            None => {
                                prop_assert!(!oracle.known.contains(&offset) && !oracle.running.contains(&offset));
                                tracker.fetched(Offset(offset), offset);
                                oracle.waiting.insert(offset);
                            }
                        }
                        oracle.next = offset + 1;
                    }
                    Step::Skip { gap } => {
                        oracle.next += gap;
                        tracker.skip_to(Offset(oracle.next));
                    }
                    Step::Start => {
                        let could = tracker.can_start();
                        let started = tracker.start();
                        prop_assert_eq!(could, started.is_some());
                        match started {
                            Some((offset, what)) => {
                                prop_assert_eq!(offset.0, what);
                                let fresh = oracle.waiting.remove(&what);
                                prop_assert!(fresh != given_back.remove(&what), "started what waits, once");
                                oracle.running.insert(what);
                                let span_now = what - oracle.running.first().expect("just put in");
                                prop_assert!(adopted.contains(&what) || (span_now as usize) < span);
                            }
                            None => {
                                let first = oracle.waiting.first();
                                let blocked = first.zip(oracle.running.first()).is_some_and(|(w, r)| w - r >= span as i64);
                                prop_assert!(given_back.is_empty() && (first.is_none() || blocked));
                            }
                        }
                    }
                    Step::Park(index) => {
                        let candidates = busy(&oracle, &given_back, &parked);
                        if let Some(offset) = nth(&candidates, &index) {
                            tracker.park(Offset(offset), offset);
                            parked.insert(offset);
                        }
                    }
                    Step::Unpark(index) => {
                        if let Some(offset) = nth(&parked, &index) {
                            prop_assert!(tracker.unpark(Offset(offset)));
                            parked.remove(&offset);
                            given_back.insert(offset);
                        }
                    }
                    Step::GiveBack(index) => {
                        let candidates = busy(&oracle, &given_back, &parked);
                        if let Some(offset) = nth(&candidates, &index) {
                            tracker.give_back(Offset(offset), offset);
                            given_back.insert(offset);
                        }
                    }
                    Step::Finish(index) => {
                        let candidates = busy(&oracle, &given_back, &parked);
                        if let Some(offset) = nth(&candidates, &index) {
                            tracker.finish(Offset(offset));
                            oracle.running.remove(&offset);
                            *oracle.finished.entry(offset).or_default() += 1;
                        }
                    }
                }
                prop_assert_eq!(tracker.committable().0, oracle.committable());
                prop_assert!(cut || tracker.committable() >= before, "never backwards");
                prop_assert_eq!(tracker.next().0, oracle.next);
                prop_assert_eq!(tracker.unfinished(), oracle.waiting.len() + oracle.running.len());
                prop_assert_eq!(tracker.waiting(), oracle.waiting.len() + given_back.len() + parked.len());
                prop_assert!(tracker.started().map(|o| o.0).eq(oracle.running.iter().copied()));
                prop_assert_eq!(tracker.begun(), busy(&oracle, &given_back, &parked).len());
                prop_assert!(tracker.running.words.len() <= span / 64 + 2, "the window stays within the span");
                oracle.check_finished(&tracker);
            }
            prop_assert!(oracle.finished.values().all(|times| *times == 1));
        }
    }

    fn started(count: i64) -> Tracker<()> {
        let mut tracker = Tracker::new(Offset(0), SPAN);
        for offset in 0..count {
            tracker.fetched(Offset(offset), ());
        }
        while tracker.start().is_some() {}
        tracker
    }

    #[test]
    fn committable_waits_for_the_lowest() {
        let mut tracker = started(1000);
        for offset in (1..1000).rev() {
            tracker.finish(Offset(offset));
            assert_eq!(tracker.committable(), Offset(0));
        }
        tracker.finish(Offset(0));
        assert_eq!(tracker.committable(), Offset(1000));
    }

    #[test]
    fn abandoned_records_hold_the_committable_offset_down() {
        let mut tracker = Tracker::new(Offset(5), SPAN);
        for offset in 5..9 {
            tracker.fetched(Offset(offset), ());
        }
        tracker.start();
        let (offset, what) = tracker.start().expect("it waits");
        tracker.give_back(offset, what);
        assert_eq!(tracker.abandon_waiting().len(), 3);
        assert_eq!(tracker.begun(), 1);
        tracker.finish(Offset(5));
        assert_eq!((tracker.committable(), tracker.begun()), (Offset(6), 0));
    }

    #[test]
    #[should_panic(expected = "finished but not running")]
    fn finishing_twice_is_a_bug() {
        let mut tracker = started(2);
        tracker.finish(Offset(1));
        tracker.finish(Offset(1));
    }
}
