//! PURE. The topics of a run: which of their partitions are ours, and what follows when a topic is another, or is gone.
//!
//! ```text
//!   TopicIndex ──▶ Topic: name, id ──▶ partition 0, 1, … ──▶ lives
//!                    │ looked at on its own: what is odd with one topic holds back its commits, and those of no other
//!                    ▼
//!              another id: new lives, in the other topic · missing: waited for · barred: given up, while the run ends
//! ```
//!
//! A topic keeps its [`TopicIndex`] for as long as it is known, whatever its id. What is under way carries it, so that what
//! comes back late for a topic that was forgotten finds nothing.

use super::{parts::NOTHING, *};
use crate::{
    gather::Gather,
    lineage::Bounds,
    loss::{OnDataLoss, Why},
};

/// A topic of the run.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
    pub(super) partitions: BTreeMap<i32, Partition>,
    /// Partitions that are there and not ours.
    pub(super) ignored: BTreeSet<i32>,
    /// Partitions that are ours, and were not there when the topic was made anew. Of no matter where all are ours.
    pub(super) awaited: BTreeSet<i32>,
    /// Since when it is not there.
    pub(super) missing_since: Option<Instant>,
    /// The run ends because of what befell it: it is not looked at any more, and nothing is committed for it.
    pub(super) barred: bool,
}

/// All topics of the run.
#[derive(Default)]
pub(super) struct Topics {
    all: BTreeMap<TopicIndex, Topic>,
    next: u32,
}

impl Topics {
    pub(super) fn get(&self, topic: TopicIndex) -> Option<&Topic> {
        self.all.get(&topic)
    }

    pub(super) fn get_mut(&mut self, topic: TopicIndex) -> Option<&mut Topic> {
        self.all.get_mut(&topic)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicIndex, &Topic)> {
        self.all.iter().map(|(index, topic)| (*index, topic))
    }

    pub(super) fn named(&self, name: &str) -> Option<TopicIndex> {
        self.iter().find(|(_, topic)| &*topic.name == name).map(|(index, _)| index)
    }

    pub(super) fn add(&mut self, name: Arc<str>, id: TopicId) -> TopicIndex {
        let index = TopicIndex(self.next);
        self.next += 1;
        let (partitions, ignored, awaited) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        self.all.insert(index, Topic { name, id, partitions, ignored, awaited, missing_since: None, barred: false });
        index
    }

    pub(super) fn remove(&mut self, topic: TopicIndex) {
        self.all.remove(&topic);
    }

    pub(super) fn partition(&self, key: PartitionKey) -> Option<&Partition> {
        self.all.get(&key.topic)?.partitions.get(&key.number)
    }

    pub(super) fn partition_mut(&mut self, key: PartitionKey) -> Option<&mut Partition> {
        self.all.get_mut(&key.topic)?.partitions.get_mut(&key.number)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = (PartitionKey, &Partition)> {
        self.iter().flat_map(|(topic, of)| {
            of.partitions.iter().map(move |(number, partition)| (PartitionKey { topic, number: *number }, partition))
        })
    }

    /// The partition of this name, if it is ours.
    pub(super) fn key(&self, source: &TopicPartition) -> Option<PartitionKey> {
        let key = PartitionKey { topic: self.named(&source.topic)?, number: source.partition };
        self.partition(key).map(|_| key)
    }
}

impl Scheduler {
    /// Takes partitions on, all of one assignment at once: the run may be over when all of them are at their end. The first
    /// commit of each is due at once. Where a topic is known under another id, what was ours of that is gone, and told of.
    /// A run that is ending takes nothing on.
    ///
    /// # Panics
    /// If one of them is ours already: our own fault. One that goes has to be [released](Self::release) before.
    pub fn assign(&mut self, taken: Vec<Taken>, now: Instant) {
        let (mut keys, mut ended) = (Vec::new(), Vec::new());
        let adopted = self.counters.adopted;
        for Taken { topic, id, there, assignments } in taken {
            let known = self.topics.named(&topic);
            if let Some((index, was)) = known.and_then(|index| Some((index, self.topics.get(index)?.id)))
                && was != id
            {
                self.recreated(index, was, id, &BTreeMap::new(), now);
                self.give_up_barred(index);
            }
            if !self.phase.is_running() {
                break;
            }
            // Where nothing was left of it, it was forgotten.
            let index = self.topics.named(&topic).unwrap_or_else(|| self.topics.add(topic, id));
            self.open += assignments.len();
            let of_topic = self.topics.get_mut(index).expect("it is there");
            of_topic.ignored.extend(there);
            for assignment in assignments {
                let key = PartitionKey { topic: index, number: assignment.source.partition };
                let claimed = self.claim(id, &assignment, now);
                self.take(key, assignment, now);
                let life = self.topics.partition(key).expect("it is ours").current();
                ended.extend(self.adopt(life, claimed).into_iter().map(|done| (life, done)));
                keys.push(key);
            }
        }
        self.next_commit = self.next_commit.min(now);
        for key in keys {
            self.progressed(key, now);
        }
        let adopted = self.counters.adopted - adopted;
        if adopted > 0 {
            tracing::info!(running = adopted - ended.len() as u64, ended = ended.len(), "tasks adopted");
        }
        for (id, done) in ended {
            self.take_in_outcome(id, done, now);
        }
    }

