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
//!
//! Deliberately not here: what befalls a whole topic (`topics.rs`), and partitions that go (`leaving.rs`).

use super::{parts::NOTHING, topics::Topic, *};
use crate::{
    lineage::{Bounds, Told, Verified},
    loss::{OnDataLoss, Why},
    progress::{Finished, Notes},
    tracker::Tracker,
};

/// The most losses that are kept for the summary.
const MAX_LOSSES: usize = 1000;

impl Scheduler {
    /// Takes in that the log of a life may not be what it was: a look is due at once. The fetch loop has ended.
    pub fn handle_unsure(&mut self, id: AssignmentId, now: Instant) {
        if let Some(life) = self.lives.get_mut(&id).filter(|life| life.reads_on()) {
            life.unsure = true;
            self.next_look = now;
        }
    }

    /// Takes in that a life cannot be read just now: a look is due at once. What was read is all of its log, because nothing
    /// more is handed over before [`handle_unsure`](Self::handle_unsure).
    pub fn handle_away(&mut self, id: AssignmentId, now: Instant) {
        if let Some(life) = self.lives.get_mut(&id).filter(|life| life.reads_on()) {
            life.away = true;
            self.next_look = now;
        }
    }

    /// Where reading is to begin, or, for a life whose fetch loop has ended, to go on.
    pub fn poll_begin(&mut self) -> Option<Begin> {
        while let Some(begin) = self.begins.pop_front() {
            if self.reads_on(begin.id) {
                return Some(begin);
            }
        }
        None
    }

    /// A life that is not to be read any more.
    pub fn poll_over(&mut self) -> Option<AssignmentId> {
        self.over.pop_front()
    }

    /// What is to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a life is one that is read.
    #[must_use]
    pub fn reads_on(&self, id: AssignmentId) -> bool {
        self.lives.get(&id).is_some_and(Life::reads_on)
    }

    /// Which partition a life is of.
    #[cfg(all(test, feature = "broker"))]
    pub(crate) fn source(&self, id: AssignmentId) -> Option<&TopicPartition> {
        self.lives.get(&id).map(|life| &*life.source)
    }

    /// Whether a life is still known, or something of it under way.
    #[must_use]
    pub fn knows(&self, id: AssignmentId) -> bool {
        self.lives.contains_key(&id)
    }

    /// Notes data that was found to be gone, and tells of it.
    pub fn tell_loss(&mut self, loss: DataLoss) {
        tracing::warn!(partition = %loss.source, why = loss.why.name(), "data is gone: {loss}");
        self.events.push_back(Event::DataLoss(loss.clone()));
        if self.losses.len() < MAX_LOSSES {
            self.losses.push(loss);
        }
    }

    /// Begins a life of a partition that is known.
    pub(super) fn begin(&mut self, key: PartitionKey, assignment: Assignment) {
        let Assignment { source, start, end, latest, epoch, finished, notes, .. } = assignment;
        let id = AssignmentId(self.next_life);
        self.next_life += 1;
        let partition = self.topics.partition_mut(key).expect("it is there");
        partition.lives.push(id);
        self.begins.push_back(Begin {
            id,
            source: Arc::clone(&source),
            topic_id: self.topic_id(key.topic),
            start,
            end,
        });
        let life = Life {
            key,
            source,
            tracker: Tracker::new(start, self.rules.span).with_finished(finished),
            end,
            until: None,
            leaving: false,
            ghosts: 0,
            writing: 0,
            latest,
            seen: latest,
            told: Told::nothing(start),
            verified: Verified { next: start, epoch },
            unsure: false,
            away: false,
            freed: Freed::default(),
            attempts: notes.attempts.into_iter().map(|(offset, failures)| (offset, (failures, false))).gather(),
            ready: false,
        };
        self.lives.insert(id, life);
    }

    pub(super) fn topic_id(&self, topic: TopicIndex) -> TopicId {
        self.topics.get(topic).map(|topic| topic.id).unwrap_or_default()
    }

    pub(super) fn handle_findings(&mut self, topic: TopicIndex, findings: Vec<Finding>, now: Instant) {
        let asked = self.topics.get_mut(topic).filter(|topic| !topic.barred);
        let Some(Topic { name, missing_since, .. }) = asked else { return };
        if !findings.contains(&Finding::Missing)
            && let Some(since) = missing_since.take_if(|_| !findings.is_empty())
        {
            tracing::info!(topic = &**name, after = ?now.duration_since(since), "the topic is there again");
        }
        let key = |number| PartitionKey { topic, number };
        for finding in findings {
            match finding {
                Finding::Holds { partition, life, verified } => {
                    if self.is_current(key(partition), life) {
                        let life = self.lives.get_mut(&life).expect("it is there");
                        (life.verified, life.seen) = (verified, life.latest);
                    }
                }
                Finding::Reread { partition, life, verified, held } => {
                    self.reread(key(partition), life, verified, held, now);
                }
                Finding::Deleted { partition, life, bounds } => self.deleted(key(partition), life, bounds, now),
                Finding::Truncated { partition, life, at, bounds } => {
                    self.truncated(key(partition), life, at, bounds, now);
                }
                Finding::Added { partition, bounds } => self.added(key(partition), bounds, now),
                Finding::Recreated { was, now: is, bounds } => self.recreated(topic, was, is, &bounds, now),
                Finding::Missing => self.missing(topic, now),
            }
        }
        self.give_up_barred(topic);
    }

