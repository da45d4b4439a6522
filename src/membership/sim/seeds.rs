//! What is run: every seed, and every defect.

use super::{Defect, Violation, world::World};
use crate::testing::{caught, seeds};

/// Runs one seed. The members' own assertions count as promises, too.
fn run(seed: u64, defect: Option<Defect>) -> Result<(), Violation> {
    caught(|| World::new(seed, defect).run())
}

#[test]
fn every_seed_keeps_every_promise() {
    for seed in 0..seeds() {
        if let Err(violation) = run(seed, None) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// A defect that nobody notices means that a promise is not tested.
#[track_caller]
fn check_caught(defect: Defect, promise: &str) {
    let mut found = Vec::new();
    let caught = (0..300).filter_map(|seed| run(seed, Some(defect)).err()).any(|violation| {
        let caught = violation.starts_with(promise);
        found.push(violation);
        caught
    });
    assert!(caught, "{defect:?} was not caught as {promise:?}: {found:#?}");
}

#[test]
fn a_lost_timer_of_heartbeats_is_caught() {
    check_caught(Defect::NoBeatTimer, "6: all is lost");
}

#[test]
fn a_lost_timer_of_the_session_is_caught() {
    check_caught(Defect::NoSessionTimer, "3:");
}

#[test]
fn holding_on_beyond_the_session_is_caught() {
    check_caught(Defect::OutliveSession, "3:");
}

#[test]
fn a_session_counted_from_the_answer_is_caught() {
    check_caught(Defect::CountFromAnswer, "1:");
}

#[test]
fn holding_on_beyond_the_coordinators_patience_is_caught() {
    check_caught(Defect::OutliveRebalance, "1:");
}

#[test]
fn joining_with_what_is_not_released_is_caught() {
    check_caught(Defect::JoinUnreleased, "1:");
}

#[test]
fn never_joining_again_for_what_was_given_up_is_caught() {
    check_caught(Defect::NoJoinAfterRelease, "2:");
}

#[test]
fn giving_a_partition_before_it_is_given_up_is_caught() {
    check_caught(Defect::GiveAtOnce, "1:");
}

#[test]
fn telling_what_is_not_released_as_released_is_caught() {
    check_caught(Defect::TellUnreleased, "1:");
}

#[test]
fn saying_only_what_changed_after_a_failure_is_caught() {
    check_caught(Defect::DeltaAfterFailure, "6: all is lost");
}

#[test]
fn committing_under_an_epoch_that_is_over_is_caught() {
    check_caught(Defect::OldEpoch, "8:");
}
