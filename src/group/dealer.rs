//! PURE. What a change of the membership means: to the engine, and to the standing of this process.
//!
//! ```text
//!   Membership ──Change──▶ Dealer ──Step──▶ Find: where do they begin? ──hand_over──▶ Tell: Taken
//!                             │ ▲           Stand: the standing has changed
//!                             │ └─released─ Tell: Revoked, Lost, Nothing, Fatal
//!                             └─what was revoked before anybody knew where it begins: released at once
//! ```
//!
//! The steps are to be carried out in their order: whatever happens is told to the engine first and to the standing
//! afterwards, so that what finds the standing changed can rely on the engine knowing.
//!
//! Deliberately not here: asking anybody anything (`group.rs`).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Deal;
use crate::{
    error::RunError,
    gather::Gather,
    kafka::wire::{self, Identity},
    membership::{Change, Fatal, Membership, News, Topics, exchange::ByName},
    record::{TopicId, TopicPartition},
    standing::{Era, State},
    startup::Dealt,
};

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// The engine is to be told this.
    Tell(Deal),
    /// Where these begin is to be found out, and [handed over](Dealer::hand_over).
    Find(Find),
    /// The [standing](Dealer::state) has changed.
    Stand,
    /// This is to be told to whoever reads the log.
    News(News),
}

/// Partitions that are ours, and of which it is to be found out where they begin.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    pub(crate) number: u64,
    pub(crate) partitions: ByName,
    /// Those of them that were not there when their topics were first seen.
    pub(crate) added: BTreeSet<TopicPartition>,
}

/// How to be one.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// The group's name, for what is told of it.
    pub(crate) group: String,
    pub(crate) session_timeout: Duration,
    /// What runs of what is revoked may take; and where the whole group waits for it.
    pub(crate) revoke_grace: Duration,
    pub(crate) eager_grace: Duration,
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Dealer {
    pub(crate) membership: Membership,
    terms: Terms,
    /// A time that has passed.
    past: Instant,
    era: Era,
    steps: VecDeque<Step>,
    /// The partitions that it is being found out about where they begin, by number.
    finding: BTreeMap<u64, BTreeSet<TopicPartition>>,
    number: u64,
    /// The topics as they were first seen, by id and partitions; what comes later is new, and begins at the earliest: the
    /// partitions that are added, and all of a topic that comes later or is made anew.
    first_seen: BTreeMap<Arc<str>, (TopicId, i32)>,
}

impl Dealer {
    /// For a member that is about to join.
    pub(crate) fn new(membership: Membership, terms: Terms, now: Instant) -> Self {
        Self {
            membership,
            terms,
            past: now,
            era: 0,
            steps: VecDeque::new(),
            finding: BTreeMap::new(),
            number: 0,
            first_seen: BTreeMap::new(),
        }
    }

    /// What is to be done next.
    pub(crate) fn poll_step(&mut self, now: Instant) -> Option<Step> {
        while self.steps.is_empty() {
            let change = self.membership.poll_change()?;
            self.take_in(change, now);
        }
        self.steps.pop_front()
    }

    fn take_in(&mut self, change: Change, now: Instant) {
        match change {
            Change::Assigned { partitions, .. } => self.find(partitions),
            Change::Revoked { partitions } => self.revoke(&partitions, now),
            Change::Lost { partitions, why } => {
                tracing::warn!(partitions = flat(&partitions).count(), "lost: {why}");
                self.finding.clear();
                self.era += 1;
                self.steps.push_back(Step::Tell(Deal::Lost(flat(&partitions).collect(), self.era)));
                self.steps.push_back(Step::Stand);
            }
            Change::Epoch(_) => self.steps.push_back(Step::Stand),
            Change::News(news) => self.steps.push_back(Step::News(news)),
            Change::Fatal(why) => self.steps.push_back(Step::Tell(Deal::Fatal(fatal(&self.terms.group, why)))),
        }
    }

