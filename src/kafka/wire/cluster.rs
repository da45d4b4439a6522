//! Whom to ask, and again when that may help.
//!
//! A call of the public API is a series of attempts, until one succeeds, one fails for good, or the call's deadline is
//! near. Each attempt finds its broker anew: any (another one after each failure), a partition's leader by fresh
//! Metadata, or a group's coordinator (`coordinator.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::{
    messages::{MetadataRequest, MetadataResponse},
    protocol::{Request, StrBytes},
};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use super::{
    ErrorCode, HostPort, RequestName, Security, WireError,
    connection::{self, Connection, Kind, Write, writing},
    coordinator::Lanes,
    throttle::Throttled,
};
use crate::kafka::Deadlines;

/// The pause after the first failed attempt, and the longest one. They double in between, less a random part.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A throttle time of at least this is told of, and no more often than every [`THROTTLE_SAY_EVERY`].
const THROTTLE_SAY: Duration = Duration::from_secs(1);
const THROTTLE_SAY_EVERY: Duration = Duration::from_secs(30);

/// A cluster, as seen from its bootstrap brokers. Cheap to clone; clones share their connections.
///
/// To make one does nothing on the network: whatever is wrong shows at the first call.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    bootstrap: Vec<HostPort>,
    client_id: StrBytes,
    deadlines: Deadlines,
    security: Security,
    /// What was learnt. A plain mutex: it is never held across an await.
    known: Mutex<Known>,
    /// For members of groups, made when one speaks.
    lanes: OnceLock<Lanes>,
}

#[derive(Default)]
pub(super) struct Known {
    /// Where each broker listens, by the latest answer that lists them all, or that names one.
    nodes: BTreeMap<i32, HostPort>,
    /// One connection per broker, made at its first use. A call takes the connection out for as long as it lasts, so that
    /// one that fails, or is dropped, leaves none behind.
    connections: HashMap<Peer, Arc<tokio::sync::Mutex<Option<Connection>>>>,
    /// The node that coordinates each group.
    pub(super) coordinators: HashMap<String, i32>,
    /// Until when a broker asks to be left alone.
    muted: HashMap<Peer, Instant>,
    throttle_said: Option<Instant>,
    /// Which of the candidates to ask where any broker will do: moves on when one fails.
    turn: usize,
}

/// Someone to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// One of the bootstrap list, by its place there.
    Bootstrap(usize),
    /// A broker, by its node id.
    Node(i32),
}

impl Cluster {
    /// The cluster that the brokers of `bootstrap` belong to. Brokers see us as `client_id`.
    ///
    /// # Panics
    /// If `bootstrap` is empty.
    #[must_use]
    pub fn new(bootstrap: Vec<HostPort>, client_id: &str, deadlines: Deadlines) -> Self {
        assert!(!bootstrap.is_empty(), "a cluster needs a bootstrap broker");
        let client_id = StrBytes::from_string(client_id.to_owned());
        Self::of(bootstrap, client_id, deadlines, Security::default())
    }

    fn of(bootstrap: Vec<HostPort>, client_id: StrBytes, deadlines: Deadlines, security: Security) -> Self {
        let (known, lanes) = (Mutex::default(), OnceLock::new());
        Self { inner: Arc::new(Inner { bootstrap, client_id, deadlines, security, known, lanes }) }
    }

    /// The same cluster, spoken to in this way, with connections of its own.
    #[must_use]
    pub fn with_security(&self, security: Security) -> Self {
        let Inner { bootstrap, client_id, deadlines, .. } = &*self.inner;
        Self::of(bootstrap.clone(), client_id.clone(), *deadlines, security)
    }

    /// The same cluster with connections of its own. It begins with what is known of where the brokers are.
    #[must_use]
    pub fn apart(&self) -> Self {
        let apart = self.with_security(self.inner.security.clone());
        apart.learn_from(self);
        apart.known().turn = self.known().turn;
        apart
    }

