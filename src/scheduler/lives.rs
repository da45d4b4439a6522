//! PURE. The lives of a partition: what follows when its log is not what it was.
//!
//! ```text
//!   the log was cut off at 70, and has grown again to 90
//!
//!   first life     ──────────────────────┼ ─ ─ ─ ─ ─   read up to 85: below 70 it goes on to its end, and is committed;
//!                  committable           70        85  what began at 70 and above is a ghost: it ends, and comes to nothing
//!   second life                          ├──────────▶  begins at 70 (earliest) or at 90 (latest); committed once the first
//!                                                      is done
//! ```
//!
//! Where the topic is another, nothing of the old life is ours any more: all that runs is a ghost. Nothing is written of
//! what has become one (promise 4), except what was on its way to the broker already. A life that is done and has no ghosts
//! is forgotten.
//!
//! With `--until-end` a life ends where the log ended when the life began; a partition that is added is not worked off.

use super::{parts::NOTHING, *};
use crate::{
    lineage::{Bounds, Told, Verified},
    loss::{OnDataLoss, Why},
    progress::Finished,
    tracker::Tracker,
};

/// The most losses that are kept for the summary.
const MAX_LOSSES: usize = 1000;

impl Scheduler {
    /// Takes in that the log of a life may not be what it was: a look is due at once. The fetch loop has ended.
    pub fn handle_unsure(&mut self, id: AssignmentId, now: Instant) {
        if let Some(life) = self.lives.get_mut(&id).filter(|life| life.until.is_none()) {
            life.unsure = true;
            self.next_look = now;
        }
    }

    /// Takes in that a life cannot be read just now: a look is due at once. What was read is all of its log, because nothing
    /// more is handed over before [`handle_unsure`](Self::handle_unsure).
    pub fn handle_away(&mut self, id: AssignmentId, now: Instant) {
        if let Some(life) = self.lives.get_mut(&id).filter(|life| life.until.is_none()) {
            life.away = true;
            self.next_look = now;
        }
    }

    /// Takes in that nothing is heard of the topic: a look is due at once.
    pub fn handle_missing(&mut self, now: Instant) {
        self.next_look = now;
    }

    /// Where reading is to begin, or, for a life whose fetch loop has ended, to go on.
    pub fn poll_begin(&mut self) -> Option<Begin> {
        self.begins.pop_front()
    }

    /// What is to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Whether a life is one that is read.
    #[must_use]
    pub fn reads_on(&self, id: AssignmentId) -> bool {
        self.lives.get(&id).is_some_and(|life| life.until.is_none())
    }

    /// Whether a life is still known, or something of it under way.
    #[must_use]
    pub fn knows(&self, id: AssignmentId) -> bool {
        self.lives.contains_key(&id)
    }

    /// Notes data that was found to be gone, and tells of it.
    pub fn lose(&mut self, loss: DataLoss) {
        tracing::warn!(partition = %loss.source, why = loss.why.name(), "data is gone: {loss}");
        self.events.push_back(Event::DataLoss(loss.clone()));
        if self.losses.len() < MAX_LOSSES {
            self.losses.push(loss);
        }
    }

    /// Begins a life of a partition that is known.
    pub(super) fn begin(&mut self, assignment: Assignment) {
        let Assignment { id, source, start, end, latest, epoch, finished, .. } = assignment;
        self.next_life = self.next_life.max(id.0 + 1);
        self.begins.push_back(Begin { id, source: Arc::clone(&source), topic_id: self.topic_id, start, end });
        let life = Life {
            source,
            tracker: Tracker::new(start, self.rules.span).with_finished(finished),
            end,
            until: None,
            ghosts: 0,
            latest,
            seen: latest,
            told: Told::nothing(start),
            verified: Verified { next: start, epoch },
            unsure: false,
            away: false,
            freed: Freed::default(),
            ready: false,
        };
        let known = self.lives.insert(id, life);
        assert!(known.is_none(), "{id:?} assigned twice");
    }

    pub(super) fn handle_findings(&mut self, findings: Vec<Finding>, now: Instant) {
        if !findings.contains(&Finding::Missing)
            && let Some(since) = self.missing_since.take_if(|_| !findings.is_empty())
        {
            tracing::info!(after = ?now.duration_since(since), "the topic is there again");
        }
        for finding in findings {
            match finding {
                Finding::Holds { partition, life, verified } => {
                    if self.is_current(partition, life) {
                        let life = self.lives.get_mut(&life).expect("it is there");
                        (life.verified, life.seen) = (verified, life.latest);
                    }
                }
                Finding::Reread { partition, life, verified, held } => {
                    self.reread(partition, life, verified, held, now);
                }
                Finding::Deleted { partition, life, bounds } => self.deleted(partition, life, bounds, now),
                Finding::Truncated { partition, life, at, bounds } => self.truncated(partition, life, at, bounds, now),
                Finding::Added { partition, bounds } => self.added(partition, bounds, now),
                Finding::Recreated { was, now: is, bounds } => self.recreated(was, is, &bounds, now),
                Finding::Missing => self.missing(now),
            }
        }
    }

