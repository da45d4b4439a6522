//! `--offsets memory`: kept for as long as the process lives, which is to say not at all.

use std::collections::BTreeMap;

use super::{Committed, OffsetStore, StoreError};
use crate::record::TopicId;

/// Keeps nothing beyond its own life.
#[derive(Debug, Default)]
pub struct MemoryOffsets {
    kept: BTreeMap<i32, Committed>,
}

impl OffsetStore for MemoryOffsets {
    async fn load(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, Committed>, StoreError> {
        Ok(partitions.iter().filter_map(|p| Some((*p, self.kept.get(p)?.clone()))).collect())
    }

    fn renew(&mut self, _: TopicId) {
        self.kept.clear();
    }

    async fn commit(&mut self, commits: &BTreeMap<i32, Committed>) -> Result<(), StoreError> {
        self.kept.extend(commits.clone());
        Ok(())
    }
}
