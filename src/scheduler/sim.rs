//! A seeded simulator of whole runs: a log with gaps, tasks of all lengths, writes and commits that fail, crashes, drains
//! that are forced, and calm runs in which nothing of the kind happens.
//!
//! The world keeps its own books and never asks the scheduler what is finished. Time moves only to the next thing that
//! happens in the world or to the deadline that the scheduler itself returned: a deadline that was lost shows as a world
//! that stands still.
//!
//! Each promise is a line in [`World`] that returns an error; each [`Defect`] must make one of them speak.

mod life;
mod seeds;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use self::life::{Death, Happening, Life, Plan};
use super::*;
use crate::{
    fate::{Judge, Kind, OnFailure, Policy, Verdict},
    page::Page,
    task::Answer,
};

type Violation = String;
/// Partition and offset.
type At = (i32, i64);

macro_rules! promise {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

/// What outlives the process.
struct World {
    rng: fastrand::Rng,
    rules: Rules,
    policy: Policy,
    /// The offsets that there are, by partition, and where each log ends.
    log: BTreeMap<i32, Vec<i64>>,
    ends: BTreeMap<i32, i64>,
    plans: BTreeMap<At, Plan>,
    committed: BTreeMap<i32, i64>,
    written: BTreeMap<At, BTreeSet<Kind>>,
    /// Tasks that came to their end, and how often.
    ran: BTreeMap<At, u32>,
    hung: BTreeSet<At>,
    max_in_flight: usize,
    until_end: bool,
    /// Nothing fails and nobody crashes.
    calm: bool,
}

const COMMIT_LATENCY_MS: u64 = 20;

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let policy = Policy { reply: rng.bool(), dead_letter: rng.bool(), on_failure: OnFailure::Drop };
        let workers = rng.usize(1..=8);
        let calm = rng.u8(0..3) == 0;
        let rules = Rules {
            workers,
            span: if rng.bool() { 1 << 20 } else { rng.usize(1..=40) },
            commit_interval: Duration::from_millis(rng.u64(0..=1500)),
            grace: Duration::from_millis(rng.u64(0..=3000)),
        };
        let (mut log, mut ends, mut plans) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let short = rng.bool();
        for partition in 0..rng.i32(1..=4) {
            let mut offset = rng.i64(0..50);
            let mut offsets = Vec::new();
            for _ in 0..rng.usize(0..=150) {
                if rng.u8(0..10) == 0 {
                    offset += rng.i64(1..100);
                }
                offsets.push(offset);
                plans.insert((partition, offset), Plan::new(&mut rng, short, calm));
                offset += 1;
            }
            // A tail of what is not there: markers, or what was compacted away.
            ends.insert(partition, offset + if rng.bool() { rng.i64(0..5) } else { 0 });
            log.insert(partition, offsets);
        }
        let max_in_flight = workers + rng.usize(0..100);
        let until_end = rng.bool();
        Self {
            rng,
            rules,
            policy,
            log,
            ends,
            plans,
            committed: BTreeMap::new(),
            written: BTreeMap::new(),
            ran: BTreeMap::new(),
            hung: BTreeSet::new(),
            max_in_flight,
            until_end,
            calm,
        }
    }

    /// Lives until all is worked off.
    fn run(&mut self, defect: Option<Defect>) -> Result<(), Violation> {
        let mut faulty_lives = if self.calm { 0 } else { self.rng.u32(0..4) };
        loop {
            let faulty = faulty_lives > 0;
            faulty_lives = faulty_lives.saturating_sub(1);
            let ran_before = self.ran.clone();
            let committed_before = self.committed.clone();
            let mut life = self.begin(faulty, defect);
            let death = self.live(&mut life)?;
            self.look_back(&life, &death, &ran_before, &committed_before)?;
            if !faulty {
                promise!(death == Death::Clean, "10: a calm life ended by {death:?}");
                break;
            }
        }
        promise!(self.all_worked_off(), "2: stuck: committed {:?}, log ends {:?}", self.committed, self.ends);
        for (at, plan) in &self.plans {
            promise!(self.is_settled(*at), "1: {at:?} has no fate, {plan:?}");
        }
        Ok(())
    }

    fn all_worked_off(&self) -> bool {
        self.ends.iter().all(|(partition, end)| self.committed.get(partition) == Some(end))
    }

    /// What must be acknowledged of a message before it may count as finished.
    fn wanted(&self, at: At) -> BTreeSet<Kind> {
        let Policy { reply, dead_letter, .. } = self.policy;
        match &self.plans[&at].verdict {
            Verdict::Succeeded(Answer::Reply { .. }) if reply => [Kind::Reply].into(),
            Verdict::Succeeded(_) => [].into(),
            _ => {
                let kinds = [(dead_letter, Kind::DeadLetter), (reply, Kind::FailureReply)];
                kinds.into_iter().filter(|(wanted, _)| *wanted).map(|(_, kind)| kind).collect()
            }
        }
    }

    fn is_settled(&self, at: At) -> bool {
        let written = self.written.get(&at);
        self.ran.contains_key(&at) && self.wanted(at).iter().all(|kind| written.is_some_and(|w| w.contains(kind)))
    }

    fn begin(&mut self, faulty: bool, defect: Option<Defect>) -> Life {
        let now = Instant::now();
        let mut scheduler = Scheduler::new(self.rules.clone(), now);
        scheduler.defect = defect;
        let (mut read, mut assignments) = (BTreeMap::new(), Vec::new());
        for (partition, offsets) in &self.log {
            let committed = self.committed.get(partition).copied();
            let start = committed.unwrap_or_else(|| offsets.first().copied().unwrap_or(self.ends[partition]));
            read.insert(*partition, (offsets.partition_point(|o| *o < start), start, false));
            let assignment = Assignment {
                id: AssignmentId(*partition as u64),
                source: Arc::new(TopicPartition::new("in", *partition)),
                start: Offset(start),
                committed: committed.map(Offset),
                end: self.until_end.then(|| Offset(self.ends[partition])),
            };
            assignments.push(assignment);
        }
        scheduler.assign(assignments, now);
        let mut life = Life {
            scheduler,
            now,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            number: 0,
            read,
            held: 0,
            running: BTreeSet::new(),
            begun: BTreeSet::new(),
            finished: BTreeSet::new(),
            busy: 0,
            given_back: false,
            committed: BTreeSet::new(),
            draining: None,
            dirty_since: None,
            fault_free: !faulty,
        };
        if faulty {
            let when = Duration::from_millis(self.rng.u64(0..4000));
            life.plan(when, if self.rng.bool() { Happening::Crash } else { Happening::Drain });
        }
        life
    }

    fn live(&mut self, life: &mut Life) -> Result<Death, Violation> {
        for _ in 0..100_000 {
            self.poll(life)?;
            if let Some(summary) = life.scheduler.poll_end(life.now) {
                return self.ended(life, &summary);
            }
            let timeout = life.scheduler.poll_timeout();
            let next = life.queue.peek().map(|Reverse((at, _))| *at);
            let idle = next.is_none() && life.running.is_empty();
            let far = timeout.is_some_and(|at| at >= life.now + IDLE_COMMIT / 2);
            if idle && (timeout.is_none() || far) && life.draining.is_none() {
                // The world stands still: nothing may be left to do.
                promise!(self.all_worked_off(), "2: stands still: {:?} of {:?}", self.committed, self.ends);
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
        self.fetch(life);
        while let Some(load) = life.scheduler.poll_load(life.now) {
            self.start(life, load)?;
        }
        while let Some(write) = life.scheduler.poll_write() {
            self.write(life, write);
        }
        while let Some((_, freed)) = life.scheduler.poll_freed() {
            life.held -= freed.records;
        }
        if let Some(commits) = life.scheduler.poll_commit(life.now) {
            self.commit(life, &commits)?;
        }
        Ok(())
    }

    /// Plans a fetch for each partition that has something to read and room for it.
    fn fetch(&mut self, life: &mut Life) {
        for (partition, offsets) in &self.log {
            let (handed, next, under_way) = life.read[partition];
            let room = self.max_in_flight - life.held;
            let left = offsets.len() - handed;
            if under_way || (left > 0 && room == 0) || (left == 0 && next >= self.ends[partition]) {
                continue;
            }
            let count = if left == 0 { 0 } else { self.rng.usize(1..=left.min(room)) };
            life.held += count;
            life.read.insert(*partition, (handed, next, true));
            let wait = Duration::from_micros(self.rng.u64(0..5000));
            life.plan(wait, Happening::Fetched { partition: *partition, upto: handed + count });
        }
    }

    fn start(&mut self, life: &mut Life, load: Load) -> Result<(), Violation> {
        promise!(life.draining.is_none(), "10: a task started while draining");
        life.busy += 1;
        promise!(life.busy <= self.rules.workers, "9: {} loads on {} workers", life.busy, self.rules.workers);
        promise!((1..=MAX_LOAD).contains(&load.records.len()), "9: a load of {}", load.records.len());
        let mut elapsed = Duration::ZERO;
        let (mut done, mut todo, mut late) = (Vec::new(), Vec::new(), None);
        for record in load.records {
            let at = at(&record);
            promise!(life.begun.insert(at), "3: {at:?} started twice in one life");
            let committed = self.committed.get(&at.0).copied().unwrap_or(0);
            promise!(
                at.1 >= committed || life.finished.contains(&at),
                "3: {at:?} started below the commit {committed}"
            );
            let plan = &self.plans[&at];
            if late.is_some() {
                life.begun.remove(&at);
                todo.push(record);
                continue;
            }
            life.running.insert(at);
            elapsed += plan.time;
            if plan.hangs_once && !life.fault_free && self.hung.insert(at) {
                late = Some((record, None));
            } else if elapsed > Duration::from_millis(1) {
                late = Some((record, Some(elapsed)));
            } else {
                done.push(record);
            }
        }
        let overdue = Duration::from_millis(1);
        match late {
            None => life.plan(elapsed, Happening::News { done, todo, ended: true }),
            Some((record, ends)) => {
                if !done.is_empty() || !todo.is_empty() {
                    life.given_back |= !todo.is_empty();
                    life.plan(overdue, Happening::News { done, todo, ended: false });
                }
                if let Some(elapsed) = ends {
                    life.plan(elapsed, Happening::News { done: vec![record], todo: Vec::new(), ended: true });
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, life: &mut Life, write: Write) {
        let Write { kind, ticket, record } = write;
        let at = (ticket.assignment.0 as i32, ticket.offset.0);
        let wait = Duration::from_micros(self.rng.u64(100..30_000));
        // The broker may have it although the answer never comes.
        if !life.fault_free && self.rng.u8(0..10) == 0 {
            self.written.entry(at).or_default().insert(kind);
        }
        let too_large = record.value.is_some() && kind == Kind::DeadLetter && self.rng.u8(0..20) == 0;
        let written = if too_large { Written::TooLarge(ticket, record) } else { Written::Acknowledged(ticket) };
        life.plan(wait, Happening::Written(written, at, kind));
    }

    fn commit(&mut self, life: &mut Life, commits: &BTreeMap<i32, Committed>) -> Result<(), Violation> {
        let mut offsets = BTreeMap::new();
        for (partition, commit) in commits {
            let offset = commit.offset.0;
            let (_, read, _) = life.read[partition];
            let visible = self.log[partition].iter().filter(|o| **o < read);
            let lowest = visible.copied().filter(|o| *o >= self.committed.get(partition).copied().unwrap_or(0));
            let lowest =
                lowest.into_iter().find(|o| !self.is_settled((*partition, *o)) || self.reruns(life, (*partition, *o)));
            let lowest = lowest.unwrap_or(read);
            promise!(offset <= lowest, "1: commit of {partition}:{offset}, lowest unfinished is {lowest}");
            let before = self.committed.get(partition).copied().unwrap_or(0);
            promise!(offset >= before, "5: commit of {partition} goes back from {before} to {offset}");
            offsets.insert(*partition, offset);
        }
        if let (Some(since), Some(draining)) = (life.dirty_since.take(), life.draining.filter(|_| life.fault_free)) {
            let waited = life.now.duration_since(since.max(draining));
            promise!(waited <= Duration::from_millis(100), "10: an outcome waited {waited:?} for its commit");
        }
        let fails = !life.fault_free && self.rng.u8(0..4) == 0;
        let kept = !fails || self.rng.bool();
        let wait = Duration::from_millis(self.rng.u64(1..=COMMIT_LATENCY_MS));
        life.plan(wait, Happening::Committed { offsets, acknowledged: !fails, kept });
        Ok(())
    }

    /// It was settled in an earlier life, and this life has not finished it again.
    fn reruns(&self, life: &Life, at: At) -> bool {
        !life.finished.contains(&at)
    }

    fn happens(&mut self, life: &mut Life, happening: Happening) -> Result<bool, Violation> {
        match happening {
            Happening::Crash => return Ok(true),
            Happening::Drain => {
                life.draining.get_or_insert(life.now);
                life.scheduler.drain(life.now);
            }
            Happening::Fetched { partition, upto } => {
                let (handed, _, _) = life.read[&partition];
                let offsets = &self.log[&partition];
                let source = Arc::new(TopicPartition::new("in", partition));
                let records = offsets[handed..upto].iter().map(|offset| Record {
                    source: Arc::clone(&source),
                    ..crate::testing::record(*offset, Some(b"v"))
                });
                let records = records.collect();
                let next = offsets.get(upto).copied().unwrap_or(self.ends[&partition]);
                life.read.insert(partition, (upto, next, false));
                life.scheduler.handle_fetched(AssignmentId(partition as u64), records, Offset(next), life.now);
            }
            Happening::News { done, todo, ended } => self.news(life, done, todo, ended)?,
            Happening::Written(written, at, kind) => {
                if matches!(written, Written::Acknowledged(_)) {
                    self.written.entry(at).or_default().insert(kind);
                    self.settle(life, at);
                }
                life.scheduler.handle_written(written, life.now);
            }
            Happening::Committed { offsets, acknowledged, kept } => {
                if kept {
                    life.committed.extend(offsets.keys());
                    self.committed.extend(offsets);
                }
                life.scheduler.handle_committed(acknowledged, life.now);
            }
        }
        if life.scheduler.phase != Phase::Running {
            life.draining.get_or_insert(life.now);
        }
        Ok(false)
    }

    fn news(&mut self, life: &mut Life, done: Vec<Record>, todo: Vec<Record>, ended: bool) -> Result<(), Violation> {
        let any = done.first().or(todo.first()).expect("news of something");
        let id = AssignmentId(any.source.partition as u64);
        let mut outcomes = Vec::new();
        let mut page = Page::default();
        let mut judge = Judge { policy: self.policy, group: "g", page: &mut page };
        for record in done {
            let at = at(&record);
            promise!(life.running.remove(&at), "3: {at:?} ended but did not run");
            *self.ran.entry(at).or_default() += 1;
            self.settle(life, at);
            let Plan { verdict, time, .. } = self.plans[&at].clone();
            outcomes.push(fate::decide(record, verdict, time, &mut judge));
        }
        if ended {
            life.busy -= 1;
        }
        life.scheduler.handle_done(id, outcomes, life.now);
        life.scheduler.handle_returned(id, todo.into_iter());
        if ended {
            life.scheduler.handle_load_ended();
        }
        Ok(())
    }

    fn settle(&mut self, life: &mut Life, at: At) {
        if self.is_settled(at) && life.begun.contains(&at) && !life.running.contains(&at) {
            life.finished.insert(at);
            let below = life.begun.range((at.0, 0)..at);
            if below.clone().all(|below| life.finished.contains(below)) {
                life.dirty_since.get_or_insert(life.now);
            }
        }
    }

    fn ended(&self, life: &Life, summary: &Summary) -> Result<Death, Violation> {
        let drained = life.draining.map_or(Duration::ZERO, |since| life.now.duration_since(since));
        let bound = self.rules.grace + LAST_COMMIT + Duration::from_millis(COMMIT_LATENCY_MS);
        promise!(drained <= bound, "10: the drain took {drained:?}, with a grace of {:?}", self.rules.grace);
        if !summary.forced {
            promise!(life.running.is_empty(), "10: a clean end with {:?} running", life.running);
            for (partition, offset) in &summary.committed {
                promise!(self.committed.get(partition) == Some(offset), "10: a clean end without its last commit");
            }
        }
        Ok(if summary.forced { Death::Forced } else { Death::Clean })
    }

    /// What ran again, and whether it might.
    fn look_back(
        &self,
        life: &Life,
        death: &Death,
        ran_before: &BTreeMap<At, u32>,
        committed_before: &BTreeMap<i32, i64>,
    ) -> Result<(), Violation> {
        for (at, times) in &self.ran {
            let before = ran_before.get(at).copied().unwrap_or(0);
            promise!(times - before <= 1, "3: {at:?} ran {} times in one life", times - before);
            let committed = committed_before.get(&at.0).copied().unwrap_or(0);
            promise!(*times == before || at.1 >= committed, "3: {at:?} ran again below the commit {committed}");
        }
        if *death == Death::Clean {
            let all = self.log.keys().all(|partition| life.committed.contains(partition));
            promise!(all, "5: only {:?} were committed, others may expire", life.committed);
        }
        if *death == Death::Clean && !life.given_back {
            for at in &life.finished {
                promise!(at.1 < self.committed[&at.0], "3: a clean stop will repeat {at:?}");
            }
        }
        Ok(())
    }
}

fn at(record: &Record) -> At {
    (record.source.partition, record.offset.0)
}
