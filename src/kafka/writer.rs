//! Writing by wire: one batch at a time to one partition, idempotent (KIP-98).
//!
//! ```text
//!   write ──▶ who leads? ──▶ a producer id ──▶ batch with id and sequence ──▶ Produce, acks=all ──▶ acknowledged
//!                 ▲               ▲                                               │ not acknowledged:
//!                 └───────────────┴── looked at anew, the sequence stays ◀────────┘ the same records again
//! ```
//!
//! A batch whose acknowledgement was lost is written again under the same sequence, and the broker knows it. Only where
//! the broker has forgotten the producer (or its leader lost what it had), a new id is taken, and records may be there
//! twice.
//!
//! Deliberately not rskafka's: it takes the acknowledgement of a throttled write for a failure and writes again, and
//! its headers go through a map.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::{
    wire::{Cluster, Place, WireError},
    with_causes,
};
use crate::{
    kafka::batch::{Encoder, Producer},
    record::Outgoing,
    sink::{PartitionWriter, WriteError},
};

/// Writes to one partition of a topic.
#[derive(Debug)]
pub struct WireWriter {
    cluster: Cluster,
    topic: Arc<str>,
    partition: i32,
    place: Option<Place>,
    producer: Option<Producer>,
}

impl WireWriter {
    /// A writer to a partition. Does nothing on the network before its first write. It asks one thing at a time, so
    /// `cluster` should not be shared with those who cannot wait for a write.
    #[must_use]
    pub fn new(cluster: Cluster, topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { cluster, topic: topic.into(), partition, place: None, producer: None }
    }

    async fn try_write(&mut self, records: &[Outgoing], until: Instant) -> Result<(), WireError> {
        let place = match self.place {
            Some(place) => place,
            // A broker that hangs is not to use up the time that another one may need.
            None => self.cluster.place(&self.topic, self.partition, until.min(Instant::now() + self.half())).await?,
        };
        let producer = match self.producer {
            Some(producer) => producer,
            None => self.new_producer(until).await?,
        };
        (self.place, self.producer) = (Some(place), Some(producer));

        let mut encoder = Encoder::with_capacity(records.iter().map(Outgoing::size).sum());
        for record in records {
            encoder.push(record);
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let batch = encoder.finish(now_ms, producer);
        self.cluster.produce(place, &self.topic, self.partition, batch, until).await
    }

    fn half(&self) -> Duration {
        self.cluster.deadlines().request / 2
    }

    /// A user who may write to the topic but to nothing else is an old broker's idea: then we write as nobody.
    async fn new_producer(&self, until: Instant) -> Result<Producer, WireError> {
        match self.cluster.new_producer(until).await {
            Err(error) if error.is_refusal() => Ok(Producer::NOBODY),
            other => other,
        }
    }

    /// Takes note of what a failure says about what we know.
    fn unlearn(&mut self, error: &WireError) {
        self.place = None;
        let forgotten = [
            ResponseError::OutOfOrderSequenceNumber,
            ResponseError::UnknownProducerId,
            ResponseError::InvalidProducerEpoch,
            ResponseError::InvalidProducerIdMapping,
            ResponseError::ProducerFenced,
        ];
        if error.code().is_some_and(|code| forgotten.into_iter().any(|error| code.is(error))) {
            self.producer = None;
        }
    }
}

impl PartitionWriter for WireWriter {
    /// Takes at most the deadline of a request, and before it what the broker asks to wait.
    async fn write(&mut self, records: &[Outgoing]) -> Result<(), WriteError> {
        let until = Instant::now() + self.cluster.deadlines().request;
        match self.try_write(records, until).await {
            // Some brokers say so of a batch that they have already.
            Err(error) if error.code().is_some_and(|code| code.is(ResponseError::DuplicateSequenceNumber)) => {}
            Err(error) => {
                self.unlearn(&error);
                return Err(refusal(&self.topic, &error));
            }
            Ok(()) => {}
        }
        if let Some(producer) = self.producer.as_mut().filter(|producer| **producer != Producer::NOBODY) {
            // Counted in 31 bits, from 0 again after the last.
            producer.sequence = producer.sequence.wrapping_add(records.len() as i32) & i32::MAX;
        }
        Ok(())
    }

    /// Whether the broker has them it is not known, and so not which sequence comes next.
    fn give_up(&mut self) {
        self.producer = None;
    }
}

fn refusal(topic: &str, error: &WireError) -> WriteError {
    use ResponseError as E;
    let reason = with_causes(error);
    let is = |codes: &[E]| error.code().is_some_and(|code| codes.iter().any(|known| code.is(*known)));
    if is(&[E::MessageTooLarge, E::RecordListTooLarge]) {
        return WriteError::TooLarge { reason };
    }
    if is(&[E::InvalidRecord]) {
        let reason = format!("topic {topic}: a compacted topic takes no records without a key ({reason})");
        return WriteError::Refused { reason };
    }
    let missing = matches!(error, WireError::NoTopic { .. } | WireError::NoPartition { .. });
    if missing || error.is_refusal() || is(&[E::InvalidTopicException]) {
        return WriteError::Refused { reason };
    }
    WriteError::Unavailable { reason }
}

#[cfg(all(test, feature = "broker"))]
mod tests {
    use super::*;
    use crate::{
        broker::{ApiKey, Broker, Options},
        kafka::Deadlines,
        record::Header,
    };

