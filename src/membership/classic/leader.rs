//! PURE. What the leader of a group does for it: it assigns, and it looks after the topics that it assigned by.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::membership::{
    Assignor, Defect, Topics,
    assignors::{self, Assignments, Counts},
    exchange::{ByName, Joined},
    holdings::count,
    member::Member,
};

use crate::gather::Gather;

/// How long the leader waits for topics to be looked up that it knows nothing of. What is known by then has to do: a topic
/// that turns up later is a reason to join again.
pub(super) const LOOK_UP: Duration = Duration::from_secs(5);

/// The topics of the whole group, and how many partitions of them there were when they were assigned.
#[derive(Debug)]
pub(super) struct Leads {
    topics: BTreeSet<Arc<str>>,
    assigned: Option<Counts>,
    /// It has come back, and what was assigned stays (KIP-814).
    is_back: bool,
    alone: bool,
    /// Somebody has to give something up first.
    withholds: bool,
}

impl Leads {
    /// Nothing where we do not lead.
    pub(super) fn new(joined: &Joined) -> Option<Self> {
        let topics = joined.members.iter().flat_map(|peer| peer.subscription.topics.iter().cloned()).gather();
        let (is_back, alone) = (joined.skip_assignment, joined.members.len() == 1);
        (joined.leader == joined.member).then_some(Self { topics, assigned: None, is_back, alone, withholds: false })
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter()
    }

    pub(super) fn knows_enough(&self, known: &Topics) -> bool {
        self.is_back || self.topics.iter().all(|topic| known.contains_key(topic))
    }

    pub(super) fn has_changed(&self, known: &Topics) -> bool {
        self.assigned.as_ref().is_some_and(|assigned| *assigned != counts(&self.topics, known))
    }

    /// Whether there may be partitions that nobody has been assigned: nobody has looked while the leader was away. Java's
    /// takes it that there are none.
    pub(super) fn is_unsure(&self, ours: &ByName, known: &Topics) -> bool {
        let all: i32 = counts(&self.topics, known).values().sum();
        self.is_back && !(self.alone && usize::try_from(all) == Ok(count(ours)))
    }

    /// Whether something was withheld. Who gives it up joins again, and if it dies, its session ends; but if it is a static
    /// member that dies and comes back, nobody ever joins, and nobody is ever given that.
    pub(super) fn withholds(&self) -> bool {
        self.withholds
    }

    /// What everybody is to have; nothing where that is to stay as it is.
    pub(super) fn assign(&mut self, member: &Member, joined: &Joined) -> Assignments {
        let counts = counts(&self.topics, &member.topics);
        let assigned = match Assignor::of(&joined.protocol) {
            Some(assignor) if !self.is_back => {
                let give = if member.breaks(Defect::GiveAtOnce) { assignors::give_at_once } else { assignors::assign };
                give(assignor, &counts, &joined.members)
            }
            _ => Assignments::new(),
        };
        let given = assigned.values().map(count).sum::<usize>();
        self.withholds = !self.is_back && usize::try_from(counts.values().sum::<i32>()).is_ok_and(|all| given < all);
        self.assigned = Some(counts);
        assigned
    }
}

fn counts(topics: &BTreeSet<Arc<str>>, known: &Topics) -> Counts {
    let known = topics.iter().filter_map(|topic| Some((Arc::clone(topic), known.get(topic)?.1)));
    known.gather()
}
