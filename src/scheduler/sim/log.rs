//! The logs of the simulated topics, and what befalls them.

use std::collections::BTreeMap;

use super::{super::*, At, Key, Plan};
use crate::lineage::{Bounds, EpochEnd, Look};

/// A record in a log. `ident` tells it from all others that ever had its offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) ident: i64,
}

/// One partition's log.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) entries: Vec<Entry>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Each leader epoch, and where it began.
    pub(super) epochs: Vec<(i32, i64)>,
}

/// All partitions of a topic.
#[derive(Debug)]
pub(super) struct Topic {
    /// Which of the topics.
    pub(super) place: usize,
    pub(super) id: u128,
    pub(super) logs: BTreeMap<i32, Log>,
    idents: i64,
}

/// Something that befalls a topic.
#[derive(Debug, Clone, Copy)]
pub(super) enum Befalls {
    /// It is deleted, and made anew.
    Recreated,
    /// A log is cut off, and grows again.
    Truncated,
    /// The first records of a log are deleted.
    Deleted,
    /// Another broker leads, and nothing is lost.
    Moved,
    /// There is a partition more.
    Added,
}

impl Log {
    fn empty(start: i64) -> Self {
        Self { entries: Vec::new(), start, end: start, epochs: vec![(0, start)] }
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epochs.last().expect("never empty").0
    }

    /// The leader epoch of what lies last below `next`.
    pub(super) fn epoch_below(&self, next: i64) -> i32 {
        self.epochs.iter().rev().find(|(_, start)| *start < next).map_or(-1, |(epoch, _)| *epoch)
    }

    fn grow(&mut self, idents: &mut i64, rng: &mut fastrand::Rng, count: usize) {
        for _ in 0..count {
            if rng.u8(0..10) == 0 {
                self.end += rng.i64(1..100);
            }
            *idents += 1;
            self.entries.push(Entry { offset: self.end, ident: *idents });
            self.end += 1;
        }
        // A tail of what is not there: markers, or what was compacted away.
        self.end += if rng.bool() { rng.i64(0..5) } else { 0 };
    }

    pub(super) fn end_of_epoch(&self, asked: i32) -> Option<i64> {
        if asked > self.epoch() {
            return None;
        }
        let next = self.epochs.iter().find(|(epoch, _)| *epoch > asked);
        Some(next.map_or(self.end, |(_, start)| *start))
    }
}

impl Topic {
    /// A topic of up to four partitions, each with up to so many records.
    pub(super) fn new(place: usize, records: usize, rng: &mut fastrand::Rng) -> Self {
        let mut topic = Self { place, id: place as u128 * 1_000 + 1, logs: BTreeMap::new(), idents: 0 };
        for partition in 0..rng.i32(1..=4) {
            let start = rng.i64(0..50);
            let count = rng.usize(0..=records);
            topic.add(partition, start, count, rng);
        }
        topic
    }

    fn add(&mut self, partition: i32, start: i64, count: usize, rng: &mut fastrand::Rng) {
        let mut log = Log::empty(start);
        log.grow(&mut self.idents, rng, count);
        self.logs.insert(partition, log);
    }

    /// What is in the logs now.
    pub(super) fn all(&self) -> impl Iterator<Item = At> + '_ {
        let key = |partition| (self.place, partition);
        self.logs.iter().flat_map(move |(partition, log)| log.entries.iter().map(move |e| (key(*partition), e.ident)))
    }

    pub(super) fn name(&self) -> Arc<str> {
        format!("t{}", self.place).into()
    }

    /// The leader epoch of each partition.
    pub(super) fn epochs(&self) -> BTreeMap<Key, i32> {
        self.logs.iter().map(|(partition, log)| ((self.place, *partition), log.epoch())).collect()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.logs.keys().map(|partition| (self.place, *partition))
    }

    /// Lets something befall it. Gives what was taken away, with its offset.
    pub(super) fn befalls(&mut self, what: Befalls, rng: &mut fastrand::Rng) -> Vec<(At, i64)> {
        let partition = rng.i32(0..self.logs.len() as i32);
        let log = self.logs.get_mut(&partition).expect("counted from 0");
        let place = self.place;
        let taken = |partition: i32, entries: Vec<Entry>| {
            let at = move |entry: Entry| (((place, partition), entry.ident), entry.offset);
            entries.into_iter().map(at).collect::<Vec<_>>()
        };
        match what {
            Befalls::Recreated => {
                let gone = std::mem::take(&mut self.logs);
                self.id += 1;
                for partition in gone.keys() {
                    let count = rng.usize(0..=100);
                    self.add(*partition, 0, count, rng);
                }
                gone.into_iter().flat_map(|(partition, log)| taken(partition, log.entries)).collect()
            }
            Befalls::Truncated => {
                let at = rng.i64(log.start..=log.end);
                let kept = log.entries.partition_point(|entry| entry.offset < at);
                let gone = log.entries.split_off(kept);
                log.end = at;
                let epoch = log.epoch();
                log.epochs.retain(|(_, start)| *start < at);
                log.epochs.push((epoch + rng.i32(1..3), at));
                let count = rng.usize(0..60);
                log.grow(&mut self.idents, rng, count);
                taken(partition, gone)
            }
            Befalls::Deleted => {
                log.start = rng.i64(log.start..=log.end);
                let gone = log.entries.partition_point(|entry| entry.offset < log.start);
                taken(partition, log.entries.drain(..gone).collect())
            }
            Befalls::Moved => {
                log.epochs.push((log.epoch() + 1, log.end));
                let count = rng.usize(0..20);
                log.grow(&mut self.idents, rng, count);
                Vec::new()
            }
            Befalls::Added => {
                let (partition, count) = (self.logs.len() as i32, rng.usize(0..40));
                self.add(partition, 0, count, rng);
                Vec::new()
            }
        }
    }

    pub(super) fn look(&self) -> Look {
        let epochs = self.logs.iter().map(|(partition, log)| (*partition, LeaderEpoch(log.epoch()))).collect();
        Look { id: self.id(), epochs }
    }

    pub(super) fn id(&self) -> TopicId {
        TopicId(uuid::Uuid::from_u128(self.id))
    }

    pub(super) fn epoch_ends(&self, asked: &BTreeMap<i32, LeaderEpoch>) -> BTreeMap<i32, EpochEnd> {
        let end = |(partition, epoch): (&i32, &LeaderEpoch)| {
            let log = &self.logs[partition];
            let current = LeaderEpoch(log.epoch());
            (*partition, EpochEnd { current, end: log.end_of_epoch(epoch.0).map(Offset) })
        };
        asked.iter().map(end).collect()
    }

    pub(super) fn bounds(&self, partitions: impl Iterator<Item = i32>) -> BTreeMap<i32, Bounds> {
        let bounds = |partition: i32| {
            let log = &self.logs[&partition];
            let (earliest, latest) = (Offset(log.start), Offset(log.end));
            (partition, Bounds { earliest, latest, epoch: LeaderEpoch(log.epoch()) })
        };
        partitions.map(bounds).collect()
    }
}

/// Draws plans for those that have none.
pub(super) fn plan(topic: &Topic, plans: &mut BTreeMap<At, Plan>, mut draw: impl FnMut() -> Plan) {
    for at in topic.all() {
        plans.entry(at).or_insert_with(&mut draw);
    }
}
