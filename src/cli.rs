//! The command line: what was typed ([`args`]), where else a setting may come from ([`layers`]), and what it means.

pub(crate) mod args;
pub(crate) mod commands;
pub(crate) mod flow;
pub(crate) mod inspect;
pub(crate) mod kafka_config;
pub(crate) mod layers;
pub(crate) mod logging;
pub(crate) mod membership;
pub(crate) mod report;
pub(crate) mod security;
mod task;

use std::{collections::BTreeSet, fmt::Display, time::Duration};

use longshore::{
    OnDataLoss,
    config::{Assign, Config, ConfigErrors, From, Isolation, Offsets, ReadBy, Settings},
    fate::OnFailure,
    task::Format,
};

pub(crate) use self::task::Kind;
use self::{
    args::RunArgs,
    layers::{Layers, Value},
};

/// How often a message is tried again whose task is a process or a request, unless it is said.
const DEFAULT_RETRIES: u32 = 3;

/// How the summary is told (`--summary`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SummaryFormat {
    Text,
    Json,
}

/// What `longshore run` is to do, checked.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) config: Config,
    pub(crate) task: Kind,
    pub(crate) fail_on_failure: bool,
    pub(crate) summary: SummaryFormat,
}

/// Takes values from the layers and notes what is wrong with them.
struct Reading<'a> {
    layers: &'a Layers,
    errors: Vec<String>,
}

impl Reading<'_> {
    /// Parses a value, or notes what is wrong with it and where it came from.
    fn parse<T, E: Display>(&mut self, value: Option<&Value>, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let value = value?;
        match parse(&value.text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.errors.push(format!("{} '{}': {error}", value.name(), value.text.escape_debug()));
                None
            }
        }
    }

    fn get<T, E: Display>(
        &mut self,
        typed: Option<&String>,
        flag: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.layers.value(typed, flag);
        self.parse(value.as_ref(), parse)
    }

    /// The reply topic: `--reply-topic` or `--no-reply`, whichever comes from the nearer layer.
    fn reply_topic(&mut self, args: &RunArgs) -> Option<String> {
        let named = self.layers.value(args.reply_topic.as_ref(), "reply-topic");
        let none = self.layers.value(args.no_reply.as_ref(), "no-reply");
        let without = self.parse(none.as_ref(), yes_or_no).unwrap_or(false);
        match (named, none.filter(|_| without)) {
            (Some(named), Some(none)) if named.layer == none.layer => {
                self.errors.push(format!("{} and {} contradict each other", named.name(), none.name()));
                None
            }
            (Some(named), Some(none)) if named.layer > none.layer => None,
            (Some(named), _) => Some(named.text),
            (None, Some(_)) => None,
            (None, None) => Settings::default().reply_topic,
        }
    }
}

