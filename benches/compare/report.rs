//! Medians, ratios and the machine's facts, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::Case;
use crate::cluster::Cluster;
use crate::contender::Contender;
use crate::process::output_of;

/// One run's figures.
pub(crate) struct Measured {
    pub(crate) messages: u64,
    /// First task's start to last task's end, or to its last answer's acknowledgement.
    pub(crate) work_ms: f64,
    /// The whole process, as it says itself.
    pub(crate) elapsed_ms: f64,
    pub(crate) peak_kb: u64,
    pub(crate) cpu_ms: u64,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.work_ms * 1000.0
    }
}

/// The runs of one contender in one case.
#[derive(Default)]
struct Runs {
    measured: Vec<Measured>,
    failures: Vec<String>,
}

/// Minimum, median and maximum.
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        Some(Self { min: values[0], median: (values[last / 2] + values[last.div_ceil(2)]) / 2.0, max: values[last] })
    }
}

impl Runs {
    fn spread(&self, of: impl Fn(&Measured) -> f64) -> Option<Spread> {
        Spread::of(self.measured.iter().map(of))
    }
}

/// Everything that was measured.
pub(crate) struct Report {
    facts: Vec<String>,
    cases: Vec<(Case, BTreeMap<Contender, Runs>)>,
    idle_kb: Option<Result<u64>>,
}

impl Report {
    pub(crate) fn new(
        root: &Path,
        cluster: &Cluster,
        longshore: &Path,
        contenders: &[Contender],
        rounds: u32,
        short: bool,
    ) -> Self {
        Self { facts: facts(root, cluster, longshore, contenders, rounds, short), cases: Vec::new(), idle_kb: None }
    }

    pub(crate) fn add(&mut self, case: &Case, contender: Contender, measured: Result<Measured>) {
        let place = self.cases.iter().position(|(known, _)| known.name == case.name);
        let place = place.unwrap_or_else(|| {
            self.cases.push((case.clone(), BTreeMap::new()));
            self.cases.len() - 1
        });
        let runs = self.cases[place].1.entry(contender).or_default();
        match measured {
            Ok(measured) => runs.measured.push(measured),
            Err(error) => runs.failures.push(format!("{error:#}")),
        }
    }

    pub(crate) fn set_idle(&mut self, idle_kb: Result<u64>) {
        self.idle_kb = Some(idle_kb);
    }

    /// How many runs did not do their job, the idle one included.
    pub(crate) fn failures(&self) -> usize {
        let runs = self.cases.iter().flat_map(|(_, runs)| runs.values());
        let idle = matches!(self.idle_kb, Some(Err(_)));
        runs.map(|runs| runs.failures.len()).sum::<usize>() + usize::from(idle)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for fact in &self.facts {
            writeln!(text, "- {fact}").unwrap();
        }
        self.rates(&mut text);
        self.times(&mut text);
        match &self.idle_kb {
            Some(Ok(kb)) => {
                let mb = megabytes(*kb as f64);
                writeln!(text, "\nLongshore idle, with default settings on an empty topic for 5 s: {mb} MB resident.")
                    .unwrap();
            }
            Some(Err(error)) => writeln!(text, "\nLongshore idle: FAILED: {error:#}").unwrap(),
            None => {}
        }
        for (case, runs) in &self.cases {
            for (contender, runs) in runs {
                for failure in &runs.failures {
                    writeln!(text, "\nFAILED: {}, {contender}: {failure}", case.name).unwrap();
                }
            }
        }
        text
    }

    /// No-op tasks: what counts is the rate.
    fn rates(&self, text: &mut String) {
        let cases = self.cases.iter().filter(|(case, _)| case.ideal_ms().is_none());
        let head = "\n| work | by | thousand a second: median (min to max) | Longshore is | CPU, s a million | peak memory, MB |\n| --- | --- | --- | --- | --- | --- |";
        let mut head = Some(head);
        for (case, runs) in cases {
            let rate = |runs: &Runs| runs.spread(Measured::per_second);
            let ours = runs.get(&Contender::Longshore).and_then(rate);
            for (contender, runs) in runs {
                let Some(rate) = rate(runs) else { continue };
                let cpu = runs.spread(|m| m.cpu_ms as f64 * 1000.0 / m.messages as f64);
                let count = case.messages_for(*contender);
                let name = match count == case.messages {
                    true => case.name.to_owned(),
                    false => format!("{}, on {} k", case.name, count / 1000),
                };
                text.extend(head.take().map(|head| format!("{head}\n")));
                writeln!(
                    text,
                    "| {name} | {contender} | {:.0} ({:.0} to {:.0}) | {} | {:.2} | {} |",
                    rate.median / 1000.0,
                    rate.min / 1000.0,
                    rate.max / 1000.0,
                    times(ours.as_ref().map(|ours| ours.median / rate.median), *contender),
                    cpu.map_or(0.0, |cpu| cpu.median),
                    peak(runs),
                )
                .unwrap();
            }
        }
    }

