//! The engine's loop (`engine.rs`), played, with the threads and the fetch loops.

use super::{process::Loop, world::World, *};
use crate::{
    fate::{self, Fate as Ending, Judge, OnFailure, Policy, Verdict},
    group::{Deal, Order},
    page::Page,
    record::LeaderEpoch,
    scheduler::{Load, Written},
};

/// How long the group is told that we leave, as in `engine/grouped.rs`.
const LEAVING: Duration = Duration::from_secs(3);

impl World {
    /// Something has come for the engine: what was dealt is always taken in first.
    pub(super) fn wake_engine(&mut self, at: usize, incoming: Option<Incoming>) -> Result<(), Violation> {
        let now = self.now;
        while let Some(deal) = self.processes[at].deals.pop_front() {
            self.take_deal(at, deal)?;
            self.poll_engine(at)?;
        }
        if self.processes[at].stage != Stage::Runs {
            return Ok(());
        }
        match incoming {
            Some(Incoming::Drain) => {
                let process = &mut self.processes[at];
                process.draining.get_or_insert(now);
                process.scheduler.drain(now);
            }
            Some(Incoming::Done(id, records)) => self.done(at, id, records),
            Some(Incoming::Fetched(id, records, next)) => {
                let process = &mut self.processes[at];
                if let Some(reading) = process.loops.get_mut(&id) {
                    (reading.next, reading.busy) = (next, false);
                    if process.scheduler.running() {
                        self.books.read(at, id, next);
                    }
                }
                let process = &mut self.processes[at];
                let end = Offset(next);
                process.scheduler.handle_fetched(id, records, (end, LeaderEpoch(0)), end, now);
            }
            Some(Incoming::Delivered(written)) => {
                for written in written {
                    if let Written::Acknowledged(ticket) = &written {
                        self.books.finish(at, ticket.of());
                    }
                    self.processes[at].scheduler.handle_written(written, now);
                }
            }
            Some(Incoming::Looked(looked)) if looked.is_empty() => {
                self.processes[at].scheduler.handle_unanswered(now);
            }
            Some(Incoming::Looked(looked)) => self.processes[at].scheduler.handle_looked(looked, now),
            _ => {}
        }
        self.poll_engine(at)
    }

    fn take_deal(&mut self, at: usize, deal: Deal) -> Result<(), Violation> {
        let process = &self.processes[at];
        match &deal {
            Deal::Taken(dealt) if process.scheduler.running() => {
                promise!(dealt.losses.is_empty(), "6: {:?}, and nothing is gone", dealt.losses);
                let assignments = dealt.taken.iter().flat_map(|taken| taken.assignments.clone());
                for assignment in assignments.collect::<Vec<_>>() {
                    self.take_hold(at, cluster::key(&assignment.source), assignment.start.0, assignment.finished)?;
                }
            }
            Deal::Revoked(partitions, until) => {
                for source in partitions {
                    self.books.leave(at, cluster::key(source), *until);
                }
            }
            Deal::Lost(..) => self.end_all(at),
            _ => {}
        }
        let process = &mut self.processes[at];
        process.share.take(&mut process.scheduler, deal, self.now);
        Ok(())
    }

    fn poll_engine(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now;
        while let Some(begin) = self.processes[at].scheduler.poll_begin() {
            let key = cluster::key(&begin.source);
            self.books.begin(at, begin.id, key);
            self.processes[at].loops.insert(begin.id, Loop { key, next: begin.start.0, busy: false });
        }
        self.take_over(at)?;
        while let Some(id) = self.processes[at].scheduler.poll_over() {
            self.processes[at].loops.remove(&id);
        }
        while let Some(load) = self.processes[at].scheduler.poll_load(now) {
            self.start(at, load)?;
        }
        while let Some(write) = self.processes[at].scheduler.poll_write() {
            let process = &mut self.processes[at];
            process.sink.push(process.share.era, write);
        }
        if self.processes[at].sink.waits() {
            self.plan_for(at, 0..2, Incoming::Attempt);
        }
        while let Some((_, freed)) = self.processes[at].scheduler.poll_freed() {
            let process = &mut self.processes[at];
            promise!(freed.records <= process.held, "9: more room comes back than was taken");
            process.held -= freed.records;
        }
        self.release(at)?;
        if let Some(ask) = self.processes[at].scheduler.poll_ask(now) {
            self.ask(at, ask)?;
        }
        if let Some(summary) = self.processes[at].scheduler.poll_end(now) {
            promise!(summary.error.is_none(), "6: {at} ends: {:?}", summary.error);
            return self.ended(at, summary.forced);
        }
        self.fetch(at);
        Ok(())
    }

