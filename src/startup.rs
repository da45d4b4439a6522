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
    committer::Log,
    config::{Assign, Config, From, Offsets},
    error::RunError,
    kafka::{
        Deadlines,
        offsets::KafkaOffsets,
        wire::{At, Cluster, GroupView, TopicView, WireError},
    },
    offsets::{Committed, FileOffsets, MemoryOffsets, OffsetStore, StoreError},
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

impl From_<WireError> for Trouble {}

/// Gets everything ready, for as long as `--startup-timeout` allows.
pub(crate) async fn begin(config: &Config) -> Result<Ready, RunError> {
    let cluster = Cluster::new(config.brokers.clone(), CLIENT_ID, Deadlines::default());
    let until = Instant::now() + config.startup_timeout;
    let mut backoff = Backoff::new();
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let attempt = tokio::time::timeout(left, attempt(config, &cluster)).await;
        let reason = match attempt {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(Trouble::Final(error))) => return Err(error),
            Ok(Err(Trouble::Passing(reason))) => reason,
            Err(_) => format!("no answer from {}", list(&config.brokers)),
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
