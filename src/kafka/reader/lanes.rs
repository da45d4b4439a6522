//! Many partitions on few connections: what wants to be fetched from one broker goes together.
//!
//! ```text
//!   partition 0 ── Want ──▶ ┌─ broker 1 ─────────────────────────────┐
//!   partition 1 ── Want ──▶ │ busy lane: one Fetch, hardly waits     │ ──▶ each its own part of the answer
//!   partition 2 ── Want ──▶ │ quiet lane: one Fetch, waits long      │
//!                           └────────────────────────────────────────┘
//! ```
//!
//! A broker serves one request of a connection at a time, and a Fetch for partitions that hold nothing is kept back for
//! half a second. So that none that holds something waits behind it, there are two lanes, each with a connection of its
//! own: a partition is busy from when it is first asked for until an answer of the busy lane brings nothing; then it is
//! quiet. The quiet lane takes what is busy along, and does not wait long either while it has not found quiet: its wait
//! begins at [`SHORTEST_QUIET`] and doubles with each answer that brings nothing.
//!
//! A broker over whose quota we are answers with nothing at all, and drops what it has read for us (KIP-13). What is more
//! than it grants in its window of time would never come: so after such an answer half as much is asked for, down to
//! [`LEAST_BYTES`], and after one that brings something, twice as much.
//!
//! A lane is a task that lives for as long as something is wanted. Whoever wants something may stop waiting at any time:
//! what comes for it is dropped.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    kafka::{
        Isolation,
        wire::{Cluster, Fetched, Wanted, WireError},
    },
    record::TopicId,
};

/// How long the busy lane waits for something to arrive.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// The least that the quiet lane waits.
const SHORTEST_QUIET: Duration = Duration::from_millis(50);
/// How long the quiet lane lets those come together that it served together last time.
const GATHER: Duration = Duration::from_millis(1);
/// However little a broker grants, so much is asked for. A first batch that is larger comes whole.
const LEAST_BYTES: usize = 1 << 10;
/// The most partitions in one request.
const MAX_WANTED: usize = 1_000;

/// The lanes to all brokers. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where the brokers are is learnt here.
    cluster: Cluster,
    /// One for each lane: a connection per broker.
    clusters: [Cluster; 2],
    isolation: Isolation,
    nodes: Mutex<HashMap<i32, [Lane; 2]>>,
}

const BUSY: usize = 0;
const QUIET: usize = 1;

#[derive(Debug, Default)]
struct Lane {
    running: bool,
    waiting: Vec<Want>,
    /// How many bytes to ask for at the most, since the broker granted nothing.
    granted: Option<usize>,
}

/// Something to be fetched, and who waits for it.
#[derive(Debug)]
struct Want {
    wanted: Wanted,
    max_wait: Duration,
    answer: oneshot::Sender<Answer>,
}

/// Nothing, where the broker grants nothing now.
type Answer = Result<Option<Fetched>, Arc<WireError>>;

/// Whether a partition is likely to hold something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It did when it was last asked for, or nothing is known of it.
    Busy,
    /// It was asked for, and held nothing.
    Quiet,
    /// It holds something, which the answer had no room for: it is asked for first.
    Starved,
}

impl Lanes {
    pub(super) fn new(cluster: &Cluster, isolation: Isolation) -> Self {
        let clusters = [cluster.apart(), cluster.apart()];
        let cluster = cluster.clone();
        Self { inner: Arc::new(Inner { cluster, clusters, isolation, nodes: Mutex::default() }) }
    }

