//! PURE. What the leader of a group does for it: it assigns, and it looks after the topics that it assigned by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::membership::{
    Assignor, Defect, Topics,
    assignors::{self, Counts},
    exchange::{ByName, Joined, Peer},
    member::Member,
};

/// How long the leader waits for topics to be looked up that it knows nothing of. What is known by then has to do: a topic
/// that turns up later is a reason to join again.
pub(super) const LOOK_UP: Duration = Duration::from_secs(5);

/// The topics of the whole group, and how many partitions of them there were when they were assigned.
#[derive(Debug)]
pub(super) struct Leads {
    topics: BTreeSet<Arc<str>>,
    assigned: Option<Counts>,
}

impl Leads {
    pub(super) fn new(members: &[Peer]) -> Self {
        let topics = members.iter().flat_map(|peer| peer.subscription.topics.iter().cloned()).collect();
        Self { topics, assigned: None }
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter()
    }

    pub(super) fn knows_all(&self, known: &Topics) -> bool {
        self.topics.iter().all(|topic| known.contains_key(topic))
    }

    pub(super) fn assigned_by(&mut self, known: &Topics) {
        self.assigned = Some(counts(&self.topics, known));
    }

    pub(super) fn has_changed(&self, known: &Topics) -> bool {
        self.assigned.as_ref().is_some_and(|assigned| *assigned != counts(&self.topics, known))
    }
}

fn counts(topics: &BTreeSet<Arc<str>>, known: &Topics) -> Counts {
    let known = topics.iter().filter_map(|topic| Some((Arc::clone(topic), known.get(topic)?.1)));
    known.collect()
}

/// What everybody is to have; nothing where we do not lead, or need not assign (KIP-814).
pub(super) fn assign(member: &Member, joined: &Joined) -> BTreeMap<Arc<str>, ByName> {
    if joined.leader != joined.member || joined.skip_assignment {
        return BTreeMap::new();
    }
    let Some(assignor) = Assignor::of(&joined.protocol) else { return BTreeMap::new() };
    let topics = joined.members.iter().flat_map(|peer| peer.subscription.topics.iter().cloned()).collect();
    let counts = counts(&topics, &member.topics);
    if member.breaks(Defect::GiveAtOnce) {
        return assignors::give_at_once(assignor, &counts, &joined.members);
    }
    assignors::assign(assignor, &counts, &joined.members)
}
