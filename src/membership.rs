//! PURE. A member of a group: what it says to the group's coordinator and when, and what it holds.
//!
//! It speaks two protocols, the classic one (KIP-429, KIP-345) and that of KIP-848, and it looks the same from outside.
//! Time is an argument, and so is the member's id. Whoever drives it polls requests until none comes, then changes until
//! none comes, and then waits for an answer, for news of its own, or for [`poll_timeout`](Membership::poll_timeout).
//!
//! ```text
//!                    poll_request ──▶ the wire ──▶ coordinator
//!                   handle_answer ◀── the wire ◀──
//!
//!    not held ──Assigned──▶ held ──Revoked──▶ leaving ──released()──▶ not held
//!        ▲                   │                   │
//!        └───────────────────┴───────Lost────────┘
//! ```
//!
//! What is leaving is still ours: its tasks may end and be committed, under [`epoch`](Membership::epoch), until the engine
//! says that it has given it up. Until then nobody else is given it. What is lost is not ours any more, perhaps of
//! somebody else by now: nothing may be committed.
//!
//! **Who may still believe in what it holds.** A coordinator gives a member's partitions away when it has not heard of it
//! for a session timeout. It counts from when it received a heartbeat, which is not before that was sent; so
//! [`acknowledged_at`](Membership::acknowledged_at) is the time at which the last acknowledged request was *sent*, and once
//! a session timeout has passed since, everything is lost by our own clock, whatever the coordinator says later. The same
//! holds for what it gives a rebalance timeout to.
//!
//! **What may be under way at the same time.** One request of each [`Lane`]: a Heartbeat of the classic protocol may be
//! asked while JoinGroup, SyncGroup or LeaveGroup is. It has to go by a connection of its own: a coordinator answers one
//! request of a connection after the other, and JoinGroup only when the whole group has come. When a request comes in a
//! lane that has one under way, that one is given up: its answer, should it come, is of no use.
//!
//! Deliberately not here: finding the coordinator, deadlines of requests (`kafka/wire`, which turns all of that into
//! [`Refusal::Passing`]), looking up topics, and what becomes of tasks (the engine).

mod assignors;
mod change;
mod classic;
mod consumer;
pub(crate) mod exchange;
mod holdings;
mod lane;
mod member;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use self::{
    assignors::Assignor,
    change::{Change, Epoch, Fatal, Loss, News},
    lane::{Lane, Ticket},
};
use self::{
    classic::Classic,
    consumer::Consumer,
    exchange::{Answer, ByName, Refusal, Request},
    lane::Road,
    member::Member,
};
use crate::record::TopicId;

/// Why the first rebalance of a member begins.
pub(crate) const JOINING: &str = "joining the group";

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    /// KIP-848 where the coordinator speaks it with this group, else the classic one.
    Auto,
    /// KIP-848.
    Consumer,
    /// JoinGroup, SyncGroup and Heartbeat.
    Classic,
}

/// How to be a member.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) protocol: GroupProtocol,
    /// A UUID of this process, by which KIP-848 knows it. The classic protocol's coordinator makes ids by itself.
    pub(crate) member: Arc<str>,
    /// Classic: what we could do with, the best first. Never empty.
    pub(crate) assignors: Vec<Assignor>,
    /// KIP-848: the coordinator's assignor; its choice where there is none.
    pub(crate) server_assignor: Option<Arc<str>>,
    /// KIP-345: a static member's name.
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) rack: Option<Arc<str>>,
    /// After how long without a heartbeat the coordinator gives a member up. In KIP-848 that is the broker's to say: what
    /// stands here must not be longer than `group.consumer.session.timeout.ms`, which is 45 s unless it was changed.
    pub(crate) session_timeout: Duration,
    /// How long a member may take to give up what is revoked. Not shorter than the session timeout.
    pub(crate) rebalance_timeout: Duration,
    /// Classic; KIP-848's coordinator says it itself.
    pub(crate) heartbeat_interval: Duration,
}