    /// Tasks that take time: what counts is how near they come to the ideal.
    fn times(&self, text: &mut String) {
        let head = "\n| work | by | seconds: median (min to max) | ideal | of ideal: median (min to max) | Longshore is | peak memory, MB |\n| --- | --- | --- | --- | --- | --- | --- |";
        let mut head = Some(head);
        for (case, runs) in &self.cases {
            let Some(ideal_ms) = case.ideal_ms() else { continue };
            let work = |runs: &Runs| runs.spread(|m| m.work_ms);
            let ours = runs.get(&Contender::Longshore).and_then(work);
            for (contender, runs) in runs {
                let Some(work) = work(runs) else { continue };
                text.extend(head.take().map(|head| format!("{head}\n")));
                writeln!(
                    text,
                    "| {} | {contender} | {:.3} ({:.3} to {:.3}) | {:.3} | {:.3} ({:.3} to {:.3}) | {} | {} |",
                    case.name,
                    work.median / 1000.0,
                    work.min / 1000.0,
                    work.max / 1000.0,
                    ideal_ms / 1000.0,
                    work.median / ideal_ms,
                    work.min / ideal_ms,
                    work.max / ideal_ms,
                    times(ours.as_ref().map(|ours| work.median / ours.median), *contender),
                    peak(runs),
                )
                .unwrap();
            }
        }
    }
}

/// How many times as fast Longshore is as this one.
fn times(ratio: Option<f64>, contender: Contender) -> String {
    match ratio {
        Some(ratio) if contender != Contender::Longshore => format!("{ratio:.2} times as fast"),
        _ => String::new(),
    }
}

fn peak(runs: &Runs) -> String {
    let peak = runs.spread(|m| m.peak_kb as f64);
    peak.map_or_else(String::new, |peak| megabytes(peak.median))
}

fn megabytes(kb: f64) -> String {
    format!("{:.1}", kb / 1024.0)
}

fn facts(
    root: &Path,
    cluster: &Cluster,
    longshore: &Path,
    contenders: &[Contender],
    rounds: u32,
    short: bool,
) -> Vec<String> {
    let mut facts = machine(root, cluster, rounds, short);
    for contender in contenders {
        facts.push(match contender {
            Contender::Longshore => {
                let version = output_of(Command::new(longshore).arg("--version"));
                format!("longshore: {} {}", version.unwrap_or_default(), commit(root))
            }
            Contender::FranzGo => {
                let version = declared(root, "franz-go/go.mod", "github.com/twmb/franz-go ", "\n");
                format!("franz-go: {version}, {}", said(root, "go", &["version"]))
            }
            Contender::ParallelConsumer => {
                let file = "parallel-consumer/pom.xml";
                let after = "<artifactId>parallel-consumer-core</artifactId>\n      <version>";
                format!("parallel-consumer: {}, heap 512 MB", declared(root, file, after, "<"))
            }
            Contender::Aiokafka => {
                let version = declared(root, "aiokafka/requirements.txt", "aiokafka==", "\n");
                format!("aiokafka: {version}, {}", said(root, "python3", &["--version"]))
            }
        });
    }
    facts
}

/// When, on what and on which Kafka.
pub(crate) fn machine(root: &Path, cluster: &Cluster, rounds: u32, short: bool) -> Vec<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let processor = field("/proc/cpuinfo", "model name");
    let memory = field("/proc/meminfo", "MemTotal");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    let form = if short { ", the short form" } else { "" };
    vec![
        format!(
            "{}, {rounds} round(s){form}, medians; messages of 256 bytes in 4 partitions",
            said(root, "date", &["+%F"])
        ),
        format!(
            "{cores} cores ({processor}), {memory}, Linux {}; load {load} before the first run; broker and contenders share the cores",
            said(root, "uname", &["-r"])
        ),
        format!(
            "Kafka {}, {}, one node, heap 1 GB",
            cluster.version(),
            said(root, "java", &["--version"]).lines().next().unwrap_or_default()
        ),
    ]
}

/// Which commit of ours this is, and by which compiler.
pub(crate) fn commit(root: &Path) -> String {
    format!("at {}, {}", said(root, "git", &["describe", "--always", "--dirty"]), said(root, "rustc", &["--version"]))
}

fn said(root: &Path, program: &str, args: &[&str]) -> String {
    let said = output_of(Command::new(program).args(args).current_dir(root));
    said.unwrap_or_else(|_| "unknown".to_owned())
}

/// The version that a peer's own file names, between two texts.
fn declared(root: &Path, file: &str, after: &str, before: &str) -> String {
    let text = fs::read_to_string(root.join("benches/peers").join(file)).unwrap_or_default();
    let version = text.split_once(after).and_then(|(_, rest)| rest.split(before).next());
    version.unwrap_or("unknown").to_owned()
}

/// The value of the first `name: value` of a file under /proc.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// Puts the report of `command` between its two marks in the file, or at its end when it has none.
///
/// # Errors
///
/// The file cannot be read or written.
pub(crate) fn write(path: &Path, command: &str, report: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {command}: begin -->"), format!("<!-- {command}: end -->"));
    let old = match path.exists() {
        true => fs::read_to_string(path)?,
        false => "# Measured\n".to_owned(),
    };
    let block = format!("{begin}\n\n{}\n\n{end}", report.trim());
    let new = match (old.find(&begin), old.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{block}{}", &old[..from], &old[to + end.len()..]),
        _ => format!("{}\n\n{block}\n", old.trim_end()),
    };
    fs::create_dir_all(path.parent().context("the report's file is in no folder")?)?;
    fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("written to {}", path.display());
    Ok(())
}