    /// What a look found out about a life that is over by now says nothing.
    fn is_current(&self, key: PartitionKey, id: AssignmentId) -> bool {
        self.topics.partition(key).is_some_and(|partition| partition.current() == id)
    }

    fn reread(&mut self, key: PartitionKey, id: AssignmentId, verified: Verified, held: Option<Offset>, now: Instant) {
        if !self.is_current(key, id) {
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
        self.go_on(key, verified.next, end, Bounds { earliest: verified.next, latest, epoch: verified.epoch }, now);
    }

    fn deleted(&mut self, key: PartitionKey, id: AssignmentId, bounds: Bounds, now: Instant) {
        if !self.is_current(key, id) {
            return;
        }
        let life = self.lives.get_mut(&id).expect("it is there");
        (life.unsure, life.away) = (false, false);
        // What there was at the start and was cut off before it was read is not waited for.
        life.end = life.end.map(|end| end.min(bounds.latest));
        let (from, end) = (life.tracker.next(), life.end);
        // What is not to be read any more is for others to miss.
        if end.is_some_and(|end| from >= end) || life.leaving {
            return;
        }
        let loss = self.loss(key, (from, Some(bounds.earliest + -1)), Why::Deleted, Some(bounds));
        let Some(start) =
            self.settle_losses(key.topic, vec![loss], now).and_then(|starts| starts.first().copied().flatten())
        else {
            return;
        };
        let life = self.lives.get_mut(&id).expect("it is there");
        life.tracker.skip_to(end.map_or(start, |end| start.min(end)));
        life.verified = Verified { next: life.tracker.next(), epoch: bounds.epoch };
        life.told = Told::nothing(life.tracker.next());
        life.latest = bounds.latest;
        let source = Arc::clone(&life.source);
        self.begins.push_back(Begin { id, source, topic_id: self.topic_id(key.topic), start, end });
        self.progressed(key, now);
    }

    fn truncated(&mut self, key: PartitionKey, id: AssignmentId, at: Option<Offset>, bounds: Bounds, now: Instant) {
        if !self.is_current(key, id) {
            return;
        }
        let read = self.lives[&id].tracker.next();
        let from = at.unwrap_or(bounds.latest).min(read);
        // What was written anew may be deleted by now.
        let to = at.map_or(read, |_| read.max(bounds.earliest)) + -1;
        let mut loss = self.loss(key, (from, Some(to).filter(|to| *to >= from)), Why::Truncated, Some(bounds));
        // Where the logs parted is not known: to read again is all that loses nothing.
        loss.resumed_at = Some(at.unwrap_or(bounds.earliest).max(bounds.earliest));
        let Some(starts) = self.settle_losses(key.topic, vec![loss], now) else { return };
        for id in self.topics.partition(key).expect("it is there").lives.clone() {
            self.retire(id, at.unwrap_or(NOTHING));
        }
        self.verify(id, Verified { next: from, epoch: bounds.epoch });
        if let Some(start) = starts[0] {
            let end = self.rules.until_end.then_some(bounds.latest);
            self.go_on(key, start, end, bounds, now);
        }
    }

    /// Notes losses; or ends the run because of them, if that is what the user wants. Gives where to go on for each of
    /// them: nowhere, if the run is ending anyway, or the partition is not there.
    pub(super) fn settle_losses(
        &mut self,
        topic: TopicIndex,
        losses: Vec<DataLoss>,
        now: Instant,
    ) -> Option<Vec<Option<Offset>>> {
        if losses.is_empty() {
            return Some(Vec::new());
        }
        let running = self.phase.is_running();
        let settled = losses.into_iter().map(|loss| {
            let key = PartitionKey { topic, number: loss.source.partition };
            let goes_on = running && !self.topics.partition(key).is_some_and(|partition| partition.leaving);
            let resumed_at = match (self.rules.on_data_loss, loss.log) {
                (OnDataLoss::Earliest, Some((earliest, _))) if goes_on => loss.resumed_at.or(Some(earliest)),
                (OnDataLoss::Latest, Some((_, latest))) if goes_on => Some(latest),
                _ => None,
            };
            DataLoss { resumed_at, ..loss }
        });
        let losses: Vec<_> = settled.collect();
        if !self.breaks(Defect::SilentJump) {
            for loss in &losses {
                self.tell_loss(loss.clone());
            }
        }
        if self.rules.on_data_loss == OnDataLoss::Stop {
            self.stop_for(topic, RunError::DataLoss { losses }, now);
            return None;
        }
        Some(losses.into_iter().map(|loss| loss.resumed_at).collect())
    }

    pub(super) fn loss(
        &self,
        key: PartitionKey,
        range: (Offset, Option<Offset>),
        why: Why,
        bounds: Option<Bounds>,
    ) -> DataLoss {
        self.loss_of(&self.topics.partition(key).expect("it is there").source, key.topic, range, why, bounds)
    }

    pub(super) fn loss_of(
        &self,
        source: &Arc<TopicPartition>,
        topic: TopicIndex,
        (from, to): (Offset, Option<Offset>),
        why: Why,
        bounds: Option<Bounds>,
    ) -> DataLoss {
        let (log, topic_id) = (bounds.map(|bounds| (bounds.earliest, bounds.latest)), self.topic_id(topic));
        DataLoss { source: Arc::clone(source), from, to, why, topic_id, new_topic_id: None, log, resumed_at: None }
    }

    /// What was not finished of a partition whose topic is gone.
    pub(super) fn all_that_was_left(&self, key: PartitionKey, why: Why, bounds: Option<Bounds>) -> DataLoss {
        let partition = self.topics.partition(key).expect("it is there");
        let life = &self.lives[&partition.current()];
        // What was read since the last look may be of the topic that has the name now, unless reading has failed since.
        let (read, latest) = match life.away || life.unsure {
            true => (life.tracker.next(), life.latest),
            false => (life.verified.next.min(life.tracker.next()), life.seen),
        };
        let from = self.committable(partition).unwrap_or(read).min(read);
        let last = latest.max(read) + -1;
        self.loss(key, (from, Some(last).filter(|last| *last >= from)), why, bounds)
    }

    /// Begins the next life of a partition, unless nothing of it is to begin any more.
    pub(super) fn go_on(
        &mut self,
        key: PartitionKey,
        start: Offset,
        end: Option<Offset>,
        bounds: Bounds,
        now: Instant,
    ) {
        let running = self.phase.is_running();
        let partition = self.topics.partition_mut(key).expect("it is there");
        if !running || partition.leaving {
            return;
        }
        let (source, committed) = (Arc::clone(&partition.source), partition.committed);
        if std::mem::take(&mut partition.ended) {
            self.open += 1;
        }
        let (latest, epoch) = (bounds.latest, bounds.epoch);
        let (finished, notes) = (Finished::default(), Notes::default());
        self.begin(key, Assignment { source, start, committed, finished, notes, end, latest, epoch });
        self.progressed(key, now);
    }

    /// Ends a life: only what lies below `until` is still ours.
    pub(super) fn retire(&mut self, id: AssignmentId, until: Offset) {
        let life = self.lives.get_mut(&id).expect("it is there");
        if life.reads_on() {
            self.over.push_back(id);
        }
        let until = life.until.map_or(until, |before| before.min(until));
        let (waited, begun) = life.tracker.cut(until);
        life.attempts.split_off(&until);
        life.until = Some(until);
        (life.unsure, life.away) = (false, false);
        life.ghosts += begun;
        self.counters.past_life += begun as u64;
        for record in waited {
            self.free(id, record.offset, record.size());
        }
        // What is not on its way yet is not sent.
        let of_ghosts = |write: &Write| write.ticket.assignment == id && write.ticket.offset >= until;
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = self.writes.drain(..).partition(of_ghosts);
        self.writes = kept;
        for Write { ticket, .. } in gone {
            self.written(id);
            self.lay(id, ticket.offset, ticket.size);
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
    pub(super) fn lay(&mut self, id: AssignmentId, offset: Offset, size: usize) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.ghosts -= 1;
        }
        self.free(id, offset, size);
        self.forget_if_done(id);
    }

    pub(super) fn forget_if_done(&mut self, id: AssignmentId) {
        let Some(life) = self.lives.get(&id).filter(|life| life.is_forgettable()) else { return };
        // The last life stands for the partition, even where it is over.
        let partition = self.topics.partition_mut(life.key).filter(|partition| partition.lives.contains(&id));
        match partition {
            Some(partition) if partition.current() == id => return,
            Some(partition) => partition.lives.retain(|life| *life != id),
            None => {}
        }
        let life = self.lives.remove(&id).expect("it is there");
        if life.freed != Freed::default() {
            self.strays.push_back((id, life.freed));
        }
    }
}
