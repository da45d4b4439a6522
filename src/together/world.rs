//! The world: what happens when.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use super::{
    books::Books,
    cluster::{Cluster, Topic},
    *,
};
use crate::{
    membership::{
        Assignor, GroupProtocol, Membership, Settings,
        sim::{ClassicGroup, ConsumerGroup, Coordinator},
    },
    scheduler::Rules,
};

/// How long after all faults are over everything has to be worked off, beside the time that it takes to work.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) mood: Mood,
    pub(super) planted: Option<Planted>,
    pub(super) now: Instant,
    heals_at: Instant,
    healed: bool,
    /// All is worked off, and the processes are to stop.
    stopping: bool,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    numbers: u64,
    pub(super) cluster: Cluster,
    pub(super) processes: Vec<Process>,
    pub(super) books: Books,
    /// How long what runs may take at the end of a process.
    pub(super) grace: Duration,
    protocol: GroupProtocol,
    assignors: Vec<Assignor>,
    subscription: BTreeSet<Arc<str>>,
    /// What runs of what is revoked may take, and where the whole group waits for it.
    revoke_grace: (Duration, Duration),
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>) -> Self {
        use Assignor::{CooperativeSticky, Range, RoundRobin};
        let mut rng = fastrand::Rng::with_seed(seed);
        let mood = if rng.u8(0..3) == 0 { Mood::Calm } else { Mood::Bad };
        let topics: Vec<_> = (0..rng.usize(1..=2)).map(|place| Topic::new(place, rng.usize(1..=4))).collect();
        let kip_848 = rng.bool();
        let fixed = if kip_848 { GroupProtocol::Consumer } else { GroupProtocol::Classic };
        let protocol = if rng.bool() { GroupProtocol::Auto } else { fixed };
        let subscription = topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
        let mut cluster = Cluster {
            coordinator: Coordinator::Classic(ClassicGroup::new()),
            away: false,
            since_assigned: rng.bool(),
            topics,
            committed: BTreeMap::new(),
            said: BTreeMap::new(),
            plans: BTreeMap::new(),
        };
        if kip_848 {
            let group = ConsumerGroup::new(cluster.topics(), SESSION, (rng.bool(), false));
            cluster.coordinator = Coordinator::Consumer(group);
        }
        for key in cluster.keys().collect::<Vec<_>>() {
            let count = rng.usize(0..20);
            cluster.produce(key, count, &mut rng);
        }
        let now = Instant::now();
        let heals_at = now + Duration::from_millis(rng.u64(5_000..25_000));
        let mut world = Self {
            mood,
            planted,
            now,
            heals_at,
            healed: false,
            stopping: false,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbers: 0,
            cluster,
            processes: Vec::new(),
            books: Books::default(),
            grace: Duration::from_millis(rng.u64(0..4_000)),
            protocol,
            assignors: [
                vec![Range, CooperativeSticky],
                vec![CooperativeSticky],
                vec![CooperativeSticky],
                vec![RoundRobin],
            ][rng.usize(0..4)]
            .clone(),
            subscription,
            revoke_grace: (
                Duration::from_millis(rng.u64(0..5_000)),
                Duration::from_millis([0, rng.u64(0..2_000)][rng.usize(0..2)]),
            ),
            rng,
        };
        world.plan(heals_at.duration_since(now), Event::Heals);
        for _ in 0..world.rng.u32(1..4) {
            let wait = world.millis(0..500);
            world.plan(wait, Event::Befalls(Fate::Starts));
        }
        for _ in 0..world.rng.u32(2..10) {
            let fates: &[Fate] = if mood == Mood::Bad { &Fate::BAD } else { &Fate::CALM };
            let fate = fates[world.rng.usize(0..fates.len())];
            let wait = world.millis(0..u64::try_from(heals_at.duration_since(now).as_millis()).expect("short"));
            world.plan(wait, Event::Befalls(fate));
        }
        world
    }

    pub(super) fn plan(&mut self, wait: Duration, event: Event) {
        self.queue.push(Reverse((self.now + wait, self.numbers)));
        self.events.insert(self.numbers, event);
        self.numbers += 1;
    }

    /// Something comes for a process, within so many milliseconds.
    pub(super) fn plan_for(&mut self, at: usize, millis: Range<u64>, incoming: Incoming) {
        let wait = self.millis(millis);
        self.plan(wait, Event::To(at, incoming));
    }

    pub(super) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.rng.u64(range.start * 1000..range.end * 1000))
    }

    pub(super) fn is_bad(&self) -> bool {
        self.mood == Mood::Bad && !self.healed
    }

    pub(super) fn latency(&mut self) -> Duration {
        let slow = self.is_bad() && self.rng.u8(0..30) == 0;
        self.millis(if slow { 100..1000 } else { 1..20 })
    }

    pub(super) fn loses(&mut self) -> bool {
        self.is_bad() && self.rng.u8(0..15) == 0
    }

    /// A process that was to stand still once it has sent something does so.
    pub(super) fn faint(&mut self, at: usize) {
        if std::mem::take(&mut self.processes[at].faints) {
            self.plan(Duration::ZERO, Event::StandsStill(at));
        }
    }

    /// Lives until all is worked off, and all processes have stopped.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        let work: Duration = self.cluster.plans.values().map(|plan| plan.time).sum();
        loop {
            if self.healed && !self.stopping && self.cluster.worked_off() {
                self.stopping = true;
                for at in 0..self.processes.len() {
                    self.plan_for(at, 0..2_000, Incoming::Drain);
                }
            }
            if self.stopping && self.processes.iter().all(|process| process.stage == Stage::Gone) {
                promise!(self.cluster.worked_off(), "2: stopped, and not worked off");
                return self.check_all();
            }
            let coordinator = self.cluster.coordinator.timeout().filter(|_| !self.cluster.away);
            let timers = self.processes.iter().filter_map(Process::timeout).min();
            let event = self.queue.peek().map(|Reverse((at, _))| *at);
            let next = coordinator.into_iter().chain(timers).chain(event).min();
            let Some(next) = next else { return Err("2: the world stands still".to_owned()) };
            self.now = self.now.max(next);
            if self.now > self.heals_at + PATIENCE + 2 * work {
                let left = self.cluster.keys().filter(|key| !self.cluster.is_worked_off(*key)).collect::<Vec<_>>();
                let living = self.processes.iter().enumerate().filter(|(_, process)| process.stage != Stage::Gone);
                let living: Vec<_> = living.map(|(at, process)| (at, process.to_string())).collect();
                return Err(format!("2: not worked off: {left:?}, by {living:?}"));
            }
            if coordinator.is_some_and(|at| at <= self.now) {
                self.cluster.coordinator.tick(self.now);
                self.deliver();
            }
            if event.is_some_and(|at| at <= self.now) {
                let Reverse((_, number)) = self.queue.pop().expect("peeked");
                let event = self.events.remove(&number).expect("planned");
                self.happens(event)?;
            }
            for at in 0..self.processes.len() {
                self.timers(at)?;
            }
        }
    }

    fn timers(&mut self, at: usize) -> Result<(), Violation> {
        let process = &self.processes[at];
        if process.timeout().is_none_or(|due| due > self.now) {
            return Ok(());
        }
        if process.dealer.membership.poll_timeout().is_some_and(|due| due <= self.now) {
            self.wake_steward(at, None)?;
        }
        if self.processes[at].engine_timeout().is_some_and(|due| due <= self.now) {
            self.wake_engine(at, None)?;
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Befalls(fate) => return self.befalls(fate),
            Event::Heals => self.heals(),
            Event::To(at, incoming) => return self.comes(at, incoming),
            Event::Arrives((at, ticket), _) if self.cluster.away => {
                let refusal = Refusal::Passing("loading".into());
                self.plan_for(at, 1..20, Incoming::Answered(ticket, Err(refusal)));
            }
            Event::Arrives(reply, request) => {
                self.cluster.coordinator.handle(request, reply, self.now);
                self.deliver();
            }
            Event::CommitArrives(sent) => return self.commit_arrives(sent),
            Event::LookArrives(at, number, epoch) => self.look_arrives(at, number, &epoch),
            Event::Written(all) => self.books.answer(all),
            Event::StandsStill(at) => self.stands_still(at),
            Event::GoesOn(at) => self.goes_on(at),
            Event::Reconnects(at) => self.reconnects(at),
            Event::Restarts(instance) if !self.stopping => self.starts(Some(instance)),
            Event::Restarts(_) => {}
            Event::Loaded => {
                self.cluster.away = false;
                self.moves();
            }
            Event::Gone(at) => {
                if self.processes[at].stage == Stage::Leaves {
                    self.processes[at].stage = Stage::Gone;
                    self.restarts(at);
                }
            }
        }
        Ok(())
    }

    fn comes(&mut self, at: usize, incoming: Incoming) -> Result<(), Violation> {
        let process = &mut self.processes[at];
        if let Some(waiting) = &mut process.still {
            waiting.push(incoming);
            return Ok(());
        }
        if process.stage == Stage::Gone {
            return Ok(());
        }
        match incoming {
            Incoming::Answered(..)
            | Incoming::Found(..)
            | Incoming::FindAgain(_)
            | Incoming::Topics
            | Incoming::Orders => self.wake_steward(at, Some(incoming)),
            Incoming::Seen(_) | Incoming::Committed(..) | Incoming::Unheard(_) => self.wake_committer(at, &incoming),
            Incoming::Attempt | Incoming::Acknowledged(..) => self.wake_sink(at, incoming),
            _ => self.wake_engine(at, Some(incoming)),
        }
    }

    fn starts(&mut self, instance: Option<Arc<str>>) {
        let settings = Settings {
            protocol: self.protocol,
            assignors: self.assignors.clone(),
            instance,
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            heartbeat_interval: BEAT,
            ..Settings::new(format!("p{:02}", self.processes.len()).into())
        };
        let mut membership = Membership::new(settings.clone(), self.subscription.clone(), self.now);
        let (workers, room) = (self.rng.usize(1..=6), self.rng.usize(1..30));
        let interval = Duration::from_millis(self.rng.u64(0..1500));
        let span = if self.rng.bool() { 1 << 20 } else { self.rng.usize(2..12) };
        let rules = Rules {
            all_partitions: false,
            span,
            adoption: Some(settings.session_timeout),
            ..Rules::of(workers, interval, self.grace)
        };
        if let Some(Planted::Membership(defect)) = self.planted {
            membership.break_promise(Some(defect));
        }
        let mut process = Process::new(membership, &settings, self.revoke_grace, (rules, workers + room), self.now);
        if let Some(Planted::Scheduler(defect)) = self.planted {
            process.scheduler.defect = Some(defect);
        }
        self.processes.push(process);
        let at = self.processes.len() - 1;
        self.plan_for(at, 0..50, Incoming::Topics);
    }

    fn befalls(&mut self, fate: Fate) -> Result<(), Violation> {
        let running: Vec<_> = (0..self.processes.len()).filter(|at| self.processes[*at].runs()).collect();
        let one = (!running.is_empty()).then(|| running[self.rng.usize(0..running.len())]);
        match (fate, one) {
            (Fate::Starts, _) if running.len() < 4 => {
                let instance = (self.rng.u8(0..4) == 0).then(|| format!("i{}", self.processes.len()).into());
                self.starts(instance);
            }
            (Fate::Stops, Some(at)) => return self.comes(at, Incoming::Drain),
            (Fate::Produces, _) => {
                let keys: Vec<_> = self.cluster.keys().collect();
                for key in keys {
                    let count = self.rng.usize(0..6);
                    self.cluster.produce(key, count, &mut self.rng);
                }
                (0..self.processes.len()).for_each(|at| self.fetch(at));
            }
            (Fate::Grows, _) => {
                let place = self.rng.usize(0..self.cluster.topics.len());
                self.cluster.topics[place].logs.push(cluster::Log::default());
                let key = (place, i32::try_from(self.cluster.topics[place].logs.len()).expect("few") - 1);
                let count = self.rng.usize(0..10);
                self.cluster.produce(key, count, &mut self.rng);
                let topics = self.cluster.topics();
                self.cluster.coordinator.topics_change(&topics);
                (0..self.processes.len()).for_each(|at| self.plan_for(at, 0..2_000, Incoming::Topics));
            }
            (Fate::Dies, Some(at)) => {
                self.end_all(at);
                self.processes[at].stage = Stage::Gone;
                self.restarts(at);
            }
            (Fate::StandsStill, Some(at)) => {
                self.processes[at].faints = self.rng.bool();
                if !self.processes[at].faints {
                    self.stands_still(at);
                }
            }
            (Fate::CutFromGroup | Fate::CutOff, Some(at)) => {
                let only = matches!(fate, Fate::CutFromGroup);
                self.processes[at].cut = if only { Cut::Coordinator } else { Cut::Everything };
                let wait = self.millis(100..15_000);
                self.plan(wait, Event::Reconnects(at));
            }
            (Fate::Moves, _) if !self.cluster.away => {
                self.moves();
                self.cluster.away = true;
                let wait = self.millis(50..3000);
                self.plan(wait, Event::Loaded);
            }
            (Fate::Forgets, Some(at)) => {
                if let Some(epoch) = self.processes[at].dealer.membership.epoch() {
                    let member = Arc::clone(&epoch.member);
                    self.processes[at].forgotten = true;
                    self.cluster.coordinator.forgets(&member, self.now);
                    self.deliver();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The coordinator that takes over knows whom the log names, forgotten or not.
    fn moves(&mut self) {
        self.cluster.coordinator.moves(self.now);
        for process in &mut self.processes {
            let epoch = process.dealer.membership.epoch();
            process.forgotten &= epoch.and_then(|epoch| self.cluster.coordinator.takes_commit(epoch)) != Some(true);
        }
        self.deliver();
    }

    fn stands_still(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if process.runs() {
            process.still = Some(Vec::new());
            process.held_up |= process.draining.is_some();
            let wait = self.millis(100..15_000);
            self.plan(wait, Event::GoesOn(at));
        }
    }

    /// All that waits for it comes at once, in any order.
    fn goes_on(&mut self, at: usize) {
        let Some(waiting) = self.processes[at].still.take() else { return };
        for incoming in waiting {
            self.plan_for(at, 0..3, incoming);
        }
        self.processes[at].not_before = self.now + self.millis(0..3);
    }

    fn reconnects(&mut self, at: usize) {
        self.processes[at].cut = Cut::Nothing;
        self.fetch(at);
    }

    /// A static member that is gone is started again, mostly.
    pub(super) fn restarts(&mut self, at: usize) {
        let Some(instance) = self.processes[at].instance.clone() else { return };
        if !self.stopping && self.rng.u8(0..4) > 0 {
            let wait = self.millis(100..10_000);
            self.plan(wait, Event::Restarts(instance));
        }
    }

    fn heals(&mut self) {
        self.healed = true;
        for at in 0..self.processes.len() {
            self.processes[at].faints = false;
            self.goes_on(at);
            self.reconnects(at);
        }
        if !self.processes.iter().any(|process| process.stage == Stage::Runs && process.draining.is_none()) {
            self.starts(None);
        }
    }
}
