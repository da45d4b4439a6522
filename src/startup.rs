//! From a configuration to a run that can begin: the group, the topics, and where each partition begins.
//!
//! All of it is tried again, until `--startup-timeout`, for as long as what is in the way may pass: a broker that is not
//! up yet, a topic that somebody is about to create. What will not pass ends the start at once.

mod begins;
mod progress;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    committer::Log,
    config::{Assign, Config, Offsets},
    error::RunError,
    kafka::{
        Deadlines, Isolation,
        offsets::KafkaOffsets,
        wire::{At, Cluster, GroupView, TopicView, WireError},
        with_causes,
    },
    lineage::{EpochEnd, Look},
    loss::DataLoss,
    offsets::{Committed, FileOffsets, Former, MemoryOffsets, OffsetStore, OpenError, StoreError},
    record::{LeaderEpoch, Offset, TopicId, TopicPartition},
    scheduler::Assignment,
};

use self::begins::{Begins, Begun, Unbegun};

/// As whom we appear at the broker.
const CLIENT_ID: &str = "longshore";

/// All that a run needs to begin.
pub(crate) struct Ready {
    pub(crate) cluster: Cluster,
    pub(crate) topic: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) store: Store,
    pub(crate) assignments: Vec<Assignment>,
    /// All partitions that the topic has.
    pub(crate) there: BTreeSet<i32>,
    /// What is gone, and what the user wants to go on without.
    pub(crate) losses: Vec<DataLoss>,
    /// How many offsets lie between where we begin and the ends of the logs.
    pub(crate) lag: i64,
    pub(crate) replies: Option<Written>,
    pub(crate) dead_letters: Option<Written>,
}

/// A topic to be written to.
pub(crate) struct Written {
    pub(crate) topic: Arc<str>,
    pub(crate) partitions: i32,
}

/// Why the start did not succeed this time.
enum Trouble {
    /// It may, in a moment.
    Passing(String),
    /// It will not.
    Final(RunError),
}

impl std::convert::From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        let reason = with_causes(&error);
        if error.may_pass() { Self::Passing(reason) } else { Self::Final(RunError::Unavailable { reason }) }
    }
}

impl std::convert::From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason } => Self::Passing(reason),
            error => Self::Final(RunError::Unavailable { reason: error.to_string() }),
        }
    }
}

/// Gets everything ready, for as long as `--startup-timeout` allows.
pub(crate) async fn begin(config: &Config) -> Result<Ready, RunError> {
    let cluster =
        Cluster::new(config.brokers.clone(), CLIENT_ID, Deadlines::default()).with_security(config.security.clone());
    if let Some(warning) = config.security.warning() {
        tracing::warn!("{warning}");
    }
    let until = Instant::now() + config.startup_timeout;
    let mut backoff = Backoff::new();
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let attempt = tokio::time::timeout(left, attempt(config, &cluster)).await;
        let reason = match attempt {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(Trouble::Final(error))) => return Err(error),
            Ok(Err(Trouble::Passing(reason))) => reason,
            Err(_) => format!("no answer from {}", config.brokers[0]),
        };
        let (wait, say) = backoff.fail();
        if Instant::now() + wait >= until {
            let timeout = config.startup_timeout;
            let reason = format!("not ready within {timeout:?} (--startup-timeout): {reason}");
            return Err(RunError::Unavailable { reason });
        }
        if say {
            tracing::info!("waiting: {reason}");
        }
        tokio::time::sleep(wait).await;
    }
}

