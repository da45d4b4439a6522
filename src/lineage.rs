//! PURE. Whether what was read of a partition is what its log holds: two looks at the metadata, and what to ask in between.
//!
//! ```text
//!        look A          fetches          look B
//!   ───────┼─────────────[─────]─────────────┼──────▶ time
//!    id, epoch e                       id, epoch e: they are of this log, and may be committed
//!                                      id, epoch f: where did e end? (OffsetForLeaderEpoch)
//!                                           at or above what was read: the log holds it; read on from here
//!                                           below what look A saw:     the log was cut off
//!                                           in between: read under e, and cut off? or under f? read it again
//!                                      another id: another topic
//! ```
//!
//! A reader that tells the leader epoch of what it read leaves less doubt: what was written under e was cut off or not, and
//! what was written under f comes from the leader of now. One that does not (rskafka: Fetch v4) leaves the middle case
//! open, and what lies there is read anew and not committed before. What was being fetched when the epoch changed may come
//! from the leader of before, and is read anew in any case.
//!
//! What cannot be seen: a topic without an id (Kafka before 2.8) that was made anew with a longer log; a broker that
//! answers for a moment with metadata of before.

use std::collections::BTreeMap;

use crate::record::{AssignmentId, LeaderEpoch, Offset, TopicId};

/// Which log there is under a topic's name, as one broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The topic's identity.
    pub id: TopicId,
    /// The leader epochs of those of its partitions that have a leader.
    pub epochs: BTreeMap<i32, LeaderEpoch>,
}

impl Look {
    /// The leader epoch of a partition; unknown while it has no leader.
    #[must_use]
    pub fn epoch(&self, partition: i32) -> LeaderEpoch {
        self.epochs.get(&partition).copied().unwrap_or(LeaderEpoch::UNKNOWN)
    }
}

/// Up to where a log is known to hold what was read, and in which leader epoch that was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// What lies below was there.
    pub next: Offset,
    /// The epoch of the leader then.
    pub epoch: LeaderEpoch,
}

/// What the reader told of the leader epochs of what it read since the epoch last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whether it told all of them.
    pub all: bool,
    /// What lies below was written in the epoch that was verified, or before.
    pub below: Offset,
    /// What lies above was written later.
    pub above: Above,
}

/// The leader epochs of what was written later than the epoch that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Above {
    /// Nothing was.
    Nothing,
    /// All of it was written in this one.
    One(LeaderEpoch),
    /// More than one.
    Several,
}

impl Told {
    /// Nothing was read as yet.
    #[must_use]
    pub fn nothing(start: Offset) -> Self {
        Self { all: true, below: start, above: Above::Nothing }
    }

    /// Takes in one fetch, which reached up to `next`, and the leader epoch of its last batch. (A leader's log holds what
    /// lies below a batch of its own, so the last is enough.)
    pub fn take(&mut self, next: Offset, epoch: LeaderEpoch, verified: LeaderEpoch) {
        self.above = match self.above {
            _ if epoch == LeaderEpoch::UNKNOWN => {
                self.all = false;
                return;
            }
            Above::Nothing if epoch <= verified => {
                self.below = next;
                return;
            }
            Above::Nothing => Above::One(epoch),
            Above::One(one) if one == epoch => return,
            _ => Above::Several,
        };
    }
}

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// In which life of the partition.
    pub life: AssignmentId,
    /// Reading goes on here.
    pub next: Offset,
    /// What the last look showed.
    pub verified: Verified,
    /// In which leader epochs it was written.
    pub told: Told,
    /// The log may not be what it was: `next` is not in it, or it could not be read for a while.
    pub unsure: bool,
}

/// Where a leader epoch ended, as the leader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The leader's own epoch.
    pub current: LeaderEpoch,
    /// The first offset above the epoch that was asked for, or above the last one before it; `None` if the leader knows no
    /// such epoch: the log is another.
    pub end: Option<Offset>,
}

/// What the log of a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Its first offset.
    pub earliest: Offset,
    /// The high watermark.
    pub latest: Offset,
    /// The leader's epoch, at a look shortly before.
    pub epoch: LeaderEpoch,
}

/// What is found out about one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The log holds what was read.
    Holds(Verified),
    /// The log holds what lies below this, and from there on it is to be read anew. Of what there was before, it holds
    /// nothing at this offset and above.
    Reread(Verified, Offset),
    /// What was read is not what the log holds; below this offset it is, if that is known.
    Truncated(Option<Offset>),
    /// Not to be decided now: the partition has no leader that answers.
    Open,
}

/// The epoch whose end has to be asked for, to know whether the log still holds what was read; `None` if nothing has to.
#[must_use]
pub fn question(read: &Read, now: LeaderEpoch) -> Option<LeaderEpoch> {
    let asked = read.verified.epoch;
    (asked != LeaderEpoch::UNKNOWN && (now != asked || read.unsure)).then_some(asked)
}

