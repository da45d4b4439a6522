//! What unit tests share.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Offset, Record, TopicPartition};

/// A record of partition 0 of the topic `in`, with the key `k`.
pub(crate) fn record(offset: i64, value: Option<&[u8]>) -> Record {
    Record {
        source: Arc::new(TopicPartition::new("in", 0)),
        offset: Offset(offset),
        timestamp_ms: 0,
        key: Some(Bytes::from_static(b"k")),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
        damage: None,
    }
}
