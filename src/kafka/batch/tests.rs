//! What is written and read again is the same, in every codec; what is damaged is told, whatever the damage.
//!
//! The batches are made here, by an encoder that shares no line with the decoder: [`Plan`].

mod aborted;
mod bombs;
pub(in crate::kafka) mod codecs;
mod damage;
mod encoder;
mod golden;
mod roundtrip;

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use codecs::Codec;
use proptest::prelude::*;

use super::{Damage, DamageKind, Inflater, RawBatch, split};
use crate::record::{Header, Offset, Record, TopicPartition};

/// More than any batch here needs.
const LIMIT: usize = 16 << 20;

/// What a batch is to hold.
#[derive(Debug, Clone)]
pub(in crate::kafka) struct Plan {
    pub(in crate::kafka) codec: Codec,
    pub(in crate::kafka) base_offset: i64,
    /// Further offsets behind the last record, as compaction leaves them.
    pub(in crate::kafka) gap: i32,
    pub(in crate::kafka) base_timestamp: i64,
    pub(in crate::kafka) max_timestamp: i64,
    /// Without the codec.
    pub(in crate::kafka) attributes: i16,
    pub(in crate::kafka) producer_id: i64,
    pub(in crate::kafka) records: Vec<Planned>,
}

#[derive(Debug, Clone)]
pub(in crate::kafka) struct Planned {
    pub(in crate::kafka) offset_delta: i32,
    pub(in crate::kafka) timestamp: i64,
    pub(in crate::kafka) key: Option<Vec<u8>>,
    pub(in crate::kafka) value: Option<Vec<u8>>,
    pub(in crate::kafka) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Planned {
    pub(in crate::kafka) fn new(offset_delta: i32, value: &str) -> Self {
        let value = Some(value.as_bytes().to_vec());
        Self { offset_delta, timestamp: 1_700_000_000_000, key: None, value, headers: Vec::new() }
    }
}

pub(in crate::kafka) const LOG_APPEND: i16 = 1 << 3;
pub(in crate::kafka) const TRANSACTIONAL: i16 = 1 << 4;
pub(in crate::kafka) const CONTROL: i16 = 1 << 5;

impl Plan {
    pub(in crate::kafka) fn new(records: Vec<Planned>) -> Self {
        Self {
            codec: Codec::None,
            base_offset: 0,
            gap: 0,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_000,
            attributes: 0,
            producer_id: -1,
            records,
        }
    }

    /// Three records, the same in every codec.
    pub(in crate::kafka) fn small(codec: Codec) -> Self {
        let mut plan = Self::new((0..3).map(|at| Planned::new(at, "a value, a value, a value, a value")).collect());
        plan.records[1].key = Some(b"key".to_vec());
        plan.records[1].headers = vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(b"twice".to_vec()))];
        Self { codec, base_offset: 40, ..plan }
    }

    fn last_offset_delta(&self) -> i32 {
        self.records.last().map_or(0, |last| last.offset_delta) + self.gap
    }

    fn content(&self) -> Vec<u8> {
        self.records.iter().flat_map(|record| framed(&record.encode(self.base_timestamp))).collect()
    }

    pub(in crate::kafka) fn encode(&self) -> Vec<u8> {
        self.encode_with(&self.codec.compress(&self.content()))
    }

    /// The batch with other content than it should have.
    fn encode_with(&self, body: &[u8]) -> Vec<u8> {
        let mut batch = Vec::new();
        batch.put_i64(self.base_offset);
        batch.put_i32(49 + body.len() as i32);
        batch.put_i32(7);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(self.attributes | self.codec.id());
        batch.put_i32(self.last_offset_delta());
        batch.put_i64(self.base_timestamp);
        batch.put_i64(self.max_timestamp);
        batch.put_i64(self.producer_id);
        batch.put_i16(if self.producer_id < 0 { -1 } else { 5 });
        batch.put_i32(-1);
        batch.put_i32(self.records.len() as i32);
        batch.extend_from_slice(body);
        seal(&mut batch);
        batch
    }

    /// The records as they have to be read.
    fn expected(&self) -> Vec<Record> {
        let record = |planned: &Planned| {
            let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| Header {
                name: Bytes::copy_from_slice(name),
                value: value.clone().map(Bytes::from),
            };
            let appended = self.attributes & LOG_APPEND != 0;
            Record {
                source: source(),
                offset: Offset(self.base_offset + i64::from(planned.offset_delta)),
                timestamp_ms: if appended { self.max_timestamp } else { planned.timestamp },
                key: planned.key.clone().map(Bytes::from),
                value: planned.value.clone().map(Bytes::from),
                headers: planned.headers.iter().map(header).collect(),
                attempt: 1,
                damage: None,
            }
        };
        self.records.iter().map(record).collect()
    }
}

