//! From a configuration to a run that can begin: the group, the topics, and where each of their partitions begins.
//!
//! All of it is tried again, until `--startup-timeout`, for as long as what is in the way may pass: a broker that is not
//! up yet, a topic that somebody is about to create. What will not pass ends the start at once.

pub(crate) mod begins;
mod deal;
mod progress;
mod store;
mod watch;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use self::begins::{Begins, Begun, NotYet, Sharing};
pub(crate) use self::{
    deal::{Dealt, deal},
    store::Store,
    watch::TopicWatch,
};
use crate::{
    backoff::Backoff,
    config::{Assign, Config, Offsets},
    error::RunError,
    gather::Gather,
    kafka::{
        Deadlines, Isolation,
        member_offsets::MemberOffsets,
        wire::{At, Cluster, GroupView, TopicView, WireError},
        with_causes,
    },
    loss::DataLoss,
    offsets::{Committed, Former, OffsetStore, StoreError},
    record::{LeaderEpoch, TopicPartition},
    scheduler::Taken,
    standing::{Standing, State},
};

/// As whom we appear at the broker.
const CLIENT_ID: &str = "longshore";

/// All that a run needs to begin.
pub(crate) struct Ready {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    /// What is worked off, of each topic.
    pub(crate) taken: Vec<Taken>,
    /// What is gone, and what the user wants to go on without.
    pub(crate) losses: Vec<DataLoss>,
    /// How many offsets lie between where we begin and the ends of the logs.
    pub(crate) lag: i64,
    /// How many partitions there are to be read, at the most.
    pub(crate) partitions: usize,
    /// Where the group deals partitions out: what tells the standing that the store and the sinks look at.
    pub(crate) member: Option<tokio::sync::watch::Sender<State>>,
    pub(crate) standing: Standing,
    pub(crate) replies: Option<Written>,
    pub(crate) dead_letters: Option<Written>,
}

/// A topic to be written to.
pub(crate) struct Written {
    pub(crate) topic: Arc<str>,
    pub(crate) partitions: i32,
}

/// Why the start did not succeed this time.
pub(crate) enum Trouble {
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
        // As a member, too: whether there is a coordinator that lets us in is to be known at the start.
        let view = cluster.group(&config.group).await?;
        if config.assign != Assign::Group {
            refuse_live_group(&view, &config.group)?;
        }
    }
    let found = find(config, cluster).await?;
    let replies = prepare(cluster, config.reply_topic.as_deref()).await?;
    let dead_letters = prepare(cluster, config.dead_letter_topic.as_deref()).await?;
    let partitions = found.iter().map(|topic| topic.partitions.len()).sum();
    if config.assign == Assign::Group {
        let (member, standing) = Standing::told(State { era: 0, identity: None, good_until: None });
        let store = Store::Member(MemberOffsets::new(cluster.clone(), &*config.group, standing.clone()));
        let (cluster, member) = (cluster.clone(), Some(member));
        let (taken, losses, lag) = (Vec::new(), Vec::new(), 0);
        return Ok(Ready { cluster, store, taken, losses, lag, partitions, member, standing, replies, dead_letters });
    }
    let ids: BTreeMap<_, _> = found.iter().map(|topic| (Arc::clone(&topic.name), topic.view.id)).gather();
    let mut store = Store::open(config, cluster, &ids)?;
    // Those that are not ours, too: they tell what a partition without an offset means.
    let there = found.iter().map(|topic| (Arc::clone(&topic.name), topic.there().collect()));
    let mut committed = store.load(&there.gather()).await?;
    let begun = found.iter().map(|topic| {
        let committed = committed.remove(&topic.name).unwrap_or_default();
        let sharing = if config.assign == Assign::All { Sharing::All } else { Sharing::Listed };
        topic.begin(config, cluster, committed, store.former(&topic.name), sharing)
    });
    let (Begun { losses, known, .. }, taken, lag) = together(config, &found, try_join_all(begun).await?)?;
    tell(config, &taken, known.tell(&taken), lag);
    let (cluster, standing) = (cluster.clone(), Standing::fixed());
    Ok(Ready { cluster, store, taken, losses, lag, partitions, member: None, standing, replies, dead_letters })
}