/// One try, from the first question to the last.
async fn attempt(config: &Config, cluster: &Cluster) -> Result<Ready, Trouble> {
    if config.offsets == Offsets::Kafka {
        refuse_live_group(&cluster.group(&config.group).await?, &config.group)?;
    }
    let view = cluster.topic(&config.topic).await?;
    let view = view.ok_or_else(|| Trouble::Passing(format!("there is no topic {} yet", config.topic)))?;
    let topic: Arc<str> = config.topic.as_str().into();
    let partitions = choose(config, &view)?;
    let replies = prepare(cluster, config.reply_topic.as_deref()).await?;
    let dead_letters = prepare(cluster, config.dead_letter_topic.as_deref()).await?;
    let mut store = Store::open(config, cluster, view.id)?;
    let there: BTreeSet<i32> = view.partitions.iter().map(|view| view.partition).collect();
    // Those that are not ours, too: they tell what a partition without an offset means.
    let committed = store.load(&there.iter().copied().collect::<Vec<_>>()).await?;
    let asked = committed.iter().filter(|(partition, _)| partitions.contains(partition));
    let asked = asked.map(|(partition, committed)| (*partition, committed.leader_epoch));
    let asked: BTreeMap<_, _> = asked.filter(|(_, epoch)| *epoch != LeaderEpoch::UNKNOWN).collect();
    let end = match config.isolation {
        Isolation::ReadUncommitted => At::Latest,
        Isolation::ReadCommitted => At::Stable,
    };
    let begins = Begins {
        id: view.id,
        former: store.former(),
        committed,
        epoch_ends: if asked.is_empty() { BTreeMap::new() } else { cluster.epoch_ends(&topic, &asked).await? },
        epochs: view.partitions.iter().map(|view| (view.partition, view.epoch)).collect(),
        earliest: cluster.offsets(&topic, &partitions, At::Earliest).await?,
        latest: cluster.offsets(&topic, &partitions, At::Latest).await?,
        from: config.from,
        listed: config.assign != Assign::All,
        on_data_loss: config.on_data_loss,
        trust_foreign: config.trust_foreign_progress,
        ends: if config.until_end { Some(cluster.offsets(&topic, &partitions, end).await?) } else { None },
    };
    let sources = partitions.iter().map(|partition| Arc::new(TopicPartition::new(Arc::clone(&topic), *partition)));
    let Begun { assignments, losses, known } =
        begins.assign(sources, &config.group).map_err(|unbegun| match unbegun {
            Unbegun::NotYet(reason) => Trouble::Passing(reason),
            Unbegun::Run(error) => Trouble::Final(error),
        })?;
    let lag = assignments.iter().map(|a| begins.latest[&a.source.partition].0 - a.start.0).sum();
    tell(config, &assignments, known.tell(&assignments), lag);
    let (cluster, id) = (cluster.clone(), view.id);
    Ok(Ready { cluster, topic, id, store, assignments, there, losses, lag, replies, dead_letters })
}

/// Fixed partitions and a group that deals them out would work against each other.
fn refuse_live_group(view: &GroupView, group: &str) -> Result<(), Trouble> {
    if !view.is_live() {
        return Ok(());
    }
    let members: Vec<_> =
        view.members.iter().map(|m| format!("{} ({}) at {}", m.member_id, m.client_id, m.host)).collect();
    let members = if members.is_empty() { "they are just joining".to_owned() } else { members.join(", ") };
    let reason = format!(
        "group {group} has live members: {members}. Partitions are fixed here, so both would work on the same messages: \
         stop them, or name another group"
    );
    Err(Trouble::Final(RunError::NotAlone { reason }))
}

fn choose(config: &Config, view: &TopicView) -> Result<Vec<i32>, Trouble> {
    let there: Vec<_> = view.partitions.iter().map(|view| view.partition).collect();
    if there.is_empty() {
        return Err(Trouble::Passing(format!("topic {} has no partitions yet", config.topic)));
    }
    match &config.assign {
        Assign::All => Ok(there),
        Assign::Partitions(wanted) => match wanted.iter().find(|partition| !there.contains(partition)) {
            None => Ok(wanted.iter().copied().collect()),
            Some(partition) => Err(Trouble::Final(RunError::NoSuchPartition {
                topic: config.topic.clone(),
                partition: *partition,
                partitions: there.len(),
            })),
        },
    }
}

/// Makes sure that a topic to be written to is there.
async fn prepare(cluster: &Cluster, topic: Option<&str>) -> Result<Option<Written>, Trouble> {
    let Some(topic) = topic else { return Ok(None) };
    let view = match cluster.topic(topic).await? {
        Some(view) => view,
        None => {
            let view = cluster.create_topic(topic, None).await?;
            tracing::info!(topic, partitions = view.partitions.len(), "topic created");
            view
        }
    };
    if view.partitions.is_empty() {
        return Err(Trouble::Passing(format!("topic {topic} has no partitions yet")));
    }
    let partitions = i32::try_from(view.partitions.len()).expect("Kafka counts partitions in 31 bits");
    Ok(Some(Written { topic: topic.into(), partitions }))
}