    fn take(&mut self, key: PartitionKey, assignment: Assignment, now: Instant) {
        let since = AssignmentId(self.next_life);
        let mut partition = Partition::new(Arc::clone(&assignment.source), since, assignment.committed);
        partition.committed_at = self.breaks(Defect::SkipFirstCommit).then_some(now);
        let topic = self.topics.get_mut(key.topic).expect("it is there");
        topic.ignored.remove(&key.number);
        topic.awaited.remove(&key.number);
        let known = topic.partitions.insert(key.number, partition);
        assert!(known.is_none(), "{} assigned twice", assignment.source);
        self.parted.remove(&assignment.source);
        self.begin(key, assignment);
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.topics.iter().map(|(_, topic)| topic.partitions.len()).sum()
    }

    /// Takes in that nothing is heard of a topic: a look is due at once.
    pub fn handle_missing(&mut self, now: Instant) {
        self.next_look = now;
    }

    pub(super) fn added(&mut self, key: PartitionKey, bounds: Bounds, now: Instant) {
        let running = self.phase.is_running();
        let Some(topic) = self.topics.get_mut(key.topic).filter(|topic| !topic.partitions.contains_key(&key.number))
        else {
            return;
        };
        // One that was lost since it was asked for is not ours.
        if !topic.awaited.remove(&key.number) && !self.rules.all_partitions {
            return;
        }
        if !running {
            topic.ignored.insert(key.number);
            return;
        }
        let source = Arc::new(TopicPartition::new(Arc::clone(&topic.name), key.number));
        if self.rules.until_end {
            tracing::info!(partition = %source, "a partition was added, and is left to the next run (--until-end)");
            topic.ignored.insert(key.number);
            return;
        }
        let mut start = bounds.earliest;
        if start > Offset(0) {
            let loss = self.loss_of(&source, key.topic, (Offset(0), Some(start + -1)), Why::Deleted, Some(bounds));
            match self.settle_losses(key.topic, vec![loss], now).and_then(|starts| starts[0]) {
                Some(at) => start = at,
                None => return,
            }
        }
        self.tell_added(&source, start);
        self.open += 1;
        let since = AssignmentId(self.next_life);
        let topic = self.topics.get_mut(key.topic).expect("it is there");
        topic.partitions.insert(key.number, Partition::new(source, since, None));
        self.go_on(key, start, None, bounds, now);
    }

    /// Tells of a partition that is new, and where it begins.
    pub fn tell_added(&mut self, source: &Arc<TopicPartition>, start: Offset) {
        tracing::info!(partition = %source, start = start.0, "a partition was added");
        self.events.push_back(Event::PartitionAdded { source: Arc::clone(source), start });
    }

    pub(super) fn recreated(
        &mut self,
        topic: TopicIndex,
        was: TopicId,
        is: TopicId,
        bounds: &BTreeMap<i32, Bounds>,
        now: Instant,
    ) {
        let Some(of) = self.topics.get(topic).filter(|of| of.id == was) else { return };
        let all = of.partitions.keys().copied();
        let (given_up, numbers): (Vec<_>, Vec<_>) =
            all.partition(|number| self.is_dead(PartitionKey { topic, number: *number }));
        if self.breaks(Defect::SameLife) {
            self.topics.get_mut(topic).expect("it is there").id = is;
            return;
        }
        let losses = numbers.iter().map(|number| {
            let (key, bounds) = (PartitionKey { topic, number: *number }, bounds.get(number).copied());
            DataLoss { new_topic_id: Some(is), ..self.all_that_was_left(key, Why::Recreated, bounds) }
        });
        // What was deleted of the new topic before it was found, behind the others.
        let deleted = bounds.iter().filter(|(number, bounds)| numbers.contains(number) && bounds.earliest > Offset(0));
        let deleted = deleted.map(|(number, bounds)| {
            let key = PartitionKey { topic, number: *number };
            let loss = self.loss(key, (Offset(0), Some(bounds.earliest + -1)), Why::Deleted, Some(*bounds));
            DataLoss { topic_id: is, ..loss }
        });
        let losses = losses.chain(deleted).collect();
        let Some(starts) = self.settle_losses(topic, losses, now) else { return };
        self.topics.get_mut(topic).expect("it is there").id = is;
        let given_up = given_up.into_iter().map(|number| (number, None));
        for (number, start) in numbers.into_iter().zip(starts).chain(given_up) {
            self.go_over(PartitionKey { topic, number }, start, bounds.get(&number), now);
        }
        let Some(of) = self.topics.get_mut(topic) else { return };
        of.ignored.retain(|number| bounds.contains_key(number));
        let mut known: BTreeSet<i32> = of.partitions.keys().chain(&of.ignored).copied().gather();
        for (number, bounds) in bounds {
            if known.insert(*number) && self.rules.all_partitions {
                self.added(PartitionKey { topic, number: *number }, *bounds, now);
            }
        }
    }

