//! The offset store that was asked for.

use std::{collections::BTreeMap, sync::Arc};

use super::Trouble;
use crate::{
    config::{Config, Offsets},
    error::RunError,
    kafka::{member_offsets::MemberOffsets, offsets::KafkaOffsets, wire::Cluster, with_causes},
    offsets::{Commits, FileOffsets, Former, MemoryOffsets, OffsetStore, OpenError, StoreError},
    record::TopicId,
};

/// The offset store that was asked for.
pub(crate) enum Store {
    Kafka(KafkaOffsets),
    /// As a member of the group.
    Member(MemberOffsets),
    File(FileOffsets),
    Memory(MemoryOffsets),
}

impl Store {
    /// Opens the store for these topics.
    pub(super) fn open(
        config: &Config,
        cluster: &Cluster,
        topics: &BTreeMap<Arc<str>, TopicId>,
    ) -> Result<Self, Trouble> {
        Ok(match &config.offsets {
            Offsets::Kafka => Self::Kafka(KafkaOffsets::new(cluster.clone(), &*config.group)),
            Offsets::Memory => Self::Memory(MemoryOffsets::default()),
            Offsets::File(path) => Self::File(FileOffsets::open(path, &config.group, topics).map_err(|error| {
                let reason = with_causes(&error);
                Trouble::Final(match error {
                    OpenError::Damaged { .. } => RunError::OffsetsDamaged { reason },
                    _ => RunError::Unavailable { reason },
                })
            })?),
        })
    }

    /// The topic of this name that the store has offsets of, if it is another, and these offsets.
    pub(super) fn former(&self, topic: &str) -> Option<Former> {
        match self {
            Self::File(store) => store.former(topic),
            // With the group, no topic id is kept.
            Self::Kafka(_) | Self::Member(_) | Self::Memory(_) => None,
        }
    }
}

impl OffsetStore for Store {
    async fn load(&mut self, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        match self {
            Self::Kafka(store) => store.load(partitions).await,
            Self::Member(store) => store.load(partitions).await,
            Self::File(store) => store.load(partitions).await,
            Self::Memory(store) => store.load(partitions).await,
        }
    }

    fn renew(&mut self, topic: &str, id: TopicId) {
        match self {
            Self::Kafka(store) => store.renew(topic, id),
            Self::Member(store) => store.renew(topic, id),
            Self::File(store) => store.renew(topic, id),
            Self::Memory(store) => store.renew(topic, id),
        }
    }

    async fn commit(&mut self, commits: &Commits) -> Result<(), StoreError> {
        match self {
            Self::Kafka(store) => store.commit(commits).await,
            Self::Member(store) => store.commit(commits).await,
            Self::File(store) => store.commit(commits).await,
            Self::Memory(store) => store.commit(commits).await,
        }
    }

    fn act_in(&mut self, era: u64) {
        match self {
            Self::Member(store) => store.act_in(era),
            Self::Kafka(_) | Self::File(_) | Self::Memory(_) => {}
        }
    }
}
