//! Writing to a topic by rskafka, with `acks=all` and without compression.
//!
//! rskafka cannot carry everything that [`Outgoing`] can: a header without a value is written with an empty one; a header
//! name that is not UTF-8 has its wrong bytes replaced by U+FFFD; of headers with the same name the last is written, and
//! headers are written in the order of their names. All records of a batch carry the time of the write.
//!
//! A write without an acknowledgement may have been carried out: whoever writes again may write twice. rskafka's producer
//! is not idempotent.
//!
//! Known fault: where a producer quota is set, rskafka takes an acknowledgement that carries a throttle time for a failure,
//! waits, and writes the same batch again, for as long as the quota is exceeded. A write then ends without an
//! acknowledgement though it was carried out, perhaps more than once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rskafka::{
    chrono::{DateTime, Utc},
    client::{error::ProtocolError, partition::Compression},
    record::Record,
};
use tokio::time::timeout;

use super::{
    data_plane::{DataPlane, Failure, Leased, Unleased},
    with_causes,
};
use crate::sink::{Outgoing, PartitionWriter, WriteError};

/// Writes to one topic, by rskafka. Cheap to clone; clones share one connection per partition.
#[derive(Clone)]
pub struct RskafkaWriter {
    plane: DataPlane,
    topic: Arc<str>,
    /// Made at the first write to each partition, kept until one fails. Never locked across an await.
    leased: Arc<Mutex<HashMap<i32, Arc<Leased>>>>,
}

impl RskafkaWriter {
    /// A writer to `topic`. Does nothing on the network before its first write.
    #[must_use]
    pub fn new(plane: DataPlane, topic: impl Into<Arc<str>>) -> Self {
        Self { plane, topic: topic.into(), leased: Arc::default() }
    }

    async fn lease(&self, partition: i32) -> Result<Arc<Leased>, WriteError> {
        let known = self.kept(|kept| kept.get(&partition).cloned());
        if let Some(leased) = known.filter(|leased| self.plane.is_trusted(leased)) {
            return Ok(leased);
        }
        let leased = Arc::new(self.plane.lease(&self.topic, partition).await.map_err(unleased)?);
        self.kept(|kept| kept.insert(partition, Arc::clone(&leased)));
        Ok(leased)
    }

    async fn produce(&self, partition: i32, records: &[Outgoing]) -> Result<(), WriteError> {
        let leased = self.lease(partition).await?;
        let now = SystemTime::now().into();
        let records = records.iter().map(|record| encode(record, now)).collect();
        match leased.client.produce(records, Compression::NoCompression).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Whatever it was: the next write looks for the topic and its leader first.
                self.kept(|kept| kept.remove(&partition));
                Err(refusal(&self.topic, Failure::of(&error)))
            }
        }
    }

    fn kept<T>(&self, change: impl FnOnce(&mut HashMap<i32, Arc<Leased>>) -> T) -> T {
        change(&mut self.leased.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PartitionWriter for RskafkaWriter {
    /// Takes at most the deadline of a request.
    async fn write(&mut self, partition: i32, records: &[Outgoing]) -> Result<(), WriteError> {
        let limit = self.plane.deadlines().request;
        timeout(limit, self.produce(partition, records)).await.unwrap_or_else(|_| {
            if let Some(leased) = self.kept(|kept| kept.remove(&partition)) {
                self.plane.hung(&leased);
            }
            let reason = format!("no acknowledgement of a write to {}-{partition} within {limit:?}", self.topic);
            Err(WriteError::Unavailable { reason })
        })
    }
}

fn encode(record: &Outgoing, timestamp: DateTime<Utc>) -> Record {
    let headers = record.headers.iter().map(|header| {
        let value = header.value.as_deref().unwrap_or_default();
        (String::from_utf8_lossy(&header.name).into_owned(), value.to_vec())
    });
    Record {
        key: record.key.as_deref().map(<[u8]>::to_vec),
        value: record.value.as_deref().map(<[u8]>::to_vec),
        headers: headers.collect(),
        timestamp,
    }
}

fn unleased(why: Unleased) -> WriteError {
    match why {
        Unleased::Missing(error) => WriteError::Refused { reason: with_causes(&error) },
        Unleased::Wire(error) if error.may_pass() => WriteError::Unavailable { reason: with_causes(&error) },
        Unleased::Wire(error) => WriteError::Refused { reason: with_causes(&error) },
        Unleased::Rskafka(reason) => WriteError::Unavailable { reason },
    }
}

fn refusal(topic: &str, failure: Failure) -> WriteError {
    use ProtocolError as E;
    let (code, reason) = match failure {
        Failure::Answered(code, reason) => (code, reason),
        Failure::Undecodable(reason) | Failure::Other(reason) => return WriteError::Unavailable { reason },
    };
    let advice = match code {
        E::MessageTooLarge | E::RecordListTooLarge => return WriteError::TooLarge { reason },
        E::UnknownTopicOrPartition => "create it",
        E::TopicAuthorizationFailed | E::ClusterAuthorizationFailed => {
            "allow this user WRITE and DESCRIBE on it, with kafka-acls.sh --add"
        }
        E::InvalidTopicException => "choose another topic",
        E::InvalidRecord => "a compacted topic takes no records without a key",
        _ => return WriteError::Unavailable { reason },
    };
    WriteError::Refused { reason: format!("topic {topic}: {advice} ({reason})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;

    #[test]
    fn what_rskafka_cannot_carry_changes_as_documented() {
        let headers = vec![
            Header::new("twice", "first"),
            Header { name: "none".into(), value: None },
            Header::new(&b"\xff"[..], "x"),
            Header::new("twice", "last"),
        ];
        let record = encode(&Outgoing { key: None, value: Some("v".into()), headers }, DateTime::default());
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(headers, [("none", &b""[..]), ("twice", b"last"), ("\u{fffd}", b"x")]);
        assert_eq!((record.key, record.value.as_deref()), (None, Some(&b"v"[..])));
    }

    fn refused_as(code: ProtocolError) -> &'static str {
        match refusal("t", Failure::Answered(code, "said".into())) {
            WriteError::TooLarge { .. } => "too large",
            WriteError::Refused { reason } => {
                assert!(reason.starts_with("topic t: ") && reason.ends_with("(said)"), "{reason}");
                "refused"
            }
            WriteError::Unavailable { .. } => "unavailable",
        }
    }

    #[test]
    fn what_will_never_be_taken_is_told_from_what_may_pass() {
        use ProtocolError as E;
        assert_eq!([E::MessageTooLarge, E::RecordListTooLarge].map(refused_as), ["too large"; 2]);
        let refused = [
            E::UnknownTopicOrPartition,
            E::TopicAuthorizationFailed,
            E::ClusterAuthorizationFailed,
            E::InvalidTopicException,
        ];
        assert_eq!(refused.map(refused_as), ["refused"; 4]);
        let passing = [E::NotLeaderOrFollower, E::NotEnoughReplicas, E::RequestTimedOut, E::KafkaStorageError];
        assert_eq!(passing.map(refused_as), ["unavailable"; 4]);
    }
}
