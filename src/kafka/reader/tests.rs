//! Both readers and the way from one to the other: against what a log can hold, in the in-memory broker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kafka_protocol::{
    messages::{ApiVersionsRequest, FetchRequest, FetchResponse, MetadataRequest},
    protocol::Request,
};

use super::{ReadBy, Reader, Readers, WireReaders};
use crate::{
    broker::{ApiKey, Broker, Options, ResponseError},
    kafka::{
        Deadlines, Isolation,
        batch::tests::{CONTROL, Plan, Planned, TRANSACTIONAL, codecs::Codec},
        wire::{
            Cluster,
            scripted::{self, Asked},
        },
    },
    record::{Header, Offset, Outgoing, Record, TopicId, TopicPartition},
    source::{Batch, PartitionReader, ReadError},
};

const T: &str = "t";
/// What a fetch asks for, unless it matters.
const MAX_BYTES: usize = 1 << 20;
/// Long enough for a busy machine.
const WAIT: Duration = Duration::from_millis(300);

fn broker(partitions: i32) -> Broker {
    let broker = Broker::start(Options::default()).unwrap();
    broker.create_topic(T, partitions).unwrap();
    broker
}

fn readers(broker: &Broker, by: ReadBy, isolation: Isolation, max_inflated: usize) -> Readers {
    let deadlines = Deadlines { connect: Duration::from_secs(5), request: Duration::from_secs(5) };
    let cluster = Cluster::new(vec![broker.address().parse().unwrap()], "test", deadlines);
    Readers::new(WireReaders::new(&cluster, isolation, max_inflated), by, 1)
}

fn reader(broker: &Broker, by: ReadBy) -> Reader {
    readers(broker, by, Isolation::default(), 64 << 20).partition(&at(0), broker.topic_id(T).unwrap())
}

fn at(partition: i32) -> Arc<TopicPartition> {
    Arc::new(TopicPartition::new(T, partition))
}

async fn fetch(reader: &mut Reader, from: i64, max_bytes: usize) -> Result<Batch, ReadError> {
    tokio::time::timeout(Duration::from_secs(20), reader.fetch(Offset(from), max_bytes, WAIT)).await.expect("in time")
}

/// Reads from `from` to the end.
async fn read_all(reader: &mut Reader, mut from: i64, max_bytes: usize) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let batch = fetch(reader, from, max_bytes).await.expect("fetched");
        from = batch.next.0;
        records.extend(batch.records);
        if batch.next >= batch.high_watermark {
            return records;
        }
    }
}

fn offsets(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.offset.0).collect()
}

fn values(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| std::str::from_utf8(record.value.as_deref().unwrap_or(b"-")).unwrap()).collect()
}

/// A batch with these values.
fn plan(values: &[&str]) -> Plan {
    Plan::new(values.iter().enumerate().map(|(at, value)| Planned::new(at as i32, value)).collect())
}

/// The end of a transaction.
fn marker(producer_id: i64, commit: bool) -> Plan {
    let key = [0_i16.to_be_bytes(), i16::from(commit).to_be_bytes()].concat();
    let record = Planned { key: Some(key), ..Planned::new(0, "") };
    Plan { attributes: CONTROL | TRANSACTIONAL, producer_id, ..Plan::new(vec![record]) }
}

#[track_caller]
fn put(broker: &Broker, plan: &Plan) {
    broker.append_raw(T, 0, plan.encode()).unwrap();
}

#[tokio::test]
async fn both_read_the_same_plain_topic() {
    let broker = broker(1);
    broker.append_values(T, 0, (0..2500).map(|n| format!("value {n}"))).unwrap();
    for by in [ReadBy::Rskafka, ReadBy::Wire, ReadBy::Auto] {
        // Small fetches: many steps, and batches that are larger than what is asked for.
        let records = read_all(&mut reader(&broker, by), 7, 5_000).await;
        assert_eq!(offsets(&records), (7..2500).collect::<Vec<_>>(), "{by:?}");
        assert_eq!(values(&records)[..2], ["value 7", "value 8"], "{by:?}");
    }
}

