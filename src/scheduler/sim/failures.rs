//! Tasks that fail, and fail again: what may be tried when, what may be given up, and what has to wait for its turn.
//!
//! The scheduler says what it gives up, as it says what it starts. The world knows how often each has failed, and when.

use super::*;
use crate::task::Advice;

/// In a world with a breaker, for how long everything may fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    begin: Instant,
    end: Instant,
    /// How many tasks have begun in it.
    begun: usize,
}

impl Life {
    /// Whether a partition was not ours for a while.
    pub(super) fn has_parted_with(&self, key: Key) -> bool {
        self.lives.iter().any(|(id, of)| *of == key && self.parted.contains(id))
    }
}

impl World {
    /// Rules about failures, order and rate.
    pub(super) fn draw_flow(rules: &mut Rules, rng: &mut fastrand::Rng) {
        let backoff = Duration::from_millis(rng.u64(1..300));
        rules.retries =
            Retries { most: [0, rng.u32(1..4)][rng.usize(0..2)], backoff, longest: backoff * rng.u32(1..9) };
        rules.order = [Order::None, Order::Key, Order::Key, Order::Partition][rng.usize(0..4)];
        rules.circuit_breaker = rng.u8(0..3) == 0;
        rules.each_start = (rng.u8(0..8) == 0).then(|| Duration::from_micros(rng.u64(1..20_000)));
    }

    /// In some lives, all fails for a while.
    pub(super) fn plan_outage(&mut self, life: &mut Life) {
        if self.rules.circuit_breaker && self.rng.bool() {
            let begin = life.now + Duration::from_millis(self.rng.u64(0..50));
            let end = begin + Duration::from_secs(self.rng.u64(1..200));
            life.outage = Some(Outage { begin, end, begun: 0 });
        }
    }

    /// What a record is in one lane with, apart from its partition.
    fn lane(&self, ident: i64) -> Option<i64> {
        match self.rules.order {
            Order::None => None,
            Order::Key => key_of(ident),
            Order::Partition => Some(0),
        }
    }

    /// A message starts, for the first time in this life or again.
    pub(super) fn starts(&self, life: &mut Life, id: AssignmentId, at: At) -> Result<(), Violation> {
        let first = life.begun.insert((id, at));
        let failed = life.may_retry.remove(&(id, at));
        promise!(first || failed.is_some(), "3: {at:?} started twice in one life");
        if let Some(when) = failed
            && !self.rules.circuit_breaker
        {
            let Retries { backoff, longest, .. } = self.rules.retries;
            promise!(life.now >= when + backoff.min(longest) / 2, "11: {at:?} was tried again at once");
        }
        if let Some(outage) = life.outage.as_mut().filter(|outage| (outage.begin..outage.end).contains(&life.now)) {
            outage.begun += 1;
            // As long as what went well just before is more than a tenth, the circuit is in doubt, and all are tried again.
            let all: usize = self.topics.iter().map(|topic| topic.all().count()).sum();
            let most = (12 + self.rules.retries.most as usize) * all + 60;
            promise!(outage.begun <= most, "12: {} tasks were begun while all failed", outage.begun);
        }
        let Some(lane) = self.lane(at.1) else { return Ok(()) };
        let same = |other: &At| other.0 == at.0 && *other != at && self.lane(other.1) == Some(lane);
        let runs = life.running.iter().find(|(_, other)| same(other));
        promise!(runs.is_none(), "13: {at:?} overtakes {runs:?}, which runs");
        let before = life.begun.iter().find(|(other_id, other)| {
            *other_id == id && same(other) && !life.finished.contains(other) && !life.is_odd(other.0.0)
        });
        promise!(before.is_none(), "13: {at:?} overtakes {before:?}, which is unfinished");
        let above = life.begun.iter().find(|(other_id, other)| *other_id == id && same(other) && other.1 > at.1);
        // One that was finished before, in a life whose last commit was not kept, may run again after what followed it.
        let again = self.ended.contains_key(&at) || self.elsewhere.contains(&at);
        promise!(above.is_none() || again || life.is_odd(at.0.0), "13: {at:?} starts after {above:?}");
        Ok(())
    }

    /// How a task ends.
    pub(super) fn verdict(&mut self, life: &Life, at: At) -> Verdict {
        let plan = &self.plans[&at];
        let outage = life.outage.is_some_and(|outage| (outage.begin..outage.end).contains(&life.now));
        let fails = self.fails.entry(at).or_default();
        let verdict = match &plan.verdict {
            Verdict::Malformed(failure) => return Verdict::Malformed(failure.clone()),
            _ if outage || *fails < plan.fails => Verdict::Failed(Failure::new("for now")),
            verdict => verdict.clone(),
        };
        if matches!(verdict, Verdict::Failed(_)) {
            *fails += 1;
        }
        verdict
    }

    /// Takes in what was given up since the last look.
    pub(super) fn given_up(&mut self, life: &mut Life) -> Result<(), Violation> {
        for (id, offset) in std::mem::take(&mut life.scheduler.given_up) {
            let at = life.started[&(id, offset.0)];
            life.may_retry.remove(&(id, at));
            let permanent = matches!(&self.plans[&at].verdict, Verdict::Failed(f) if f.advice() == Advice::Permanent);
            let spent = self.fails[&at] > self.rules.retries.most;
            promise!(permanent || spent, "11: {at:?} was given up after {} attempts", self.fails[&at]);
            self.ended.entry(at).or_default().insert(false);
            *self.ran.entry(at).or_default() += 1;
            let good = matches!(self.plans[&at].verdict, Verdict::Succeeded(_)) && self.plans[&at].fails == 0;
            self.innocent += usize::from(good);
            let most = (4 * self.rules.workers).max(20) + self.rules.workers;
            promise!(
                !self.rules.circuit_breaker || self.innocent <= most * self.outages,
                "12: {} were given up although only nothing went well",
                self.innocent
            );
            self.settle(life, at);
        }
        Ok(())
    }

    /// A task has failed, and may be tried again.
    pub(super) fn fails(&self, life: &mut Life, id: AssignmentId, at: At) -> Result<(), Violation> {
        let times = life.failed.entry(at).or_default();
        *times += 1;
        let times = *times;
        let most = self.rules.retries.most + 1;
        let again = self.rules.circuit_breaker || life.is_odd(at.0.0) || life.has_parted_with(at.0);
        promise!(times <= most || again, "11: {at:?} failed {times} times");
        life.may_retry.insert((id, at), life.now);
        Ok(())
    }
}

/// The key of a record: a few have none.
fn key_of(ident: i64) -> Option<i64> {
    Some(ident % 7).filter(|key| *key > 0)
}

/// The same, as the record has it.
pub(super) fn key_bytes(ident: i64) -> Option<bytes::Bytes> {
    key_of(ident).map(|key| key.to_string().into())
}
