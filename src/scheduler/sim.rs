//! A seeded simulator of whole runs: a log with gaps, tasks of all lengths, writes and commits that fail, crashes, drains
//! that are forced, topics that are made anew, cut off, or grow; and calm runs in which nothing of the kind happens.
//!
//! The world keeps its own books and never asks the scheduler what is finished. Time moves only to the next thing that
//! happens in the world or to the deadline that the scheduler itself returned: a deadline that was lost shows as a world
//! that stands still. (To the deadline of a look at the log it moves only where there is something to be seen: else the
//! looks would keep the world going.)
//!
//! Each promise is a line in [`World`] that returns an error; each [`Defect`] must make one of them speak.

mod books;
mod life;
mod log;
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
};

type Violation = String;
/// Partition, and what tells a record from all others of it.
type At = (i32, i64);

macro_rules! promise {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
use promise;

/// What outlives the process.
struct World {
    rng: fastrand::Rng,
    rules: Rules,
    policy: Policy,
    topic: Topic,
    plans: BTreeMap<At, Plan>,
    committed: BTreeMap<i32, i64>,
    /// The leader epochs that went with the commits.
    epochs: BTreeMap<i32, i32>,
    /// What went with them.
    told: BTreeMap<i32, Told>,
    /// Metadata that was put beside a commit for which it was not written.
    forged: BTreeMap<i32, Forged>,
    /// A defect of the start: it believes even that.
    gullible: bool,
    /// How many runs go with a commit, if that is limited.
    most_runs: Option<usize>,
    written: BTreeMap<At, BTreeSet<Kind>>,
    /// Tasks that came to their end, and how often.
    ran: BTreeMap<At, u32>,
    hung: BTreeSet<At>,
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
        let rules = Rules {
            span: if rng.bool() { 1 << 20 } else { rng.usize(1..=40) },
            on_data_loss: [OnDataLoss::Earliest, OnDataLoss::Earliest, OnDataLoss::Latest, OnDataLoss::Stop]
                [rng.usize(0..4)],
            until_end: rng.bool(),
            ..Rules::of(workers, Duration::from_millis(rng.u64(0..=1500)), grace)
        };
        let short = rng.bool();
        let topic = Topic::new(&mut rng);
        let mut plans = BTreeMap::new();
        log::plan(&topic, &mut plans, || Plan::new(&mut rng, short, calm));
        Self {
            max_in_flight: workers + rng.usize(0..100),
            tells: rng.bool(),
            most_runs: (rng.u8(0..4) == 0).then(|| rng.usize(1..5)),
            lives_with_losses: if rng.bool() { rng.u32(1..=2) } else { 0 },
            rng,
            rules,
            policy,
            topic,
            plans,
            committed: BTreeMap::new(),
            epochs: BTreeMap::new(),
            told: BTreeMap::new(),
            forged: BTreeMap::new(),
            gullible: false,
            written: BTreeMap::new(),
            ran: BTreeMap::new(),
            hung: BTreeSet::new(),
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
            let stopped = death == Death::Stopped && life.disturbed && self.rules.on_data_loss == OnDataLoss::Stop;
            if !faulty && !stopped {
                promise!(death == Death::Clean, "10: a calm life ended by {death:?}");
            }
            if !faulty && !losses {
                break;
            }
        }
        promise!(self.all_worked_off(), "2: stuck: committed {:?}, {:?}", self.committed, self.topic);
        for at in self.topic.all() {
            promise!(self.is_accounted(at), "1: {at:?} has no fate, {:?}", self.plans[&at]);
        }
        let untold: Vec<_> = self.gone.iter().filter(|(at, _)| !self.is_accounted(**at)).collect();
        promise!(untold.is_empty(), "6: gone, and never told of: {untold:?}");
        Ok(())
    }

    fn all_worked_off(&self) -> bool {
        self.topic.logs.iter().all(|(partition, log)| self.committed.get(partition) == Some(&log.end))
    }

    fn begin(&mut self, faulty: bool, losses: bool, defect: Option<Defect>) -> Life {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(self.rules.clone(), now);
        scheduler.defect = defect;
        let (mut assignments, mut known) = (Vec::new(), BTreeMap::new());
        // What the start finds out, and what the user then wants, is told in begins.rs. Here it is as it ought to be.
        self.gone.clear();
        for (partition, log) in &self.topic.logs {
            let committed = self.committed.get(partition).copied();
            let start = committed.unwrap_or_else(|| log.entries.first().map_or(log.end, |first| first.offset));
            let parted = self.epochs.get(partition).and_then(|epoch| log.end_of_epoch(*epoch));
            let start = start.min(parted.unwrap_or(start)).clamp(log.start, log.end);
            let finished =
                committed.map(|committed| self.believe(*partition, committed, log, parted)).unwrap_or_default();
            known.insert(*partition, finished.clone());
            assignments.push(Assignment {
                id: AssignmentId(*partition as u64),
                source: Arc::new(TopicPartition::new("in", *partition)),
                start: Offset(start),
                committed: committed.map(Offset),
                finished,
                end: self.rules.until_end.then_some(Offset(log.end)),
                latest: Offset(log.end),
                epoch: self.topic.look().epoch(*partition),
            });
        }
        let may_go_back: BTreeSet<i32> = assignments
            .iter()
            .filter(|a| a.committed.is_some_and(|committed| committed > a.start))
            .map(|a| a.source.partition)
            .collect();
        scheduler.assign(self.topic.id(), assignments, self.topic.logs.keys().copied().collect(), now);
        let began_below = may_go_back.clone();
        let mut life = Life { may_go_back, began_below, known, ..Life::new(scheduler, now, !faulty) };
        if faulty {
            let when = Duration::from_millis(self.rng.u64(0..4000));
            life.plan(when, if self.rng.bool() { Happening::Crash } else { Happening::Drain });
        }
        for _ in 0..if losses { self.rng.u32(1..4) } else { 0 } {
            let kinds = [Befalls::Recreated, Befalls::Truncated, Befalls::Deleted, Befalls::Moved, Befalls::Added];
            let when = Duration::from_micros(self.rng.u64(0..3_000_000));
            life.plan(when, Happening::Befalls(kinds[self.rng.usize(0..kinds.len())]));
        }
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
                promise!(self.all_worked_off(), "2: stands still: {:?} of {:?}", self.committed, self.topic);
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
            let (next, end) = (begin.start.0, begin.end.map(|end| end.0));
            life.loops.insert(begin.id, Loop { partition: begin.source.partition, next, end, busy: false });
        }
        while let Some(event) = life.scheduler.poll_event() {
            self.told(life, &event);
        }
        self.fetch(life);
        while let Some(load) = life.scheduler.poll_load(life.now) {
            self.start(life, load)?;
        }
        while let Some(write) = life.scheduler.poll_write() {
            self.write(life, write)?;
        }
        while let Some((_, freed)) = life.scheduler.poll_freed() {
            life.held -= freed.records;
        }
        if let Some(ask) = life.scheduler.poll_ask(life.now) {
            self.look(life, &ask)?;
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
            let Loop { partition, next, end, .. } = life.loops[&id];
            let Some(log) = self.topic.logs.get(&partition) else { continue };
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
            let source = Arc::new(TopicPartition::new("in", partition));
            let records = there[..count].iter().map(|entry| Record {
                source: Arc::clone(&source),
                timestamp_ms: entry.ident,
                ..crate::testing::record(entry.offset, Some(b"v"))
            });
            let records = records.collect();
            let (next, latest) = (there.get(count).map_or(log.end, |entry| entry.offset), log.end);
            let epoch = LeaderEpoch(if self.tells { log.epoch_below(next) } else { -1 });
            life.held += count;
            life.loops.get_mut(&id).expect("it is there").busy = true;
            life.plan(wait, Happening::Fetched { id, records, next, epoch, latest });
        }
    }

    /// What the committer does.
    fn look(&mut self, life: &mut Life, ask: &Ask) -> Result<(), Violation> {
        life.unseen = false;
        let wait = Duration::from_millis(self.rng.u64(1..=COMMIT_LATENCY_MS));
        let look = self.topic.look();
        if look.id != ask.id {
            let bounds = self.topic.bounds(look.epochs.keys().copied());
            let found = Finding::Recreated { was: ask.id, now: look.id, bounds };
            life.plan(wait, Happening::Looked(vec![found]));
            return Ok(());
        }
        life.seen.extend(ask.reads.iter().map(|(partition, read)| (*partition, read.next.0)));
        let answers = self.topic.epoch_ends(&questions(ask, &look));
        let compared = Comparison::new(ask, &look, &answers);
        let bounds = self.topic.bounds(compared.to_be_bounded());
        let findings = compared.finish(ask, bounds);
        if !allow_commit(&findings) || ask.commits.is_empty() {
            life.plan(wait, Happening::Looked(findings));
            return Ok(());
        }
        let offsets = ask.commits.iter().map(|(partition, commit)| (*partition, commit.offset.0)).collect();
        self.check_commit(life, &offsets)?;
        let told = self.tell(life, ask)?;
        let fails = !life.fault_free && self.rng.u8(0..4) == 0;
        let kept = !fails || self.rng.bool();
        life.committing = true;
        life.plan(wait, Happening::Committed { offsets, told, findings, acknowledged: !fails, kept });
        Ok(())
    }

    fn write(&mut self, life: &mut Life, write: Write) -> Result<(), Violation> {
        let Write { kind, ticket, record } = write;
        let at = life.started[&(ticket.assignment, ticket.offset.0)];
        promise!(!life.dead.contains(&at), "4: an answer to {at:?}, whose topic is known to be gone");
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
                life.fetched.extend(records.iter().map(|record| (id, at(record))));
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
            Happening::Looked(findings) => life.scheduler.handle_looked(findings, &Kept::Held, life.now),
            Happening::Committed { offsets, told, findings, acknowledged, kept } => {
                life.committing = false;
                let said = self.keep(told, kept);
                if kept {
                    life.committed.extend(offsets.keys());
                    life.may_go_back.retain(|partition| !offsets.contains_key(partition));
                    self.epochs
                        .extend(offsets.keys().map(|partition| (*partition, self.topic.look().epoch(*partition).0)));
                    self.committed.extend(offsets);
                }
                let kept = if acknowledged { Kept::AllBut(BTreeSet::new()) } else { Kept::Unknown };
                life.scheduler.handle_looked(findings, &kept, life.now);
                if acknowledged {
                    life.scheduler.handle_said(&said);
                }
            }
        }
        if life.scheduler.phase != Phase::Running {
            life.draining.get_or_insert(life.now);
        }
        Ok(false)
    }

    fn befalls(&mut self, life: &mut Life, what: Befalls) {
        let before_any = !matches!(what, Befalls::Deleted);
        let unread_too = !matches!(what, Befalls::Truncated);
        for (at, offset) in self.topic.befalls(what, &mut self.rng) {
            // Of what is cut off before it was read, nobody can know; nor, where the reader does not tell leader epochs, of
            // what no look has seen; nor of a partition that nobody had found.
            let known = life.loops.values().any(|reading| reading.partition == at.0);
            let seen = self.tells || life.seen.get(&at.0).is_some_and(|seen| offset < *seen);
            let mut reading = life.loops.keys().filter(|id| life.scheduler.reads_on(**id));
            let read = seen && reading.any(|id| life.fetched.contains(&(*id, at)));
            if !unread_too && !read || matches!(what, Befalls::Recreated) && !known {
                continue;
            }
            self.gone.insert(at, (offset, before_any));
        }
        if matches!(what, Befalls::Recreated) {
            self.committed.clear();
            self.epochs.clear();
            self.told.clear();
            self.forged.clear();
            // What was seen was of the topic before.
            life.seen.clear();
        }
        let (short, calm) = (self.rng.bool(), self.calm);
        log::plan(&self.topic, &mut self.plans, || Plan::new(&mut self.rng, short, calm));
        match what {
            Befalls::Moved => life.moved += 1,
            _ => life.disturbed = true,
        }
        life.unseen = true;
    }
}

fn at(record: &Record) -> At {
    (record.source.partition, record.timestamp_ms)
}
