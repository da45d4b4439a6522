//! The steward's loop (`group.rs`), played: what the membership asks for goes to the coordinator, and what changes to the
//! engine.

use super::{world::World, *};
use crate::group::{
    Deal, Order,
    dealer::{Find, Step},
};

/// How long a request may take, if it is not JoinGroup.
const DEADLINE: Duration = Duration::from_millis(1500);

impl World {
    pub(super) fn wake_steward(&mut self, at: usize, incoming: Option<Incoming>) -> Result<(), Violation> {
        let (now, process) = (self.now, &mut self.processes[at]);
        match incoming {
            Some(Incoming::Answered(ticket, answer)) => {
                if let Some(sent) = process.beats.remove(&ticket)
                    && matches!(answer, Ok(_) | Err(Refusal::Rebalancing))
                {
                    process.acknowledged = process.acknowledged.max(Some(sent));
                }
                process.dealer.membership.handle_answer(ticket, answer, now);
            }
            Some(Incoming::Topics) => {
                process.asks = false;
                process.dealer.topics(self.cluster.topics(), now);
            }
            Some(Incoming::Found(number, committed)) => self.found(at, number, &committed),
            Some(Incoming::FindAgain(number)) => self.look_for(at, number),
            Some(Incoming::Orders) => {
                while let Some(order) = process.orders.pop_front() {
                    match order {
                        Order::Released(partitions) => process.dealer.released(&partitions, now),
                        Order::Leave => {
                            process.dealer.leave(now);
                            self.books.left(at);
                        }
                    }
                }
            }
            _ => {}
        }
        self.poll_steward(at)
    }

    fn poll_steward(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now;
        for _ in 0..10 {
            while let Some((ticket, request)) = self.processes[at].dealer.membership.poll_request(now) {
                self.send(at, ticket, request);
            }
            while let Some(step) = self.processes[at].dealer.poll_step(now) {
                match step {
                    Step::Tell(deal) => self.tell(at, deal)?,
                    Step::Find(find) => self.find(at, find),
                    Step::Stand => self.stand(at),
                    Step::News(_) => {}
                }
            }
            self.stand(at);
            let process = &mut self.processes[at];
            if process.dealer.membership.is_over() {
                // Nobody has told it to leave: it has said why.
                if process.stage == Stage::Leaves {
                    process.stage = Stage::Gone;
                    self.restarts(at);
                }
                return Ok(());
            }
            if process.dealer.membership.wants_topics() && !process.asks {
                process.asks = true;
                self.plan_for(at, 30..31, Incoming::Topics);
            }
            if self.processes[at].dealer.membership.poll_timeout().is_none_or(|due| due > now) {
                return Ok(());
            }
        }
        Err("2: something is due, and nothing comes".to_owned())
    }

    fn tell(&mut self, at: usize, deal: Deal) -> Result<(), Violation> {
        match &deal {
            Deal::Lost(..) => {
                promise!(self.mood == Mood::Bad, "6: {at} has lost everything, though nothing is wrong");
                self.processes[at].finding.clear();
                self.processes[at].forgotten = false;
                self.books.lose(at);
            }
            Deal::Fatal(why) => return Err(format!("6: {at} cannot go on: {why}")),
            Deal::Taken(_) | Deal::Revoked(..) | Deal::Nothing => {}
        }
        if self.processes[at].stage == Stage::Runs {
            self.processes[at].deals.push_back(deal);
            self.plan_for(at, 0..3, Incoming::Deals);
        }
        Ok(())
    }

    /// The committer and the sink see the standing as it is now.
    fn stand(&mut self, at: usize) {
        let process = &mut self.processes[at];
        let new = process.dealer.state();
        if process.state != new {
            process.state = new;
            if process.sink.waits() {
                self.plan_for(at, 0..3, Incoming::Attempt);
            }
        }
    }

    fn find(&mut self, at: usize, find: Find) {
        let number = find.number;
        self.processes[at].finding.insert(number, find);
        self.look_for(at, number);
    }

    fn look_for(&mut self, at: usize, number: u64) {
        if !self.processes[at].finding.contains_key(&number) {
            return;
        }
        let epoch = self.processes[at].state.identity.as_ref().map(cluster::epoch);
        match epoch {
            Some(epoch) if self.processes[at].cut == Cut::Nothing && !self.loses() => {
                let wait = self.latency();
                self.plan(wait, Event::LookArrives(at, number, epoch));
            }
            _ => self.plan_for(at, 300..1000, Incoming::FindAgain(number)),
        }
    }

    /// The coordinator says what is committed.
    pub(super) fn look_arrives(&mut self, at: usize, number: u64, epoch: &membership::Epoch) {
        let known = !self.cluster.away && self.cluster.coordinator.takes_look(epoch);
        let Some(find) = self.processes[at].finding.get(&number) else { return };
        if !known || self.processes[at].cut != Cut::Nothing {
            return self.plan_for(at, 300..1000, Incoming::FindAgain(number));
        }
        let wanted = find.partitions.iter();
        let wanted =
            wanted.flat_map(|(topic, of)| of.iter().map(|number| TopicPartition::new(Arc::clone(topic), *number)));
        let committed = wanted.filter_map(|source| {
            let kept = self.cluster.committed.get(&cluster::key(&source))?.clone();
            Some((source, kept))
        });
        let committed = committed.collect();
        if self.loses() {
            return self.plan_for(at, 300..1000, Incoming::FindAgain(number));
        }
        let wait = self.latency();
        self.plan(wait, Event::To(at, Incoming::Found(number, committed)));
    }

    fn found(&mut self, at: usize, number: u64, committed: &BTreeMap<TopicPartition, Committed>) {
        let process = &mut self.processes[at];
        let Some(find) = process.finding.remove(&number) else { return };
        let dealt = self.cluster.deal(&find.partitions, &find.added, committed);
        process.dealer.hand_over(number, Ok(dealt));
    }

    fn send(&mut self, at: usize, ticket: Asked, request: Request) {
        let failed = || Incoming::Answered(ticket, Err(Refusal::Passing("no answer".into())));
        if matches!(request, Request::Beat(_) | Request::ConsumerBeat(_)) {
            self.processes[at].beats.insert(ticket, self.now);
        }
        let deadline = if matches!(request, Request::Join(_)) { REBALANCE + Duration::from_secs(1) } else { DEADLINE };
        self.plan(deadline, Event::To(at, failed()));
        if self.processes[at].cut != Cut::Nothing || self.loses() {
            return self.plan_for(at, 20..300, failed());
        }
        let wait = self.latency();
        self.plan(wait, Event::Arrives((at, ticket), request));
        self.faint(at);
    }

    /// What the coordinator has answered.
    pub(super) fn deliver(&mut self) {
        for ((at, ticket), answer) in self.cluster.coordinator.out() {
            if self.processes[at].cut == Cut::Nothing {
                let wait = self.latency();
                let answer = if self.loses() { Err(Refusal::Passing("cut".into())) } else { answer };
                self.plan(wait, Event::To(at, Incoming::Answered(ticket, answer)));
            }
        }
    }
}