impl Planned {
    /// The record without its length.
    fn encode(&self, base_timestamp: i64) -> Vec<u8> {
        let mut record = vec![0];
        put_number(&mut record, self.timestamp.wrapping_sub(base_timestamp));
        put_number(&mut record, self.offset_delta.into());
        put_field(&mut record, self.key.as_deref());
        put_field(&mut record, self.value.as_deref());
        put_number(&mut record, self.headers.len() as i64);
        for (name, value) in &self.headers {
            put_field(&mut record, Some(name));
            put_field(&mut record, value.as_deref());
        }
        record
    }
}

/// A number and then as many bytes.
fn framed(record: &[u8]) -> Vec<u8> {
    let mut framed = Vec::new();
    put_field(&mut framed, Some(record));
    framed
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    put_number(out, field.map_or(-1, |field| field.len() as i64));
    out.extend_from_slice(field.unwrap_or_default());
}

fn put_number(out: &mut Vec<u8>, number: i64) {
    let mut rest = if number < 0 { !(number as u64) * 2 + 1 } else { (number as u64) * 2 };
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            return out.push(low);
        }
        out.push(low + 128);
    }
}

/// Makes the checksum right.
fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn source() -> Arc<TopicPartition> {
    Arc::new(TopicPartition::new("t", 0))
}

/// The batch that `bytes` begin with.
fn first(bytes: impl Into<Bytes>) -> Option<Result<RawBatch, Damage>> {
    split(bytes.into()).next()
}

/// The records of the only batch in `bytes`, its checksum compared.
fn read(bytes: impl Into<Bytes>) -> Result<Vec<Record>, Damage> {
    let batch = first(bytes).expect("a batch")?;
    batch.check_crc()?;
    records(&batch)
}

/// The records of a batch, whatever its checksum. A library's panic is not taken for damage here.
fn records(batch: &RawBatch) -> Result<Vec<Record>, Damage> {
    let mut out = Vec::new();
    let outcome = batch.records(&source(), Offset(0), &mut Inflater::new(LIMIT), &mut out);
    if let Err(Damage { kind: DamageKind::Inflate { reason, .. }, .. }) = &outcome {
        assert_ne!(reason, "its decoder failed", "a decoder panicked");
    }
    outcome.map(|()| out)
}

/// Records of all kinds, with gaps between them.
fn planned() -> impl Strategy<Value = Vec<Planned>> {
    let bytes = || prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..200));
    let name = prop_oneof![Just(b"same".to_vec()), prop::collection::vec(any::<u8>(), 0..20)];
    let headers = prop::collection::vec((name, bytes()), 0..5);
    let timestamp = prop_oneof![Just(-1), 1_600_000_000_000..1_800_000_000_000_i64, any::<i64>()];
    let repeated = (0..3000_usize).prop_map(|length| Some(vec![b'x'; length]));
    let value = prop_oneof![3 => bytes(), 1 => repeated];
    let record = (1..4_i32, timestamp, bytes(), value, headers);
    prop::collection::vec(record, 0..60).prop_map(|records| {
        let mut next = -1;
        let plan = |(step, timestamp, key, value, headers)| {
            next += step;
            Planned { offset_delta: next, timestamp, key, value, headers }
        };
        records.into_iter().map(plan).collect()
    })
}

/// Batches of all kinds but control batches.
fn plans() -> impl Strategy<Value = Plan> {
    let places = (0..i64::MAX / 2, 0..3_i32, any::<i64>());
    (Codec::any(), planned(), places, any::<bool>(), any::<bool>()).prop_map(
        |(codec, records, (base_offset, gap, max_timestamp), log_append, transactional)| Plan {
            codec,
            base_offset,
            gap,
            max_timestamp,
            attributes: i16::from(log_append) * LOG_APPEND + i16::from(transactional) * TRANSACTIONAL,
            producer_id: if transactional { 4000 } else { -1 },
            ..Plan::new(records)
        },
    )
}
