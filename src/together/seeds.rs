//! What is run: every seed, and every defect.

use super::{Planted, Violation, world::World};
use crate::{
    membership::Defect as OfMembership,
    scheduler::Defect as OfScheduler,
    testing::{caught, seeds},
};

/// Runs one seed. The machines' own assertions count as promises, too.
fn run(seed: u64, planted: Option<Planted>) -> Result<(), Violation> {
    caught(|| World::new(seed, planted).run())
}

#[test]
fn every_seed_keeps_every_promise() {
    let broken: Vec<_> = (0..seeds()).filter_map(|seed| Some((seed, run(seed, None).err()?))).collect();
    assert!(broken.is_empty(), "{} seeds, of which the first are {:#?}", broken.len(), &broken[..broken.len().min(9)]);
}

/// Each defect, and what it is to be caught as. A defect that nobody notices means that a promise is not tested.
const PLANTED: [(Planted, &str); 15] = [
    (Planted::CommitOfAnyEra, "4:"),
    (Planted::SendAnyway, "4:"),
    (Planted::ForgetRelease, "6:"),
    (Planted::BelieveUnheard, "3:"),
    (Planted::Scheduler(OfScheduler::ProgressTooFar), "1:"),
    (Planted::Scheduler(OfScheduler::CommitTooFar), "1:"),
    (Planted::Scheduler(OfScheduler::KeepLost), "4:"),
    (Planted::Scheduler(OfScheduler::StartRevoked), "10:"),
    (Planted::Scheduler(OfScheduler::SettleUncommitted), "3:"),
    (Planted::Scheduler(OfScheduler::NeverSettle), "6:"),
    (Planted::Scheduler(OfScheduler::AdoptWritten), "4:"),
    (Planted::Scheduler(OfScheduler::AdoptLate), "4:"),
    (Planted::Membership(OfMembership::OldEpoch), "2:"),
    (Planted::Membership(OfMembership::NoBeatTimer), "6:"),
    (Planted::Membership(OfMembership::OutliveSession), "4:"),
];

#[test]
fn every_defect_is_caught() {
    for (planted, promise) in PLANTED {
        let mut found = (0..1000).filter_map(|seed| run(seed, Some(planted)).err());
        assert!(found.any(|violation| violation.starts_with(promise)), "{planted:?} was not caught as {promise:?}");
    }
}