    fn writer(broker: &Broker) -> WireWriter {
        let deadlines = Deadlines { connect: Duration::from_secs(1), request: Duration::from_secs(1) };
        let cluster = Cluster::new(vec![broker.address().parse().unwrap()], "test", deadlines);
        WireWriter::new(cluster, "out", 0)
    }

    fn outgoing(value: &'static str) -> Outgoing {
        let headers =
            vec![Header::new("h", "1"), Header::new("h", "2"), Header { name: (&b"\xff"[..]).into(), value: None }];
        Outgoing { key: None, value: Some(value.into()), headers: headers.into() }
    }

    fn values(broker: &Broker) -> Vec<String> {
        let records = broker.records("out").unwrap();
        records.iter().map(|r| String::from_utf8_lossy(r.value.as_deref().unwrap()).into_owned()).collect()
    }

    #[tokio::test]
    async fn records_arrive_as_they_are() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.create_topic("out", 1).unwrap();
        let mut writer = writer(&broker);
        writer.write(&[outgoing("a"), outgoing("b")]).await.unwrap();
        writer.write(&[outgoing("c")]).await.unwrap();
        assert_eq!(values(&broker), ["a", "b", "c"]);
        assert_eq!(broker.records("out").unwrap()[0].headers, outgoing("a").headers.to_vec());
    }

    #[tokio::test]
    async fn a_lost_acknowledgement_makes_no_duplicate() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.create_topic("out", 1).unwrap();
        let mut writer = writer(&broker);
        writer.write(&[outgoing("a")]).await.unwrap();
        broker.faults().next(ApiKey::Produce).close_after_bytes(5);
        assert!(matches!(writer.write(&[outgoing("b")]).await, Err(WriteError::Unavailable { .. })));
        assert_eq!(values(&broker), ["a", "b"], "it was written, and the answer was lost");
        writer.write(&[outgoing("b")]).await.unwrap();
        writer.write(&[outgoing("c")]).await.unwrap();
        assert_eq!(values(&broker), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn what_is_given_up_takes_the_place_of_nothing() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.create_topic("out", 1).unwrap();
        let mut writer = writer(&broker);
        writer.write(&[outgoing("a")]).await.unwrap();
        broker.faults().next(ApiKey::Produce).close_after_bytes(5);
        assert!(writer.write(&[outgoing("b")]).await.is_err());
        writer.give_up();
        writer.write(&[outgoing("c")]).await.unwrap();
        assert_eq!(values(&broker), ["a", "b", "c"], "c is not taken for b");
    }

    #[tokio::test]
    async fn a_forgotten_producer_begins_anew() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.create_topic("out", 1).unwrap();
        let mut writer = writer(&broker);
        writer.write(&[outgoing("a")]).await.unwrap();
        broker.faults().next(ApiKey::Produce).error(ResponseError::UnknownProducerId);
        assert!(writer.write(&[outgoing("b")]).await.is_err());
        writer.write(&[outgoing("b")]).await.unwrap();
        assert_eq!(values(&broker), ["a", "b"]);
        assert_eq!(broker.requests(ApiKey::InitProducerId), 2);
    }

    #[tokio::test]
    async fn what_will_never_be_taken_is_told_from_what_may_pass() {
        let broker = Broker::start(Options::default()).unwrap();
        broker.create_topic("out", 1).unwrap();
        let mut writer = writer(&broker);
        let mut told = Vec::new();
        use ResponseError as E;
        for error in [E::MessageTooLarge, E::TopicAuthorizationFailed, E::NotEnoughReplicas, E::NotLeaderOrFollower] {
            broker.faults().next(ApiKey::Produce).error(error);
            told.push(match writer.write(&[outgoing("a")]).await.unwrap_err() {
                WriteError::TooLarge { .. } => "too large",
                WriteError::Refused { .. } => "refused",
                WriteError::Unavailable { .. } => "unavailable",
            });
        }
        assert_eq!(told, ["too large", "refused", "unavailable", "unavailable"]);
        broker.delete_topic("out").unwrap();
        let error = writer.write(&[outgoing("a")]).await.unwrap_err();
        assert!(matches!(&error, WriteError::Refused { reason } if reason.contains("--create --topic out")), "{error}");
    }
}
