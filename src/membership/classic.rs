//! PURE. The classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! ```text
//!             ┌── refused ──────────────────────────────────────┐
//!             ▼                                                 │
//!   Outside ──Join──▶ Joining ──Joined──▶ (Assigning) ──Sync──▶ Syncing ──Synced──▶ (Confirming) ──▶ Inside
//!      ▲                 ▲                the leader, while                         until a heartbeat   │
//!      │                 │                it looks topics up                        is acknowledged     │
//!      │                 └──────────────── Join, once a rejoin is due and may be ◀──────────────────────┘
//!      └── lost: unknown, fenced, session over
//! ```
//!
//! **Eager** (`range` or `roundrobin` is among our assignors): before it joins, all that is held is revoked, and it joins
//! when all of that is released. **Cooperative** (KIP-429): it joins at once and says what it holds, with what is leaving.
//! What the assignment lacks is revoked, and when that is released it joins again, so that others are given it.
//!
//! Heartbeats go on under the last generation from SyncGroup on, while partitions are being released, and while JoinGroup
//! waits for the others, as long as something is held: otherwise nobody would know whether it is still ours. The first one
//! goes out beside SyncGroup, and nothing is taken before it is acknowledged: neither JoinGroup nor SyncGroup begins the
//! session anew where the coordinator answers it out of what it knows.

mod leader;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use self::leader::Leads;
use super::{
    Defect, Fatal, JOINING, Lane, Loss, Ticket,
    exchange::{Answer, Beat, ByName, Join, Joined, Refusal, Request, Subscription, Sync},
    holdings::{minus, of_topics},
    lane::Road,
    member::Member,
};

const NONE: i32 = -1;