    /// What a look found out about a life that is over by now says nothing.
    fn is_current(&self, number: i32, id: AssignmentId) -> bool {
        self.partitions.get(&number).is_some_and(|partition| partition.current() == id)
    }

    fn reread(&mut self, number: i32, id: AssignmentId, verified: Verified, held: Option<Offset>, now: Instant) {
        if !self.is_current(number, id) {
            return;
        }
        let life = &self.lives[&id];
        let (read, end, latest, source) = (life.tracker.next(), life.end, life.latest, Arc::clone(&life.source));
        // What there was at the start and was cut off before it was read is not waited for.
        let end = end.map(|end| held.map_or(end, |held| end.min(held)));
        if verified.next < read {
            tracing::info!(
                partition = %source,
                from = verified.next.0,
                to = read.0,
                "the leader changed, and what was read meanwhile cannot be told apart: reading it again"
            );
        }
        self.retire(id, verified.next);
        self.verify(id, verified);
        self.go_on(number, verified.next, end, Bounds { earliest: verified.next, latest, epoch: verified.epoch }, now);
    }

    fn deleted(&mut self, number: i32, id: AssignmentId, bounds: Bounds, now: Instant) {
        if !self.is_current(number, id) {
            return;
        }
        let life = self.lives.get_mut(&id).expect("it is there");
        (life.unsure, life.away) = (false, false);
        let (from, end) = (life.tracker.next(), life.end);
        let loss = self.loss(number, from, Some(bounds.earliest + -1), Why::Deleted, Some(bounds));
        if end.is_some_and(|end| from >= end) {
            return;
        }
        let Some(start) = self.settle_losses(vec![loss], now).and_then(|starts| starts.first().copied().flatten())
        else {
            return;
        };
        let life = self.lives.get_mut(&id).expect("it is there");
        life.tracker.skip_to(end.map_or(start, |end| start.min(end)));
        life.verified = Verified { next: life.tracker.next(), epoch: bounds.epoch };
        life.told = Told::nothing(life.tracker.next());
        life.latest = bounds.latest;
        let begin = Begin { id, source: Arc::clone(&life.source), topic_id: self.topic_id, start, end };
        self.begins.push_back(begin);
        self.progressed(number, now);
    }

    fn truncated(&mut self, number: i32, id: AssignmentId, at: Option<Offset>, bounds: Bounds, now: Instant) {
        if !self.is_current(number, id) {
            return;
        }
        let read = self.lives[&id].tracker.next();
        let from = at.unwrap_or(bounds.latest).min(read);
        // What was written anew may be deleted by now.
        let to = at.map_or(read, |_| read.max(bounds.earliest)) + -1;
        let mut loss = self.loss(number, from, Some(to).filter(|to| *to >= from), Why::Truncated, Some(bounds));
        // Where the logs parted is not known: to read again is all that loses nothing.
        loss.resumed_at = Some(at.unwrap_or(bounds.earliest).max(bounds.earliest));
        let Some(starts) = self.settle_losses(vec![loss], now) else { return };
        for id in self.partitions[&number].lives.clone() {
            self.retire(id, at.unwrap_or(NOTHING));
        }
        self.verify(id, Verified { next: from, epoch: bounds.epoch });
        if let Some(start) = starts[0] {
            let end = self.rules.until_end.then_some(bounds.latest);
            self.go_on(number, start, end, bounds, now);
        }
    }

    fn added(&mut self, number: i32, bounds: Bounds, now: Instant) {
        if self.partitions.contains_key(&number) {
            return;
        }
        if !self.phase.is_running() {
            self.ignored.insert(number);
            return;
        }
        let source = Arc::new(TopicPartition::new(Arc::clone(&self.topic), number));
        if self.rules.until_end {
            tracing::info!(partition = %source, "a partition was added, and is left to the next run (--until-end)");
            self.ignored.insert(number);
            return;
        }
        let mut start = bounds.earliest;
        if start > Offset(0) {
            let loss = self.loss_of(&source, Offset(0), Some(start + -1), Why::Deleted, Some(bounds));
            match self.settle_losses(vec![loss], now).and_then(|starts| starts[0]) {
                Some(at) => start = at,
                None => return,
            }
        }
        tracing::info!(partition = %source, start = start.0, "a partition was added");
        self.events.push_back(Event::PartitionAdded { source: Arc::clone(&source), start });
        self.open += 1;
        self.partitions.insert(number, Partition::new(source, Vec::new(), None));
        self.go_on(number, start, None, bounds, now);
    }

