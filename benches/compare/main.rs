//! `just bench`: Longshore end to end against a real Kafka, side by side with its references in one run.
//!
//! ```text
//! tests/kafka/kafka start ──▶ topics made and filled ──▶ for each round, each case, each contender:
//!                                                          a new group, a new reply topic
//!                                                          run it, watch its memory and CPU
//!                                                          check counts, answers and commits
//!                         ◀── Kafka stopped and removed    ──▶ medians as Markdown
//! ```
//!
//! Contenders take turns within each round, and a different one begins each round, so that what the machine
//! does beside us hits them alike. It runs the release binary, never the library, and is itself no test:
//! `cargo test --all-targets` starts it without `--bench`, and then it does nothing.
//!
//! `--readers` compares nothing but fetching, which the module `readers` does.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod cluster;
mod contender;
mod process;
mod readers;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::cluster::Cluster;
use crate::contender::Contender;
use crate::report::{Measured, Report};

/// No single run takes longer; the slowest that is known takes 30 s.
const RUN_DEADLINE: Duration = Duration::from_secs(120);

#[derive(Parser)]
#[command(name = "compare", about = "Longshore beside its references, on a real Kafka")]
struct Args {
    /// Which contenders: longshore, franz-go, parallel-consumer, aiokafka [default: the first three]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Add the old Python service
    #[arg(long)]
    with_aiokafka: bool,
    /// Which cases, by a part of their names [default: all]
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// How often each case is run by each contender
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=25))]
    rounds: u32,
    /// A quick check: one round, fewer messages, Longshore and franz-go only
    #[arg(long, conflicts_with_all = ["write", "with_aiokafka"])]
    short: bool,
    /// Compare fetching alone: Longshore's readers, kcat, and Kafka's own consumer-performance tool
    #[arg(long, conflicts_with_all = ["only", "with_aiokafka", "cases", "longshore"])]
    readers: bool,
    /// With --readers, the example `dump` to measure [default: the release build, built now]
    #[arg(long, value_name = "PATH", requires = "readers")]
    dump: Option<PathBuf>,
    /// Put the report into docs/measured.md as well, unless a run failed
    #[arg(long)]
    write: bool,
    /// The binary to measure [default: the release binary, built now]
    #[arg(long, value_name = "PATH")]
    longshore: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a case asks of every contender.
#[derive(Clone)]
struct Case {
    name: &'static str,
    messages: u64,
    /// Of the slow contenders where `messages` would take them minutes; rates are compared.
    messages_of_slow: Option<u64>,
    workers: u32,
    task_time_ms: u64,
    replies: bool,
}

impl Case {
    fn messages_for(&self, contender: Contender) -> u64 {
        self.messages_of_slow.filter(|_| contender.is_slow()).unwrap_or(self.messages)
    }

    /// The time that a perfect pool would take, in milliseconds; none for no-op tasks.
    fn ideal_ms(&self) -> Option<f64> {
        let rounds = self.messages.div_ceil(u64::from(self.workers));
        (self.task_time_ms > 0).then_some((rounds * self.task_time_ms) as f64)
    }
}

const fn case(name: &'static str, messages: u64, workers: u32, task_time_ms: u64, replies: bool) -> Case {
    Case { name, messages, messages_of_slow: None, workers, task_time_ms, replies }
}

fn all_cases() -> Vec<Case> {
    vec![
        case("1 M no-op, 64 workers", 1_000_000, 64, 0, false),
        Case { messages_of_slow: Some(200_000), ..case("1 M no-op with replies, 64 workers", 1_000_000, 64, 0, true) },
        case("10 k × 10 ms, 256 workers", 10_000, 256, 10, false),
        case("10 k × 10 ms with replies, 256 workers", 10_000, 256, 10, true),
        case("10 k × 1 ms, 64 workers", 10_000, 64, 1, false),
        case("1,000 × 5 s, 1,000 workers", 1_000, 1_000, 5_000, false),
    ]
}

fn short_cases() -> Vec<Case> {
    vec![
        case("200 k no-op, 64 workers", 200_000, 64, 0, false),
        case("200 k no-op with replies, 64 workers", 200_000, 64, 0, true),
        case("10 k × 10 ms, 256 workers", 10_000, 256, 10, false),
        case("10 k × 1 ms, 64 workers", 10_000, 64, 1, false),
        case("1,000 × 1 s, 1,000 workers", 1_000, 1_000, 1_000, false),
    ]
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        eprintln!("compare: only runs by `cargo bench --bench compare`");
        return ExitCode::SUCCESS;
    }
    let done = if args.readers { readers::compare(&args) } else { compare(&args) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = chosen_cases(args)?;
    let contenders = chosen_contenders(args);
    let rounds = if args.short { 1 } else { args.rounds };

    cluster::build_helpers(root)?;
    for contender in &contenders {
        contender.build(root, args.longshore.is_none())?;
    }
    let longshore = match &args.longshore {
        Some(path) => path.canonicalize().with_context(|| format!("no binary at {}", path.display()))?,
        None => contender::release_binary(root, "longshore"),
    };

    let cluster = Cluster::start(root)?;
    prepare(&cluster, root, &cases, &contenders)?;
    let mut report = Report::new(root, &cluster, &longshore, &contenders, rounds, args.short);
    for round in 0..rounds {
        for (index, case) in cases.iter().enumerate() {
            let mut turns = contenders.clone();
            turns.rotate_left(round as usize % contenders.len());
            for contender in turns {
                let run = format!("{contender}-case{index}-round{round}");
                let measured = measure(&cluster, root, &longshore, case, contender, &run);
                announce(round, case, contender, &measured);
                report.add(case, contender, measured);
            }
        }
    }
    if contenders.contains(&Contender::Longshore) {
        let idle = contender::idle_memory_kb(&cluster, root, &longshore);
        report.set_idle(idle);
    }
    drop(cluster);

    let text = report.markdown();
    println!("{text}");
    ensure!(report.failures() == 0, "{} runs failed", report.failures());
    if args.write {
        report::write(&root.join("docs/measured.md"), "just bench", &text)?;
    }
    Ok(())
}

