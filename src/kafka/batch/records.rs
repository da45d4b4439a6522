//! PURE. Reads the records of a batch: keys, values and headers are copied into pages, so that a record that is held for long
//! holds neither the response that it came in nor what the batch was inflated to.
//!
//! ```text
//!  length │ attributes   timestamp delta   offset delta   key length   key   value length   value   header count
//!         │                                       for each header: name length   name   value length   value
//! ```
//!
//! All numbers are varints in zigzag but for the attributes, which are a byte without meaning. A length of −1 stands for
//! something that is not there. Nothing is trusted: each length is compared with what is left before it is used, and before
//! anything is allocated for it.
//!
//! This is the path that every record takes. A small record costs no allocation but for its list of headers, if it has any.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{Compression, Damage, DamageKind, Inflater, RawBatch, RecordFault, TimestampType};
use crate::{
    page::Page,
    record::{Header, Offset, Record, TopicPartition},
    varint::{self, NoNumber},
};

/// The least that a record takes: its seven numbers.
const LEAST_RECORD_BYTES: usize = 7;
/// The least that a header takes: two lengths.
const LEAST_HEADER_BYTES: usize = 2;

/// What a control record may take for its headers, which no broker gives it.
const CONTROL_BYTES: usize = 4096;

/// What a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The transaction of its producer ended, and its records count.
    Commit,
    /// The transaction of its producer ended, and its records do not count.
    Abort,
    /// Something else, with its number, that does not concern readers.
    Other(i16),
    /// Nothing any more: compaction has taken its record away.
    Gone,
}

impl RawBatch {
    /// Appends its records from `from` on to `out`, or leaves `out` as it was. A control batch has none.
    ///
    /// The content is not compared with the checksum; see [`check_crc`](RawBatch::check_crc).
    ///
    /// # Errors
    /// Anything in it that is not as the format has it, and [`DamageKind::TooLarge`].
    pub fn records(
        &self,
        source: &Arc<TopicPartition>,
        from: Offset,
        inflater: &mut Inflater,
        out: &mut Vec<Record>,
    ) -> Result<(), Damage> {
        if self.is_control() {
            return Ok(());
        }
        let before = out.len();
        let content = self.content(inflater);
        let limit = inflater.max_bytes();
        let outcome = content.and_then(|content| self.decode(source, from, &content, limit, inflater.page(), out));
        outcome.map_err(|kind| {
            out.truncate(before);
            self.damage(kind)
        })
    }

    /// What it says, if it is a control batch.
    ///
    /// # Errors
    /// A control batch that does not say what it is, or is compressed, which no broker does.
    pub fn control(&self) -> Result<Option<Control>, Damage> {
        if !self.is_control() {
            return Ok(None);
        }
        if self.record_count() == 0 {
            return Ok(Some(Control::Gone));
        }
        let key = self.control_key().map_err(|kind| self.damage(kind))?;
        let Some((mut version, mut kind)) = key.as_ref().and_then(|key| Some((key.get(..2)?, key.get(2..4)?))) else {
            let length = key.map_or(-1, |key| key.len() as i64);
            let fault = RecordFault::Length { field: "the key of a control record", length };
            return Err(self.damage(DamageKind::Record { index: 0, fault }));
        };
        let version = version.get_i16();
        if version < 0 {
            return Err(self.damage(DamageKind::Header { field: "control record version", value: version.into() }));
        }
        Ok(Some(match kind.get_i16() {
            0 => Control::Abort,
            1 => Control::Commit,
            other => Control::Other(other),
        }))
    }

    fn control_key(&self) -> Result<Option<Bytes>, DamageKind> {
        if self.compression() != Compression::None {
            return Err(DamageKind::Header {
                field: "control batch with codec",
                value: self.compression().id().into(),
            });
        }
        let content = self.body();
        let parts = Cursor { data: &content, at: 0 }.record(&mut Page::default(), &mut { CONTROL_BYTES });
        Ok(parts.map_err(|stop| stop.kind(0, CONTROL_BYTES))?.key)
    }

    fn content(&self, inflater: &mut Inflater) -> Result<Bytes, DamageKind> {
        let body = self.body();
        // Where compaction has taken everything away there is nothing to inflate, either.
        if body.is_empty() { Ok(body) } else { inflater.inflate(self.compression(), body) }
    }

