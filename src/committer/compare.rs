//! PURE. What a look shows of everything that was read of a topic: the verdict on each partition, and partitions that are
//! new.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    gather::Gather,
    lineage::{Bounds, EpochEnd, Look, Read, Verdict, Verified, question, verdict},
    record::{LeaderEpoch, Offset},
    scheduler::{Finding, TopicAsk},
};

/// What is found out so far; what the logs hold is still to be asked for, where that matters.
#[derive(Debug)]
pub(crate) struct Comparison {
    findings: Vec<Finding>,
    odd: BTreeMap<i32, Odd>,
    added: Vec<i32>,
    /// The partitions that cannot be decided now.
    pub(crate) open: BTreeSet<i32>,
}

/// Why the bounds of a log have to be looked at.
#[derive(Debug, Clone, Copy)]
enum Odd {
    /// It was cut off, there, or it is not known where.
    Cut(Option<Offset>),
    /// The place where to read on is not in it, though by the leader epochs what was read is.
    Held,
    /// From here on it is to be read anew, if it is not plain that it was cut off.
    Reread(Verified, Offset),
    /// The place where to read on is not in it, and there are no leader epochs to go by.
    Unknown,
}

/// The leader epochs whose ends have to be asked for.
pub(crate) fn questions(ask: &TopicAsk, look: &Look) -> BTreeMap<i32, LeaderEpoch> {
    ask.reads
        .iter()
        .filter_map(|(partition, read)| Some((*partition, question(read, look.epoch(*partition))?)))
        .gather()
}

impl Comparison {
    /// Compares what was read with a look, and the answers to the [`questions`].
    pub(crate) fn new(ask: &TopicAsk, look: &Look, answers: &BTreeMap<i32, EpochEnd>) -> Self {
        let added = look.epochs.keys().copied().filter(|partition| ask.newcomers.include(*partition)).collect();
        let mut compared = Self { findings: Vec::new(), odd: BTreeMap::new(), added, open: BTreeSet::new() };
        for (&partition, read) in &ask.reads {
            let now = look.epoch(partition);
            let asked = question(read, now);
            let life = read.life;
            match verdict(read, now, asked, answers.get(&partition).copied()) {
                Verdict::Truncated(at) => _ = compared.odd.insert(partition, Odd::Cut(at)),
                Verdict::Holds(_) if read.unsure => {
                    compared.odd.insert(partition, if asked.is_some() { Odd::Held } else { Odd::Unknown });
                }
                Verdict::Holds(verified) => compared.findings.push(Finding::Holds { partition, life, verified }),
                Verdict::Reread(verified, held) if read.unsure => {
                    compared.odd.insert(partition, Odd::Reread(verified, held));
                }
                Verdict::Reread(verified, held) => {
                    compared.findings.push(Finding::Reread { partition, life, verified, held: Some(held) });
                }
                Verdict::Open => _ = compared.open.insert(partition),
            }
        }
        compared
    }

    /// The partitions whose bounds matter.
    pub(crate) fn to_be_bounded(&self) -> impl Iterator<Item = i32> {
        self.odd.keys().chain(&self.added).copied()
    }

    /// All findings, now that these bounds are known.
    pub(crate) fn finish(mut self, ask: &TopicAsk, bounds: BTreeMap<i32, Bounds>) -> Vec<Finding> {
        for (partition, bounds) in bounds {
            self.findings.push(match (ask.reads.get(&partition), self.odd.get(&partition)) {
                (Some(read), Some(odd)) => out_of_range(partition, read, *odd, bounds),
                _ => Finding::Added { partition, bounds },
            });
        }
        self.findings
    }
}

/// What to say of a place that is not in the log, or of a log that was cut off below it.
fn out_of_range(partition: i32, read: &Read, odd: Odd, bounds: Bounds) -> Finding {
    let (life, next) = (read.life, read.next);
    match odd {
        Odd::Cut(at) => Finding::Truncated { partition, life, at, bounds },
        Odd::Reread(Verified { next: at, .. }, _) if next > bounds.latest => {
            Finding::Truncated { partition, life, at: Some(at), bounds }
        }
        Odd::Reread(verified, held) if next >= bounds.earliest => {
            Finding::Reread { partition, life, verified, held: Some(held) }
        }
        _ if next < bounds.earliest => Finding::Deleted { partition, life, bounds },
        Odd::Unknown if next > bounds.latest => Finding::Truncated { partition, life, at: None, bounds },
        // A leader that has only just become one, or a log that has grown since.
        _ => Finding::Reread { partition, life, verified: Verified { next, epoch: bounds.epoch }, held: None },
    }
}

/// Whether a commit for a topic may be made along with these findings: whether all that was read of it is as it was.
pub(crate) fn allow_commit(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| matches!(finding, Finding::Holds { .. } | Finding::Added { .. }))
}
