//! PURE. Where each partition of a topic begins: what was committed, what the log holds, and what the user wants where they differ.
//!
//! ```text
//!   committed ──▶ is it of this log? (leader epoch) ──▶ is it within the log? ──▶ there
//!                        │ no: truncated, recreated            │ no: deleted, truncated
//!   nothing ──▶ has the group offsets at all? ──no──▶ --from   ▼
//!                        │ yes: is the partition new? ──no──▶ a loss: --on-data-loss
//!                        └──────────────────────────yes─▶ the earliest
//! ```
//!
//! Kafka does not say which partitions a topic had when a group last committed. What it shows: partitions are added at the
//! end only. So a partition without an offset whose number is below that of one with an offset is no new one: its offset
//! expired, or was deleted. One above them all may be either; where its log begins at 0, nothing is gone, and it counts
//! as new; where it does not, records are gone that nobody may have read. With a list of partitions (`--assign`) one below
//! may never have been worked off, and is judged as one above. See `docs/adr/0009`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::progress::Known;
use crate::{
    config::From,
    error::RunError,
    lineage::{EpochEnd, Verdict, committed_verdict},
    loss::{DataLoss, OnDataLoss, Why},
    offsets::{Committed, Former},
    record::{LeaderEpoch, Offset, TopicId, TopicPartition},
    scheduler::Assignment,
};

/// What has to be known to say where each partition of a topic begins.
pub(crate) struct Begins {
    /// The topic.
    pub(crate) id: TopicId,
    /// The topic of the same name before, and what was committed for it, if the store knows that.
    pub(crate) former: Option<Former>,
    /// For all partitions of the topic.
    pub(crate) committed: BTreeMap<i32, Committed>,
    /// Where the leader epochs of the commits ended.
    pub(crate) epoch_ends: BTreeMap<i32, EpochEnd>,
    pub(crate) epochs: BTreeMap<i32, LeaderEpoch>,
    pub(crate) earliest: BTreeMap<i32, Offset>,
    pub(crate) latest: BTreeMap<i32, Offset>,
    pub(crate) from: From,
    pub(crate) sharing: Sharing,
    pub(crate) on_data_loss: OnDataLoss,
    /// Whether to believe what Confluent's Parallel Consumer has written.
    pub(crate) trust_foreign: bool,
    /// With `--until-end`: where reading ends.
    pub(crate) ends: Option<BTreeMap<i32, Offset>>,
}

/// Who works off the partitions that are not ours, which says what it means that one has no offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// All are ours: those that had an offset keep it.
    All,
    /// Ours are those of a list, and nobody may work off the others.
    Listed,
    /// The group deals them out. Others may be about to make their first commit, and as long as a group has members,
    /// Kafka lets no offset expire (KIP-211): so each begins where `--from` says, but for these, which were added.
    Dealt(BTreeSet<i32>),
}

/// Where the partitions of some topics begin.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    pub(crate) assignments: Vec<Assignment>,
    /// What is gone.
    pub(crate) losses: Vec<DataLoss>,
    /// Those without an offset, where `--from stop` was said.
    pub(crate) missing: Vec<TopicPartition>,
    /// What the commits say of what lies above them.
    pub(crate) known: Known,
}

impl Begun {
    /// Takes in where those of another topic begin, but for the assignments.
    pub(crate) fn take_in(&mut self, other: Self) -> Vec<Assignment> {
        let Self { assignments, losses, missing, known } = other;
        self.losses.extend(losses);
        self.missing.extend(missing);
        self.known.take_in(known);
        assignments
    }

    /// Whether a run may begin so.
    pub(crate) fn check(self, group: &str, on_data_loss: OnDataLoss) -> Result<Self, RunError> {
        if !self.missing.is_empty() {
            return Err(RunError::NoOffset { group: group.to_owned(), partitions: self.missing });
        }
        if on_data_loss == OnDataLoss::Stop && !self.losses.is_empty() {
            return Err(RunError::DataLoss { losses: self.losses });
        }
        Ok(self)
    }
}

/// Why a run does not begin yet: it may, in a moment.
#[derive(Debug)]
pub(crate) struct NotYet(pub(crate) String);

/// Where a partition begins.
enum Start {
    At(Offset),
    /// There is no offset for it, and `--from stop` was said.
    Nowhere,
    Lost(DataLoss),
}

