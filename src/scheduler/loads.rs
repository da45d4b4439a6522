//! PURE. What the workers are to do, and what they give back.
//!
//! ```text
//!   partitions with something to start, in a ring ──poll_load──▶ worker ──▶ handle_done (scheduler.rs)
//!                   ▲                                              │
//!                   └───────────────── handle_returned ────────────┘ what did not begin
//! ```

use super::*;

impl Scheduler {
    /// What a free worker is to do. After it, [`handle_load_ended`](Self::handle_load_ended) is called once.
    pub fn poll_load(&mut self, now: Instant) -> Option<Load> {
        self.expire_orphans(now);
        let full = self.busy >= self.rules.workers && !self.breaks(Defect::TooManyWorkers);
        if full || !(self.phase.is_running() || self.breaks(Defect::StartWhileDraining)) {
            return None;
        }
        let most = self.load_size();
        let run_twice = self.breaks(Defect::RunTwice);
        // A life that is over may be in the ring with nothing to start any more.
        while let Some(id) = self.ready.pop_front() {
            let Some(life) = self.lives.get_mut(&id) else { continue };
            life.ready = false;
            let mut records = Vec::with_capacity(most);
            while records.len() < most
                && let Some((_, record)) = life.tracker.start()
            {
                records.push(record);
            }
            let Some(last) = records.last() else { continue };
            if run_twice {
                life.tracker.give_back(last.offset, last.clone());
            }
            self.queue(id);
            self.busy += 1;
            self.counters.first_task.get_or_insert(now);
            return Some(Load { assignment: id, records });
        }
        None
    }

    /// How many records go to the next worker: one, unless tasks are so short that the way to the worker is what costs.
    /// Then few threads that stay awake do more than many that are woken for a little each.
    fn load_size(&self) -> usize {
        if self.task_nanos > nanos(SHORT_TASK) {
            return 1;
        }
        let by_time = nanos(LOAD_TIME) / self.task_nanos.max(1);
        usize::try_from(by_time).unwrap_or(MAX_LOAD).clamp(1, MAX_LOAD)
    }

    /// Takes back what was in a load and did not begin to run.
    pub fn handle_returned(&mut self, id: AssignmentId, records: impl DoubleEndedIterator<Item = Record>) {
        for record in records.rev() {
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
    fn start_or_abandon(&mut self, id: AssignmentId) {
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