    /// The connections that members of groups speak over.
    pub(super) fn lanes(&self) -> &Lanes {
        self.inner.lanes.get_or_init(|| Lanes { waits: self.apart(), beats: self.apart() })
    }

    /// Whether it is spoken to over plain TCP: neither TLS nor SASL. Then rskafka can speak to it, too.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.inner.security.is_plain()
    }

    /// Takes over where each broker listens from one that has learnt it.
    pub(in crate::kafka) fn learn_from(&self, other: &Self) {
        let nodes = other.known().nodes.clone();
        self.known().nodes = nodes;
    }

    /// The deadlines that its calls keep.
    #[must_use]
    pub fn deadlines(&self) -> Deadlines {
        self.inner.deadlines
    }

    /// The bootstrap brokers, as they were named.
    #[must_use]
    pub fn bootstrap(&self) -> &[HostPort] {
        &self.inner.bootstrap
    }

    pub(in crate::kafka) fn client_id(&self) -> &str {
        &self.inner.client_id
    }

    /// The broker that would be asked next where any will do: the one that answered last, in a quiet cluster.
    pub(in crate::kafka) fn contact(&self) -> HostPort {
        let known = self.known();
        self.address(&known, candidate(&known, &self.inner.bootstrap))
            .expect("a candidate is a bootstrap broker or a known node")
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // Its updates are single inserts: a panic in between leaves nothing half done.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, known: &Known, peer: Peer) -> Option<HostPort> {
        match peer {
            Peer::Bootstrap(place) => self.inner.bootstrap.get(place).cloned(),
            Peer::Node(node) => known.nodes.get(&node).cloned(),
        }
    }

    /// Attempts `attempt` until it succeeds, fails for good, or the call's deadline is near. It gets the instant by which
    /// it has to be done.
    pub(super) async fn retrying<T, F, Fut>(&self, mut attempt: F) -> Result<T, WireError>
    where
        F: FnMut(Instant) -> Fut,
        Fut: Future<Output = Result<T, WireError>>,
    {
        let deadline = Instant::now() + self.inner.deadlines.request;
        let mut ceiling = FIRST_PAUSE;
        loop {
            let until = deadline.min(Instant::now() + self.inner.deadlines.request / 2);
            let error = match attempt(until).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let pause = jittered(ceiling);
            ceiling = LONGEST_PAUSE.min(ceiling * 2);
            if !error.may_pass() || Instant::now() + pause >= deadline {
                return Err(error);
            }
            debug!(%error, ?pause, "will try again");
            sleep(pause).await;
        }
    }

    /// Asks `peer` once. If it has asked to be left alone, waits for that first, and has as much time after it as before.
    pub(super) async fn ask<R: Request<Response: Throttled>>(
        &self,
        peer: Peer,
        until: Instant,
        least: i16,
        build: impl FnOnce(i16) -> R + Send,
    ) -> Result<Answer<R::Response>, WireError> {
        let answer = self.ask_raw(peer, until, (Kind::of::<R>(), least), &mut writing(build)).await?;
        let answer = answer.read(connection::read::<R>)?;
        self.heed(peer, &answer);
        Ok(answer)
    }

    /// Asks `peer` once, for an answer that is still to be read. No version below `least` will do.
    pub(super) async fn ask_raw(
        &self,
        peer: Peer,
        until: Instant,
        (kind, least): (Kind, i16),
        write: Write<'_>,
    ) -> Result<Answer<(i16, Bytes)>, WireError> {
        let until = self.leave_alone(peer, until).await;
        let (address, slot) = {
            let mut known = self.known();
            let Some(address) = self.address(&known, peer) else {
                let source = std::io::Error::new(std::io::ErrorKind::NotFound, "the cluster does not list it");
                return Err(WireError::Connect { broker: format!("{peer:?}"), source });
            };
            (address, Arc::clone(known.connections.entry(peer).or_default()))
        };
        let request = kind.name;
        let started = Instant::now();
        let timed_out =
            || WireError::TimedOut { broker: address.to_string(), request, after: to_ms(started.elapsed()) };

        let mut slot = timeout_at(until, slot.lock()).await.map_err(|_| timed_out())?;
        let kept = slot.take().filter(|connection| connection.address == address);
        let mut connection = match kept.and_then(Connection::if_open) {
            Some(connection) => connection,
            None => {
                let until = until.min(started + self.inner.deadlines.connect);
                Connection::open(&address, &self.inner.client_id, &self.inner.security, until).await?
            }
        };
        let outcome =
            timeout_at(until, connection.call_raw(kind, least, write)).await.unwrap_or_else(|_| Err(timed_out()));
        let response = match outcome {
            Ok(response) => response,
            Err(error) => return Err(connection.first_failed(error, &self.inner.security, until).await),
        };
        *slot = Some(connection);
        Ok(Answer { broker: address.to_string(), request, response })
    }

    /// Waits for as long as `peer` wants to be left alone, and moves a deadline by that. Nothing is held meanwhile.
    async fn leave_alone(&self, peer: Peer, until: Instant) -> Instant {
        let now = Instant::now();
        let muted = self.known().muted.get(&peer).copied().filter(|muted| *muted > now);
        let Some(muted) = muted else { return until };
        tokio::time::sleep_until(muted).await;
        until + (muted - now)
    }

    /// Leaves the broker alone from now on, if its answer says so.
    pub(super) fn heed(&self, peer: Peer, answer: &Answer<impl Throttled>) {
        let Some(throttle) = answer.response.throttle() else { return };
        let Answer { broker, request, .. } = answer;
        let now = Instant::now();
        let mut known = self.known();
        known.muted.insert(peer, now + throttle);
        let quiet = known.throttle_said.is_some_and(|at| now.duration_since(at) < THROTTLE_SAY_EVERY);
        if throttle >= THROTTLE_SAY && !quiet {
            known.throttle_said = Some(now);
            drop(known);
            info!(%broker, %request, ?throttle, "over the broker's quota: waiting for as long as it asks");
        }
    }

    /// Asks any broker once, and another one next time if this one fails.
    pub(super) async fn ask_any<R: Request<Response: Throttled>>(
        &self,
        until: Instant,
        least: i16,
        build: impl FnOnce(i16) -> R + Send,
    ) -> Result<Answer<R::Response>, WireError> {
        let (peer, turn) = {
            let known = self.known();
            (candidate(&known, &self.inner.bootstrap), known.turn)
        };
        let answer = self.ask(peer, until, least, build).await;
        if answer.is_err() {
            let mut known = self.known();
            if known.turn == turn {
                known.turn += 1;
            }
        }
        answer
    }

    /// Asks any broker for Metadata of these topics, or of all, and learns where the brokers are.
    ///
    /// Version 4 is the first in which one can say not to create the topics.
    pub(super) async fn metadata(
        &self,
        topics: Option<&[&str]>,
        until: Instant,
    ) -> Result<Answer<MetadataResponse>, WireError> {
        use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
        let build = |_| {
            let named = |name: &&str| {
                let name = StrBytes::from_string((*name).to_owned());
                MetadataRequestTopic::default().with_name(Some(name.into()))
            };
            let topics = topics.map(|topics| topics.iter().map(named).collect());
            MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false)
        };
        let answer = self.ask_any::<MetadataRequest>(until, 4, build).await?;
        answer.check(answer.response.error_code, || "the cluster".to_owned())?;
        let mut known = self.known();
        for broker in &answer.response.brokers {
            learn(&mut known, broker.node_id.0, &broker.host, broker.port);
        }
        if !answer.response.brokers.is_empty() {
            // Those that are not listed are gone, or about to move; then they will be listed again.
            let listed = |node: &i32| answer.response.brokers.iter().any(|broker| broker.node_id.0 == *node);
            known.nodes.retain(|node, _| listed(node));
        }
        let Known { nodes, connections, muted, .. } = &mut *known;
        let is_there = |peer: &Peer| !matches!(peer, Peer::Node(node) if !nodes.contains_key(node));
        connections.retain(|peer, _| is_there(peer));
        muted.retain(|peer, _| is_there(peer));
        drop(known);
        Ok(answer)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("bootstrap", &self.inner.bootstrap).finish_non_exhaustive()
    }
}

