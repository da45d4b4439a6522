//! One life of the simulated process, and what its messages will do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{super::*, At};
use crate::{
    fate::{Kind, Verdict},
    task::Answer,
};

/// What a message will do when it is run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) time: Duration,
    pub(super) verdict: Verdict,
    /// It never ends, the first time.
    pub(super) hangs_once: bool,
}

#[derive(Debug)]
pub(super) enum Happening {
    Fetched { partition: i32, upto: usize },
    News { done: Vec<Record>, todo: Vec<Record>, ended: bool },
    Written(Written, At, Kind),
    Committed { offsets: BTreeMap<i32, i64>, acknowledged: bool, kept: bool },
    Drain,
    Crash,
}

/// How a life of the process came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Death {
    Crash,
    Clean,
    Forced,
}

/// One life of the process.
pub(super) struct Life {
    pub(super) scheduler: Scheduler,
    pub(super) now: Instant,
    pub(super) queue: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(super) happenings: BTreeMap<u64, Happening>,
    pub(super) number: u64,
    /// By partition: how much of its log was handed over, where reading goes on, and whether a fetch is under way.
    pub(super) read: BTreeMap<i32, (usize, i64, bool)>,
    pub(super) held: usize,
    pub(super) running: BTreeSet<At>,
    pub(super) begun: BTreeSet<At>,
    pub(super) finished: BTreeSet<At>,
    pub(super) busy: usize,
    pub(super) given_back: bool,
    /// The partitions that were committed in this life.
    pub(super) committed: BTreeSet<i32>,
    pub(super) draining: Option<Instant>,
    /// Since when something waits to be committed.
    pub(super) dirty_since: Option<Instant>,
    pub(super) fault_free: bool,
}

impl Plan {
    pub(super) fn new(rng: &mut fastrand::Rng, short: bool, calm: bool) -> Self {
        let micros = match rng.u8(0..20) {
            0 => rng.u64(1..2_000_000),
            1..5 if !short => rng.u64(1000..100_000),
            _ => rng.u64(0..60),
        };
        let verdict = match rng.u8(0..20) {
            0 => Verdict::Failed(Failure::new("no")),
            1 => Verdict::Malformed(Failure::new("not JSON")),
            2 => Verdict::Succeeded(Answer::None),
            _ => Verdict::Succeeded(Answer::value("a")),
        };
        Self { time: Duration::from_micros(micros), verdict, hangs_once: !calm && rng.u16(0..500) == 0 }
    }
}

impl Life {
    pub(super) fn plan(&mut self, wait: Duration, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + wait, self.number)));
        self.happenings.insert(self.number, happening);
    }
}
