//! PURE. KIP-848: all is said in ConsumerGroupHeartbeat, and the coordinator assigns.
//!
//! ```text
//!   Joining ──epoch 0──▶ Inside ◀──┐ what is held, when it has changed and nothing is leaving: at once;
//!      ▲                   │  └────┘ otherwise in the interval that the coordinator asks for
//!      │                   │
//!      │     unknown: ◀────┤ session over, or revoked and not released in time: still Inside, where it
//!      │     all is lost   │ holds nothing, and says so
//!      │                   ▼
//!      └──────────────── Clearing: leaves first, where the coordinator takes us for somebody who is still there
//! ```
//!
//! A heartbeat says only what has changed since the last one that was answered. After a failure it says everything, since
//! the answer that was lost may have changed the epoch: a coordinator believes the epoch before only with what is held
//! beside it.
//!
//! What is revoked is told to be given up when all of it is, in the next heartbeat, at once. The coordinator gives new
//! partitions only when they are free, so that they are taken as they come.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Defect, Fatal, GroupProtocol, Lane, Loss, News, NotSpoken, Ticket,
    exchange::{Answer, ById, ByName, ConsumerBeat, ConsumerBeaten, Refusal, Request},
    holdings::minus,
    lane::Road,
    member::Member,
};
use crate::{gather::Gather, record::TopicId};

const LEAVES: i32 = -1;
const LEAVES_FOR_A_WHILE: i32 = -2;
/// Beyond its session, for which time it is waited that a member that has our instance id is given up.
const MARGIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Consumer {
    id: Arc<str>,
    /// 0 outside of the group.
    number: i32,
    stage: Stage,
    talk: Road<Sent>,
    /// The next heartbeat is due.
    due: Instant,
    /// None is sent before that.
    not_before: Instant,
    interval: Duration,
    /// What the coordinator knows of us; `None` where that is not sure.
    told: Option<Told>,
    /// What it wants us to hold.
    target: ById,
    /// Of the topics that are held.
    ids: BTreeMap<Arc<str>, TopicId>,
    /// When the first heartbeat was sent after the last one that was answered: since then it may have wanted anything.
    unheard_since: Option<Instant>,
    /// When it gives us up, if it is not told until then that what it took from us was released.
    release_by: Option<Instant>,
    /// Whether the coordinator may have taken us in, since it last said that it does not know us: perhaps we have not heard.
    maybe_inside: bool,
    /// Since when our instance id has been held by somebody else.
    held_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Joining,
    Inside,
    Clearing,
    Leaving,
    Over,
}

#[derive(Debug)]
enum Sent {
    Beat(Told),
    Leave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    topics: BTreeSet<Arc<str>>,
    owned: ById,
}

impl Consumer {
    pub(super) fn new(member: &Member, now: Instant) -> Self {
        Self {
            id: Arc::clone(&member.settings.member),
            number: 0,
            stage: Stage::Joining,
            talk: Road::new(Lane::Talk),
            due: now,
            not_before: now,
            interval: Duration::ZERO,
            told: None,
            target: ById::new(),
            ids: BTreeMap::new(),
            unheard_since: None,
            release_by: None,
            maybe_inside: false,
            held_since: None,
        }
    }