#[tokio::test]
async fn wire_goes_on_behind_what_holds_no_record() {
    let broker = broker(1);
    put(&broker, &plan(&["a"]));
    put(&broker, &marker(1, true));
    // Compaction took its records and left its offsets: 2 to 11.
    put(&broker, &Plan { gap: 9, ..Plan::new(Vec::new()) });
    put(&broker, &plan(&["b"]));
    put(&broker, &marker(1, false));
    for by in [ReadBy::Wire, ReadBy::Auto] {
        let mut reader = reader(&broker, by);
        let records = read_all(&mut reader, 0, MAX_BYTES).await;
        assert_eq!((offsets(&records), values(&records)), (vec![0, 12], vec!["a", "b"]), "{by:?}");
        let tail = fetch(&mut reader, 13, MAX_BYTES).await.unwrap();
        assert_eq!((tail.next, tail.high_watermark), (Offset(14), Offset(14)), "a marker at the end is no lag: {by:?}");
    }
    let stuck = fetch(&mut reader(&broker, ReadBy::Rskafka), 0, MAX_BYTES).await;
    assert!(matches!(stuck, Ok(_) | Err(ReadError::Unreadable { .. })), "{stuck:?}");
}

#[tokio::test]
async fn every_codec_is_read_and_auto_goes_over_to_wire() {
    let broker = broker(1);
    let mut expected = 0;
    for codec in Codec::ALL {
        let mut plan = plan(&["a value, a value, a value"; 50]);
        plan.codec = codec;
        put(&broker, &plan);
        expected += 50;
    }
    for by in [ReadBy::Wire, ReadBy::Auto] {
        let records = read_all(&mut reader(&broker, by), 0, MAX_BYTES).await;
        assert_eq!(offsets(&records), (0..expected).collect::<Vec<_>>(), "{by:?}");
    }
}

#[tokio::test]
async fn headers_are_exact_and_nothing_is_lost_or_read_twice_on_the_way_over() {
    let broker = broker(1);
    broker.append_values(T, 0, (0..10).map(|n| format!("{n}"))).unwrap();
    let headers = vec![Header::new("b", "1"), Header::new("a", "2"), Header::new("b", "3")];
    let with = Outgoing { key: None, value: Some("h".into()), headers: headers.clone().into() };
    broker.append(T, 0, [with]).unwrap();
    broker.append_values(T, 0, (11..20).map(|n| format!("{n}"))).unwrap();
    let records = read_all(&mut reader(&broker, ReadBy::Auto), 0, MAX_BYTES).await;
    assert_eq!(offsets(&records), (0..20).collect::<Vec<_>>());
    assert_eq!(records[10].headers, headers);
}

#[tokio::test]
async fn a_damaged_batch_is_asked_for_again_and_then_passed_with_its_bytes() {
    let broker = broker(1);
    put(&broker, &plan(&["a"]));
    let mut damaged = plan(&["b", "c"]).encode();
    *damaged.last_mut().unwrap() ^= 1;
    broker.append_raw(T, 0, damaged.clone()).unwrap();
    put(&broker, &plan(&["d"]));
    let mut reader = reader(&broker, ReadBy::Wire);
    let good = fetch(&mut reader, 0, MAX_BYTES).await.unwrap();
    assert_eq!((values(&good.records), good.next), (vec!["a"], Offset(1)), "what lies before it is not held up");
    let fetches = broker.requests(ApiKey::Fetch);
    let first = fetch(&mut reader, 1, MAX_BYTES).await.unwrap_err();
    assert!(matches!(&first, ReadError::Damaged { reason, .. } if reason.contains("checksum")), "{first}");
    let second = fetch(&mut reader, 1, MAX_BYTES).await.unwrap();
    assert!(broker.requests(ApiKey::Fetch) > fetches, "it was fetched anew");
    let [record] = &second.records[..] else { panic!("{second:?}") };
    let damage = record.damage.as_ref().expect("it stands for a batch");
    assert_eq!((record.offset, damage.last, second.next), (Offset(1), Offset(2), Offset(3)));
    // From the length on: the broker has set the offset and the leader epoch.
    assert_eq!(record.value.as_ref().unwrap()[16..], damaged[16..]);
    assert_eq!(values(&read_all(&mut reader, 3, MAX_BYTES).await), ["d"]);
}