impl Settings {
    /// Java's, for the member of this id.
    pub(crate) fn new(member: Arc<str>) -> Self {
        Self {
            protocol: GroupProtocol::Auto,
            member,
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            server_assignor: None,
            instance: None,
            rack: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(3),
        }
    }

    /// Whether nothing is held during a rebalance. As in Java, that is so where only one of the assignors asks for it.
    pub(crate) fn is_eager(&self) -> bool {
        self.assignors.iter().any(|assignor| !assignor.is_cooperative())
    }
}

/// What is known of topics: their ids, and how many partitions they have.
pub(crate) type Topics = BTreeMap<Arc<str>, (TopicId, i32)>;

/// See the [module's documentation](self).
///
/// - in: [`handle_answer`](Self::handle_answer), [`subscribe`](Self::subscribe), [`topics`](Self::topics),
///   [`released`](Self::released), [`leave`](Self::leave)
/// - out: `poll_request` and `poll_change`, each until it gives `None`; `poll_timeout`
/// - to look at: [`epoch`](Self::epoch), [`acknowledged_at`](Self::acknowledged_at), [`held`](Self::held),
///   [`watched`](Self::watched), [`is_over`](Self::is_over)
#[derive(Debug)]
pub(crate) struct Membership {
    member: Member,
    spoken: Spoken,
}

#[derive(Debug)]
enum Spoken {
    Classic(Classic),
    Consumer(Consumer),
}

/// What a protocol that cannot be spoken gives back.
#[derive(Debug)]
struct NotSpoken(String);

impl Membership {
    /// A member that is about to join, subscribed to `topics`.
    pub(crate) fn new(settings: Settings, topics: BTreeSet<Arc<str>>, now: Instant) -> Self {
        assert!(!settings.assignors.is_empty(), "no assignors");
        let consumer = settings.protocol != GroupProtocol::Classic;
        let mut member = Member::new(settings, topics);
        member.begins(JOINING, now);
        let spoken = if consumer {
            Spoken::Consumer(Consumer::new(&member, now))
        } else {
            Spoken::Classic(Classic::new(Road::new(Lane::Talk), now))
        };
        Self { member, spoken }
    }

    /// Takes in what became of a request.
    pub(crate) fn handle_answer(&mut self, ticket: Ticket, answer: Result<Answer, Refusal>, now: Instant) {
        let member = &mut self.member;
        match &mut self.spoken {
            Spoken::Classic(classic) => classic.handle_answer(member, ticket, answer, now),
            Spoken::Consumer(consumer) => {
                if let Err(NotSpoken(why)) = consumer.handle_answer(member, ticket, answer, now) {
                    member.lose(Loss::Unknown);
                    member.tell(News::FallsBack { why });
                    self.spoken = Spoken::Classic(Classic::new(consumer.road(), now));
                }
            }
        }
    }

    /// The topics that we want partitions of may have changed.
    pub(crate) fn subscribe(&mut self, topics: BTreeSet<Arc<str>>, now: Instant) {
        if self.member.subscribed == topics {
            return;
        }
        self.member.subscribed = topics;
        if let Spoken::Classic(classic) = &mut self.spoken {
            classic.subscription_changed(&mut self.member, now);
        }
    }

    /// What is known of topics may have changed: of those that [`watched`](Self::watched) names, and of any others.
    pub(crate) fn topics(&mut self, known: Topics, now: Instant) {
        self.member.topics = known;
        match &mut self.spoken {
            Spoken::Classic(classic) => classic.topics_changed(&mut self.member, now),
            Spoken::Consumer(consumer) => consumer.topics_changed(&mut self.member, now),
        }
    }

    /// The engine has given up partitions that were revoked: nothing of them runs any more that could be committed.
    pub(crate) fn released(&mut self, partitions: &ByName, now: Instant) {
        match &mut self.spoken {
            Spoken::Classic(classic) => classic.released(&mut self.member, partitions, now),
            Spoken::Consumer(consumer) => consumer.released(&mut self.member, partitions, now),
        }
    }

