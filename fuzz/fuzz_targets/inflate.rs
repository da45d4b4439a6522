//! The content of a compressed batch: the first byte chooses the codec, the rest is what is inflated.
#![no_main]

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use libfuzzer_sys::fuzz_target;
use longshore::{
    kafka::batch::{Inflater, split},
    record::{Offset, TopicPartition},
};

const LIMIT: usize = 4 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((codec, body)) = input.split_first() else { return };
    let mut batch = Vec::with_capacity(61 + body.len());
    batch.put_i64(0);
    batch.put_i32(49 + body.len() as i32);
    batch.put_i32(0);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(1 + i16::from(codec % 4));
    batch.put_i32(999);
    batch.put_bytes(0, 8 + 8 + 8 + 2 + 4);
    batch.put_i32(1000);
    batch.extend_from_slice(body);
    let batch = split(Bytes::from(batch)).next().expect("a batch").expect("a good header");
    let source = Arc::new(TopicPartition::new("t", 0));
    let _ = batch.records(&source, Offset(0), &mut Inflater::new(LIMIT), &mut Vec::new());
});
