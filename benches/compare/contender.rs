//! The contenders: how each is built, called and understood. All take the same job; Longshore by its own flags.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::Deserialize;

use crate::cluster::{Cluster, work_dir};
use crate::process::{self, output_of};

const IDLE_TIME: Duration = Duration::from_secs(5);
/// What a service of this kind is commonly given; its default would be a quarter of the machine.
const JAVA_HEAP: &str = "-Xmx512m";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    Longshore,
    FranzGo,
    ParallelConsumer,
    Aiokafka,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Longshore => "longshore",
            Self::FranzGo => "franz-go",
            Self::ParallelConsumer => "parallel-consumer",
            Self::Aiokafka => "aiokafka",
        })
    }
}

/// What one run is to do.
pub(crate) struct Job<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) reply_topic: Option<&'a str>,
    pub(crate) workers: u32,
    pub(crate) task_time_ms: u64,
    pub(crate) messages: u64,
}

/// What a contender says of its run; the references say `messages`, Longshore `succeeded` and `replied`.
#[derive(Deserialize)]
pub(crate) struct Summary {
    pub(crate) work_ms: f64,
    pub(crate) elapsed_ms: f64,
    #[serde(default)]
    pub(crate) max_rss_kb: u64,
    messages: Option<u64>,
    succeeded: Option<u64>,
    replied: Option<u64>,
}

/// Where `cargo build --release` puts what it builds: `longshore`, or `examples/NAME`.
pub(crate) fn release_binary(root: &Path, name: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    root.join(target).join("release").join(name)
}

impl Contender {
    /// Whether it takes minutes for a million answers.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::ParallelConsumer | Self::Aiokafka)
    }

    /// Builds it; `franz-go` is built with the helpers, and Longshore only when `longshore` says so.
    pub(crate) fn build(self, root: &Path, longshore: bool) -> Result<()> {
        match self {
            Self::Longshore if longshore => {
                eprintln!("building longshore");
                let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                let mut build = Command::new(cargo);
                build.current_dir(root).args(["build", "--release", "--bin", "longshore"]);
                output_of(&mut build)?;
            }
            Self::Longshore | Self::FranzGo => {}
            Self::ParallelConsumer => {
                eprintln!("building the Parallel Consumer peer");
                let mut build = Command::new("mvn");
                build.current_dir(root.join("benches/peers/parallel-consumer")).args([
                    "--quiet",
                    "--batch-mode",
                    "package",
                ]);
                output_of(&mut build).context("Maven and a JDK (17 or newer) are needed")?;
            }
            Self::Aiokafka => {
                eprintln!("installing the aiokafka peer");
                let venv = work_dir(root).join("venv");
                output_of(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
                let mut install = Command::new(venv.join("bin/pip"));
                install.args(["install", "--quiet", "-r"]).arg(root.join("benches/peers/aiokafka/requirements.txt"));
                output_of(&mut install)?;
            }
        }
        Ok(())
    }

    /// The command that does the job. It hears nothing of our environment that could change the job.
    pub(crate) fn command(self, root: &Path, longshore: &Path, job: &Job<'_>) -> Command {
        let work_dir = work_dir(root);
        let mut command = match self {
            Self::Longshore => longshore_command(longshore, job),
            Self::FranzGo => Command::new(work_dir.join("go/franz-go")),
            Self::ParallelConsumer => {
                let built = work_dir.join("parallel-consumer");
                let mut java = Command::new("java");
                java.args([JAVA_HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
                    .arg("-cp")
                    .arg(format!("{0}/classes:{0}/libs/*", built.display()))
                    .arg("Peer");
                java
            }
            Self::Aiokafka => {
                let mut python = Command::new(work_dir.join("venv/bin/python"));
                python.arg(root.join("benches/peers/aiokafka/peer.py"));
                python
            }
        };
        if self != Self::Longshore {
            reference_flags(&mut command, job);
        }
        shield(&mut command, &work_dir);
        command
    }

    /// Reads its one line, and checks that it did the whole job.
    ///
    /// # Errors
    ///
    /// The line is not what it should be, or not every message was done or answered.
    pub(crate) fn read_summary(self, stdout: &str, job: &Job<'_>) -> Result<Summary> {
        let line = stdout.trim().lines().last().unwrap_or_default();
        let summary: Summary =
            serde_json::from_str(line).with_context(|| format!("not the line that was expected: {line:?}"))?;
        let done = match self {
            Self::Longshore => summary.succeeded,
            _ => summary.messages,
        };
        let done = done.unwrap_or(0);
        ensure!(done == job.messages, "{done} done of {} messages", job.messages);
        if self == Self::Longshore && job.reply_topic.is_some() {
            let replied = summary.replied.unwrap_or(0);
            ensure!(replied == job.messages, "{replied} replied of {} messages", job.messages);
        }
        ensure!(summary.work_ms > 0.0, "no work at all: {line}");
        Ok(summary)
    }
}

/// The resident memory of a Longshore with default settings that has nothing to do, in kB.
///
/// # Errors
///
/// It does not run for the whole time.
pub(crate) fn idle_memory_kb(cluster: &Cluster, root: &Path, longshore: &Path) -> Result<u64> {
    cluster.create_topic("empty")?;
    let mut command = Command::new(longshore);
    command.args(["run", "-b", &cluster.address, "-g", "idle", "-t", "empty"]).args([
        "--no-reply",
        "--on-failure",
        "drop",
    ]);
    shield(&mut command, &work_dir(root));
    process::resident_after(command, &cluster.log_of("longshore-idle"), IDLE_TIME)
}

fn longshore_command(longshore: &Path, job: &Job<'_>) -> Command {
    let mut command = Command::new(longshore);
    command
        .args(["run", "-b", job.brokers, "-g", job.group, "-t", job.topic])
        .args(["--workers", &job.workers.to_string()])
        .args(["--task", "sleep", "--task-time", &task_time(job)])
        .args(["--format", "bytes", "--until-end", "--summary", "json"]);
    match job.reply_topic {
        Some(reply_topic) => command.args(["--reply-topic", reply_topic]),
        None => command.args(["--no-reply", "--on-failure", "drop"]),
    };
    command
}

fn reference_flags(command: &mut Command, job: &Job<'_>) {
    command
        .args(["--brokers", job.brokers, "--group", job.group])
        .args(["--topic", job.topic])
        .args(["--workers", &job.workers.to_string()])
        .args(["--task-time", &task_time(job)])
        .args(["--messages", &job.messages.to_string()]);
    if let Some(reply_topic) = job.reply_topic {
        command.args(["--reply-topic", reply_topic]);
    }
}

fn task_time(job: &Job<'_>) -> String {
    match job.task_time_ms {
        0 => "0".to_owned(),
        ms => format!("{ms}ms"),
    }
}

/// Away from a `.env` and from variables that are meant for another Longshore, or for Go's collector.
pub(crate) fn shield(command: &mut Command, work_dir: &Path) {
    command.current_dir(work_dir);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KAFKA_") || text.starts_with("LONGSHORE_") || text == "RUST_LOG" || text.starts_with("GO")
        {
            command.env_remove(&name);
        }
    }
}