/// A response, and who gave it to what.
pub(super) struct Answer<T> {
    pub(super) broker: String,
    pub(super) request: RequestName,
    pub(super) response: T,
}

impl Answer<(i16, Bytes)> {
    /// Makes of it what it says.
    pub(super) fn read<T, E: ToString>(
        self,
        read: impl FnOnce(i16, Bytes) -> Result<T, E>,
    ) -> Result<Answer<T>, WireError> {
        let Self { broker, request, response: (version, body) } = self;
        match read(version, body) {
            Ok(response) => Ok(Answer { broker, request, response }),
            Err(reason) => Err(WireError::Garbled { broker, request, reason: reason.to_string() }),
        }
    }
}

impl<T> Answer<T> {
    /// An error that names broker, request and `subject`, unless `code` is 0.
    pub(super) fn check(&self, code: i16, subject: impl FnOnce() -> String) -> Result<(), WireError> {
        self.check_saying(code, None, subject)
    }

    /// The same, with the broker's own words.
    pub(super) fn check_saying(
        &self,
        code: i16,
        message: Option<&StrBytes>,
        subject: impl FnOnce() -> String,
    ) -> Result<(), WireError> {
        ErrorCode::check(code).map_err(|code| WireError::Answered {
            broker: self.broker.clone(),
            request: self.request,
            subject: subject(),
            code,
            message: message.filter(|text| !text.is_empty()).map(ToString::to_string),
        })
    }

