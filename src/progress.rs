//! PURE. Progress as the metadata of a commit: what is finished above the committed offset, as a string, and back.
//!
//! The committed offset is the lowest unfinished one. What is finished above it travels beside it, so that after a restart
//! only what was unfinished runs again. Kafka takes 4,096 UTF-16 units of metadata for a partition by default, of which
//! librdkafka can write 4,095; so the string is in Base32768 (`base32768.rs`), where a unit carries 15 bits.
//!
//! ```text
//!   ls1:  crc-32c   topic id   partition   base offset   fields: tag, length, content …        zeros
//!   └┬─┘  └──────────────────────────────────┬────────────────────────────────────────────────────┘
//!   plain, with the version                Base32768: 4 bytes, 16, two varints, then
//!                                          tag 1: runs, tag 2: bits behind them (map.rs), tag 64: attempts (notes.rs)
//! ```
//!
//! The string is bound to its place: whoever copies it beside another offset (MirrorMaker translates offsets and copies
//! metadata as it is), for another partition or another topic (of the same name, made anew) has copied nothing that is
//! believed. The checksum
//! covers all that follows it, and the version.
//!
//! What comes in is hostile: whoever may commit for the group wrote it. Its length is bounded before anything is allocated,
//! and what is made of it is bounded by that; a map that reaches beyond the end of the log is refused.
//!
//! A field with a tag of [`OPTIONAL_TAGS`] or more may be passed over by whoever does not know it; another tag that is not
//! known means that the string is of a newer version.
//!
//! Deliberately not here: when to commit, and what follows where not all of it fits (`scheduler/progress.rs`).

mod base32768;
mod finished;
mod foreign;
mod map;
mod notes;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, BytesMut};
use uuid::Uuid;

use self::map::NoMap;
pub use self::{
    finished::{Finished, Run},
    notes::Notes,
};
use crate::{
    record::{Offset, TopicId},
    varint,
};

/// The most UTF-16 units that are written, unless a broker takes fewer.
pub const MOST_UNITS: usize = 4_095;
/// Fewer than these are not worth it: they would hold less than 500 offsets.
pub const LEAST_UNITS: usize = 64;
/// The most bytes of metadata that are looked into at all. A broker's limit may have been raised, and it counts units.
const MOST_BYTES: usize = 256 << 10;

/// What a string of ours begins with, before the number of its version.
const NAME: &str = "ls";
const VERSION: u32 = 1;
const PREFIX: &str = "ls1:";

const RUNS: u8 = 1;
const BITS: u8 = 2;
/// Tags from here on may be passed over.
pub const OPTIONAL_TAGS: u8 = 64;

/// A string, and how much of the set is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// What goes with the commit; empty where nothing is finished above it.
    pub text: String,
    /// How much fits.
    pub fits: Fits,
}

/// How much of a set fits into a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fits {
    /// All of it.
    All,
    /// What lies below this offset.
    Below(Offset),
    /// Nothing: the string would have to be shorter than [`LEAST_UNITS`].
    Nothing,
}

/// What a string is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The topic, as it is now.
    pub topic: TopicId,
    /// The partition.
    pub partition: i32,
    /// The offset that is committed beside it.
    pub offset: Offset,
}

/// Whose string it was that was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// There was none.
    Nobody,
    /// Longshore.
    Longshore,
    /// Confluent's Parallel Consumer. Its strings are bound to nothing.
    ParallelConsumer,
}

/// Why a string is not believed: there is no progress known above the commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unbelieved {
    /// Somebody else's.
    #[error("it is not Longshore's")]
    Foreign,
    /// Confluent's Parallel Consumer's, which is not to be trusted without being told so.
    #[error("it is of Confluent's Parallel Consumer, and --trust-foreign-progress was not said")]
    ParallelConsumer,
    /// Ours, and we are too old for it.
    #[error("it is of a newer version of Longshore ({version})")]
    Newer {
        /// Its version, or what else is newer.
        version: String,
    },
    /// Ours, once.
    #[error("it is damaged: {why}")]
    Damaged {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Of another topic, perhaps one of the same name.
    #[error("it is of another topic, with the id {theirs}")]
    OtherTopic {
        /// Its topic.
        theirs: TopicId,
    },
    /// Of another partition.
    #[error("it is of partition {theirs}")]
    OtherPartition {
        /// Its partition.
        theirs: i64,
    },
    /// Beside another offset than it was written for.
    #[error("it was written beside offset {theirs}")]
    OtherOffset {
        /// The offset that it was written for.
        theirs: Offset,
    },
    /// It says that something is finished which is not there.
    #[error("it reaches up to offset {reach}, and the log ends at {end}")]
    BeyondEnd {
        /// How far it reaches.
        reach: Offset,
        /// Where the log ends.
        end: Offset,
    },
}

impl From<NoMap> for Unbelieved {
    fn from(NoMap(why): NoMap) -> Self {
        Self::Damaged { why }
    }
}

/// The string for what is finished from a committed offset on, in at most `most_units` UTF-16 units. Where that is not enough for all
/// of it, it holds what lies lowest.
///
/// That offset itself may be in it for a moment: after a start it is not known whether it exists before it is fetched.
///
/// # Panics
/// If something is finished below it: our own bug.
#[must_use]
pub fn encode(place: &Place, finished: &Finished, most_units: usize) -> Encoded {
    encode_with(place, finished, &Notes::default(), most_units)
}

