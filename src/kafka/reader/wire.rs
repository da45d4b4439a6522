//! Reading a partition by wire: whatever a topic can hold, from any broker.
//!
//! ```text
//!   who leads? ──▶ Fetch, with others of that broker (lanes) ──▶ batches ──▶ checked, inflated, decoded ──▶ records
//!       ▲                      │ any failure                        │ damaged twice
//!       └──────────────────────┘                                    └──▶ one record that stands for the batch
//! ```
//!
//! It advances by what batches say of themselves, not by the records in them: past compacted holes, empty batches,
//! transaction markers and aborted records.
//!
//! What it delivers is copied out of the response, small pieces into pages that they share: a record that is held for long
//! holds little more than itself.
//!
//! A batch that is damaged is asked for once more. If it still is, its bytes are delivered as one record with
//! [`Record::damage`], and reading goes on behind it.

use std::{num::NonZero, sync::Arc, time::Duration};

use kafka_protocol::ResponseError;
use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};

use super::{
    decode::{Decoded, Rest, Room, decode},
    lanes::{Lanes, Mood},
    out_of_range,
};
use crate::{
    kafka::{
        Isolation,
        batch::Damage,
        wire::{Cluster, ErrorCode, Fetched, Place, Wanted, WireError},
        with_causes,
    },
    record::{Offset, TopicId, TopicPartition},
    source::{Batch, PartitionReader, ReadError},
};

/// How much more than was asked for a batch may be when it is inflated, before it has to wait for others that are larger.
const OFTEN: usize = 4;
/// The least of that.
const LEAST_OFTEN: usize = 256 << 10;

/// What all readers of a run share.
#[derive(Debug, Clone)]
pub struct WireReaders {
    cluster: Cluster,
    isolation: Isolation,
    lanes: Lanes,
    /// The most that a batch may be when it is inflated; what is larger is damaged.
    max_inflated: usize,
    /// Held by the one that inflates a batch that is much larger than what was asked for, until its records are let in.
    large: Arc<Mutex<()>>,
    /// So many inflate at once: it takes a thread each, and no more of them than there are cores would be quicker.
    inflating: Arc<Semaphore>,
}

impl WireReaders {
    /// Readers of batches that are no larger than `max_inflated` when they are inflated.
    #[must_use]
    pub fn new(cluster: &Cluster, isolation: Isolation, max_inflated: usize) -> Self {
        let lanes = Lanes::new(cluster, isolation);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (cluster, large, inflating) = (cluster.clone(), Arc::default(), Arc::new(Semaphore::new(cores)));
        Self { cluster, isolation, lanes, max_inflated, large, inflating }
    }

    /// A reader of one partition, as long as the topic has this id (any, if it is all zeros). Does nothing on the network
    /// before its first fetch.
    #[must_use]
    pub fn partition(&self, source: Arc<TopicPartition>, id: TopicId) -> WireReader {
        WireReader { shared: self.clone(), source, id, place: None, mood: Mood::Busy, rest: None, damaged: None }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) fn isolation(&self) -> Isolation {
        self.isolation
    }
}

/// Fetches from one partition, by wire.
#[derive(Debug)]
pub struct WireReader {
    shared: WireReaders,
    /// Shared by all records.
    source: Arc<TopicPartition>,
    id: TopicId,
    place: Option<Place>,
    mood: Mood,
    /// What was fetched and not yet decoded.
    rest: Option<Rest>,
    /// Where a batch was damaged when it was last fetched.
    damaged: Option<Offset>,
}

