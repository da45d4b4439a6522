//! A run, from its start to its summary: [`Longshore`], its [`Builder`], and [`Progress`] to look at it from outside.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use tokio::{
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
};

use crate::{
    committer::{Committer, FINDING_OUT, metadata::Metadata},
    config::{Assign, Config, ConfigErrors, Settings},
    drain::{self, Drain, Watch},
    engine::{Engine, Fetching, Grouped, StartFetching},
    error::RunError,
    event::Event,
    gather::Gather,
    group::Steward,
    kafka::{
        partitioner::partition_of,
        reader::{Readers, WireReaders},
        writer::WireWriter,
    },
    pool::Pool,
    scheduler::{Counters, Rules, Scheduler, Summary},
    sink::Sink,
    source::{FetchLoop, Limits},
    startup::{self, Ready, TopicWatch, Written},
    task::Task,
    tracker::SPAN,
};

/// A run that has not begun.
///
/// ```no_run
/// use longshore::{Answer, Failure, Longshore, Record};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let task = |record: &Record| {
///     let length = record.value.as_ref().map_or(0, |value| value.len());
///     Ok::<_, Failure>(Answer::value(length.to_string()))
/// };
/// let run = Longshore::builder()
///     .brokers("localhost:9092")
///     .group("lengths")
///     .topic("texts")
///     .reply_topic("lengths")
///     .workers(100)
///     .build(task)?;
/// let drain = run.drain();
/// tokio::spawn(async move {
///     if tokio::signal::ctrl_c().await.is_ok() {
///         drain.drain();
///     }
/// });
/// let summary = run.run().await?;
/// println!("{} answered", summary.replied);
/// # Ok(())
/// # }
/// ```
pub struct Longshore {
    config: Config,
    task: Arc<dyn Task>,
    drain: Drain,
    watch: Watch,
    progress: watch::Sender<Counters>,
    listeners: broadcast::Sender<Event>,
}

/// The events that are kept for a listener that is slow.
const MAX_EVENTS: usize = 1024;

/// What happens in a run, one thing after the other. See [`Event`].
///
/// A listener may be as slow as it likes: of events that it has not taken, the last 1,024 are kept, and that some were
/// not is an event, too.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
}

impl Events {
    /// Waits for the next event. `None` once the run is over and all were taken.
    pub async fn next(&mut self) -> Option<Event> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// What a run has done so far, to look at while it runs.
#[derive(Debug, Clone)]
pub struct Progress {
    counters: watch::Receiver<Counters>,
}

impl Progress {
    /// What was done when the engine last told, up to 100 ms ago while it has something to do.
    #[must_use]
    pub fn now(&self) -> Counters {
        self.counters.borrow().clone()
    }

    /// Waits until there is something newer than the last look. Gives `false` once the run is over.
    pub async fn changed(&mut self) -> bool {
        self.counters.changed().await.is_ok()
    }
}

impl Longshore {
    /// Settings to be filled in, beginning with the defaults of the command line.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { settings: Settings::default() }
    }

    /// A run by a configuration that was checked.
    #[must_use]
    pub fn new(config: Config, task: impl Task) -> Self {
        let (drain, watch) = drain::channel();
        let progress = watch::Sender::new(Counters::new(Instant::now()));
        let listeners = broadcast::Sender::new(MAX_EVENTS);
        Self { config, task: Arc::new(task), drain, watch, progress, listeners }
    }

