//! PURE. Who is to have which partitions: Java's assignors, by which the leader of a classic group assigns.
//!
//! `range` and `roundrobin` give what Java's give, partition by partition, where no member names a rack (with racks,
//! Java's looks at where the replicas are, which is not known here; its balance is the same). `cooperative-sticky` is as
//! balanced and as sticky as Java's, and may choose otherwise where there is a choice.

mod sticky;
#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::exchange::{ByName, Peer};

use crate::gather::Gather;

/// How many partitions topics have.
pub(super) type Counts = BTreeMap<Arc<str>, i32>;
/// What each member is to have.
pub(super) type Assignments = BTreeMap<Arc<str>, ByName>;

/// How partitions are assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Of each topic, a range of partitions to each member.
    Range,
    /// One partition to each member in turn.
    RoundRobin,
    /// As few moves as a balanced assignment allows, and nothing moves before its owner has given it up (KIP-429).
    CooperativeSticky,
}

impl Assignor {
    const ALL: [Self; 3] = [Self::Range, Self::RoundRobin, Self::CooperativeSticky];

    /// As Kafka calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The one that Kafka calls so.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// Whether members may keep what they hold during a rebalance.
    pub(super) fn is_cooperative(self) -> bool {
        self == Self::CooperativeSticky
    }

    /// What goes along with a subscription, for others' leaders.
    pub(super) fn user_data(self, generation: i32) -> Vec<u8> {
        if self == Self::CooperativeSticky { generation.to_be_bytes().to_vec() } else { Vec::new() }
    }
}

/// Assigns. Topics without a count are not there.
pub(super) fn assign(assignor: Assignor, counts: &Counts, members: &[Peer]) -> Assignments {
    match assignor {
        Assignor::Range => range(counts, members),
        Assignor::RoundRobin => round_robin(counts, members),
        Assignor::CooperativeSticky => sticky::withhold(sticky::balance(counts, members), members),
    }
}

/// The same, but that nobody waits for who has to give something up: a defect.
pub(super) fn give_at_once(assignor: Assignor, counts: &Counts, members: &[Peer]) -> Assignments {
    match assignor {
        Assignor::CooperativeSticky => sticky::balance(counts, members),
        other => assign(other, counts, members),
    }
}

/// Java's order of members: static ones by their instance ids, then the others by their member ids.
fn order(left: &Peer, right: &Peer) -> Ordering {
    match (&left.instance, &right.instance) {
        (Some(left), Some(right)) => left.cmp(right),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.member.cmp(&right.member),
    }
}

fn in_order(members: &[Peer]) -> Vec<&Peer> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|left, right| order(left, right));
    members
}

fn nothing_for(members: &[Peer]) -> Assignments {
    members.iter().map(|peer| (Arc::clone(&peer.member), ByName::new())).gather()
}

fn give(assignments: &mut Assignments, peer: &Peer, topic: &Arc<str>, partitions: impl IntoIterator<Item = i32>) {
    let all = assignments.entry(Arc::clone(&peer.member)).or_default();
    let of_topic = all.entry(Arc::clone(topic)).or_default();
    of_topic.extend(partitions);
    if of_topic.is_empty() {
        all.remove(topic);
    }
}

fn range(counts: &Counts, members: &[Peer]) -> Assignments {
    let mut assignments = nothing_for(members);
    let members = in_order(members);
    for (topic, count) in counts {
        let takers: Vec<_> = members.iter().filter(|peer| peer.subscription.topics.contains(topic)).collect();
        let Ok(among) = i32::try_from(takers.len()) else { continue };
        if among == 0 {
            continue;
        }
        let (each, extra) = (count / among, count % among);
        let mut from = 0;
        for (at, peer) in (0..).zip(takers) {
            let to = from + each + i32::from(at < extra);
            give(&mut assignments, peer, topic, from..to);
            from = to;
        }
    }
    assignments
}

fn round_robin(counts: &Counts, members: &[Peer]) -> Assignments {
    let mut assignments = nothing_for(members);
    let members = in_order(members);
    let mut next = 0;
    for (topic, count) in counts {
        if !members.iter().any(|peer| peer.subscription.topics.contains(topic)) {
            continue;
        }
        for partition in 0..*count {
            while !members[next].subscription.topics.contains(topic) {
                next = (next + 1) % members.len();
            }
            give(&mut assignments, members[next], topic, [partition]);
            next = (next + 1) % members.len();
        }
    }
    assignments
}

/// All topics that somebody wants, and that are there.
fn wanted(counts: &Counts, members: &[Peer]) -> BTreeSet<Arc<str>> {
    let topics = members.iter().flat_map(|peer| &peer.subscription.topics);
    topics.filter(|topic| counts.contains_key(*topic)).cloned().gather()
}
