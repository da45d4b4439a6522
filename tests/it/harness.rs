//! A session at the prompt: a broker with topics, `longshore` with flags, and what came of it.
//!
//! ```text
//!   Kafka::start(3).put(0, ["{}"])          the in-memory broker, with `orders`, `replies` and `dead`
//!   kafka.longshore("--until-end").start()  a process: signal it, wait for what it says
//!                                 .end()    its exit code, summary and log
//! ```
//!
//! Nothing here sleeps until something ought to have happened: each wait is for a condition, for [`PATIENCE`] at most.
//! A process that a failed test leaves behind is killed.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use longshore::{
    Record,
    broker::{Broker, Options},
    record::{Header, Headers, Offset, Outgoing},
};
pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The topic that is worked off.
pub(crate) const IN: &str = "orders";
/// Where answers go.
pub(crate) const REPLIES: &str = "replies";
/// Where dead letters go, if a test says so.
pub(crate) const DEAD: &str = "dead";
/// For whom progress is kept.
pub(crate) const GROUP: &str = "workers";

/// A broker with the topics of a test.
pub(crate) struct Kafka {
    broker: Broker,
    runtime: tokio::runtime::Runtime,
}

impl Deref for Kafka {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// The partition and offset of a message.
pub(crate) type At = (i32, i64);

impl Kafka {
    /// One node, `orders` with so many partitions, and `replies` and `dead` with one.
    pub(crate) fn start(partitions: i32) -> Self {
        Self::with(&Options::default(), partitions)
    }

    pub(crate) fn with(options: &Options, partitions: i32) -> Self {
        let kafka = Self::empty(options);
        for (topic, partitions) in [(IN, partitions), (REPLIES, 1), (DEAD, 1)] {
            kafka.create_topic(topic, partitions).expect("a new topic");
        }
        kafka
    }

    /// No topics at all.
    pub(crate) fn empty(options: &Options) -> Self {
        let broker = Broker::start(options.clone()).expect("a broker");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { broker, runtime }
    }

    /// Puts messages without keys into a partition of `orders`.
    pub(crate) fn put<V: Into<String>>(&self, partition: i32, values: impl IntoIterator<Item = V>) {
        self.append_values(IN, partition, values.into_iter().map(Into::into)).expect("appended");
    }

    /// Puts one message as it is into partition 0 of `orders`.
    pub(crate) fn put_record(&self, record: Outgoing) {
        self.append(IN, 0, [record]).expect("appended");
    }

    /// `longshore run` with these flags. What they do not say about the broker, group, topics, and a task without length
    /// comes from the environment, and nothing else does: it is clean. The summary is JSON.
    pub(crate) fn longshore(&self, flags: &str) -> Longshore {
        Longshore::new(&format!("run {flags}"))
            .env("KAFKA_SERVER", &self.address())
            .env("KAFKA_CONSUMER_GROUP", GROUP)
            .env("KAFKA_TOPIC_NAME", IN)
            .env("KAFKA_REPLY_TOPIC", REPLIES)
            .env("LONGSHORE_TASK_TIME", "0")
            .env("LONGSHORE_COMMIT_INTERVAL", "20ms")
            .env("LONGSHORE_SUMMARY", "json")
    }

    /// Waits until the broker is as it should be.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let held = self.runtime.block_on(self.broker.until(PATIENCE, |_| condition(self)));
        assert!(held, "waited {PATIENCE:?} for: {what}");
    }

    /// Waits until there are so many answers.
    #[track_caller]
    pub(crate) fn until_answers(&self, count: i64) {
        self.until(&format!("{count} answers"), |kafka| kafka.count(REPLIES) >= count);
    }

    /// Waits until `orders` is committed up to here.
    #[track_caller]
    pub(crate) fn until_committed(&self, partition: i32, offset: i64) {
        self.until(&format!("a commit of {offset} for partition {partition}"), |kafka| {
            kafka.kept(partition) == Some(offset)
        });
    }

    /// The records of a topic, by partition and offset.
    pub(crate) fn read(&self, topic: &str) -> Vec<Record> {
        self.records(topic).expect("a topic to read")
    }