fn tell(config: &Config, assignments: &[Assignment], finished_above: u64, lag: i64) {
    let new = assignments.iter().filter(|assignment| assignment.committed.is_none()).count();
    tracing::info!(
        topic = config.topic,
        group = config.group,
        partitions = assignments.len(),
        without_offset = new,
        lag,
        workers = config.workers,
        finished_above,
        "working off"
    );
}

/// The offset store that was asked for.
pub(crate) enum Store {
    Kafka(KafkaOffsets),
    File(FileOffsets),
    Memory(MemoryOffsets),
}

impl Store {
    fn open(config: &Config, cluster: &Cluster, id: TopicId) -> Result<Self, Trouble> {
        Ok(match &config.offsets {
            Offsets::Kafka => Self::Kafka(KafkaOffsets::new(cluster.clone(), &*config.group, &*config.topic)),
            Offsets::Memory => Self::Memory(MemoryOffsets::default()),
            Offsets::File(path) => {
                Self::File(FileOffsets::open(path, &config.group, &config.topic, id).map_err(|error| {
                    let reason = with_causes(&error);
                    Trouble::Final(match error {
                        OpenError::Damaged { .. } => RunError::OffsetsDamaged { reason },
                        _ => RunError::Unavailable { reason },
                    })
                })?)
            }
        })
    }
}

impl Store {
    /// The topic of this name that the store has offsets of, if it is another, and these offsets.
    fn former(&self) -> Option<Former> {
        match self {
            Self::File(store) => store.former(),
            // With the group, no topic id is kept.
            Self::Kafka(_) | Self::Memory(_) => None,
        }
    }
}

impl OffsetStore for Store {
    async fn load(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, Committed>, StoreError> {
        match self {
            Self::Kafka(store) => store.load(partitions).await,
            Self::File(store) => store.load(partitions).await,
            Self::Memory(store) => store.load(partitions).await,
        }
    }

    fn renew(&mut self, id: TopicId) {
        match self {
            Self::Kafka(store) => store.renew(id),
            Self::File(store) => store.renew(id),
            Self::Memory(store) => store.renew(id),
        }
    }

    async fn commit(&mut self, commits: &BTreeMap<i32, Committed>) -> Result<(), StoreError> {
        match self {
            Self::Kafka(store) => store.commit(commits).await,
            Self::File(store) => store.commit(commits).await,
            Self::Memory(store) => store.commit(commits).await,
        }
    }
}

/// Asks Kafka which log there is under the topic's name.
pub(crate) struct TopicWatch {
    pub(crate) cluster: Cluster,
    pub(crate) topic: Arc<str>,
}

impl Log for TopicWatch {
    async fn look(&mut self) -> Result<Option<Look>, String> {
        let view = self.cluster.topic(&self.topic).await.map_err(|error| with_causes(&error))?;
        let epochs = |view: &TopicView| {
            let led = view.partitions.iter().filter(|p| p.leader.is_some());
            led.map(|p| (p.partition, p.epoch)).collect()
        };
        Ok(view.map(|view| Look { id: view.id, epochs: epochs(&view) }))
    }

    async fn epoch_ends(&mut self, epochs: &BTreeMap<i32, LeaderEpoch>) -> Result<BTreeMap<i32, EpochEnd>, String> {
        self.cluster.epoch_ends(&self.topic, epochs).await.map_err(|error| with_causes(&error))
    }

    async fn bounds(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, (Offset, Offset)>, String> {
        let earliest = self.cluster.offsets(&self.topic, partitions, At::Earliest);
        let latest = self.cluster.offsets(&self.topic, partitions, At::Latest);
        let (earliest, latest) = tokio::try_join!(earliest, latest).map_err(|error| with_causes(&error))?;
        Ok(earliest.into_iter().map(|(partition, earliest)| (partition, (earliest, latest[&partition]))).collect())
    }
}
