//! PURE. `cooperative-sticky`: balance with as few moves as that takes.
//!
//! 1. Everybody keeps what they hold, as far as they still want it. Where two say that they hold the same, the later
//!    generation is right; of one generation, nobody is.
//! 2. What nobody has goes to whoever may have it and has least.
//! 3. As long as somebody has two more than somebody else who may have one of those, it moves.
//! 4. What moved from one to another is left out, until its owner says that it has given it up ([`withhold`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Assignments, Counts, wanted};
use crate::membership::exchange::{ByName, Peer};

use crate::gather::Gather;

type Partition = (Arc<str>, i32);
/// A member, by its place among all.
type Place = usize;

/// The generation up to which `peer` is sure of what it holds: a field since version 2, and before that what Java's own
/// assignor puts into its user data.
fn generation(peer: &Peer) -> i32 {
    let told = peer.subscription.generation;
    let in_user_data = || peer.subscription.user_data.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    if told >= 0 { told } else { in_user_data().unwrap_or(-1) }
}

/// Who holds what; and what more than one says that it holds.
fn claims(counts: &Counts, members: &[Peer]) -> (BTreeMap<Partition, Place>, BTreeSet<Partition>) {
    let mut owners = BTreeMap::<Partition, (i32, Place)>::new();
    let mut disputed = BTreeSet::new();
    for (place, peer) in members.iter().enumerate() {
        let generation = generation(peer);
        for (topic, partitions) in &peer.subscription.owned {
            let there = counts.get(topic).copied().unwrap_or(0);
            for partition in partitions.iter().filter(|partition| (0..there).contains(partition)) {
                let claim = (Arc::clone(topic), *partition);
                let (of, _) = *owners.entry(claim.clone()).or_insert((generation, place));
                if of < generation {
                    owners.insert(claim.clone(), (generation, place));
                    disputed.remove(&claim);
                } else if of == generation && owners[&claim].1 != place {
                    disputed.insert(claim);
                }
            }
        }
    }
    let undisputed = owners.into_iter().filter(|(claim, _)| !disputed.contains(claim));
    (undisputed.map(|(claim, (_, place))| (claim, place)).gather(), disputed)
}

struct Balance<'a> {
    members: &'a [Peer],
    has: Vec<BTreeSet<Partition>>,
    /// What each held before, which is the last to be taken from it.
    held: Vec<BTreeSet<Partition>>,
}

impl Balance<'_> {
    fn may_have(&self, place: Place, topic: &Arc<str>) -> bool {
        self.members[place].subscription.topics.contains(topic)
    }

    /// To whoever may have it and has least. Who held it before comes first among equals: it may have it back.
    fn give(&mut self, partition: Partition) {
        let takers = (0..self.members.len()).filter(|place| self.may_have(*place, &partition.0));
        let least = takers.min_by_key(|place| {
            (self.has[*place].len(), !self.held[*place].contains(&partition), &self.members[*place].member)
        });
        if let Some(place) = least {
            self.has[place].insert(partition);
        }
    }

    /// What to take from `from` for `to`, if that is more balanced then: rather what `from` did not hold before, and of that
    /// rather what `to` did.
    fn movable(&self, from: Place, to: Place) -> Option<Partition> {
        if self.has[from].len() < self.has[to].len() + 2 {
            return None;
        }
        let may = self.has[from].iter().filter(|(topic, _)| self.may_have(to, topic));
        let worst = may.rev().min_by_key(|at| (self.held[from].contains(*at), !self.held[to].contains(*at)));
        worst.cloned()
    }

    /// Moves one partition, if that makes it more balanced: from who has most, as far as that can be.
    fn step(&mut self) -> bool {
        let mut places: Vec<_> = (0..self.members.len()).collect();
        places.sort_by_key(|place| (self.has[*place].len(), &self.members[*place].member));
        let pairs = places.iter().rev().flat_map(|from| places.iter().map(move |to| (*from, *to)));
        let Some((from, to, partition)) = pairs
            .filter(|(from, to)| from != to)
            .find_map(|(from, to)| self.movable(from, to).map(|partition| (from, to, partition)))
        else {
            return false;
        };
        self.has[from].remove(&partition);
        self.has[to].insert(partition);
        true
    }
}

/// Who is to have what in the end. Each step makes the sum of squares of what members have smaller, so that it ends.
pub(super) fn balance(counts: &Counts, members: &[Peer]) -> Assignments {
    let (owners, _) = claims(counts, members);
    let mut held = vec![BTreeSet::new(); members.len()];
    for ((topic, partition), place) in owners {
        if members[place].subscription.topics.contains(&topic) {
            held[place].insert((topic, partition));
        }
    }
    let mut balance = Balance { members, has: held.clone(), held };
    let all = wanted(counts, members).into_iter().flat_map(|topic| {
        let partitions = 0..counts[&topic];
        partitions.map(move |partition| (Arc::clone(&topic), partition))
    });
    let taken: BTreeSet<_> = balance.has.iter().flatten().cloned().gather();
    for partition in all.filter(|partition| !taken.contains(partition)) {
        balance.give(partition);
    }
    while balance.step() {}
    let has = members.iter().zip(balance.has).map(|(peer, has)| {
        let mut partitions = ByName::new();
        for (topic, partition) in has {
            partitions.entry(topic).or_default().insert(partition);
        }
        (Arc::clone(&peer.member), partitions)
    });
    has.gather()
}

/// Leaves out what somebody else says that it holds: it must be given up first. The members join again when they have done
/// so, and then it is free.
pub(super) fn withhold(mut assignments: Assignments, members: &[Peer]) -> Assignments {
    let everything = members.iter().flat_map(|peer| &peer.subscription.owned);
    let counts = everything.map(|(topic, _)| (Arc::clone(topic), i32::MAX)).gather();
    let (owners, disputed) = claims(&counts, members);
    for (place, peer) in members.iter().enumerate() {
        let Some(assigned) = assignments.get_mut(&peer.member) else { continue };
        for (topic, partitions) in assigned.iter_mut() {
            partitions.retain(|partition| {
                let at = (Arc::clone(topic), *partition);
                owners.get(&at).is_none_or(|owner| *owner == place) && !disputed.contains(&at)
            });
        }
        assigned.retain(|_, partitions| !partitions.is_empty());
    }
    assignments
}