    /// Leaves the group, for good or (a static member) for a while. Whatever is held has to be committed by now: nothing
    /// can be committed any more, and no change is told. [`is_over`](Self::is_over) says when the coordinator knows; it is
    /// asked again until it does.
    pub(crate) fn leave(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        self.member.forget_all();
        match &mut self.spoken {
            Spoken::Classic(classic) => classic.leave(&self.member, now),
            Spoken::Consumer(consumer) => consumer.leave(now),
        }
    }

    /// What is to be asked of the coordinator now.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<(Ticket, Request)> {
        match &mut self.spoken {
            Spoken::Classic(classic) => classic.poll_request(&mut self.member, now),
            Spoken::Consumer(consumer) => consumer.poll_request(&mut self.member, now),
        }
    }

    /// What has changed.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.member.changes.pop_front()
    }

    /// When [`poll_request`](Self::poll_request) has to be called again, whatever happens until then; it may have passed.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let spoken = match &self.spoken {
            Spoken::Classic(classic) => classic.timeout(&self.member),
            Spoken::Consumer(consumer) => consumer.timeout(&self.member),
        };
        spoken.into_iter().chain(self.member.session_end()).min()
    }

    /// What a commit has to carry; `None` while none would be accepted.
    pub(crate) fn epoch(&self) -> Option<&Epoch> {
        self.member.epoch.as_ref()
    }

    /// When the last request that the coordinator acknowledged was sent. What is held is ours for a session timeout from
    /// then on, and not for longer.
    pub(crate) fn acknowledged_at(&self) -> Option<Instant> {
        self.member.acknowledged_at
    }

    /// Breaks a promise from now on.
    #[cfg(test)]
    pub(crate) fn break_promise(&mut self, defect: Option<Defect>) {
        self.member.defect = defect;
    }

    /// What is ours, with what is leaving.
    #[cfg(test)]
    pub(crate) fn held(&self) -> &ByName {
        self.member.holdings.held()
    }

    /// Whether it speaks the classic protocol: then its epoch is the group's generation.
    pub(crate) fn is_classic(&self) -> bool {
        matches!(self.spoken, Spoken::Classic(_))
    }

    /// Whether the whole group waits while it gives up what is revoked.
    pub(crate) fn is_eager(&self) -> bool {
        self.is_classic() && self.member.settings.is_eager()
    }

    /// The topics that [`topics`](Self::topics) ought to tell of: our own, and those of the whole group where we assign.
    pub(crate) fn watched(&self) -> BTreeSet<Arc<str>> {
        let mut watched = self.member.subscribed.clone();
        if let Spoken::Classic(classic) = &self.spoken {
            watched.extend(classic.watched().cloned());
        }
        watched
    }

    /// Whether something waits for a topic to be looked up.
    pub(crate) fn wants_topics(&self) -> bool {
        match &self.spoken {
            Spoken::Classic(classic) => classic.wants_topics(),
            Spoken::Consumer(consumer) => consumer.wants_topics(&self.member),
        }
    }

    /// Whether all is said: it has left, or it cannot be a member.
    pub(crate) fn is_over(&self) -> bool {
        match &self.spoken {
            Spoken::Classic(classic) => classic.is_over(),
            Spoken::Consumer(consumer) => consumer.is_over(),
        }
    }
}

/// A promise to break, for the tests that must catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Forget when the next heartbeat is due.
    NoBeatTimer,
    /// Forget when the session ends.
    NoSessionTimer,
    /// Hold on to what is held beyond the session.
    OutliveSession,
    /// Count the session from when an answer came.
    CountFromAnswer,
    /// Join while partitions are still to be released, as if they had been.
    JoinUnreleased,
    /// Never join again for what was given up.
    NoJoinAfterRelease,
    /// Give a partition to another member before its owner has given it up.
    GiveAtOnce,
    /// Tell the coordinator that what is leaving was given up.
    TellUnreleased,
    /// Say after a failure only what has changed.
    DeltaAfterFailure,
    /// Commit under the generation before.
    OldEpoch,
    /// Hold what is leaving for longer than the coordinator waits.
    OutliveRebalance,
}
