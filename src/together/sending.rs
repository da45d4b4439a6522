//! The write loop of the answers topic (`sink.rs`), played: one batch at a time, each of one era, and a look at the standing
//! before each attempt.

use super::{world::World, *};
use crate::{
    scheduler::{Ticket, Write, Written},
    standing::{Era, May},
};

/// A write loop.
#[derive(Debug, Default)]
pub(super) struct Sink {
    queue: VecDeque<(Era, Ticket)>,
    batch: Option<(Era, Vec<Ticket>)>,
    /// The number of the attempt that is under way.
    attempt: Option<u64>,
}

impl Sink {
    pub(super) fn push(&mut self, era: Era, write: Write) {
        self.queue.push_back((era, write.ticket));
    }

    /// Whether something is to be sent, and is not on its way.
    pub(super) fn waits(&self) -> bool {
        self.attempt.is_none() && (self.batch.is_some() || !self.queue.is_empty())
    }

    fn fill(&mut self) {
        if self.batch.is_some() {
            return;
        }
        let Some((era, first)) = self.queue.pop_front() else { return };
        let mut tickets = vec![first];
        while let Some((_, ticket)) = self.queue.pop_front_if(|(other, _)| *other == era) {
            tickets.push(ticket);
        }
        self.batch = Some((era, tickets));
    }
}

impl World {
    pub(super) fn wake_sink(&mut self, at: usize, incoming: Incoming) -> Result<(), Violation> {
        match incoming {
            Incoming::Acknowledged(number, acknowledged) => {
                let process = &mut self.processes[at];
                if process.sink.attempt != Some(number) {
                    return Ok(());
                }
                process.sink.attempt = None;
                if !acknowledged {
                    self.plan_for(at, 50..500, Incoming::Attempt);
                    return Ok(());
                }
                let (_, tickets) = process.sink.batch.take().expect("it was sent");
                self.written(at, tickets.into_iter().map(Written::Acknowledged).collect());
                self.attempt(at)
            }
            _ => self.attempt(at),
        }
    }

    /// Looks at the standing, and sends.
    pub(super) fn attempt(&mut self, at: usize) -> Result<(), Violation> {
        let (now, anyway) = (self.now, self.planted == Some(Planted::SendAnyway));
        while self.processes[at].sink.waits() {
            let process = &mut self.processes[at];
            process.sink.fill();
            let Some((era, tickets)) = &process.sink.batch else { return Ok(()) };
            let may = process.state.may(*era, now);
            match may {
                May::Never if !anyway => {
                    let (_, tickets) = process.sink.batch.take().expect("looked at");
                    self.written(at, tickets.into_iter().map(Written::Void).collect());
                    continue;
                }
                // It is woken when the standing changes.
                May::Wait if !anyway => return Ok(()),
                _ => {}
            }
            let number = process.numbers + 1;
            (process.numbers, process.sink.attempt) = (number, Some(number));
            let ats = self.books.ats(at, tickets.iter().map(Ticket::of))?;
            self.check_answers(at, &ats)?;
            let lost = self.loses();
            if self.processes[at].cut == Cut::Everything || lost {
                self.plan_for(at, 500..1500, Incoming::Acknowledged(number, false));
                return Ok(());
            }
            let wait = self.latency();
            self.plan(wait, Event::Written(ats.into_iter().map(|(at, ..)| at).collect()));
            let heard = !self.loses();
            let back = wait + if heard { self.latency() } else { Duration::from_secs(1) };
            self.plan(back, Event::To(at, Incoming::Acknowledged(number, heard)));
            self.faint(at);
        }
        Ok(())
    }

    fn written(&mut self, at: usize, written: Vec<Written>) {
        self.plan_for(at, 0..3, Incoming::Delivered(written));
    }
}
