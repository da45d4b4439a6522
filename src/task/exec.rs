//! `--task exec -- CMD ARG…`: a process for each message, without a shell.
//!
//! ```text
//!   value ──▶ standard input  ┌─────────┐ standard output ──▶ the answer, if it exits with 0
//!   coordinates, key ──▶ env  │ CMD ARG │ standard error  ──▶ the log, line by line
//!                             └─────────┘ at the deadline: TERM to its process group, KILL_AFTER later KILL
//! ```
//!
//! | it exits with | which is |
//! | --- | --- |
//! | 0 | success: its standard output is the answer |
//! | [`NO_ANSWER`] (79) | success, and no answer is wanted |
//! | [`DEAD_LETTER`] (65, `EX_DATAERR`) | a failure that no other attempt would mend |
//! | [`LATER`] (75, `EX_TEMPFAIL`), and all that is not named here, and a signal | a failure: it is tried again |
//! | 126, 127 (it may not be run, or is not there) | a failure of the set-up, not of the message |
//!
//! It is a blocking task like any other: its thread waits for the pipes and for the end.
//!
//! Deliberately not here yet: that a kill -9 of Longshore takes its processes along. An end in good order does, a forced one too ([`kill_all`]).

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process_group},
};

use super::{Advice, Answer, Failure, Task};
use crate::record::Record;

/// Exit code of a task that succeeded and has no answer.
pub const NO_ANSWER: i32 = 79;
/// Exit code of a task that will never succeed with this message.
pub const DEAD_LETTER: i32 = 65;
/// Exit code of a task that may succeed later.
pub const LATER: i32 = 75;

/// The most bytes of an answer: 8 MiB. More would fit into no topic as it comes.
pub const MAX_ANSWER: usize = 8 << 20;
/// The most bytes of standard error that are logged of one message: 16 KiB.
pub const MAX_LOGGED: usize = 16 << 10;
/// How long after TERM the process group is killed: 5 s.
pub const KILL_AFTER: Duration = Duration::from_secs(5);
/// What a process sees of our environment, unless it is told more (`--exec-env`).
pub const ENV: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Where programs are looked for if `PATH` is not set.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The longest key, or value of a header, that is told in the environment.
const MAX_VALUE: usize = 64 << 10;
/// How often a process is looked at that keeps its pipes open.
const LOOK: Duration = Duration::from_millis(200);

/// The process groups that run.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<i32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all processes of [`Exec`] tasks that run, with what they have started: for a process that is about to end
/// without waiting for them.
pub fn kill_all() {
    for group in &*running() {
        signal(*group, Signal::KILL);
    }
}

fn signal(group: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        // One that is gone needs no signal.
        let _ = kill_process_group(group, signal);
    }
}

/// See the [module's documentation](self).
#[derive(Debug, Clone)]
pub struct Exec {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    /// Headers that it sees, and under which names.
    headers: Vec<(String, String)>,
    timeout: Option<Duration>,
}

impl Exec {
    /// A task that runs `command`, its first word being the program. Of our environment it sees [`ENV`] and `pass_on`. It
    /// may take as long as `timeout`.
    ///
    /// # Errors
    /// What is wrong with the command: there is none, or the program is not there.
    pub fn new(command: &[OsString], pass_on: &[String], timeout: Option<Duration>) -> Result<Self, String> {
        let Some((program, args)) = command.split_first() else {
            return Err("names no command: say it behind --, as in --task exec -- ./render --fast".to_owned());
        };
        let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        let program = find(program, &path)?;
        let names = ENV.iter().copied().chain(pass_on.iter().map(String::as_str)).filter(|name| *name != "PATH");
        let passed_on = names.filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let env = passed_on.chain([("PATH".into(), path.clone())]).collect();
        Ok(Self { program, args: args.to_vec(), env, headers: Vec::new(), timeout })
    }

    /// Has it see these headers of its message, where they are there: `trace-id` as `LONGSHORE_MSG_HEADER_TRACE_ID`.
    #[must_use]
    pub fn with_headers(mut self, names: impl IntoIterator<Item = String>) -> Self {
        let upper = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
        let named = |name: String| {
            let variable = format!("LONGSHORE_MSG_HEADER_{}", name.chars().map(upper).collect::<String>());
            (name, variable)
        };
        self.headers = names.into_iter().map(named).collect();
        self
    }