    /// How many records a topic holds.
    pub(crate) fn count(&self, topic: &str) -> i64 {
        self.end_offsets(topic).map_or(0, |ends| ends.iter().map(|end| end.0).sum())
    }

    /// The statuses of the answers to each message, in the order in which they came.
    pub(crate) fn answers(&self) -> BTreeMap<At, Vec<String>> {
        let mut answers: BTreeMap<At, Vec<String>> = BTreeMap::new();
        for answer in self.read(REPLIES) {
            assert_eq!(text(&answer, "longshore.topic"), IN);
            let number = |name| text(&answer, name).parse::<i64>().expect("a number");
            let at = (number("longshore.partition") as i32, number("longshore.offset"));
            answers.entry(at).or_default().push(text(&answer, "longshore.status"));
        }
        answers
    }

    /// What the group has committed for a partition of `orders`.
    pub(crate) fn kept(&self, partition: i32) -> Option<i64> {
        self.committed(GROUP, IN, partition).map(|committed| committed.offset.0)
    }

    /// Asserts that each message was answered exactly once with `ok`, and that all is committed.
    #[track_caller]
    pub(crate) fn all_answered_once(&self) {
        self.all_answered();
        let again: Vec<_> = self.answers().into_iter().filter(|(_, statuses)| statuses.len() > 1).collect();
        assert!(again.is_empty(), "answered more than once: {again:?}");
    }

    /// Asserts that each message was answered with `ok`, at least once, and that all is committed.
    #[track_caller]
    pub(crate) fn all_answered(&self) {
        let answers = self.answers();
        for (partition, end) in (0..).zip(self.end_offsets(IN).expect("there")) {
            let unanswered: Vec<_> =
                (0..end.0).filter(|offset| answers.get(&(partition, *offset)).is_none_or(|s| s[0] != "ok")).collect();
            assert!(unanswered.is_empty(), "not answered with ok in partition {partition}: {unanswered:?}");
            assert_eq!(self.kept(partition).unwrap_or(0), end.0, "the commit of partition {partition}");
        }
    }
}

/// A command line, before it runs.
pub(crate) struct Longshore {
    command: Command,
    folder: TempDir,
}

impl Longshore {
    /// `longshore` with these arguments, an empty environment, and an empty folder to work in.
    pub(crate) fn new(arguments: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.args(arguments.split_whitespace()).env_clear().current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, folder }
    }

    /// One argument more, which may have blanks in it.
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn no_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Writes a file in the folder where it works.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(name), content).expect("written");
        self
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.spawn().expect("longshore starts");
        let err = child.stderr.take().expect("piped");
        let mut out = child.stdout.take().expect("piped");
        let log = Arc::new(Log::default());
        let hearing = Arc::clone(&log);
        let listeners = vec![
            thread::spawn(move || hearing.hear(BufReader::new(err))),
            thread::spawn({
                let log = Arc::clone(&log);
                move || {
                    let mut text = String::new();
                    out.read_to_string(&mut text).expect("UTF-8");
                    *log.out.lock().expect("no panic") = text;
                }
            }),
        ];
        Running { child, log, listeners, _folder: self.folder }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.start().end()
    }
}

/// What a process has said.
#[derive(Default)]
struct Log {
    err: Mutex<String>,
    more: Condvar,
    out: Mutex<String>,
}

impl Log {
    fn hear(&self, mut lines: impl BufRead) {
        let mut line = String::new();
        while lines.read_line(&mut line).expect("UTF-8") > 0 {
            self.err.lock().expect("no panic").push_str(&line);
            self.more.notify_all();
            line.clear();
        }
    }
}

