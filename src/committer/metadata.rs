//! PURE. The metadata of commits, as long as the broker takes it.
//!
//! A broker has a limit of its own for metadata (`offset.metadata.max.bytes`). Where it refuses a commit for it, half as much
//! is written from then on, until it is so little that it would say next to nothing: then commits go without.

use std::collections::BTreeMap;

use crate::{
    gather::Gather,
    offsets::Committed,
    progress::{Encoded, Finished, Fits, LEAST_UNITS, MOST_UNITS, Notes, Place, encode_with},
    record::TopicId,
    scheduler::Said,
};

/// Makes the metadata of commits.
#[derive(Debug)]
pub(crate) struct Metadata {
    most_units: usize,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { most_units: MOST_UNITS }
    }
}

impl Metadata {
    /// Puts what is finished above each commit beside it, and says how much of it that is.
    pub(crate) fn fill(
        &self,
        topic: TopicId,
        commits: &mut BTreeMap<i32, Committed>,
        finished: &BTreeMap<i32, Finished>,
        notes: &BTreeMap<i32, Notes>,
    ) -> BTreeMap<i32, Said> {
        let (none, nothing) = (Finished::default(), Notes::default());
        let fill = |(partition, committed): (&i32, &mut Committed)| {
            let finished = finished.get(partition).unwrap_or(&none);
            let notes = notes.get(partition).unwrap_or(&nothing);
            let place = Place { topic, partition: *partition, offset: committed.offset };
            let Encoded { text, fits } = encode_with(&place, finished, notes, self.most_units);
            committed.metadata = text;
            let said = match fits {
                Fits::All => Said::All,
                Fits::Below(reach) => Said::Below { reach, dropped: finished.count_from(reach) },
                Fits::Nothing => Said::Nothing { dropped: finished.count() },
            };
            (*partition, said)
        };
        commits.iter_mut().map(fill).gather()
    }

    /// Takes in that the broker refused metadata for its length. Gives whether a shorter one can be tried.
    pub(crate) fn shorten(&mut self, reason: &str) -> bool {
        let were = self.most_units;
        self.most_units = Some(were / 2).filter(|units| *units >= LEAST_UNITS).unwrap_or(0);
        match (were, self.most_units) {
            (0, _) => return false,
            (_, 0) => tracing::warn!(
                reason,
                "commits go without what is finished above them: after a crash or a forced end it runs again. Raise the \
                 broker's offset.metadata.max.bytes"
            ),
            (_, units) => tracing::warn!(reason, units, "what goes with a commit is shorter from now on"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        progress::Run,
        record::{LeaderEpoch, Offset},
    };

    #[test]
    fn a_broker_that_takes_less_gets_less_and_in_the_end_nothing() {
        let (id, mut metadata) = (TopicId::default(), Metadata::default());
        let committed = Committed { offset: Offset(0), leader_epoch: LeaderEpoch(0), metadata: String::new() };
        let mut commits = BTreeMap::from([(3, committed)]);
        // Every other offset: a bit for each is the shortest.
        let every_other = (1..30_000).map(|number| Run::new(Offset(2 * number - 1), Offset(2 * number))).collect();
        let finished = BTreeMap::from([(3, every_other)]);
        assert_eq!(metadata.fill(id, &mut commits, &finished, &BTreeMap::new())[&3], Said::All);
        let (mut lengths, mut dropped) = (Vec::new(), 0);
        while metadata.shorten("no") {
            let said = metadata.fill(id, &mut commits, &finished, &BTreeMap::new());
            lengths.push(commits[&3].metadata.encode_utf16().count());
            let now = match said[&3] {
                Said::Below { reach, dropped } => {
                    assert_eq!(dropped, finished[&3].count_from(reach));
                    dropped
                }
                Said::Nothing { dropped } => dropped,
                Said::All => panic!("it does not fit"),
            };
            assert!(now > dropped);
            dropped = now;
        }
        assert_eq!(dropped, 29_999);
        assert_eq!(lengths.len(), 6);
        assert!(lengths.iter().zip([2047, 1023, 511, 255, 127, 0]).all(|(length, most)| *length <= most));
    }
}