    fn command(&self, record: &Record) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command
            .env("LONGSHORE_MSG_TOPIC", &*record.source.topic)
            .env("LONGSHORE_MSG_PARTITION", record.source.partition.to_string())
            .env("LONGSHORE_MSG_OFFSET", record.offset.to_string())
            .env("LONGSHORE_MSG_TIMESTAMP_MS", record.timestamp_ms.to_string())
            .env("LONGSHORE_MSG_ATTEMPT", record.attempt.to_string());
        let key = record.key.as_deref().map(|key| ("LONGSHORE_MSG_KEY", key));
        let headers = self.headers.iter().filter_map(|(name, variable)| Some((&**variable, record.header(name)?)));
        // What no variable can hold is left out.
        for (name, value) in key.into_iter().chain(headers).filter(|(_, value)| fits(value)) {
            command.env(name, OsStr::from_bytes(value));
        }
        if record.value.is_none() {
            command.env("LONGSHORE_MSG_TOMBSTONE", "1");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }
}

/// Whether a variable can hold it.
fn fits(value: &[u8]) -> bool {
    value.len() <= MAX_VALUE && !value.contains(&0)
}

/// Where there is such a program: by its path, or in `path`.
fn find(program: &OsStr, path: &OsStr) -> Result<PathBuf, String> {
    let by_name = !program.as_bytes().contains(&b'/');
    let folders = std::env::split_paths(path).filter(|_| by_name).map(|folder| folder.join(program));
    let by_path = (!by_name).then(|| PathBuf::from(program));
    let there = folders.chain(by_path).find(|path| path.is_file());
    there.ok_or_else(|| format!("{}: there is no such program", program.display()))
}

impl Task for Exec {
    fn run(&self, record: &Record) -> Result<Answer, Failure> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let child = self.command(record).spawn().map_err(|error| cannot_start(&self.program, &error))?;
        let mut running = Running::new(child);
        let ended = running.pump(record.value.as_deref().unwrap_or_default(), deadline)?;
        for line in String::from_utf8_lossy(&running.error).lines().filter(|line| !line.trim().is_empty()) {
            let (topic, partition, offset) = (&*record.source.topic, record.source.partition, record.offset.0);
            tracing::info!(topic, partition, offset, "task: {}", line.escape_debug());
        }
        running.verdict(ended, self.timeout)
    }
}

/// A process that runs, and what it has said.
struct Running {
    child: Child,
    group: i32,
    answer: Vec<u8>,
    error: Vec<u8>,
    /// Why it is being ended.
    ending: Option<Why>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Late,
    TooMuch,
}

impl Drop for Running {
    /// However its thread comes to an end, the process does, too.
    fn drop(&mut self) {
        running().remove(&self.group);
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Running {
    fn new(child: Child) -> Self {
        let group = i32::try_from(child.id()).expect("a process id is positive and fits");
        running().insert(group);
        Self { child, group, answer: Vec::new(), error: Vec::new(), ending: None }
    }

    /// Gives it `value`, takes what it says, and waits for its end.
    fn pump(&mut self, value: &[u8], mut deadline: Option<Instant>) -> io::Result<ExitStatus> {
        let mut stdin = self.child.stdin.take();
        let (mut stdout, mut stderr) = (self.child.stdout.take(), self.child.stderr.take());
        for fd in [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)]
        {
            rustix::io::ioctl_fionbio(fd.expect("it is a pipe"), true)?;
        }
        let mut left = value;
        loop {
            stdin = stdin.filter(|_| !left.is_empty());
            if stdout.is_none() && stderr.is_none() && deadline.is_none() {
                return self.child.wait();
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                deadline = self.end(Why::Late, now);
            }
            if let Some(status) = self.child.try_wait()? {
                // What it has started may hold the pipes for ever: what it said is there by now.
                take(&mut stdout, &mut self.answer, MAX_ANSWER + 1)?;
                take(&mut stderr, &mut self.error, MAX_LOGGED)?;
                return Ok(status);
            }
            let wait = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(now).min(LOOK));
            // Nothing is left to hear of it, but its end.
            let wait = if stdout.is_none() && stderr.is_none() { wait.min(Duration::from_millis(1)) } else { wait };
            await_any(
                &[
                    stdin.as_ref().map(|fd| (fd.as_fd(), PollFlags::OUT)),
                    stdout.as_ref().map(|fd| (fd.as_fd(), PollFlags::IN)),
                    stderr.as_ref().map(|fd| (fd.as_fd(), PollFlags::IN)),
                ],
                wait,
            )?;
            give(&mut stdin, &mut left)?;
            take(&mut stdout, &mut self.answer, MAX_ANSWER + 1)?;
            take(&mut stderr, &mut self.error, MAX_LOGGED)?;
            if self.answer.len() > MAX_ANSWER && self.ending.is_none() {
                deadline = self.end(Why::TooMuch, Instant::now());
            }
        }
    }