    fn find(&mut self, partitions: ByName) {
        let number = self.number;
        self.number += 1;
        self.finding.insert(number, flat(&partitions).gather());
        let later =
            |at: &TopicPartition| self.first_seen.get(&at.topic).is_some_and(|(_, count)| at.partition >= *count);
        let added = flat(&partitions).filter(later).gather();
        self.steps.extend([Step::Stand, Step::Find(Find { number, partitions, added })]);
    }

    /// Takes in where partitions begin, or why that will never be known.
    pub(crate) fn hand_over(&mut self, number: u64, dealt: Result<Dealt, RunError>) {
        let Some(wanted) = self.finding.remove(&number) else { return };
        self.steps.push_back(Step::Tell(match dealt {
            Ok(mut dealt) => {
                dealt.keep(&wanted);
                Deal::Taken(dealt)
            }
            Err(error) => Deal::Fatal(error),
        }));
    }

    /// What the engine has not even begun with is released at once.
    fn revoke(&mut self, partitions: &ByName, now: Instant) {
        let mut all: BTreeSet<_> = flat(partitions).gather();
        let mut unbegun = Vec::new();
        for finding in self.finding.values_mut() {
            unbegun.extend(finding.extract_if(.., |at| all.remove(at)));
        }
        if !all.is_empty() {
            let Terms { revoke_grace, eager_grace, .. } = self.terms;
            let until = now + if self.membership.is_eager() { eager_grace } else { revoke_grace };
            self.steps.push_back(Step::Tell(Deal::Revoked(all.into_iter().collect(), until)));
        }
        self.released(&unbegun, now);
    }

    /// Takes in that the engine has given partitions up.
    pub(crate) fn released(&mut self, partitions: &[TopicPartition], now: Instant) {
        if partitions.is_empty() {
            return;
        }
        let mut by_name = ByName::new();
        for at in partitions {
            by_name.entry(Arc::clone(&at.topic)).or_default().insert(at.partition);
        }
        self.membership.released(&by_name, now);
    }

    /// Leaves the group. What is still to be sent is nobody's business any more: somebody else has the partitions soon.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.membership.leave(now);
        self.era += 1;
        self.steps.push_back(Step::Stand);
    }

    /// Takes in what is known of topics.
    pub(crate) fn topics(&mut self, topics: Topics, now: Instant) {
        let first = self.first_seen.is_empty();
        for (name, (id, partitions)) in &topics {
            let count = if first { *partitions } else { 0 };
            let seen = self.first_seen.entry(Arc::clone(name)).or_insert((*id, count));
            if seen.0 != *id {
                *seen = (*id, 0);
            }
        }
        self.membership.topics(topics, now);
    }

    /// What may be sent and committed now, and as whom. Nothing where no heartbeat was acknowledged, or none since all was
    /// lost.
    pub(crate) fn state(&self) -> State {
        let good_until = self.membership.acknowledged_at().map_or(self.past, |at| at + self.terms.session_timeout);
        State { era: self.era, identity: self.identity(), good_until: Some(good_until) }
    }

    fn identity(&self) -> Option<Identity> {
        let epoch = self.membership.epoch()?;
        let (member, instance, number) = (Arc::clone(&epoch.member), epoch.instance.clone(), epoch.number);
        let epoch = match self.membership.is_classic() {
            true => wire::Epoch::Generation(number),
            false => wire::Epoch::Member(number),
        };
        Some(Identity { member, instance, epoch })
    }
}

fn flat(partitions: &ByName) -> impl Iterator<Item = TopicPartition> {
    partitions
        .iter()
        .flat_map(|(topic, numbers)| numbers.iter().map(|number| TopicPartition::new(Arc::clone(topic), *number)))
}

fn fatal(group: &str, why: Fatal) -> RunError {
    let reason = format!("group {group}: {why}");
    match why {
        Fatal::FencedInstance(_) | Fatal::InstanceHeld(_) => RunError::NotAlone { reason },
        _ => RunError::Unavailable { reason },
    }
}
