//! Writing: answers and dead letters, each acknowledged.
//!
//! ```text
//!   engine ──push, flush──▶ partition 0: collect ─▶ batch ─▶ write ─▶ Written ──▶ engine
//!              by key  └──▶ partition 1: …           ▲         │ not acknowledged
//!                                                    └─────────┘ backoff, for as long as it takes
//! ```
//!
//! One loop per partition of the topic, one batch under way in each; what arrives meanwhile makes the next batch. A batch
//! that is not acknowledged is written again, for as long as it takes (`kafka/writer.rs` says how the broker then knows it
//! again). It is never given up: the message stays unfinished, and an alarm (`sink/alarm.rs`) rings, in the log now and
//! then and in the summary at the end.
//!
//! Deliberately not here: what is written (`fate.rs`), and how ([`PartitionWriter`]).

mod alarm;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};

use self::alarm::Alarm;
pub use self::alarm::Unwritten;

use crate::{
    backoff::Backoff,
    event::Event,
    record::Outgoing,
    scheduler::{Ticket, Write, Written},
    standing::{Era, May, Standing},
    watched,
};

/// The most bytes of a batch: Kafka's default `max.message.bytes` is 1,048,588, and it counts what goes around a record.
const MAX_BATCH_BYTES: usize = 900_000;
/// The most records of a batch.
const MAX_BATCH_RECORDS: usize = 10_000;
/// A write that takes longer than this is told of, although it has not failed.
const SLOW: Duration = Duration::from_secs(5);

/// Why a write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The broker will never take this: the record or the batch is too large (MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE).
    #[error("too large for the broker: {reason}")]
    TooLarge {
        /// What the broker said.
        reason: String,
    },
    /// The topic is not there, or we may not write to it. Somebody has to do something; until then we wait.
    #[error("refused: {reason}")]
    Refused {
        /// What the broker said, and what to do about it.
        reason: String,
    },
    /// Not acknowledged, for a reason that may pass. The records may have been written all the same.
    #[error("{reason}")]
    Unavailable {
        /// What happened, for people.
        reason: String,
    },
}

/// Something that can write to one partition. Batching, retries and patience are the loop's, not its.
pub trait PartitionWriter: Send + 'static {
    /// Writes `records` as one batch, in this order. `Ok` says that every in-sync replica has them all (`acks=all`).
    /// Never takes longer than the writer's own deadline, whatever the broker does, and before it what a broker that
    /// throttles us asks to wait. After an error other than
    /// [`TooLarge`](WriteError::TooLarge), the same records have to be written before any others, so that a writer can
    /// see to it that they are not there twice.
    fn write(&mut self, records: &[Outgoing]) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// What could not be written is given up: other records may follow.
    fn give_up(&mut self);
}

/// What goes to one partition: tickets, and beside each the record that it is for.
#[derive(Default)]
struct Parcel {
    /// When it set out.
    era: Era,
    tickets: Vec<Ticket>,
    records: Vec<Outgoing>,
}

/// One topic that is written to: the engine's end of it. Dropping it ends the loops.
pub(crate) struct Sink {
    partitions: Vec<mpsc::Sender<Parcel>>,
    collected: Vec<Parcel>,
    partition_of: fn(&[u8], i32) -> i32,
    count: i32,
    /// Where records without a key go, for now.
    keyless: i32,
    alarm: Arc<Alarm>,
    loops: JoinSet<()>,
}

