//! Fetching alone: Longshore's readers beside kcat and Kafka's own consumer-performance tool, on the same topics.
//!
//! Each reads 4 partitions from their beginning to their end, and does nothing with the records but count them. Their times
//! are those of whole processes, from start to end, but for Kafka's tool: there it is its own `fetch.time.ms`, without the
//! start of the JVM and without joining its group.
//!
//! * Longshore: `examples/dump.rs` with `--count`, all partitions at once.
//! * kcat: `kcat -C -e -q -f .`, which writes one byte a message, so that they can be counted; nothing cheaper tells how
//!   many there were. With `fetch.wait.max.ms=10`: it asks once more at the end, and would wait there for half a second.
//! * Kafka: `org.apache.kafka.tools.ConsumerPerformance`, with the options of the JVM that Kafka's own script gives it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::cluster::{self, Cluster, work_dir};
use crate::contender::{release_binary, shield};
use crate::process::{self, output_of};
use crate::report::{self, Spread};
use crate::{Args, RUN_DEADLINE};

const MESSAGES: u64 = 2_000_000;
const SHORT_MESSAGES: u64 = 100_000;
const CODECS: [&str; 2] = ["none", "lz4"];
/// What Kafka's `kafka-run-class.sh` and `kafka-consumer-perf-test.sh` set.
const JVM: [&str; 5] =
    ["-Xmx512M", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Wire,
    Rskafka,
    Kcat,
    Kafka,
}

impl By {
    const ALL: [Self; 4] = [Self::Wire, Self::Rskafka, Self::Kcat, Self::Kafka];

    fn name(self) -> &'static str {
        match self {
            Self::Wire => "longshore, wire",
            Self::Rskafka => "longshore, rskafka",
            Self::Kcat => "kcat",
            Self::Kafka => "Kafka's ConsumerPerformance",
        }
    }

    /// rskafka cannot inflate.
    fn reads(self, codec: &str) -> bool {
        self != Self::Rskafka || codec == "none"
    }
}

/// What `dump --count` says.
#[derive(Deserialize)]
struct Counted {
    records: u64,
}

/// One run's figures.
struct Measured {
    per_second: f64,
    peak_kb: u64,
    cpu_ms: u64,
}

/// By the place of the codec in [`CODECS`], and by whom.
type Runs = BTreeMap<(usize, By), Vec<Measured>>;

/// Measures and reports.
///
/// # Errors
///
/// Something cannot be built or started, or a run did not read all there is.
pub(crate) fn compare(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let messages = if args.short { SHORT_MESSAGES } else { MESSAGES };
    let rounds = if args.short { 1 } else { args.rounds };
    cluster::build_helpers(root)?;
    let dump = dump(args, root)?;
    let cluster = Cluster::start(root)?;
    for codec in CODECS {
        let topic = cluster.filled_topic_in(messages, codec)?;
        // A broker that has just started is slow.
        measure(&cluster, root, &dump, By::Kcat, &topic, messages, "warm-up")?;
    }
    let mut facts = report::machine(root, &cluster, rounds, args.short);
    facts.push(format!("longshore: {}", report::commit(root)));
    let kcat = output_of(Command::new("kcat").arg("-V"))?;
    facts.push(format!("kcat: {}", kcat.lines().last().unwrap_or_default()));
    let mut runs = Runs::new();
    for round in 0..rounds {
        for (place, codec) in CODECS.into_iter().enumerate() {
            let topic = cluster.filled_topic_in(messages, codec)?;
            let mut turns = By::ALL;
            turns.rotate_left(round as usize % By::ALL.len());
            for by in turns.into_iter().filter(|by| by.reads(codec)) {
                let run = format!("readers-{codec}-{}-round{round}", by as u8);
                let measured = measure(&cluster, root, &dump, by, &topic, messages, &run)
                    .with_context(|| format!("{} on {topic}", by.name()))?;
                eprintln!("round {}, {topic}, {}: {:.0} k/s", round + 1, by.name(), measured.per_second / 1000.0);
                runs.entry((place, by)).or_default().push(measured);
            }
        }
    }
    drop(cluster);
    let text = markdown(&facts, messages, &runs);
    println!("{text}");
    if args.write {
        report::write(&root.join("docs/measured.md"), "just bench --readers", &text)?;
    }
    Ok(())
}