    /// Asks the process group to end, and the second time makes it. Gives when that time is.
    fn end(&mut self, why: Why, now: Instant) -> Option<Instant> {
        if self.ending.replace(why).is_none() {
            signal(self.group, Signal::TERM);
            return Some(now + KILL_AFTER);
        }
        signal(self.group, Signal::KILL);
        Some(now + KILL_AFTER)
    }

    fn verdict(&mut self, status: ExitStatus, timeout: Option<Duration>) -> Result<Answer, Failure> {
        match self.ending {
            Some(Why::Late) => {
                let timeout = timeout.unwrap_or_default();
                return Err(Failure::new(format_args!(
                    "took longer than {timeout:?} (--task-timeout), and was killed"
                )));
            }
            Some(Why::TooMuch) => {
                return Err(Failure::new(format_args!(
                    "its answer is longer than {MAX_ANSWER} bytes, and it was killed"
                )));
            }
            None => match status.code() {
                Some(0) => return Ok(Answer::value(std::mem::take(&mut self.answer))),
                Some(NO_ANSWER) => return Ok(Answer::None),
                _ => {}
            },
        }
        let error = String::from_utf8_lossy(&self.error);
        let last = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        let colon = if last.is_empty() { "" } else { ": " };
        let advice = match status.code() {
            Some(DEAD_LETTER) => Advice::Permanent,
            Some(126 | 127) => Advice::Setup,
            _ => Advice::Retry,
        };
        Err(Failure::new(format_args!("{status}{colon}{}", last.escape_debug())).with_advice(advice))
    }
}

/// One that is not there any more, or may not be run, is no matter of the message.
fn cannot_start(program: &Path, error: &io::Error) -> Failure {
    let setup = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
    let advice = if setup { Advice::Setup } else { Advice::Retry };
    Failure::new(format_args!("cannot start {}: {error}", program.display())).with_advice(advice)
}

type Awaited<'a> = Option<(std::os::fd::BorrowedFd<'a>, PollFlags)>;

