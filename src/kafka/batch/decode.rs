//! PURE. Finds the batches in the `records` of a Fetch response, and reads their headers.
//!
//! ```text
//!  records ──Batches──▶ RawBatch ──check_crc──▶ records ──▶ Vec<Record>
//!      │        │           └── control: commit, abort, …        (see `records`)
//!      │        └─▶ Damage: bytes to put aside, and where to go on
//!      └── a batch that is cut off at the end: no damage, it comes with the next fetch
//! ```

use bytes::{Buf, Bytes};

use super::{ATTRIBUTES_AT, BEFORE_LENGTH_BYTES, CRC_AT, Compression, Damage, DamageKind, HEADER_BYTES};
use crate::record::{LeaderEpoch, Offset};

const MAGIC_AT: usize = 16;
/// The least that the length field of a message in format 0 counts; format 1 has a timestamp more.
const OLD_LENGTH: i32 = 14;
const LENGTH: i32 = (HEADER_BYTES - BEFORE_LENGTH_BYTES) as i32;

/// The batches in `records`, the field of that name of a Fetch response (version 4 or newer), or in a broker's segment
/// file.
#[must_use]
pub fn split(records: Bytes) -> Batches {
    Batches { rest: records, complete: 0 }
}

/// Walks over batches; made by [`split`]. Ends at the end, at a batch that is not all there, or behind the damage that hides
/// where the next batch begins.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
    complete: usize,
}

impl Batches {
    /// Once it has ended: how many bytes have to be fetched for the first batch, if there are some and not even one batch
    /// is complete. At the least, where too few are there to say.
    ///
    /// Brokers cut the last batch off anywhere, but send the first one whole (KIP-74). A first batch that is incomplete
    /// again when that many bytes were allowed has a damaged length.
    #[must_use]
    pub fn first_needs(&self) -> Option<usize> {
        (self.complete == 0 && !self.rest.is_empty()).then(|| self.size().map_or(HEADER_BYTES, |(size, _)| size))
    }

    /// What is left: nothing, or the beginning of a batch.
    #[must_use]
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// The size of the batch at the front and what its length field says.
    fn size(&self) -> Option<(usize, i32)> {
        let mut field = self.rest.get(BEFORE_LENGTH_BYTES - 4..BEFORE_LENGTH_BYTES)?;
        let length = field.get_i32();
        Some((BEFORE_LENGTH_BYTES + usize::try_from(length).unwrap_or(0), length))
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let (size, length) = self.size()?;
        let magic = *self.rest.get(MAGIC_AT)? as i8;
        let base_offset = Offset((&self.rest[..]).get_i64());
        let damage = |last_offset, kind, bytes| Some(Err(Damage { base_offset, last_offset, kind, bytes }));
        if length < if matches!(magic, 0 | 1) { OLD_LENGTH } else { LENGTH } {
            self.complete += 1;
            return damage(None, DamageKind::Length { length }, std::mem::take(&mut self.rest));
        }
        if size > self.rest.len() {
            return None;
        }
        self.complete += 1;
        let bytes = self.rest.split_to(size);
        match magic {
            2 => Some(RawBatch::parse(bytes)),
            0 | 1 => damage(Some(base_offset), DamageKind::OldFormat { magic }, bytes),
            _ => damage(None, DamageKind::UnknownFormat { magic }, bytes),
        }
    }
}

/// Who set the timestamps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, for each record.
    Create,
    /// The broker, one for all records, when it appended the batch.
    LogAppend,
}

/// A batch whose header was read and makes sense. Its content has not been looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct RawBatch {
    bytes: Bytes,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    attributes: i16,
    last_offset_delta: i32,
    pub(super) base_timestamp_ms: i64,
    pub(super) max_timestamp_ms: i64,
    producer_id: i64,
    producer_epoch: i16,
    count: i32,
}

/// No payload in a log line.
impl std::fmt::Debug for RawBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawBatch")
            .field("base_offset", &self.base_offset)
            .field("last_offset", &self.last_offset())
            .field("attributes", &self.attributes)
            .field("count", &self.count)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl RawBatch {
    /// `bytes` are a whole batch, at least a header long, of format 2.
    fn parse(bytes: Bytes) -> Result<Self, Damage> {
        let mut header = &bytes[..HEADER_BYTES];
        let base_offset = Offset(header.get_i64());
        header.advance(4);
        let leader_epoch = LeaderEpoch(header.get_i32());
        header.advance(ATTRIBUTES_AT - MAGIC_AT);
        let batch = Self {
            base_offset,
            leader_epoch,
            attributes: header.get_i16(),
            last_offset_delta: header.get_i32(),
            base_timestamp_ms: header.get_i64(),
            max_timestamp_ms: header.get_i64(),
            producer_id: header.get_i64(),
            producer_epoch: header.get_i16(),
            count: {
                header.advance(4);
                header.get_i32()
            },
            bytes,
        };
        let delta = batch.last_offset_delta;
        let last_offset = base_offset.0.checked_add(i64::from(delta)).filter(|last| *last >= base_offset.0);
        let wrong = |last_offset, field, value| {
            let kind = DamageKind::Header { field, value };
            Err(Damage { base_offset, last_offset, kind, bytes: batch.bytes.clone() })
        };
        match last_offset {
            _ if base_offset.0 < 0 => wrong(None, "base offset", base_offset.0),
            None => wrong(None, "last offset delta", delta.into()),
            // Compaction takes records away, even all of them, and leaves the offsets as they were.
            last if !(0..=i64::from(delta) + 1).contains(&i64::from(batch.count)) => {
                wrong(last.map(Offset), "record count", batch.count.into())
            }
            Some(_) => Ok(batch),
        }
    }

    /// Whether the content is what the checksum was made from. Everything but base offset, length, leader epoch and format
    /// is covered.
    ///
    /// # Errors
    /// [`DamageKind::Checksum`].
    pub fn check_crc(&self) -> Result<(), Damage> {
        let stored = (&self.bytes[CRC_AT..ATTRIBUTES_AT]).get_u32();
        let computed = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if stored == computed { Ok(()) } else { Err(self.damage(DamageKind::Checksum { stored, computed })) }
    }

    /// This batch, with what is wrong with it.
    #[must_use]
    pub fn damage(&self, kind: DamageKind) -> Damage {
        Damage { base_offset: self.base_offset, last_offset: Some(self.last_offset()), kind, bytes: self.bytes.clone() }
    }

    /// The offset that it begins with. Where it was compacted, its first record may be behind it.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The last offset that it covers, whether or not there still is a record: the next batch begins behind it.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Under which leader it was appended.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The producer's id; −1 where it has none, which is neither idempotent nor transactional.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// The producer's epoch; −1 where there is none.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        self.producer_epoch
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & (1 << 4) != 0
    }

    /// Whether it was written by a broker for readers, such as a transaction's end. Never delivered.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & (1 << 5) != 0
    }

    /// How its records are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        Compression::from_attributes(self.attributes)
    }

    /// Who set its timestamps.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & (1 << 3) == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// How many records are in it, as its header says.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// The distance from its base offset to its last one.
    pub(super) fn last_offset_delta(&self) -> i32 {
        self.last_offset_delta
    }

    /// All of it, as it came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What follows its header, still compressed.
    pub(super) fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }
}
