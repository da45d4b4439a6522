//! The alarm of a topic: rings while something cannot be written to it, and says what that is.
//!
//! ```text
//!   write loops ──waits──▶ what waits, by partition ──now and then──▶ the log, and who listens
//!               ──done───▶                          ──at the end────▶ the summary
//! ```
//!
//! All partitions of a topic ring together: a cluster that is gone is one piece of news, however many partitions wait.
//!
//! Deliberately not here: whether to try again, and when. That is the loop's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::event::Event;

/// What passes within this time is not worth a word.
const QUIET: Duration = Duration::from_millis(500);
/// How often it rings.
const RING_EVERY: Duration = Duration::from_secs(30);

/// Answers or dead letters that cannot be written, for now: their messages stay unfinished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unwritten {
    /// Where they should go.
    pub topic: String,
    /// Which partition of it.
    pub partition: i32,
    /// How many are in the batch that is tried. There may be more behind it.
    pub records: usize,
    /// For how long it has been tried, in milliseconds.
    pub waited_ms: u64,
    /// What is in the way, by the latest attempt.
    pub reason: String,
}

/// See the [module's documentation](self). Shared by all loops of a topic.
#[derive(Debug)]
pub(super) struct Alarm {
    topic: Arc<str>,
    listeners: broadcast::Sender<Event>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<i32, Waiting>,
    /// Since when there was always something that waited.
    since: Option<Instant>,
    rang: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    records: usize,
    since: Instant,
    reason: String,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
struct Ring {
    partitions: usize,
    records: usize,
    waited: Duration,
    reason: String,
}

impl Alarm {
    pub(super) fn new(topic: &Arc<str>, listeners: broadcast::Sender<Event>) -> Self {
        Self { topic: Arc::clone(topic), listeners, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch of `partition` has been waiting since then, for this reason. Rings if it is time to.
    pub(super) fn waits(&self, partition: i32, records: usize, since: Instant, reason: &str) {
        let ring = self.state().waits(partition, Waiting { records, since, reason: reason.to_owned() }, Instant::now());
        if let Some(Ring { partitions, records, waited, reason }) = ring {
            tracing::error!(
                topic = &*self.topic,
                partitions,
                records,
                ?waited,
                error = &*reason,
                "cannot write; these messages stay unfinished, trying again"
            );
            self.tell(Event::CannotWrite { topic: Arc::clone(&self.topic), records, waited, reason });
        }
    }

    /// A batch of `partition` was written, or will never be.
    pub(super) fn done(&self, partition: i32) {
        if let Some(failed_for) = self.state().done(partition, Instant::now()) {
            tracing::info!(topic = &*self.topic, ?failed_for, "writing again");
            self.tell(Event::WritingAgain { topic: Arc::clone(&self.topic), after: failed_for });
        }
    }

    fn tell(&self, event: Event) {
        // Where nobody listens, it is in the log.
        let _ = self.listeners.send(event);
    }

    /// What waits now.
    pub(super) fn unwritten(&self) -> Vec<Unwritten> {
        let now = Instant::now();
        let waiting = |(partition, waiting): (&i32, &Waiting)| Unwritten {
            topic: self.topic.to_string(),
            partition: *partition,
            records: waiting.records,
            waited_ms: u64::try_from(now.duration_since(waiting.since).as_millis()).unwrap_or(u64::MAX),
            reason: waiting.reason.clone(),
        };
        self.state().waiting.iter().map(waiting).collect()
    }
}

impl State {
    fn waits(&mut self, partition: i32, waiting: Waiting, now: Instant) -> Option<Ring> {
        let reason = waiting.reason.clone();
        let since = *self.since.get_or_insert(waiting.since);
        self.waiting.insert(partition, waiting);
        let quiet = now.duration_since(since) < QUIET;
        if quiet || self.rang.is_some_and(|at| now.duration_since(at) < RING_EVERY) {
            return None;
        }
        self.rang = Some(now);
        let oldest = self.waiting.values().map(|waiting| waiting.since).min().unwrap_or(now);
        Some(Ring {
            partitions: self.waiting.len(),
            records: self.waiting.values().map(|waiting| waiting.records).sum(),
            waited: to_ms(now.duration_since(oldest)),
            reason,
        })
    }

    /// Gives for how long something waited, once nothing does any more and if that was told.
    fn done(&mut self, partition: i32, now: Instant) -> Option<Duration> {
        self.waiting.remove(&partition)?;
        if !self.waiting.is_empty() {
            return None;
        }
        let since = self.since.take()?;
        self.rang.filter(|rang| *rang >= since).map(|_| to_ms(now.duration_since(since)))
    }
}

/// Nobody wants to read nanoseconds.
fn to_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn because(reason: &str, records: usize, since: Instant) -> Waiting {
        Waiting { records, since, reason: reason.to_owned() }
    }

    #[test]
    fn it_rings_soon_and_then_now_and_then_for_all_partitions_together() {
        let begun = Instant::now();
        let mut state = State::default();
        assert_eq!(state.waits(0, because("a", 2, begun), begun), None, "it may pass at once");
        let ring = state.waits(1, because("b", 3, begun + s(1)), begun + s(1)).expect("it has not passed");
        assert_eq!(ring, Ring { partitions: 2, records: 5, waited: s(1), reason: "b".into() });
        let rings = (2..=90).filter(|n| state.waits((n % 2) as i32, because("c", 1, begun), begun + s(*n)).is_some());
        assert_eq!(rings.collect::<Vec<_>>(), [31, 61]);
    }

    #[test]
    fn what_hangs_for_long_is_told_when_it_is_first_heard_of() {
        let begun = Instant::now();
        let ring = State::default().waits(0, because("no answer", 1, begun), begun + s(5)).expect("it has taken long");
        assert_eq!(ring.waited, s(5));
    }

    #[test]
    fn its_end_is_told_once_if_it_was_told_of_at_all() {
        let begun = Instant::now();
        let mut state = State::default();
        state.waits(0, because("a", 1, begun), begun);
        assert_eq!(state.done(0, begun), None, "nobody has heard of it");
        state.waits(0, because("a", 1, begun), begun);
        state.waits(1, because("a", 1, begun), begun + s(1)).expect("time to ring");
        assert_eq!(state.done(0, begun + s(2)), None, "partition 1 still waits");
        assert_eq!(state.done(1, begun + s(3)), Some(s(3)));
        assert_eq!(state.done(1, begun + s(4)), None);
    }

    #[test]
    fn what_comes_and_goes_does_not_fill_the_log() {
        let begun = Instant::now();
        let mut state = State::default();
        let mut said = 0;
        for n in 0..60 {
            let now = begun + s(n);
            state.waits(0, because("a", 1, now), now);
            said += usize::from(state.waits(0, because("a", 1, now), now + QUIET).is_some());
            said += usize::from(state.done(0, now + QUIET).is_some());
        }
        assert_eq!(said, 4, "twice that it rang and twice that it ended");
    }
}
