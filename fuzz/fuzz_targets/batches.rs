//! The `records` of a Fetch response, as they come from a broker: anything at all.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use longshore::{
    kafka::batch::{AbortedTransactions, Inflater, split},
    record::{Offset, TopicPartition},
};

/// So small that a way around it shows soon.
const LIMIT: usize = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let source = Arc::new(TopicPartition::new("t", 0));
    let (mut inflater, mut aborted) = (Inflater::new(LIMIT), AbortedTransactions::default());
    let mut batches = split(Bytes::copy_from_slice(bytes));
    let mut taken = 0;
    for batch in batches.by_ref() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(damage) => {
                taken += damage.bytes.len();
                continue;
            }
        };
        taken += batch.bytes().len();
        // The checksum is not asked: what it lets pass is what matters.
        let _ = (batch.check_crc(), batch.control(), aborted.is_aborted(&batch));
        let mut records = Vec::new();
        if batch.records(&source, Offset(0), &mut inflater, &mut records).is_err() {
            assert!(records.is_empty());
            continue;
        }
        let within = batch.base_offset()..=batch.last_offset();
        assert!(records.iter().all(|record| within.contains(&record.offset)));
        assert!(records.is_sorted_by(|one, next| one.offset < next.offset));
        assert!(batch.is_control() || records.len() == batch.record_count() as usize);
    }
    assert_eq!(taken + batches.rest().len(), bytes.len(), "no byte is passed over");
});