/// Makes of what was typed, of the environment and of the `.env` file what is to be done.
///
/// # Errors
/// All that is wrong with it.
pub(crate) fn read(args: &RunArgs, layers: &Layers) -> Result<Run, ConfigErrors> {
    let mut from = Reading { layers, errors: Vec::new() };
    let defaults = Settings::default();
    let text = |value: Option<Value>| value.map(|value| value.text);
    let brokers = text(from.layers.value(args.brokers.as_ref(), "brokers"));
    // Kafka takes no commas in names.
    let typed = (!args.topic.is_empty()).then(|| args.topic.join(","));
    let topics = text(from.layers.value(typed.as_ref(), "topic"));
    let mut settings = Settings {
        brokers: brokers.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect(),
        group: text(from.layers.value(args.group.as_ref(), "group")),
        topics: topics.iter().flat_map(|list| list.split(',')).map(|topic| topic.trim().to_owned()).collect(),
        reply_topic: from.reply_topic(args),
        dead_letter_topic: text(from.layers.value(args.dead_letter_topic.as_ref(), "dead-letter-topic")),
        on_failure: from.get(args.on_failure.as_ref(), "on-failure", on_failure),
        workers: from.get(args.workers.as_ref(), "workers", number).unwrap_or(defaults.workers),
        max_in_flight: from.get(args.max_in_flight.as_ref(), "max-in-flight", number),
        max_in_flight_bytes: from.get(args.max_in_flight_bytes.as_ref(), "max-in-flight-bytes", size),
        format: from.get(args.format.as_ref(), "format", format).unwrap_or_default(),
        from: from.get(args.from.as_ref(), "from", begin).unwrap_or_default(),
        reader: from.get(args.reader.as_ref(), "reader", reader).unwrap_or_default(),
        isolation: from.get(args.isolation.as_ref(), "isolation", isolation).unwrap_or_default(),
        assign: from.get(args.assign.as_ref(), "assign", assign),
        membership: membership::read(&mut from, &args.membership),
        topic_regex: text(from.layers.value(args.topic_regex.as_ref(), "topic-regex")),
        offsets: from.get(args.offsets.as_ref(), "offsets", offsets).unwrap_or_default(),
        commit_interval: from
            .get(args.commit_interval.as_ref(), "commit-interval", duration)
            .unwrap_or(defaults.commit_interval),
        grace: from.get(args.grace.as_ref(), "grace", duration).unwrap_or(defaults.grace),
        until_end: from.get(args.until_end.as_ref(), "until-end", yes_or_no).unwrap_or(false),
        startup_timeout: from
            .get(args.startup_timeout.as_ref(), "startup-timeout", duration)
            .unwrap_or(defaults.startup_timeout),
        on_data_loss: from.get(args.on_data_loss.as_ref(), "on-data-loss", on_data_loss).unwrap_or_default(),
        flow: flow::read(&mut from, &args.flow),
        trust_foreign_progress: from
            .get(args.trust_foreign_progress.as_ref(), "trust-foreign-progress", yes_or_no)
            .unwrap_or(false),

        security: security::read(&mut from, &args.security),
    };
    from.errors.extend_from_slice(layers.errors());
    let task = task::read(&mut from, args);
    if !matches!(task, Kind::Sleep(_)) {
        settings.flow.retries.get_or_insert(DEFAULT_RETRIES);
    }
    let fail_on_failure = from.get(args.fail_on_failure.as_ref(), "fail-on-failure", yes_or_no).unwrap_or(false);
    let summary = from.get(args.summary.as_ref(), "summary", summary).unwrap_or(SummaryFormat::Text);
    let mut errors = from.errors;
    match settings.check() {
        Ok(config) if errors.is_empty() => Ok(Run { config, task, fail_on_failure, summary }),
        checked => {
            errors.extend(checked.err().into_iter().flat_map(|ConfigErrors(errors)| errors));
            Err(ConfigErrors(errors))
        }
    }
}

fn reader(text: &str) -> Result<ReadBy, &'static str> {
    match text {
        "auto" => Ok(ReadBy::Auto),
        "rskafka" => Ok(ReadBy::Rskafka),
        "wire" => Ok(ReadBy::Wire),
        _ => Err("one of auto, rskafka, wire"),
    }
}

fn isolation(text: &str) -> Result<Isolation, &'static str> {
    match text {
        "read_uncommitted" => Ok(Isolation::ReadUncommitted),
        "read_committed" => Ok(Isolation::ReadCommitted),
        _ => Err("read_uncommitted or read_committed"),
    }
}

fn number(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "not a whole number")
}

fn size(text: &str) -> Result<usize, String> {
    let bytes: bytesize::ByteSize = text.parse().map_err(|_| "not a size, such as 64MiB or 500kB".to_owned())?;
    usize::try_from(bytes.as_u64()).map_err(|_| "larger than this machine can address".to_owned())
}

/// Parses `250ms`, `5s`, `1m 30s`, `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" => Ok(Duration::ZERO),
        text => humantime::parse_duration(text).map_err(|_| "not a duration, such as 250ms, 5s or 2m".to_owned()),
    }
}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

