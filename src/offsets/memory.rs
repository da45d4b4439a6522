//! `--offsets memory`: kept for as long as the process lives, which is to say not at all.

use std::{collections::BTreeMap, sync::Arc};

use super::{Commits, OffsetStore, StoreError};
use crate::record::TopicId;

/// Keeps nothing beyond its own life.
#[derive(Debug, Default)]
pub struct MemoryOffsets {
    kept: Commits,
}

impl OffsetStore for MemoryOffsets {
    async fn load(&mut self, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        Ok(super::select(&self.kept, partitions))
    }

    fn renew(&mut self, topic: &str, _: TopicId) {
        self.kept.remove(topic);
    }

    async fn commit(&mut self, commits: &Commits) -> Result<(), StoreError> {
        for (topic, commits) in commits {
            self.kept.entry(Arc::clone(topic)).or_default().extend(commits.clone());
        }
        Ok(())
    }
}
