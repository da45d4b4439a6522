//! PURE: bytes whose lengths are not believed.
//!
//! The decoder of `kafka-protocol` sets aside memory for as many elements as an array claims to have, before it looks
//! whether they are there: a single wrong bit asks for hundreds of gigabytes, and the process is aborted. It cannot be told
//! otherwise, but it reads everything from a buffer, and this buffer can refuse to give it such a number:
//!
//! * In the flexible versions of the protocol (KIP-482; all that brokers since Kafka 2.7 are asked) lengths are varints, and
//!   nothing else is but tags and booleans, which are small. So a varint beyond what is left to read is refused. (Those up
//!   to 64 Ki are let pass: a tag may be any number.)
//! * In older versions lengths are plain 32-bit numbers among others. There only what no other number is, is refused: 16 Mi
//!   and more, and beyond what is left.
//!
//! What is set aside for one array is so at most the size of an element for each byte of the frame (and in older versions
//! for 16 Mi elements, which nobody touches).

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

/// A varint up to this is not looked at.
const SMALL: u64 = 64 << 10;
/// No number of an old version that is not a length is as large: node ids, epochs, milliseconds.
const LARGE: usize = 16 << 20;

/// A response, or what is left of it. See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Guarded {
    bytes: Bytes,
    flexible: bool,
    /// What was read of a varint so far, and how many bytes that were.
    varint: (u64, u32),
}