/// What of all topics begins, how it is taken on, and how many offsets there are to be worked off.
fn together(config: &Config, found: &[Found], each: Vec<(Begun, i64)>) -> Result<(Begun, Vec<Taken>, i64), Trouble> {
    let (mut all, mut taken, mut lag) = (Begun::default(), Vec::new(), 0);
    for (topic, (begun, behind)) in found.iter().zip(each) {
        let assignments = all.take_in(begun);
        lag += behind;
        let (id, there) = (topic.view.id, topic.there().gather());
        taken.push(Taken { topic: Arc::clone(&topic.name), id, there, assignments });
    }
    let all = all.check(&config.group, config.on_data_loss).map_err(Trouble::Final)?;
    Ok((all, taken, lag))
}

/// A topic that is to be worked off.
struct Found {
    name: Arc<str>,
    view: TopicView,
    /// Which of its partitions.
    partitions: Vec<i32>,
}

/// Looks for all topics.
async fn find(config: &Config, cluster: &Cluster) -> Result<Vec<Found>, Trouble> {
    let names: Vec<_> = config.topics.iter().map(String::as_str).collect();
    let views = cluster.topics(&names).await?;
    let found = names.into_iter().zip(views).map(|(name, view)| {
        let view = view?.ok_or_else(|| Trouble::Passing(format!("there is no topic {name} yet")))?;
        Ok(Found { name: name.into(), partitions: choose(config, name, &view)?, view })
    });
    found.collect()
}

impl Found {
    /// All partitions that it has.
    fn there(&self) -> impl Iterator<Item = i32> {
        self.view.partitions.iter().map(|view| view.partition)
    }

    /// Where each of the partitions begins, and how many offsets lie between that and the ends of the logs.
    async fn begin(
        &self,
        config: &Config,
        cluster: &Cluster,
        committed: BTreeMap<i32, Committed>,
        former: Option<Former>,
        sharing: Sharing,
    ) -> Result<(Begun, i64), Trouble> {
        let Self { name, view, partitions } = self;
        let asked = committed.iter().filter(|(partition, _)| partitions.contains(partition));
        let asked = asked.map(|(partition, committed)| (*partition, committed.leader_epoch));
        let asked: BTreeMap<_, _> = asked.filter(|(_, epoch)| *epoch != LeaderEpoch::UNKNOWN).gather();
        let end = match config.isolation {
            Isolation::ReadUncommitted => At::Latest,
            Isolation::ReadCommitted => At::Stable,
        };
        let begins = Begins {
            id: view.id,
            former,
            committed,
            epoch_ends: if asked.is_empty() { BTreeMap::new() } else { cluster.epoch_ends(name, &asked).await? },
            epochs: view.partitions.iter().map(|view| (view.partition, view.epoch)).gather(),
            earliest: cluster.offsets(name, partitions, At::Earliest).await?,
            latest: cluster.offsets(name, partitions, At::Latest).await?,
            from: config.from,
            sharing,
            on_data_loss: config.on_data_loss,
            trust_foreign: config.trust_foreign_progress,
            ends: if config.until_end { Some(cluster.offsets(name, partitions, end).await?) } else { None },
        };
        let sources = partitions.iter().map(|partition| Arc::new(TopicPartition::new(Arc::clone(name), *partition)));
        let begun = begins.assign(sources).map_err(|NotYet(reason)| Trouble::Passing(reason))?;
        let behind = begun.assignments.iter().map(|a| begins.latest[&a.source.partition].0 - a.start.0).sum();
        Ok((begun, behind))
    }
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
         stop them, or name another group, or leave --assign out, to share the work with them"
    );
    Err(Trouble::Final(RunError::NotAlone { reason }))
}

fn choose(config: &Config, topic: &str, view: &TopicView) -> Result<Vec<i32>, Trouble> {
    let there: Vec<_> = view.partitions.iter().map(|view| view.partition).collect();
    if there.is_empty() {
        return Err(Trouble::Passing(format!("topic {topic} has no partitions yet")));
    }
    match &config.assign {
        Assign::All | Assign::Group => Ok(there),
        Assign::Partitions(wanted) => match wanted.iter().find(|partition| !there.contains(partition)) {
            None => Ok(wanted.iter().copied().collect()),
            Some(partition) => Err(Trouble::Final(RunError::NoSuchPartition {
                topic: topic.to_owned(),
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

fn tell(config: &Config, taken: &[Taken], finished_above: u64, lag: i64) {
    let assignments = || taken.iter().flat_map(|taken| &taken.assignments);
    let topics: Vec<_> = taken.iter().map(|taken| &*taken.topic).collect();
    tracing::info!(
        topic = topics.join(","),
        group = config.group,
        partitions = assignments().count(),
        without_offset = assignments().filter(|assignment| assignment.committed.is_none()).count(),
        lag,
        workers = config.workers,
        finished_above,
        "working off"
    );
}
