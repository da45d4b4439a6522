//! From a configuration to a run that can begin: the group, the topics, and where each partition begins.
//!
//! All of it is tried again, until `--startup-timeout`, for as long as what is in the way may pass: a broker that is not
//! up yet, a topic that somebody is about to create. What will not pass ends the start at once.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    committer::{Log, Look},
    config::{Assign, Config, From, Offsets},
    error::RunError,
    kafka::{
        Deadlines,
        offsets::KafkaOffsets,
        wire::{At, Cluster, GroupView, TopicView, WireError},
        with_causes,
    },
    offsets::{Committed, FileOffsets, MemoryOffsets, OffsetStore, OpenError, StoreError},
    record::{AssignmentId, Offset, TopicId, TopicPartition},
    scheduler::Assignment,
    source::out_of_range,
};

/// As whom we appear at the broker.
const CLIENT_ID: &str = "longshore";

/// All that a run needs to begin.
pub(crate) struct Ready {
    pub(crate) cluster: Cluster,
    pub(crate) topic: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) store: Store,
    pub(crate) assignments: Vec<Assignment>,
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
    let begins = Begins {
        committed: store.load(&partitions).await?,
        earliest: cluster.offsets(&topic, &partitions, At::Earliest).await?,
        latest: cluster.offsets(&topic, &partitions, At::Latest).await?,
        from: config.from,
        until_end: config.until_end,
    };
    let sources = partitions.iter().map(|partition| Arc::new(TopicPartition::new(Arc::clone(&topic), *partition)));
    let assignments = begins.assign(sources, &config.group).map_err(Trouble::Final)?;
    let lag = assignments.iter().map(|a| begins.latest[&a.source.partition].0 - a.start.0).sum();
    tell(config, &assignments, lag);
    Ok(Ready { cluster: cluster.clone(), topic, id: view.id, store, assignments, lag, replies, dead_letters })
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

/// What has to be known to say where each partition begins.
struct Begins {
    committed: BTreeMap<i32, Committed>,
    earliest: BTreeMap<i32, Offset>,
    latest: BTreeMap<i32, Offset>,
    from: From,
    until_end: bool,
}

impl Begins {
    fn assign(
        &self,
        sources: impl Iterator<Item = Arc<TopicPartition>>,
        group: &str,
    ) -> Result<Vec<Assignment>, RunError> {
        let mut assignments = Vec::new();
        let mut missing = Vec::new();
        for (number, source) in sources.enumerate() {
            let partition = source.partition;
            let Some(start) = self.start(&source)? else {
                missing.push((*source).clone());
                continue;
            };
            assignments.push(Assignment {
                id: AssignmentId(number as u64),
                start,
                committed: self.committed.get(&partition).map(|committed| committed.offset),
                end: self.until_end.then(|| self.latest[&partition]),
                source,
            });
        }
        if missing.is_empty() {
            Ok(assignments)
        } else {
            Err(RunError::NoOffset { group: group.to_owned(), partitions: missing })
        }
    }

    /// Where a partition begins; `None` if there is no offset for it and `--from stop` was said.
    fn start(&self, source: &Arc<TopicPartition>) -> Result<Option<Offset>, RunError> {
        let (earliest, latest) = (self.earliest[&source.partition], self.latest[&source.partition]);
        if let Some(Committed { offset, .. }) = self.committed.get(&source.partition) {
            return if (earliest..=latest).contains(offset) {
                Ok(Some(*offset))
            } else {
                Err(out_of_range(Arc::clone(source), *offset, earliest, latest))
            };
        }
        match self.from {
            From::Stop => Ok(None),
            // Beside others that have one, a partition without an offset is new, or its offset has expired: it may hold
            // messages that nobody has seen.
            From::Latest if self.committed.is_empty() => Ok(Some(latest)),
            From::Latest => {
                tracing::warn!(partition = %source, "no committed offset, but others have one: beginning at the earliest");
                Ok(Some(earliest))
            }
            From::Earliest => Ok(Some(earliest)),
        }
    }
}

fn tell(config: &Config, assignments: &[Assignment], lag: i64) {
    let new = assignments.iter().filter(|assignment| assignment.committed.is_none()).count();
    tracing::info!(
        topic = config.topic,
        group = config.group,
        partitions = assignments.len(),
        without_offset = new,
        lag,
        workers = config.workers,
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
                        OpenError::OtherTopic { was, .. } => {
                            RunError::Recreated { topic: config.topic.as_str().into(), was, now: id }
                        }
                        OpenError::Damaged { .. } => RunError::OffsetsDamaged { reason },
                        _ => RunError::Unavailable { reason },
                    })
                })?)
            }
        })
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
        let epochs = |view: &TopicView| view.partitions.iter().map(|p| (p.partition, p.epoch)).collect();
        Ok(view.map(|view| Look { id: view.id, epochs: epochs(&view) }))
    }
}
