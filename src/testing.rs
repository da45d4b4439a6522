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
        attempt: 1,
        damage: None,
    }
}

/// For the simulators: what does not hold is what they return.
macro_rules! promise {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use promise;

/// Seeds for a simulator to run: `LONGSHORE_SEEDS`, or 1,000.
pub(crate) fn seeds() -> u64 {
    std::env::var("LONGSHORE_SEEDS").map_or(1000, |seeds| seeds.parse().expect("LONGSHORE_SEEDS is a number"))
}

/// What a simulation comes to, where an assertion of the simulated counts as a promise, too.
pub(crate) fn caught(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_default())
    })
}
