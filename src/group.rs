//! Membership in the group, driven: what [`Membership`] asks for is asked, and what changes is told to the engine.
//!
//! ```text
//!   Membership ──Request──▶ kafka/wire ──Answer──▶ Membership
//!        │ Change                                              ▲ released, leave
//!        ▼                                                     │
//!      Dealer ──Find──▶ where does each partition begin? ──Deal──▶ ENGINE ──Order──┘
//!        └──────Tell: revoked, lost ─────────────────────────────▶
//! ```
//!
//! It is a task of its own, with connections of its own, so that heartbeats wait for nothing: neither for tasks, nor for
//! commits, nor for finding out where a new partition begins.
//!
//! Deliberately not here: when to ask what (`membership.rs`), what a change means (`group/dealer.rs`), and what becomes of
//! tasks (`scheduler/leaving.rs`).

pub(crate) mod dealer;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use self::dealer::{Dealer, Find, Step, Terms};
use crate::{
    backoff::Backoff,
    config::Config,
    error::RunError,
    kafka::wire::Cluster,
    membership::{
        Lane, Membership, Settings, Ticket, Topics,
        exchange::{Answer, Refusal, Request},
    },
    record::TopicPartition,
    standing::{Era, State},
    startup::{self, Dealt},
};

/// How often topics are looked up, for partitions that were added and topics that match from now on.
const LOOK_UP: Duration = Duration::from_secs(10);
/// How soon to try again when that has failed, or something waits for it.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
/// What an answer that is given at once may take.
const ANSWER: Duration = Duration::from_secs(10);
/// What may take longer than a rebalance: the coordinator waits for the most patient member.
const JOINING: Duration = Duration::from_secs(330);

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Deal {
    /// These are ours from now on.
    Taken(Dealt),
    /// These are to go: what runs of them may take until then.
    Revoked(Vec<TopicPartition>, Instant),
    /// All that was ours is not any more; the era that has begun.
    Lost(Vec<TopicPartition>, Era),
    /// The group is at rest, and nothing is ours.
    Nothing,
    /// It cannot go on.
    Fatal(RunError),
}

/// What the engine tells.
#[derive(Debug)]
pub(crate) enum Order {
    /// These were given up, as was asked.
    Released(Vec<TopicPartition>),
    /// The run is over, and its last commit made.
    Leave,
}

type Said = (Ticket, Result<Answer, Refusal>);
type Dealing = (u64, Result<Dealt, RunError>);

/// See the [module's documentation](self).
pub(crate) struct Steward {
    config: Arc<Config>,
    cluster: Cluster,
    dealer: Dealer,
    standing: watch::Sender<State>,
    deals: mpsc::Sender<Deal>,
    orders: mpsc::Receiver<Order>,
    /// What is under way in each lane.
    talk: Option<BoxFuture<'static, Said>>,
    beat: Option<BoxFuture<'static, Said>>,
    dealt: FuturesUnordered<BoxFuture<'static, Dealing>>,
    looking: Option<BoxFuture<'static, Result<Looked, String>>>,
    next_look: Instant,
}

/// What a look at the topics has shown.
struct Looked {
    topics: Topics,
    /// What is subscribed to, where that is by a pattern.
    matching: Option<BTreeSet<Arc<str>>>,
}

/// What connects a steward with the engine.
pub(crate) struct Link {
    pub(crate) deals: mpsc::Receiver<Deal>,
    pub(crate) orders: mpsc::Sender<Order>,
}