fn chosen_cases(args: &Args) -> Result<Vec<Case>> {
    let mut cases = if args.short { short_cases() } else { all_cases() };
    if !args.cases.is_empty() {
        cases.retain(|case| args.cases.iter().any(|part| case.name.contains(part)));
    }
    if cases.is_empty() {
        let names: Vec<_> = all_cases().iter().map(|case| case.name).collect();
        bail!("no such case; there are: {}", names.join("; "));
    }
    Ok(cases)
}

fn chosen_contenders(args: &Args) -> Vec<Contender> {
    let mut contenders = args.only.clone();
    if contenders.is_empty() {
        contenders = vec![Contender::Longshore, Contender::FranzGo];
        if !args.short {
            contenders.push(Contender::ParallelConsumer);
        }
    }
    if args.with_aiokafka && !contenders.contains(&Contender::Aiokafka) {
        contenders.push(Contender::Aiokafka);
    }
    contenders
}

/// Fills the topics, and runs franz-go a few times for nothing: a broker that has just started is slow.
fn prepare(cluster: &Cluster, root: &Path, cases: &[Case], contenders: &[Contender]) -> Result<()> {
    for case in cases {
        for &contender in contenders {
            cluster.filled_topic(case.messages_for(contender))?;
        }
    }
    let largest = cases.iter().map(|case| case.messages).max().unwrap_or(0);
    cluster.filled_topic(largest)?;
    for (turn, replies) in [false, true, false].into_iter().enumerate() {
        let warm_up = Case { replies, ..case("warm-up", largest, 64, 0, false) };
        let run = format!("warm-up{turn}");
        measure(cluster, root, Path::new(""), &warm_up, Contender::FranzGo, &run)?;
    }
    Ok(())
}

/// One run, checked: every message done, every answer there, everything committed.
fn measure(
    cluster: &Cluster,
    root: &Path,
    longshore: &Path,
    case: &Case,
    contender: Contender,
    run: &str,
) -> Result<Measured> {
    let messages = case.messages_for(contender);
    let topic = cluster.filled_topic(messages)?;
    let reply_topic = case.replies.then(|| format!("replies-{run}"));
    if let Some(reply_topic) = &reply_topic {
        cluster.create_topic(reply_topic)?;
    }
    let job = contender::Job {
        brokers: &cluster.address,
        group: run,
        topic: &topic,
        reply_topic: reply_topic.as_deref(),
        workers: case.workers,
        task_time_ms: case.task_time_ms,
        messages,
    };
    let log = cluster.log_of(run);
    let finished = process::run(contender.command(root, longshore, &job), &log, RUN_DEADLINE)?;
    let told = contender.read_summary(&finished.stdout, &job)?;
    let committed = cluster.committed(run, &topic)?;
    ensure!(committed == messages, "committed up to {committed} of {messages}");
    if let Some(reply_topic) = &reply_topic {
        let replies = cluster.end_offsets(reply_topic)?;
        ensure!(replies == messages, "{replies} replies to {messages} messages");
        cluster.delete_topic(reply_topic)?;
    }
    Ok(Measured {
        messages,
        work_ms: told.work_ms,
        elapsed_ms: told.elapsed_ms,
        peak_kb: finished.peak_kb.max(told.max_rss_kb),
        cpu_ms: finished.cpu_ms,
    })
}

fn announce(round: u32, case: &Case, contender: Contender, measured: &Result<Measured>) {
    let round = round + 1;
    match measured {
        Ok(m) => eprintln!(
            "round {round}, {}, {contender}: {:.1} ms of work, {:.1} ms in all, {:.0} k/s, {:.1} s of CPU, {:.1} MB",
            case.name,
            m.work_ms,
            m.elapsed_ms,
            m.per_second() / 1000.0,
            m.cpu_ms as f64 / 1000.0,
            m.peak_kb as f64 / 1024.0,
        ),
        Err(error) => eprintln!("round {round}, {}, {contender}: FAILED: {error:#}", case.name),
    }
}
