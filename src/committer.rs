//! Looks at the log, and commits: one ask at a time, each commit after a look at the log that it is for.
//!
//! ```text
//!   Ask ──▶ look: topic id, leader epochs ──▶ ask: where did an epoch end? what does the log hold?
//!                                                    │ all is as it was              │ something is not
//!                                                    ▼                               ▼
//!                                              commit ──▶ Outcome ◀──────────── findings, and no commit
//! ```
//!
//! A commit of offsets means something only in the log that they were read from. So before each, the topic's id and leader
//! epochs are looked at, and what that look leaves open is asked for (`lineage.rs`). Where anything is not as it was,
//! nothing is committed this time: what was found goes to the engine first (promise 6). Partitions that cannot be decided
//! now, because nobody leads them, are left out of a commit, so that they hold up no others. Each commit carries the leader
//! epochs of its look (KIP-320). A topic that is missing is looked for once more: a broker that has just started may not
//! know it yet.
//!
//! An ask without commits is a look: for partitions that were added, and for a topic in which nothing happens.

pub(crate) mod compare;
pub(crate) mod metadata;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use self::{
    compare::{Comparison, allow_commit, questions},
    metadata::Metadata,
};
use crate::{
    backoff::Backoff,
    error::RunError,
    lineage::{Bounds, EpochEnd, Look},
    offsets::{OffsetStore, StoreError},
    record::{LeaderEpoch, Offset, TopicId},
    scheduler::{Ask, Finding, Kept, Said},
};

/// What one may take altogether, the look at the log included.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long after a look that found no topic to look again.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// Says which log there is under a topic's name, and what it holds.
pub(crate) trait Log: Send + 'static {
    /// How it looks now; `None` if there is no such topic.
    fn look(&mut self) -> impl Future<Output = Result<Option<Look>, String>> + Send;

    /// Where leader epochs ended; partitions whose leader does not answer are left out.
    fn epoch_ends(
        &mut self,
        epochs: &BTreeMap<i32, LeaderEpoch>,
    ) -> impl Future<Output = Result<BTreeMap<i32, EpochEnd>, String>> + Send;

    /// The first offset of each of these partitions, and the one that follows its last.
    fn bounds(
        &mut self,
        partitions: &[i32],
    ) -> impl Future<Output = Result<BTreeMap<i32, (Offset, Offset)>, String>> + Send;
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What the look showed, what became of the commit, and how much of what is finished above it is said with it.
    Looked { findings: Vec<Finding>, kept: Kept, said: BTreeMap<i32, Said> },
    /// Nobody could be asked, or the commit is not known to be kept. A later one may succeed.
    Failed,
    /// It must not be tried again.
    Ended(RunError),
}

/// The task that looks and commits.
pub(crate) struct Committer<L, S> {
    pub(crate) topic: Arc<str>,
    /// The topic that the store keeps offsets of.
    pub(crate) id: TopicId,
    pub(crate) log: L,
    pub(crate) store: S,
    pub(crate) metadata: Metadata,
    pub(crate) requests: mpsc::Receiver<Ask>,
    pub(crate) outcomes: mpsc::Sender<Outcome>,
}

impl<L: Log, S: OffsetStore> Committer<L, S> {
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        while let Some(ask) = self.requests.recv().await {
            let what = if ask.commits.is_empty() { "cannot look at the log" } else { "commit not acknowledged" };
            let begun = Instant::now();
            let attempt = tokio::time::timeout(DEADLINE, self.carry_out(ask)).await;
            let outcome = match attempt.unwrap_or_else(|_| Err(Trouble::Passing("no answer in time".to_owned()))) {
                Ok((findings, (kept, said))) => {
                    if let Some(failed_for) = backoff.reset() {
                        tracing::info!(?failed_for, "committing again");
                    }
                    Outcome::Looked { findings, kept, said }
                }
                Err(Trouble::Passing(error)) => {
                    let (_, say) = backoff.fail_since(begun);
                    if say {
                        tracing::warn!(topic = &*self.topic, error, "{what}, trying again");
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

    async fn carry_out(&mut self, ask: Ask) -> Result<(Vec<Finding>, Committing), Trouble> {
        let look = match self.log.look().await.map_err(Trouble::Passing)? {
            Some(look) => Some(look),
            None => {
                tokio::time::sleep(SECOND_LOOK).await;
                self.log.look().await.map_err(Trouble::Passing)?
            }
        };
        let Some(look) = look else { return Ok((vec![Finding::Missing], held())) };
        if look.id != ask.id {
            let bounds = self.bounds(&look, look.epochs.keys().copied()).await?;
            return Ok((vec![Finding::Recreated { was: ask.id, now: look.id, bounds }], held()));
        }
        let (findings, open) = self.compare(&look, &ask).await?;
        if !allow_commit(&findings) {
            return Ok((findings, held()));
        }
        Ok((findings, self.commit(&look, ask, open).await?))
    }

    /// What is found out about each partition, and which cannot be decided now.
    async fn compare(&mut self, look: &Look, ask: &Ask) -> Result<(Vec<Finding>, BTreeSet<i32>), Trouble> {
        let questions = questions(ask, look);
        let answers = match questions.is_empty() {
            true => BTreeMap::new(),
            false => self.log.epoch_ends(&questions).await.map_err(Trouble::Passing)?,
        };
        let mut compared = Comparison::new(ask, look, &answers);
        let open = std::mem::take(&mut compared.open);
        let bounds = self.bounds(look, compared.to_be_bounded()).await?;
        Ok((compared.finish(ask, bounds), open))
    }

    async fn bounds(
        &mut self,
        look: &Look,
        partitions: impl Iterator<Item = i32>,
    ) -> Result<BTreeMap<i32, Bounds>, Trouble> {
        let partitions: Vec<_> = partitions.collect();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let bounds = self.log.bounds(&partitions).await.map_err(Trouble::Passing)?;
        let whole =
            |(partition, (earliest, latest))| (partition, Bounds { earliest, latest, epoch: look.epoch(partition) });
        Ok(bounds.into_iter().map(whole).collect())
    }

    async fn commit(&mut self, look: &Look, ask: Ask, open: BTreeSet<i32>) -> Result<Committing, Trouble> {
        if self.id != ask.id {
            self.store.renew(ask.id);
            self.id = ask.id;
        }
        let Ask { id, mut commits, finished, .. } = ask;
        commits.retain(|partition, _| !open.contains(partition));
        for (partition, committed) in &mut commits {
            committed.leader_epoch = look.epoch(*partition);
        }
        if commits.is_empty() {
            return Ok(held());
        }
        loop {
            let said = self.metadata.fill(id, &mut commits, &finished);
            match self.store.commit(&commits).await {
                Ok(()) => return Ok((Kept::AllBut(open), said)),
                Err(StoreError::MetadataTooLarge { reason }) if self.metadata.shorten(&reason) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What became of a commit, and how much of what is finished above it is said with it.
type Committing = (Kept, BTreeMap<i32, Said>);

fn held() -> Committing {
    (Kept::Held, BTreeMap::new())
}

enum Trouble {
    Passing(String),
    Final(RunError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason } | StoreError::MetadataTooLarge { reason } => Self::Passing(reason),
            StoreError::Refused { reason } => Self::Final(RunError::Unavailable { reason }),
            StoreError::Foreign { .. } => Self::Final(RunError::NotAlone {
                reason: format!("{error}. Stop it, or give this process a group or partitions (--assign) of its own"),
            }),
        }
    }
}