    /// `content` and the records that are made of it may take `limit` bytes.
    fn decode(
        &self,
        source: &Arc<TopicPartition>,
        from: Offset,
        content: &Bytes,
        limit: usize,
        page: &mut Page,
        out: &mut Vec<Record>,
    ) -> Result<(), DamageKind> {
        // What it is inflated to counts; what was fetched is held anyway.
        let inflated = if self.compression() == Compression::None { 0 } else { content.len() };
        let count = self.record_count() as usize;
        // More cannot be in it, whatever the header says; that is found out below.
        let most = count.min(content.len() / LEAST_RECORD_BYTES);
        let records = most.saturating_mul(size_of::<Record>());
        let Some(mut room) = limit.checked_sub(inflated).and_then(|room| room.checked_sub(records)) else {
            return Err(DamageKind::TooLarge { limit });
        };
        out.reserve(most);
        let appended = self.timestamp_type() == TimestampType::LogAppend;
        let most_delta = i64::from(self.last_offset_delta());
        let mut least_delta = 0;
        let mut cursor = Cursor { data: content, at: 0 };
        for index in 0..self.record_count() {
            let parts = cursor.record(page, &mut room).map_err(|stop| stop.kind(index, limit))?;
            if !(least_delta..=most_delta).contains(&parts.offset_delta) {
                let fault = RecordFault::Offset { delta: parts.offset_delta, least: least_delta, most: most_delta };
                return Err(DamageKind::Record { index, fault });
            }
            least_delta = parts.offset_delta + 1;
            let offset = self.base_offset() + parts.offset_delta;
            if offset < from {
                continue;
            }
            // As Kafka's own clients have it: what overflows on the way there overflows on the way back.
            let created = self.base_timestamp_ms.wrapping_add(parts.timestamp_delta);
            out.push(Record {
                source: Arc::clone(source),
                offset,
                timestamp_ms: if appended { self.max_timestamp_ms } else { created },
                key: parts.key,
                value: parts.value,
                headers: parts.headers,
                attempt: 1,
                damage: None,
            });
        }
        match content.len() - cursor.at {
            0 => Ok(()),
            bytes => Err(DamageKind::Trailing { bytes }),
        }
    }
}

/// A record without the batch around it.
struct Parts {
    timestamp_delta: i64,
    offset_delta: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header>,
}

/// Why reading stops.
enum Stop {
    Fault(RecordFault),
    NoRoom,
}

impl From<RecordFault> for Stop {
    fn from(fault: RecordFault) -> Self {
        Self::Fault(fault)
    }
}

impl Stop {
    fn kind(self, index: i32, limit: usize) -> DamageKind {
        match self {
            Self::Fault(fault) => DamageKind::Record { index, fault },
            Self::NoRoom => DamageKind::TooLarge { limit },
        }
    }
}

/// A place in what is read, and where that ends.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// The record that begins here. Its pieces go to `page`; `room` is lessened by what headers take.
    #[inline]
    fn record(&mut self, page: &mut Page, room: &mut usize) -> Result<Parts, Stop> {
        let length = self.varint()?;
        let left = self.data.len() - self.at;
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= left) else {
            return Err(
                if length < 0 { RecordFault::Length { field: "it", length } } else { RecordFault::Truncated }.into()
            );
        };
        let end = self.at + length;
        let mut record = Cursor { data: &self.data[..end], at: self.at };
        record.skip(1)?;
        let timestamp_delta = record.varint()?;
        let offset_delta = record.varint()?;
        let key = record.bytes(page, "its key")?;
        let value = record.bytes(page, "its value")?;
        let headers = record.headers(page, room)?;
        if record.at != end {
            return Err(RecordFault::Trailing { bytes: end - record.at }.into());
        }
        self.at = end;
        Ok(Parts { timestamp_delta, offset_delta, key, value, headers })
    }

    #[inline]
    fn headers(&mut self, page: &mut Page, room: &mut usize) -> Result<Vec<Header>, Stop> {
        match self.varint()? {
            0 => Ok(Vec::new()),
            count => self.some_headers(count, page, room),
        }
    }

    fn some_headers(&mut self, count: i64, page: &mut Page, room: &mut usize) -> Result<Vec<Header>, Stop> {
        let most = (self.data.len() - self.at) / LEAST_HEADER_BYTES;
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= most) else {
            let fault = RecordFault::Length { field: "its list of headers", length: count };
            return Err(if count < 0 { fault } else { RecordFault::Truncated }.into());
        };
        *room = room.checked_sub(count * size_of::<Header>()).ok_or(Stop::NoRoom)?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let name = self.bytes(page, "the name of a header")?;
            let name = name.ok_or(RecordFault::Length { field: "the name of a header", length: -1 })?;
            headers.push(Header { name, value: self.bytes(page, "the value of a header")? });
        }
        Ok(headers)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), RecordFault> {
        if count > self.data.len() - self.at {
            return Err(RecordFault::Truncated);
        }
        self.at += count;
        Ok(())
    }

    /// A length and as many bytes, or nothing.
    #[inline]
    fn bytes(&mut self, page: &mut Page, field: &'static str) -> Result<Option<Bytes>, RecordFault> {
        let length = self.varint()?;
        let Ok(count) = usize::try_from(length) else {
            return if length == -1 { Ok(None) } else { Err(RecordFault::Length { field, length }) };
        };
        let begin = self.at;
        self.skip(count)?;
        Ok(Some(page.copy(&self.data[begin..self.at])))
    }

    #[inline]
    fn varint(&mut self) -> Result<i64, RecordFault> {
        let mut left = &self.data[self.at..];
        let value = varint::take(&mut left)?;
        self.at = self.data.len() - left.len();
        Ok(value)
    }
}

impl From<NoNumber> for RecordFault {
    fn from(why: NoNumber) -> Self {
        match why {
            NoNumber::Truncated => Self::Truncated,
            NoNumber::TooLong => Self::Number,
        }
    }
}
