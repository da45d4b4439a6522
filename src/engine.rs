//! The task that owns a run: it turns what happens into calls of the [`Scheduler`], and what that asks for into work.
//!
//! ```text
//!   fetch loops ──Fetched──▶ ┌────────┐ ──load──▶ worker set ──▶ pool (threads)
//!                            │ ENGINE │ ◀─────────News───────────────┘
//!        committer ◀──Ask──  │        │ ──push──▶ sinks: replies, dead letters
//!            └──Outcome────▶ └────────┘ ◀──Written──┘
//! ```
//!
//! It decides nothing and blocks never. What it sends cannot wait: a channel's capacity derives from the limits on what
//! is in flight. It waits in one place, on one closed set of events, in this order: what finishes before what starts.
//!
//! Architecture invariant: nothing else locks or reads the scheduler.

mod grouped;
pub(crate) mod share;
#[cfg(all(test, feature = "broker"))]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
};

pub(crate) use self::grouped::Grouped;
use self::grouped::dealt;
use crate::{
    committer,
    drain::Watch,
    error::RunError,
    event,
    fate::Kind,
    group::Deal,
    pool::{News, Pool},
    record::AssignmentId,
    room::Room,
    scheduler::{Ask, Begin, Counters, Scheduler, Summary, Written},
    sink::Sink,
    source::{Limits, SourceEvent},
    watched,
};

/// The most news of tasks that are taken in before more work is given out.
const MAX_NEWS: usize = 64;
/// How often others may look at what has been done.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Everything that can happen to a run.
enum Event {
    DrainAsked,
    Ended(&'static str),
    Written(Vec<Written>),
    News(News),
    Looked(committer::Outcome),
    Dealt(Deal),
    Timeout,
    Source(SourceEvent),
}

/// The set of workers that are busy.
type Working = FuturesUnordered<BoxFuture<'static, News>>;

/// The fetch loop of one life of a partition.
pub(crate) struct Fetching {
    /// What it may hold.
    pub(crate) room: Arc<Room>,
    /// Set when it is to end.
    pub(crate) over: Arc<AtomicBool>,
}

/// Starts a fetch loop, in the room of the one before it where the life is the same.
pub(crate) type StartFetching = Box<dyn FnMut(Begin, Option<Arc<Room>>, &mut JoinSet<()>) -> Fetching + Send>;

/// See the [module's documentation](self).
pub(crate) struct Engine {
    pub(crate) scheduler: Scheduler,
    pub(crate) pool: Pool,
    pub(crate) replies: Option<Sink>,
    pub(crate) dead_letters: Option<Sink>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) start_fetching: StartFetching,
    pub(crate) fetching: BTreeMap<AssignmentId, Fetching>,
    pub(crate) fetched: mpsc::Receiver<SourceEvent>,
    pub(crate) written: mpsc::Receiver<Vec<Written>>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) looked: mpsc::Receiver<committer::Outcome>,
    pub(crate) drain: Watch,
    /// The fetch loops and the committer.
    pub(crate) tasks: JoinSet<()>,
    /// Where the group deals partitions out.
    pub(crate) group: Option<Grouped>,
    /// How long running tasks may finish, for the log.
    pub(crate) grace: Duration,
    /// Where others may look at what has been done.
    pub(crate) progress: watch::Sender<Counters>,
    /// Who listens to what happens.
    pub(crate) listeners: broadcast::Sender<event::Event>,
}

impl Engine {
    /// Runs to the end, of its own accord or by the drain.
    pub(crate) async fn run(mut self) -> Summary {
        let mut working = FuturesUnordered::new();
        let mut told = Instant::now();
        loop {
            let now = Instant::now();
            self.begin_fetching();
            while let Some(load) = self.scheduler.poll_load(now) {
                working.push(self.pool.submit(load).wait().boxed());
            }
            self.send_writes();
            self.give_room();
            while let Some(event) = self.scheduler.poll_event() {
                // Where nobody listens, it is in the log and the summary.
                let _ = self.listeners.send(event);
            }
            self.release_settled(now);
            if let Some(ask) = self.scheduler.poll_ask(now) {
                // There is room for one, and one is under way at most. A committer that is gone is an event.
                let _ = self.asks.try_send(ask);
            }
            if let Some(mut summary) = self.scheduler.poll_end(now) {
                summary.unwritten =
                    [&self.replies, &self.dead_letters].into_iter().flatten().flat_map(Sink::unwritten).collect();
                self.progress.send_replace(self.scheduler.counters().clone());
                if let Some(group) = self.group.take() {
                    group.leave().await;
                }
                return summary;
            }
            if now.duration_since(told) >= PROGRESS_INTERVAL {
                told = now;
                self.progress.send_replace(self.scheduler.counters().clone());
            }
            let event = self.wait(&mut working).await;
            self.handle(event, &mut working);
        }
    }