impl Guarded {
    /// The bytes of a response whose version is flexible, or is not.
    pub(super) fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, flexible, varint: (0, 0) }
    }

    /// What was not read.
    pub(super) fn into_rest(self) -> Bytes {
        self.bytes
    }

    /// Follows the bytes that could be those of a varint.
    fn check(&mut self, byte: u8) -> Result<(), TryGetError> {
        let (value, length) = self.varint;
        let value = value | (u64::from(byte & 0x7f) << (7 * length));
        if byte >= 0x80 && length < 4 {
            self.varint = (value, length + 1);
            return Ok(());
        }
        self.varint = (0, 0);
        // The length of an array is written as one more than it is.
        let claimed = usize::try_from(value.saturating_sub(1)).unwrap_or(usize::MAX);
        self.refuse(value > SMALL && claimed > self.bytes.remaining(), claimed)
    }

    fn refuse(&self, it_is: bool, requested: usize) -> Result<(), TryGetError> {
        if it_is { Err(TryGetError { requested, available: self.bytes.remaining() }) } else { Ok(()) }
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.varint = (0, 0);
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        self.check(byte)?;
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.varint = (0, 0);
        let number = self.bytes.try_get_i32()?;
        let claimed = usize::try_from(number).unwrap_or(0);
        self.refuse(!self.flexible && claimed >= LARGE && claimed > self.bytes.remaining(), claimed)?;
        Ok(number)
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.varint = (0, 0);
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{
            ApiVersionsResponse, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse, CreateTopicsResponse,
            DescribeGroupsResponse, FetchResponse, FindCoordinatorResponse, HeartbeatResponse, InitProducerIdResponse,
            JoinGroupResponse, LeaveGroupResponse, ListOffsetsResponse, MetadataResponse, OffsetCommitResponse,
            OffsetFetchResponse, OffsetForLeaderEpochResponse, ProduceResponse, ResponseHeader, SyncGroupResponse,
            metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        },
        protocol::{Decodable, Encodable, Message, StrBytes},
    };
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> MetadataResponse {
        let brokers = (0..300).map(|id| {
            MetadataResponseBroker::default()
                .with_node_id((i32::MAX - id).into())
                .with_host(StrBytes::from_string("h".repeat(200)))
                .with_port(9_092)
        });
        let partition = MetadataResponsePartition::default().with_leader_epoch(i32::MAX);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(StrBytes::from_static_str("t").into()))
            .with_partitions(vec![partition; 20_000]);
        MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_topics(vec![topic])
            .with_controller_id(7.into())
    }

    #[test]
    fn what_is_right_is_read_in_every_version_whatever_numbers_are_in_it() {
        for version in 9..=MetadataResponse::VERSIONS.max {
            let mut bytes = BytesMut::new();
            metadata().encode(&mut bytes, version).unwrap();
            let mut guarded = Guarded::new(bytes.freeze(), true);
            assert_eq!(MetadataResponse::decode(&mut guarded, version).unwrap(), metadata(), "version {version}");
            assert_eq!(guarded.remaining(), 0);
        }
        let mut old = metadata();
        for (id, broker) in (0..).zip(&mut old.brokers) {
            broker.node_id = (1_000_000 + id).into();
        }
        for partition in &mut old.topics[0].partitions {
            partition.leader_epoch = 10_000_000;
        }
        for version in 7..9 {
            let mut bytes = BytesMut::new();
            old.encode(&mut bytes, version).unwrap();
            let read = MetadataResponse::decode(&mut Guarded::new(bytes.freeze(), false), version);
            assert_eq!(read.unwrap(), old, "version {version}");
        }
    }

    #[test]
    fn an_array_that_claims_more_than_there_is_is_refused_before_anything_is_set_aside_for_it() {
        for claimed in [100_000_u32, 100_000_000, u32::MAX - 1] {
            let mut flexible = BytesMut::from(&[0, 0, 0, 0][..]);
            let mut rest = claimed + 1;
            while rest >= 0x80 {
                flexible.extend([rest as u8 | 0x80]);
                rest >>= 7;
            }
            flexible.extend([rest as u8]);
            flexible.extend([0; 20]);
            let error = MetadataResponse::decode(&mut Guarded::new(flexible.freeze(), true), 12).unwrap_err();
            assert!(error.to_string().contains(&claimed.to_string()), "{error}");
        }
        let mut old = BytesMut::from(&[0, 0, 0, 0][..]);
        old.extend(i32::MAX.to_be_bytes());
        old.extend([0; 20]);
        let error = MetadataResponse::decode(&mut Guarded::new(old.freeze(), false), 5).unwrap_err();
        assert!(error.to_string().contains(&i32::MAX.to_string()), "{error}");
    }

    /// Decodes as the response of every kind that we ask for, in every version.
    fn decode_all(bytes: &Bytes) {
        fn decode<R: Decodable + Message + kafka_protocol::protocol::HeaderVersion>(bytes: &Bytes) {
            for version in R::VERSIONS.min..=R::VERSIONS.max {
                let flexible = R::header_version(version) > 0;
                let mut guarded = Guarded::new(bytes.clone(), flexible);
                // It may well fail: it must only come back.
                let _ = ResponseHeader::decode(&mut guarded, R::header_version(version))
                    .and_then(|_| R::decode(&mut guarded, version));
            }
        }
        decode::<ApiVersionsResponse>(bytes);
        decode::<ConsumerGroupDescribeResponse>(bytes);
        decode::<ConsumerGroupHeartbeatResponse>(bytes);
        decode::<CreateTopicsResponse>(bytes);
        decode::<DescribeGroupsResponse>(bytes);
        decode::<FetchResponse>(bytes);
        decode::<FindCoordinatorResponse>(bytes);
        decode::<HeartbeatResponse>(bytes);
        decode::<InitProducerIdResponse>(bytes);
        decode::<JoinGroupResponse>(bytes);
        decode::<LeaveGroupResponse>(bytes);
        decode::<ListOffsetsResponse>(bytes);
        decode::<MetadataResponse>(bytes);
        decode::<OffsetCommitResponse>(bytes);
        decode::<OffsetFetchResponse>(bytes);
        decode::<OffsetForLeaderEpochResponse>(bytes);
        decode::<ProduceResponse>(bytes);
        decode::<SyncGroupResponse>(bytes);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode_all(&bytes.into());
        }

        #[test]
        fn bytes_that_claim_a_lot_are_no_harm(bytes in proptest::collection::vec(
            prop_oneof![3 => Just(0_u8), 1 => Just(1), 2 => Just(0xff), 1 => Just(0x7f), 1 => any::<u8>()], 0..120,
        )) {
            decode_all(&bytes.into());
        }
    }
}