/// What follows from a look, and from the answer to the [`question`] where there was one.
#[must_use]
pub fn verdict(read: &Read, now: LeaderEpoch, asked: Option<LeaderEpoch>, answer: Option<EpochEnd>) -> Verdict {
    if asked.is_none() {
        return Verdict::Holds(Verified { next: read.next, epoch: now });
    }
    let Some(EpochEnd { current, end }) = answer else { return Verdict::Open };
    let Some(end) = end else { return Verdict::Truncated(None) };
    let Read { next, verified, told, .. } = read;
    // What was read and then given up, at the end of a run, is nothing to us any more.
    if end < verified.next.min(*next) || (told.all && end < told.below.min(*next)) {
        return Verdict::Truncated(Some(end));
    }
    let of_now = match told.above {
        Above::Nothing => true,
        Above::One(epoch) => epoch == current,
        Above::Several => false,
    };
    let holds = end >= *next || (told.all && of_now);
    let seen = Verified { next: if holds { *next } else { end }, epoch: current };
    if holds && current == verified.epoch { Verdict::Holds(seen) } else { Verdict::Reread(seen, end) }
}

/// Whether the log that a commit was made for still holds what lies below it: as [`verdict`], for what a group has kept.
#[must_use]
pub fn committed_verdict(offset: Offset, answer: EpochEnd) -> Verdict {
    match answer.end {
        None => Verdict::Truncated(None),
        Some(end) if end < offset => Verdict::Truncated(Some(end)),
        Some(_) => Verdict::Holds(Verified { next: offset, epoch: answer.current }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read up to 100, of which 80 were seen at the last look, in epoch 3.
    fn read() -> Read {
        Read {
            life: AssignmentId(1),
            next: Offset(100),
            verified: Verified { next: Offset(80), epoch: LeaderEpoch(3) },
            told: Told { all: false, ..Told::nothing(Offset(80)) },
            unsure: false,
        }
    }

    /// The same, by a reader that told of a fetch up to each of these offsets that its last batch was of this epoch.
    fn told(fetches: &[(i64, i32)]) -> Read {
        let mut read = Read { told: Told::nothing(Offset(80)), ..read() };
        for (next, epoch) in fetches {
            read.told.take(Offset(*next), LeaderEpoch(*epoch), LeaderEpoch(3));
        }
        read
    }

    #[track_caller]
    fn check(read: &Read, now: i32, end: Option<i64>, expected: Verdict) {
        let now = LeaderEpoch(now);
        let asked = question(read, now);
        assert!(asked.is_some(), "nothing is asked");
        let answer = EpochEnd { current: now, end: end.map(Offset) };
        assert_eq!(verdict(read, now, asked, Some(answer)), expected);
    }

    fn verified(next: i64, epoch: i32) -> Verified {
        Verified { next: Offset(next), epoch: LeaderEpoch(epoch) }
    }

    fn reread(next: i64, epoch: i32, end: i64) -> Verdict {
        Verdict::Reread(verified(next, epoch), Offset(end))
    }

    #[test]
    fn fetches_between_two_equal_looks_are_of_this_log() {
        assert_eq!(question(&read(), LeaderEpoch(3)), None);
        assert_eq!(verdict(&read(), LeaderEpoch(3), None, None), Verdict::Holds(verified(100, 3)));
    }

    #[test]
    fn an_epoch_that_ended_above_what_was_read_took_nothing() {
        check(&read(), 4, Some(100), reread(100, 4, 100));
        check(&told(&[(100, 3)]), 4, Some(100), reread(100, 4, 100));
    }

    #[test]
    fn an_epoch_that_ended_below_what_was_seen_was_cut_off() {
        check(&read(), 4, Some(79), Verdict::Truncated(Some(Offset(79))));
        check(&read(), 4, None, Verdict::Truncated(None));
        check(&told(&[(100, 3)]), 4, Some(99), Verdict::Truncated(Some(Offset(99))));
        // It was read on from the leader of now, in a log that had grown again.
        check(&told(&[(90, 3), (100, 4)]), 4, Some(89), Verdict::Truncated(Some(Offset(89))));
    }

    #[test]
    fn what_may_be_of_either_epoch_is_read_again() {
        check(&read(), 4, Some(80), reread(80, 4, 80));
        check(&read(), 4, Some(99), reread(99, 4, 99));
        // In between there was another leader, and whether its log lasted nobody knows.
        check(&told(&[(90, 3), (100, 4)]), 5, Some(95), reread(95, 5, 95));
        check(&told(&[(90, 4), (100, 5)]), 5, Some(85), reread(85, 5, 85));
    }

    #[test]
    fn what_is_told_to_come_from_the_leader_of_now_is_not() {
        check(&told(&[(90, 3), (100, 4)]), 4, Some(90), reread(100, 4, 90));
    }

    #[test]
    fn without_a_leader_nothing_is_decided() {
        let asked = question(&read(), LeaderEpoch::UNKNOWN);
        assert_eq!(asked, Some(LeaderEpoch(3)));
        assert_eq!(verdict(&read(), LeaderEpoch::UNKNOWN, asked, None), Verdict::Open);
    }

    #[test]
    fn brokers_without_epochs_are_asked_nothing() {
        let read = Read { verified: verified(80, -1), ..read() };
        assert_eq!(question(&read, LeaderEpoch::UNKNOWN), None);
        assert_eq!(question(&read, LeaderEpoch(2)), None);
    }
}