/// The same, with what else is to be said, where that takes up no more than half of it.
///
/// # Panics
/// As [`encode`].
#[must_use]
pub fn encode_with(place: &Place, finished: &Finished, notes: &Notes, most_units: usize) -> Encoded {
    let Place { topic, partition, offset: base } = *place;
    let empty = |fits| Encoded { text: String::new(), fits };
    if finished.is_empty() && notes.is_empty() {
        return empty(Fits::All);
    }
    if let Some(first) = finished.first() {
        assert!(first >= base, "offset {first} finished, and {base} the lowest unfinished");
    }
    if most_units < LEAST_UNITS {
        return empty(if finished.is_empty() { Fits::All } else { Fits::Nothing });
    }
    let most_bytes = base32768::bytes_of(most_units - PREFIX.len());
    let mut bytes = BytesMut::new();
    bytes.put_u32(0);
    bytes.put_slice(topic.0.as_bytes());
    varint::put(&mut bytes, i64::from(partition));
    varint::put(&mut bytes, base.0);
    let mut notes = notes.write(base);
    if notes.len() > most_bytes / 2 {
        notes.clear();
    }
    // A byte may be added so that the units come out even.
    let map = map::write(base, finished, most_bytes - bytes.len() - notes.len() - 2 * map::FIELD_HEAD - 1);
    map::put_field(&mut bytes, RUNS, &map.runs);
    map::put_field(&mut bytes, BITS, &map.bits);
    bytes.put_slice(&notes);
    bytes.resize(base32768::bytes_of(base32768::units_of(bytes.len())), 0);
    let checksum = checksum(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_be_bytes());
    let mut text = PREFIX.to_owned();
    base32768::put(&mut text, &bytes);
    Encoded { text, fits: map.cut.map_or(Fits::All, Fits::Below) }
}

/// What a string says is finished, if it is bound to this place, and reaches no further than `end`, where the log ends. With
/// `trust_foreign`, one of Confluent's Parallel Consumer is believed, which is bound to nothing.
///
/// # Errors
/// Why it is not believed.
pub fn decode(text: &str, place: &Place, end: Offset, trust_foreign: bool) -> Result<(Finished, Writer), Unbelieved> {
    if text.is_empty() {
        return Ok((Finished::default(), Writer::Nobody));
    }
    if text.len() > MOST_BYTES {
        return Err(Unbelieved::Foreign);
    }
    let (finished, writer) = match ours(text)? {
        Some(body) => (read(body, place)?.0, Writer::Longshore),
        None => match foreign::decode(text, place.offset)? {
            finished if trust_foreign => (finished, Writer::ParallelConsumer),
            _ => return Err(Unbelieved::ParallelConsumer),
        },
    };
    match finished.end() {
        Some(reach) if reach > end => Err(Unbelieved::BeyondEnd { reach, end }),
        _ => Ok((finished, writer)),
    }
}

/// What else a string says that [`decode`] believes. Nothing, of one that is not ours.
#[must_use]
pub fn notes(text: &str, place: &Place) -> Notes {
    let body = ours(text).ok().flatten().filter(|_| text.len() <= MOST_BYTES);
    body.and_then(|body| read(body, place).ok()).map(|(_, notes)| notes).unwrap_or_default()
}

/// What follows the version, if the string is ours.
fn ours(text: &str) -> Result<Option<&str>, Unbelieved> {
    let Some((version, body)) = text.strip_prefix(NAME).and_then(|rest| rest.split_once(':')) else { return Ok(None) };
    match version.parse::<u32>() {
        Ok(VERSION) => Ok(Some(body)),
        Ok(newer) if newer > VERSION => Err(Unbelieved::Newer { version: newer.to_string() }),
        _ => Ok(None),
    }
}

fn read(body: &str, place: &Place) -> Result<(Finished, Notes), Unbelieved> {
    let damaged = |why| Unbelieved::Damaged { why };
    let bytes = base32768::read(body).ok_or(damaged("it holds characters that are not written"))?;
    let mut bytes = &bytes[..];
    if bytes.len() < 4 + 16 + 1 + 1 {
        return Err(damaged("it is cut off"));
    }
    if bytes.get_u32() != checksum(bytes) {
        return Err(damaged("its checksum does not match"));
    }
    let topic = TopicId(Uuid::from_u128(bytes.get_u128()));
    if topic != place.topic {
        return Err(Unbelieved::OtherTopic { theirs: topic });
    }
    let partition = varint::take(&mut bytes).map_err(|_| damaged("it has no partition"))?;
    if partition != i64::from(place.partition) {
        return Err(Unbelieved::OtherPartition { theirs: partition });
    }
    let base = varint::take(&mut bytes).map(Offset).map_err(|_| damaged("it has no offset"))?;
    if base != place.offset {
        return Err(Unbelieved::OtherOffset { theirs: base });
    }
    let (mut runs, mut bits, mut notes) = (&[][..], &[][..], Notes::default());
    while let Some((tag, content)) = map::take_field(&mut bytes)? {
        match tag {
            RUNS => runs = content,
            BITS => bits = content,
            OPTIONAL_TAGS.. => notes.read(base, tag, content).ok_or(damaged("what it notes is cut off"))?,
            _ => return Err(Unbelieved::Newer { version: format!("{VERSION}, with field {tag}") }),
        }
    }
    Ok((map::read(base, runs, bits)?, notes))
}

/// A string with a good checksum before these bytes, whatever they are.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[must_use]
pub fn seal(bytes: &[u8]) -> String {
    let mut body = vec![0; 4];
    body.extend_from_slice(bytes);
    body.resize(base32768::bytes_of(base32768::units_of(body.len())), 0);
    let checksum = checksum(&body[4..]);
    body[..4].copy_from_slice(&checksum.to_be_bytes());
    let mut text = PREFIX.to_owned();
    base32768::put(&mut text, &body);
    text
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(PREFIX.as_bytes()), bytes)
}