    /// Something to hear of what happens while it runs: data that is gone, partitions that were added. Take it before
    /// [`run`](Self::run), as often as there are listeners.
    ///
    /// ```no_run
    /// # async fn example(run: longshore::Longshore) -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut events, drain) = (run.events(), run.drain());
    /// tokio::spawn(async move {
    ///     while let Some(event) = events.next().await {
    ///         if let longshore::Event::DataLoss(loss) = event {
    ///             eprintln!("call somebody: {loss}");
    ///             drain.drain();
    ///         }
    ///     }
    /// });
    /// run.run().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        Events { events: self.listeners.subscribe() }
    }

    /// Something to end the run with.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Something to look at the run with.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { counters: self.progress.subscribe() }
    }

    /// Runs until it is drained, until all is worked off (`until_end`), or until it must not go on.
    ///
    /// Needs a tokio runtime with time and I/O. Threads that still run a task when the grace time is over are left to
    /// themselves.
    ///
    /// # Errors
    /// Why the run could not begin. Once it has begun there is a summary, whose [`error`](Summary::error) says why it
    /// ended, if not by wish.
    pub async fn run(self) -> Result<Summary, RunError> {
        match self.prepare().await? {
            ControlFlow::Continue(engine) => Ok(engine.run().await),
            ControlFlow::Break(summary) => Ok(summary),
        }
    }

    /// All that comes before the engine runs: the engine, or, where the run was drained meanwhile, its summary.
    pub(crate) async fn prepare(mut self) -> Result<ControlFlow<Summary, Engine>, RunError> {
        let begun = Instant::now();
        let rules = Rules {
            workers: self.config.workers,
            span: SPAN,
            commit_interval: self.config.commit_interval,
            grace: self.config.grace,
            adoption: (self.config.assign == Assign::Group).then(|| self.config.membership.session_timeout()),
            on_data_loss: self.config.on_data_loss,
            patience: self.config.startup_timeout,
            all_partitions: self.config.assign == Assign::All,
            several_topics: self.config.topics.len() > 1 || self.config.topic_pattern.is_some(),
            until_end: self.config.until_end,
            policy: self.config.policy,
            group: self.config.group.as_str().into(),
            retries: self.config.flow.retries,
            order: self.config.flow.order,
            each_start: self.config.flow.each_start,
            circuit_breaker: self.config.flow.circuit_breaker,
        };
        let mut scheduler = Scheduler::new(rules, begun);
        let ready = tokio::select! {
            ready = startup::begin(&self.config) => Some(self.tell_losses(ready)?),
            () = self.watch.asked() => None,
        };
        match ready {
            Some(ready) => Ok(ControlFlow::Continue(self.engine(scheduler, ready)?)),
            None => Ok(ControlFlow::Break(scheduler.summary(Instant::now()))),
        }
    }

    /// Where data that is gone ends the run before it has begun, its listeners hear of that all the same.
    fn tell_losses(&self, ready: Result<Ready, RunError>) -> Result<Ready, RunError> {
        if let Err(RunError::DataLoss { losses }) = &ready {
            for loss in losses {
                // Where nobody listens, it is in the error.
                let _ = self.listeners.send(Event::DataLoss(loss.clone()));
            }
        }
        ready
    }

    /// Puts the parts together and starts those that run beside the engine.
    fn engine(self, mut scheduler: Scheduler, ready: Ready) -> Result<Engine, RunError> {
        let Self { config, task, watch, progress, listeners, .. } = self;
        let Ready { cluster, store, taken, losses, lag, partitions, member, standing, replies, dead_letters } = ready;
        let pool = Pool::new(task, config.format, config.policy, config.group.as_str().into(), config.workers)
            .map_err(|_| RunError::Fault { part: "the pool, which cannot start a single thread," })?;
        pool.warm_up(usize::try_from(lag).unwrap_or_default());
        let wire = WireReaders::new(&cluster, config.isolation, config.max_in_flight_bytes);
        let readers = Readers::new(wire, config.reader, partitions);
        let limits = Arc::new(Limits::new(config.max_in_flight, config.max_in_flight_bytes));
        let mut tasks = JoinSet::new();

        limits.share(partitions);
        let (events, fetched) = mpsc::channel(partitions.max(8));
        let fetch_limits = Arc::clone(&limits);
        let start_fetching: StartFetching = Box::new(move |begin, room, tasks| {
            let room = room.unwrap_or_else(|| Arc::new(fetch_limits.partition_room(config.workers)));
            let over = Arc::new(AtomicBool::new(false));
            let fetch_loop = FetchLoop {
                reader: readers.partition(&begin.source, begin.topic_id),
                assignment: begin.id,
                source: begin.source,
                limits: Arc::clone(&fetch_limits),
                room: Arc::clone(&room),
                events: events.clone(),
                over: Arc::clone(&over),
                end: begin.end,
            };
            tasks.spawn(fetch_loop.run(begin.start));
            Fetching { room, over }
        });

        let (asks, requests) = mpsc::channel(1);
        let (outcomes, looked) = mpsc::channel(1);
        let ids = taken.iter().map(|taken| (Arc::clone(&taken.topic), taken.id)).gather();
        let (log, metadata) = (TopicWatch { cluster: cluster.clone() }, Metadata::default());
        tasks.spawn(Committer { ids, log, store, metadata, patience: FINDING_OUT, requests, outcomes }.run());

        let (told, written) = mpsc::channel(64);
        let sink = |to: Option<Written>| {
            to.map(|Written { topic, partitions }| {
                // Each with connections of its own: a write may take its time, and nobody is to wait behind it.
                let writer = |partition| WireWriter::new(cluster.apart(), Arc::clone(&topic), partition);
                let limits = (config.max_in_flight, &standing);
                Sink::start(&topic, partitions, limits, partition_of, writer, &told, &listeners)
            })
        };
        let (replies, dead_letters) = (sink(replies), sink(dead_letters));

        for loss in losses {
            scheduler.tell_loss(loss);
        }
        let group = member.map(|member| {
            let (steward, link) = Steward::new(Arc::new(config.clone()), cluster.clone(), member);
            Grouped::start(steward, link)
        });
        if group.is_none() {
            scheduler.assign(taken, Instant::now());
        }
        Ok(Engine {
            scheduler,
            pool,
            replies,
            dead_letters,
            limits,
            start_fetching,
            fetching: std::collections::BTreeMap::new(),
            fetched,
            written,
            asks,
            looked,
            drain: watch,
            tasks,
            group,
            grace: config.grace,
            progress,
            listeners,
        })
    }
}

