//! A process: the machines, and what stands between its loops.

use super::{committing::Committing, sending::Sink, *};
use crate::{
    engine::share::Share,
    group::{
        Deal, Order,
        dealer::{Dealer, Find, Terms},
    },
    membership::{Membership, Settings},
    scheduler::{Rules, Scheduler},
    standing::State,
};

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Runs,
    /// Its engine is at its end, and it says that it leaves.
    Leaves,
    Gone,
}

/// What it cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Nothing,
    Coordinator,
    Everything,
}

/// A fetch loop.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) key: Key,
    pub(super) next: i64,
    pub(super) busy: bool,
}

pub(super) struct Process {
    pub(super) dealer: Dealer,
    pub(super) scheduler: Scheduler,
    pub(super) share: Share,
    pub(super) instance: Option<Arc<str>>,
    pub(super) stage: Stage,
    /// The standing, as the committer and the sink see it.
    pub(super) state: State,
    pub(super) deals: VecDeque<Deal>,
    pub(super) orders: VecDeque<Order>,
    /// The partitions of which it is being found out where they begin.
    pub(super) finding: BTreeMap<u64, Find>,
    /// It has asked what is known of topics.
    pub(super) asks: bool,
    pub(super) loops: BTreeMap<AssignmentId, Loop>,
    /// Records that take up room.
    pub(super) held: usize,
    pub(super) room: usize,
    pub(super) workers: usize,
    pub(super) busy: usize,
    pub(super) committing: Option<Committing>,
    pub(super) sink: Sink,
    /// Numbers whatever is waited for.
    pub(super) numbers: u64,
    pub(super) cut: Cut,
    /// What has come for it while it stands still.
    pub(super) still: Option<Vec<Incoming>>,
    /// It stands still as soon as it has sent something.
    pub(super) faints: bool,
    /// Its timers are late.
    pub(super) not_before: Instant,
    pub(super) draining: Option<Instant>,
    /// It stood still while it drained.
    pub(super) held_up: bool,
    /// The coordinator has forgotten it, and it does not know.
    pub(super) forgotten: bool,
    /// By the books: when the last heartbeat was sent that was acknowledged, and those that are under way.
    pub(super) acknowledged: Option<Instant>,
    pub(super) beats: BTreeMap<Asked, Instant>,
}

impl Process {
    pub(super) fn new(
        membership: Membership,
        settings: &Settings,
        (revoke_grace, eager_grace): (Duration, Duration),
        (rules, room): (Rules, usize),
        now: Instant,
    ) -> Self {
        let session_timeout = settings.session_timeout;
        let terms = Terms { group: "g".to_owned(), session_timeout, revoke_grace, eager_grace };
        Self {
            dealer: Dealer::new(membership, terms, now),
            workers: rules.workers,
            scheduler: Scheduler::new(rules, now),
            share: Share::default(),
            instance: settings.instance.clone(),
            stage: Stage::Runs,
            state: State { era: 0, identity: None, good_until: None },
            deals: VecDeque::new(),
            orders: VecDeque::new(),
            finding: BTreeMap::new(),
            asks: false,
            loops: BTreeMap::new(),
            held: 0,
            room,
            busy: 0,
            committing: None,
            sink: Sink::default(),
            numbers: 0,
            cut: Cut::Nothing,
            still: None,
            faints: false,
            not_before: now,
            draining: None,
            held_up: false,
            forgotten: false,
            acknowledged: None,
            beats: BTreeMap::new(),
        }
    }

    /// Whether anything of it is carried out just now.
    pub(super) fn runs(&self) -> bool {
        self.stage != Stage::Gone && self.still.is_none()
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// When its timers go off.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let steward = self.dealer.membership.poll_timeout();
        let engine = self.engine_timeout();
        let due = steward.into_iter().chain(engine).min().filter(|_| self.runs());
        due.map(|at| at.max(self.not_before))
    }

    pub(super) fn engine_timeout(&self) -> Option<Instant> {
        let due = self.scheduler.poll_timeout().into_iter().chain(self.scheduler.look_due()).min();
        due.filter(|_| self.stage == Stage::Runs)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stage, state, finding, held, busy, loops, deals, .. } = self;
        write!(
            f,
            "{stage:?} {state:?} {:?}, {finding:?}, {held} {busy} {loops:?} {deals:?}",
            self.dealer.membership.held()
        )
    }
}
