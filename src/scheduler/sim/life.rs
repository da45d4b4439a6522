//! One life of the simulated process, and what its messages will do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{super::*, At, log::Befalls, progress::Told};
use crate::{
    fate::{Kind, Verdict},
    progress::Finished,
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
    Fetched {
        id: AssignmentId,
        records: Vec<Record>,
        next: i64,
        epoch: LeaderEpoch,
        latest: i64,
    },
    OutOfRange {
        id: AssignmentId,
    },
    News {
        id: AssignmentId,
        done: Vec<Record>,
        todo: Vec<Record>,
        ended: bool,
    },
    Written(Written, At, Kind),
    /// Something was found out, so that nothing was committed.
    Looked(Vec<Finding>),
    Committed {
        offsets: BTreeMap<i32, i64>,
        told: BTreeMap<i32, Told>,
        findings: Vec<Finding>,
        acknowledged: bool,
        kept: bool,
    },
    Befalls(Befalls),
    Drain,
    Crash,
}

/// How a life of the process came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Death {
    Crash,
    Clean,
    Forced,
    /// Data was gone, and the run was to stop.
    Stopped,
}

/// A fetch loop.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) partition: i32,
    pub(super) next: i64,
    pub(super) end: Option<i64>,
    /// A fetch is under way, or it has ended.
    pub(super) busy: bool,
}

/// One life of the process.
pub(super) struct Life {
    pub(super) scheduler: Scheduler,
    pub(super) now: Instant,
    pub(super) queue: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(super) happenings: BTreeMap<u64, Happening>,
    pub(super) number: u64,
    pub(super) loops: BTreeMap<AssignmentId, Loop>,
    /// What was handed over.
    pub(super) fetched: BTreeSet<(AssignmentId, At)>,
    /// How far each partition was read at the last look.
    pub(super) seen: BTreeMap<i32, i64>,
    pub(super) held: usize,
    pub(super) running: BTreeSet<(AssignmentId, At)>,
    pub(super) begun: BTreeSet<(AssignmentId, At)>,
    pub(super) finished: BTreeSet<At>,
    /// What the commits said at the start.
    pub(super) known: BTreeMap<i32, Finished>,
    /// What began, of a topic that is known to be gone.
    pub(super) dead: BTreeSet<At>,
    /// Which record lies behind an offset, in a life of a partition.
    pub(super) started: BTreeMap<(AssignmentId, i64), At>,
    pub(super) busy: usize,
    /// The partitions that were committed in this life.
    pub(super) committed: BTreeSet<i32>,
    /// The partitions whose next commit may go back.
    pub(super) may_go_back: BTreeSet<i32>,
    /// Those that began below their commit.
    pub(super) began_below: BTreeSet<i32>,
    pub(super) draining: Option<Instant>,
    /// Since when something waits to be committed.
    pub(super) dirty_since: Option<Instant>,
    pub(super) fault_free: bool,
    /// A commit is on its way.
    pub(super) committing: bool,
    /// How often a leader changed.
    pub(super) moved: u32,
    /// The topic was not left as it was.
    pub(super) disturbed: bool,
    /// Nobody has looked at it since.
    pub(super) unseen: bool,
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
    pub(super) fn new(scheduler: Scheduler, now: Instant, fault_free: bool) -> Self {
        Self {
            scheduler,
            now,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            number: 0,
            loops: BTreeMap::new(),
            fetched: BTreeSet::new(),
            seen: BTreeMap::new(),
            held: 0,
            running: BTreeSet::new(),
            begun: BTreeSet::new(),
            finished: BTreeSet::new(),
            known: BTreeMap::new(),
            dead: BTreeSet::new(),
            started: BTreeMap::new(),
            busy: 0,
            committed: BTreeSet::new(),
            may_go_back: BTreeSet::new(),
            began_below: BTreeSet::new(),
            draining: None,
            dirty_since: None,
            fault_free,
            committing: false,
            moved: 0,
            disturbed: false,
            unseen: false,
        }
    }

    /// Whether a commit said at the start that this is finished, and nothing has befallen the log since.
    pub(super) fn knows(&self, partition: i32, offset: Offset) -> bool {
        self.known.get(&partition).is_some_and(|known| known.contains(offset))
    }

    pub(super) fn plan(&mut self, wait: Duration, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + wait, self.number)));
        self.happenings.insert(self.number, happening);
    }
}
