//! PURE. Inflates the records of a batch, in all four codecs, within a limit.
//!
//! ```text
//!  compressed ──how large can it be?──▶ one allocation, at most `max_bytes` ──inflate into it──▶ Bytes
//!                                                                          └── full: TooLarge
//! ```
//!
//! What comes in is hostile. So what the result may need is worked out from the compressed bytes (and what they say of
//! themselves is believed only as far as so many bytes can hold it); that is allocated once, and nothing grows. Beside the
//! result, zstd alone needs memory: its window, at most 25 MiB while that grows, or a part of what the result leaves of the
//! limit (see `zstd`). A codec of a library that panics makes a batch that cannot be inflated, not the end of the process.
//!
//! Deliberately not here: compressing (nothing that we write is worth it yet), and checksums that the batch's own makes
//! superfluous.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;

use super::DamageKind;
use crate::page::Page;

mod gzip;
mod lz4;
mod snappy;
mod zstd;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Raw, or in the frames of snappy-java.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
    /// A number that Kafka has not given out: 5 to 7.
    Unknown(u8),
}

impl Compression {
    pub(super) fn from_attributes(attributes: i16) -> Self {
        match (attributes & 0b111) as u8 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            other => Self::Unknown(other),
        }
    }

    /// The number that stands for it in a batch.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
            Self::Unknown(id) => id,
        }
    }
}

/// As Kafka's settings have it: `gzip`.
impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Gzip => f.write_str("gzip"),
            Self::Snappy => f.write_str("snappy"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd => f.write_str("zstd"),
            Self::Unknown(id) => write!(f, "codec {id}"),
        }
    }
}

/// Why something cannot be inflated.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Codec(u8),
    Full,
    Malformed(String),
}

impl Fault {
    fn malformed(reason: impl ToString) -> Self {
        Self::Malformed(reason.to_string())
    }
}

/// Inflates zstd frames that came some other way than in a batch, to `limit` bytes at the most.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn inflate_zstd(input: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let inflated = catch_unwind(AssertUnwindSafe(|| zstd::inflate(input, limit)));
    inflated.unwrap_or_else(|_| Err(Fault::malformed("its decoder failed"))).map_err(|fault| match fault {
        Fault::Malformed(reason) => reason,
        Fault::Full | Fault::Codec(_) => format!("it is larger than {limit} bytes"),
    })
}

/// What the content of a compressed batch is inflated by, how much memory one batch may take, and where its records are put.
pub struct Inflater {
    max_bytes: usize,
    /// Made when it is needed: it takes about 50 KB.
    gzip: Option<gzip::Gzip>,
    page: Page,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl Inflater {
    /// `max_bytes` is what one batch may take in memory when it is inflated and its records are listed. What a batch takes
    /// beyond the limit before it is refused is at most about 26 MiB, whatever it claims.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, gzip: None, page: Page::default() }
    }

    /// The limit.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Where the content of records is put.
    pub(super) fn page(&mut self) -> &mut Page {
        &mut self.page
    }

    /// # Errors
    /// [`DamageKind::Codec`], [`DamageKind::Inflate`] and [`DamageKind::TooLarge`].
    pub(super) fn inflate(&mut self, codec: Compression, input: Bytes) -> Result<Bytes, DamageKind> {
        let limit = self.max_bytes;
        let inflated = catch_unwind(AssertUnwindSafe(|| match codec {
            Compression::None => Ok(None),
            Compression::Gzip => self.gzip.get_or_insert_default().inflate(&input, limit).map(Some),
            Compression::Snappy => snappy::inflate(&input, limit).map(Some),
            Compression::Lz4 => lz4::inflate(&input, limit).map(Some),
            Compression::Zstd => zstd::inflate(&input, limit).map(Some),
            Compression::Unknown(id) => Err(Fault::Codec(id)),
        }));
        match inflated.unwrap_or_else(|_| Err(Fault::malformed("its decoder failed"))) {
            Ok(None) => Ok(input),
            Ok(Some(inflated)) => Ok(inflated.into()),
            Err(Fault::Codec(id)) => Err(DamageKind::Codec(id)),
            Err(Fault::Full) => Err(DamageKind::TooLarge { limit }),
            Err(Fault::Malformed(reason)) => Err(DamageKind::Inflate { codec, reason }),
        }
    }
}