fn dump(args: &Args, root: &Path) -> Result<PathBuf> {
    if let Some(path) = &args.dump {
        return path.canonicalize().with_context(|| format!("no program at {}", path.display()));
    }
    eprintln!("building the example dump");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    output_of(Command::new(cargo).current_dir(root).args(["build", "--release", "--example", "dump"]))?;
    Ok(release_binary(root, "examples/dump"))
}

/// One run, checked: it read every message.
fn measure(
    cluster: &Cluster,
    root: &Path,
    dump: &Path,
    by: By,
    topic: &str,
    messages: u64,
    run: &str,
) -> Result<Measured> {
    let command = command(cluster, root, dump, by, topic, messages, run);
    let begun = Instant::now();
    let finished = process::run(command, &cluster.log_of(run), RUN_DEADLINE)?;
    let whole_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let (read, work_ms) = match by {
        By::Wire | By::Rskafka => (serde_json::from_str::<Counted>(&finished.stdout)?.records, whole_ms),
        By::Kcat => (finished.stdout.len() as u64, whole_ms),
        By::Kafka => performance(&finished.stdout)?,
    };
    ensure!(read == messages, "{read} read of {messages}");
    Ok(Measured { per_second: messages as f64 / work_ms * 1000.0, peak_kb: finished.peak_kb, cpu_ms: finished.cpu_ms })
}

fn command(cluster: &Cluster, root: &Path, dump: &Path, by: By, topic: &str, messages: u64, run: &str) -> Command {
    let mut command = match by {
        By::Wire | By::Rskafka => {
            let mut command = Command::new(dump);
            let reader = if by == By::Wire { "wire" } else { "rskafka" };
            command.args(["--brokers", &cluster.address, "--topic", topic, "--reader", reader, "--count"]);
            command
        }
        By::Kcat => {
            let mut command = Command::new("kcat");
            command
                .args(["-C", "-b", &cluster.address, "-t", topic, "-o", "beginning", "-e", "-q", "-f", "."])
                .args(["-X", "fetch.wait.max.ms=10"]);
            command
        }
        By::Kafka => {
            let mut command = Command::new("java");
            command
                .args(JVM)
                .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", &cluster.class_path()])
                .args(["org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", &cluster.address])
                .args(["--topic", topic, "--num-records", &messages.to_string(), "--group", run, "--hide-header"]);
            command
        }
    };
    shield(&mut command, &work_dir(root));
    command
}

/// From the line of ConsumerPerformance: how many records, and its `fetch.time.ms`.
fn performance(stdout: &str) -> Result<(u64, f64)> {
    let line = stdout.trim().lines().last().unwrap_or_default();
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let field = |n: usize| fields.get(n).with_context(|| format!("not the line that was expected: {line:?}"));
    Ok((field(4)?.parse()?, field(7)?.parse()?))
}

fn markdown(facts: &[String], messages: u64, runs: &Runs) -> String {
    let mut text = String::new();
    for fact in facts {
        writeln!(text, "- {fact}").unwrap();
    }
    text.push_str(
        "\n| read | by | thousand a second: median (min to max) | wire is | CPU, s a million | peak memory, MB |\n",
    );
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    let rates = |runs: &[Measured]| Spread::of(runs.iter().map(|m| m.per_second));
    for ((place, by), measured) in runs {
        let Some(rate) = rates(measured) else { continue };
        let wire = runs.get(&(*place, By::Wire)).and_then(|runs| rates(runs));
        let times = match wire {
            Some(wire) if *by != By::Wire => format!("{:.2} times as fast", wire.median / rate.median),
            _ => String::new(),
        };
        let cpu = Spread::of(measured.iter().map(|m| m.cpu_ms as f64 * 1000.0 / messages as f64));
        let peak = Spread::of(measured.iter().map(|m| m.peak_kb as f64 / 1024.0));
        let codec = if *place == 0 { "uncompressed" } else { CODECS[*place] };
        writeln!(
            text,
            "| {} k, {codec} | {} | {:.0} ({:.0} to {:.0}) | {times} | {:.2} | {:.1} |",
            messages / 1000,
            by.name(),
            rate.median / 1000.0,
            rate.min / 1000.0,
            rate.max / 1000.0,
            cpu.map_or(0.0, |cpu| cpu.median),
            peak.map_or(0.0, |peak| peak.median),
        )
        .unwrap();
    }
    text
}
