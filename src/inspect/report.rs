//! PURE. What is made of what a look at a group has shown.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    kafka::wire::{GroupMember, GroupView},
    offsets::Committed,
    progress::{Finished, Place, Run, Unbelieved, Writer, decode},
    record::{Offset, TopicId},
};

/// The most ranges of unfinished offsets that are listed of a partition.
const MOST_RANGES: usize = 20;

/// How a group stands. As JSON it is one line with these names.
#[derive(Debug, Serialize)]
pub struct GroupReport {
    /// Its id.
    pub group: String,
    /// As its coordinator says: `Stable`, `Empty`, `Dead`, …
    pub state: String,
    /// `consumer` for consumer groups, empty for one that only keeps offsets.
    pub protocol_type: String,
    /// Who is in it.
    pub members: Vec<Member>,
    /// By name.
    pub topics: Vec<TopicReport>,
}

/// A member of a group.
#[derive(Debug, Serialize)]
pub struct Member {
    /// What the coordinator calls it.
    pub member_id: String,
    /// What it calls itself.
    pub client_id: String,
    /// Where it runs, as the broker sees it.
    pub host: String,
}

/// How a group stands in a topic.
#[derive(Debug, Serialize)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// Its id, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// Why its ends are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All that it has, those without an offset too; where the topic is not there, those with one.
    pub partitions: Vec<PartitionReport>,
}

/// How a group stands in a partition.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct PartitionReport {
    /// Its number.
    pub partition: i32,
    /// The committed offset; none if the group keeps none.
    pub committed: Option<i64>,
    /// The end of the log: the high watermark.
    pub end: Option<i64>,
    /// How far the commit lies below the end. Below zero where the log is shorter than it was.
    pub lag: Option<i64>,
    /// How many offsets are finished above the commit.
    pub finished_above: u64,
    /// Where that is known from.
    pub progress: Progress,
    /// Why it is not known, where something is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unbelieved: Option<String>,
    /// How many offsets from the commit to the end are not known to be finished. Some may not exist.
    pub unfinished: Option<u64>,
    /// Which they are, as ranges with both ends; the lowest twenty.
    pub unfinished_ranges: Vec<(i64, i64)>,
    /// How many ranges more there are.
    pub more_ranges: usize,
    /// The oldest unfinished record, as far as it could be read.
    pub oldest: Option<Oldest>,
}

/// Where it is known from what is finished above a commit.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nothing is written beside the commit, or there is no commit.
    None,
    /// Longshore wrote it for this commit.
    Longshore,
    /// Confluent's Parallel Consumer wrote it; whether for this commit, nobody can tell.
    ParallelConsumer,
    /// Something is written, and it is not believed.
    Unbelieved,
}

/// The oldest unfinished record of a partition.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
pub struct Oldest {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// How long ago that was, in milliseconds.
    pub age_ms: i64,
}

impl GroupReport {
    pub(super) fn new(group: &str, view: GroupView, topics: Vec<TopicReport>) -> Self {
        let GroupView { state, protocol_type, members } = view;
        let member = |GroupMember { member_id, client_id, host }| Member { member_id, client_id, host };
        Self {
            group: group.to_owned(),
            state,
            protocol_type,
            members: members.into_iter().map(member).collect(),
            topics,
        }
    }
}

impl TopicReport {
    pub(super) fn new(topic: &str, id: TopicId, partitions: Vec<PartitionReport>) -> Self {
        Self { topic: topic.to_owned(), topic_id: Some(id.to_string()), error: None, partitions }
    }

    /// Of a topic of which no more is known than what is committed.
    pub(super) fn without_topic(topic: &str, committed: &BTreeMap<i32, Committed>, error: String) -> Self {
        let partitions = committed.iter().map(|(partition, committed)| PartitionReport {
            partition: *partition,
            committed: Some(committed.offset.0),
            end: None,
            lag: None,
            finished_above: 0,
            progress: Progress::None,
            unbelieved: None,
            unfinished: None,
            unfinished_ranges: Vec::new(),
            more_ranges: 0,
            oldest: None,
        });
        Self { topic: topic.to_owned(), topic_id: None, error: Some(error), partitions: partitions.collect() }
    }
}

/// What is known of a partition.
#[derive(Debug)]
pub(super) struct Facts {
    partition: i32,
    committed: Option<Offset>,
    start: Offset,
    end: Offset,
    finished: Finished,
    progress: Progress,
    unbelieved: Option<Unbelieved>,
}

impl Facts {
    pub(super) fn new(
        topic: TopicId,
        partition: i32,
        committed: Option<&Committed>,
        start: Offset,
        end: Offset,
    ) -> Self {
        let (mut finished, mut progress, mut unbelieved) = (Finished::default(), Progress::None, None);
        if let Some(Committed { offset, metadata, .. }) = committed {
            match decode(metadata, &Place { topic, partition, offset: *offset }, end, true) {
                Ok((said, writer)) => {
                    finished = said;
                    progress = match writer {
                        Writer::Nobody => Progress::None,
                        Writer::Longshore => Progress::Longshore,
                        Writer::ParallelConsumer => Progress::ParallelConsumer,
                    };
                }
                Err(why) => (progress, unbelieved) = (Progress::Unbelieved, Some(why)),
            }
        }
        let committed = committed.map(|committed| committed.offset);
        Self { partition, committed, start, end, finished, progress, unbelieved }
    }