/// A process.
pub(crate) struct Running {
    child: Child,
    log: Arc<Log>,
    listeners: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) -> &Self {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is there to be signalled");
        self
    }

    /// Waits until it has said this in its log.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) -> &Self {
        let log = self.log.err.lock().expect("no panic");
        let (log, late) = self.log.more.wait_timeout_while(log, PATIENCE, |log| !log.contains(what)).expect("no panic");
        assert!(!late.timed_out(), "it did not say {what:?} in {PATIENCE:?}, but:\n{log}");
        drop(log);
        self
    }

    /// Whether it has said this in its log by now.
    pub(crate) fn has_said(&self, what: &str) -> bool {
        self.log.err.lock().expect("no panic").contains(what)
    }

    /// What stands in its log between `before` and `after`.
    #[track_caller]
    pub(crate) fn said_between(&self, before: &str, after: &str) -> String {
        let log = self.log.err.lock().expect("no panic");
        let found = log.split_once(before).and_then(|(_, rest)| rest.split_once(after));
        found.unwrap_or_else(|| panic!("nothing between {before:?} and {after:?} in:\n{log}")).0.to_owned()
    }

    /// Whether it has not ended yet.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while self.lives() {
            let log = self.log.err.lock().expect("no panic").clone();
            assert!(Instant::now() < deadline, "it has not ended in {PATIENCE:?}, but said:\n{log}");
            thread::sleep(Duration::from_millis(2));
        }
        self.collect()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().expect("killed");
        self.child.wait().expect("a child");
        self.collect()
    }

    fn collect(&mut self) -> Ended {
        for listener in self.listeners.drain(..) {
            listener.join().expect("UTF-8");
        }
        let code = self.child.wait().expect("a child").code();
        let out = self.log.out.lock().expect("no panic").clone();
        Ended { code, out, log: self.log.err.lock().expect("no panic").clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) log: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code; it said:\n{}\n{}", self.out, self.log);
        self
    }

    /// Asserts that the log says this.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.log.contains(what), "it did not say {what:?}, but:\n{}", self.log);
        self
    }

    /// The summary, which is one line of JSON.
    #[track_caller]
    pub(crate) fn summary(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "not one line: {:?}; it said:\n{}", self.out, self.log);
        serde_json::from_str(&self.out).expect("the summary is JSON")
    }

    /// A count in the summary.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.summary()[name].as_u64().unwrap_or_else(|| panic!("no count {name} in {}", self.out))
    }

    /// Asserts several counts of the summary: `received 3, replied 2`.
    #[track_caller]
    pub(crate) fn counts(self, expected: &str) -> Self {
        let names = expected.split(", ").map(|count| count.split_once(' ').expect("NAME COUNT").0);
        let counted: Vec<_> = names.map(|name| format!("{name} {}", self.count(name))).collect();
        assert_eq!(counted.join(", "), expected, "in {}; it said:\n{}", self.out, self.log);
        self
    }
}

/// A header as text.
#[track_caller]
pub(crate) fn text(record: &Record, header: &str) -> String {
    let value = record.header(header).unwrap_or_else(|| panic!("no header {header} in {record:?}"));
    String::from_utf8(value.to_vec()).expect("UTF-8")
}

/// The value of a record, which is JSON.
#[track_caller]
pub(crate) fn json(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON")
}

/// A record with a key and a value.
pub(crate) fn keyed(key: &str, value: &str) -> Outgoing {
    Outgoing { key: Some(key.to_owned().into()), value: Some(value.to_owned().into()), headers: Headers::default() }
}

/// A record with a value and headers.
pub(crate) fn headed(value: &str, headers: &[(&'static str, &'static str)]) -> Outgoing {
    let headers = headers.iter().map(|(name, value)| Header::new(*name, *value)).collect::<Vec<_>>().into();
    Outgoing { key: None, value: Some(value.to_owned().into()), headers }
}

/// So many messages that ask for nothing.
pub(crate) fn plain(count: usize) -> Vec<String> {
    (0..count).map(|number| format!(r#"{{"order": {number}}}"#)).collect()
}

/// A message whose task takes so long.
pub(crate) fn sleeps(ms: u64) -> String {
    format!(r#"{{"longshore": {{"sleep_ms": {ms}}}}}"#)
}

/// A message whose task fails.
pub(crate) fn fails(why: &str) -> String {
    format!(r#"{{"longshore": {{"fail": "{why}"}}}}"#)
}

/// A message whose task panics.
pub(crate) fn panics(why: &str) -> String {
    format!(r#"{{"longshore": {{"panic": "{why}"}}}}"#)
}

/// A folder for a test, and a path in it.
pub(crate) fn scratch(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    (folder, path)
}

/// `path` with something behind its name.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

/// An offset, for the broker's own methods.
pub(crate) fn offset(number: i64) -> Offset {
    Offset(number)
}