impl Begins {
    pub(crate) fn assign(&self, sources: impl Iterator<Item = Arc<TopicPartition>>) -> Result<Begun, NotYet> {
        let mut begun = Begun::default();
        for source in sources {
            let partition = source.partition;
            let latest = self.latest[&partition];
            let start = match self.start(&source)? {
                Start::At(offset) => offset,
                Start::Nowhere => {
                    begun.missing.push((*source).clone());
                    continue;
                }
                Start::Lost(loss) => {
                    let start = loss.resumed_at.unwrap_or(latest);
                    begun.losses.push(loss);
                    start
                }
            };
            let (finished, notes) = begun.known.take(self, &source, start);
            begun.assignments.push(Assignment {
                start,
                committed: self.committed.get(&partition).map(|committed| committed.offset),
                finished,
                notes,
                end: self.ends.as_ref().map(|ends| ends[&partition].max(start)),
                latest,
                epoch: self.epochs.get(&partition).copied().unwrap_or(LeaderEpoch::UNKNOWN),
                source,
            });
        }
        Ok(begun)
    }

    fn start(&self, source: &Arc<TopicPartition>) -> Result<Start, NotYet> {
        match self.committed.get(&source.partition) {
            Some(committed) => self.go_on(source, committed),
            None => Ok(self.without_offset(source)),
        }
    }

    /// Goes on where the group stands, if that is a place in this log.
    fn go_on(&self, source: &Arc<TopicPartition>, committed: &Committed) -> Result<Start, NotYet> {
        let offset = committed.offset;
        let (earliest, latest) = (self.earliest[&source.partition], self.latest[&source.partition]);
        let answer = self.epoch_ends.get(&source.partition).copied();
        let last = Some(offset + -1);
        match answer.map(|answer| committed_verdict(offset, answer)) {
            Some(Verdict::Truncated(at)) => {
                let from = at.unwrap_or(latest).min(offset);
                // What was written anew may be deleted by now.
                let to = at.map_or(offset, |_| offset.max(earliest)) + -1;
                let to = Some(to).filter(|to| *to >= from);
                Ok(Start::Lost(self.loss(source, (from, to), Why::Truncated, at.unwrap_or(earliest).max(earliest))))
            }
            _ if offset < earliest => {
                Ok(Start::Lost(self.loss(source, (offset, Some(earliest + -1)), Why::Deleted, earliest)))
            }
            Some(_) if offset > latest => {
                let reason = format!("{source}: the log ends at {latest} as yet, and the group stands at {offset}");
                Err(NotYet(reason))
            }
            // Where the logs parted is not known: to read all is what loses nothing.
            _ if offset > latest => Ok(Start::Lost(self.loss(source, (latest, last), Why::Truncated, earliest))),
            _ => Ok(Start::At(offset)),
        }
    }

    fn without_offset(&self, source: &Arc<TopicPartition>) -> Start {
        let partition = source.partition;
        let (earliest, latest) = (self.earliest[&partition], self.latest[&partition]);
        if let Some((was, kept)) = &self.former {
            let Some(offset) = kept.get(&partition) else { return Start::At(earliest) };
            let loss = self.loss(source, (*offset, None), Why::Recreated, earliest);
            return Start::Lost(DataLoss { topic_id: *was, new_topic_id: Some(self.id), ..loss });
        }
        let added = matches!(&self.sharing, Sharing::Dealt(added) if added.contains(&partition));
        if self.from == From::Stop && !added {
            return Start::Nowhere;
        }
        let highest = self.committed.keys().next_back().filter(|_| !matches!(self.sharing, Sharing::Dealt(_)));
        let Some(highest) = highest else {
            let start = if self.from == From::Latest && !added { latest } else { earliest };
            // Of a group without any offset, that is what was asked for.
            if start > Offset(0) && (added || !self.committed.is_empty()) {
                tracing::warn!(
                    partition = %source,
                    start = start.0,
                    added,
                    "no committed offset, but others have one, or the partition is new: beginning where --from says, and \
                     what lies before it is not worked off"
                );
            }
            return Start::At(start);
        };
        let may_be_new = partition > *highest || self.sharing == Sharing::Listed;
        if may_be_new && earliest == Offset(0) {
            tracing::warn!(partition = %source, "no committed offset, but others have one: beginning at the earliest");
            return Start::At(earliest);
        }
        let to = Some(earliest + -1).filter(|to| *to >= Offset(0));
        Start::Lost(self.loss(source, (Offset(0), to), Why::OffsetExpired, earliest))
    }

