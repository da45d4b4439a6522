//! The threads that tasks run on: named, plain OS threads on one shared queue, apart from tokio's.
//!
//! ```text
//!   submit ──▶ queue ──▶ thread `task-7`: take ─▶ check format ─▶ run ─▶ decide its fate ─▶ put, until the load is empty ──▶ Ended
//!                            ▲ │
//!   Running: overdue? ───────┘ └─ take back what has not begun, and what is done
//! ```
//!
//! - A thread is started when all others are busy, up to the number of workers, and at the start for each message that
//!   waits. An idle Longshore has few.
//! - A panic is a failure of its message. Should a thread end all the same, its message is answered for, and another
//!   thread takes its place.
//! - Every load comes to its end: whoever waits for it is answered even if its thread is lost.
//! - A load is one record, or several of very short tasks; what has not begun can be taken back at any time, so that no
//!   record waits behind another's long task for longer than 2 ms.
//!
//! Deliberately not here: a way to stop a task (a blocking call cannot be stopped), and joining: when the process ends,
//! threads that still run a task end with it.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    fate::{self, Done, Judge, Policy, Verdict},
    page::Page,
    record::{AssignmentId, Record},
    scheduler::Load,
    task::{Failure, Format, Task},
};

/// When a load of several records is looked at again, to take back what has not begun.
pub(crate) const OVERDUE: Duration = Duration::from_millis(1);

thread_local! {
    /// Set while a task runs, so that the panic hook can tell a task's panic from one of ours.
    static IN_TASK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether the calling thread runs a task. A panic hook that stays silent then leaves the telling to the warning with the
/// message's coordinates.
#[must_use]
pub fn in_task() -> bool {
    IN_TASK.get()
}

/// See the [module's documentation](self).
pub(crate) struct Pool {
    crew: Arc<Crew>,
    workers: usize,
}

/// What all threads share.
struct Crew {
    task: Arc<dyn Task>,
    format: Format,
    policy: Policy,
    /// As dead letters name it.
    group: Arc<str>,
    queue: Queue,
    /// Threads there are.
    threads: AtomicUsize,
    /// Threads there ever were, for their names.
    named: AtomicUsize,
    /// Loads submitted and not ended.
    open: AtomicUsize,
}

/// What waits for a thread: never more than there are workers, by [`Pool::submit`].
///
/// A lock and a condition, where threads that wait sleep. A lock-free channel lets them spin while one sender or receiver
/// is half way, and 256 threads on 2 cores then kept that one from going on for a second (crossbeam-channel, bounded).
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    fn put(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.changed.notify_one();
    }

    /// Waits for a job. `None` once the queue is closed and empty.
    fn take(&self) -> Option<Job> {
        let idle = |waiting: &mut Waiting| waiting.jobs.is_empty() && !waiting.closed;
        let mut waiting = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        waiting.jobs.pop_front()
    }

    /// Lets the threads end when they have nothing more to do.
    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // The lock is held for a push or a pop, which do not panic half way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.crew.queue.close();
    }
}

/// A load on its way through a thread. When it is dropped, whoever waits for it learns that it ended.
struct Job {
    load: Arc<Shared>,
    crew: Arc<Crew>,
    ended: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    todo: VecDeque<Record>,
    done: Vec<Done>,
}

/// A load that a thread works on, or soon will.
pub(crate) struct Running {
    /// Whose records they are.
    pub(crate) assignment: AssignmentId,
    load: Arc<Shared>,
    ended: oneshot::Receiver<()>,
    watched: bool,
}

/// What [`Running::wait`] saw.
pub(crate) struct News {
    /// Whose records they are.
    pub(crate) assignment: AssignmentId,
    /// What is done.
    pub(crate) done: Vec<Done>,
    /// What has not begun and will not.
    pub(crate) todo: VecDeque<Record>,
    /// The rest of the load, where it is not at its end: the record that runs is still to come.
    pub(crate) rest: Option<Running>,
}

impl Pool {
    /// A pool of up to `workers` threads, with the first of them started.
    ///
    /// # Errors
    /// If not even one thread can be started.
    pub(crate) fn new(
        task: Arc<dyn Task>,
        format: Format,
        policy: Policy,
        group: Arc<str>,
        workers: usize,
    ) -> io::Result<Self> {
        let [threads, named, open] = std::array::from_fn(|_| AtomicUsize::new(0));
        let crew = Arc::new(Crew { task, format, policy, group, queue: Queue::default(), threads, named, open });
        crew.start_thread()?;
        Ok(Self { crew, workers })
    }