impl Steward {
    /// A steward that is about to join.
    pub(crate) fn new(config: Arc<Config>, cluster: Cluster, standing: watch::Sender<State>) -> (Self, Link) {
        let now = Instant::now();
        let settings = config.membership.settings();
        let Settings { session_timeout, .. } = settings;
        let topics = config.topics.iter().map(|topic| topic.as_str().into()).collect();
        let terms = Terms {
            group: config.group.clone(),
            session_timeout,
            revoke_grace: config.membership.revoke_grace(false),
            eager_grace: config.membership.revoke_grace(true),
        };
        let dealer = Dealer::new(Membership::new(settings, topics, now), terms, now);
        let (deal, deals) = mpsc::channel(64);
        let (order, orders) = mpsc::channel(64);
        let steward = Self {
            config,
            cluster,
            dealer,
            standing,
            deals: deal,
            orders,
            talk: None,
            beat: None,
            dealt: FuturesUnordered::new(),
            looking: None,
            next_look: now,
        };
        (steward, Link { deals, orders: order })
    }

    /// Keeps up the membership, until it is over or the engine is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let now = Instant::now();
            while let Some((ticket, request)) = self.dealer.membership.poll_request(now) {
                self.ask(ticket, request);
            }
            while let Some(step) = self.dealer.poll_step(now) {
                if self.carry_out(step).await.is_err() {
                    return;
                }
            }
            self.tell_standing();
            if self.dealer.membership.is_over() {
                return;
            }
            self.look_up(now);
            if self.wait().await.is_err() {
                return;
            }
        }
    }

    /// Waits for the next thing to happen, and takes it in.
    async fn wait(&mut self) -> Result<(), Gone> {
        let due = self
            .dealer
            .membership
            .poll_timeout()
            .into_iter()
            .chain(self.looking.is_none().then_some(self.next_look))
            .min();
        let timeout = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (ticket, answer) = slot(&mut self.talk) => {
                self.dealer.membership.handle_answer(ticket, answer, Instant::now());
            }
            (ticket, answer) = slot(&mut self.beat) => {
                self.dealer.membership.handle_answer(ticket, answer, Instant::now());
            }
            order = self.orders.recv() => match order {
                Some(Order::Released(partitions)) => self.dealer.released(&partitions, Instant::now()),
                Some(Order::Leave) => self.dealer.leave(Instant::now()),
                // An engine that is gone has said why.
                None => return Err(Gone),
            },
            Some((number, dealt)) = self.dealt.next() => self.dealer.hand_over(number, dealt),
            looked = slot(&mut self.looking) => self.looked(looked),
            () = timeout => {}
        }
        Ok(())
    }

    fn ask(&mut self, ticket: Ticket, request: Request) {
        let (cluster, group) = (self.cluster.clone(), self.config.group.clone());
        let within = match request {
            Request::Join(_) | Request::Sync(_) => JOINING.max(self.config.membership.rebalance_timeout() + ANSWER),
            _ => ANSWER,
        };
        let until = tokio::time::Instant::now() + within;
        let lane = match ticket.lane {
            Lane::Talk => &mut self.talk,
            Lane::Beat => &mut self.beat,
        };
        *lane = Some(async move { (ticket, cluster.group_request(&group, &request, until).await) }.boxed());
    }

    async fn carry_out(&mut self, step: Step) -> Result<(), Gone> {
        match step {
            Step::Find(find) => self.find(find),
            Step::Stand => self.tell_standing(),
            Step::Tell(deal) => {
                if matches!(deal, Deal::Lost(..)) {
                    // Nobody wants to know any more where what is lost begins.
                    self.dealt = FuturesUnordered::new();
                }
                self.tell(deal).await?;
            }
        }
        Ok(())
    }

    /// Finds out where partitions begin, for as long as it takes.
    fn find(&mut self, find: Find) {
        let (config, cluster, standing) = (Arc::clone(&self.config), self.cluster.clone(), self.standing.subscribe());
        self.dealt.push(async move { (find.number, deal_patiently(&config, &cluster, standing, &find).await) }.boxed());
    }

    fn tell_standing(&mut self) {
        let new = self.dealer.state();
        self.standing.send_if_modified(|state| {
            let changed = *state != new;
            *state = new;
            changed
        });
    }

    async fn tell(&mut self, deal: Deal) -> Result<(), Gone> {
        self.deals.send(deal).await.map_err(|_| Gone)
    }

    /// Looks at the topics, if that is due.
    fn look_up(&mut self, now: Instant) {
        if self.looking.is_some() {
            return;
        }
        if self.dealer.membership.wants_topics() {
            self.next_look = self.next_look.min(now + LOOK_UP_AGAIN);
        }
        if now < self.next_look {
            return;
        }
        let (cluster, config) = (self.cluster.clone(), Arc::clone(&self.config));
        let watched = self.dealer.membership.watched();
        self.looking = Some(async move { look(&cluster, &config, watched).await }.boxed());
    }

    fn looked(&mut self, looked: Result<Looked, String>) {
        let now = Instant::now();
        match looked {
            Ok(Looked { topics, matching }) => {
                self.next_look = now + LOOK_UP;
                if let Some(matching) = matching {
                    // A topic that comes later is new as a whole.
                    self.dealer.membership.subscribe(matching, now);
                }
                self.dealer.topics(topics, now);
            }
            Err(error) => {
                self.next_look = now + LOOK_UP_AGAIN;
                tracing::debug!(error, "cannot look the topics up, trying again");
            }
        }
    }
}

