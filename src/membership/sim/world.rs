//! The world: what happens when, and what has to be true of it.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{super::holdings, *};
use crate::record::TopicId;

/// How long a request may take, if it is not JoinGroup.
const DEADLINE: Duration = Duration::from_millis(1500);
/// How long after all faults are over everything has to be settled.
const PATIENCE: Duration = Duration::from_secs(60);
/// A commit that is refused for so long will never be taken.
const COMMITTING: Duration = Duration::from_secs(3);

pub(super) struct World {
    rng: fastrand::Rng,
    mood: Mood,
    now: Instant,
    /// When all faults are over.
    heals_at: Instant,
    healed: bool,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    numbers: u64,
    coordinator: Coordinator,
    /// It is on the move.
    away: bool,
    protocol: GroupProtocol,
    /// What lists of assignors processes are started with.
    lists: Vec<Vec<Assignor>>,
    processes: Vec<Process>,
    topics: Topics,
    subscription: BTreeSet<Arc<str>>,
    defect: Option<Defect>,
    /// A static member has come back.
    any_is_back: bool,
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> Self {
        use Assignor::{CooperativeSticky, Range, RoundRobin};
        let mut rng = fastrand::Rng::with_seed(seed);
        let mood = [Mood::Calm, Mood::Lossy, Mood::Bad, Mood::Bad][rng.usize(0..4)];
        let mut topics = Topics::new();
        for (number, name) in [(1, "t"), (2, "u")] {
            topics.insert(name.into(), (TopicId(uuid::Uuid::from_u128(number)), rng.i32(1..=6)));
        }
        let kip_848 = rng.u8(0..3) == 0;
        let coordinator = if kip_848 {
            Coordinator::Consumer(ConsumerGroup::new(topics.clone(), SESSION, (rng.bool(), mood == Mood::Lossy)))
        } else {
            Coordinator::Classic(ClassicGroup::new())
        };
        let lists = match rng.u8(0..4) {
            0 => vec![vec![Range, CooperativeSticky]],
            1 => vec![vec![CooperativeSticky]],
            2 => vec![vec![Range, CooperativeSticky], vec![CooperativeSticky]],
            _ => vec![vec![RoundRobin, Range]],
        };
        let fixed = if kip_848 { GroupProtocol::Consumer } else { GroupProtocol::Classic };
        let protocol = if rng.bool() { GroupProtocol::Auto } else { fixed };
        let now = Instant::now();
        let heals_at = now + Duration::from_millis(rng.u64(5_000..30_000));
        let subscription = if rng.bool() { ["t".into()].into() } else { topics.keys().cloned().collect() };
        let mut world = Self {
            rng,
            mood,
            now,
            heals_at,
            healed: false,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            numbers: 0,
            coordinator,
            away: false,
            protocol,
            lists,
            processes: Vec::new(),
            topics,
            subscription,
            defect,
            any_is_back: false,
        };
        world.plan(heals_at.duration_since(now), Event::Heals);
        for _ in 0..world.rng.u32(1..4) {
            let wait = world.millis(0..500);
            world.plan(wait, Event::Befalls(Fate::Starts));
        }
        for _ in 0..world.rng.u32(1..8) {
            let fates: &[Fate] = if mood == Mood::Bad { &Fate::BAD } else { &Fate::CALM };
            let fate = fates[world.rng.usize(0..fates.len())];
            let wait = world.millis(0..u64::try_from(heals_at.duration_since(now).as_millis()).expect("short"));
            world.plan(wait, Event::Befalls(fate));
        }
        world
    }

    fn plan(&mut self, wait: Duration, event: Event) {
        self.queue.push(Reverse((self.now + wait, self.numbers)));
        self.events.insert(self.numbers, event);
        self.numbers += 1;
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    /// Lives until all is settled.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        let mut settled_since = None;
        while self.now < self.heals_at + PATIENCE {
            let coordinator = self.coordinator.timeout().filter(|_| !self.away);
            let members = self.processes.iter().filter(|process| process.runs());
            let members = members.filter_map(|process| process.it.poll_timeout()).min();
            let event = self.queue.peek().map(|Reverse((at, _))| *at);
            let next = coordinator.into_iter().chain(members).chain(event).min();
            let Some(next) = next else { return Err("2: the world stands still".into()) };
            self.now = self.now.max(next);
            if coordinator.is_some_and(|at| at <= self.now) {
                self.coordinator.tick(self.now);
                self.deliver();
            }
            if event.is_some_and(|at| at <= self.now) {
                let Reverse((_, number)) = self.queue.pop().expect("peeked");
                let event = self.events.remove(&number).expect("planned");
                self.happens(event)?;
            }
            for at in 0..self.processes.len() {
                let due = self.processes[at].it.poll_timeout().is_some_and(|due| due <= self.now);
                if due && self.processes[at].runs() {
                    self.poll(at)?;
                }
                self.check_session(at)?;
            }
            settled_since = self.is_settled().then(|| settled_since.unwrap_or(self.now));
            if settled_since.is_some_and(|since| since + 2 * BEAT <= self.now) {
                return self.check_even();
            }
        }
        let held: Vec<_> = self.living().map(|process| (process.held(), process.is_settled(), &process.it)).collect();
        Err(format!("2: not settled: {held:#?}"))
    }

