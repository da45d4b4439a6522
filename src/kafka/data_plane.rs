//! The rskafka client that readers share, and what rskafka 0.6 must be kept from doing.
//!
//! * **It hangs.** No request of it ends when a broker stops answering, and its `Client` keeps what it believed then. So
//!   a caller who ran out of time says so (`DataPlane::hung`): the whole `Client` is replaced, and each partition client
//!   for the same broker is made anew before its next use.
//! * **It retries out of sight**, without end. Its backoff is given no time at all, so that each failure is shown at once;
//!   to try again is the business of the loops around readers.
//! * **It creates topics.** Its Metadata requests bring a deleted topic back, and it sends one whenever it connects. So it
//!   connects only here, after [`Cluster::topic`] has shown that the topic is there. (A topic that is deleted between the
//!   two, within a few milliseconds, would still come back.)
//! * **It believes old metadata.** A partition client made from a stale `Client` fails for ever with NOT_LEADER. So a
//!   `Client` that could not make one is replaced.
//!
//! ```text
//!   reader ──────────get──▶ Cluster::topic ──leader──▶ Client (generation n) ──▶ PartitionClient
//!        │                                                   ▲
//!        └── no answer in time ──▶ broker suspected up to n ─┴─ next one is generation n + 1
//! ```

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rskafka::{
    BackoffConfig, BackoffError,
    client::{
        Client, ClientBuilder,
        error::{Error, ProtocolError, RequestError},
        partition::{PartitionClient, UnknownTopicHandling},
    },
};
use tokio::time::timeout;
use tracing::debug;

use super::{
    Deadlines,
    wire::{Cluster, WireError},
    with_causes,
};

/// The largest response that rskafka takes: a fetch's bytes, or one batch, if that is larger.
const MAX_RESPONSE_BYTES: usize = 100 << 20;

/// The rskafka client of a cluster. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct DataPlane {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    state: Mutex<State>,
    /// Held while a `Client` is made, so that a hundred partitions that lost theirs make one, not a hundred.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    /// Of `client`, or of the one before it while there is none.
    generation: u64,
    /// The last generation in which a broker left somebody waiting, by its node id.
    suspected: HashMap<i32, u64>,
}

/// A partition client of rskafka, and where it came from.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) client: PartitionClient,
    node: i32,
    generation: u64,
}

/// Why there is no partition client.
#[derive(Debug)]
pub(super) enum Unleased {
    /// The topic, or the partition, is not there. rskafka was not asked.
    Missing(WireError),
    /// The cluster cannot tell where the partition is.
    Wire(WireError),
    /// rskafka cannot get to it.
    Rskafka(String),
}

impl DataPlane {
    /// The data plane of `cluster`. Does nothing on the network yet.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self { inner: Arc::new(Inner { cluster, state: Mutex::default(), making: tokio::sync::Mutex::default() }) }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.inner.cluster.deadlines()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything could panic.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new client for a partition of a topic that is there. Ends within the deadlines for a call and for two connections.
    pub(super) async fn lease(&self, topic: &str, partition: i32) -> Result<Leased, Unleased> {
        let cluster = self.cluster();
        let owned = topic.to_owned();
        let Some(view) = cluster.topic(topic).await.map_err(Unleased::Wire)? else {
            return Err(Unleased::Missing(WireError::NoTopic { topic: owned, by_hand: cluster.by_hand(topic) }));
        };
        let Some(found) = view.partition(partition) else {
            return Err(Unleased::Missing(WireError::NoPartition { topic: owned, partition }));
        };
        let Some(node) = found.leader else {
            return Err(Unleased::Wire(WireError::NoLeader { topic: owned, partition }));
        };
        let (client, generation) = self.client().await.map_err(Unleased::Rskafka)?;
        let limit = self.deadlines().connect;
        match timeout(limit, client.partition_client(topic, partition, UnknownTopicHandling::Error)).await {
            Ok(Ok(client)) => Ok(Leased { client, node, generation }),
            Ok(Err(error)) => {
                self.retire(generation);
                Err(Unleased::Rskafka(with_causes(&error)))
            }
            Err(_) => {
                self.suspect(node, generation);
                Err(Unleased::Rskafka(format!("broker {node} did not answer within {limit:?}")))
            }
        }
    }

