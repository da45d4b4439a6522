//! PURE: the record batch (format v2), as far as a broker has to look at it.
//!
//! A batch is kept as it came, so that every codec passes: only the base offset and the leader epoch are written over,
//! and both lie outside the checksum.
//!
//! ```text
//!  0 base offset   8 length   12 leader epoch   16 magic   17 crc │ 21 attributes   23 last offset delta
//! 27 base time    35 max time 43 producer id    51 epoch  53 seq  │ 57 count        61 records …
//!                                                                 └── the checksum covers from 21 on
//! ```
//!
//! Deliberately not here: inflating. Records of a compressed batch cannot be listed.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    kafka::batch::{ATTRIBUTES_AT, BEFORE_LENGTH_BYTES, CRC_AT, Encoder, HEADER_BYTES, Producer},
    record::{Header, LeaderEpoch, Offset, Outgoing, Record, TopicPartition},
};

const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;

/// About how large the batches are that [`encode`] makes.
const TARGET_BYTES: usize = 512 * 1024;

/// Why bytes are not a batch that a broker takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header or its length field promise.
    #[error("the batch ends early")]
    Truncated,
    /// A message set of an older format, or nothing that Kafka knows.
    #[error("record format {0} is not supported, only 2 is")]
    Magic(i8),
    /// The content is not what the checksum was made from.
    #[error("the checksum does not match")]
    Checksum,
    /// Count and last offset delta contradict each other.
    #[error("{count} records do not go with a last offset delta of {last_offset_delta}")]
    Count {
        /// The records, as the header counts them.
        count: i32,
        /// The distance from first to last offset, as the header says.
        last_offset_delta: i32,
    },
    /// Only brokers write control batches.
    #[error("clients may not write control batches")]
    Control,
    /// The inside of the batch cannot be read.
    #[error("the records are malformed")]
    Malformed,
    /// The records are compressed, and this broker does not inflate.
    #[error("the records are compressed (codec {0})")]
    Compressed(u8),
}

/// What a batch's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) base_offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) attributes: i16,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp_ms: i64,
    pub(super) max_timestamp_ms: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) count: i32,
}

impl BatchHeader {
    /// 0 for none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub(super) fn codec(&self) -> u8 {
        (self.attributes & 0b111) as u8
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & (1 << 4) != 0
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & (1 << 5) != 0
    }
}

/// A batch whose header was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
}

impl Batch {
    /// Takes the first batch off `bytes` and reads its header, which is all that is looked at.
    pub(super) fn split_off_first(bytes: &mut Bytes) -> Result<Self, BatchError> {
        if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] != 2 {
            return Err(BatchError::Magic(bytes[MAGIC_AT] as i8));
        }
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated);
        }
        let mut cursor = &bytes[..HEADER_BYTES];
        let base_offset = Offset(cursor.get_i64());
        let length = cursor.get_i32();
        let leader_epoch = LeaderEpoch(cursor.get_i32());
        cursor.advance(ATTRIBUTES_AT - MAGIC_AT);
        let header = BatchHeader {
            base_offset,
            leader_epoch,
            attributes: cursor.get_i16(),
            last_offset_delta: cursor.get_i32(),
            base_timestamp_ms: cursor.get_i64(),
            max_timestamp_ms: cursor.get_i64(),
            producer_id: cursor.get_i64(),
            producer_epoch: cursor.get_i16(),
            base_sequence: cursor.get_i32(),
            count: cursor.get_i32(),
        };
        let size = usize::try_from(length).map_err(|_| BatchError::Truncated)? + BEFORE_LENGTH_BYTES;
        if size < HEADER_BYTES || size > bytes.len() {
            return Err(BatchError::Truncated);
        }
        Ok(Self { header, bytes: bytes.split_to(size) })
    }

    /// Checks what a broker checks before it takes a client's batch.
    pub(super) fn check(&self) -> Result<(), BatchError> {
        let BatchHeader { count, last_offset_delta, .. } = self.header;
        let crc = (&self.bytes[CRC_AT..ATTRIBUTES_AT]).get_u32();
        if crc != crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]) {
            return Err(BatchError::Checksum);
        }
        if self.header.is_control() {
            return Err(BatchError::Control);
        }
        if count <= 0 || last_offset_delta != count - 1 {
            return Err(BatchError::Count { count, last_offset_delta });
        }
        Ok(())
    }

    /// The same batch in the place that it gets in a log. The bytes are copied, so that a log does not hold on to the
    /// whole request that brought them.
    pub(super) fn placed(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        bytes[EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.0.to_be_bytes());
        Self { header: BatchHeader { base_offset, leader_epoch, ..self.header }, bytes: bytes.freeze() }
    }

    /// The offset of the last record.
    pub(super) fn last_offset(&self) -> Offset {
        self.header.base_offset + i64::from(self.header.last_offset_delta)
    }

    /// Its records, with the offsets of its place. Fails where they are compressed.
    pub(super) fn records(&self, source: &Arc<TopicPartition>) -> Result<Vec<Record>, BatchError> {
        if self.header.codec() != 0 {
            return Err(BatchError::Compressed(self.header.codec()));
        }
        let mut reader = Reader(self.bytes.slice(HEADER_BYTES..));
        (0..self.header.count).map(|_| self.record(&mut reader, source)).collect()
    }

    fn record(&self, reader: &mut Reader, source: &Arc<TopicPartition>) -> Result<Record, BatchError> {
        let size = reader.length()?.ok_or(BatchError::Malformed)?;
        let mut reader = Reader(reader.take(size)?);
        reader.take(1)?; // attributes, unused
        let timestamp_delta = reader.varint()?;
        let offset_delta = reader.varint()?;
        let key = reader.bytes()?;
        let value = reader.bytes()?;
        let count = reader.varint()?;
        let headers = (0..count)
            .map(|_| {
                let name = reader.bytes()?.ok_or(BatchError::Malformed)?;
                Ok(Header { name, value: reader.bytes()? })
            })
            .collect::<Result<_, BatchError>>()?;
        Ok(Record {
            source: Arc::clone(source),
            offset: self.header.base_offset + offset_delta,
            timestamp_ms: self.header.base_timestamp_ms + timestamp_delta,
            key,
            value,
            headers,
            attempt: 1,
            damage: None,
        })
    }
}

