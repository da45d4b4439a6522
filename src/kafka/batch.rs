//! PURE. Kafka's record batch, format v2 (KIP-98): writes it, uncompressed, and reads it in every codec.
//!
//! ```text
//!  0 base offset   8 length   12 leader epoch   16 magic   17 crc │ 21 attributes   23 last offset delta
//! 27 base time    35 max time 43 producer id    51 epoch  53 seq  │ 57 count        61 records …
//!                                                                 └── the checksum covers from 21 on
//! ```
//!
//! Of our own making, because the crates keep headers in a map: here they go out and come in as they are, in their order,
//! twice or without a value where that is what they are. Reading begins with [`split`]:
//!
//! * `decode` finds the batches in a response and reads their headers; `records` reads what is in them, in place.
//! * `inflate` makes the content of a compressed batch readable, within a limit. Which crate does what, and why: ADR 7.
//! * `aborted` tells which batches belong to aborted transactions.
//! * `damage` says what is wrong with a batch. Any bytes at all may come in: none of them makes this panic, or take more
//!   memory than the limit.
//!
//! Deliberately not here: the message formats before v2, which are refused by name, and compressing.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    record::{LeaderEpoch, Outgoing},
    varint::{self, bytes_size, put_bytes},
};

mod aborted;
mod damage;
mod decode;
mod inflate;
mod records;
#[cfg(test)]
pub(in crate::kafka) mod tests;

pub use aborted::{Aborted, AbortedTransactions};
pub use damage::{Damage, DamageKind, RecordFault};
pub use decode::{Batches, RawBatch, TimestampType, split};
pub(crate) use inflate::inflate_zstd;
pub use inflate::{Compression, Inflater};
pub use records::Control;

/// The bytes before a batch's first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// The bytes that the length field does not count: the base offset and the length itself.
pub(crate) const BEFORE_LENGTH_BYTES: usize = 12;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;

/// Who writes, so that a broker can tell a batch that it has already (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// The number of the batch's first record, counted in 31 bits.
    pub(crate) sequence: i32,
}

impl Producer {
    /// Nobody in particular: what is written again is there again.
    pub(crate) const NOBODY: Self = Self { id: -1, epoch: -1, sequence: -1 };
}

/// A batch in the making. All its records get one timestamp.
#[derive(Debug)]
pub(crate) struct Encoder {
    bytes: BytesMut,
    count: i32,
}

impl Encoder {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADER_BYTES + bytes);
        buffer.put_bytes(0, HEADER_BYTES);
        Self { bytes: buffer, count: 0 }
    }

    #[cfg(feature = "broker")]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How large the batch would be with one more record.
    #[cfg(feature = "broker")]
    pub(crate) fn size_with(&self, record: &Outgoing) -> usize {
        let content = content_size(self.count, record);
        self.bytes.len() + varint::size(content as i64) + content
    }

    pub(crate) fn push(&mut self, record: &Outgoing) {
        let Self { bytes, count } = self;
        varint::put(bytes, content_size(*count, record) as i64);
        bytes.put_u8(0);
        varint::put(bytes, 0);
        varint::put(bytes, i64::from(*count));
        put_bytes(bytes, record.key.as_deref());
        put_bytes(bytes, record.value.as_deref());
        varint::put(bytes, record.headers.len() as i64);
        bytes.put_slice(record.headers.encoded());
        *count += 1;
    }

    /// The batch, to be placed at whatever offset the broker gives it.
    ///
    /// # Panics
    /// If there is no record in it.
    pub(crate) fn finish(self, timestamp_ms: i64, producer: Producer) -> Bytes {
        assert!(self.count > 0, "a batch without records");
        let Self { mut bytes, count } = self;
        let length = bytes.len() - BEFORE_LENGTH_BYTES;
        let mut header = &mut bytes[..HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(length as i32);
        header.put_i32(LeaderEpoch::UNKNOWN.0);
        header.put_i8(2);
        header.put_u32(0);
        header.put_i16(0);
        header.put_i32(count - 1);
        header.put_i64(timestamp_ms);
        header.put_i64(timestamp_ms);
        header.put_i64(producer.id);
        header.put_i16(producer.epoch);
        header.put_i32(producer.sequence);
        header.put_i32(count);
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }
}

/// The bytes of a record after its length.
fn content_size(offset_delta: i32, record: &Outgoing) -> usize {
    2 + varint::size(i64::from(offset_delta))
        + bytes_size(record.key.as_deref())
        + bytes_size(record.value.as_deref())
        + varint::size(record.headers.len() as i64)
        + record.headers.encoded().len()
}