/// The engine is gone, or the run is over.
struct Gone;

/// What is in a slot, when it is done; it is empty then.
async fn slot<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let done = future.await;
    *slot = None;
    done
}

async fn look(cluster: &Cluster, config: &Config, watched: BTreeSet<Arc<str>>) -> Result<Looked, String> {
    let known = |partitions: usize| i32::try_from(partitions).unwrap_or(i32::MAX);
    if let Some(pattern) = &config.topic_pattern {
        let all = cluster.all_topics().await.map_err(|error| error.to_string())?;
        let written = [&config.reply_topic, &config.dead_letter_topic];
        let is_ours = |name: &str| written.iter().any(|ours| ours.as_deref() == Some(name));
        let mut matching: BTreeSet<Arc<str>> = config.topics.iter().map(|name| name.as_str().into()).collect();
        let matches = all.iter().filter(|t| !t.is_internal && !is_ours(&t.name) && pattern.is_match(&t.name));
        matching.extend(matches.map(|topic| topic.name.clone()));
        let topics = all.into_iter().map(|topic| (topic.name, (topic.view.id, known(topic.view.partitions.len()))));
        return Ok(Looked { topics: topics.collect(), matching: Some(matching) });
    }
    let names: Vec<_> = watched.iter().map(|name| &**name).collect();
    let views = cluster.topics(&names).await.map_err(|error| error.to_string())?;
    let topics = watched.iter().zip(views).filter_map(|(name, view)| {
        let view = view.ok()??;
        Some((Arc::clone(name), (view.id, known(view.partitions.len()))))
    });
    Ok(Looked { topics: topics.collect(), matching: None })
}

/// Asks as whoever we are at each attempt: the epoch may have moved on meanwhile, and KIP-848 tells nothing to one of before.
async fn deal_patiently(
    config: &Config,
    cluster: &Cluster,
    mut standing: watch::Receiver<State>,
    find: &Find,
) -> Result<Dealt, RunError> {
    let mut backoff = Backoff::new();
    loop {
        let identity = standing.borrow_and_update().identity.clone();
        let Some(identity) = identity else {
            if standing.changed().await.is_err() {
                // The steward is gone, and nobody waits for this.
                std::future::pending::<()>().await;
            }
            continue;
        };
        let reason = match startup::deal(config, cluster, &identity, &find.partitions, &find.added).await {
            Ok(dealt) => return Ok(dealt),
            Err(startup::Trouble::Final(error)) => return Err(error),
            Err(startup::Trouble::Passing(reason)) => reason,
        };
        let (wait, say) = backoff.fail();
        if say {
            tracing::warn!("cannot begin with new partitions, trying again: {reason}");
        }
        tokio::time::sleep(wait).await;
    }
}