#[tokio::test]
async fn what_is_damaged_once_is_read() {
    let broker = broker(1);
    put(&broker, &plan(&["a"]));
    let mut damaged = plan(&["b"]).encode();
    *damaged.last_mut().unwrap() ^= 1;
    broker.append_raw(T, 0, damaged).unwrap();
    let mut reader = reader(&broker, ReadBy::Wire);
    assert_eq!(fetch(&mut reader, 0, MAX_BYTES).await.unwrap().next, Offset(1));
    assert!(fetch(&mut reader, 1, MAX_BYTES).await.is_err());
    // It was the network's doing: now it comes as it was written.
    broker.truncate(T, 0, Offset(1)).unwrap();
    put(&broker, &plan(&["b"]));
    // The leader epoch has changed, which is found out first.
    assert!(matches!(fetch(&mut reader, 1, MAX_BYTES).await, Err(ReadError::Unavailable { .. })));
    let again = fetch(&mut reader, 1, MAX_BYTES).await.unwrap();
    assert_eq!((values(&again.records), again.records[0].damage.is_none()), (vec!["b"], true));
}

#[tokio::test]
async fn a_bomb_is_passed_and_a_large_batch_keeps_others_waiting() {
    let broker = broker(1);
    let large = "x".repeat(400_000);
    put(&broker, &Plan { codec: Codec::Lz4, ..plan(&[&*large, &*large]) });
    put(&broker, &Plan { codec: Codec::Lz4, ..plan(&[&*large; 8]) });
    put(&broker, &plan(&["a"]));
    let readers = readers(&broker, ReadBy::Wire, Isolation::default(), 2 << 20);
    let mut reader = readers.partition(&at(0), broker.topic_id(T).unwrap());
    let first = fetch(&mut reader, 0, 10_000).await.unwrap();
    assert_eq!((first.records.len(), first.held.is_some()), (2, true));
    let waiting = reader.fetch(Offset(2), 10_000, WAIT);
    assert!(tokio::time::timeout(WAIT * 2, waiting).await.is_err(), "another large one waits until this one is let in");
    drop(first);
    assert!(fetch(&mut reader, 2, 10_000).await.is_err(), "above the limit");
    let bomb = fetch(&mut reader, 2, 10_000).await.unwrap();
    let damage = bomb.records[0].damage.as_ref().expect("passed");
    assert!(damage.reason.contains("2097152 bytes"), "{}", damage.reason);
    assert_eq!(values(&read_all(&mut reader, bomb.next.0, 10_000).await), ["a"]);
}

#[tokio::test]
async fn partitions_of_one_broker_share_fetches() {
    let broker = broker(50);
    for partition in 0..50 {
        broker.append_values(T, partition, [format!("{partition}")]).unwrap();
    }
    let readers = readers(&broker, ReadBy::Wire, Isolation::default(), 1 << 20);
    let all = (0..50).map(|partition| {
        let mut reader = readers.partition(&at(partition), broker.topic_id(T).unwrap());
        async move {
            let records = read_all(&mut reader, 0, 1000).await;
            assert_eq!(values(&records), [partition.to_string()]);
            // Nothing more: quiet.
            for _ in 0..2 {
                let batch = fetch(&mut reader, 1, 1000).await.unwrap();
                assert!(batch.records.is_empty());
            }
        }
    });
    futures::future::join_all(all).await;
    let fetches = broker.requests(ApiKey::Fetch);
    assert!(fetches < 75, "{fetches} fetches for 150 wishes");
}

