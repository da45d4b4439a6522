//! PURE. What members of a classic group tell each other through their coordinator: ConsumerProtocolSubscription and
//! ConsumerProtocolAssignment.
//!
//! A version (an int16), and the message. Who reads a version that it does not know reads as far as it knows, and leaves the
//! rest alone: later versions only add at the end. So we write the newest, as Java's client does.
//!
//! The bytes come from other programs, by way of a broker that does not look at them: nothing in them is believed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
        consumer_protocol_subscription,
    },
    protocol::{Decodable, Encodable, Message, StrBytes},
};

use crate::{
    gather::Gather,
    kafka::wire::guarded::Guarded,
    membership::exchange::{ByName, Subscription},
};

/// Why it cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::kafka::wire) enum Unreadable {
    #[error("it is too short to name its version")]
    NoVersion,
    #[error("it has the version {0}, which there is not")]
    Version(i16),
    #[error("in version {version}: {reason}")]
    Malformed { version: i16, reason: String },
    #[error("it names partition {partition} of topic {topic}")]
    Partition { topic: String, partition: i32 },
}

/// The bytes of a subscription.
pub(super) fn encode_subscription(subscription: &Subscription) -> Bytes {
    use consumer_protocol_subscription::TopicPartition;
    let Subscription { topics, user_data, owned, generation, rack } = subscription;
    let owned = owned.iter().map(|(topic, partitions)| {
        TopicPartition::default().with_topic(string(topic).into()).with_partitions(partitions.iter().copied().collect())
    });
    let message = ConsumerProtocolSubscription::default()
        .with_topics(topics.iter().map(|topic| string(topic)).collect())
        .with_user_data((!user_data.is_empty()).then(|| Bytes::copy_from_slice(user_data)))
        .with_owned_partitions(owned.collect())
        .with_generation_id(*generation)
        .with_rack_id(rack.as_deref().map(string));
    encode(&message)
}

/// A subscription that another program may have written.
pub(in crate::kafka::wire) fn decode_subscription(bytes: &Bytes) -> Result<Subscription, Unreadable> {
    let read: ConsumerProtocolSubscription = decode(bytes)?;
    let owned = read.owned_partitions.iter().map(|topic| (topic.topic.as_str(), &topic.partitions[..]));
    Ok(Subscription {
        topics: read.topics.iter().map(|topic| topic.as_str().into()).gather(),
        user_data: read.user_data.map(|bytes| bytes.to_vec()).unwrap_or_default(),
        owned: by_name(owned)?,
        generation: read.generation_id,
        rack: read.rack_id.map(|rack| rack.as_str().into()),
    })
}

/// The bytes of an assignment.
pub(super) fn encode_assignment(assignment: &ByName) -> Bytes {
    use consumer_protocol_assignment::TopicPartition;
    let partitions = assignment.iter().map(|(topic, partitions)| {
        TopicPartition::default().with_topic(string(topic).into()).with_partitions(partitions.iter().copied().collect())
    });
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(partitions.collect()))
}

/// An assignment that another program may have written. A member to which the leader gives nothing may get no bytes at all.
pub(in crate::kafka::wire) fn decode_assignment(bytes: &Bytes) -> Result<ByName, Unreadable> {
    if bytes.is_empty() {
        return Ok(ByName::new());
    }
    let read: ConsumerProtocolAssignment = decode(bytes)?;
    by_name(read.assigned_partitions.iter().map(|topic| (topic.topic.as_str(), &topic.partitions[..])))
}

fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn encode<M: Encodable + Message>(message: &M) -> Bytes {
    let version = M::VERSIONS.max;
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    // It fails on a name of more than 32 KiB; a topic's has at most 249 characters.
    message.encode(&mut bytes, version).expect("the newest version has all fields");
    bytes.freeze()
}

fn decode<M: Decodable + Message>(bytes: &Bytes) -> Result<M, Unreadable> {
    let mut rest = bytes.clone();
    let version = rest.try_get_i16().map_err(|_| Unreadable::NoVersion)?;
    if version < M::VERSIONS.min {
        return Err(Unreadable::Version(version));
    }
    // What a later version has behind that is left alone.
    M::decode(&mut Guarded::new(rest, false), version.min(M::VERSIONS.max))
        .map_err(|error| Unreadable::Malformed { version, reason: error.to_string() })
}

