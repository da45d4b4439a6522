//! PURE. The planted defects: each breaks a promise, and a test has to catch it.

/// A promise to break, for the tests that must catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Commit one offset too many.
    CommitTooFar,
    /// Commit one offset too few, so that a commit can go back.
    CommitBackwards,
    /// Leave a partition whose commit is right uncommitted.
    SkipFirstCommit,
    /// Run a record twice.
    RunTwice,
    /// Give out more loads than there are workers.
    TooManyWorkers,
    /// Finish a message when it is sent, not when it is acknowledged.
    FinishUnacknowledged,
    /// Forget the timer of the commit.
    NoCommitTimer,
    /// Believe in a commit that failed.
    TrustFailedCommit,
    /// Start tasks while draining.
    StartWhileDraining,
    /// Go on in another log as if it were the same.
    SameLife,
    /// Commit what a past life has finished.
    CommitPastLife,
    /// Answer what began in a past life.
    AnswerGhosts,
    /// Never ask where a leader epoch ended.
    TrustEveryEpoch,
    /// Go on behind what is gone, and say nothing.
    SilentJump,
    /// Commit for one topic what is to be committed for another.
    MixTopics,
    /// Believe in a commit that was held back because something was odd with its topic.
    TrustHeldCommit,
    /// End the run because of one topic, and leave what is done of the others uncommitted.
    StopAll,
    /// Start what waits of a partition that was revoked.
    StartRevoked,
    /// Keep the room of what waited of a partition that was revoked.
    KeepRoom,
    /// Say of a partition that it is settled while something of it runs.
    SettleRunning,
    /// Say of a partition that it is settled while something of it is uncommitted.
    SettleUncommitted,
    /// Never say of a partition that it is settled.
    NeverSettle,
    /// Go on with a partition that was lost.
    KeepLost,
    /// Answer what runs of a partition that was lost.
    AnswerLost,
    /// Take the commit of a partition before it went for one of after it came back.
    TrustPastCommit,
    /// Say of one offset too many that it is finished.
    ProgressTooFar,
    /// Commit only where the lowest unfinished offset has moved.
    NoProgressCommit,
    /// Run again what still runs of a partition that has come back.
    NeverAdopt,
    /// Adopt what runs of another topic of that name.
    AdoptAnyTopic,
    /// Adopt what runs although another leader may have cut the log off.
    AdoptUnderAnyLeader,
    /// Adopt what somebody else has finished.
    AdoptFinished,
    /// Adopt what ran too long without a partition.
    AdoptLate,
    /// Adopt what is being written.
    AdoptWritten,
    /// Keep the room of what was adopted.
    LeakAdoptedRoom,
    /// Never come back to what waits to be tried again.
    ForgetRetry,
    /// Try again what has no attempts left.
    RetryForEver,
    /// Try again at once.
    RetryAtOnce,
    /// Start a message although one of the same key runs.
    Overtake,
    /// Never let the next of a key have its turn.
    KeepLane,
    /// Give up messages while nearly all fail.
    GiveUpInOutage,
    /// Try nothing while the circuit is open.
    NeverTry,
    /// Start all there is while the circuit is open.
    StartInOutage,
}
