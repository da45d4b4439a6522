//! PURE: a group by the classic protocol, as Kafka's coordinator runs it: members join, the leader assigns, all sync.
//!
//! ```text
//!            join                       all have joined, or time is over
//!   Empty ─────────▶ Preparing ────────────────────────────────▶ Completing
//!     ▲                ▲   │ nobody is left                        │     │ the leader's sync
//!     └────────────────┼───┘                                       │     ▼
//!                      └───────────────────────────────────────────┴── Stable
//!                        a member comes, goes, changes what it says, does not beat in time, or does not sync
//! ```
//!
//! A join is answered when the group has formed, and a sync when the leader has assigned: until then they wait, each under
//! its [`Ticket`], by which its outcome is asked for again ([`Classic::joined`], [`Classic::synced`]). Time is an argument:
//! whoever calls does [`advance`](Classic::advance) first, and again at [`next_deadline`](Classic::next_deadline).
//!
//! A member with an instance id (KIP-345) is replaced by the next one with the same, without a rebalance.
//!
//! Deliberately not here: what members tell each other (bytes, which are passed on), and a delay before the first rebalance.

mod member;
mod questions;
mod said;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use self::member::Wait;

pub(in crate::broker) use self::{
    member::{Member, Ticket},
    said::{At, Join, JoinRefused, Joined, Turn},
};
use crate::gather::Gather;

/// Members and those that were given an id, in one group.
pub(in crate::broker) const MAX_MEMBERS: usize = 1_000;
/// What the members of one group may have said, in bytes: as much as Kafka can keep of a group.
const MAX_BYTES: usize = 1 << 20;
/// How long a member that has never been in a generation waits for its first one before it has to ask again.
const NEW_MEMBER: Duration = Duration::from_secs(300);
/// No rebalance waits longer or shorter than that for its members, whatever they ask for.
const REBALANCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3_600));

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::broker) enum Phase {
    /// It has no members.
    #[default]
    Empty,
    /// Its members are to join until then.
    Preparing(Instant),
    /// Its members have joined, and wait for the leader's assignment.
    Completing,
    /// Its members know what they have.
    Stable,
}

impl Phase {
    /// As Kafka names it.
    pub(in crate::broker) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing(_) => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A group.
#[derive(Debug, Default)]
pub(in crate::broker) struct Classic {
    pub(in crate::broker) phase: Phase,
    pub(in crate::broker) generation: i32,
    /// Such as `consumer`; empty while nobody has joined.
    pub(in crate::broker) protocol_type: String,
    /// The one that the members have agreed on, while they have.
    pub(in crate::broker) protocol: Option<String>,
    leader: Option<String>,
    /// In the order in which they came.
    members: Vec<Member>,
    /// Ids that were given and are to join, and until when.
    promised: BTreeMap<String, Instant>,
    /// When those are removed that have not synced.
    sync_by: Option<Instant>,
}

impl Classic {
    pub(in crate::broker) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether a join or a sync waits under this ticket.
    pub(in crate::broker) fn has_waiting(&self, ticket: Ticket) -> bool {
        self.members.iter().any(|member| member.has_waiting(ticket))
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(in crate::broker) fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Preparing(until) => Some(until),
            _ => self.sync_by.filter(|_| self.members.iter().any(|member| !member.has_synced)),
        };
        let members = self.members.iter().filter(|member| member.can_expire()).map(|member| member.expires);
        members.chain(self.promised.values().copied()).chain(phase).min()
    }