    /// Starts threads ahead of the work that is known to wait, up to `count` and to the number of workers.
    pub(crate) fn warm_up(&self, count: usize) {
        let there = self.crew.threads.load(Ordering::Relaxed);
        for _ in there..count.min(self.workers) {
            if self.crew.start_thread().is_err() {
                return;
            }
        }
    }

    /// Gives a load to the next free thread. There must be one: at most `workers` loads may run at once.
    pub(crate) fn submit(&self, load: Load) -> Running {
        let Load { assignment, records } = load;
        let watched = records.len() > 1;
        let state = State { done: Vec::with_capacity(records.len()), todo: records.into() };
        let load = Arc::new(Shared { state: Mutex::new(state) });
        let (sender, ended) = oneshot::channel();
        let open = self.crew.open.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(open <= self.workers, "more loads than workers");
        if open > self.crew.threads.load(Ordering::Relaxed) {
            // Without another thread, those that there are take it on; the next load tries again.
            let _ = self.crew.start_thread();
        }
        let job = Job { load: Arc::clone(&load), crew: Arc::clone(&self.crew), ended: Some(sender) };
        self.crew.queue.put(job);
        Running { assignment, load, ended, watched }
    }
}

impl Running {
    /// Waits for the load to end, or to be overdue.
    pub(crate) async fn wait(mut self) -> News {
        let overdue = self.watched && tokio::time::timeout(OVERDUE, &mut self.ended).await.is_err();
        if !overdue && !self.ended.is_terminated() {
            // An error would mean that the job was dropped without a word, which its `Drop` does not do.
            let _ = (&mut self.ended).await;
        }
        self.watched = false;
        let State { done, todo } = std::mem::take(&mut *self.load.lock());
        News { assignment: self.assignment, done, todo, rest: overdue.then_some(self) }
    }
}

impl Crew {
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        let crew = Arc::clone(self);
        let started = thread::Builder::new().name(format!("task-{number}")).spawn(move || {
            let _replaced = ReplaceIfLost(&crew);
            let mut page = Page::default();
            while let Some(job) = crew.queue.take() {
                job.work(&mut page);
            }
        });
        match started {
            Ok(_) => _ = self.threads.fetch_add(1, Ordering::Relaxed),
            Err(ref error) => tracing::error!(%error, "cannot start a thread for tasks"),
        }
        started.map(drop)
    }
}

struct ReplaceIfLost<'a>(&'a Arc<Crew>);

impl Drop for ReplaceIfLost<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.threads.fetch_sub(1, Ordering::Relaxed);
            tracing::error!("a thread for tasks was lost and is replaced");
            let _ = self.0.start_thread();
        }
    }
}

impl Job {
    fn work(self, page: &mut Page) {
        // The end of one record is the beginning of the next: a look at the clock costs as much as a short task.
        let mut begun = Instant::now();
        loop {
            let Some(record) = self.load.lock().todo.pop_front() else { return };
            let mut answer = AnswerFor { job: &self, page, record: Some(record), begun };
            let verdict = self.run(answer.record.as_ref().expect("not answered yet"));
            begun = answer.give(verdict);
        }
    }

    fn run(&self, record: &Record) -> Verdict {
        if let Err(reason) = self.crew.format.check(record) {
            return Verdict::Malformed(Failure::new(reason));
        }
        IN_TASK.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| self.crew.task.run(record)));
        let verdict = match result {
            Ok(Ok(answer)) => Verdict::Succeeded(answer),
            Ok(Err(failure)) => Verdict::Failed(failure),
            Err(panic) => Verdict::Failed(panicked(panic)),
        };
        IN_TASK.set(false);
        verdict
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.crew.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(ended) = self.ended.take() {
            // Nobody waits any more when the engine is gone.
            let _ = ended.send(());
        }
    }
}

/// Sees to it that a record is answered for, even if its thread is lost.
struct AnswerFor<'a> {
    job: &'a Job,
    page: &'a mut Page,
    record: Option<Record>,
    begun: Instant,
}

impl AnswerFor<'_> {
    /// Gives the time at which it was given.
    fn give(&mut self, verdict: Verdict) -> Instant {
        let now = Instant::now();
        if let Some(record) = self.record.take() {
            let (crew, page) = (&self.job.crew, &mut *self.page);
            let done = fate::decide(
                record,
                verdict,
                now - self.begun,
                &mut Judge { policy: crew.policy, group: &crew.group, page },
            );
            self.job.load.lock().done.push(done);
        }
        now
    }
}

impl Drop for AnswerFor<'_> {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.give(Verdict::Failed(Failure::new("the task's thread was lost")));
        }
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text");
    Failure::new(format_args!("panicked: {text}"))
}