#[tokio::test]
async fn partitions_of_several_topics_share_fetches_and_each_gets_its_own() {
    // The last version by which topics go by their names, and the newest.
    for newest in [Some(12), None] {
        let broker = broker(2);
        if let Some(newest) = newest {
            broker.cap_version(ApiKey::Fetch, newest);
        }
        let all = (0..12).flat_map(|topic| [0, 1].map(|partition| (format!("topic-{topic}"), partition)));
        for (topic, partition) in all.clone() {
            if partition == 0 {
                broker.create_topic(&topic, 2).unwrap();
            }
            broker.append_values(&topic, partition, [format!("{topic}-{partition}")]).unwrap();
        }
        let readers = readers(&broker, ReadBy::Wire, Isolation::default(), 1 << 20);
        let reading = all.map(|(topic, partition)| {
            let id = broker.topic_id(&topic).unwrap();
            let source = Arc::new(TopicPartition::new(topic, partition));
            let mut reader = readers.partition(&source, id);
            async move {
                let records = read_all(&mut reader, 0, 1000).await;
                assert_eq!(values(&records), [source.to_string()]);
                assert_eq!(records[0].source, source);
                reader
            }
        });
        let mut readers = futures::future::join_all(reading).await;
        let before = broker.requests(ApiKey::Fetch);
        for _ in 0..2 {
            let all = readers.iter_mut().map(|reader| fetch(reader, 1, 1000));
            for batch in futures::future::join_all(all).await {
                assert!(batch.unwrap().records.is_empty());
            }
        }
        let fetches = broker.requests(ApiKey::Fetch) - before;
        assert!(fetches < 16, "{fetches} fetches for 48 wishes");
    }
}

#[tokio::test]
async fn a_busy_partition_does_not_wait_behind_a_quiet_one() {
    let broker = broker(2);
    let readers = readers(&broker, ReadBy::Wire, Isolation::default(), 1 << 20);
    let mut quiet = readers.partition(&at(1), broker.topic_id(T).unwrap());
    assert!(fetch(&mut quiet, 0, 1000).await.unwrap().records.is_empty());
    // From here on the broker keeps back what asks for it.
    broker.faults().every(ApiKey::Fetch).partition(1).delay(Duration::from_secs(60));
    let asked = broker.requests(ApiKey::Fetch);
    let busy = async {
        broker.until(Duration::from_secs(20), |broker| broker.requests(ApiKey::Fetch) > asked).await;
        let mut reader = readers.partition(&at(0), broker.topic_id(T).unwrap());
        for at in 0..20 {
            broker.append_values(T, 0, [format!("{at}")]).unwrap();
            assert_eq!(fetch(&mut reader, at, 1000).await.unwrap().next, Offset(at + 1));
        }
    };
    tokio::select! {
        _ = quiet.fetch(Offset(0), 1000, WAIT) => panic!("it was kept back"),
        () = busy => {}
    }
}

#[tokio::test]
async fn a_leader_that_moved_is_found() {
    let broker = Broker::start(Options { nodes: 2, ..Options::default() }).unwrap();
    broker.create_topic(T, 1).unwrap();
    broker.append_values(T, 0, ["a", "b"]).unwrap();
    let mut reader = reader(&broker, ReadBy::Wire);
    assert_eq!(fetch(&mut reader, 0, MAX_BYTES).await.unwrap().next, Offset(2));
    let (leader, _) = broker.leader(T, 0).unwrap();
    let other = broker.nodes().into_iter().map(|(id, _)| id).find(|id| *id != leader).unwrap();
    broker.move_leader(T, 0, other).unwrap();
    broker.append_values(T, 0, ["c"]).unwrap();
    assert!(matches!(fetch(&mut reader, 2, MAX_BYTES).await, Err(ReadError::Unavailable { .. })));
    assert_eq!(values(&fetch(&mut reader, 2, MAX_BYTES).await.unwrap().records), ["c"]);
    assert!(broker.requests_at(ApiKey::Fetch, other) > 0);
}