    /// Gives up what was revoked and is done, and says so.
    fn release(&mut self, at: usize) -> Result<(), Violation> {
        let (now, process) = (self.now, &mut self.processes[at]);
        process.share.settle(&mut process.scheduler, now);
        if process.share.released.is_empty() {
            return Ok(());
        }
        let released = std::mem::take(&mut process.share.released);
        for source in &released {
            self.give_up(at, cluster::key(source))?;
        }
        if self.planted != Some(Planted::ForgetRelease) {
            self.processes[at].orders.push_back(Order::Released(released));
            self.plan_for(at, 0..3, Incoming::Orders);
        }
        Ok(())
    }

    fn start(&mut self, at: usize, load: Load) -> Result<(), Violation> {
        let process = &mut self.processes[at];
        process.busy += 1;
        promise!(process.busy <= process.workers, "9: {} loads on {} workers", process.busy, process.workers);
        promise!(process.draining.is_none(), "10: {at} starts a task while it drains");
        let mut time = Duration::ZERO;
        for record in &load.records {
            let key = cluster::key(&record.source);
            self.check_start(at, load.assignment, (key, record.offset.0))?;
            time += self.cluster.plans[&(key, record.offset.0)].time;
        }
        self.plan(time, Event::To(at, Incoming::Done(load.assignment, load.records)));
        Ok(())
    }

    fn done(&mut self, at: usize, id: AssignmentId, records: Vec<Record>) {
        let policy = Policy { reply: true, dead_letter: false, on_failure: OnFailure::Drop };
        let mut page = Page::default();
        let mut judge = Judge { policy, group: "g", page: &mut page };
        let mut all = Vec::new();
        for record in records {
            let offset = record.offset;
            let plan = self.cluster.plans[&(cluster::key(&record.source), offset.0)];
            let answer = if plan.answers { crate::task::Answer::value("a") } else { crate::task::Answer::None };
            let done = fate::decide(record, Verdict::Succeeded(answer), plan.time, &mut judge);
            if matches!(done.fate, Ending::Silent) {
                self.books.finish_silently(at, (id, offset));
            } else {
                self.books.end(at, (id, offset));
            }
            all.push(done);
        }
        let (now, process) = (self.now, &mut self.processes[at]);
        process.busy -= 1;
        process.scheduler.handle_done(id, all, now);
        process.scheduler.handle_load_ended();
    }

    /// Plans a fetch for each partition that has something to read and room for it.
    pub(super) fn fetch(&mut self, at: usize) {
        if !self.processes[at].runs() || self.processes[at].cut == Cut::Everything {
            return;
        }
        let idle = self.processes[at].loops.iter().filter(|(_, reading)| !reading.busy);
        let idle: Vec<_> = idle.map(|(id, reading)| (*id, reading.key, reading.next)).collect();
        for (id, key, next) in idle {
            let log = self.cluster.log(key);
            let there = &log.records[log.records.partition_point(|offset| *offset < next)..];
            let process = &self.processes[at];
            let room = process.room - process.held;
            if next >= log.end || !there.is_empty() && room == 0 {
                continue;
            }
            let count = if there.is_empty() { 0 } else { self.rng.usize(1..=there.len().min(room)) };
            let source = Arc::new(TopicPartition::new(Arc::clone(&self.cluster.topics[key.0].name), key.1));
            let records = there[..count]
                .iter()
                .map(|offset| Record { source: Arc::clone(&source), ..crate::testing::record(*offset, Some(b"v")) });
            let (records, next) = (records.collect(), there.get(count).copied().unwrap_or(log.end));
            let process = &mut self.processes[at];
            process.held += count;
            process.loops.get_mut(&id).expect("it is idle").busy = true;
            self.plan_for(at, 0..6, Incoming::Fetched(id, records, next));
        }
    }

    fn ended(&mut self, at: usize, forced: bool) -> Result<(), Violation> {
        self.check_end(at, forced)?;
        let (now, process) = (self.now, &mut self.processes[at]);
        let waited = process.draining.map_or(Duration::ZERO, |since| now.duration_since(since));
        let bound = self.grace + scheduler::LAST_COMMIT + Duration::from_millis(50);
        promise!(process.held_up || waited <= bound, "10: the drain of {at} took {waited:?}");
        process.stage = Stage::Leaves;
        process.loops.clear();
        process.orders.push_back(Order::Leave);
        self.plan(LEAVING, Event::Gone(at));
        self.plan_for(at, 0..3, Incoming::Orders);
        Ok(())
    }
}
