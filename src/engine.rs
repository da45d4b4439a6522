//! The task that owns a run: it turns what happens into calls of the [`Scheduler`], and what that asks for into work.
//!
//! ```text
//!   fetch loops ──Fetched──▶ ┌────────┐ ──load──▶ worker set ──▶ pool (threads)
//!                            │ ENGINE │ ◀─────────News───────────────┘
//!        committer ◀─commit─ │        │ ──push──▶ sinks: replies, dead letters
//!            └──Outcome────▶ └────────┘ ◀──Written──┘
//! ```
//!
//! It decides nothing and blocks never. What it sends cannot wait: a channel's capacity derives from the limits on what
//! is in flight. It waits in one place, on one closed set of events, in this order: what finishes before what starts.
//!
//! Architecture invariant: nothing else locks or reads the scheduler.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    committer,
    drain::Watch,
    error::RunError,
    fate::Kind,
    offsets::Committed,
    pool::{News, Pool},
    record::AssignmentId,
    room::Room,
    scheduler::{Counters, Scheduler, Summary, Written},
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
    Committed(committer::Outcome),
    Timeout,
    Source(SourceEvent),
}

/// The set of workers that are busy.
type Working = FuturesUnordered<BoxFuture<'static, News>>;

/// See the [module's documentation](self).
pub(crate) struct Engine {
    pub(crate) scheduler: Scheduler,
    pub(crate) pool: Pool,
    pub(crate) replies: Option<Sink>,
    pub(crate) dead_letters: Option<Sink>,
    pub(crate) limits: Arc<Limits>,
    /// What each partition may hold.
    pub(crate) rooms: BTreeMap<AssignmentId, Arc<Room>>,
    pub(crate) fetched: mpsc::Receiver<SourceEvent>,
    pub(crate) written: mpsc::Receiver<Vec<Written>>,
    pub(crate) commits: mpsc::Sender<BTreeMap<i32, Committed>>,
    pub(crate) committed: mpsc::Receiver<committer::Outcome>,
    pub(crate) drain: Watch,
    /// The fetch loops and the committer.
    pub(crate) tasks: JoinSet<()>,
    /// How long running tasks may finish, for the log.
    pub(crate) grace: Duration,
    /// Where others may look at what has been done.
    pub(crate) progress: watch::Sender<Counters>,
}

impl Engine {
    /// Runs to the end, of its own accord or by the drain.
    pub(crate) async fn run(mut self) -> Summary {
        let mut working = FuturesUnordered::new();
        let mut told = Instant::now();
        loop {
            let now = Instant::now();
            while let Some(load) = self.scheduler.poll_load(now) {
                working.push(self.pool.submit(load).wait().boxed());
            }
            self.send_writes();
            self.give_room();
            if let Some(commits) = self.scheduler.poll_commit(now) {
                // There is room for one, and one is under way at most. A committer that is gone is an event.
                let _ = self.commits.try_send(commits);
            }
            if let Some(mut summary) = self.scheduler.poll_end(now) {
                summary.unwritten =
                    [&self.replies, &self.dead_letters].into_iter().flatten().flat_map(Sink::unwritten).collect();
                self.progress.send_replace(self.scheduler.counters().clone());
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
        let timeout = self.scheduler.poll_timeout();
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
            Some(written) = self.written.recv() => Event::Written(written),
            Some(news) = working.next() => Event::News(news),
            Some(outcome) = self.committed.recv() => Event::Committed(outcome),
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
            Event::Committed(committer::Outcome::Acknowledged) => self.scheduler.handle_committed(true, now),
            Event::Committed(committer::Outcome::Failed) => self.scheduler.handle_committed(false, now),
            Event::Committed(committer::Outcome::Ended(error)) => {
                self.scheduler.handle_committed(false, now);
                self.scheduler.stop(error, now);
            }
            Event::Timeout => {}
            Event::Source(SourceEvent::Fetched { assignment, records, next }) => {
                self.scheduler.handle_fetched(assignment, records, next, now);
            }
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

    fn send_writes(&mut self) {
        while let Some(write) = self.scheduler.poll_write() {
            let sink = match write.kind {
                Kind::Reply | Kind::FailureReply => &mut self.replies,
                Kind::DeadLetter | Kind::DeadLetterPart => &mut self.dead_letters,
            };
            sink.as_mut().expect("the policy asks only for topics that there are").push(write);
        }
        for sink in [&mut self.replies, &mut self.dead_letters].into_iter().flatten() {
            sink.flush();
        }
    }

    fn give_room(&mut self) {
        while let Some((id, freed)) = self.scheduler.poll_freed() {
            self.rooms[&id].give(freed.records);
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
