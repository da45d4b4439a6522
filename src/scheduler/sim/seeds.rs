//! What is run: every seed, and every defect.

use super::{super::Defect, Violation, World};
use crate::testing::{caught, seeds};

/// Runs one seed. The scheduler's own assertions count as promises, too.
fn run(seed: u64, defect: Option<Defect>) -> Result<(), Violation> {
    run_in(World::new(seed), defect)
}

fn run_in(mut world: World, defect: Option<Defect>) -> Result<(), Violation> {
    caught(|| world.run(defect))
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
    let mut caught = (0..4000).filter_map(|seed| run(seed, Some(defect)).err());
    assert!(caught.any(|violation| violation.starts_with(promise)), "{defect:?} was not caught as {promise:?}");
}

#[test]
fn a_commit_too_far_is_caught() {
    check_caught(Defect::CommitTooFar, "1:");
}

#[test]
fn finishing_what_is_not_acknowledged_is_caught() {
    check_caught(Defect::FinishUnacknowledged, "1:");
}

#[test]
fn a_lost_commit_timer_is_caught() {
    check_caught(Defect::NoCommitTimer, "2:");
}

#[test]
fn believing_in_a_failed_commit_is_caught() {
    check_caught(Defect::TrustFailedCommit, "10:");
}

#[test]
fn starting_while_draining_is_caught() {
    check_caught(Defect::StartWhileDraining, "10:");
}

#[test]
fn a_commit_that_goes_back_is_caught() {
    check_caught(Defect::CommitBackwards, "5:");
}

#[test]
fn a_partition_left_uncommitted_is_caught() {
    check_caught(Defect::SkipFirstCommit, "5:");
}

#[test]
fn running_twice_is_caught() {
    check_caught(Defect::RunTwice, "3:");
}

#[test]
fn more_loads_than_workers_are_caught() {
    check_caught(Defect::TooManyWorkers, "9:");
}

#[test]
fn going_on_in_another_topic_as_if_it_were_the_same_is_caught() {
    check_caught(Defect::SameLife, "1: 4: from a past life");
}

#[test]
fn committing_for_a_past_life_is_caught() {
    check_caught(Defect::CommitPastLife, "1: 4: from a past life");
}

#[test]
fn trusting_a_log_whose_leader_changed_is_caught() {
    check_caught(Defect::TrustEveryEpoch, "1: 4: from a past life");
}

#[test]
fn a_jump_that_is_not_told_of_is_caught() {
    check_caught(Defect::SilentJump, "6:");
}

#[test]
fn answering_for_a_past_life_is_caught() {
    check_caught(Defect::AnswerGhosts, "4:");
}

#[test]
fn committing_for_another_topic_is_caught() {
    check_caught(Defect::MixTopics, "1:");
}

#[test]
fn believing_in_a_commit_that_was_held_back_is_caught() {
    check_caught(Defect::TrustHeldCommit, "2:");
}

#[test]
fn leaving_other_topics_uncommitted_is_caught() {
    check_caught(Defect::StopAll, "10:");
}

#[test]
fn starting_what_is_to_go_is_caught() {
    check_caught(Defect::StartRevoked, "10:");
}

#[test]
fn room_that_does_not_come_back_is_caught() {
    check_caught(Defect::KeepRoom, "9:");
}

#[test]
fn giving_up_what_runs_is_caught() {
    check_caught(Defect::SettleRunning, "3:");
}

#[test]
fn giving_up_what_is_not_committed_is_caught() {
    check_caught(Defect::SettleUncommitted, "3:");
}

#[test]
fn a_partition_that_never_goes_is_caught() {
    check_caught(Defect::NeverSettle, "2:");
}

#[test]
fn committing_what_is_lost_is_caught() {
    check_caught(Defect::KeepLost, "4: commit");
}

#[test]
fn answering_what_is_lost_is_caught() {
    check_caught(Defect::AnswerLost, "4: an answer");
}

#[test]
fn taking_a_past_commit_for_one_of_now_is_caught() {
    check_caught(Defect::TrustPastCommit, "5:");
}

#[test]
fn saying_of_one_offset_too_many_that_it_is_finished_is_caught() {
    check_caught(Defect::ProgressTooFar, "1: the commit of");
}

#[test]
fn committing_only_where_the_lowest_has_moved_is_caught() {
    check_caught(Defect::NoProgressCommit, "3: a stop will repeat");
}

#[test]
fn believing_progress_of_another_topic_partition_or_offset_is_caught() {
    let mut caught = (0..300).filter_map(|seed| run_in(World { gullible: true, ..World::new(seed) }, None).err());
    assert!(caught.any(|violation| violation.starts_with("1:")), "nobody noticed");
}

#[test]
fn what_is_never_tried_again_is_caught() {
    check_caught(Defect::ForgetRetry, "9:");
}

#[test]
fn what_is_tried_for_ever_is_caught() {
    check_caught(Defect::RetryForEver, "11:");
}

#[test]
fn trying_again_at_once_is_caught() {
    check_caught(Defect::RetryAtOnce, "11:");
}

#[test]
fn overtaking_is_caught() {
    check_caught(Defect::Overtake, "13:");
}

#[test]
fn a_turn_that_never_comes_is_caught() {
    check_caught(Defect::KeepLane, "9:");
}

#[test]
fn giving_up_what_is_not_to_blame_is_caught() {
    check_caught(Defect::GiveUpInOutage, "12:");
}

#[test]
fn never_trying_again_after_an_outage_is_caught() {
    check_caught(Defect::NeverTry, "2:");
}

#[test]
fn starting_all_there_is_in_an_outage_is_caught() {
    check_caught(Defect::StartInOutage, "12:");
}

#[test]
fn running_again_what_still_runs_is_caught() {
    check_caught(Defect::NeverAdopt, "3: not adopted");
}

#[test]
fn adopting_in_another_topic_is_caught() {
    check_caught(Defect::AdoptAnyTopic, "4: adopted in another topic");
}

#[test]
fn adopting_in_a_log_that_was_cut_off_is_caught() {
    check_caught(Defect::AdoptUnderAnyLeader, "4: adopted, and the log does not hold it");
}

#[test]
fn adopting_what_somebody_else_has_finished_is_caught() {
    check_caught(Defect::AdoptFinished, "3: adopted, and finished already");
}

#[test]
fn adopting_too_late_is_caught() {
    check_caught(Defect::AdoptLate, "4: adopted too late");
}

#[test]
fn adopting_what_is_being_written_is_caught() {
    check_caught(Defect::AdoptWritten, "4: adopted, and did not run");
}

#[test]
fn room_of_what_was_adopted_that_does_not_come_back_is_caught() {
    check_caught(Defect::LeakAdoptedRoom, "9:");
}
