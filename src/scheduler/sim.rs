//! A seeded simulator of whole runs: a log with gaps, tasks of all lengths, writes and commits that fail, crashes, drains
//! that are forced, topics that are made anew, cut off, or grow, partitions that go and come back; and calm runs in which
//! nothing of the kind happens.
//!
//! The world keeps its own books and never asks the scheduler what is finished. Time moves only to the next thing that
//! happens in the world or to the deadline that the scheduler itself returned: a deadline that was lost shows as a world
//! that stands still. (To the deadline of a look at the log it moves only where there is something to be seen: else the
//! looks would keep the world going.)
//!
//! Each promise is a line in [`World`] that returns an error; each [`Defect`] must make one of them speak.

mod books;
mod failures;
mod group;
mod life;
mod log;
mod orphans;
mod progress;
mod seeds;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use self::{
    life::{Death, Happening, Life, Loop, Plan},
    log::{Befalls, Topic},
    progress::{Forged, Told},
};
use super::*;
use crate::{
    committer::compare::{Comparison, allow_commit, questions},
    fate::{Judge, Kind, OnFailure, Policy, Verdict},
    loss::{OnDataLoss, Why},
    page::Page,
    task::Answer,
    testing::promise,
};

type Violation = String;
/// The place of a topic, and one of its partitions.
type Key = (usize, i32);
/// Partition, and what tells a record from all others of it.
type At = (Key, i64);

/// What outlives the process.
struct World {
    rng: fastrand::Rng,
    rules: Rules,
    policy: Policy,
    topics: Vec<Topic>,
    plans: BTreeMap<At, Plan>,
    committed: BTreeMap<Key, i64>,
    /// The leader epochs that went with the commits.
    epochs: BTreeMap<Key, i32>,
    /// What went with them.
    told: BTreeMap<Key, Told>,
    /// Metadata that was put beside a commit for which it was not written.
    forged: BTreeMap<Key, Forged>,
    /// A defect of the start: it believes even that.
    gullible: bool,
    /// How many runs go with a commit, if that is limited.
    most_runs: Option<usize>,
    written: BTreeMap<At, BTreeSet<Kind>>,
    /// What was worked off by somebody else.
    elsewhere: BTreeSet<At>,
    /// Tasks that came to their end, and how often.
    ran: BTreeMap<At, u32>,
    hung: BTreeSet<At>,
    /// How the task of a message has ended, for good: well, or given up.
    ended: BTreeMap<At, BTreeSet<bool>>,
    /// How often it has failed.
    fails: BTreeMap<At, u32>,
    /// How many were given up of those that would go well, and how many outages there were.
    innocent: usize,
    outages: usize,
    /// What is not in the log any more and has not been told of, with the offset that it had; and whether that has to be
    /// told before any commit, or only before one beyond it.
    gone: BTreeMap<At, (i64, bool)>,
    /// What was left out by wish (`--on-data-loss latest`).
    excused: BTreeSet<At>,
    max_in_flight: usize,
    /// Nothing fails and nobody crashes.
    calm: bool,
    /// The reader tells leader epochs.
    tells: bool,
    /// What still befalls the topic.
    lives_with_losses: u32,
}

