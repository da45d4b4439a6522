//! PURE. What the engine does with what the group deals: the scheduler is told, and what it gives up is collected, to be
//! told to the group.

use std::time::Instant;

use crate::{group::Deal, record::TopicPartition, scheduler::Scheduler, standing::Era};

/// See the [module's documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// How often everything was lost.
    pub(crate) era: Era,
    /// What was given up, and was not told yet.
    pub(crate) released: Vec<TopicPartition>,
}

impl Share {
    /// Takes in what was dealt.
    pub(crate) fn take(&mut self, scheduler: &mut Scheduler, deal: Deal, now: Instant) {
        match deal {
            Deal::Taken(dealt) => {
                for loss in dealt.losses {
                    scheduler.tell_loss(loss);
                }
                for (source, start) in dealt.added {
                    scheduler.tell_added(&source, start);
                }
                scheduler.assign(dealt.taken, now);
            }
            // A run that ends takes nothing on, and has nothing to give up.
            Deal::Revoked(partitions, until) => self.released.extend(scheduler.revoke(&partitions, until, now)),
            Deal::Lost(partitions, era) => {
                self.era = era;
                scheduler.begin_era(era);
                scheduler.lose(&partitions, now);
            }
            Deal::Nothing => scheduler.handle_nothing(now),
            Deal::Fatal(error) => scheduler.stop(error, now),
        }
    }

    /// Gives up what was revoked and is done.
    pub(crate) fn settle(&mut self, scheduler: &mut Scheduler, now: Instant) {
        while let Some(source) = scheduler.poll_settled(now) {
            self.released.push((*source).clone());
        }
        if !self.released.is_empty() {
            scheduler.release(&self.released, now);
        }
    }
}