fn on_failure(text: &str) -> Result<OnFailure, &'static str> {
    match text {
        "stop" => Ok(OnFailure::Stop),
        "drop" => Ok(OnFailure::Drop),
        _ => Err("neither stop nor drop"),
    }
}

fn format(text: &str) -> Result<Format, &'static str> {
    match text {
        "json" => Ok(Format::Json),
        "utf8" => Ok(Format::Utf8),
        "bytes" => Ok(Format::Bytes),
        _ => Err("none of json, utf8, bytes"),
    }
}

fn begin(text: &str) -> Result<From, &'static str> {
    match text {
        "earliest" => Ok(From::Earliest),
        "latest" => Ok(From::Latest),
        "stop" => Ok(From::Stop),
        _ => Err("none of earliest, latest, stop"),
    }
}

fn on_data_loss(text: &str) -> Result<OnDataLoss, &'static str> {
    match text {
        "stop" => Ok(OnDataLoss::Stop),
        "earliest" => Ok(OnDataLoss::Earliest),
        "latest" => Ok(OnDataLoss::Latest),
        _ => Err("none of stop, earliest, latest"),
    }
}

fn summary(text: &str) -> Result<SummaryFormat, &'static str> {
    match text {
        "text" => Ok(SummaryFormat::Text),
        "json" => Ok(SummaryFormat::Json),
        _ => Err("neither text nor json"),
    }
}

fn offsets(text: &str) -> Result<Offsets, &'static str> {
    match text.split_once(':') {
        None if text == "kafka" => Ok(Offsets::Kafka),
        None if text == "memory" => Ok(Offsets::Memory),
        Some(("file", path)) if !path.is_empty() => Ok(Offsets::File(path.into())),
        _ => Err("none of kafka, file:PATH, memory"),
    }
}

