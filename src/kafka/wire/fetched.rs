//! PURE. Reads the response to a Fetch, versions 4 to 18.
//!
//! Of our own making, though every other message is kafka-protocol's: that crate sets aside memory for whatever length an
//! array claims. `guarded.rs` holds it to an element for each byte of the frame, which is gigabytes for a frame full of
//! records; a bit that flips on their way is not to cost the process. Here a claim costs nothing before it is found true.
//! What no reader needs is passed over.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::{ErrorCode, throttle::Throttled};
use crate::{
    kafka::batch::Aborted,
    record::{Offset, TopicId},
};

/// From this version on lengths are varints, and structures end with tagged fields (KIP-482).
const FLEXIBLE_SINCE: i16 = 12;
/// From this version on a topic goes by its id, in the request too (KIP-516).
pub(super) const TOPIC_IDS_SINCE: i16 = 13;

/// What a leader says of one partition.
#[derive(Debug)]
pub(in crate::kafka) struct Fetched {
    pub(in crate::kafka) code: ErrorCode,
    pub(in crate::kafka) high_watermark: Offset,
    /// Below it no transaction is open.
    pub(in crate::kafka) last_stable: Offset,
    /// Of transactions that were aborted.
    pub(in crate::kafka) aborted: Vec<Aborted>,
    /// Batches, as they lie in the log; the last may be cut off.
    pub(in crate::kafka) batches: Bytes,
}

/// A response, as far as it matters.
#[derive(Debug)]
pub(super) struct Response {
    throttle_ms: i32,
    pub(super) code: ErrorCode,
    /// By topic and partition.
    pub(super) partitions: Vec<((Named, i32), Fetched)>,
}

/// How a response names a topic. Many partitions share one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Named {
    Name(Arc<str>),
    Id(TopicId),
}

impl Throttled for Response {
    fn throttle_time_ms(&self) -> i32 {
        self.throttle_ms
    }
}

/// Reads the body of a response.
///
/// # Errors
/// What it lacks.
pub(super) fn read(version: i16, body: Bytes) -> Result<Response, &'static str> {
    let mut from = Reading { left: body, flexible: version >= FLEXIBLE_SINCE };
    let throttle_ms = from.i32()?;
    let mut code = ErrorCode(0);
    if version >= 7 {
        code = ErrorCode(from.i16()?);
        // The session.
        from.pass(4)?;
    }
    let mut partitions = Vec::new();
    for _ in 0..from.count()?.unwrap_or_default() {
        let topic = if version >= TOPIC_IDS_SINCE { Named::Id(from.id()?) } else { Named::Name(from.text()?) };
        for _ in 0..from.count()?.unwrap_or_default() {
            let (partition, fetched) = from.partition(version)?;
            partitions.push(((topic.clone(), partition), fetched));
        }
        from.tags()?;
    }
    from.tags()?;
    // A length that is wrong shifts what follows, and could make a throttle time of it that is waited for.
    if !from.left.is_empty() {
        return Err("bytes follow its end");
    }
    Ok(Response { throttle_ms, code, partitions })
}

struct Reading {
    left: Bytes,
    flexible: bool,
}