/// Settings on their way to a run. The methods are named after the flags and mean what `longshore run --help` says.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    settings: Settings,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($type:ty) => |$settings:ident, $value:ident| $set:expr;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $value: $type) -> Self {
                let $settings = &mut self.settings;
                $set;
                self
            }
        )*
    };
}

impl Builder {
    setters! {
        /// Bootstrap brokers: `HOST:PORT`, separated by commas. Without a port, 9092 is meant.
        brokers(&str) => |s, list| s.brokers = list.split(',').map(str::to_owned).collect();
        /// The group, for which progress is kept.
        group(impl Into<String>) => |s, group| s.group = Some(group.into());
        /// A topic to work off. To name several, say it several times.
        topic(impl Into<String>) => |s, topic| s.topics.push(topic.into());
        /// Topics to work off, separated by commas.
        topics(&str) => |s, list| s.topics.extend(list.split(',').map(|topic| topic.trim().to_owned()));
        /// Where answers go.
        reply_topic(impl Into<String>) => |s, topic| s.reply_topic = Some(topic.into());
        /// Where malformed and failed messages go.
        dead_letter_topic(impl Into<String>) => |s, topic| s.dead_letter_topic = Some(topic.into());
        /// What becomes of a failed message that nobody is told of.
        on_failure(crate::fate::OnFailure) => |s, wish| s.on_failure = Some(wish);
        /// Threads of the pool, which is tasks at once: 1 to 10,000, 32 by default.
        workers(usize) => |s, count| s.workers = count;
        /// Records held at once, waiting or running.
        max_in_flight(usize) => |s, count| s.max_in_flight = Some(count);
        /// Bytes held at once, 64 KiB or more.
        max_in_flight_bytes(usize) => |s, bytes| s.max_in_flight_bytes = Some(bytes);
        /// What a well-formed message is.
        format(crate::task::Format) => |s, format| s.format = format;
        /// Where to begin when the group has no offset.
        from(crate::config::From) => |s, from| s.from = from;
        /// By what the topic is read.
        reader(crate::config::ReadBy) => |s, reader| s.reader = reader;
        /// Which records of transactions are read.
        isolation(crate::config::Isolation) => |s, isolation| s.isolation = isolation;
        /// Which partitions to work off: those that the group deals out, unless it is said. Where offsets are not kept with
        /// the group, all.
        assign(crate::config::Assign) => |s, assign| s.assign = Some(assign);
        /// How to be a member of the group.
        membership(crate::config::MembershipSettings) => |s, membership| s.membership = membership;
        /// Topics to work off, by a regular expression that is to match whole names.
        topic_regex(impl Into<String>) => |s, regex| s.topic_regex = Some(regex.into());
        /// Where offsets are kept.
        offsets(crate::config::Offsets) => |s, offsets| s.offsets = offsets;
        /// The least time between two commits.
        commit_interval(std::time::Duration) => |s, interval| s.commit_interval = interval;
        /// How long running tasks may finish once the run is to end.
        grace(std::time::Duration) => |s, grace| s.grace = grace;
        /// Whether to work off what is there at the start, and then to end.
        until_end(bool) => |s, until_end| s.until_end = until_end;
        /// What follows when messages are gone that were not worked off.
        on_data_loss(crate::loss::OnDataLoss) => |s, wish| s.on_data_loss = wish;
        /// Whether to believe what Confluent's Parallel Consumer says is finished above its commits. Nobody can check it: it
        /// names neither topic nor offset.
        trust_foreign_progress(bool) => |s, trust| s.trust_foreign_progress = trust;
        /// How long to wait at the start for brokers and topic to be there, and for a topic that was deleted to be made
        /// anew.
        startup_timeout(std::time::Duration) => |s, timeout| s.startup_timeout = timeout;
        /// In which order messages go, how fast, and what follows a failure.
        flow(crate::config::FlowSettings) => |s, flow| s.flow = flow;
        /// How brokers are spoken to: TLS, SASL.
        security(crate::config::SecuritySettings) => |s, security| s.security = security;
    }

    /// No answers are written.
    #[must_use]
    pub fn no_reply(mut self) -> Self {
        self.settings.reply_topic = None;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn build(self, task: impl Task) -> Result<Longshore, ConfigErrors> {
        Ok(Longshore::new(self.settings.check()?, task))
    }
}