fn await_any(awaited: &[Awaited<'_>], wait: Duration) -> io::Result<()> {
    let mut fds: Vec<_> = awaited.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes as much as it takes now. One that reads no further has what it wants.
fn give(pipe: &mut Option<ChildStdin>, left: &mut &[u8]) -> io::Result<()> {
    let Some(open) = pipe else { return Ok(()) };
    match open.write(left) {
        Ok(written) => *left = &left[written..],
        Err(error) if is_later(&error) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *pipe = None,
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Takes what is there now, and keeps the first `most` bytes of all.
fn take(pipe: &mut Option<impl Read>, into: &mut Vec<u8>, most: usize) -> io::Result<()> {
    /// What is read before anything else is looked at: from one that never ends, too.
    const TURNS: usize = 16;
    let mut buffer = [0; 16 << 10];
    for _ in 0..TURNS {
        let Some(open) = pipe else { return Ok(()) };
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => into.extend_from_slice(&buffer[..read.min(most.saturating_sub(into.len()))]),
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::Header, testing::record};

    fn sh(script: &str, value: Option<&[u8]>, timeout: Option<Duration>) -> Result<Answer, Failure> {
        let command = ["sh", "-c", script].map(OsString::from);
        Exec::new(&command, &[], timeout).unwrap().run(&record(7, value))
    }

    #[track_caller]
    fn fails(result: Result<Answer, Failure>, expected: &str) {
        let failure = result.expect_err("it fails");
        assert!(failure.error().contains(expected), "{failure:?} lacks {expected}");
    }

    #[test]
    fn the_value_goes_in_and_the_answer_comes_out() {
        // More than a pipe holds, in both directions.
        let value = vec![b'x'; 1 << 20];
        assert_eq!(sh("cat", Some(&value), None), Ok(Answer::value(value)));
    }

    #[test]
    fn coordinates_are_in_the_environment_and_little_else() {
        let said = sh(
            "echo $LONGSHORE_MSG_TOPIC-$LONGSHORE_MSG_PARTITION:$LONGSHORE_MSG_OFFSET:$CARGO_MANIFEST_DIR",
            None,
            None,
        );
        assert_eq!(said, Ok(Answer::value("in-0:7:\n")), "cargo sets CARGO_MANIFEST_DIR for us, and not for it");
        assert_eq!(sh("printf $LONGSHORE_MSG_TOMBSTONE", None, None), Ok(Answer::value("1")));
    }

    #[test]
    fn what_it_says_last_is_why_it_failed() {
        fails(
            sh("echo first >&2; printf 'no \\033 such file\\n' >&2; exit 3", None, None),
            r"exit status: 3: no \u{1b} such file",
        );
        fails(sh("kill -9 $$", None, None), "signal: 9");
    }

    #[test]
    fn exit_codes_say_what_follows() {
        assert_eq!(sh("echo nobody hears; exit 79", None, None), Ok(Answer::None));
        let codes = [("exit 65", Advice::Permanent), ("exit 75", Advice::Retry), ("exit 1", Advice::Retry)];
        let more = [("exit 127", Advice::Setup), ("exit 126", Advice::Setup), ("kill -9 $$", Advice::Retry)];
        for (script, advice) in codes.into_iter().chain(more) {
            assert_eq!(sh(script, None, None).unwrap_err().advice(), advice, "{script}");
        }
    }

    #[test]
    fn one_that_is_gone_or_may_not_run_is_no_matter_of_the_message() {
        use std::{fs, os::unix::fs::PermissionsExt};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let exec = Exec::new(&[path.clone().into()], &[], None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(exec.run(&record(7, None)).unwrap_err().advice(), Advice::Setup);
        fs::remove_file(&path).unwrap();
        assert_eq!(exec.run(&record(7, None)).unwrap_err().advice(), Advice::Setup);
    }

    #[test]
    fn headers_that_it_is_to_see_are_in_the_environment() {
        let command =
            ["sh", "-c", "echo $LONGSHORE_MSG_HEADER_TRACE_ID,$LONGSHORE_MSG_HEADER_SECRET,$LONGSHORE_MSG_HEADER_NUL"];
        let names = ["trace-id", "nul", "absent"].map(str::to_owned);
        let exec = Exec::new(&command.map(OsString::from), &[], None).unwrap().with_headers(names);
        let mut record = record(7, None);
        record.headers = vec![Header::new("trace-id", "17"), Header::new("secret", "s"), Header::new("nul", "a\0b")];
        assert_eq!(exec.run(&record), Ok(Answer::value("17,,\n")));
    }

    #[test]
    fn one_that_ignores_being_asked_to_end_is_killed() {
        let begun = Instant::now();
        fails(sh("trap '' TERM; sleep 100", None, Some(Duration::from_millis(100))), "took longer than 100ms");
        assert!(begun.elapsed() < Duration::from_secs(60), "it was waited for");
    }

    #[test]
    fn one_that_does_not_read_what_it_is_given_is_no_failure() {
        let value = vec![b'x'; 1 << 20];
        assert_eq!(sh("exec 0<&-; printf done", Some(&value), None), Ok(Answer::value("done")));
    }

    #[test]
    fn at_the_deadline_it_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid.display());
        fails(sh(&script, None, Some(Duration::from_millis(300))), "took longer than 300ms");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // A zombie of somebody else's is as good as gone.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
            assert!(Instant::now() < deadline, "{pid} lives");
            std::thread::yield_now();
        }
    }

    #[test]
    fn output_without_end_is_cut_off() {
        fails(sh("yes", None, None), "longer than 8388608 bytes");
    }

    #[test]
    fn what_is_started_in_the_background_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(sh("sleep 30 & printf done", None, None), Ok(Answer::value("done")));
        assert!(begun.elapsed() < Duration::from_secs(25), "it waited for what holds its pipes");
    }

    #[test]
    fn a_command_has_to_be_there() {
        for (command, expected) in [
            (&[][..], "names no command"),
            (&["no-such-program"], "no such program"),
            (&["/no/such"], "no such program"),
        ] {
            let command: Vec<_> = command.iter().map(OsString::from).collect();
            assert!(Exec::new(&command, &[], None).unwrap_err().contains(expected), "{command:?}");
        }
    }
}