impl Sink {
    /// Starts a loop per partition, each with a writer of its own. At most `max_in_flight` records are pushed and not
    /// told of at any time.
    pub(crate) fn start<W: PartitionWriter>(
        topic: &Arc<str>,
        partitions: i32,
        (max_in_flight, standing): (usize, &Standing),
        partition_of: fn(&[u8], i32) -> i32,
        mut writer: impl FnMut(i32) -> W,
        written: &mpsc::Sender<Vec<Written>>,
        listeners: &broadcast::Sender<Event>,
    ) -> Self {
        let mut loops = JoinSet::new();
        let count = partitions;
        let alarm = Arc::new(Alarm::new(topic, listeners.clone()));
        let partitions: Vec<_> = (0..count)
            .map(|partition| {
                let (sender, incoming) = mpsc::channel(max_in_flight);
                let (writer, written, alarm) = (writer(partition), written.clone(), Arc::clone(&alarm));
                let standing = standing.clone();
                loops.spawn(WriteLoop { partition, writer, incoming, written, alarm, standing }.run());
                sender
            })
            .collect();
        let collected = partitions.iter().map(|_| Parcel::default()).collect();
        Self { partitions, collected, partition_of, count, keyless: 0, alarm, loops }
    }

    /// Takes a record on, to be sent with the next [`flush`](Self::flush).
    pub(crate) fn push(&mut self, write: Write) {
        let partition = match &write.record.key {
            Some(key) => (self.partition_of)(key, self.count),
            None => self.keyless,
        };
        let parcel = &mut self.collected[partition as usize];
        parcel.tickets.push(write.ticket);
        parcel.records.push(write.record);
    }

    /// Sends what was pushed on its way, in this era.
    pub(crate) fn flush(&mut self, era: Era) {
        for (parcel, partition) in self.collected.iter_mut().zip(&self.partitions) {
            if !parcel.tickets.is_empty() {
                parcel.era = era;
                // There is room: each parcel holds a record at least, and the records in flight are bounded. A loop ends
                // only with its sink, or by a fault that `lost` tells of.
                let _ = partition.try_send(std::mem::take(parcel));
            }
        }
        self.keyless = (self.keyless + 1) % self.count;
    }

    /// What cannot be written now.
    pub(crate) fn unwritten(&self) -> Vec<Unwritten> {
        self.alarm.unwritten()
    }

    /// Waits until a loop is lost to a panic.
    pub(crate) async fn lost(&mut self) {
        watched::lost(&mut self.loops).await;
    }
}

struct WriteLoop<W> {
    partition: i32,
    writer: W,
    incoming: mpsc::Receiver<Parcel>,
    written: mpsc::Sender<Vec<Written>>,
    alarm: Arc<Alarm>,
    standing: Standing,
}

impl<W: PartitionWriter> WriteLoop<W> {
    async fn run(mut self) {
        let mut parcels = Vec::new();
        while self.incoming.recv_many(&mut parcels, MAX_BATCH_RECORDS).await > 0 {
            let mut batch = Parcel::default();
            let mut bytes = 0;
            let all = parcels.drain(..).flat_map(|p| p.tickets.into_iter().zip(p.records).map(move |it| (p.era, it)));
            for (era, (ticket, record)) in all {
                let size = record.size();
                let full = bytes + size > MAX_BATCH_BYTES || batch.tickets.len() >= MAX_BATCH_RECORDS;
                if full || (era != batch.era && !batch.tickets.is_empty()) {
                    self.write(std::mem::take(&mut batch)).await;
                    bytes = 0;
                }
                (batch.era, bytes) = (era, bytes + size);
                batch.tickets.push(ticket);
                batch.records.push(record);
            }
            self.write(batch).await;
        }
    }