    async fn client(&self) -> Result<(Arc<Client>, u64), String> {
        let current = |state: &State| state.client.clone().map(|client| (client, state.generation));
        if let Some(found) = current(&self.state()) {
            return Ok(found);
        }
        let _making = self.inner.making.lock().await;
        if let Some(found) = current(&self.state()) {
            return Ok(found);
        }
        // The broker that answers wire: rskafka tries those of a list in turn, and may hang at one that is gone.
        let contact = self.cluster().contact().to_string();
        let backoff = BackoffConfig { deadline: Some(Duration::ZERO), ..BackoffConfig::default() };
        let building = ClientBuilder::new(vec![contact.clone()])
            .client_id(self.cluster().client_id())
            .max_message_size(MAX_RESPONSE_BYTES)
            .backoff_config(backoff)
            .build();
        let limit = self.deadlines().connect;
        let client = match timeout(limit, building).await {
            Ok(Ok(client)) => Arc::new(client),
            Ok(Err(error)) => return Err(with_causes(&error)),
            Err(_) => return Err(format!("{contact} did not answer within {limit:?}")),
        };
        let mut state = self.state();
        state.generation += 1;
        state.client = Some(Arc::clone(&client));
        Ok((client, state.generation))
    }

    /// Whether nobody has waited in vain for the same broker since `leased` was made.
    pub(super) fn is_trusted(&self, leased: &Leased) -> bool {
        self.state().suspected.get(&leased.node).is_none_or(|generation| leased.generation > *generation)
    }

    /// Says that `leased` gave no answer in time.
    pub(super) fn hung(&self, leased: &Leased) {
        self.suspect(leased.node, leased.generation);
    }

    fn suspect(&self, node: i32, generation: u64) {
        debug!(node, generation, "no answer in time: the rskafka client is made anew");
        let mut state = self.state();
        let suspected = state.suspected.entry(node).or_default();
        *suspected = generation.max(*suspected);
        drop(state);
        self.retire(generation);
    }

    /// The client of this generation is not to be used for anything new.
    fn retire(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation {
            state.client = None;
        }
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane").field("cluster", &self.inner.cluster).finish_non_exhaustive()
    }
}

/// What a failure of rskafka means to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The broker says no, with this code.
    Answered(ProtocolError, String),
    /// What the broker sent cannot be decoded, and will not be next time.
    Undecodable(String),
    /// Anything else: may pass.
    Other(String),
}

impl Failure {
    pub(super) fn of(error: &Error) -> Self {
        let text = || with_causes(error);
        match error {
            Error::ServerError { protocol_error, error_message, .. } => {
                let said = error_message.as_ref().map_or_else(String::new, |said| format!(" ({said})"));
                Self::Answered(*protocol_error, format!("the broker answers {protocol_error:?}{said}"))
            }
            // The response was read to its end, and the connection goes on: only its content is wrong.
            Error::Request(
                RequestError::ReadVersionedError(_) | RequestError::ReadError(_) | RequestError::TooMuchData { .. },
            ) => Self::Undecodable(text()),
            Error::Request(RequestError::Poisoned(cause)) => Self::of_broken_connection(cause, text()),
            // How it says so has no type of its own: a timestamp that chrono cannot hold.
            Error::InvalidResponse(what) if what.to_ascii_lowercase().contains("timestamp") => {
                Self::Undecodable(text())
            }
            // Without time to retry in, each failure comes wrapped so.
            Error::RetryFailed(BackoffError::DeadlineExceded { source, .. }) => {
                source.downcast_ref::<Error>().map_or_else(|| Self::Other(text()), Self::of)
            }
            _ => Self::Other(text()),
        }
    }

    /// A connection breaks for many reasons that pass, and for one that does not: a response above the size limit.
    fn of_broken_connection(cause: &RequestError, text: String) -> Self {
        match cause {
            RequestError::ReadFramedMessageError(frame) if !frame.to_string().starts_with("Cannot read data") => {
                Self::Undecodable(text)
            }
            RequestError::Poisoned(cause) => Self::of_broken_connection(cause, text),
            _ => Self::Other(text),
        }
    }
}