impl WireReader {
    /// Asks the partition's leader. Nothing, where it grants nothing now.
    async fn ask(&mut self, from: Offset, max_bytes: usize, max_wait: Duration) -> Result<Option<Fetched>, ReadError> {
        let place = match self.place {
            Some(place) => place,
            None => self.find().await?,
        };
        self.place = Some(place);
        let TopicPartition { topic, partition } = &*self.source;
        let Place { leader, topic_id, epoch } = place;
        let wanted = Wanted { topic: Arc::clone(topic), topic_id, partition: *partition, epoch, from, max_bytes };
        let fetched = self.shared.lanes.fetch(leader, wanted, max_wait, self.mood).await;
        let reason = match fetched {
            Some(Ok(None)) => return Ok(None),
            Some(Ok(Some(fetched))) if fetched.code == ErrorCode(0) => return Ok(Some(fetched)),
            Some(Ok(Some(fetched))) if fetched.code.is(ResponseError::OffsetOutOfRange) => {
                self.place = None;
                return Err(out_of_range(&self.shared.cluster, &self.source, from).await);
            }
            Some(Ok(Some(fetched))) => format!("broker {} answers a fetch with {}", place.leader, fetched.code),
            Some(Err(error)) => with_causes(&*error),
            None => format!("broker {} does not say anything of the partition", place.leader),
        };
        // Whatever it was: the next fetch looks for the topic and its leader first.
        self.place = None;
        Err(ReadError::Unavailable { reason })
    }

    /// Decodes beside the event loop what may take long.
    async fn decode(&self, rest: Rest, room: Room) -> Decoded {
        if !rest.is_compressed() {
            return decode(&self.source, rest, room);
        }
        let source = Arc::clone(&self.source);
        let _turn = self.shared.inflating.acquire().await.expect("never closed");
        match tokio::task::spawn_blocking(move || decode(&source, rest, room)).await {
            Ok(decoded) => decoded,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn find(&self) -> Result<Place, ReadError> {
        let TopicPartition { topic, partition } = &*self.source;
        let until = Instant::now() + self.shared.cluster.deadlines().request;
        let place = self.shared.cluster.place(topic, *partition, until).await.map_err(|error| {
            let reason = with_causes(&error);
            match error {
                WireError::NoTopic { .. } | WireError::NoPartition { .. } => ReadError::Missing { reason },
                _ => ReadError::Unavailable { reason },
            }
        })?;
        let (ours, theirs) = (self.id, place.topic_id);
        if ours != theirs && ours != TopicId::default() {
            return Err(ReadError::Missing {
                reason: format!("topic {topic} is another one now: {theirs}, not {ours}"),
            });
        }
        Ok(place)
    }
}

impl PartitionReader for WireReader {
    /// Takes at most `max_wait` and twice the deadline of a request: once to find the leader or to wait for others, and once
    /// for the answer; where the offset is out of range, that deadline once more.
    async fn fetch(&mut self, from: Offset, max_bytes: usize, max_wait: Duration) -> Result<Batch, ReadError> {
        let rest = match self.rest.take().filter(|rest| rest.next == from && !rest.is_empty()) {
            Some(rest) => rest,
            None => match self.ask(from, max_bytes, max_wait).await? {
                Some(fetched) => Rest::new(from, fetched, self.shared.isolation),
                // It has said to wait, and does not say what there is.
                None => return Ok(Batch::nothing(from)),
            },
        };
        let often = (max_bytes * OFTEN).max(LEAST_OFTEN).min(self.shared.max_inflated);
        let mut decoded = self.decode(rest, Room { enough: max_bytes, inflated: often }).await;
        let mut large = None;
        if decoded.obstacle.as_ref().is_some_and(Damage::is_too_large) && often < self.shared.max_inflated {
            large = Some(Arc::clone(&self.shared.large).lock_owned().await);
            let room = Room { enough: 1, inflated: self.shared.max_inflated };
            decoded = self.decode(decoded.rest, room).await;
        }
        let Decoded { mut records, mut rest, obstacle } = decoded;
        match obstacle {
            None => self.damaged = None,
            // What came over the network may be better the next time.
            Some(damage) if !damage.is_old_format() && self.damaged.replace(rest.next) != Some(rest.next) => {
                return Err(ReadError::Damaged { at: rest.next, reason: with_causes(&damage) });
            }
            Some(damage) => records.push(rest.pass(&self.source, damage)?),
        }
        self.mood = match rest.next {
            next if next > from => Mood::Busy,
            next if next < rest.end => Mood::Starved,
            _ => Mood::Quiet,
        };
        let (next, high_watermark, leader_epoch) = (rest.next, rest.end, rest.epoch);
        self.rest = Some(rest);
        Ok(Batch { records, next, high_watermark, leader_epoch, held: large })
    }
}