#[derive(Debug)]
pub(super) struct Classic {
    /// Ours; empty until the coordinator has given it.
    id: Arc<str>,
    /// -1 outside of the group.
    generation: i32,
    stage: Stage,
    talk: Road<()>,
    /// A heartbeat of this generation was acknowledged.
    confirmed: bool,
    /// With the generation and the id of each heartbeat.
    beat: Road<(i32, Arc<str>)>,
    next_beat: Instant,
    /// We want to join, not before that time.
    rejoin: Option<(&'static str, Instant)>,
    /// What the last JoinGroup said: the topics, and what was held.
    said: (BTreeSet<Arc<str>>, ByName),
    /// What we have been assigned.
    target: ByName,
    /// Join again as soon as nothing is leaving that was taken from us: the leader waits with it for that.
    give_up: bool,
    leads: Option<Leads>,
    /// When the leader looks whether what it had to withhold has been given up.
    look_at: Option<Instant>,
    /// JoinGroup may have been answered with a new generation, and we have not heard.
    unheard: bool,
    /// When a heartbeat was sent that found the group at rest.
    rest_at: Instant,
    /// Eager: the others wait for us until then.
    release_by: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// No generation is ours.
    Outside,
    Joining,
    /// The leader waits for topics to be looked up, but not for ever.
    Assigning(Joined, Instant),
    Syncing,
    /// What has been assigned is taken as soon as a heartbeat of this generation is acknowledged.
    Confirming(ByName),
    Inside,
    /// LeaveGroup is sent, not before that time.
    Leaving(Instant),
    Over,
}

impl Classic {
    pub(super) fn new(talk: Road<()>, now: Instant) -> Self {
        Self {
            id: "".into(),
            generation: NONE,
            stage: Stage::Outside,
            talk,
            confirmed: false,
            beat: Road::new(Lane::Beat),
            next_beat: now,
            rejoin: Some((JOINING, now)),
            said: <_>::default(),
            target: ByName::new(),
            give_up: false,
            leads: None,
            look_at: None,
            unheard: false,
            rest_at: now,
            release_by: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(super) fn watched(&self) -> impl Iterator<Item = &Arc<str>> {
        self.leads.iter().flat_map(Leads::topics)
    }

    pub(super) fn wants_topics(&self) -> bool {
        self.leads.is_some() && matches!(self.stage, Stage::Assigning(..))
    }

    pub(super) fn subscription_changed(&mut self, member: &mut Member, now: Instant) {
        if matches!(self.stage, Stage::Inside) && self.said.0 != member.subscribed {
            self.join_again(member, "the topics that we subscribe to have changed", now, now);
        }
    }

    pub(super) fn topics_changed(&mut self, member: &mut Member, now: Instant) {
        let Some(leads) = &self.leads else { return };
        match &mut self.stage {
            Stage::Assigning(_, until) if leads.knows_enough(&member.topics) => *until = now,
            Stage::Inside if leads.has_changed(&member.topics) => {
                self.join_again(member, "topics of the group have changed", now, now);
            }
            _ => {}
        }
    }

    pub(super) fn released(&mut self, member: &mut Member, partitions: &ByName, now: Instant) {
        member.holdings.release(partitions);
        if !matches!(self.stage, Stage::Inside) {
            return;
        }
        if self.rejoin.is_none() {
            // What has come back while it was leaving.
            member.aim(&self.target);
        }
        self.go_on(member, now);
    }

    pub(super) fn leave(&mut self, member: &Member, now: Instant) {
        // A static member comes back, and its partitions wait for that (KIP-345).
        let stays = member.settings.instance.is_some() || self.id.is_empty();
        self.stage = if stays { Stage::Over } else { Stage::Leaving(now) };
        self.talk.give_up();
        self.beat.give_up();
    }

    pub(super) fn timeout(&self, member: &Member) -> Option<Instant> {
        let talk = match &self.stage {
            _ if self.talk.is_busy() => None,
            Stage::Outside | Stage::Inside => self.rejoin.filter(|_| self.may_join(member)).map(|(_, at)| at),
            Stage::Assigning(_, at) | Stage::Leaving(at) => Some(*at),
            Stage::Joining | Stage::Syncing | Stage::Confirming(_) | Stage::Over => None,
        };
        let beats = self.beats(member) && !self.beat.is_busy() && !member.breaks(Defect::NoBeatTimer);
        let late = self.release_by.filter(|_| !member.holdings.is_empty()).into_iter().chain(self.look_at);
        talk.into_iter().chain(beats.then_some(self.next_beat)).chain(late).min()
    }

    pub(super) fn poll_request(&mut self, member: &mut Member, now: Instant) -> Option<(Ticket, Request)> {
        self.expire(member, now);
        if self.look_at.take_if(|at| *at <= now).is_some() {
            self.join_again(member, "what a member was to give up still belongs to nobody", now, now);
        }
        if !self.talk.is_busy()
            && let Some(request) = self.say(member, now)
        {
            return Some((self.talk.ask((), now), request));
        }
        if self.beats(member) && !self.beat.is_busy() && self.next_beat <= now {
            let (generation, id) = (self.generation, Arc::clone(&self.id));
            let beat = Beat { generation, member: Arc::clone(&id), instance: member.settings.instance.clone() };
            return Some((self.beat.ask((generation, id), now), Request::Beat(beat)));
        }
        None
    }

    /// Whether heartbeats are due now and then.
    fn beats(&self, member: &Member) -> bool {
        let since_sync = match self.stage {
            Stage::Inside | Stage::Syncing | Stage::Confirming(_) | Stage::Assigning(..) => true,
            Stage::Joining => !member.holdings.is_empty(),
            Stage::Outside | Stage::Leaving(_) | Stage::Over => false,
        };
        since_sync && self.generation != NONE
    }

    fn may_join(&self, member: &Member) -> bool {
        !member.settings.is_eager() || member.holdings.is_empty() || member.breaks(Defect::JoinUnreleased)
    }

    fn say(&mut self, member: &mut Member, now: Instant) -> Option<Request> {
        match &self.stage {
            Stage::Outside | Stage::Inside => {
                let (why, _) = self.rejoin.filter(|(_, at)| *at <= now && self.may_join(member))?;
                Some(self.join(member, why))
            }
            Stage::Assigning(joined, until) if *until <= now => {
                let leads = self.leads.as_mut();
                let assignments = leads.map(|leads| leads.assign(member, joined)).unwrap_or_default();
                let protocol = Arc::clone(&joined.protocol);
                self.stage = Stage::Syncing;
                Some(Request::Sync(Sync {
                    generation: self.generation,
                    member: Arc::clone(&self.id),
                    instance: member.settings.instance.clone(),
                    protocol,
                    assignments,
                }))
            }
            Stage::Leaving(at) if *at <= now => Some(Request::Leave {
                member: Arc::clone(&self.id),
                instance: None,
                reason: "this process is stopping",
            }),
            _ => None,
        }
    }

    fn join(&mut self, member: &mut Member, reason: &'static str) -> Request {
        let eager = member.settings.is_eager();
        let owned = if eager { ByName::new() } else { member.holdings.held().clone() };
        self.said = (member.subscribed.clone(), owned);
        self.stage = Stage::Joining;
        (self.leads, self.look_at, self.unheard) = (None, None, true);
        let subscription = Subscription {
            topics: member.subscribed.clone(),
            user_data: Vec::new(),
            owned: self.said.1.clone(),
            generation: self.generation,
            rack: member.settings.rack.clone(),
        };
        let protocols = member.settings.assignors.iter().map(|assignor| {
            let user_data = assignor.user_data(self.generation);
            (assignor.name(), Subscription { user_data, ..subscription.clone() })
        });
        Request::Join(Join {
            member: Arc::clone(&self.id),
            instance: member.settings.instance.clone(),
            session_timeout: member.settings.session_timeout,
            rebalance_timeout: member.settings.rebalance_timeout,
            protocols: protocols.collect(),
            reason,
        })
    }

    pub(super) fn handle_answer(
        &mut self,
        member: &mut Member,
        ticket: Ticket,
        answer: Result<Answer, Refusal>,
        now: Instant,
    ) {
        match ticket.lane {
            Lane::Talk => {
                if let Some((sent, ())) = self.talk.answered(ticket) {
                    self.answered(member, sent, answer, now);
                }
            }
            Lane::Beat => {
                if let Some((sent, (generation, id))) = self.beat.answered(ticket) {
                    // Of a life that is over: nothing that it says is of us.
                    if generation == self.generation && id == self.id {
                        self.beaten(member, sent, answer, now);
                    }
                }
            }
        }
    }

    fn answered(&mut self, member: &mut Member, sent: Instant, answer: Result<Answer, Refusal>, now: Instant) {
        match (&self.stage, answer) {
            (Stage::Leaving(_), Err(Refusal::Passing(_))) => self.stage = Stage::Leaving(self.talk.failed(now)),
            (Stage::Leaving(_), _) => self.stage = Stage::Over,
            (Stage::Joining, Ok(Answer::Joined(joined))) => self.joined(member, joined, now),
            (Stage::Syncing, Ok(Answer::Synced { assignment, .. })) => {
                self.rest_at = sent;
                self.stage = Stage::Confirming(assignment);
                self.confirm(member, now);
            }
            (_, Ok(other)) => self.refused(member, Refusal::Passing(format!("not the answer: {other:?}")), now),
            (_, Err(refusal)) => self.refused(member, refusal, now),
        }
    }

    fn joined(&mut self, member: &mut Member, joined: Joined, now: Instant) {
        (self.id, self.generation) = (Arc::clone(&joined.member), joined.generation);
        member.enter(&self.id, self.generation);
        // One that is under way is of the generation before.
        self.beat.give_up();
        (self.confirmed, self.next_beat) = (false, now);
        (self.rejoin, self.release_by, self.unheard) = (None, None, false);
        self.leads = Leads::new(&joined);
        let knows = self.leads.as_ref().is_none_or(|leads| leads.knows_enough(&member.topics));
        let until = if knows { now } else { now + leader::LOOK_UP };
        self.stage = Stage::Assigning(joined, until);
    }

    /// Takes what has been assigned, if the coordinator is known to believe in us.
    fn confirm(&mut self, member: &mut Member, now: Instant) {
        let Stage::Confirming(assignment) = &mut self.stage else { return };
        if !self.confirmed {
            return;
        }
        let assignment = std::mem::take(assignment);
        if member.is_expired(now) {
            return self.outside(member, Loss::Session, now, now);
        }
        self.take(member, &assignment, now);
    }

    fn take(&mut self, member: &mut Member, assignment: &ByName, now: Instant) {
        self.stage = Stage::Inside;
        self.target = of_topics(assignment, &member.subscribed);
        member.aim(&self.target);
        let (topics, owned) = &self.said;
        // The leader waits for us to give up what we had said that we hold.
        self.give_up = !member.settings.is_eager() && !minus(owned, &self.target).is_empty();
        let stale = *topics != member.subscribed;
        let foreign = assignment.keys().any(|topic| !member.subscribed.contains(topic));
        if foreign && !stale {
            // The leader did not know what we want: it assigned by what a static member wanted before it came back.
            let at = self.talk.failed(now);
            self.join_again(member, "we are assigned topics that we do not subscribe to", at, now);
        } else {
            self.talk.succeeded();
        }
        if stale {
            self.join_again(member, "the topics that we subscribe to have changed", now, now);
        }
        if self.leads.as_ref().is_some_and(|leads| leads.is_unsure(&self.target, &member.topics)) {
            self.join_again(member, "the leader is back, and cannot know what has changed meanwhile", now, now);
        }
        let withholds = self.leads.as_ref().is_some_and(Leads::withholds);
        self.look_at = withholds.then(|| now + member.settings.rebalance_timeout);
        self.topics_changed(member, now);
        self.go_on(member, now);
    }

    /// Inside, looks whether it has to join again, or all is settled.
    fn go_on(&mut self, member: &mut Member, now: Instant) {
        if !minus(member.holdings.leaving(), &self.target).is_empty() {
            return;
        }
        if self.give_up && !member.breaks(Defect::NoJoinAfterRelease) {
            self.give_up = false;
            self.join_again(member, "partitions that were revoked are given up", now, now);
        }
        if self.rejoin.is_none() {
            member.ends(now);
        }
    }

    /// A rejoin is wanted. What has to be released before is revoked.
    fn join_again(&mut self, member: &mut Member, why: &'static str, at: Instant, now: Instant) {
        member.begins(why, now);
        if self.rejoin.is_none_or(|(_, already)| at < already) {
            self.rejoin = Some((why, at));
        }
        let eager = member.settings.is_eager();
        let kept = if eager { ByName::new() } else { of_topics(member.holdings.held(), &member.subscribed) };
        if !member.breaks(Defect::JoinUnreleased) {
            member.aim(&minus(&kept, member.holdings.leaving()));
        }
    }

    /// JoinGroup or SyncGroup came to nothing.
    fn refused(&mut self, member: &mut Member, refusal: Refusal, now: Instant) {
        let again = self.talk.failed(now);
        let joining = matches!(self.stage, Stage::Joining);
        match refusal {
            Refusal::MemberIdRequired(id) => {
                self.id = id;
                self.back(now);
            }
            // As in Java, SyncGroup is not asked again, but JoinGroup: the group may have gone on.
            Refusal::Rebalancing if !joining => self.back(now),
            Refusal::Rebalancing | Refusal::Passing(_) | Refusal::StaleEpoch => self.back(again),
            Refusal::UnknownMember => {
                let at = if self.id.is_empty() { again } else { now };
                self.id = "".into();
                self.outside(member, Loss::Unknown, at, now);
            }
            Refusal::IllegalGeneration | Refusal::FencedEpoch => self.outside(member, Loss::Fenced, again, now),
            fatal => self.end(member, fatal),
        }
    }

    /// To where it was before it joined, to do so again.
    fn back(&mut self, at: Instant) {
        self.stage = if self.generation == NONE { Stage::Outside } else { Stage::Inside };
        self.rejoin = Some((self.rejoin.map_or("the last attempt failed", |(why, _)| why), at));
    }

    fn beaten(&mut self, member: &mut Member, sent: Instant, answer: Result<Answer, Refusal>, now: Instant) {
        match answer {
            Ok(_) | Err(Refusal::Rebalancing) => {
                self.beat.succeeded();
                member.acknowledge(sent, now);
                self.next_beat = sent + member.settings.heartbeat_interval;
                self.confirmed = true;
                match (answer.is_ok(), &self.stage) {
                    (true, _) => {
                        self.rest_at = sent;
                        self.confirm(member, now);
                    }
                    (false, Stage::Inside) => self.rebalancing(member, now),
                    // What has been assigned is over before it began.
                    (false, Stage::Confirming(_)) => self.back(now),
                    (false, _) => {}
                }
            }
            // The group has a new generation, of which JoinGroup will tell.
            Err(Refusal::IllegalGeneration) if self.unheard => {
                self.next_beat = self.beat.failed(now);
            }
            Err(Refusal::IllegalGeneration | Refusal::FencedEpoch) => self.outside(member, Loss::Fenced, now, now),
            Err(Refusal::UnknownMember) => {
                self.id = "".into();
                self.outside(member, Loss::Unknown, now, now);
            }
            Err(Refusal::Passing(_) | Refusal::MemberIdRequired(_) | Refusal::StaleEpoch) => {
                self.next_beat = self.beat.failed(now);
            }
            Err(fatal) => self.end(member, fatal),
        }
    }

    /// The others join. In an eager group they wait for us, for a rebalance timeout from when that began; which was after
    /// the group was last seen at rest.
    fn rebalancing(&mut self, member: &mut Member, now: Instant) {
        self.join_again(member, "members join or leave the group", now, now);
        if member.settings.is_eager() && !member.breaks(Defect::OutliveRebalance) {
            self.release_by.get_or_insert(self.rest_at + member.settings.rebalance_timeout);
        }
    }

    /// By our own clock.
    fn expire(&mut self, member: &mut Member, now: Instant) {
        if member.holdings.is_empty() {
            return;
        }
        if member.is_expired(now) {
            self.outside(member, Loss::Session, now, now);
        } else if self.release_by.is_some_and(|by| by <= now) {
            self.outside(member, Loss::TooLate, now, now);
        }
    }

    /// Everything is lost, and it joins anew. The id is kept: where the coordinator still knows it, nobody else has to wait
    /// for its session to end.
    fn outside(&mut self, member: &mut Member, why: Loss, at: Instant, now: Instant) {
        member.begins("this member is to join anew", now);
        member.lose(why);
        self.generation = NONE;
        self.stage = Stage::Outside;
        self.talk.give_up();
        self.beat.give_up();
        self.rejoin = Some(("lost its place in the group", at));
        self.target.clear();
        (self.give_up, self.leads, self.look_at) = (false, None, None);
        (self.unheard, self.release_by) = (false, None);
    }

    fn end(&mut self, member: &mut Member, refusal: Refusal) {
        let why = match refusal {
            Refusal::FencedInstance | Refusal::UnreleasedInstance => member.fenced_instance(),
            Refusal::InconsistentProtocol(text) => Fatal::Incompatible(text),
            Refusal::GroupFull => Fatal::Full,
            Refusal::Unsupported(text) | Refusal::Never(text) => Fatal::Refused(text),
            other => Fatal::Refused(format!("{other:?}")),
        };
        member.end(why);
        self.talk.give_up();
        self.beat.give_up();
        self.stage = Stage::Over;
    }
}