    pub(super) fn is_finished(&self, offset: Offset) -> bool {
        self.finished.contains(offset)
    }

    /// Where the oldest unfinished record may lie, if there is any.
    pub(super) fn oldest_unfinished(&self) -> Option<Offset> {
        self.unfinished()?.next().map(|run| run.first)
    }

    /// What is not known to be finished: nothing is known without a commit.
    fn unfinished(&self) -> Option<impl Iterator<Item = Run> + '_> {
        let from = self.committed?.max(self.start);
        let firsts = std::iter::once(from).chain(self.finished.runs().iter().map(move |run| run.end.max(from)));
        let ends = self.finished.runs().iter().map(|run| run.first).chain([self.end]);
        Some(firsts.zip(ends).map(|(first, end)| Run::new(first, end)).filter(|run| run.count() > 0))
    }

    pub(super) fn report(&self, oldest: Option<(Offset, i64)>, now_ms: i64) -> PartitionReport {
        let unfinished: Option<Vec<Run>> = self.unfinished().map(Iterator::collect);
        let ranges = unfinished.as_deref().unwrap_or_default();
        PartitionReport {
            partition: self.partition,
            committed: self.committed.map(|offset| offset.0),
            end: Some(self.end.0),
            lag: self.committed.map(|offset| self.end.0 - offset.0),
            finished_above: self.finished.count(),
            progress: self.progress,
            unbelieved: self.unbelieved.as_ref().map(ToString::to_string),
            unfinished: unfinished.as_ref().map(|runs| runs.iter().map(|run| run.count()).sum()),
            unfinished_ranges: ranges.iter().take(MOST_RANGES).map(|run| (run.first.0, run.end.0 - 1)).collect(),
            more_ranges: ranges.len().saturating_sub(MOST_RANGES),
            oldest: oldest.map(|(offset, timestamp_ms)| Oldest {
                offset: offset.0,
                timestamp_ms,
                age_ms: now_ms.saturating_sub(timestamp_ms).max(0),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        progress::{MOST_UNITS, encode},
        record::LeaderEpoch,
    };

    const ID: TopicId = TopicId(uuid::Uuid::from_u128(7));

    /// A log from 3 to 100, of which 10 is committed with this beside it.
    fn facts(metadata: String) -> Facts {
        let committed = Committed { offset: Offset(10), leader_epoch: LeaderEpoch(0), metadata };
        Facts::new(ID, 2, Some(&committed), Offset(3), Offset(100))
    }

    fn said(runs: &[(i64, i64)]) -> String {
        let finished = runs.iter().map(|(first, end)| Run::new(Offset(*first), Offset(*end))).collect();
        encode(&Place { topic: ID, partition: 2, offset: Offset(10) }, &finished, MOST_UNITS).text
    }

    #[test]
    fn what_is_unfinished_lies_between_what_is_finished_and_the_end() {
        let facts = facts(said(&[(12, 20), (30, 31)]));
        let report = facts.report(Some((Offset(11), 1_000)), 61_000);
        assert_eq!((report.lag, report.finished_above, report.unfinished), (Some(90), 9, Some(81)));
        assert_eq!(report.unfinished_ranges, [(10, 11), (20, 29), (31, 99)]);
        assert_eq!(report.oldest, Some(Oldest { offset: 11, timestamp_ms: 1_000, age_ms: 60_000 }));
        assert_eq!((report.progress, facts.oldest_unfinished()), (Progress::Longshore, Some(Offset(10))));
    }

    #[test]
    fn ranges_are_bounded() {
        let every_other: Vec<_> = (0..40).map(|number| (11 + 2 * number, 12 + 2 * number)).collect();
        let report = facts(said(&every_other)).report(None, 0);
        assert_eq!((report.unfinished_ranges.len(), report.more_ranges), (MOST_RANGES, 21));
        assert_eq!(report.unfinished, Some(50));
    }

    #[test]
    fn what_is_not_believed_is_told_and_counts_for_nothing() {
        let report = facts("theirs".to_owned()).report(None, 0);
        assert_eq!((report.progress, report.finished_above), (Progress::Unbelieved, 0));
        assert_eq!(report.unbelieved.as_deref(), Some("it is not Longshore's"));
        assert_eq!(report.unfinished_ranges, [(10, 99)]);
    }

    #[test]
    fn without_a_commit_nothing_is_known_and_beyond_the_end_nothing_is_unfinished() {
        let report = Facts::new(ID, 2, None, Offset(3), Offset(100)).report(None, 0);
        assert_eq!((report.committed, report.lag, report.unfinished), (None, None, None));
        let committed = Committed { offset: Offset(120), leader_epoch: LeaderEpoch(0), metadata: String::new() };
        let facts = Facts::new(ID, 2, Some(&committed), Offset(3), Offset(100));
        assert_eq!((facts.report(None, 0).lag, facts.oldest_unfinished()), (Some(-20), None));
    }

    #[test]
    fn what_was_deleted_is_not_unfinished() {
        let committed = Committed { offset: Offset(10), leader_epoch: LeaderEpoch(0), metadata: said(&[(12, 20)]) };
        let report = Facts::new(ID, 2, Some(&committed), Offset(15), Offset(100)).report(None, 0);
        assert_eq!(report.unfinished_ranges, [(20, 99)]);
    }
}