impl Shared {
    /// The lock is held for a push or a pop, which do not panic half way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{fate::Ending, task::Answer, testing::record};

    fn load(offsets: std::ops::Range<i64>) -> Load {
        let records = offsets.map(|offset| record(offset, Some(b"{}"))).collect();
        Load { assignment: AssignmentId(1), records }
    }

    fn pool(task: impl Task) -> Pool {
        let policy = Policy { reply: false, dead_letter: false, on_failure: crate::fate::OnFailure::Drop };
        Pool::new(Arc::new(task), Format::Json, policy, "g".into(), 4).expect("a thread")
    }

    /// All news of a load, to its end.
    async fn all(mut running: Running) -> (Vec<Done>, Vec<Record>) {
        let (mut done, mut todo) = (Vec::new(), Vec::new());
        loop {
            let news = running.wait().await;
            done.extend(news.done);
            todo.extend(news.todo);
            match news.rest {
                Some(rest) => running = rest,
                None => return (done, todo),
            }
        }
    }

    fn errors(done: &[Done]) -> Vec<Option<&str>> {
        fn error(done: &Done) -> Option<&str> {
            match &done.ending {
                Ending::Succeeded => None,
                Ending::Failed(failure) | Ending::Malformed(failure) => Some(failure.error()),
            }
        }
        done.iter().map(error).collect()
    }

    #[tokio::test]
    async fn a_load_runs_in_order() {
        let pool = pool(|_: &Record| Ok(Answer::None));
        let (done, todo) = all(pool.submit(load(0..32))).await;
        // A slow machine may find it overdue; then the rest is given back, in order.
        let offsets: Vec<_> = done.iter().map(|d| d.offset.0).chain(todo.iter().map(|r| r.offset.0)).collect();
        assert_eq!(offsets, (0..32).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_its_message() {
        let pool = pool(|r: &Record| if r.offset.0 == 0 { panic!("boom {}", 1) } else { Ok(Answer::None) });
        let (first, _) = all(pool.submit(load(0..1))).await;
        let (second, _) = all(pool.submit(load(1..2))).await;
        assert_eq!((errors(&first), errors(&second)), (vec![Some("panicked: boom 1")], vec![None]));
    }

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("in drop");
            }
        }
    }

    #[tokio::test]
    async fn a_lost_thread_answers_and_is_replaced() {
        let pool = pool(|r: &Record| match r.offset.0 {
            0 => std::panic::panic_any(PanicsWhenDropped),
            _ => Ok(Answer::None),
        });
        let (first, _) = all(pool.submit(load(0..1))).await;
        assert_eq!(errors(&first), [Some("the task's thread was lost")]);
        let (second, _) = all(pool.submit(load(1..2))).await;
        assert_eq!(errors(&second), [None], "with one thread started and lost, another took its place");
    }

    #[tokio::test]
    async fn what_waits_behind_a_long_task_is_given_back() {
        let (release, blocked) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let pool = pool(move |_: &Record| {
            begin.send(())?;
            blocked.lock().unwrap().recv()?;
            Ok(Answer::None)
        });
        let running = pool.submit(load(0..8));
        begun.recv().unwrap();
        let news = running.wait().await;
        assert_eq!(news.todo.iter().map(|r| r.offset.0).collect::<Vec<_>>(), (1..8).collect::<Vec<_>>());
        release.send(()).unwrap();
        let (done, todo) = all(news.rest.expect("one still runs")).await;
        assert_eq!((done.len(), done[0].offset.0, todo.len()), (1, 0, 0));
    }

    #[tokio::test]
    async fn malformed_messages_do_not_reach_the_task() {
        let pool = pool(|_: &Record| -> Result<Answer, Failure> { panic!("reached") });
        let load = Load { assignment: AssignmentId(1), records: vec![record(0, Some(b"{"))] };
        let (done, _) = all(pool.submit(load)).await;
        assert!(matches!(&done[0].ending, Ending::Malformed(f) if f.error().starts_with("not JSON")));
    }

    #[test]
    fn what_waits_finds_threads_but_no_more_than_workers() {
        let pool = pool(|_: &Record| Ok(Answer::None));
        for (count, threads) in [(0, 1), (2, 2), (1, 2), (1000, 4)] {
            pool.warm_up(count);
            assert_eq!(pool.crew.threads.load(Ordering::Relaxed), threads, "for {count}");
        }
    }

    #[tokio::test]
    async fn threads_start_as_they_are_needed() {
        let pool = pool(|_: &Record| Ok(Answer::None));
        for offset in 0..20 {
            all(pool.submit(load(offset..offset + 1))).await;
        }
        assert_eq!(pool.crew.threads.load(Ordering::Relaxed), 1);
    }
}