    /// An error that says that the response lacks what it must have.
    pub(super) fn lacks(&self, what: impl fmt::Display) -> WireError {
        WireError::Garbled {
            broker: self.broker.clone(),
            request: self.request,
            reason: format!("the response lacks {what}"),
        }
    }
}

/// Brokers that we know first, then the bootstrap list: it is still good when the whole cluster has moved.
fn candidate(known: &Known, bootstrap: &[HostPort]) -> Peer {
    let turn = known.turn % (known.nodes.len() + bootstrap.len());
    match known.nodes.keys().nth(turn) {
        Some(node) => Peer::Node(*node),
        None => Peer::Bootstrap(turn - known.nodes.len()),
    }
}

pub(super) fn learn(known: &mut Known, node: i32, host: &str, port: i32) {
    if let Ok(port) = u16::try_from(port) {
        if known.nodes.is_empty() {
            // The turn so far was among the bootstrap list. One that is named by another is up.
            known.turn = 0;
        }
        known.nodes.insert(node, HostPort { host: host.to_owned(), port });
    }
}

/// Nobody wants to read nanoseconds.
pub(super) fn to_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Between half of `ceiling` and all of it, so that many that failed together do not try again together.
fn jittered(ceiling: Duration) -> Duration {
    ceiling / 2 + ceiling.mul_f64(fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_over_the_upper_half() {
        let pauses: Vec<_> = (0..200).map(|_| jittered(LONGEST_PAUSE)).collect();
        assert!(pauses.iter().all(|p| (LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(p)));
        assert!(pauses.iter().max() > pauses.iter().min());
    }

    #[test]
    fn known_brokers_come_before_the_bootstrap_list_and_all_get_their_turn() {
        let bootstrap: Vec<HostPort> = vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()];
        let mut known = Known::default();
        assert_eq!(candidate(&known, &bootstrap), Peer::Bootstrap(0));
        learn(&mut known, 7, "c", 3);
        let turns = (0..4).map(|turn| {
            known.turn = turn;
            candidate(&known, &bootstrap)
        });
        assert_eq!(turns.collect::<Vec<_>>(), [Peer::Node(7), Peer::Bootstrap(0), Peer::Bootstrap(1), Peer::Node(7)]);
    }
}
