//! How a test says what is to go wrong: builders for what `faults` keeps.

use std::{sync::Arc, time::Duration};

use kafka_protocol::{error::ResponseError, messages::ApiKey};

use super::{
    NodeId,
    faults::{Action, FaultId, Filter},
    server::Shared,
};

/// Makes requests go wrong. Of the faults that fit a request the one that was set first is taken, and only that one.
///
/// ```
/// # use longshore::broker::{ApiKey, Broker, Options, ResponseError};
/// # let broker = Broker::start(Options::default()).unwrap();
/// broker.faults().next(ApiKey::Fetch).topic("orders").times(3).error(ResponseError::NotLeaderOrFollower);
/// let gone = broker.faults().every(ApiKey::OffsetCommit).black_hole();
/// gone.clear();
/// ```
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

impl Faults {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// The next request of this kind.
    pub fn next(&self, api: ApiKey) -> FaultBuilder {
        self.builder(Some(api), Some(1))
    }

    /// Every request of this kind, until the fault is cleared.
    pub fn every(&self, api: ApiKey) -> FaultBuilder {
        self.builder(Some(api), None)
    }

    /// Every request of any kind, until the fault is cleared.
    pub fn all(&self) -> FaultBuilder {
        self.builder(None, None)
    }

    /// Clears all faults. What is already under way stays as it is.
    pub fn clear(&self) {
        self.0.lock().faults.clear_all();
    }

    fn builder(&self, api: Option<ApiKey>, times: Option<u32>) -> FaultBuilder {
        FaultBuilder { shared: Arc::clone(&self.0), filter: Filter { api, ..Filter::default() }, times }
    }
}

/// Says which requests are meant, and at last what becomes of them.
#[derive(Debug)]
#[must_use = "a fault is set by saying what goes wrong"]
pub struct FaultBuilder {
    shared: Arc<Shared>,
    filter: Filter,
    times: Option<u32>,
}

impl FaultBuilder {
    /// Only requests that name this topic; an error is for this topic alone.
    pub fn topic(mut self, topic: &str) -> Self {
        self.filter.topic = Some(topic.into());
        self
    }

    /// Only requests that name this partition; an error is for this partition alone.
    pub fn partition(mut self, partition: i32) -> Self {
        self.filter.partition = Some(partition);
        self
    }

    /// Only requests of a client that goes by this name.
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.filter.client_id = Some(client_id.to_owned());
        self
    }

    /// Only requests to this node.
    pub fn node(mut self, node: NodeId) -> Self {
        self.filter.node = Some(node);
        self
    }

    /// So many requests, and no more.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Not carried out, and answered with this error: for every partition, topic, group or key that is meant, or for
    /// the whole request where its answer has no such place.
    pub fn error(self, error: ResponseError) -> Fault {
        self.set(Action::Error(error))
    }

    /// Carried out at once, and answered so much later.
    pub fn delay(self, delay: Duration) -> Fault {
        self.set(Action::Delay(delay))
    }

    /// Carried out, but the connection is closed after so many bytes of the answer (its length, which is 4 bytes,
    /// counts). With 0 the client does not learn that it was carried out.
    pub fn close_after_bytes(self, bytes: usize) -> Fault {
        self.set(Action::CloseAfter(bytes))
    }

    /// Not carried out, and the connection is closed.
    pub fn disconnect(self) -> Fault {
        self.set(Action::Disconnect)
    }

    /// Not carried out and never answered; nor is anything else on this connection, which stays open.
    pub fn black_hole(self) -> Fault {
        self.set(Action::BlackHole)
    }

    fn set(self, action: Action) -> Fault {
        let id = self.shared.lock().faults.arm(self.filter, action, self.times);
        Fault { shared: self.shared, id }
    }
}

/// A fault that was set. It stays when this is dropped.
#[derive(Debug)]
pub struct Fault {
    shared: Arc<Shared>,
    id: FaultId,
}

impl Fault {
    /// Whether it can still happen: it is neither used up nor cleared.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.shared.lock().faults.is_armed(self.id)
    }

    /// Clears it. What is already under way stays as it is.
    pub fn clear(&self) {
        self.shared.lock().faults.clear(self.id);
    }
}