    fn loss(
        &self,
        source: &Arc<TopicPartition>,
        (from, to): (Offset, Option<Offset>),
        why: Why,
        earliest_unread: Offset,
    ) -> DataLoss {
        let (earliest, latest) = (self.earliest[&source.partition], self.latest[&source.partition]);
        DataLoss {
            source: Arc::clone(source),
            from,
            to,
            why,
            topic_id: self.id,
            new_topic_id: None,
            log: Some((earliest, latest)),
            resumed_at: match self.on_data_loss {
                OnDataLoss::Stop => None,
                OnDataLoss::Earliest => Some(earliest_unread),
                OnDataLoss::Latest => Some(latest),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Finished, MOST_UNITS, Place, Run, Unbelieved, encode};

    /// Partitions 0 to 3, each with the log 10 to 20 in leader epoch 5, of which the group has 12 for 1 and 2.
    fn begins() -> Begins {
        let all = |offset: i64| (0..4).map(|partition| (partition, Offset(offset))).collect::<BTreeMap<_, _>>();
        Begins {
            id: TopicId::default(),
            former: None,
            committed: [1, 2].map(|partition| (partition, committed(12))).into(),
            epoch_ends: BTreeMap::new(),
            epochs: (0..4).map(|partition| (partition, LeaderEpoch(5))).collect(),
            earliest: all(10),
            latest: all(20),
            from: From::Earliest,
            sharing: Sharing::All,
            on_data_loss: OnDataLoss::Earliest,
            trust_foreign: false,
            ends: None,
        }
    }

    fn committed(offset: i64) -> Committed {
        Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(3), metadata: String::new() }
    }

    fn begin(begins: &Begins, partition: i32) -> Result<Begun, RunError> {
        let begun =
            begins.assign([Arc::new(TopicPartition::new("t", partition))].into_iter()).expect("it may begin now");
        begun.check("g", begins.on_data_loss)
    }

    /// Asserts where a partition begins, and which range is told to be gone, why.
    #[track_caller]
    fn check(begins: &Begins, partition: i32, start: i64, lost: Option<(i64, Option<i64>, Why)>) {
        let Begun { assignments, losses, .. } = begin(begins, partition).expect("it begins");
        assert_eq!(assignments[0].start, Offset(start));
        let said = losses.first().map(|loss| (loss.from.0, loss.to.map(|to| to.0), loss.why));
        assert_eq!(said, lost);
        assert!(losses.iter().all(|loss| loss.resumed_at == Some(Offset(start))));
        let stop = begin(&Begins { on_data_loss: OnDataLoss::Stop, ..copy(begins) }, partition);
        assert_eq!(lost.is_some(), matches!(stop, Err(RunError::DataLoss { .. })), "{stop:?}");
    }

    fn copy(begins: &Begins) -> Begins {
        Begins {
            former: begins.former.clone(),
            committed: begins.committed.clone(),
            epoch_ends: begins.epoch_ends.clone(),
            epochs: begins.epochs.clone(),
            earliest: begins.earliest.clone(),
            latest: begins.latest.clone(),
            ends: begins.ends.clone(),
            sharing: begins.sharing.clone(),
            ..*begins
        }
    }

    fn ended(end: Option<i64>) -> BTreeMap<i32, EpochEnd> {
        [(1, EpochEnd { current: LeaderEpoch(5), end: end.map(Offset) })].into()
    }

    #[test]
    fn a_commit_within_its_log_is_where_it_goes_on() {
        check(&begins(), 1, 12, None);
        check(&Begins { epoch_ends: ended(Some(12)), ..begins() }, 1, 12, None);
    }

    #[test]
    fn a_commit_below_the_log_is_a_loss_up_to_its_first_offset() {
        let begins = Begins { committed: [(1, committed(4))].into(), ..begins() };
        check(&begins, 1, 10, Some((4, Some(9), Why::Deleted)));
        check(&Begins { on_data_loss: OnDataLoss::Latest, ..begins }, 1, 20, Some((4, Some(9), Why::Deleted)));
    }

    #[test]
    fn a_log_that_was_cut_off_and_has_grown_again_is_seen_by_the_leader_epoch() {
        let cut = Begins { committed: [(1, committed(18))].into(), epoch_ends: ended(Some(15)), ..begins() };
        check(&cut, 1, 15, Some((15, Some(17), Why::Truncated)));
        // Cut off below what is there still.
        check(&Begins { epoch_ends: ended(Some(7)), ..copy(&cut) }, 1, 10, Some((7, Some(17), Why::Truncated)));
        // An epoch that this log never had.
        check(&Begins { epoch_ends: ended(None), ..cut }, 1, 10, Some((18, None, Why::Truncated)));
    }

    #[test]
    fn a_commit_beyond_the_end_is_a_loss_unless_the_leader_says_that_the_log_holds_it() {
        let beyond = Begins { committed: [(1, committed(25))].into(), ..begins() };
        check(&beyond, 1, 10, Some((20, Some(24), Why::Truncated)));
        let as_yet = Begins { epoch_ends: ended(Some(25)), ..beyond };
        let begun = as_yet.assign([Arc::new(TopicPartition::new("t", 1))].into_iter());
        assert!(matches!(begun, Err(NotYet(_))), "{begun:?}");
    }

    #[test]
    fn a_partition_below_others_that_have_an_offset_has_lost_its_own() {
        check(&begins(), 0, 10, Some((0, Some(9), Why::OffsetExpired)));
        let whole = Begins { earliest: [(0, Offset(0))].into(), ..begins() };
        check(&whole, 0, 0, Some((0, None, Why::OffsetExpired)));
        check(&Begins { sharing: Sharing::Listed, ..whole }, 0, 0, None);
    }

    #[test]
    fn a_partition_above_all_that_have_an_offset_is_new_if_it_is_whole() {
        check(&begins(), 3, 10, Some((0, Some(9), Why::OffsetExpired)));
        let whole = Begins { earliest: [(3, Offset(0))].into(), from: From::Latest, ..begins() };
        check(&whole, 3, 0, None);
    }

    #[test]
    fn what_is_finished_above_a_commit_is_believed_as_far_as_its_log_goes() {
        let finished = |start: i64, end: i64| [Run::new(Offset(start), Offset(end))].into_iter().collect::<Finished>();
        let with = |offset: i64, text: &str| Begins {
            committed: [(1, Committed { metadata: text.to_owned(), ..committed(offset) })].into(),
            ..begins()
        };
        let place = |offset| Place { topic: TopicId::default(), partition: 1, offset: Offset(offset) };
        let text = encode(&place(12), &finished(14, 17), MOST_UNITS).text;
        let known = |begins: &Begins| {
            let Begun { mut assignments, known, .. } = begin(begins, 1).expect("it begins");
            (assignments.remove(0).finished, known.unbelieved.into_iter().map(|(_, why)| why).collect::<Vec<_>>())
        };
        assert_eq!(known(&with(12, &text)), (finished(14, 17), vec![]));
        assert_eq!(known(&with(12, "")), (Finished::default(), vec![]));
        let other_offset = Unbelieved::OtherOffset { theirs: Offset(12) };
        assert_eq!(known(&with(13, &text)), (Finished::default(), vec![other_offset]));
        assert_eq!(known(&with(12, "theirs")), (Finished::default(), vec![Unbelieved::Foreign]));
        // The epoch of the commit ended in between: from there on the log is another.
        let beyond = Unbelieved::BeyondEnd { reach: Offset(17), end: Offset(16) };
        let cut = |end| Begins { epoch_ends: ended(Some(end)), ..with(12, &text) };
        assert_eq!(known(&cut(16)), (Finished::default(), vec![beyond]));
        assert_eq!(known(&cut(17)), (finished(14, 17), vec![]));
        assert_eq!(known(&cut(11)), (Finished::default(), vec![]));
        // The commit itself lies below the log by now.
        let text = encode(&place(4), &finished(8, 13), MOST_UNITS).text;
        assert_eq!(known(&with(4, &text)), (finished(10, 13), vec![]));
    }

    #[test]
    fn a_group_without_any_offset_begins_where_from_says() {
        let none = Begins { committed: BTreeMap::new(), ..begins() };
        check(&none, 0, 10, None);
        check(&Begins { from: From::Latest, ..copy(&none) }, 0, 20, None);
        let stop = Begins { from: From::Stop, ..none };
        assert!(matches!(begin(&stop, 0), Err(RunError::NoOffset { .. })));
    }

    #[test]
    fn a_partition_that_the_group_deals_out_begins_where_from_says_unless_it_was_added() {
        let dealt = Begins { sharing: Sharing::Dealt([3].into()), from: From::Latest, ..begins() };
        check(&dealt, 0, 20, None);
        check(&dealt, 3, 10, None);
        check(&dealt, 1, 12, None);
        let stop = Begins { from: From::Stop, ..dealt };
        assert!(matches!(begin(&stop, 0), Err(RunError::NoOffset { .. })));
        check(&stop, 3, 10, None);
    }

    #[test]
    fn offsets_of_another_topic_say_what_was_not_finished_of_it() {
        let former = Some((TopicId(uuid::Uuid::from_u128(7)), [(0, Offset(30))].into()));
        let anew = Begins { former, committed: BTreeMap::new(), ..begins() };
        check(&anew, 0, 10, Some((30, None, Why::Recreated)));
        check(&anew, 1, 10, None);
    }
}
