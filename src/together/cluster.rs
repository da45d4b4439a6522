//! What the processes have in common: the logs, what is committed, who coordinates.

use super::*;
use crate::{
    config::From,
    kafka::wire::{self, Identity},
    lineage::{EpochEnd, Look},
    loss::OnDataLoss,
    membership::{Topics, sim::Coordinator},
    progress::{Finished, Place, decode},
    record::{LeaderEpoch, TopicId},
    scheduler::Taken,
    startup::{
        Dealt,
        begins::{Begins, Begun, Sharing},
    },
};

/// What a message will do when it is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) time: Duration,
    pub(super) answers: bool,
}

/// One partition's log: the offsets at which there is a record, and where it ends.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) records: Vec<i64>,
    pub(super) end: i64,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
    pub(super) logs: Vec<Log>,
}

pub(super) struct Cluster {
    pub(super) coordinator: Coordinator,
    /// It is on the move.
    pub(super) away: bool,
    /// It takes commits under any epoch since a partition was assigned (KIP-1251).
    pub(super) since_assigned: bool,
    pub(super) topics: Vec<Topic>,
    pub(super) committed: BTreeMap<Key, Committed>,
    /// What the commits say is finished above them.
    pub(super) said: BTreeMap<Key, Finished>,
    pub(super) plans: BTreeMap<At, Plan>,
}

impl Topic {
    pub(super) fn new(place: usize, partitions: usize) -> Self {
        Self {
            name: format!("t{place}").into(),
            id: TopicId(uuid::Uuid::from_u128(place as u128 + 1)),
            logs: (0..partitions).map(|_| Log::default()).collect(),
        }
    }

    fn numbers(&self) -> std::ops::Range<i32> {
        0..i32::try_from(self.logs.len()).expect("few")
    }

    fn all<T>(&self, of: impl Fn(&Log) -> T) -> BTreeMap<i32, T> {
        self.numbers().zip(&self.logs).map(|(number, log)| (number, of(log))).collect()
    }

    pub(super) fn look(&self) -> Look {
        Look { id: self.id, epochs: self.all(|_| LeaderEpoch(0)) }
    }
}

impl Cluster {
    pub(super) fn log(&self, key: Key) -> &Log {
        &self.topics[key.0].logs[usize::try_from(key.1).expect("not negative")]
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.topics.iter().enumerate().flat_map(|(place, topic)| topic.numbers().map(move |number| (place, number)))
    }

    /// What is known of the topics.
    pub(super) fn topics(&self) -> Topics {
        let of = |topic: &Topic| (Arc::clone(&topic.name), (topic.id, topic.numbers().end));
        self.topics.iter().map(of).collect()
    }

    /// Adds records, now and then behind a gap.
    pub(super) fn produce(&mut self, key: Key, count: usize, rng: &mut fastrand::Rng) {
        for _ in 0..count {
            let log = &mut self.topics[key.0].logs[usize::try_from(key.1).expect("not negative")];
            if rng.u8(0..10) == 0 {
                log.end += rng.i64(1..5);
            }
            log.records.push(log.end);
            let millis = match rng.u8(0..40) {
                0 => rng.u64(2_000..20_000),
                1..10 => rng.u64(50..2_000),
                _ => rng.u64(1..50),
            };
            let plan = Plan { time: Duration::from_millis(millis), answers: rng.u8(0..10) != 0 };
            self.plans.insert((key, log.end), plan);
            log.end += 1;
        }
    }

    pub(super) fn worked_off(&self) -> bool {
        self.keys().all(|key| self.is_worked_off(key))
    }

    pub(super) fn is_worked_off(&self, key: Key) -> bool {
        self.committed.get(&key).map_or(0, |committed| committed.offset.0) == self.log(key).end
    }

    /// Whether whoever goes on from what is committed runs this one.
    pub(super) fn is_covered(&self, (key, offset): At) -> bool {
        let below = self.committed.get(&key).is_some_and(|committed| offset < committed.offset.0);
        below || self.said.get(&key).is_some_and(|said| said.contains(Offset(offset)))
    }

    pub(super) fn keep(&mut self, key: Key, committed: Committed) {
        let place = Place { topic: self.topics[key.0].id, partition: key.1, offset: committed.offset };
        let said = decode(&committed.metadata, &place, Offset(self.log(key).end), false);
        self.said.insert(key, said.expect("we wrote it").0);
        self.committed.insert(key, committed);
    }

    /// Where these begin, as the start finds out.
    pub(super) fn deal(
        &self,
        wanted: &ByName,
        added: &BTreeSet<TopicPartition>,
        committed: &BTreeMap<TopicPartition, Committed>,
    ) -> Dealt {
        let (mut all, mut taken) = (Begun::default(), Vec::new());
        for (name, numbers) in wanted {
            let topic = &self.topics[place(name)];
            let of_topic = committed.iter().filter(|(at, _)| at.topic == *name);
            let committed: BTreeMap<_, _> = of_topic.map(|(at, kept)| (at.partition, kept.clone())).collect();
            let end = |log: &Log| EpochEnd { current: LeaderEpoch(0), end: Some(Offset(log.end)) };
            let begins = Begins {
                id: topic.id,
                former: None,
                committed,
                epoch_ends: topic.all(end),
                epochs: topic.all(|_| LeaderEpoch(0)),
                earliest: topic.all(|_| Offset(0)),
                latest: topic.all(|log| Offset(log.end)),
                from: From::Earliest,
                sharing: Sharing::Dealt(added.iter().filter(|at| at.topic == *name).map(|at| at.partition).collect()),
                on_data_loss: OnDataLoss::Stop,
                trust_foreign: false,
                ends: None,
            };
            let sources = numbers.iter().map(|number| Arc::new(TopicPartition::new(Arc::clone(name), *number)));
            let begun = begins.assign(sources).expect("a commit is never beyond the end");
            let assignments = all.take_in(begun);
            taken.push(Taken { topic: Arc::clone(name), id: topic.id, there: topic.numbers().collect(), assignments });
        }
        let Begun { losses, known, .. } = all.check("g", OnDataLoss::Stop).expect("nothing is ever gone");
        let finished_above = known.tell(&taken);
        assert!(known.unbelieved.is_empty(), "what goes with a commit is believed");
        Dealt { taken, losses, added: Vec::new(), lag: 0, finished_above }
    }
}

fn place(name: &str) -> usize {
    name[1..].parse().expect("its place is in its name")
}

pub(super) fn key(source: &TopicPartition) -> Key {
    (place(&source.topic), source.partition)
}

/// As the coordinator sees it.
pub(super) fn epoch(identity: &Identity) -> membership::Epoch {
    let (wire::Epoch::Generation(number) | wire::Epoch::Member(number)) = identity.epoch;
    membership::Epoch { member: Arc::clone(&identity.member), number, instance: identity.instance.clone() }
}