/// Encodes records into batches of at most `max_bytes`, and of about half a mebibyte if that is more, uncompressed, all
/// with one timestamp. A record that is larger alone makes a batch of its own.
pub(super) fn encode(records: &[Outgoing], timestamp_ms: i64, max_bytes: usize) -> Vec<Batch> {
    let room = max_bytes.min(TARGET_BYTES);
    let mut batches = Vec::new();
    let mut encoder = Encoder::with_capacity(0);
    let mut finish = |encoder: Encoder| {
        let mut bytes = encoder.finish(timestamp_ms, Producer::NOBODY);
        batches.push(Batch::split_off_first(&mut bytes).expect("a batch of our own making can be read"));
    };
    for record in records {
        if !encoder.is_empty() && encoder.size_with(record) > room {
            finish(std::mem::replace(&mut encoder, Encoder::with_capacity(0)));
        }
        encoder.push(record);
    }
    if !encoder.is_empty() {
        finish(encoder);
    }
    batches
}

/// Reads what a batch holds, and trusts nothing.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, count: usize) -> Result<Bytes, BatchError> {
        if count > self.0.len() {
            return Err(BatchError::Malformed);
        }
        Ok(self.0.split_to(count))
    }

    fn varint(&mut self) -> Result<i64, BatchError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.0.try_get_u8().map_err(|_| BatchError::Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(BatchError::Malformed)
    }

    /// A length, where −1 stands for nothing.
    fn length(&mut self) -> Result<Option<usize>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| BatchError::Malformed),
        }
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, BatchError> {
        self.length()?.map(|length| self.take(length)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(key: Option<&'static str>, value: Option<&'static str>, headers: Vec<Header>) -> Outgoing {
        Outgoing { key: key.map(Bytes::from), value: value.map(Bytes::from), headers: headers.into() }
    }

    fn decode(batches: &[Batch]) -> Vec<Record> {
        let source = Arc::new(TopicPartition::new("t", 0));
        batches.iter().flat_map(|b| b.records(&source).unwrap()).collect()
    }

    #[test]
    fn records_come_back_as_they_were() {
        let twice = vec![Header::new("h", "1"), Header { name: "h".into(), value: None }, Header::new(vec![0xff], "")];
        let records =
            [outgoing(Some("k"), Some("v"), twice), outgoing(None, None, vec![]), outgoing(None, Some(""), vec![])];
        let batches = encode(&records, 1_700_000_000_000, usize::MAX);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].check(), Ok(()));
        let placed = batches[0].placed(Offset(40), LeaderEpoch(3));
        assert_eq!(placed.check(), Ok(()), "place and epoch lie outside the checksum");
        assert_eq!(placed.last_offset(), Offset(42));
        for (at, (read, written)) in decode(&[placed]).iter().zip(&records).enumerate() {
            assert_eq!(read.offset, Offset(40 + at as i64));
            assert_eq!(read.timestamp_ms, 1_700_000_000_000);
            assert_eq!(
                (&read.key, &read.value, &read.headers),
                (&written.key, &written.value, &written.headers.to_vec())
            );
        }
    }

    #[test]
    fn kafka_protocol_reads_what_is_encoded() {
        let batch = &encode(&[outgoing(Some("k"), Some("v"), vec![Header::new("h", "x")])], 77, usize::MAX)[0];
        let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut batch.bytes.clone()).unwrap();
        let record = &set.records[0];
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!((record.timestamp, record.headers.get(&b"h"[..]).unwrap().as_deref()), (77, Some(&b"x"[..])));
    }

    #[test]
    fn many_records_make_batches_of_bounded_size() {
        let records = vec![outgoing(None, Some("0123456789"), vec![]); 100_000];
        let batches = encode(&records, 0, usize::MAX);
        assert!(batches.len() > 1);
        assert!(batches.iter().all(|b| b.bytes.len() <= TARGET_BYTES));
        assert_eq!(decode(&batches).len(), records.len());
    }

    #[test]
    fn damage_is_seen() {
        let good = encode(&[outgoing(Some("key"), Some("value"), vec![])], 0, usize::MAX)[0].bytes.clone();
        let parse = |bytes: Vec<u8>| Batch::split_off_first(&mut bytes.into()).and_then(|b| b.check());
        assert_eq!(parse(good.to_vec()), Ok(()));
        for at in ATTRIBUTES_AT..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(parse(bad), Err(BatchError::Checksum), "byte {at}");
        }
        assert_eq!(parse(good[..good.len() - 1].to_vec()), Err(BatchError::Truncated));
        assert_eq!(parse(good[..30].to_vec()), Err(BatchError::Truncated));
        let mut old = good.to_vec();
        old[MAGIC_AT] = 1;
        assert_eq!(parse(old), Err(BatchError::Magic(1)));
    }

    #[test]
    fn a_count_that_contradicts_the_last_offset_is_refused() {
        let mut bytes = encode(&[outgoing(None, Some("v"), vec![])], 0, usize::MAX)[0].bytes.to_vec();
        bytes[26] = 1;
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        let batch = Batch::split_off_first(&mut bytes.into()).unwrap();
        assert_eq!(batch.check(), Err(BatchError::Count { count: 1, last_offset_delta: 1 }));
    }
}