    fn recreated(&mut self, was: TopicId, is: TopicId, bounds: &BTreeMap<i32, Bounds>, now: Instant) {
        if was != self.topic_id {
            return;
        }
        if self.breaks(Defect::SameLife) {
            self.topic_id = is;
            return;
        }
        let numbers: Vec<_> = self.partitions.keys().copied().collect();
        let losses = numbers.iter().map(|number| {
            let bounds = bounds.get(number).copied();
            DataLoss { new_topic_id: Some(is), ..self.all_that_was_left(*number, Why::Recreated, bounds) }
        });
        // What was deleted of the new topic before it was found, behind the others.
        let deleted = bounds.iter().filter(|(number, bounds)| numbers.contains(number) && bounds.earliest > Offset(0));
        let deleted = deleted.map(|(number, bounds)| {
            let loss = self.loss(*number, Offset(0), Some(bounds.earliest + -1), Why::Deleted, Some(*bounds));
            DataLoss { topic_id: is, ..loss }
        });
        let losses = losses.chain(deleted).collect();
        let Some(starts) = self.settle_losses(losses, now) else { return };
        self.topic_id = is;
        for (number, start) in numbers.into_iter().zip(starts) {
            if !self.breaks(Defect::CommitPastLife) {
                for id in self.partitions[&number].lives.clone() {
                    self.retire(id, NOTHING);
                }
            }
            let partition = self.partitions.get_mut(&number).expect("it is there");
            (partition.committed, partition.committed_at) = (None, None);
            match (start, bounds.get(&number)) {
                (Some(start), Some(bounds)) => {
                    let end = self.rules.until_end.then_some(bounds.latest);
                    self.go_on(number, start, end, *bounds, now);
                }
                // The new topic has fewer partitions, or this one has no leader yet: then it is found later, as one that
                // was added.
                _ => self.give_up(number, now),
            }
        }
        self.ignored.retain(|number| bounds.contains_key(number));
        let mut known: BTreeSet<i32> = self.partitions.keys().chain(&self.ignored).copied().collect();
        for (number, bounds) in bounds {
            if known.insert(*number) && self.rules.all_partitions {
                self.added(*number, *bounds, now);
            }
        }
    }

    fn missing(&mut self, now: Instant) {
        let first = self.missing_since.is_none();
        let since = *self.missing_since.get_or_insert(now);
        let (topic, waited) = (Arc::clone(&self.topic), now.duration_since(since));
        if self.rules.on_data_loss == OnDataLoss::Stop {
            let numbers: Vec<_> = self.partitions.keys().copied().collect();
            let losses =
                numbers.iter().map(|number| self.all_that_was_left(*number, Why::TopicDeleted, None)).collect();
            self.settle_losses(losses, now);
        } else if waited >= self.rules.patience {
            self.stop(RunError::TopicGone { topic, waited }, now);
        } else if first {
            tracing::warn!(topic = &*topic, patience = ?self.rules.patience, "the topic was deleted: waiting for it to be made anew");
        }
    }

    /// Notes losses; or ends the run because of them, if that is what the user wants. Gives where to go on for each of
    /// them: nowhere, if the run is ending anyway, or the partition is not there.
    fn settle_losses(&mut self, losses: Vec<DataLoss>, now: Instant) -> Option<Vec<Option<Offset>>> {
        let running = self.phase.is_running();
        let settled = losses.into_iter().map(|loss| {
            let resumed_at = match (self.rules.on_data_loss, loss.log) {
                (OnDataLoss::Earliest, Some((earliest, _))) if running => loss.resumed_at.or(Some(earliest)),
                (OnDataLoss::Latest, Some((_, latest))) if running => Some(latest),
                _ => None,
            };
            DataLoss { resumed_at, ..loss }
        });
        let losses: Vec<_> = settled.collect();
        if !self.breaks(Defect::SilentJump) {
            for loss in &losses {
                self.lose(loss.clone());
            }
        }
        if self.rules.on_data_loss == OnDataLoss::Stop {
            self.stop(RunError::DataLoss { losses }, now);
            return None;
        }
        Some(losses.into_iter().map(|loss| loss.resumed_at).collect())
    }