#[tokio::test]
async fn a_topic_made_anew_is_not_read() {
    let broker = broker(1);
    broker.append_values(T, 0, ["a"]).unwrap();
    let mut reader = reader(&broker, ReadBy::Wire);
    assert_eq!(fetch(&mut reader, 0, MAX_BYTES).await.unwrap().next, Offset(1));
    broker.recreate_topic(T, 1).unwrap();
    broker.append_values(T, 0, ["x", "y"]).unwrap();
    assert!(matches!(fetch(&mut reader, 1, MAX_BYTES).await, Err(ReadError::Unavailable { .. })));
    let error = fetch(&mut reader, 1, MAX_BYTES).await.unwrap_err();
    assert!(matches!(&error, ReadError::Missing { reason } if reason.contains("another one now")), "{error}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let broker = broker(1);
    broker.append_values(T, 0, ["a"]).unwrap();
    let mut reader = reader(&broker, ReadBy::Wire);
    for fault in [None, Some(ResponseError::KafkaStorageError)] {
        match fault {
            None => broker.faults().next(ApiKey::Fetch).close_after_bytes(30),
            Some(error) => broker.faults().next(ApiKey::Fetch).error(error),
        };
        assert!(matches!(fetch(&mut reader, 0, MAX_BYTES).await, Err(ReadError::Unavailable { .. })));
        assert_eq!(values(&fetch(&mut reader, 0, MAX_BYTES).await.unwrap().records), ["a"]);
    }
}

#[tokio::test]
async fn out_of_range_comes_with_the_bounds() {
    let broker = broker(1);
    broker.append_values(T, 0, ["a", "b", "c"]).unwrap();
    broker.delete_records(T, 0, Offset(2));
    for by in [ReadBy::Rskafka, ReadBy::Wire] {
        let error = fetch(&mut reader(&broker, by), 0, MAX_BYTES).await.unwrap_err();
        let ReadError::OutOfRange { requested, earliest, latest } = error else { panic!("{by:?}: {error}") };
        assert_eq!((requested, earliest, latest), (Offset(0), Offset(2), Offset(3)), "{by:?}");
    }
}

mod decoding {
    //! What one answer holds, and how far it is decoded.

    use super::*;
    use crate::{
        kafka::{
            batch::Aborted,
            reader::decode::{Rest, Room, decode},
            wire::{ErrorCode, Fetched},
        },
        record::TopicPartition,
    };

    /// These batches, one after the other.
    fn fetched(plans: &[Plan], aborted: Vec<Aborted>) -> Fetched {
        let mut next = 0;
        let batches: Vec<u8> = plans
            .iter()
            .flat_map(|plan| {
                let plan = Plan { base_offset: next, ..plan.clone() };
                next += plan.records.len() as i64 + i64::from(plan.gap);
                plan.encode()
            })
            .collect();
        let end = Offset(next);
        Fetched { code: ErrorCode(0), high_watermark: end, last_stable: end, aborted, batches: batches.into() }
    }

    /// Decodes step by step; gives the offsets of each step.
    fn steps(mut rest: Rest, enough: usize) -> Vec<Vec<i64>> {
        let source = Arc::new(TopicPartition::new(T, 0));
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let decoded = decode(&source, rest, Room { enough, inflated: 1 << 20 });
            assert!(decoded.obstacle.is_none());
            steps.push(offsets(&decoded.records));
            rest = decoded.rest;
        }
        steps
    }

    #[test]
    fn what_there_is_no_room_for_comes_next() {
        let plans = [plan(&["a", "b"]), plan(&["c"]), plan(&["d"])];
        let rest = |from| Rest::new(Offset(from), fetched(&plans, vec![]), Isolation::ReadUncommitted);
        assert_eq!(steps(rest(0), 1), [vec![0, 1], vec![2], vec![3]]);
        assert_eq!(steps(rest(1), usize::MAX), [vec![1, 2, 3]]);
    }

    #[test]
    fn aborted_records_are_left_out_however_small_the_steps() {
        let of = |producer_id, values: &[&str]| Plan { attributes: TRANSACTIONAL, producer_id, ..plan(values) };
        // Producer 1 aborts, then commits; producer 2 is in between.
        let plans = [
            of(1, &["no"]),
            of(2, &["b"]),
            marker(1, false),
            of(1, &["d"]),
            marker(2, true),
            marker(1, true),
            plan(&["g"]),
        ];
        let aborted = vec![Aborted { producer_id: 1, first_offset: Offset(0) }];
        let read = |isolation, enough| {
            let steps = steps(Rest::new(Offset(0), fetched(&plans, aborted.clone()), isolation), enough);
            steps.concat()
        };
        for enough in [1, usize::MAX] {
            assert_eq!(read(Isolation::ReadCommitted, enough), [1, 3, 6]);
            assert_eq!(read(Isolation::ReadUncommitted, enough), [0, 1, 3, 6]);
        }
    }

    #[test]
    fn old_formats_are_refused_by_name() {
        let source = Arc::new(TopicPartition::new(T, 0));
        let mut old = plan(&["a"]).encode();
        old[16] = 1;
        let fetched = Fetched { batches: old.into(), ..fetched(&[], vec![]) };
        let room = Room { enough: 1, inflated: 1 << 20 };
        let mut decoded = decode(&source, Rest::new(Offset(0), fetched, Isolation::default()), room);
        let error = decoded.rest.pass(&source, decoded.obstacle.expect("refused")).unwrap_err();
        assert!(matches!(&error, ReadError::Unreadable { reason, .. } if reason.contains("format 1")), "{error}");
        assert_eq!(decoded.rest.next, Offset(0), "nothing is skipped");
    }

    #[test]
    fn nothing_is_read_behind_an_open_transaction() {
        let mut fetched = fetched(&[plan(&["a"])], vec![]);
        fetched.high_watermark = Offset(9);
        let rest = Rest::new(Offset(0), fetched, Isolation::ReadCommitted);
        assert_eq!(rest.end, Offset(1), "there the open transaction begins");
    }
}