impl Reading {
    fn partition(&mut self, version: i16) -> Result<(i32, Fetched), &'static str> {
        let partition = self.i32()?;
        let code = ErrorCode(self.i16()?);
        let high_watermark = Offset(self.i64()?);
        let last_stable = Offset(self.i64()?);
        if version >= 5 {
            // Where the log begins.
            self.pass(8)?;
        }
        let mut aborted = Vec::new();
        for _ in 0..self.count()?.unwrap_or_default() {
            aborted.push(Aborted { producer_id: self.i64()?, first_offset: Offset(self.i64()?) });
            self.tags()?;
        }
        if version >= 11 {
            // The replica that the leader would rather have us read from.
            self.pass(4)?;
        }
        let length = self.count()?.unwrap_or_default();
        let batches = self.left.split_to(length);
        self.tags()?;
        Ok((partition, Fetched { code, high_watermark, last_stable, aborted, batches }))
    }

    fn has(&self, bytes: usize) -> Result<(), &'static str> {
        if self.left.len() < bytes { Err("it ends early") } else { Ok(()) }
    }

    fn pass(&mut self, bytes: usize) -> Result<(), &'static str> {
        self.has(bytes).map(|()| self.left.advance(bytes))
    }

    fn i16(&mut self) -> Result<i16, &'static str> {
        self.has(2).map(|()| self.left.get_i16())
    }

    fn i32(&mut self) -> Result<i32, &'static str> {
        self.has(4).map(|()| self.left.get_i32())
    }

    fn i64(&mut self) -> Result<i64, &'static str> {
        self.has(8).map(|()| self.left.get_i64())
    }

    /// How many there are of something, each at least a byte long: never more than bytes are left. `None` for null.
    fn count(&mut self) -> Result<Option<usize>, &'static str> {
        let count = if self.flexible { i64::from(self.unsigned()?) - 1 } else { i64::from(self.i32()?) };
        self.fits(count)
    }

    fn text(&mut self) -> Result<Arc<str>, &'static str> {
        let length = if self.flexible { i64::from(self.unsigned()?) - 1 } else { i64::from(self.i16()?) };
        let length = self.fits(length)?;
        let text = self.left.split_to(length.unwrap_or_default());
        std::str::from_utf8(&text).map(Arc::from).map_err(|_| "a name in it is not text")
    }

    fn id(&mut self) -> Result<TopicId, &'static str> {
        self.has(16).map(|()| TopicId(uuid::Uuid::from_u128(self.left.get_u128())))
    }

    fn fits(&self, count: i64) -> Result<Option<usize>, &'static str> {
        match usize::try_from(count) {
            Ok(count) if count <= self.left.len() => Ok(Some(count)),
            Err(_) if count == -1 => Ok(None),
            _ => Err("a length in it cannot be"),
        }
    }

    fn tags(&mut self) -> Result<(), &'static str> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned()? {
            self.unsigned()?;
            let length = self.unsigned()?;
            self.pass(length as usize)?;
        }
        Ok(())
    }

    /// Seven bits a byte, 32 at the most.
    fn unsigned(&mut self) -> Result<u32, &'static str> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            self.has(1)?;
            let byte = self.left.get_u8();
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| "a number in it is too large");
            }
        }
        Err("a number in it is too long")
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        messages::{
            FetchResponse,
            fetch_response::{
                AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
            },
        },
        protocol::{Encodable, StrBytes},
    };

    use super::*;

    fn encoded(version: i16) -> Bytes {
        let aborted = AbortedTransaction::default().with_producer_id(7.into()).with_first_offset(3);
        let full = PartitionData::default()
            .with_partition_index(5)
            .with_high_watermark(90)
            .with_last_stable_offset(80)
            .with_aborted_transactions(Some(vec![aborted; 2]))
            .with_records(Some(Bytes::from_static(b"batches")));
        let mut moved = PartitionData::default()
            .with_partition_index(6)
            .with_error_code(6)
            .with_aborted_transactions(None)
            .with_records(None);
        let mut response = FetchResponse::default();
        if version >= FLEXIBLE_SINCE {
            moved.current_leader = LeaderIdAndEpoch::default().with_leader_id(2.into()).with_leader_epoch(9);
        }
        if version >= 16 {
            response =
                response.with_node_endpoints(vec![NodeEndpoint::default().with_host(StrBytes::from_static_str("h"))]);
        }
        let topic = FetchableTopicResponse::default().with_partitions(vec![full, moved]);
        let topic = if version >= TOPIC_IDS_SINCE {
            topic.with_topic_id(uuid::Uuid::max())
        } else {
            topic.with_topic(StrBytes::from_static_str("t").into())
        };
        let mut body = bytes::BytesMut::new();
        response.with_responses(vec![topic]).encode(&mut body, version).unwrap();
        body.freeze()
    }

    #[test]
    fn what_others_write_is_read_in_each_version() {
        for version in 4..=18 {
            let response = read(version, encoded(version)).expect("a response");
            let [((of, 5), full), ((_, 6), moved)] = &response.partitions[..] else {
                panic!("{version}: {response:?}")
            };
            let named = if version >= 13 { Named::Id(TopicId(uuid::Uuid::max())) } else { Named::Name("t".into()) };
            assert_eq!(*of, named, "{version}");
            assert_eq!((full.high_watermark, full.last_stable), (Offset(90), Offset(80)), "{version}");
            assert_eq!(full.aborted, [Aborted { producer_id: 7, first_offset: Offset(3) }; 2], "{version}");
            assert_eq!(full.batches, &b"batches"[..], "{version}");
            assert_eq!((moved.code, moved.batches.len()), (ErrorCode(6), 0), "{version}");
        }
    }

    #[test]
    fn what_is_cut_off_or_flipped_is_an_error_or_something_else_but_never_more() {
        for version in [4, 11, 12, 18] {
            let whole = encoded(version);
            for cut in 0..whole.len() {
                assert!(read(version, whole.slice(..cut)).is_err(), "{version}: {cut}");
            }
            for bit in 0..whole.len() * 8 {
                let mut flipped = whole.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(response) = read(version, flipped.into()) {
                    let held: usize =
                        response.partitions.iter().map(|(_, p)| p.batches.len() + p.aborted.capacity()).sum();
                    assert!(held <= whole.len(), "{version}: {bit}");
                }
            }
        }
    }
}
