//! rskafka as the client, since it is our own data plane.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        error::{Error, ProtocolError},
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

use super::{PATIENCE, start, start_nodes};
use crate::{
    broker::{ApiKey, Broker, NodeId, ResponseError},
    record::Offset,
};

async fn client(broker: &Broker) -> Client {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(5), deadline: Some(PATIENCE), ..Default::default() };
    ClientBuilder::new(vec![broker.address()]).backoff_config(backoff).build().await.unwrap()
}

async fn partition(client: &Client, partition: i32) -> Arc<PartitionClient> {
    Arc::new(client.partition_client("t", partition, UnknownTopicHandling::Retry).await.unwrap())
}

fn record(value: &str) -> Record {
    Record {
        key: Some(b"k".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("h".to_owned(), b"x".to_vec())]),
        timestamp: chrono::DateTime::from_timestamp_millis(1_700_000_000_123).unwrap(),
    }
}

#[tokio::test]
async fn it_creates_produces_and_fetches() {
    let broker = start();
    let client = client(&broker).await;
    let controller = client.controller_client().unwrap();
    controller.create_topic("t", 2, 1, 5_000).await.unwrap();
    assert_eq!(broker.partitions("t"), Some(2));
    assert!(controller.create_topic("t", 2, 1, 5_000).await.is_err());

    let partition = partition(&client, 1).await;
    let offsets = partition.produce(vec![record("a"), record("b")], Compression::NoCompression).await.unwrap();
    assert_eq!(offsets, [0, 1]);
    let (records, high_watermark) = partition.fetch_records(0, 1..1_000_000, 1_000).await.unwrap();
    assert_eq!(high_watermark, 2);
    assert_eq!(
        records.iter().map(|r| (r.offset, &r.record)).collect::<Vec<_>>(),
        [(0, &record("a")), (1, &record("b"))]
    );
    let kept = broker.records("t").unwrap();
    assert_eq!(
        (kept[1].offset, kept[1].header("h"), kept[1].timestamp_ms),
        (Offset(1), Some(&b"x"[..]), 1_700_000_000_123)
    );

    partition.delete_records(1, 1_000).await.unwrap();
    assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 1);
    assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 2);
    let error = partition.fetch_records(0, 1..1_000_000, 0).await.unwrap_err();
    assert!(matches!(error, Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. }), "{error}");
    controller.delete_topic("t", 5_000).await.unwrap();
    assert!(broker.topics().is_empty());
}

#[tokio::test]
async fn it_reads_many_records_of_many_batches() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    broker.append_values("t", 0, (0..50_000).map(|n| format!("value {n} {}", "x".repeat(50)))).unwrap();
    let partition = partition(&client(&broker).await, 0).await;
    let mut next = 0;
    while next < 50_000 {
        let (records, high_watermark) = partition.fetch_records(next, 1..600_000, 1_000).await.unwrap();
        assert_eq!(high_watermark, 50_000);
        for record in records.iter().filter(|record| record.offset >= next) {
            assert!(record.record.value.as_ref().unwrap().starts_with(format!("value {} ", record.offset).as_bytes()));
        }
        next = records.last().unwrap().offset + 1;
    }
}

#[tokio::test]
async fn it_waits_for_what_is_yet_to_come() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let partition = partition(&client(&broker).await, 0).await;
    let waiting = tokio::spawn(async move { partition.fetch_records(0, 1..1_000_000, 60_000).await });
    assert!(broker.until(PATIENCE, |broker| broker.requests(ApiKey::Fetch) > 0).await);
    broker.append_values("t", 0, ["late"]).unwrap();
    let (records, _) = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(records[0].record.value.as_deref(), Some(&b"late"[..]));
}

#[tokio::test]
async fn it_follows_a_moved_leader_and_survives_a_fault() {
    let broker = start_nodes(2);
    broker.create_topic("t", 1).unwrap();
    let partition = partition(&client(&broker).await, 0).await;
    partition.produce(vec![record("a")], Compression::NoCompression).await.unwrap();
    broker.move_leader("t", 0, NodeId(2)).unwrap();
    let offsets = partition.produce(vec![record("b")], Compression::NoCompression).await.unwrap();
    assert_eq!(offsets, [1]);
    assert!(broker.requests_at(ApiKey::Produce, NodeId(2)) > 0);

    let fault = broker.faults().next(ApiKey::Produce).close_after_bytes(0);
    partition.produce(vec![record("c")], Compression::NoCompression).await.unwrap();
    assert!(!fault.is_set());
    assert_eq!(broker.end_offset("t", 0), Some(Offset(4)), "kept twice: once without an answer");
    broker.faults().next(ApiKey::Produce).error(ResponseError::NotLeaderOrFollower);
    partition.produce(vec![record("d")], Compression::NoCompression).await.unwrap();
    assert_eq!(broker.end_offset("t", 0), Some(Offset(5)));
}
