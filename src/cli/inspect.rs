//! How a group stands: what was typed about it, and how it is shown.

use std::{
    fmt::Display,
    io::{self, Write},
    time::Duration,
};

use longshore::{
    config::{ConfigErrors, Connection},
    inspect::{GroupReport, PartitionReport, Progress, TopicReport},
    progress::Run,
    record::Offset,
};

use super::{Reading, args::InspectArgs, layers::Layers, security};

/// The most ranges of unfinished offsets in the table.
const MOST_RANGES: usize = 3;

/// Makes of what was typed, of the environment and of the `.env` file where to look.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn read(args: &InspectArgs, layers: &Layers) -> Result<Connection, ConfigErrors> {
    let mut from = Reading { layers, errors: Vec::new() };
    let text = |typed: Option<&String>, flag| layers.value(typed, flag).map(|value| value.text);
    let brokers = text(args.brokers.as_ref(), "brokers");
    let brokers: Vec<_> = brokers.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    let security = security::read(&mut from, &args.security);
    from.errors.extend_from_slice(layers.errors());
    let mut errors = from.errors;
    match Connection::check(&brokers, text(args.group.as_ref(), "group"), &security) {
        Ok(connection) if errors.is_empty() => Ok(connection),
        checked => {
            errors.extend(checked.err().into_iter().flat_map(|ConfigErrors(errors)| errors));
            Err(ConfigErrors(errors))
        }
    }
}

/// Tells it: a table for people, or JSON in one line.
///
/// # Errors
/// If `out` cannot be written to.
pub(crate) fn write(out: &mut impl Write, report: &GroupReport, json: bool) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, report)?;
        return writeln!(out);
    }
    let GroupReport { group, state, members, topics, .. } = report;
    let count = if members.len() == 1 { "1 member".to_owned() } else { format!("{} members", members.len()) };
    writeln!(out, "group {group}: {state}, {count}")?;
    for member in members {
        writeln!(out, "  {} ({}) at {}", member.member_id, member.client_id, member.host)?;
    }
    for topic in topics {
        writeln!(out)?;
        write_topic(out, topic)?;
    }
    Ok(())
}

const TITLES: [&str; 7] = ["partition", "committed", "end", "lag", "finished above", "oldest unfinished", "unfinished"];

fn write_topic(out: &mut impl Write, topic: &TopicReport) -> io::Result<()> {
    writeln!(out, "topic {}{}", topic.topic, topic.error.iter().map(|error| format!(": {error}")).collect::<String>())?;
    let rows: Vec<[String; 7]> = topic.partitions.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len()).chain([TITLES[column].len()]);
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    for cells in std::iter::once(TITLES.map(str::to_owned)).chain(rows) {
        let [numbers @ .., last] = &cells;
        for (cell, width) in numbers.iter().zip(widths) {
            write!(out, "  {cell:>width$}")?;
        }
        writeln!(out, "  {last}")?;
    }
    for partition in &topic.partitions {
        if let Some(why) = &partition.unbelieved {
            writeln!(out, "  {}: what is written beside the commit is not believed: {why}", partition.partition)?;
        }
    }
    if topic.partitions.iter().any(|partition| partition.progress == Progress::ParallelConsumer) {
        writeln!(out, "  * as Confluent's Parallel Consumer has written it, which nobody can check")?;
    }
    Ok(())
}

fn row(report: &PartitionReport) -> [String; 7] {
    let mark = if report.progress == Progress::ParallelConsumer { "*" } else { "" };
    let age = report.oldest.map(|oldest| {
        let seconds = u64::try_from(oldest.age_ms / 1_000).unwrap_or_default();
        format!("{} ({})", humantime::format_duration(Duration::from_secs(seconds)), oldest.offset)
    });
    [
        report.partition.to_string(),
        shown(report.committed),
        shown(report.end),
        shown(report.lag),
        format!("{}{mark}", report.finished_above),
        shown(age),
        ranges(report),
    ]
}

fn ranges(report: &PartitionReport) -> String {
    let range = |&(first, last): &(i64, i64)| Run::new(Offset(first), Offset(last).next()).to_string();
    let mut shown: Vec<_> = report.unfinished_ranges.iter().take(MOST_RANGES).map(range).collect();
    let more = report.unfinished_ranges.len().saturating_sub(MOST_RANGES) + report.more_ranges;
    if more > 0 {
        shown.push(format!("and {more} ranges more"));
    }
    shown.join(" ")
}

fn shown(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
