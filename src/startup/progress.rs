//! PURE. What the commits of a group say is finished above them, and how much of it is believed.
//!
//! What is believed is bound to the topic and the commit, and ends where the log does that the commit was made in: what was
//! cut off and written anew has other records at the same offsets.

use std::sync::Arc;

use super::begins::Begins;
use crate::{
    lineage::{Verdict, committed_verdict},
    progress::{Finished, Notes, Place, Unbelieved, Writer, decode, notes},
    record::{Offset, TopicPartition},
    scheduler::Taken,
};

/// The most partitions whose metadata is told of one by one.
const MOST_TOLD: usize = 3;

/// What was made of the metadata of all partitions.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Whose progress is not believed, and why.
    pub(crate) unbelieved: Vec<(Arc<TopicPartition>, Unbelieved)>,
    /// How many partitions have that of Confluent's Parallel Consumer.
    pub(crate) foreign: usize,
}

impl Known {
    /// What is finished of a partition that begins at `start`, and what else is said of it.
    pub(crate) fn take(&mut self, begins: &Begins, source: &Arc<TopicPartition>, start: Offset) -> (Finished, Notes) {
        let Some(committed) = begins.committed.get(&source.partition) else { return Default::default() };
        let ended = begins.epoch_ends.get(&source.partition).copied();
        // What was committed of another log is told of as a loss.
        if ended.is_some_and(|ended| matches!(committed_verdict(committed.offset, ended), Verdict::Truncated(_))) {
            return Default::default();
        }
        let latest = begins.latest[&source.partition];
        let end = ended.and_then(|ended| ended.end).map_or(latest, |end| end.min(latest));
        let place = Place { topic: begins.id, partition: source.partition, offset: committed.offset };
        match decode(&committed.metadata, &place, end, begins.trust_foreign) {
            Ok((mut finished, writer)) => {
                self.foreign += usize::from(writer == Writer::ParallelConsumer);
                finished.cut_below(start);
                (finished, notes(&committed.metadata, &place).within(start, end))
            }
            Err(unbelieved) => {
                self.unbelieved.push((Arc::clone(source), unbelieved));
                Default::default()
            }
        }
    }

    /// Takes in what was made of those of another topic.
    pub(crate) fn take_in(&mut self, other: Self) {
        self.unbelieved.extend(other.unbelieved);
        self.foreign += other.foreign;
    }

    /// Says what came of it, and how many offsets are finished.
    pub(crate) fn tell(&self, taken: &[Taken]) -> u64 {
        for (partition, why) in self.unbelieved.iter().take(MOST_TOLD) {
            tracing::warn!(
                %partition,
                "what the commit says is finished above it is not believed, so that it runs again: {why}"
            );
        }
        if self.unbelieved.len() > MOST_TOLD {
            tracing::warn!("nor is that of {} partitions more", self.unbelieved.len() - MOST_TOLD);
        }
        if self.foreign > 0 {
            tracing::warn!(
                partitions = self.foreign,
                "taken over from Confluent's Parallel Consumer what is finished above its commits: it names neither topic \
                 nor offset, so that nobody can check it"
            );
        }
        let assignments = taken.iter().flat_map(|taken| &taken.assignments);
        assignments.map(|assignment| assignment.finished.count()).sum()
    }
}