    /// For whoever speaks next.
    pub(super) fn road(&self) -> Road<()> {
        Road::after(&self.talk)
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn wants_topics(&self, member: &Member) -> bool {
        self.target.keys().any(|id| self.name(member, *id).is_none())
    }

    pub(super) fn topics_changed(&mut self, member: &mut Member, now: Instant) {
        if self.stage == Stage::Inside && self.told.is_some() {
            self.reconcile(member);
            self.settle(member, now);
        }
    }

    pub(super) fn released(&mut self, member: &mut Member, partitions: &ByName, now: Instant) {
        member.holdings.release(partitions);
        if self.stage == Stage::Inside {
            self.reconcile(member);
            self.settle(member, now);
        }
    }

    pub(super) fn leave(&mut self, now: Instant) {
        let never_came = !self.maybe_inside && !self.talk.is_busy();
        self.stage = if never_came { Stage::Over } else { Stage::Leaving };
        self.not_before = now;
    }

    pub(super) fn timeout(&self, member: &Member) -> Option<Instant> {
        let late = self.release_by.filter(|_| !member.holdings.is_empty());
        let beat = if self.talk.is_busy() { None } else { self.beat_at(member) };
        let forgets = member.breaks(Defect::NoBeatTimer) && self.stage == Stage::Inside;
        beat.filter(|_| !forgets).into_iter().chain(late).min()
    }

    /// When the next heartbeat is to be sent.
    fn beat_at(&self, member: &Member) -> Option<Instant> {
        match self.stage {
            Stage::Over => None,
            // Who wants nothing is not let in.
            Stage::Joining if member.subscribed.is_empty() => None,
            Stage::Inside if !self.is_urgent(member) => Some(self.due.max(self.not_before)),
            _ => Some(self.not_before),
        }
    }

    fn is_urgent(&self, member: &Member) -> bool {
        let Some(told) = &self.told else { return true };
        let released = member.holdings.leaving().is_empty() && told.owned != self.owned(member);
        released || told.topics != member.subscribed
    }

    pub(super) fn poll_request(&mut self, member: &mut Member, now: Instant) -> Option<(Ticket, Request)> {
        self.expire(member, now);
        if self.talk.is_busy() || self.beat_at(member).is_none_or(|at| at > now) {
            return None;
        }
        let bare = ConsumerBeat {
            member: Arc::clone(&self.id),
            epoch: self.number,
            instance: member.settings.instance.clone(),
            rack: None,
            rebalance_timeout: None,
            topics: None,
            assignor: None,
            owned: None,
        };
        if matches!(self.stage, Stage::Clearing | Stage::Leaving) {
            let epoch = if bare.instance.is_some() { LEAVES_FOR_A_WHILE } else { LEAVES };
            return Some((self.talk.ask(Sent::Leave, now), Request::ConsumerBeat(ConsumerBeat { epoch, ..bare })));
        }
        let saying = Told { topics: member.subscribed.clone(), owned: self.owned(member) };
        let whole = self.told.is_none() && !(member.breaks(Defect::DeltaAfterFailure) && self.number > 0);
        let news = |changed: bool| whole || changed && self.told.is_some();
        let told = self.told.as_ref();
        let beat = ConsumerBeat {
            rack: member.settings.rack.clone().filter(|_| whole),
            rebalance_timeout: whole.then_some(member.settings.rebalance_timeout),
            topics: news(told.is_none_or(|told| told.topics != saying.topics)).then(|| saying.topics.clone()),
            assignor: member.settings.server_assignor.clone().filter(|_| whole),
            owned: news(told.is_none_or(|told| told.owned != saying.owned)).then(|| saying.owned.clone()),
            ..bare
        };
        self.unheard_since.get_or_insert(now);
        Some((self.talk.ask(Sent::Beat(saying), now), Request::ConsumerBeat(beat)))
    }

    /// What is held, for the coordinator.
    fn owned(&self, member: &Member) -> ById {
        let held = member.holdings.held().clone();
        let held = if member.breaks(Defect::TellUnreleased) { minus(&held, member.holdings.leaving()) } else { held };
        held.into_iter().filter_map(|(topic, partitions)| Some((*self.ids.get(&topic)?, partitions))).gather()
    }

    pub(super) fn handle_answer(
        &mut self,
        member: &mut Member,
        ticket: Ticket,
        answer: Result<Answer, Refusal>,
        now: Instant,
    ) -> Result<(), NotSpoken> {
        let Some((sent, what)) = self.talk.answered(ticket) else { return Ok(()) };
        match (what, answer) {
            (Sent::Leave, answer) => {
                self.left(answer, now);
                Ok(())
            }
            // Now that it is answered, the coordinator can be told.
            (Sent::Beat(_), _) if self.stage == Stage::Leaving => Ok(()),
            (Sent::Beat(told), Ok(Answer::ConsumerBeaten(beaten))) => {
                self.beaten(member, told, beaten, sent, now);
                Ok(())
            }
            (Sent::Beat(_), Ok(other)) => {
                self.refused(member, Refusal::Passing(format!("not the answer: {other:?}")), now)
            }
            (Sent::Beat(_), Err(refusal)) => self.refused(member, refusal, now),
        }
    }

    fn beaten(&mut self, member: &mut Member, told: Told, beaten: ConsumerBeaten, sent: Instant, now: Instant) {
        self.talk.succeeded();
        (self.held_since, self.maybe_inside) = (None, true);
        (self.id, self.interval) = (beaten.member, beaten.interval);
        (self.stage, self.due, self.not_before) = (Stage::Inside, sent + self.interval, now);
        self.number = beaten.epoch;
        let since = self.unheard_since.take().unwrap_or(sent);
        member.acknowledge(sent, now);
        if member.is_expired(now) {
            // It has waited for us for too long: we may have been given up since.
            return self.let_go(member, Loss::Session, now);
        }
        member.enter(&self.id, self.number);
        let all_given_up = told.owned == self.owned(member) && member.holdings.leaving().is_empty();
        if all_given_up {
            self.release_by = None;
        }
        self.told = Some(told);
        if let Some(assignment) = beaten.assignment {
            if assignment != self.owned(member) {
                member.begins("the coordinator assigns anew", now);
            }
            self.target = assignment;
            self.reconcile(member);
            let leaves = !member.holdings.leaving().is_empty();
            if leaves && !member.breaks(Defect::OutliveRebalance) {
                self.release_by.get_or_insert(since + member.settings.rebalance_timeout);
            }
        }
        self.settle(member, now);
    }

    /// Takes in what is wanted of us, as far as the topics are known.
    fn reconcile(&mut self, member: &mut Member) {
        let held: BTreeSet<_> = member.holdings.held().keys().cloned().gather();
        self.ids.retain(|topic, _| held.contains(topic));
        let mut target = ByName::new();
        for (id, partitions) in self.target.iter().filter(|(_, partitions)| !partitions.is_empty()) {
            let Some(topic) = self.name(member, *id) else { continue };
            // A topic that was made anew under its old name: what is held is of the old one, and goes first.
            if *self.ids.entry(Arc::clone(&topic)).or_insert(*id) == *id {
                target.insert(topic, partitions.clone());
            }
        }
        member.aim(&target);
    }

    fn name(&self, member: &Member, id: TopicId) -> Option<Arc<str>> {
        let ours = self.ids.iter().find(|(_, held)| **held == id).map(|(topic, _)| topic);
        let known = || member.topics.iter().find(|(_, (known, _))| *known == id).map(|(topic, _)| topic);
        ours.or_else(known).cloned()
    }

    /// Looks whether all is as the coordinator wants it, and it knows.
    fn settle(&mut self, member: &mut Member, now: Instant) {
        if member.holdings.leaving().is_empty() && !self.is_urgent(member) && !self.wants_topics(member) {
            member.ends(now);
        }
    }

    fn refused(&mut self, member: &mut Member, refusal: Refusal, now: Instant) -> Result<(), NotSpoken> {
        let again = self.talk.failed(now);
        match refusal {
            Refusal::UnknownMember => {
                let at = if self.number > 0 { now } else { again };
                self.maybe_inside = false;
                self.join_anew(member, Loss::Unknown, Stage::Joining, at, now);
            }
            Refusal::FencedEpoch => {
                // Brokers before 4.1 want to hear first that who they still know has gone; and of a static member all do.
                let clear = self.number == 0 || member.settings.instance.is_some();
                let (stage, at) = if clear { (Stage::Clearing, again) } else { (Stage::Joining, now) };
                self.join_anew(member, Loss::Fenced, stage, at, now);
            }
            Refusal::UnreleasedInstance => self.held_by_another(member, again, now),
            Refusal::Unsupported(why) if member.settings.protocol == GroupProtocol::Auto => return Err(NotSpoken(why)),
            Refusal::Passing(_)
            | Refusal::StaleEpoch
            | Refusal::Rebalancing
            | Refusal::IllegalGeneration
            | Refusal::MemberIdRequired(_) => {
                (self.told, self.maybe_inside) = (None, true);
                // A coordinator that has taken the group over gives everybody a whole session.
                self.held_since = None;
                self.not_before = again;
            }
            Refusal::FencedInstance => self.end(member, member.fenced_instance()),
            Refusal::InconsistentProtocol(text) => self.end(member, Fatal::Incompatible(text)),
            Refusal::GroupFull => self.end(member, Fatal::Full),
            Refusal::Unsupported(text) => self.end(member, Fatal::NotSpoken(text)),
            Refusal::Never(text) => self.end(member, Fatal::Refused(text)),
        }
        Ok(())
    }

    /// A member of our instance id is in the group, and has not left. It may be us, if we have not heard that we were taken
    /// in; it may have been killed, and then its session ends; or somebody has given two processes the same id.
    fn held_by_another(&mut self, member: &mut Member, again: Instant, now: Instant) {
        let instance = member.settings.instance.clone().unwrap_or_else(|| "".into());
        if self.maybe_inside {
            return self.join_anew(member, Loss::Fenced, Stage::Clearing, now, now);
        }
        let for_at_most = member.settings.session_timeout + MARGIN;
        if self.held_since.is_none() {
            let instance = Arc::clone(&instance);
            member.tell(News::InstanceHeld { instance, for_at_most });
        }
        let since = *self.held_since.get_or_insert(now);
        if since + for_at_most <= now {
            return self.end(member, Fatal::InstanceHeld(instance));
        }
        self.join_anew(member, Loss::Fenced, Stage::Joining, again, now);
    }

    fn left(&mut self, answer: Result<Answer, Refusal>, now: Instant) {
        match (self.stage, answer) {
            (_, Err(Refusal::Passing(_))) => self.not_before = self.talk.failed(now),
            // If it was somebody else, joining will tell.
            (Stage::Clearing, answer) => {
                (self.stage, self.maybe_inside) = (Stage::Joining, false);
                self.not_before = if answer.is_ok() { now } else { self.talk.failed(now) };
            }
            _ => self.stage = Stage::Over,
        }
    }

    /// By our own clock.
    fn expire(&mut self, member: &mut Member, now: Instant) {
        if member.holdings.is_empty() || self.stage != Stage::Inside {
            return;
        }
        if member.is_expired(now) {
            self.let_go(member, Loss::Session, now);
        } else if self.release_by.is_some_and(|by| by <= now) {
            self.let_go(member, Loss::TooLate, now);
        }
    }

    /// Nothing is ours any more, as far as we can know. It says so under the epoch that it had: if the coordinator still
    /// knows us, it tells what is ours, and else it says that it does not.
    fn let_go(&mut self, member: &mut Member, why: Loss, now: Instant) {
        member.begins("this member is to join anew", now);
        member.lose(why);
        self.talk.give_up();
        (self.told, self.release_by, self.not_before) = (None, None, now);
        self.target.clear();
        self.ids.clear();
    }

    fn join_anew(&mut self, member: &mut Member, why: Loss, stage: Stage, at: Instant, now: Instant) {
        self.let_go(member, why, now);
        (self.stage, self.number, self.not_before) = (stage, 0, at);
    }

    fn end(&mut self, member: &mut Member, why: Fatal) {
        member.end(why);
        self.talk.give_up();
        self.stage = Stage::Over;
    }
}