fn by_name<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> Result<ByName, Unreadable> {
    let mut by_name = ByName::new();
    for (topic, partitions) in topics {
        if let Some(&partition) = partitions.iter().find(|partition| **partition < 0) {
            return Err(Unreadable::Partition { topic: topic.to_owned(), partition });
        }
        by_name.entry(topic.into()).or_default().extend(partitions);
    }
    Ok(by_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owned(topics: &[(&str, &[i32])]) -> ByName {
        topics.iter().map(|(topic, partitions)| ((*topic).into(), partitions.iter().copied().collect())).collect()
    }

    fn subscription() -> Subscription {
        Subscription {
            topics: ["a".into(), "b".into()].into(),
            user_data: vec![0, 0, 0, 7],
            owned: owned(&[("a", &[0, 2]), ("b", &[1])]),
            generation: 7,
            rack: Some("r".into()),
        }
    }

    /// As Java's client writes it: ConsumerProtocol.serializeSubscription of Kafka 4.3.1.
    #[test]
    fn a_subscription_is_written_in_the_newest_version() {
        let bytes = encode_subscription(&subscription());
        let expected: &[&[u8]] = &[
            &[0, 3],
            &[0, 0, 0, 2, 0, 1, b'a', 0, 1, b'b'],
            &[0, 0, 0, 4, 0, 0, 0, 7],
            &[0, 0, 0, 2, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, b'b', 0, 0, 0, 1, 0, 0, 0, 1],
            &[0, 0, 0, 7],
            &[0, 1, b'r'],
        ];
        assert_eq!(bytes, expected.concat());
        let none = encode_subscription(&Subscription { generation: -1, ..Subscription::default() });
        assert_eq!(none[..], [&[0, 3][..], &[0; 4], &[255; 4], &[0; 4], &[255; 4], &[255; 2]].concat());
    }

    #[test]
    fn older_versions_lack_what_came_later_and_newer_ones_are_read_as_far_as_they_are_known() {
        let newest = encode_subscription(&subscription());
        let lengths = [20, 50, 54, 57];
        let read = |version: u8, bytes: &[u8]| decode_subscription(&[&[0, version], &bytes[2..]].concat().into());
        let whole = subscription();
        let without_rack = Subscription { rack: None, ..whole.clone() };
        let without_generation = Subscription { generation: -1, ..without_rack.clone() };
        let without_owned = Subscription { owned: ByName::new(), ..without_generation.clone() };
        let known = [without_owned, without_generation, without_rack, whole.clone()];
        for ((version, length), known) in (0..).zip(lengths).zip(known) {
            assert_eq!(read(version, &newest[..length]).as_ref(), Ok(&known), "version {version}");
            assert!(read(version, &newest[..length - 1]).is_err(), "version {version}, a byte less");
        }
        let newer = [&newest[..], b"what is to come"].concat();
        assert_eq!(read(9, &newer), Ok(whole));
        assert_eq!(decode_subscription(&Bytes::from_static(&[255, 255, 0])), Err(Unreadable::Version(-1)));
        assert_eq!(decode_subscription(&Bytes::from_static(&[0])), Err(Unreadable::NoVersion));
    }

    #[test]
    fn an_assignment_comes_back_as_it_was_and_none_is_nothing() {
        let assignment = owned(&[("a", &[0, 2]), ("b", &[1])]);
        assert_eq!(decode_assignment(&encode_assignment(&assignment)), Ok(assignment));
        assert_eq!(encode_assignment(&ByName::new())[..], [0, 3, 0, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(decode_assignment(&Bytes::new()), Ok(ByName::new()));
        // A topic that is there twice, as some clients write it.
        let twice: &[&[u8]] = &[
            &[0, 1, 0, 0, 0, 2],
            &[0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 5],
            &[0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 6],
            &[255; 4],
        ];
        assert_eq!(decode_assignment(&twice.concat().into()), Ok(owned(&[("a", &[5, 6])])));
    }

    #[test]
    fn what_claims_too_much_or_makes_no_sense_is_said_to() {
        let claims = [&[0, 0][..], &[0x7f, 0xff, 0xff, 0xff], &[0; 8]].concat();
        let error = decode_subscription(&claims.into()).unwrap_err().to_string();
        assert!(error.starts_with("in version 0: ") && error.contains("2147483647"), "{error}");
        let negative = [&[0, 1, 0, 0, 0, 1][..], &[0, 1, b'a', 0, 0, 0, 1, 255, 255, 255, 255], &[255; 4]].concat();
        let error = decode_assignment(&negative.into()).unwrap_err();
        assert_eq!(error.to_string(), "it names partition -1 of topic a");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_harm(version in -1_i16..5, bytes in proptest::collection::vec(
            prop_oneof![3 => Just(0_u8), 1 => Just(1), 2 => Just(0xff), 1 => Just(0x7f), 1 => any::<u8>()], 0..120,
        )) {
            let bytes = Bytes::from([&version.to_be_bytes()[..], &bytes].concat());
            let _ = (decode_subscription(&bytes), decode_assignment(&bytes));
        }
    }
}