    /// Does what was due until now, in the order in which it was; says whether there was something.
    pub(in crate::broker) fn advance(&mut self, now: Instant) -> bool {
        let mut changed = false;
        while let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            changed = true;
            self.promised.retain(|_, until| *until > due);
            let expired: Vec<_> = self.members.iter().filter(|m| m.can_expire() && m.expires <= due).collect();
            let expired: Vec<_> = expired.into_iter().map(|member| member.id.clone()).collect();
            if !expired.is_empty() {
                self.remove(&expired, due);
            }
            match self.phase {
                Phase::Preparing(until) if until <= due || self.have_all_joined() => self.complete(due),
                Phase::Completing | Phase::Stable if self.sync_by.is_some_and(|until| until <= due) => {
                    self.sync_by = None;
                    let late = self.members.iter().filter(|member| !member.has_synced);
                    let late: Vec<_> = late.map(|member| member.id.clone()).collect();
                    if !late.is_empty() {
                        self.remove(&late, due);
                    }
                }
                _ => {}
            }
        }
        changed
    }

    /// Somebody joins. `new_id` makes an id of a name.
    pub(in crate::broker) fn join(
        &mut self,
        now: Instant,
        ticket: Ticket,
        mut join: Join<'_>,
        new_id: impl FnOnce(&str) -> String,
    ) -> Turn<Joined, JoinRefused> {
        let refused = |error| Turn::Now(Err(JoinRefused { error, member: join.member.to_owned() }));
        join.rebalance_timeout = join.rebalance_timeout.clamp(REBALANCE.0, REBALANCE.1);
        if !self.has_room_for(&join) {
            return refused(ResponseError::GroupMaxSizeReached);
        }
        if !self.has_protocol_for(&join) {
            return refused(ResponseError::InconsistentGroupProtocol);
        }
        if join.member.is_empty() {
            let replaced = join.instance.and_then(|instance| self.of_instance(instance)).map(|m| m.id.clone());
            let id = new_id(join.instance.unwrap_or(join.client_id));
            return match replaced {
                Some(old) => self.replace(now, ticket, join, &old, &id),
                None if join.instance.is_none() && join.asks_for_id => {
                    self.promised.insert(id.clone(), now + join.session_timeout);
                    Turn::Now(Err(JoinRefused { error: ResponseError::MemberIdRequired, member: id }))
                }
                None => self.add(now, ticket, &join, &id),
            };
        }
        if self.promised.remove(join.member).is_some() {
            return self.add(now, ticket, &join, join.member);
        }
        if let Err(error) = self.check_member(join.member, join.instance) {
            return refused(error);
        }
        self.join_again(now, ticket, &join)
    }

    fn join_again(&mut self, now: Instant, ticket: Ticket, join: &Join<'_>) -> Turn<Joined, JoinRefused> {
        let is_leader = self.leader.as_deref() == Some(join.member);
        let member = self.member_mut(join.member).expect("it was just looked up");
        let is_same = member.protocols == join.protocols;
        match self.phase {
            // It may not have got the answer to its last join; or it has nothing new to say.
            Phase::Completing if is_same => Turn::Now(Ok(self.now_joined(join.member))),
            Phase::Stable if is_same && !is_leader => Turn::Now(Ok(self.now_joined(join.member))),
            // A leader that joins again knows something that others do not.
            Phase::Completing | Phase::Stable | Phase::Preparing(_) => {
                self.member_mut(join.member).expect("it was just looked up").says(join, ticket);
                self.prepare_or_complete(now);
                self.turn(ticket)
            }
            Phase::Empty => unreachable!("an empty group has no members"),
        }
    }

    fn add(&mut self, now: Instant, ticket: Ticket, join: &Join<'_>, id: &str) -> Turn<Joined, JoinRefused> {
        self.members.push(Member::new(id, join, ticket, now + NEW_MEMBER));
        join.protocol_type.clone_into(&mut self.protocol_type);
        self.prepare_or_complete(now);
        self.turn(ticket)
    }

    /// A process has taken over from another of the same instance id (KIP-345).
    fn replace(
        &mut self,
        now: Instant,
        ticket: Ticket,
        join: Join<'_>,
        old: &str,
        id: &str,
    ) -> Turn<Joined, JoinRefused> {
        let old_leader = self.leader.clone().unwrap_or_default();
        let was_leader = old_leader == old;
        let member = self.member_mut(old).expect("it was just looked up");
        id.clone_into(&mut member.id);
        member.sync = None;
        member.says(&join, ticket);
        member.expires = now + join.session_timeout;
        if was_leader {
            self.leader = Some(id.to_owned());
        }
        match self.phase {
            Phase::Stable if self.protocol == self.chosen() => {
                self.member_mut(id).expect("it was just renamed").join = None;
                let mut joined = self.now_joined(id);
                if join.may_skip {
                    joined.skip_assignment = was_leader;
                } else {
                    // It must not assign: so it does not learn that it leads.
                    joined.leader = old_leader;
                    joined.members = Vec::new();
                }
                Turn::Now(Ok(joined))
            }
            // The leader may be assigning to the id that is no more.
            Phase::Completing => {
                self.prepare(now);
                self.turn(ticket)
            }
            _ => {
                self.prepare_or_complete(now);
                self.turn(ticket)
            }
        }
    }

    /// What has become of a join that waits. One that was given up has no outcome any more; `member` and `instance` are whose
    /// it was.
    pub(in crate::broker) fn joined(
        &mut self,
        ticket: Ticket,
        member: &str,
        instance: Option<&str>,
    ) -> Turn<Joined, JoinRefused> {
        let refused = |error| Turn::Now(Err(JoinRefused { error, member: member.to_owned() }));
        let waits = |m: &&mut Member| m.join.as_ref().is_some_and(|wait| wait.ticket == ticket);
        match self.members.iter_mut().find(waits) {
            Some(found) => match found.join.take_if(|wait| wait.outcome.is_some()).and_then(|wait| wait.outcome) {
                Some(outcome) => outcome.map_or_else(refused, |joined| Turn::Now(Ok(joined))),
                None => Turn::Later,
            },
            None => refused(self.given_up(member, instance)),
        }
    }

    /// Somebody syncs; the leader brings what it assigns.
    pub(in crate::broker) fn sync(
        &mut self,
        now: Instant,
        ticket: Ticket,
        at: &At<'_>,
        assigned: impl Iterator<Item = (String, Bytes)>,
    ) -> Turn<Bytes> {
        if let Err(error) = self.check(at) {
            return Turn::Now(Err(error));
        }
        let is_leader = self.leader.as_deref() == Some(at.member);
        let phase = self.phase;
        let member = self.member_mut(at.member).expect("it was just looked up");
        match phase {
            Phase::Empty => unreachable!("an empty group has no members"),
            Phase::Preparing(_) => return Turn::Now(Err(ResponseError::RebalanceInProgress)),
            Phase::Stable => {
                member.has_synced = true;
                return Turn::Now(Ok(member.assignment.clone()));
            }
            Phase::Completing => {
                member.has_synced = true;
                member.sync = Some(Wait { ticket, outcome: None });
            }
        }
        if is_leader {
            let assigned: BTreeMap<String, Bytes> = assigned.gather();
            if assigned.values().map(Bytes::len).sum::<usize>() > MAX_BYTES {
                // As Kafka, which cannot keep it: nobody has anything, and all are to join again.
                self.prepare(now);
                return Turn::Now(Err(ResponseError::UnknownServerError));
            }
            for member in &mut self.members {
                member.assignment = assigned.get(&member.id).cloned().unwrap_or_default();
                if let Some(wait) = &mut member.sync {
                    wait.outcome = Some(Ok(member.assignment.clone()));
                    member.expires = now + member.session_timeout;
                }
            }
            self.phase = Phase::Stable;
        }
        self.synced(ticket, at)
    }

    /// What has become of a sync that waits.
    pub(in crate::broker) fn synced(&mut self, ticket: Ticket, at: &At<'_>) -> Turn<Bytes> {
        let waits = |m: &&mut Member| m.sync.as_ref().is_some_and(|wait| wait.ticket == ticket);
        match self.members.iter_mut().find(waits) {
            Some(found) => match found.sync.take_if(|wait| wait.outcome.is_some()).and_then(|wait| wait.outcome) {
                Some(outcome) => Turn::Now(outcome),
                None => Turn::Later,
            },
            None => Turn::Now(Err(self.given_up(at.member, at.instance))),
        }
    }

    /// Why a request that has waited gets no outcome: its member was replaced, has asked again, or is gone.
    fn given_up(&self, member: &str, instance: Option<&str>) -> ResponseError {
        self.check_member(member, instance).err().unwrap_or(ResponseError::RebalanceInProgress)
    }

    pub(in crate::broker) fn beat(&mut self, now: Instant, at: &At<'_>) -> Result<(), ResponseError> {
        self.check(at)?;
        self.is_alive(now, at.member);
        if matches!(self.phase, Phase::Preparing(_)) { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// A member commits, or somebody who is none: that is for groups without members only.
    pub(in crate::broker) fn may_commit(&mut self, now: Instant, at: &At<'_>) -> Result<(), ResponseError> {
        let is_empty = self.phase == Phase::Empty;
        if at.generation < 0 && is_empty {
            return Ok(());
        }
        if at.generation >= 0 && is_empty && self.generation == 0 {
            // Nobody has ever been in it.
            return Err(ResponseError::IllegalGeneration);
        }
        if at.generation < 0 && at.member.is_empty() && at.instance.is_none() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check(at)?;
        if self.phase == Phase::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.is_alive(now, at.member);
        Ok(())
    }

    /// Members leave: by id, or by instance id alone. One answer for each.
    pub(in crate::broker) fn leave(
        &mut self,
        now: Instant,
        leaving: &[(&str, Option<&str>)],
    ) -> Vec<Result<(), ResponseError>> {
        let mut gone = Vec::new();
        let mut leave = |&(member, instance): &(&str, Option<&str>)| {
            if member.is_empty() {
                let found = instance.and_then(|instance| self.of_instance(instance));
                gone.push(found.ok_or(ResponseError::UnknownMemberId)?.id.clone());
            } else if self.promised.remove(member).is_none() {
                self.check_member(member, instance)?;
                gone.push(member.to_owned());
            }
            Ok(())
        };
        let said = leaving.iter().map(&mut leave).collect();
        self.remove(&gone, now);
        if matches!(self.phase, Phase::Preparing(_)) && self.have_all_joined() {
            self.complete(now);
        }
        said
    }

    /// Takes members out, and has the others join anew.
    fn remove(&mut self, gone: &[String], now: Instant) {
        self.members.retain(|member| !gone.contains(&member.id));
        if !gone.is_empty() && matches!(self.phase, Phase::Completing | Phase::Stable) {
            self.prepare(now);
        }
    }

    fn prepare_or_complete(&mut self, now: Instant) {
        match self.phase {
            Phase::Preparing(_) if self.have_all_joined() => self.complete(now),
            Phase::Preparing(_) => {}
            Phase::Empty | Phase::Completing | Phase::Stable => self.prepare(now),
        }
    }

    /// All are to join anew.
    fn prepare(&mut self, now: Instant) {
        if self.phase == Phase::Completing {
            for member in &mut self.members {
                member.assignment = Bytes::new();
                if let Some(wait) = &mut member.sync {
                    wait.outcome = Some(Err(ResponseError::RebalanceInProgress));
                }
            }
        }
        self.sync_by = None;
        let is_first = self.phase == Phase::Empty;
        self.phase = Phase::Preparing(now + self.rebalance_timeout());
        if is_first || self.have_all_joined() {
            self.complete(now);
        }
    }

    /// The next generation begins, with those that have joined, and with those that keep their places by an instance id.
    fn complete(&mut self, now: Instant) {
        self.members.retain(|member| member.waits_for_join() || member.instance.is_some());
        let is_here = |id: &String| self.members.iter().any(|member| member.id == *id && member.waits_for_join());
        if !self.leader.as_ref().is_some_and(is_here) {
            let first = self.members.iter().find(|member| member.waits_for_join());
            if first.is_none() && !self.members.is_empty() {
                // Nobody can lead it: those that are left may yet come, or expire.
                self.phase = Phase::Preparing(now + self.rebalance_timeout());
                return;
            }
            self.leader = first.map(|member| member.id.clone());
        }
        self.generation += 1;
        self.protocol = self.chosen();
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            return;
        }
        self.phase = Phase::Completing;
        self.sync_by = Some(now + self.rebalance_timeout());
        for at in 0..self.members.len() {
            let joined = self.now_joined(&self.members[at].id);
            let member = &mut self.members[at];
            member.expires = now + member.session_timeout;
            (member.is_new, member.has_synced, member.sync) = (false, false, None);
            if let Some(wait) = &mut member.join {
                wait.outcome = Some(Ok(joined));
            }
        }
    }

    /// What a member learns of the generation that there is.
    fn now_joined(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let told = |member: &Member| (member.id.clone(), member.instance.clone(), member.metadata(&protocol));
        let members = if leader == id { self.members.iter().map(told).collect() } else { Vec::new() };
        let (generation, member) = (self.generation, id.to_owned());
        Joined { generation, protocol, leader, member, skip_assignment: false, members }
    }

    fn is_alive(&mut self, now: Instant, member: &str) {
        if let Some(member) = self.member_mut(member) {
            member.expires = now + member.session_timeout;
        }
    }

    fn turn(&mut self, ticket: Ticket) -> Turn<Joined, JoinRefused> {
        self.joined(ticket, "", None)
    }

    fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }
}