    /// Writes a batch for as long as it takes, and tells the engine.
    async fn write(&mut self, batch: Parcel) {
        // What is too large as a batch is tried in halves, down to the record that is to blame.
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let written = match self.write_part(part.era, &part.records).await {
                Fit::Fits => part.tickets.into_iter().map(Written::Acknowledged).collect(),
                Fit::Lost => part.tickets.into_iter().map(Written::Void).collect(),
                Fit::TooLarge if part.tickets.len() > 1 => {
                    let half = part.tickets.len() / 2;
                    let (tickets, records) = (part.tickets.split_off(half), part.records.split_off(half));
                    let second = Parcel { era: part.era, tickets, records };
                    parts.extend([second, part]);
                    continue;
                }
                Fit::TooLarge => {
                    part.tickets.into_iter().zip(part.records).map(|(t, r)| Written::TooLarge(t, r)).collect()
                }
            };
            // An engine that is gone needs no news.
            let _ = self.written.send(written).await;
        }
    }

    /// Tries until it is known whether the records fit, or they are not ours to send any more.
    async fn write_part(&mut self, era: Era, records: &[Outgoing]) -> Fit {
        let begun = Instant::now();
        let mut backoff = Backoff::new();
        let mut reason = "no acknowledgement yet".to_owned();
        let fit = loop {
            match self.standing.may(era) {
                May::Send => {}
                May::Never => {
                    self.writer.give_up();
                    break Fit::Lost;
                }
                May::Wait => {
                    self.standing.changed().await;
                    continue;
                }
            }
            let error = match self.attempt((era, records), begun, &reason).await {
                Some(Ok(())) => break Fit::Fits,
                Some(Err(WriteError::TooLarge { .. })) => break Fit::TooLarge,
                Some(Err(error)) => error,
                None => continue,
            };
            reason = error.to_string();
            self.alarm.waits(self.partition, records.len(), begun, &reason);
            let (wait, _) = backoff.fail();
            tokio::time::sleep(wait).await;
        };
        self.alarm.done(self.partition);
        fit
    }

    /// Tries once, and has the alarm ring meanwhile if it takes long. Nothing, if the records may not be sent any more: they
    /// may have been, or not. That is looked at before each step, since to find the broker and to connect may take a while.
    async fn attempt(
        &mut self,
        (era, records): (Era, &[Outgoing]),
        begun: Instant,
        reason: &str,
    ) -> Option<Result<(), WriteError>> {
        let Self { writer, standing, alarm, partition, .. } = self;
        let (mut over, mut attempt) = (pin!(standing.over(era)), pin!(writer.write(records)));
        loop {
            tokio::select! {
                biased;
                () = &mut over => return None,
                outcome = &mut attempt => return Some(outcome),
                () = tokio::time::sleep(SLOW) => alarm.waits(*partition, records.len(), begun, reason),
            }
        }
    }
}

enum Fit {
    Fits,
    TooLarge,
    Lost,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::Notify;

    use super::*;
    use crate::{record::Headers, standing::State};

    /// Sends once it has found its broker.
    struct Slow {
        found: Arc<Notify>,
        sent: Arc<AtomicUsize>,
        given_up: bool,
    }

    impl PartitionWriter for Slow {
        async fn write(&mut self, records: &[Outgoing]) -> Result<(), WriteError> {
            self.found.notified().await;
            self.sent.fetch_add(records.len(), Relaxed);
            Ok(())
        }

        fn give_up(&mut self) {
            self.given_up = true;
        }
    }

    #[tokio::test]
    async fn what_is_lost_while_a_broker_is_looked_for_is_not_sent() {
        for lost in [true, false] {
            let (tell, standing) = Standing::told(State { era: 0, identity: None, good_until: None });
            let (found, sent) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
            let writer = Slow { found: Arc::clone(&found), sent: Arc::clone(&sent), given_up: false };
            let alarm = Arc::new(Alarm::new(&Arc::from("out"), broadcast::channel(1).0));
            let (incoming, written) = (mpsc::channel(1).1, mpsc::channel(1).0);
            let mut writes = WriteLoop { partition: 0, writer, incoming, written, alarm, standing };
            let records = [Outgoing { key: None, value: None, headers: Headers::default() }];
            let meanwhile = async {
                tokio::task::yield_now().await;
                if lost {
                    tell.send_modify(|state| state.era = 1);
                }
                found.notify_one();
            };
            let (fit, ()) = tokio::join!(writes.write_part(0, &records), meanwhile);
            assert_eq!(matches!(fit, Fit::Lost), lost);
            assert_eq!((sent.load(Relaxed), writes.writer.given_up), (usize::from(!lost), lost));
        }
    }
}
