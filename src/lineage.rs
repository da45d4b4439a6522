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
//! A reader that tells the leader epoch of what it read leaves no doubt: the question is then where *that* epoch ended.
//! One that does not (rskafka: Fetch v4) leaves the middle case open, and what lies there is read anew and not committed
//! before; so is what was being fetched when the epoch changed.
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

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// In which life of the partition.
    pub life: AssignmentId,
    /// Reading goes on here.
    pub next: Offset,
    /// The leader epoch of the last batch below, where the reader tells.
    pub epoch: LeaderEpoch,
    /// What the last look showed.
    pub verified: Verified,
    /// A fetch was told that `next` is not in the log.
    pub out_of_range: bool,
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
    /// The log holds what lies below this, and from there on it is to be read anew.
    Reread(Verified),
    /// What was read is not what the log holds; below this offset it is, if that is known.
    Truncated(Option<Offset>),
    /// Not to be decided now: the partition has no leader that answers.
    Open,
}

/// The epoch whose end has to be asked for, to know whether the log still holds what was read; `None` if nothing has to.
#[must_use]
pub fn question(read: &Read, now: LeaderEpoch) -> Option<LeaderEpoch> {
    let told = read.epoch != LeaderEpoch::UNKNOWN;
    let asked = if told { read.epoch } else { read.verified.epoch };
    let changed = now != read.verified.epoch;
    // A fetch from before the last change, handed over after it.
    let late = told && read.epoch < now && read.next > read.verified.next;
    (asked != LeaderEpoch::UNKNOWN && (changed || late || read.out_of_range)).then_some(asked)
}

/// What follows from a look, and from the answer to the [`question`] where there was one.
#[must_use]
pub fn verdict(read: &Read, now: LeaderEpoch, asked: Option<LeaderEpoch>, answer: Option<EpochEnd>) -> Verdict {
    if asked.is_none() {
        return Verdict::Holds(Verified { next: read.next, epoch: now });
    }
    let Some(EpochEnd { current, end }) = answer else { return Verdict::Open };
    let told = read.epoch != LeaderEpoch::UNKNOWN;
    match end {
        None => Verdict::Truncated(None),
        Some(end) if end >= read.next => {
            let verified = Verified { next: read.next, epoch: current };
            // What is being fetched just now may still come from the leader of before.
            if told || current == read.verified.epoch { Verdict::Holds(verified) } else { Verdict::Reread(verified) }
        }
        Some(end) if told || end < read.verified.next => Verdict::Truncated(Some(end)),
        Some(end) => Verdict::Reread(Verified { next: end, epoch: current }),
    }
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
    fn read(epoch: i32) -> Read {
        Read {
            life: AssignmentId(1),
            next: Offset(100),
            epoch: LeaderEpoch(epoch),
            verified: Verified { next: Offset(80), epoch: LeaderEpoch(3) },
            out_of_range: false,
        }
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

    #[test]
    fn fetches_between_two_equal_looks_are_of_this_log() {
        let read = read(-1);
        assert_eq!(question(&read, LeaderEpoch(3)), None);
        assert_eq!(verdict(&read, LeaderEpoch(3), None, None), Verdict::Holds(verified(100, 3)));
    }

    #[test]
    fn an_epoch_that_ended_above_what_was_read_took_nothing() {
        check(&read(-1), 4, Some(100), Verdict::Reread(verified(100, 4)));
        check(&read(3), 4, Some(100), Verdict::Holds(verified(100, 4)));
    }

    #[test]
    fn an_epoch_that_ended_below_what_was_seen_was_cut_off() {
        check(&read(-1), 4, Some(79), Verdict::Truncated(Some(Offset(79))));
        check(&read(3), 4, Some(99), Verdict::Truncated(Some(Offset(99))));
        check(&read(-1), 4, None, Verdict::Truncated(None));
    }

    #[test]
    fn what_may_be_of_either_epoch_is_read_again() {
        check(&read(-1), 4, Some(80), Verdict::Reread(verified(80, 4)));
        check(&read(-1), 4, Some(99), Verdict::Reread(verified(99, 4)));
    }

    #[test]
    fn a_late_fetch_is_asked_for_although_the_look_before_saw_the_new_epoch() {
        let late = Read { verified: verified(80, 4), ..read(3) };
        check(&late, 4, Some(90), Verdict::Truncated(Some(Offset(90))));
        check(&late, 4, Some(100), Verdict::Holds(verified(100, 4)));
    }

    #[test]
    fn without_a_leader_nothing_is_decided() {
        let read = read(-1);
        let asked = question(&read, LeaderEpoch(5));
        assert_eq!(verdict(&read, LeaderEpoch(5), asked, None), Verdict::Open);
    }

    #[test]
    fn brokers_without_epochs_are_asked_nothing() {
        let read = Read { verified: verified(80, -1), ..read(-1) };
        assert_eq!(question(&read, LeaderEpoch::UNKNOWN), None);
        assert_eq!(question(&read, LeaderEpoch(2)), None);
    }
}