    fn living(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|process| process.lives)
    }

    /// Everything that is wanted is held by one, and nothing is under way.
    fn is_settled(&self) -> bool {
        if !self.healed || self.away || !self.living().all(Process::is_settled) {
            return false;
        }
        let mut all = ByName::new();
        for process in self.living() {
            holdings::add(&mut all, process.held());
        }
        let held: usize = self.living().map(|process| count(process.held())).sum();
        let wanted: i32 = self.subscription.iter().map(|topic| self.topics[topic].1).sum();
        self.coordinator.is_settled(self.living().count())
            && (held, count(&all)) == (usize::try_from(wanted).expect("few"), held)
    }

    fn check_even(&self) -> Result<(), Violation> {
        let of = |held: &ByName, topic| held.get(topic).map_or(0, BTreeSet::len);
        let sizes: Vec<Vec<usize>> = if self.coordinator.is_even_by_topic() {
            let topics = self.subscription.iter();
            topics.map(|topic| self.living().map(|process| of(process.held(), topic)).collect()).collect()
        } else {
            vec![self.living().map(|process| count(process.held())).collect()]
        };
        for sizes in sizes {
            let (most, least) = (sizes.iter().max(), sizes.iter().min());
            promise!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "9: not even: {sizes:?}");
        }
        Ok(())
    }

    /// Nobody holds on to anything beyond its session.
    fn check_session(&self, at: usize) -> Result<(), Violation> {
        let process = &self.processes[at];
        let holds = process.runs() && !process.held().is_empty();
        promise!(!holds || process.holds(self.now).is_some(), "3: {at} outlives its session");
        Ok(())
    }

    /// Nobody else holds what this one holds.
    fn check_alone(&self, at: usize) -> Result<(), Violation> {
        let Some(held) = self.processes[at].holds(self.now) else { return Ok(()) };
        for (other, process) in self.processes.iter().enumerate().filter(|(other, _)| *other != at) {
            let both = process.holds(self.now).map(|others| holdings::both(held, others)).unwrap_or_default();
            promise!(both.is_empty(), "1: {both:?} held by {at} and {other}");
        }
        Ok(())
    }

    fn poll(&mut self, at: usize) -> Result<(), Violation> {
        let (now, mood, any_is_back) = (self.now, self.mood, self.any_is_back);
        while let Some((ticket, request)) = self.processes[at].it.poll_request(now) {
            self.send((at, ticket), request);
            if std::mem::take(&mut self.processes[at].faints) {
                return self.stands_still(at);
            }
        }
        while let Some(change) = self.processes[at].it.poll_change() {
            if let Some(revoked) = self.processes[at].note(change, mood, any_is_back)? {
                self.give_up(at, revoked);
            }
        }
        let process = &mut self.processes[at];
        promise!(process.it.held() == process.held(), "5: holds {:?}, told {:?}", process.it.held(), process.held());
        let due = process.it.poll_timeout().is_some_and(|due| due <= now);
        promise!(!due, "4: something is due, and nothing comes");
        if process.it.wants_topics() && !process.asks {
            process.asks = true;
            self.plan(Duration::from_millis(30), Event::Knows(at));
        }
        self.check_alone(at)
    }

    /// Some is given up sooner, and some later.
    fn give_up(&mut self, at: usize, partitions: ByName) {
        let mut parts = [ByName::new(), ByName::new()];
        for (topic, partitions) in partitions {
            for partition in partitions {
                let part = &mut parts[usize::from(self.rng.u8(0..4) == 0)];
                part.entry(Arc::clone(&topic)).or_default().insert(partition);
            }
        }
        let pace = u64::try_from(self.processes[at].pace.as_millis()).expect("short");
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let wait = self.millis(0..pace + 1);
            self.plan(wait, Event::Releases(at, part, self.now + wait));
        }
    }

    fn latency(&mut self) -> Duration {
        let slow = self.mood == Mood::Bad && !self.healed && self.rng.u8(0..30) == 0;
        self.millis(if slow { 100..1000 } else { 1..20 })
    }

    fn loses(&mut self, at: usize) -> bool {
        let process = &mut self.processes[at];
        if self.mood == Mood::Calm || self.healed || process.lucky > 0 {
            process.lucky = process.lucky.saturating_sub(1);
            return false;
        }
        let loses = self.rng.u8(0..15) == 0;
        // A coordinator that is not heard twice in a row may have moved on by two epochs, which is one too many.
        process.lucky = if loses && self.mood == Mood::Lossy { 4 } else { 0 };
        loses
    }

    fn send(&mut self, reply: Reply, request: Request) {
        let failed = || Err(Refusal::Passing("no answer".into()));
        let deadline = if matches!(request, Request::Join(_)) { REBALANCE + Duration::from_secs(1) } else { DEADLINE };
        self.plan(deadline, Event::Answered(reply, failed()));
        if self.processes[reply.0].cut_off || self.loses(reply.0) {
            let wait = self.millis(20..300);
            return self.plan(wait, Event::Answered(reply, failed()));
        }
        let wait = self.latency();
        self.plan(wait, Event::Arrives(reply, request));
    }

    /// What the coordinator has answered.
    fn deliver(&mut self) {
        for (reply, answer) in self.coordinator.out() {
            let process = &self.processes[reply.0];
            if process.cut_off {
                continue;
            }
            let wait = self.latency();
            let answer = if self.loses(reply.0) { Err(Refusal::Passing("cut".into())) } else { answer };
            self.plan(wait, Event::Answered(reply, answer));
        }
    }

    fn happens(&mut self, event: Event) -> Result<(), Violation> {
        let to = match &event {
            Event::Answered((at, _), _) | Event::Releases(at, ..) | Event::Knows(at) => Some(*at),
            _ => None,
        };
        if let Some(process) = to.map(|at| &mut self.processes[at]) {
            if let Some(waiting) = &mut process.standing {
                waiting.push(event);
                return Ok(());
            }
            let leaves = process.leaves && matches!(event, Event::Answered(..));
            if !process.lives && !leaves {
                return Ok(());
            }
        }
        match event {
            Event::Befalls(fate) => return self.befalls(fate),
            Event::Heals => return self.heals(),
            Event::Arrives(reply, request) if self.away => {
                let _ = request;
                let wait = self.latency();
                self.plan(wait, Event::Answered(reply, Err(Refusal::Passing("loading".into()))));
            }
            Event::Arrives(reply, request) => {
                self.coordinator.handle(request, reply, self.now);
                self.deliver();
            }
            Event::Answered((at, ticket), answer) => {
                let process = &mut self.processes[at];
                process.it.handle_answer(ticket, answer, self.now);
                if process.lives {
                    return self.poll(at);
                }
                while let Some((ticket, request)) = self.processes[at].it.poll_request(self.now) {
                    self.send((at, ticket), request);
                }
            }
            Event::Releases(at, partitions, since) => return self.releases(at, &partitions, since),
            Event::Knows(at) => {
                let process = &mut self.processes[at];
                process.asks = false;
                process.it.topics(self.topics.clone(), self.now);
                return self.poll(at);
            }
            Event::Reconnects(at) => self.processes[at].cut_off = false,
            Event::GoesOn(at) => return self.goes_on(at),
            Event::Restarts(settings) => {
                self.any_is_back = true;
                return self.starts(settings);
            }
            Event::Loaded => {
                self.away = false;
                self.coordinator.moves(self.now);
                self.deliver();
            }
        }
        Ok(())
    }

    /// The engine commits, and gives up.
    fn releases(&mut self, at: usize, partitions: &ByName, since: Instant) -> Result<(), Violation> {
        let process = &mut self.processes[at];
        let partitions = holdings::both(process.leaving(), partitions);
        if partitions.is_empty() {
            return Ok(());
        }
        let Some(epoch) = &process.epoch else { return Err("8: something is leaving outside of an epoch".into()) };
        let taken = self.coordinator.takes_commit(epoch) == Some(true);
        let tries = self.now < since + COMMITTING;
        if !taken && tries {
            self.plan(Duration::from_millis(200), Event::Releases(at, partitions, since));
            return Ok(());
        }
        promise!(taken || self.mood == Mood::Bad, "8: no commit is taken under {epoch:?}");
        process.releases(&partitions, self.now);
        self.poll(at)
    }

    fn goes_on(&mut self, at: usize) -> Result<(), Violation> {
        let waiting = self.processes[at].standing.take().unwrap_or_default();
        for event in waiting {
            self.happens(event)?;
        }
        if self.processes[at].lives { self.poll(at) } else { Ok(()) }
    }

    fn settings(&mut self) -> Settings {
        let number = self.processes.len();
        let list = self.rng.usize(0..self.lists.len());
        let instance = (self.rng.u8(0..4) == 0).then(|| format!("i{number}").into());
        Settings {
            protocol: self.protocol,
            assignors: self.lists[list].clone(),
            instance,
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            heartbeat_interval: BEAT,
            ..Settings::new(format!("p{number:02}").into())
        }
    }

    fn starts(&mut self, settings: Settings) -> Result<(), Violation> {
        let settings = Settings { member: format!("p{:02}", self.processes.len()).into(), ..settings };
        let mut it = Membership::new(settings.clone(), self.subscription.clone(), self.now);
        it.member.defect = self.defect;
        if self.rng.bool() {
            it.topics(self.topics.clone(), self.now);
        }
        let late = self.mood == Mood::Bad && !self.healed && self.rng.u8(0..4) == 0;
        let slow = if self.rng.bool() { Duration::ZERO } else { self.millis(0..9_000) };
        let pace = if late { Duration::from_secs(25) } else { slow };
        self.processes.push(Process::new(it, settings, pace));
        let at = self.processes.len() - 1;
        self.plan(Duration::from_millis(50), Event::Knows(at));
        self.poll(at)
    }

    fn befalls(&mut self, fate: Fate) -> Result<(), Violation> {
        let running: Vec<_> = (0..self.processes.len()).filter(|at| self.processes[*at].runs()).collect();
        let one = (!running.is_empty()).then(|| running[self.rng.usize(0..running.len())]);
        match (fate, one) {
            (Fate::Starts, _) if running.len() < 5 => {
                let settings = self.settings();
                return self.starts(settings);
            }
            (Fate::Grows, _) => {
                let topic = if self.rng.bool() { "t" } else { "u" };
                self.topics.get_mut(topic).expect("it is there").1 += self.rng.i32(1..3);
                if let Coordinator::Consumer(group) = &mut self.coordinator {
                    group.topics_change(&self.topics);
                }
                self.tell_all(Event::Knows);
            }
            (Fate::Subscribes, _) => {
                let both = self.subscription.len() == 2;
                self.subscription = if both { ["u".into()].into() } else { self.topics.keys().cloned().collect() };
                return self.subscribe_all();
            }
            (Fate::Moves, _) if !self.away => {
                self.coordinator.moves(self.now);
                self.deliver();
                self.away = true;
                let wait = self.millis(50..3000);
                self.plan(wait, Event::Loaded);
            }
            (Fate::Leaves, Some(at)) => {
                self.processes[at].leaves = true;
                self.processes[at].it.leave(self.now);
                self.ends(at);
                while let Some((ticket, request)) = self.processes[at].it.poll_request(self.now) {
                    self.send((at, ticket), request);
                }
            }
            (Fate::Crashes, Some(at)) => self.ends(at),
            (Fate::CutOff, Some(at)) => {
                self.processes[at].cut_off = true;
                let wait = self.millis(100..15_000);
                self.plan(wait, Event::Reconnects(at));
            }
            (Fate::StandsStill, Some(at)) => {
                self.processes[at].faints = self.rng.bool();
                if !self.processes[at].faints {
                    return self.stands_still(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn stands_still(&mut self, at: usize) -> Result<(), Violation> {
        self.processes[at].standing = Some(Vec::new());
        let wait = self.millis(100..15_000);
        self.plan(wait, Event::GoesOn(at));
        Ok(())
    }

    /// A process is gone; a static one comes back, mostly.
    fn ends(&mut self, at: usize) {
        self.processes[at].ends();
        let settings = self.processes[at].settings.clone();
        if settings.instance.is_some() && self.rng.u8(0..4) > 0 {
            let wait = self.millis(100..10_000);
            self.plan(wait, Event::Restarts(settings));
        }
    }

    fn tell_all(&mut self, event: impl Fn(usize) -> Event) {
        for at in 0..self.processes.len() {
            let wait = self.millis(0..1000);
            self.plan(wait, event(at));
        }
    }

    fn subscribe_all(&mut self) -> Result<(), Violation> {
        for at in 0..self.processes.len() {
            if self.processes[at].runs() {
                self.processes[at].it.subscribe(self.subscription.clone(), self.now);
                self.poll(at)?;
            }
        }
        Ok(())
    }

    fn heals(&mut self) -> Result<(), Violation> {
        self.healed = true;
        for at in 0..self.processes.len() {
            (self.processes[at].cut_off, self.processes[at].faints) = (false, false);
            self.processes[at].pace = self.processes[at].pace.min(Duration::from_secs(9));
            if self.processes[at].lives {
                self.goes_on(at)?;
            }
        }
        if self.living().count() == 0 {
            let settings = self.settings();
            self.starts(settings)?;
        }
        self.tell_all(Event::Knows);
        self.subscribe_all()
    }
}