const COMMIT_LATENCY_MS: u64 = 20;

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let policy = Policy { reply: rng.bool(), dead_letter: rng.bool(), on_failure: OnFailure::Drop };
        let workers = rng.usize(1..=8);
        let calm = rng.u8(0..3) == 0;
        let grace = Duration::from_millis([0, rng.u64(0..=3000)][rng.usize(0..2)]);
        let adoption = Duration::from_millis([rng.u64(20..400), 10_000][rng.usize(0..2)]);
        let mut rules = Rules {
            policy,
            span: if rng.bool() { 1 << 20 } else { rng.usize(1..=40) },
            on_data_loss: [OnDataLoss::Earliest, OnDataLoss::Earliest, OnDataLoss::Latest, OnDataLoss::Stop]
                [rng.usize(0..4)],
            until_end: rng.bool(),
            adoption: (rng.u8(0..8) != 0).then_some(adoption),
            // Otherwise partitions go and come back.
            all_partitions: rng.bool(),
            ..Rules::of(workers, Duration::from_millis(rng.u64(0..=1500)), grace)
        };
        Self::draw_flow(&mut rules, &mut rng);
        let short = rng.bool();
        let count = [1, 1, 2, 3][rng.usize(0..4)];
        let topics: Vec<_> = (0..count).map(|place| Topic::new(place, 150 / count, &mut rng)).collect();
        let mut plans = BTreeMap::new();
        for topic in &topics {
            log::plan(topic, &mut plans, || Plan::new(&mut rng, short, calm));
        }
        Self {
            max_in_flight: workers + rng.usize(0..100),
            tells: rng.bool(),
            most_runs: (rng.u8(0..4) == 0).then(|| rng.usize(1..5)),
            lives_with_losses: if rng.bool() { rng.u32(1..=2) } else { 0 },
            rng,
            rules,
            policy,
            topics,
            plans,
            committed: BTreeMap::new(),
            epochs: BTreeMap::new(),
            told: BTreeMap::new(),
            forged: BTreeMap::new(),
            gullible: false,
            written: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            ran: BTreeMap::new(),
            hung: BTreeSet::new(),
            ended: BTreeMap::new(),
            fails: BTreeMap::new(),
            innocent: 0,
            outages: 0,
            gone: BTreeMap::new(),
            excused: BTreeSet::new(),
            calm,
        }
    }

    /// Lives until all is worked off.
    fn run(&mut self, defect: Option<Defect>) -> Result<(), Violation> {
        let mut faulty_lives = if self.calm { 0 } else { self.rng.u32(0..4) };
        loop {
            let faulty = faulty_lives > 0;
            faulty_lives = faulty_lives.saturating_sub(1);
            let losses = self.lives_with_losses > 0;
            self.lives_with_losses = self.lives_with_losses.saturating_sub(1);
            let ran_before = self.ran.clone();
            if !self.calm {
                self.meddle();
            }
            let committed_before = self.committed.clone();
            let mut life = self.begin(faulty, losses, defect);
            let death = self.live(&mut life)?;
            self.look_back(&life, &death, &ran_before, &committed_before)?;
            let stopped =
                death == Death::Stopped && !life.disturbed.is_empty() && self.rules.on_data_loss == OnDataLoss::Stop;
            if !faulty && !stopped {
                promise!(death == Death::Clean, "10: a calm life ended by {death:?}");
            }
            if !faulty && !losses {
                break;
            }
        }
        let keys = self.topics.iter().flat_map(Topic::keys);
        promise!(self.worked_off(keys), "2: stuck: committed {:?}, {:?}", self.committed, self.topics);
        for at in self.topics.iter().flat_map(Topic::all) {
            promise!(self.is_accounted(at), "1: {at:?} has no fate, {:?}", self.plans[&at]);
        }
        let untold: Vec<_> = self.gone.iter().filter(|(at, _)| !self.is_accounted(**at)).collect();
        promise!(untold.is_empty(), "6: gone, and never told of: {untold:?}");
        Ok(())
    }

    fn log(&self, key: Key) -> &log::Log {
        &self.topics[key.0].logs[&key.1]
    }

    fn worked_off(&self, mut keys: impl Iterator<Item = Key>) -> bool {
        keys.all(|key| self.committed.get(&key) == Some(&self.log(key).end))
    }

    fn begin(&mut self, faulty: bool, losses: bool, defect: Option<Defect>) -> Life {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(self.rules.clone(), now);
        scheduler.defect = defect;
        let mut life = Life::new(scheduler, now, !faulty);
        life.losses = losses;
        self.gone.clear();
        let keys: Vec<_> = self.topics.iter().flat_map(Topic::keys).collect();
        self.assign(&mut life, &keys).expect("nothing is to be adopted yet");
        if faulty {
            let when = Duration::from_millis(self.rng.u64(0..4000));
            life.plan(when, if self.rng.bool() { Happening::Crash } else { Happening::Drain });
        }
        for _ in 0..if losses { self.rng.u32(1..4) } else { 0 } {
            let kinds = [Befalls::Recreated, Befalls::Truncated, Befalls::Deleted, Befalls::Moved, Befalls::Added];
            let when = Duration::from_micros(self.rng.u64(0..3_000_000));
            life.plan(when, Happening::Befalls(kinds[self.rng.usize(0..kinds.len())]));
        }
        self.plan_rebalances(&mut life);
        self.plan_outage(&mut life);
        self.outages += usize::from(life.outage.is_some());
        life
    }

    fn live(&mut self, life: &mut Life) -> Result<Death, Violation> {
        for _ in 0..100_000 {
            self.poll(life)?;
            if let Some(summary) = life.scheduler.poll_end(life.now) {
                return self.ended(life, &summary);
            }
            let look = life.scheduler.look_due().filter(|_| life.unseen);
            let timeout = life.scheduler.poll_timeout().into_iter().chain(look).min();
            let next = life.queue.peek().map(|Reverse((at, _))| *at);
            let idle = next.is_none() && life.running.is_empty();
            let far = timeout.is_some_and(|at| at >= life.now + IDLE_COMMIT / 2);
            if idle && (timeout.is_none() || far) && life.draining.is_none() {
                // The world stands still: nothing may be left to do.
                self.check_still(life)?;
                life.plan(Duration::ZERO, Happening::Drain);
                continue;
            }
            let Some(at) = next.into_iter().chain(timeout).min() else {
                return Err("2: nothing will ever happen again".to_owned());
            };
            life.now = life.now.max(at);
            if next.is_some_and(|next| next <= life.now) {
                let Some(Reverse((_, number))) = life.queue.pop() else { continue };
                let happening = life.happenings.remove(&number).expect("planned");
                if self.happens(life, happening)? {
                    return Ok(Death::Crash);
                }
            }
        }
        Err("2: no end in sight".to_owned())
    }

    fn poll(&mut self, life: &mut Life) -> Result<(), Violation> {
        while let Some(begin) = life.scheduler.poll_begin() {
            life.lives.insert(begin.id, key(&begin.source));
            let (next, end) = (begin.start.0, begin.end.map(|end| end.0));
            life.loops.insert(begin.id, Loop { key: key(&begin.source), next, end, busy: false });
        }
        while let Some(event) = life.scheduler.poll_event() {
            self.told(life, &event);
        }
        while let Some(load) = life.scheduler.poll_load(life.now) {
            self.start(life, load)?;
        }
        while let Some(write) = life.scheduler.poll_write() {
            self.write(life, write)?;
        }
        while let Some((id, freed)) = life.scheduler.poll_freed() {
            let held = life.held_by.entry(id).or_default();
            promise!(*held >= freed.records, "9: {id:?} gives {} of {held} records back", freed.records);
            *held -= freed.records;
            life.held -= freed.records;
        }
        self.fetch(life);
        while let Some(source) = life.scheduler.poll_settled(life.now) {
            self.settled(life, key(&source))?;
        }
        if let Some(ask) = life.scheduler.poll_ask(life.now) {
            self.look(life, ask)?;
        }
        Ok(())
    }

    /// Plans a fetch for each partition that has something to read and room for it. A fetch brings what is there when it
    /// begins, whatever befalls the log until it is handed over.
    fn fetch(&mut self, life: &mut Life) {
        let ids: Vec<_> = life.loops.iter().filter(|(_, reading)| !reading.busy).map(|(id, _)| *id).collect();
        for id in ids {
            if !life.scheduler.reads_on(id) {
                life.loops.remove(&id);
                continue;
            }
            let Loop { key, next, end, .. } = life.loops[&id];
            let Some(log) = self.topics[key.0].logs.get(&key.1) else { continue };
            let wait = Duration::from_micros(self.rng.u64(0..5000));
            if next < log.start || next > log.end {
                life.loops.get_mut(&id).expect("it is there").busy = true;
                life.plan(wait, Happening::OutOfRange { id });
                continue;
            }
            let there = &log.entries[log.entries.partition_point(|entry| entry.offset < next)..];
            let room = self.max_in_flight - life.held;
            let at_end = next >= log.end || end.is_some_and(|end| next >= end);
            if at_end || (!there.is_empty() && room == 0) {
                continue;
            }
            let count = if there.is_empty() { 0 } else { self.rng.usize(1..=there.len().min(room)) };
            let source = Arc::new(TopicPartition::new(self.topics[key.0].name(), key.1));
            let records = there[..count].iter().map(|entry| Record {
                source: Arc::clone(&source),
                timestamp_ms: entry.ident,
                key: failures::key_bytes(entry.ident),
                ..crate::testing::record(entry.offset, Some(b"v"))
            });
            let records = records.collect();
            let (next, latest) = (there.get(count).map_or(log.end, |entry| entry.offset), log.end);
            let epoch = LeaderEpoch(if self.tells { log.epoch_below(next) } else { -1 });
            life.held += count;
            *life.held_by.entry(id).or_default() += count;
            life.loops.get_mut(&id).expect("it is there").busy = true;
            life.plan(wait, Happening::Fetched { id, records, next, epoch, latest });
        }
    }

    /// What the committer does.
    fn look(&mut self, life: &mut Life, ask: Ask) -> Result<(), Violation> {
        life.unseen = false;
        let wait = Duration::from_millis(self.rng.u64(1..=COMMIT_LATENCY_MS));
        let (mut looked, mut offsets, mut told) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for ask in ask.topics {
            let place = self.place(&ask.name);
            let topic = &self.topics[place];
            let look = topic.look();
            let findings = if look.id == ask.id {
                let answers = topic.epoch_ends(&questions(&ask, &look));
                let compared = Comparison::new(&ask, &look, &answers);
                let bounds = topic.bounds(compared.to_be_bounded());
                compared.finish(&ask, bounds)
            } else {
                let bounds = topic.bounds(look.epochs.keys().copied());
                vec![Finding::Recreated { was: ask.id, now: look.id, bounds }]
            };
            for finding in &findings {
                life.see(place, finding);
            }
            life.epochs.extend(topic.epochs());
            let allowed = allow_commit(&findings) && !ask.commits.is_empty();
            if allowed {
                offsets.extend(ask.commits.iter().map(|(partition, c)| ((place, *partition), c.offset.0)));
                told.extend(self.tell(life, place, &ask)?);
            }
            let kept = if allowed { Kept::AllBut(BTreeSet::new()) } else { Kept::Held };
            looked.push(Looked { topic: ask.topic, findings, kept, said: BTreeMap::new() });
        }
        let (mut acknowledged, mut kept) = (true, false);
        if !offsets.is_empty() {
            self.check_commit(life, &offsets)?;
            acknowledged = life.fault_free || self.rng.u8(0..4) != 0;
            kept = acknowledged || self.rng.bool();
            life.committing = true;
            self.lose_while_committing(life, offsets.keys().copied().collect(), wait);
        }
        let offsets = offsets.into_iter().map(|(key, offset)| (key, (offset, life.ours[&key]))).collect();
        life.plan(wait, Happening::Looked { looked, offsets, told, acknowledged, kept });
        Ok(())
    }

    /// What became of a look and of its commits: of those of partitions that are not ours any more, nothing.
    fn looked(
        &mut self,
        life: &mut Life,
        mut looked: Vec<Looked>,
        (mut offsets, told): (BTreeMap<Key, (i64, u64)>, BTreeMap<Key, Told>),
        acknowledged: bool,
        kept: bool,
    ) {
        life.committing = false;
        offsets.retain(|key, (_, assigned)| kept && life.ours.get(key) == Some(assigned));
        let said = self.keep(told, |key| offsets.contains_key(key));
        for looked in &mut looked {
            let topic = said.iter().filter(|(topic, ..)| *topic == looked.topic && acknowledged);
            looked.said = topic.map(|(_, number, said)| (*number, *said)).collect();
        }
        for (key, (offset, _)) in offsets {
            life.committed.insert(key);
            life.may_go_back.remove(&key);
            self.epochs.insert(key, self.topics[key.0].look().epoch(key.1).0);
            self.committed.insert(key, offset);
        }
        for looked in looked.iter_mut().filter(|looked| !acknowledged && looked.kept != Kept::Held) {
            looked.kept = Kept::Unknown;
        }
        life.scheduler.handle_looked(looked, life.now);
    }

    fn write(&mut self, life: &mut Life, write: Write) -> Result<(), Violation> {
        let Write { kind, ticket, record } = write;
        let at = life.started[&(ticket.assignment, ticket.offset.0)];
        promise!(!life.dead.contains(&at), "4: an answer to {at:?}, whose topic is known to be gone");
        promise!(!life.parted.contains(&ticket.assignment), "4: an answer to {at:?}, which is not ours any more");
        let wait = Duration::from_micros(self.rng.u64(100..30_000));
        // The broker may have it although the answer never comes.
        if !life.fault_free && self.rng.u8(0..10) == 0 {
            self.written.entry(at).or_default().insert(kind);
        }
        let too_large = record.value.is_some() && kind == Kind::DeadLetter && self.rng.u8(0..20) == 0;
        let written = if too_large { Written::TooLarge(ticket, record) } else { Written::Acknowledged(ticket) };
        life.plan(wait, Happening::Written(written, at, kind));
        Ok(())
    }

    fn happens(&mut self, life: &mut Life, happening: Happening) -> Result<bool, Violation> {
        match happening {
            Happening::Crash => return Ok(true),
            Happening::Drain => {
                life.draining.get_or_insert(life.now);
                life.scheduler.drain(life.now);
            }
            // Between a look and the commit after it there is a gap that Kafka leaves open.
            Happening::Befalls(what) if life.committing => {
                life.plan(Duration::from_millis(1), Happening::Befalls(what));
            }
            Happening::Befalls(what) => self.befalls(life, what),
            Happening::Fetched { id, records, next, epoch, latest } => {
                let reading = life.loops.get_mut(&id).expect("it fetches");
                (reading.next, reading.busy) = (next, false);
                // What was not there at the start of a run until the end is not taken in.
                let end = reading.end.unwrap_or(i64::MAX);
                let taken = records.iter().filter(|record| record.offset.0 < end);
                life.fetched.extend(taken.map(|record| (id, at(record))));
                life.scheduler.handle_fetched(id, records, (Offset(next), epoch), Offset(latest), life.now);
            }
            Happening::OutOfRange { id } => {
                life.unseen = true;
                life.scheduler.handle_unsure(id, life.now);
            }
            Happening::News { id, done, todo, ended } => self.news(life, id, done, todo, ended)?,
            Happening::Written(written, at, kind) => {
                if matches!(written, Written::Acknowledged(_)) {
                    self.written.entry(at).or_default().insert(kind);
                    self.settle(life, at);
                }
                life.scheduler.handle_written(written, life.now);
            }
            Happening::Looked { looked, offsets, told, acknowledged, kept } => {
                self.looked(life, looked, (offsets, told), acknowledged, kept);
            }
            Happening::Comes(what) => self.comes(life, what)?,
        }
        if life.scheduler.phase != Phase::Running {
            life.draining.get_or_insert(life.now);
        }
        Ok(false)
    }

    fn befalls(&mut self, life: &mut Life, what: Befalls) {
        let before_any = !matches!(what, Befalls::Deleted);
        let unread_too = !matches!(what, Befalls::Truncated);
        let place = self.rng.usize(0..self.topics.len());
        let epochs = self.topics[place].epochs();
        for (at, offset) in self.topics[place].befalls(what, &mut self.rng) {
            // Of what is cut off before it was read, nobody can know; nor, where the reader does not tell leader epochs, or the
            // leader had changed already, of what no look has seen; nor of a partition that nobody had found, or that is not
            // ours.
            let mut loops = life.loops.iter().filter(|(id, _)| life.scheduler.reads_on(**id));
            let known = loops.any(|(_, reading)| reading.key == at.0);
            let told = self.tells && life.epochs.get(&at.0) == Some(&epochs[&at.0]);
            let seen = told || life.seen.get(&at.0).is_some_and(|seen| offset < *seen);
            let mut reading = life.loops.keys().filter(|id| life.scheduler.reads_on(**id));
            let read = seen && reading.any(|id| life.fetched.contains(&(*id, at)));
            let reads = life.ours.contains_key(&at.0) && !life.leaving.contains_key(&at.0);
            if !reads || !unread_too && !read || matches!(what, Befalls::Recreated) && !known {
                continue;
            }
            self.gone.insert(at, (offset, before_any));
        }
        if matches!(what, Befalls::Recreated) {
            self.committed.retain(|key, _| key.0 != place);
            self.epochs.retain(|key, _| key.0 != place);
            self.told.retain(|key, _| key.0 != place);
            self.forged.retain(|key, _| key.0 != place);
        }
        let (short, calm) = (self.rng.bool(), self.calm);
        log::plan(&self.topics[place], &mut self.plans, || Plan::new(&mut self.rng, short, calm));
        match what {
            Befalls::Moved => life.moved.insert(place),
            _ => life.disturbed.insert(place),
        };
        if matches!(what, Befalls::Added) && self.rules.all_partitions {
            let added = self.topics[place].keys().last().expect("it was added");
            life.ours.entry(added).or_insert(0);
        }
        life.unseen = true;
    }
}

fn at(record: &Record) -> At {
    (key(&record.source), record.timestamp_ms)
}

fn key(source: &TopicPartition) -> Key {
    (source.topic[1..].parse().expect("its place is in its name"), source.partition)
}
