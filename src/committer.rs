//! Looks at the logs, and commits: one ask at a time, each commit after a look at the log that it is for.
//!
//! ```text
//!   Ask ──▶ look: topic ids, leader epochs ──▶ of each topic: where did an epoch end? what does the log hold?
//!                                                    │ all is as it was              │ something is not
//!                                                    ▼                               ▼
//!                                  one commit for all of those ──▶ Outcome ◀── findings, and no commit for this one
//! ```
//!
//! A commit of offsets means something only in the log that they were read from. So before each, the topics' ids and leader
//! epochs are looked at, and what that look leaves open is asked for (`lineage.rs`). Where anything of a topic is not as it
//! was, nothing is committed for it this time: what was found goes to the engine first (promise 6). Partitions that cannot
//! be decided now, because nobody leads them, are left out of a commit, so that they hold up no others. Each commit carries
//! the leader epochs of its look (KIP-320). A topic that is missing is looked for once more: a broker that has just started
//! may not know it yet.
//!
//! The topics hold up each other as little as can be: what is odd with one is no matter of the others, and what cannot be
//! found out about one in time is left for the next ask.
//!
//! An ask without commits is a look: for partitions that were added, and for topics in which nothing happens.

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

use futures::future::join_all;
use tokio::{sync::mpsc, time::timeout};

use self::{
    compare::{Comparison, allow_commit, questions},
    metadata::Metadata,
};
use crate::{
    backoff::Backoff,
    error::RunError,
    gather::Gather,
    lineage::{Bounds, EpochEnd, Look},
    offsets::{Commits, Committed, OffsetStore, StoreError},
    progress::{Finished, Notes},
    record::{LeaderEpoch, Offset, TopicId, TopicIndex},
    scheduler::{Ask, Finding, Kept, Looked, Said, TopicAsk},
};

/// What one may take altogether, the look at the logs included.
const DEADLINE: Duration = Duration::from_secs(10);
/// What it may take to find out what a look leaves open of one topic.
pub(crate) const FINDING_OUT: Duration = Duration::from_secs(6);
/// How long after a look that found no topic to look again.
const SECOND_LOOK: Duration = Duration::from_millis(500);

/// What a look shows of a topic: nothing if there is none of that name; or why it cannot be looked at.
pub(crate) type Seen = Result<Option<Look>, String>;

/// Says which logs there are under the topics' names, and what they hold.
pub(crate) trait Log: Send + Sync + 'static {
    /// How each of these topics looks now, in their order.
    fn look(&self, topics: &[Arc<str>]) -> impl Future<Output = Result<Vec<Seen>, String>> + Send;

    /// Where leader epochs ended; partitions whose leader does not answer are left out.
    fn epoch_ends(
        &self,
        topic: &str,
        epochs: &BTreeMap<i32, LeaderEpoch>,
    ) -> impl Future<Output = Result<BTreeMap<i32, EpochEnd>, String>> + Send;

    /// The first offset of each of these partitions, and the one that follows its last.
    fn bounds(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> impl Future<Output = Result<BTreeMap<i32, (Offset, Offset)>, String>> + Send;
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What the look showed of each topic, and what became of the commit.
    Looked(Vec<Looked>),
    /// Nobody could be asked, or the commit is not known to be kept. A later one may succeed.
    Failed,
    /// It must not be tried again.
    Ended(RunError),
}

/// The task that looks and commits.
pub(crate) struct Committer<L, S> {
    /// The topics that the store keeps offsets of.
    pub(crate) ids: BTreeMap<Arc<str>, TopicId>,
    pub(crate) log: L,
    pub(crate) store: S,
    /// See [`FINDING_OUT`].
    pub(crate) patience: Duration,
    pub(crate) metadata: Metadata,
    pub(crate) requests: mpsc::Receiver<Ask>,
    pub(crate) outcomes: mpsc::Sender<Outcome>,
}