    /// Asks `leader` for what is wanted, together with what others want of it. Ends within `max_wait` and twice the deadline
    /// of a request: once for the answer that is under way, and once for this one.
    pub(super) async fn fetch(&self, leader: i32, wanted: Wanted, max_wait: Duration, mood: Mood) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let want = Want { wanted, max_wait, answer };
        let which = if mood == Mood::Quiet { QUIET } else { BUSY };
        let start = {
            let mut nodes = self.inner.lock();
            let lane = &mut nodes.entry(leader).or_default()[which];
            let place = if mood == Mood::Starved { 0 } else { lane.waiting.len() };
            lane.waiting.insert(place, want);
            !std::mem::replace(&mut lane.running, true)
        };
        if start {
            let run = Run { inner: Arc::clone(&self.inner), leader, which };
            tokio::spawn(run.run());
        }
        // Without an answer the lane has come to grief; the next want starts another.
        answered.await.ok()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, [Lane; 2]>> {
        // Each change is complete before anything could panic.
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes together in one request.
#[derive(Default)]
struct Fit {
    partitions: HashSet<(Arc<str>, i32)>,
    ids: HashMap<Arc<str>, TopicId>,
}

impl Fit {
    fn takes(&mut self, wanted: &Wanted) -> bool {
        let Wanted { topic, topic_id, partition, .. } = wanted;
        self.partitions.len() < MAX_WANTED
            && self.ids.entry(Arc::clone(topic)).or_insert(*topic_id) == topic_id
            && self.partitions.insert((Arc::clone(topic), *partition))
    }
}

/// A lane at work.
struct Run {
    inner: Arc<Inner>,
    leader: i32,
    which: usize,
}

impl Drop for Run {
    /// A lane that panicked does not keep others waiting: their wants are dropped, and another may start.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(lanes) = self.inner.lock().get_mut(&self.leader)
        {
            lanes[self.which] = Lane::default();
        }
    }
}

impl Run {
    async fn run(self) {
        let mut quiet_wait = SHORTEST_QUIET;
        loop {
            let wants = self.take();
            let Some(longest) = wants.iter().map(|want| want.max_wait).min() else { return };
            let wait = if self.which == BUSY { BUSY_WAIT } else { quiet_wait }.min(longest);
            let found = self.serve(wants, wait).await;
            if self.which == QUIET {
                quiet_wait = if found { SHORTEST_QUIET } else { (quiet_wait * 2).min(longest.max(SHORTEST_QUIET)) };
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// What is wanted now: each partition once, and of each topic one id. Nothing means that the lane is at its end.
    fn take(&self) -> Vec<Want> {
        let mut nodes = self.inner.lock();
        let Some(lanes) = nodes.get_mut(&self.leader) else { return Vec::new() };
        let mut taken: Vec<Want> = Vec::new();
        let mut fit = Fit::default();
        let taking: &[usize] = if self.which == BUSY { &[BUSY] } else { &[QUIET, BUSY] };
        for which in taking {
            let waiting = &mut lanes[*which].waiting;
            waiting.retain(|want| !want.answer.is_closed());
            let mut left = Vec::new();
            for want in waiting.drain(..) {
                if fit.takes(&want.wanted) { taken.push(want) } else { left.push(want) }
            }
            *waiting = left;
        }
        if taken.is_empty() {
            lanes[self.which].running = false;
        }
        taken
    }

    /// What the broker grants, which is kept beyond the lane's end: a lane of one partition ends with each answer.
    fn grant(&self, next: impl FnOnce(Option<usize>) -> Option<usize>) {
        if let Some(lanes) = self.inner.lock().get_mut(&self.leader) {
            let granted = &mut lanes[self.which].granted;
            *granted = next(*granted);
        }
    }

    /// Asks for as much as is granted altogether, and gives each its part. Says whether there was anything.
    async fn serve(&self, wants: Vec<Want>, wait: Duration) -> bool {
        let Inner { clusters, isolation, .. } = &*self.inner;
        let cluster = &clusters[self.which];
        cluster.learn_from(&self.inner.cluster);
        let granted = self.inner.lock().get(&self.leader).and_then(|lanes| lanes[self.which].granted);
        let each = granted.map_or(usize::MAX, |granted| (granted / wants.len()).max(1));
        let asked = |Want { wanted, answer, .. }| (Wanted { max_bytes: wanted.max_bytes.min(each), ..wanted }, answer);
        let (wanted, wants): (Vec<_>, Vec<_>) = wants.into_iter().map(asked).unzip();
        let until = Instant::now() + wait + cluster.deadlines().request;
        match cluster.fetch(self.leader, &wanted, *isolation, wait, until).await {
            Ok(None) => {
                let half = wanted.iter().map(|wanted| wanted.max_bytes).sum::<usize>() / 2;
                self.grant(|_| Some(half.max(LEAST_BYTES)));
                for answer in wants {
                    let _ = answer.send(Ok(None));
                }
                false
            }
            Ok(Some(fetched)) => {
                self.grant(|granted| granted.and_then(|granted| granted.checked_mul(2)));
                let mut found = false;
                for (answer, fetched) in wants.into_iter().zip(fetched) {
                    if let Some(fetched) = fetched {
                        found |= !fetched.batches.is_empty();
                        // Whoever stopped waiting wants nothing any more.
                        let _ = answer.send(Ok(Some(fetched)));
                    }
                }
                found
            }
            Err(error) => {
                let error = Arc::new(error);
                for answer in wants {
                    let _ = answer.send(Err(Arc::clone(&error)));
                }
                false
            }
        }
    }
}
