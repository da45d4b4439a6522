//! One life of the simulated process, and what its messages will do.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{super::*, At, Key, failures::Outage, group::Comes, log::Befalls, orphans::Orphan, progress::Told};
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
    /// How often it fails before that.
    pub(super) fails: u32,
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
    /// What was found out, and what became of the commits, each beside the assignment that it is for.
    Looked {
        looked: Vec<Looked>,
        offsets: BTreeMap<Key, (i64, u64)>,
        told: BTreeMap<Key, Told>,
        acknowledged: bool,
        kept: bool,
    },
    Comes(Comes),
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
    pub(super) key: Key,
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
    pub(super) seen: BTreeMap<Key, i64>,
    /// In which leader epoch each of them was then.
    pub(super) epochs: BTreeMap<Key, i32>,
    pub(super) held: usize,
    /// The same, by the life that it was fetched in.
    pub(super) held_by: BTreeMap<AssignmentId, usize>,
    pub(super) running: BTreeSet<(AssignmentId, At)>,
    /// What was given to a worker that runs something else.
    pub(super) loaded: BTreeSet<(AssignmentId, At)>,
    /// What ran when its partition went.
    pub(super) orphans: BTreeMap<(AssignmentId, At), Orphan>,
    /// Who has adopted what.
    pub(super) heirs: BTreeMap<(AssignmentId, At), AssignmentId>,
    pub(super) begun: BTreeSet<(AssignmentId, At)>,
    /// How often each has failed.
    pub(super) failed: BTreeMap<At, u32>,
    /// What has failed and may be tried again, and when it failed.
    pub(super) may_retry: BTreeMap<(AssignmentId, At), Instant>,
    pub(super) outage: Option<Outage>,
    pub(super) finished: BTreeSet<At>,
    /// What the commits said at the start.
    pub(super) known: BTreeMap<Key, Finished>,
    /// What began, of a topic that is known to be gone.
    pub(super) dead: BTreeSet<At>,
    /// Which record lies behind an offset, in a life of a partition.
    pub(super) started: BTreeMap<(AssignmentId, i64), At>,
    pub(super) busy: usize,
    /// The partitions that were committed in this life.
    pub(super) committed: BTreeSet<Key>,
    /// The partitions whose next commit may go back.
    pub(super) may_go_back: BTreeSet<Key>,
    /// Those that began below their commit.
    pub(super) began_below: BTreeSet<Key>,
    pub(super) draining: Option<Instant>,
    /// Since when something waits to be committed.
    pub(super) dirty_since: Option<Instant>,
    pub(super) fault_free: bool,
    /// A commit is on its way.
    pub(super) committing: bool,
    /// The topics of which a leader changed.
    pub(super) moved: BTreeSet<usize>,
    /// The topics that were not left as they were.
    pub(super) disturbed: BTreeSet<usize>,
    /// Nobody has looked at them since.
    pub(super) unseen: bool,
    /// The partitions that are ours, each with the number of its assignment.
    pub(super) ours: BTreeMap<Key, u64>,
    pub(super) assigned: u64,
    /// Those of them that are to go, and until when what runs is waited for.
    pub(super) leaving: BTreeMap<Key, Instant>,
    /// Something befalls the topics.
    pub(super) losses: bool,
    /// Which partition each life is of.
    pub(super) lives: BTreeMap<AssignmentId, Key>,
    /// Lives of partitions that are not ours any more.
    pub(super) parted: BTreeSet<AssignmentId>,
    /// How often something may be lost while it is being committed.
    pub(super) losses_left: u32,
    /// The partitions that went before all that ran of them was done.
    pub(super) torn: BTreeSet<Key>,
}

impl Plan {
    pub(super) fn new(rng: &mut fastrand::Rng, short: bool, calm: bool) -> Self {
        let micros = match rng.u8(0..20) {
            0 => rng.u64(1..2_000_000),
            1..5 if !short => rng.u64(1000..100_000),
            _ => rng.u64(0..60),
        };
        let verdict = match rng.u8(0..20) {
            0 if rng.bool() => Verdict::Failed(Failure::permanent("no")),
            0 => Verdict::Failed(Failure::new("no")),
            1 => Verdict::Malformed(Failure::new("not JSON")),
            2 => Verdict::Succeeded(Answer::None),
            _ => Verdict::Succeeded(Answer::value("a")),
        };
        let fails = if rng.u8(0..10) == 0 { rng.u32(1..4) } else { 0 };
        Self { time: Duration::from_micros(micros), verdict, fails, hangs_once: !calm && rng.u16(0..500) == 0 }
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
            epochs: BTreeMap::new(),
            held: 0,
            held_by: BTreeMap::new(),
            running: BTreeSet::new(),
            loaded: BTreeSet::new(),
            orphans: BTreeMap::new(),
            heirs: BTreeMap::new(),
            begun: BTreeSet::new(),
            failed: BTreeMap::new(),
            may_retry: BTreeMap::new(),
            outage: None,
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
            moved: BTreeSet::new(),
            disturbed: BTreeSet::new(),
            unseen: false,
            ours: BTreeMap::new(),
            assigned: 0,
            leaving: BTreeMap::new(),
            losses: false,
            lives: BTreeMap::new(),
            parted: BTreeSet::new(),
            losses_left: 3,
            torn: BTreeSet::new(),
        }
    }

    /// Whether the log of a topic is all that it was at the start.
    pub(super) fn is_odd(&self, topic: usize) -> bool {
        self.disturbed.contains(&topic) || self.moved.contains(&topic)
    }

    /// Notes how far a look has seen what was read.
    pub(super) fn see(&mut self, topic: usize, finding: &Finding) {
        let (partition, next) = match finding {
            Finding::Holds { partition, verified, .. } | Finding::Reread { partition, verified, .. } => {
                (*partition, verified.next)
            }
            Finding::Truncated { partition, at, .. } => (*partition, at.unwrap_or_default()),
            Finding::Recreated { .. } => return self.seen.retain(|key, _| key.0 != topic),
            Finding::Deleted { .. } | Finding::Added { .. } | Finding::Missing => return,
        };
        self.seen.insert((topic, partition), next.0);
    }

    /// Whether a commit said at the start that this is finished, and nothing has befallen the log since.
    pub(super) fn knows(&self, key: Key, offset: Offset) -> bool {
        self.known.get(&key).is_some_and(|known| known.contains(offset))
    }

    pub(super) fn plan(&mut self, wait: Duration, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + wait, self.number)));
        self.happenings.insert(self.number, happening);
    }
}
