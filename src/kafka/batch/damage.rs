//! PURE. Why a batch cannot be read: what is wrong with it, and where.

use std::fmt;

use bytes::Bytes;

use super::Compression;
use crate::record::Offset;

/// A batch that cannot be read, with what is needed to put it aside and to go on behind it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {base_offset}{}", .last_offset.map(|last| format!(" to {last}")).unwrap_or_default())]
pub struct Damage {
    /// The offset that the batch begins with, as it says itself. In the formats before 2 it is the last one that a
    /// compressed batch holds.
    pub base_offset: Offset,
    /// The last offset that it covers, where its header could be read and makes sense.
    pub last_offset: Option<Offset>,
    /// What is wrong.
    #[source]
    pub kind: DamageKind,
    /// The batch as it came; where its length is what is wrong, all that is left.
    pub bytes: Bytes,
}

impl Damage {
    /// Whether nothing is wrong with it but its size.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.kind, DamageKind::TooLarge { .. })
    }

    /// Whether nothing is wrong with it but its age.
    #[must_use]
    pub fn is_old_format(&self) -> bool {
        matches!(self.kind, DamageKind::OldFormat { .. })
    }
}

/// No payload in a log line: of the bytes only how many they are.
impl fmt::Debug for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Damage")
            .field("base_offset", &self.base_offset)
            .field("last_offset", &self.last_offset)
            .field("kind", &self.kind)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// What is wrong with a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageKind {
    /// A message set of format 0 or 1, as brokers before 0.11 wrote it.
    #[error(
        "it is in message format {magic}, which Kafka wrote before 0.11 and which is not read here: copy the topic with a \
         client that writes format 2 (any since 0.11), or start behind this offset"
    )]
    OldFormat {
        /// 0 or 1.
        magic: i8,
    },
    /// Nothing that Kafka has defined.
    #[error("format {magic} is not known: it is damaged, or newer than this program")]
    UnknownFormat {
        /// What stands where the format's number belongs.
        magic: i8,
    },
    /// The length field cannot be one. Where the next batch begins is unknown.
    #[error("its length field is {length}, which is too short for a batch")]
    Length {
        /// The length as it stands there.
        length: i32,
    },
    /// A field of the header cannot be what it is, beside the others.
    #[error("its header says {field} {value}, which cannot be")]
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// The content is not what the checksum was made from.
    #[error("its checksum is {stored:#010x}, its content makes {computed:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the content makes.
        computed: u32,
    },
    /// A codec that Kafka has not defined.
    #[error("it is compressed by codec {0}, which is not known")]
    Codec(u8),
    /// Its content cannot be inflated.
    #[error("its content is not valid {codec}: {reason}")]
    Inflate {
        /// The codec.
        codec: Compression,
        /// What is wrong.
        reason: String,
    },
    /// Inflated, or as records in memory, it would be larger than is allowed.
    #[error("it holds more than the {limit} bytes that one batch may take in memory")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A record cannot be read.
    #[error("record {index} in it: {fault}")]
    Record {
        /// Which, counted from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// There is more behind the last record.
    #[error("{bytes} bytes follow its last record")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// It ends before its content does.
    #[error("it ends early")]
    Truncated,
    /// A number takes more bytes than it may.
    #[error("a number in it is too long")]
    Number,
    /// A length below −1, or −1 where something has to be.
    #[error("{field} has length {length}")]
    Length {
        /// Of what.
        field: &'static str,
        /// The length.
        length: i64,
    },
    /// There is more in it than it should hold.
    #[error("{bytes} bytes follow its last header")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Its offset is not above that of the record before, or not in the batch.
    #[error("its offset is {delta} above the first one, where {least} to {most} would be in order")]
    Offset {
        /// Where it claims to be, counted from the batch's first offset.
        delta: i64,
        /// Where it could be at the least.
        least: i64,
        /// And at the most.
        most: i64,
    },
}
