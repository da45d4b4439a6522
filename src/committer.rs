//! Commits: one at a time, each after a look at the log that it is for.
//!
//! A commit of offsets means something only in the log that they were read from. So before each, the topic's id is asked
//! for: if the topic was deleted, or deleted and made anew, nothing is committed any more and the run ends (promise 6).
//! Each commit carries the leader epochs of that look (KIP-320). A topic that is missing is looked for once more: a broker
//! that has just started may not know it yet.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    backoff::Backoff,
    error::RunError,
    offsets::{Committed, OffsetStore, StoreError},
    record::{LeaderEpoch, TopicId},
};

/// What a commit may take altogether, the look at the log included.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);
/// How long after a look that found no topic to look again.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Which log there is under a topic's name.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) id: TopicId,
    /// The leader epochs of its partitions.
    pub(crate) epochs: BTreeMap<i32, LeaderEpoch>,
}

/// Says which log there is under a topic's name.
pub(crate) trait Log: Send + 'static {
    /// How it looks now; `None` if there is no such topic.
    fn look(&mut self) -> impl Future<Output = Result<Option<Look>, String>> + Send;
}

/// How a commit went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is kept.
    Acknowledged,
    /// It is not known to be kept. A later one may succeed.
    Failed,
    /// It must not be tried again.
    Ended(RunError),
}

/// The task that makes the commits.
pub(crate) struct Committer<L, S> {
    pub(crate) topic: Arc<str>,
    /// The topic's id when we began.
    pub(crate) id: TopicId,
    pub(crate) log: L,
    pub(crate) store: S,
    pub(crate) requests: mpsc::Receiver<BTreeMap<i32, Committed>>,
    pub(crate) outcomes: mpsc::Sender<Outcome>,
}

impl<L: Log, S: OffsetStore> Committer<L, S> {
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        while let Some(commits) = self.requests.recv().await {
            let begun = Instant::now();
            let attempt = tokio::time::timeout(COMMIT_DEADLINE, self.commit(commits)).await;
            let outcome = match attempt.unwrap_or_else(|_| Err(Trouble::Passing("no answer in time".to_owned()))) {
                Ok(()) => {
                    if let Some(failed_for) = backoff.reset() {
                        tracing::info!(?failed_for, "committing again");
                    }
                    Outcome::Acknowledged
                }
                Err(Trouble::Passing(error)) => {
                    let (_, say) = backoff.fail_since(begun);
                    if say {
                        tracing::warn!(topic = &*self.topic, error, "commit not acknowledged, trying again");
                    }
                    Outcome::Failed
                }
                Err(Trouble::Final(error)) => Outcome::Ended(error),
            };
            if self.outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    async fn commit(&mut self, mut commits: BTreeMap<i32, Committed>) -> Result<(), Trouble> {
        let topic = Arc::clone(&self.topic);
        let look = match self.log.look().await.map_err(Trouble::Passing)? {
            Some(look) => Some(look),
            None => {
                tokio::time::sleep(SECOND_LOOK).await;
                self.log.look().await.map_err(Trouble::Passing)?
            }
        };
        let Some(look) = look else { return Err(Trouble::Final(RunError::TopicGone { topic })) };
        if look.id != self.id {
            return Err(Trouble::Final(RunError::Recreated { topic, was: self.id, now: look.id }));
        }
        for (partition, committed) in &mut commits {
            committed.leader_epoch = look.epochs.get(partition).copied().unwrap_or(LeaderEpoch::UNKNOWN);
        }
        self.store.commit(&commits).await.map_err(|error| match error {
            StoreError::Unavailable { reason } => Trouble::Passing(reason),
            StoreError::Refused { reason } => Trouble::Final(RunError::Unavailable { reason }),
            StoreError::Foreign { .. } => Trouble::Final(RunError::NotAlone {
                reason: format!("{error}. Stop it, or give this process a group or partitions (--assign) of its own"),
            }),
        })
    }
}

enum Trouble {
    Passing(String),
    Final(RunError),
}