/// A broker over whose quota we are keeps what it has read, and says only how long to wait (KIP-13).
#[tokio::test]
async fn a_broker_that_grants_nothing_is_not_away_and_is_asked_for_less() {
    let asked_for = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked_for);
    let cluster = scripted::cluster(move |asked: &Asked| {
        if asked.is::<ApiVersionsRequest>() {
            let known = [(ApiVersionsRequest::KEY, 0, 4), (MetadataRequest::KEY, 0, 12), (FetchRequest::KEY, 4, 12)];
            return asked.versions(&known);
        }
        if !asked.is::<FetchRequest>() {
            return asked.quiet();
        }
        seen.lock().unwrap().push(asked.body::<FetchRequest>().topics[0].partitions[0].partition_max_bytes);
        asked.reply::<FetchRequest>(&FetchResponse::default().with_throttle_time_ms(1))
    })
    .await;
    let readers = WireReaders::new(&cluster, Isolation::default(), 64 << 20);
    let mut reader = Readers::new(readers, ReadBy::Wire, 1).partition(&at(0), TopicId::default());
    for _ in 0..3 {
        let batch = fetch(&mut reader, 7, 4_000).await.expect("it is not away");
        assert_eq!((batch.next, batch.high_watermark, batch.records.len()), (Offset(7), Offset(7), 0));
    }
    let asked_for = asked_for.lock().unwrap();
    assert!(asked_for.starts_with(&[4_000]) && asked_for.contains(&2_000), "{asked_for:?}");
}