    /// A partition goes over to the topic that has the name now.
    fn go_over(&mut self, key: PartitionKey, start: Option<Offset>, bounds: Option<&Bounds>, now: Instant) {
        if !self.breaks(Defect::CommitPastLife) {
            self.retire_all(key);
        }
        let running = self.phase.is_running();
        let topic = self.topics.get_mut(key.topic).expect("it is there");
        let partition = topic.partitions.get_mut(&key.number).expect("it is there");
        (partition.committed, partition.committed_at) = (None, None);
        match (start, bounds) {
            (Some(start), Some(bounds)) => {
                let end = self.rules.until_end.then_some(bounds.latest);
                self.go_on(key, start, end, *bounds, now);
            }
            // The new topic has fewer partitions, or this one has no leader yet: then it is found later, as one that
            // was added.
            _ => {
                if running && !partition.leaving {
                    topic.awaited.insert(key.number);
                }
                self.give_up(key);
                self.end_if_done(now);
            }
        }
    }

    pub(super) fn missing(&mut self, topic: TopicIndex, now: Instant) {
        let Some(of) = self.topics.get_mut(topic) else { return };
        let first = of.missing_since.is_none();
        let since = *of.missing_since.get_or_insert(now);
        let (name, waited) = (Arc::clone(&of.name), now.duration_since(since));
        if self.rules.on_data_loss == OnDataLoss::Stop {
            let numbers: Vec<_> = of.partitions.keys().copied().collect();
            let keys = numbers.into_iter().map(|number| PartitionKey { topic, number });
            let keys = keys.filter(|key| !self.is_dead(*key));
            let losses = keys.map(|key| self.all_that_was_left(key, Why::TopicDeleted, None));
            let losses = losses.collect();
            self.settle_losses(topic, losses, now);
        } else if waited >= self.rules.patience {
            self.stop_for(topic, RunError::TopicGone { topic: name, waited }, now);
        } else if first {
            tracing::warn!(topic = &*name, patience = ?self.rules.patience, "the topic was deleted: waiting for it to be made anew");
        }
    }

    /// Begins the end because of what befell one topic. Where our commits for it would do harm, it is given up at once, and
    /// what was done of the others is committed all the same.
    pub(super) fn stop_for(&mut self, topic: TopicIndex, error: RunError, now: Instant) {
        let is_other = |(index, of): (TopicIndex, &Topic)| index != topic && !of.barred && !of.partitions.is_empty();
        let is_only = !self.topics.iter().any(is_other) || self.breaks(Defect::StopAll);
        if !error.forbids_commits() || is_only {
            return self.stop(error, now);
        }
        self.drain(now);
        self.error.get_or_insert(error);
        // What else a look has found of it is told of before.
        self.topics.get_mut(topic).expect("it is there").barred = true;
    }

    /// Gives up what is ours of a topic, if that is what follows from what was found.
    pub(super) fn give_up_barred(&mut self, topic: TopicIndex) {
        let Some(of) = self.topics.get(topic).filter(|of| of.barred) else { return };
        let numbers: Vec<_> = of.partitions.keys().copied().collect();
        for number in numbers {
            self.retire_all(PartitionKey { topic, number });
        }
    }

    /// Whether nothing of a partition is ours any more, and that was told.
    fn is_dead(&self, key: PartitionKey) -> bool {
        self.topics.partition(key).is_some_and(|partition| self.lives[&partition.current()].is_dead())
    }

    /// Ends all lives of a partition: nothing of it is ours any more.
    pub(super) fn retire_all(&mut self, key: PartitionKey) {
        let lives = self.topics.partition(key).map(|partition| partition.lives.clone());
        for id in lives.into_iter().flatten() {
            self.retire(id, NOTHING);
        }
    }

    /// A partition that is not there any more, or not ours.
    pub(super) fn give_up(&mut self, key: PartitionKey) {
        let Some(topic) = self.topics.get_mut(key.topic) else { return };
        let Some(partition) = topic.partitions.remove(&key.number) else { return };
        let empty = topic.partitions.is_empty() && topic.awaited.is_empty();
        if !partition.ended {
            self.open -= 1;
        }
        for id in partition.lives {
            self.forget_if_done(id);
        }
        if empty && !self.rules.all_partitions {
            self.topics.remove(key.topic);
        }
    }

    /// Begins the end, with `--until-end`, where nothing is left to be worked off.
    pub(super) fn end_if_done(&mut self, now: Instant) {
        if self.open == 0 && self.rules.until_end {
            self.drain(now);
        }
    }
}
