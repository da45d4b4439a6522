//! PURE. What the workers are to do, and what they give back.
//!
//! ```text
//!   partitions with something to start, in a ring ──poll_load──▶ worker ──▶ handle_done (scheduler.rs)
//!                   ▲                                              │
//!                   └───────────────── handle_returned ────────────┘ what did not begin
//! ```
//!
//! What has to wait for its turn is parked on the way (`lanes.rs`). While the circuit is open, one record at a time is tried.

use super::*;

impl Scheduler {
    /// What a free worker is to do. After it, [`handle_load_ended`](Self::handle_load_ended) is called once.
    pub fn poll_load(&mut self, now: Instant) -> Option<Load> {
        self.expire_orphans(now);
        self.end_waits(now);
        let full = self.busy >= self.rules.workers && !self.breaks(Defect::TooManyWorkers);
        if full || !(self.phase.is_running() || self.breaks(Defect::StartWhileDraining)) {
            return None;
        }
        if self.breaker.is_open() && !self.breaks(Defect::StartInOutage) {
            return self.poll_try(now);
        }
        if self.pace.next().is_some_and(|next| next > now) {
            return None;
        }
        let most = self.load_size();
        let (run_twice, overtake) = (self.breaks(Defect::RunTwice), self.breaks(Defect::Overtake));
        // A life that is over may be in the ring with nothing to start any more.
        while let Some(id) = self.ready.pop_front() {
            let Some(life) = self.lives.get_mut(&id) else { continue };
            life.ready = false;
            let mut records = Vec::with_capacity(most);
            while records.len() < most
                && let Some(record) = self.lanes.start(life, id, overtake)
            {
                records.push(record);
            }
            let Some(last) = records.last() else { continue };
            if run_twice {
                life.tracker.give_back(last.offset, last.clone());
            }
            return Some(self.load(id, records, now));
        }
        None
    }

    /// While the circuit is open: the one to be tried next, if it is time. Those that have run and those that have not take
    /// turns.
    fn poll_try(&mut self, now: Instant) -> Option<Load> {
        if !self.breaker.may_try(now) || self.breaks(Defect::NeverTry) {
            return None;
        }
        let first = self.breaker.prefers_fresh();
        for fresh in [first, !first] {
            for _ in 0..self.ready.len() {
                let id = self.ready.pop_front()?;
                let Some(life) = self.lives.get_mut(&id) else { continue };
                life.ready = false;
                let record = if fresh { self.lanes.start_fresh(life, id) } else { self.lanes.start(life, id, false) };
                match record {
                    Some(record) => {
                        self.breaker.trying(id, record.offset);
                        return Some(self.load(id, vec![record], now));
                    }
                    None => self.queue(id),
                }
            }
        }
        None
    }

    /// Notes that these records go to a worker.
    fn load(&mut self, id: AssignmentId, records: Vec<Record>, now: Instant) -> Load {
        self.queue(id);
        self.busy += 1;
        self.pace.start(records.len(), now);
        self.counters.first_task.get_or_insert(now);
        Load { assignment: id, records }
    }

    /// How many records go to the next worker: one, unless tasks are so short that the way to the worker is what costs.
    /// Then few threads that stay awake do more than many that are woken for a little each.
    fn load_size(&self) -> usize {
        if self.task_nanos > nanos(SHORT_TASK) || self.pace.is_limited() {
            return 1;
        }
        let by_time = nanos(LOAD_TIME) / self.task_nanos.max(1);
        usize::try_from(by_time).unwrap_or(MAX_LOAD).clamp(1, MAX_LOAD)
    }

    /// Takes back what was in a load and did not begin to run.
    pub fn handle_returned(&mut self, id: AssignmentId, records: impl DoubleEndedIterator<Item = Record>) {
        for record in records.rev() {
            self.breaker.not_tried(id, record.offset);
            let heir = self.orphans.heir(id, record.offset);
            let Some(life) = self.lives.get_mut(&heir) else { return };
            if life.is_past(record.offset) {
                self.return_past(heir, &record);
                continue;
            }
            life.tracker.give_back(record.offset, record);
            if heir != id {
                self.start_or_abandon(heir);
            }
        }
        self.start_or_abandon(id);
    }

    /// What becomes of what waits of a life, to which something was given back.
    pub(super) fn start_or_abandon(&mut self, id: AssignmentId) {
        match self.lives.get(&id) {
            None => {}
            Some(life) if life.leaving => self.abandon_and_free(id),
            Some(_) if self.phase.is_running() => self.queue(id),
            Some(_) => self.abandon(id),
        }
    }

    /// Notes that a worker is free again.
    pub fn handle_load_ended(&mut self) {
        self.busy -= 1;
    }

    /// Puts a partition into the ring, if it is not there and has something to start.
    pub(super) fn queue(&mut self, id: AssignmentId) {
        let life = self.lives.get_mut(&id).expect("it is there");
        if !life.ready && life.tracker.can_start() {
            life.ready = true;
            self.ready.push_back(id);
        }
    }

    pub(super) fn abandon(&mut self, id: AssignmentId) {
        let life = self.lives.get_mut(&id).expect("it is there");
        life.tracker.abandon_waiting();
    }
}