    /// Waits for the next event. Biased: first what ends the run, then what finishes messages, then what starts them.
    async fn wait(&mut self, working: &mut Working) -> Event {
        let timeout = self.scheduler.poll_timeout().into_iter().chain(self.scheduler.look_due()).min();
        let timeout = async {
            match timeout {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.drain.asked(), if self.scheduler.running() => Event::DrainAsked,
            part = ended(&mut self.tasks, &mut self.replies, &mut self.dead_letters) => Event::Ended(part),
            // Before what is written: a loss is to be known before what is void because of it.
            deal = dealt(&mut self.group) => Event::Dealt(deal),
            Some(written) = self.written.recv() => Event::Written(written),
            Some(news) = working.next() => Event::News(news),
            Some(outcome) = self.looked.recv() => Event::Looked(outcome),
            () = timeout => Event::Timeout,
            Some(event) = self.fetched.recv() => Event::Source(event),
        }
    }

    fn handle(&mut self, event: Event, working: &mut Working) {
        let now = Instant::now();
        match event {
            Event::DrainAsked => {
                tracing::info!(grace = ?self.grace, running = working.len(), "draining: no new task starts");
                self.scheduler.drain(now);
            }
            Event::Ended(part) => self.scheduler.stop(RunError::Fault { part }, now),
            Event::Written(written) => {
                for written in written {
                    self.scheduler.handle_written(written, now);
                }
            }
            Event::News(news) => {
                self.take_in(news, working, now);
                // Those that are there already are worth taking together: one round of polling serves them all.
                for _ in 1..MAX_NEWS {
                    let Some(Some(news)) = working.next().now_or_never() else { break };
                    self.take_in(news, working, now);
                }
            }
            Event::Looked(committer::Outcome::Looked(looked)) => self.scheduler.handle_looked(looked, now),
            Event::Looked(committer::Outcome::Failed) => self.scheduler.handle_unanswered(now),
            Event::Looked(committer::Outcome::Ended(error)) => {
                self.scheduler.handle_unanswered(now);
                self.scheduler.stop(error, now);
            }
            Event::Dealt(deal) => self.take_deal(deal, now),
            Event::Timeout => {}
            Event::Source(SourceEvent::Fetched { assignment, records, next, epoch, latest }) => {
                self.scheduler.handle_fetched(assignment, records, (next, epoch), latest, now);
            }
            Event::Source(SourceEvent::Away(assignment)) => self.scheduler.handle_away(assignment, now),
            Event::Source(SourceEvent::Unsure(assignment)) => self.scheduler.handle_unsure(assignment, now),
            Event::Source(SourceEvent::Missing) => self.scheduler.handle_missing(now),
            Event::Source(SourceEvent::Gone(error)) => self.scheduler.stop(error, now),
        }
    }

    fn take_in(&mut self, news: News, working: &mut Working, now: Instant) {
        let News { assignment, done, todo, rest } = news;
        self.scheduler.handle_done(assignment, done, now);
        self.scheduler.handle_returned(assignment, todo.into_iter());
        match rest {
            Some(rest) => working.push(rest.wait().boxed()),
            None => self.scheduler.handle_load_ended(),
        }
    }

    /// Starts the fetch loops that are to begin, and ends those of lives that are over.
    fn begin_fetching(&mut self) {
        let mut changed = false;
        while let Some(begin) = self.scheduler.poll_begin() {
            changed = true;
            let room = self.fetching.get(&begin.id).map(|fetching| Arc::clone(&fetching.room));
            let (id, scheduler, limits) = (begin.id, &self.scheduler, &self.limits);
            limits.share(scheduler.partitions());
            self.fetching.insert(id, (self.start_fetching)(begin, room, &mut self.tasks));
        }
        while let Some(id) = self.scheduler.poll_over() {
            changed = true;
            if let Some(fetching) = self.fetching.get(&id) {
                fetching.over.store(true, Ordering::Relaxed);
            }
        }
        if changed {
            self.limits.share(self.scheduler.partitions());
            // What a loop still holds of its room comes back to it.
            self.fetching.retain(|id, fetching| self.scheduler.knows(*id) || Arc::strong_count(&fetching.room) > 1);
        }
    }

    fn send_writes(&mut self) {
        while let Some(write) = self.scheduler.poll_write() {
            let sink = match write.kind {
                Kind::Reply | Kind::FailureReply => &mut self.replies,
                Kind::DeadLetter | Kind::DeadLetterPart => &mut self.dead_letters,
            };
            sink.as_mut().expect("the policy asks only for topics that there are").push(write);
        }
        for sink in [&mut self.replies, &mut self.dead_letters].into_iter().flatten() {
            sink.flush(self.group.as_ref().map_or(0, |group| group.share.era));
        }
    }

    fn give_room(&mut self) {
        while let Some((id, freed)) = self.scheduler.poll_freed() {
            // Of a life that is forgotten, nobody waits for room.
            if let Some(fetching) = self.fetching.get(&id) {
                fetching.room.give(freed.records);
            }
            self.limits.records.give(freed.records);
            self.limits.bytes.give(freed.bytes);
        }
    }
}

/// Waits until something has ended that should not have. A task that ends without a panic has said why.
async fn ended(tasks: &mut JoinSet<()>, replies: &mut Option<Sink>, dead_letters: &mut Option<Sink>) -> &'static str {
    tokio::select! {
        () = watched::lost(tasks) => "a fetch loop or the committer",
        () = lost_sink(replies) => "a loop that writes answers",
        () = lost_sink(dead_letters) => "a loop that writes dead letters",
    }
}

async fn lost_sink(sink: &mut Option<Sink>) {
    match sink {
        Some(sink) => sink.lost().await,
        None => std::future::pending().await,
    }
}