impl<L: Log, S: OffsetStore> Committer<L, S> {
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        while let Some(ask) = self.requests.recv().await {
            let what = if ask.has_commits() { "commit not acknowledged" } else { "cannot look at the log" };
            let names = names(ask.topics.iter().map(|topic| &topic.name));
            let begun = Instant::now();
            let attempt = timeout(DEADLINE, self.carry_out(ask)).await;
            let (outcome, troubles) = match attempt.unwrap_or_else(|_| Err(Trouble::Passing(NO_ANSWER.to_owned()))) {
                Ok((looked, troubles)) => (Outcome::Looked(looked), troubles),
                Err(Trouble::Passing(error)) => (Outcome::Failed, vec![(names, error)]),
                Err(Trouble::Final(error)) => (Outcome::Ended(error), Vec::new()),
            };
            if !troubles.is_empty() {
                let (_, say) = backoff.fail_since(begun);
                for (topic, error) in troubles.into_iter().filter(|_| say) {
                    tracing::warn!(topic, error, "{what}, trying again");
                }
            } else if matches!(outcome, Outcome::Looked(_))
                && let Some(failed_for) = backoff.reset()
            {
                tracing::info!(?failed_for, "committing again");
            }
            if self.outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    /// Gives what was found out about each topic, and what is in the way, beside the names of the topics for which it is.
    async fn carry_out(&mut self, ask: Ask) -> Result<(Vec<Looked>, Vec<(String, String)>), Trouble> {
        self.store.act_in(ask.era);
        let looks = self.look(&ask.topics).await.map_err(Trouble::Passing)?;
        let (log, patience) = (&self.log, self.patience);
        let found_out = ask.topics.iter().zip(&looks).map(|(topic, look)| async move {
            let found = timeout(patience, find_out(log, topic, look)).await;
            found.unwrap_or_else(|_| Err(NO_ANSWER.to_owned()))
        });
        let found_out = join_all(found_out).await;
        let (mut looked, mut troubles) = (Vec::new(), Vec::new());
        let (mut commits, mut finished) = (Commits::new(), BTreeMap::new());
        for ((ask, look), found) in ask.topics.into_iter().zip(looks).zip(found_out) {
            let (topic, name) = (ask.topic, Arc::clone(&ask.name));
            let (findings, kept) = match (look, found) {
                (Ok(Some(look)), Ok((findings, open))) if allow_commit(&findings) => {
                    let (to_commit, above) = self.settle(&look, ask, &open);
                    let kept = if to_commit.is_empty() { Kept::Held } else { Kept::AllBut(open) };
                    if !to_commit.is_empty() {
                        finished.insert(Arc::clone(&name), above);
                        commits.insert(name, to_commit);
                    }
                    (findings, kept)
                }
                (_, Ok((findings, _))) => (findings, Kept::Held),
                (_, Err(trouble)) => {
                    troubles.push((name.to_string(), trouble));
                    (Vec::new(), Kept::Unknown)
                }
            };
            looked.push(Looked { topic, findings, kept, said: BTreeMap::new() });
        }
        match self.commit(&mut commits, &finished).await? {
            Ok(mut said) => {
                for looked in &mut looked {
                    looked.said = said.remove(&looked.topic).unwrap_or_default();
                }
            }
            Err(reason) => {
                troubles.push((names(commits.keys()), reason));
                for looked in looked.iter_mut().filter(|looked| matches!(looked.kept, Kept::AllBut(_))) {
                    looked.kept = Kept::Unknown;
                }
            }
        }
        Ok((looked, troubles))
    }

    /// Looks at the topics, and once more where one is missing that was not before.
    async fn look(&self, topics: &[TopicAsk]) -> Result<Vec<Seen>, String> {
        let names: Vec<_> = topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
        let looks = self.log.look(&names).await?;
        let is_news = |(topic, look): (&TopicAsk, &Seen)| !topic.missing && matches!(look, Ok(None));
        if !topics.iter().zip(&looks).any(is_news) {
            return Ok(looks);
        }
        tokio::time::sleep(SECOND_LOOK).await;
        self.log.look(&names).await
    }

    /// What is to be committed for a topic that is as it was, and what is finished above that. For one that was made anew
    /// since the last commit, the store begins anew.
    fn settle(&mut self, look: &Look, ask: TopicAsk, open: &BTreeSet<i32>) -> (BTreeMap<i32, Committed>, Above) {
        if self.ids.insert(Arc::clone(&ask.name), ask.id).is_some_and(|known| known != ask.id) {
            self.store.renew(&ask.name, ask.id);
        }
        let TopicAsk { topic, id, mut commits, finished, notes, .. } = ask;
        commits.retain(|partition, _| !open.contains(partition));
        for (partition, committed) in &mut commits {
            committed.leader_epoch = look.epoch(*partition);
        }
        (commits, Above { topic, id, finished, notes })
    }

    /// Commits, with as much of what is finished above as the broker takes, and says how much that is; or what is in the
    /// way, where that may pass.
    async fn commit(
        &mut self,
        commits: &mut Commits,
        finished: &BTreeMap<Arc<str>, Above>,
    ) -> Result<Result<SaidOf, String>, Trouble> {
        if commits.is_empty() {
            return Ok(Ok(SaidOf::new()));
        }
        loop {
            let said = commits.iter_mut().map(|(name, commits)| {
                let Above { topic, id, finished, notes } = &finished[name];
                (*topic, self.metadata.fill(*id, commits, finished, notes))
            });
            let said = said.gather();
            let reason = match self.store.commit(commits).await {
                Ok(()) => return Ok(Ok(said)),
                Err(StoreError::MetadataTooLarge { reason }) if self.metadata.shorten(&reason) => continue,
                Err(StoreError::Unavailable { reason } | StoreError::MetadataTooLarge { reason }) => reason,
                Err(StoreError::Refused { reason }) => return Err(Trouble::Final(RunError::Unavailable { reason })),
                Err(error @ StoreError::Foreign { .. }) => {
                    let reason =
                        format!("{error}. Stop it, or give this process a group or partitions (--assign) of its own");
                    return Err(Trouble::Final(RunError::NotAlone { reason }));
                }
            };
            return Ok(Err(reason));
        }
    }
}

/// What is finished above the commits for a topic, and what else is said of that.
struct Above {
    topic: TopicIndex,
    id: TopicId,
    finished: BTreeMap<i32, Finished>,
    notes: BTreeMap<i32, Notes>,
}

/// How much of it they say.
type SaidOf = BTreeMap<TopicIndex, BTreeMap<i32, Said>>;

/// What is found out about a topic, and which of its partitions cannot be decided now.
async fn find_out(log: &impl Log, ask: &TopicAsk, look: &Seen) -> Result<(Vec<Finding>, BTreeSet<i32>), String> {
    let Some(look) = look.as_ref().map_err(Clone::clone)? else {
        return Ok((vec![Finding::Missing], BTreeSet::new()));
    };
    if look.id != ask.id {
        let bounds = bounds(log, ask, look, look.epochs.keys().copied()).await?;
        return Ok((vec![Finding::Recreated { was: ask.id, now: look.id, bounds }], BTreeSet::new()));
    }
    let questions = questions(ask, look);
    let answers = match questions.is_empty() {
        true => BTreeMap::new(),
        false => log.epoch_ends(&ask.name, &questions).await?,
    };
    let mut compared = Comparison::new(ask, look, &answers);
    let open = std::mem::take(&mut compared.open);
    let bounds = bounds(log, ask, look, compared.to_be_bounded()).await?;
    Ok((compared.finish(ask, bounds), open))
}

async fn bounds(
    log: &impl Log,
    ask: &TopicAsk,
    look: &Look,
    partitions: impl Iterator<Item = i32>,
) -> Result<BTreeMap<i32, Bounds>, String> {
    let partitions: Vec<_> = partitions.collect();
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let bounds = log.bounds(&ask.name, &partitions).await?;
    let whole =
        |(partition, (earliest, latest))| (partition, Bounds { earliest, latest, epoch: look.epoch(partition) });
    Ok(bounds.into_iter().map(whole).gather())
}

fn names<'a>(topics: impl Iterator<Item = &'a Arc<str>>) -> String {
    topics.map(|name| &**name).collect::<Vec<_>>().join(",")
}

const NO_ANSWER: &str = "no answer in time";

enum Trouble {
    Passing(String),
    Final(RunError),
}