    fn loss(&self, number: i32, from: Offset, to: Option<Offset>, why: Why, bounds: Option<Bounds>) -> DataLoss {
        self.loss_of(&self.partitions[&number].source, from, to, why, bounds)
    }

    fn loss_of(
        &self,
        source: &Arc<TopicPartition>,
        from: Offset,
        to: Option<Offset>,
        why: Why,
        bounds: Option<Bounds>,
    ) -> DataLoss {
        let log = bounds.map(|bounds| (bounds.earliest, bounds.latest));
        let source = Arc::clone(source);
        DataLoss { source, from, to, why, topic_id: self.topic_id, new_topic_id: None, log, resumed_at: None }
    }

    /// What was not finished of a partition whose topic is gone.
    fn all_that_was_left(&self, number: i32, why: Why, bounds: Option<Bounds>) -> DataLoss {
        let partition = &self.partitions[&number];
        let life = &self.lives[&partition.current()];
        // What was read since the last look may be of the topic that has the name now, unless reading has failed since.
        let (read, latest) = match life.away || life.unsure {
            true => (life.tracker.next(), life.latest),
            false => (life.verified.next.min(life.tracker.next()), life.seen),
        };
        let from = self.committable(partition).unwrap_or(read).min(read);
        let last = latest.max(read) + -1;
        self.loss(number, from, Some(last).filter(|last| *last >= from), why, bounds)
    }

    /// Begins the next life of a partition.
    fn go_on(&mut self, number: i32, start: Offset, end: Option<Offset>, bounds: Bounds, now: Instant) {
        if !self.phase.is_running() {
            return;
        }
        let id = AssignmentId(self.next_life);
        let partition = self.partitions.get_mut(&number).expect("it is there");
        partition.lives.push(id);
        let (source, committed) = (Arc::clone(&partition.source), partition.committed);
        if std::mem::take(&mut partition.ended) {
            self.open += 1;
        }
        let (latest, epoch) = (bounds.latest, bounds.epoch);
        let finished = Finished::default();
        self.begin(Assignment { id, source, start, committed, finished, end, latest, epoch });
        self.progressed(number, now);
    }

    /// A partition that is not there any more.
    fn give_up(&mut self, number: i32, now: Instant) {
        let Some(partition) = self.partitions.remove(&number) else { return };
        if !partition.ended {
            self.open -= 1;
        }
        if self.open == 0 && self.rules.until_end {
            self.drain(now);
        }
    }

    /// Ends a life: only what lies below `until` is still ours.
    fn retire(&mut self, id: AssignmentId, until: Offset) {
        let life = self.lives.get_mut(&id).expect("it is there");
        let until = life.until.map_or(until, |before| before.min(until));
        let (waited, begun) = life.tracker.cut(until);
        life.until = Some(until);
        (life.unsure, life.away) = (false, false);
        life.ghosts += begun;
        life.freed.records += waited.len();
        life.freed.bytes += waited.iter().map(Record::size).sum::<usize>();
        self.freed.push_back(id);
        self.counters.past_life += begun as u64;
        // What is not on its way yet is not sent.
        let of_ghosts = |write: &Write| write.ticket.assignment == id && write.ticket.offset >= until;
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = self.writes.drain(..).partition(of_ghosts);
        self.writes = kept;
        for Write { ticket, .. } in gone {
            self.writing -= 1;
            self.lay(id, ticket.size);
        }
        self.forget_if_done(id);
    }

    /// Notes what a look has shown of a life that is over: at the end of a run no other follows, and what is left of it is
    /// still to be committed.
    fn verify(&mut self, id: AssignmentId, verified: Verified) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.verified = verified;
            life.told = Told::nothing(verified.next);
        }
    }

    /// A ghost has come to its end.
    pub(super) fn lay(&mut self, id: AssignmentId, size: usize) {
        let freed = Freed { records: 1, bytes: size };
        let Some(life) = self.lives.get_mut(&id) else { return self.strays.push_back((id, freed)) };
        life.ghosts -= 1;
        self.strays.push_back((id, freed));
        self.forget_if_done(id);
    }

    pub(super) fn forget_if_done(&mut self, id: AssignmentId) {
        let Some(life) = self.lives.get(&id).filter(|life| life.is_forgettable()) else { return };
        let number = life.source.partition;
        // The last life stands for the partition, even where it is over.
        let partition = self.partitions.get_mut(&number).filter(|partition| partition.lives.contains(&id));
        match partition {
            Some(partition) if partition.current() == id => return,
            Some(partition) => partition.lives.retain(|life| *life != id),
            None => {}
        }
        let life = self.lives.remove(&id).expect("it is there");
        self.strays.push_back((id, life.freed));
    }
}