/// Parses `group`, `all`, or partitions and ranges of them: `0,2,5-7`.
fn assign(text: &str) -> Result<Assign, &'static str> {
    const WRONG: &str = "none of group, all and partitions, such as 0,2,5-7";
    /// More than any broker holds; a range is not to fill the memory.
    const MOST: i32 = 200_000;
    if text == "all" {
        return Ok(Assign::All);
    }
    if text == "group" {
        return Ok(Assign::Group);
    }
    let partition = |text: &str| text.trim().parse().ok().filter(|p| (0..MOST).contains(p)).ok_or(WRONG);
    let mut partitions = BTreeSet::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => _ = partitions.insert(partition(part)?),
            Some((first, last)) => {
                let range = partition(first)?..=partition(last)?;
                if range.is_empty() {
                    return Err(WRONG);
                }
                partitions.extend(range);
            }
        }
    }
    Ok(Assign::Partitions(partitions))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    #[track_caller]
    fn read_with(typed: &[&str], env: &[(&str, &str)], file: &[(&str, &str)]) -> Result<Run, ConfigErrors> {
        let args = Args::try_parse_from(["longshore", "run"].iter().chain(typed)).expect("parses");
        match args.command {
            Command::Run(args) => read(&args, &Layers::of(env, file)),
            _ => panic!("not run"),
        }
    }

    const OLD: [(&str, &str); 3] = [("KAFKA_SERVER", "k"), ("KAFKA_CONSUMER_GROUP", "g"), ("KAFKA_TOPIC_NAME", "t")];

    #[test]
    fn the_old_services_environment_is_enough() {
        let run = read_with(&[], &OLD, &[]).unwrap();
        let shown = format!("{:?}", run.config);
        for part in [
            r#"host: "k", port: 9092"#,
            r#"group: "g""#,
            r#"topics: ["t"]"#,
            "Scenario-Execute-Response",
            "workers: 32",
            "assign: Group",
            "protocol: Auto",
        ] {
            assert!(shown.contains(part), "{shown} lacks {part}");
        }
        assert!(matches!(run.task, Kind::Sleep(_)) && format!("{:?}", run.task).contains("5s"));
    }

    #[test]
    fn flags_before_environment_before_file() {
        let shown = |typed: &[&str], env: &[(&str, &str)], file: &[(&str, &str)]| {
            let env: Vec<_> = OLD.iter().chain(env).copied().collect();
            format!("{:?}", read_with(typed, &env, file).unwrap().config)
        };
        let file = [("LONGSHORE_WORKERS", "3"), ("LONGSHORE_BROKERS", "file")];
        assert!(shown(&[], &[], &file).contains("workers: 3,"));
        assert!(shown(&[], &[], &file).contains(r#"host: "k""#), "KAFKA_SERVER of the environment is nearer");
        assert!(shown(&[], &[("LONGSHORE_WORKERS", "4")], &file).contains("workers: 4,"));
        assert!(shown(&["--workers", "5"], &[("LONGSHORE_WORKERS", "4")], &file).contains("workers: 5,"));
    }

    #[test]
    fn topics_are_repeated_or_listed() {
        let topics = |typed: &[&str], env: &[(&str, &str)]| {
            let env: Vec<_> = OLD[..2].iter().chain(env).copied().collect();
            format!("{:?}", read_with(typed, &env, &[]).unwrap().config)
        };
        let both = r#"topics: ["a", "b"]"#;
        assert!(topics(&["-t", "a", "--topic", "b"], &[("KAFKA_TOPIC_NAME", "c")]).contains(both));
        assert!(topics(&["-t", "a,b"], &[]).contains(both));
        assert!(topics(&[], &[("KAFKA_TOPIC_NAME", "a, b")]).contains(both));
    }

    #[test]
    fn no_reply_and_reply_topic_go_by_the_nearer_layer() {
        let drop = ("LONGSHORE_ON_FAILURE", "drop");
        let reply = |typed: &[&str], env: &[(&str, &str)]| {
            let env: Vec<_> = OLD.iter().chain(env).copied().chain([drop]).collect();
            read_with(typed, &env, &[]).map(|run| format!("{:?}", run.config))
        };
        assert!(reply(&["--no-reply"], &[("KAFKA_REPLY_TOPIC", "r")]).unwrap().contains("reply_topic: None"));
        assert!(reply(&["--reply-topic", "r"], &[("LONGSHORE_NO_REPLY", "1")]).unwrap().contains(r#"Some("r")"#));
        assert!(reply(&["--no-reply=false"], &[]).unwrap().contains("Scenario"));
        let ConfigErrors(errors) = reply(&["--reply-topic", "r", "--no-reply"], &[]).unwrap_err();
        assert_eq!(errors, ["--reply-topic and --no-reply contradict each other"]);
    }

    #[test]
    fn wrong_values_name_where_they_came_from() {
        let env = [OLD[0], OLD[1], ("LONGSHORE_WORKERS", "many"), ("LONGSHORE_GRACE", "5")];
        let ConfigErrors(errors) = read_with(&["--assign", "3-1", "--task", "dance"], &env, &[]).unwrap_err();
        assert_eq!(
            errors,
            [
                "LONGSHORE_WORKERS 'many': not a whole number",
                "--assign '3-1': none of group, all and partitions, such as 0,2,5-7",
                "LONGSHORE_GRACE '5': not a duration, such as 250ms, 5s or 2m",
                "--task 'dance': neither sleep nor exec",
                "--topic (KAFKA_TOPIC_NAME) is required",
            ]
        );
    }

    #[test]
    fn empty_environment_variables_are_not_set() {
        assert!(read_with(&[], &[OLD[0], OLD[1], OLD[2], ("LONGSHORE_WORKERS", "")], &[]).is_ok());
    }

    #[test]
    fn partitions() {
        let set = |partitions: &[i32]| Ok(Assign::Partitions(partitions.iter().copied().collect()));
        assert_eq!(assign("all"), Ok(Assign::All));
        assert_eq!(assign("0,2,5-7"), set(&[0, 2, 5, 6, 7]));
        for wrong in ["", "x", "-1", "1-", "0-999999999", "1,,2"] {
            assert!(assign(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("5").is_err() && duration("-5s").is_err());
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert!(size("lots").is_err());
    }
}
