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

mod idle;
mod look;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use self::{
    dealer::{Dealer, Find, Step, Terms},
    idle::Idle,
    look::{Looked, look},
};
use crate::{
    backoff::Backoff,
    config::Config,
    error::RunError,
    gather::Gather,
    kafka::wire::Cluster,
    membership::{
        JOINING as JOINS, Lane, Membership, News, Settings, Ticket,
        exchange::{Answer, Refusal, Request},
    },
    record::TopicPartition,
    standing::{Era, State},
    startup::{self, Dealt},
};

/// How often topics are looked up, for partitions that were added and topics that match from now on.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How soon to try again when that has failed, or something waits for it.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
/// What an answer that is given at once may take.
const ANSWER: Duration = Duration::from_secs(10);
/// What may take longer than a rebalance: the coordinator waits for the most patient member.
const JOINING: Duration = Duration::from_secs(330);
/// How long a rebalance may take before it is said what it may wait for; and after how much longer each time again.
const LONG: Duration = Duration::from_secs(5);
const LONGER: Duration = Duration::from_secs(30);

/// What the engine is told.
#[derive(Debug)]
pub(crate) enum Deal {
    /// These are ours from now on.
    Taken(Dealt),
    /// These are to go: what runs of them may take until then.
    Revoked(Vec<TopicPartition>, Instant),
    /// All that was ours is not any more; the era that has begun.
    Lost(Vec<TopicPartition>, Era),
    /// Nothing is ours, and all that was there is worked off.
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
    /// Since when no topic matches the pattern that we subscribe by.
    unmatched_since: Option<Instant>,
    /// What is being found out while nothing is ours, and what was last said of it.
    idle: Option<BoxFuture<'static, Idle>>,
    idle_because: String,
    /// Since when a rebalance is under way, and when it is said that it still is.
    rebalance: Option<(Instant, Instant)>,
    trouble: Backoff,
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
        let topics = config.topics.iter().map(|topic| topic.as_str().into()).gather();
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
            unmatched_since: None,
            idle: None,
            idle_because: String::new(),
            rebalance: None,
            trouble: Backoff::new(),
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
            self.tell_waiting(now);
            if self.wait().await.is_err() {
                return;
            }
        }
    }

    /// Waits for the next thing to happen, and takes it in.
    async fn wait(&mut self) -> Result<(), Gone> {
        let look = self.looking.is_none().then_some(self.next_look);
        let say = self.rebalance.filter(|_| self.unmatched_since.is_none()).map(|(_, say_at)| say_at);
        let due = self.dealer.membership.poll_timeout().into_iter().chain(look).chain(say).min();
        let timeout = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            said = slot(&mut self.talk) => self.answered(said),
            said = slot(&mut self.beat) => self.answered(said),
            order = self.orders.recv() => match order {
                Some(Order::Released(partitions)) => self.dealer.released(&partitions, Instant::now()),
                Some(Order::Leave) => self.dealer.leave(Instant::now()),
                // An engine that is gone has said why.
                None => return Err(Gone),
            },
            Some((number, dealt)) = self.dealt.next() => self.dealer.hand_over(number, dealt),
            looked = slot(&mut self.looking) => self.looked(looked).await?,
            idle = slot(&mut self.idle) => self.is_idle(idle).await?,
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

    fn answered(&mut self, (ticket, answer): Said) {
        match &answer {
            Err(Refusal::Passing(reason)) => {
                if self.trouble.fail().1 {
                    tracing::warn!("no answer from the group's coordinator, trying again: {reason}");
                }
            }
            _ => _ = self.trouble.reset(),
        }
        self.dealer.membership.handle_answer(ticket, answer, Instant::now());
    }

    /// Says of a rebalance that takes long what it may wait for.
    fn tell_waiting(&mut self, now: Instant) {
        let Some((since, say_at)) = &mut self.rebalance else { return };
        if now < *say_at || self.unmatched_since.is_some() {
            return;
        }
        *say_at = now + LONGER;
        let seconds = now.duration_since(*since).as_secs();
        tracing::info!(
            "the rebalance has taken {seconds} s: the group waits for members that finish what they have begun, or that were \
             killed and are missed only when their session is over"
        );
    }

    async fn carry_out(&mut self, step: Step) -> Result<(), Gone> {
        match step {
            Step::Find(find) => {
                self.idle = None;
                self.find(find);
            }
            Step::Stand => self.tell_standing(),
            Step::News(news) => self.tell_news(&news),
            Step::Tell(deal) => {
                match &deal {
                    Deal::Taken(dealt) => dealt.tell(&self.config),
                    // Nobody wants to know any more where what is lost begins.
                    Deal::Lost(..) => self.dealt = FuturesUnordered::new(),
                    _ => {}
                }
                self.tell(deal).await?;
            }
        }
        Ok(())
    }

    fn tell_news(&mut self, news: &News) {
        let now = Instant::now();
        match news {
            News::Begins { why } => {
                (self.rebalance, self.idle) = (Some((now, now + LONG)), None);
                match *why {
                    JOINS => tracing::info!("joining group {}", self.config.group),
                    _ => tracing::info!("{news}"),
                }
            }
            News::Ends { held, .. } => {
                self.rebalance = None;
                tracing::info!("{news}");
                if *held == 0 {
                    let (config, cluster) = (Arc::clone(&self.config), self.cluster.clone());
                    self.idle = Some(async move { idle::why(&config, &cluster).await }.boxed());
                } else {
                    self.idle_because.clear();
                }
            }
            News::FallsBack { .. } => tracing::info!("{news}"),
            News::InstanceHeld { .. } => tracing::warn!("{news}"),
        }
    }

    async fn is_idle(&mut self, idle: Idle) -> Result<(), Gone> {
        let because = match idle {
            Idle::Finished => return self.tell(Deal::Nothing).await,
            Idle::Because(because) => because,
        };
        if because != self.idle_because {
            tracing::info!("nothing to do for this member: {because}");
            self.idle_because = because;
        }
        if self.config.until_end {
            let (config, cluster) = (Arc::clone(&self.config), self.cluster.clone());
            self.idle = Some(async move { idle::finished(&config, &cluster).await }.boxed());
        }
        Ok(())
    }

    /// Finds out where partitions begin, for as long as it takes.
    fn find(&mut self, find: Find) {
        let (config, cluster, standing) = (Arc::clone(&self.config), self.cluster.clone(), self.standing.subscribe());
        self.dealt.push(
            async move {
                let Find { number, partitions, added } = find;
                (number, startup::deal(&config, &cluster, standing, &partitions, &added).await)
            }
            .boxed(),
        );
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

    async fn looked(&mut self, looked: Result<Looked, String>) -> Result<(), Gone> {
        let now = Instant::now();
        match looked {
            Ok(Looked { topics, matching }) => {
                self.next_look = now + LOOK_UP;
                if let Some(matching) = matching {
                    self.matches(!matching.is_empty(), now).await?;
                    self.dealer.membership.subscribe(matching, now);
                }
                self.dealer.topics(topics, now);
            }
            Err(error) => {
                self.next_look = now + LOOK_UP_AGAIN;
                tracing::debug!(error, "cannot look the topics up, trying again");
            }
        }
        Ok(())
    }

    /// Where no topic matches, one that comes is waited for; with `--until-end`, only for as long as at the start.
    async fn matches(&mut self, any: bool, now: Instant) -> Result<(), Gone> {
        if any {
            self.unmatched_since = None;
            return Ok(());
        }
        let Config { startup_timeout, until_end, .. } = *self.config;
        let regex = "no topic has a name that --topic-regex matches as a whole";
        if self.unmatched_since.is_none() {
            tracing::info!("{regex}: waiting for one");
        }
        let since = *self.unmatched_since.get_or_insert(now);
        // Once it has been a member, there were some.
        if until_end && self.rebalance.is_some() && now.duration_since(since) >= startup_timeout {
            let reason = format!("not ready within {startup_timeout:?} (--startup-timeout): {regex}");
            return self.tell(Deal::Fatal(RunError::Unavailable { reason })).await;
        }
        if until_end {
            self.next_look = now + LOOK_UP_AGAIN;
        }
        Ok(())
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
