//! Settings as they were given, and the [`Config`] that they make once they are checked: all of them at once, before the
//! network is touched.

mod connection;
mod flow;
mod membership;
mod security;

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

pub use self::{
    connection::Connection,
    flow::FlowSettings,
    membership::{GroupProtocol, MembershipSettings},
    security::{Protocol, SecuritySettings},
};
pub use crate::kafka::{
    Isolation,
    reader::ReadBy,
    wire::{Mechanism, TlsProvider, TlsSettings},
};
use crate::{
    fate::{OnFailure, Policy},
    kafka::wire::{AddressError, HostPort, Security},
    loss::OnDataLoss,
    task::Format,
};

/// The reply topic unless another is named: that of the service Longshore comes from.
pub const DEFAULT_REPLY_TOPIC: &str = "Scenario-Execute-Response";
/// The most workers: each is a thread.
pub const MAX_WORKERS: usize = 10_000;
/// Records in flight, unless said otherwise: this many, or twice the workers where that is more.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 16_384;
/// Bytes in flight, unless said otherwise: 64 MiB.
pub const DEFAULT_MAX_IN_FLIGHT_BYTES: usize = 64 << 20;
/// The most that `--max-in-flight` may be.
pub const MAX_IN_FLIGHT: usize = 100_000_000;
/// The longest of all durations: 365 days.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The least that `--max-in-flight-bytes` may be: 64 KiB.
pub const MIN_IN_FLIGHT_BYTES: usize = 64 << 10;

/// Where to begin when the group has no offset (`--from`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// At the first record there is.
    #[default]
    Earliest,
    /// After the last record there is.
    Latest,
    /// Nowhere: the run ends with exit code 65.
    Stop,
}

/// Which partitions to work off (`--assign`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Assign {
    /// Those that the group deals out to us, and that change as its members come and go.
    #[default]
    Group,
    /// All that the topics have, those that are added while it runs, too.
    All,
    /// These, of the one topic that there is.
    Partitions(BTreeSet<i32>),
}

/// Where offsets are kept (`--offsets`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Offsets {
    /// With the group, as standard tools see it.
    #[default]
    Kafka,
    /// In a file of ours.
    File(PathBuf),
    /// Nowhere: the next run begins anew.
    Memory,
}

/// What a run goes by, as it was given. The fields are named after the flags, and mean what `longshore run --help` says.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Settings {
    pub brokers: Vec<String>,
    pub group: Option<String>,
    pub topics: Vec<String>,
    pub reply_topic: Option<String>,
    pub dead_letter_topic: Option<String>,
    pub on_failure: Option<OnFailure>,
    pub workers: usize,
    pub max_in_flight: Option<usize>,
    pub max_in_flight_bytes: Option<usize>,
    pub format: Format,
    pub from: From,
    pub reader: ReadBy,
    pub isolation: Isolation,
    /// Unless it is said: the group's where it keeps the offsets, else all.
    pub assign: Option<Assign>,
    pub membership: MembershipSettings,
    /// A regular expression that is to match whole names.
    pub topic_regex: Option<String>,
    pub offsets: Offsets,
    pub commit_interval: Duration,
    pub grace: Duration,
    pub until_end: bool,
    pub startup_timeout: Duration,
    pub on_data_loss: OnDataLoss,
    pub trust_foreign_progress: bool,
    pub flow: FlowSettings,
    pub security: SecuritySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            group: None,
            topics: Vec::new(),
            reply_topic: Some(DEFAULT_REPLY_TOPIC.to_owned()),
            dead_letter_topic: None,
            on_failure: None,
            workers: 32,
            max_in_flight: None,
            max_in_flight_bytes: None,
            format: Format::default(),
            from: From::default(),
            reader: ReadBy::default(),
            isolation: Isolation::default(),
            assign: None,
            membership: MembershipSettings::default(),
            topic_regex: None,
            offsets: Offsets::default(),
            commit_interval: Duration::from_secs(1),
            grace: Duration::from_secs(25),
            until_end: false,
            startup_timeout: Duration::from_secs(60),
            on_data_loss: OnDataLoss::default(),
            trust_foreign_progress: false,
            flow: FlowSettings::default(),

            security: SecuritySettings::default(),
        }
    }
}

/// What a run goes by, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// At least one.
    pub(crate) brokers: Vec<HostPort>,
    pub(crate) group: String,
    /// At least one, and none twice.
    pub(crate) topics: Vec<String>,
    pub(crate) reply_topic: Option<String>,
    pub(crate) dead_letter_topic: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) workers: usize,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) format: Format,
    pub(crate) from: From,
    pub(crate) reader: ReadBy,
    pub(crate) isolation: Isolation,
    pub(crate) assign: Assign,
    pub(crate) membership: membership::Membership,
    pub(crate) topic_pattern: Option<regex_lite::Regex>,
    pub(crate) offsets: Offsets,
    pub(crate) commit_interval: Duration,
    pub(crate) grace: Duration,
    pub(crate) until_end: bool,
    pub(crate) startup_timeout: Duration,
    pub(crate) on_data_loss: OnDataLoss,
    pub(crate) trust_foreign_progress: bool,
    pub(crate) flow: flow::Flow,
    pub(crate) security: Security,
}

/// All that is wrong with a configuration.
#[derive(Debug, Default, thiserror::Error)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end = if index + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{error}{end}")?;
        }
        Ok(())
    }
}

impl Settings {
    /// Checks the settings.
    ///
    /// # Errors
    /// All that is wrong, not just the first.
    pub fn check(self) -> Result<Config, ConfigErrors> {
        let mut errors = Vec::new();
        let mut required = |value: Option<String>, what: &str| match value {
            Some(value) if !value.trim().is_empty() => value,
            _ => {
                errors.push(format!("{what} is required"));
                String::new()
            }
        };
        let group = required(self.group, "--group (KAFKA_CONSUMER_GROUP)");
        let topic_pattern = self.topic_regex.as_ref().and_then(|regex| check_pattern(regex, &mut errors));
        check_topics(&self.topics, self.topic_regex.is_some(), &mut errors);
        let brokers = check_brokers(&self.brokers, &mut errors);
        let written = [("--reply-topic", &self.reply_topic), ("--dead-letter-topic", &self.dead_letter_topic)];
        for (flag, name) in written.into_iter().filter_map(|(flag, name)| Some((flag, name.as_ref()?))) {
            errors.extend(wrong_topic_name(name).map(|wrong| format!("{flag} {wrong}")));
            if self.topics.contains(name) {
                errors.push(format!(
                    "{flag} is the topic that is worked off, {name}: its own answers would be its messages"
                ));
            }
        }
        let policy = Policy {
            reply: self.reply_topic.is_some(),
            dead_letter: self.dead_letter_topic.is_some(),
            on_failure: self.on_failure.unwrap_or(OnFailure::Stop),
        };
        if !policy.reply && !policy.dead_letter && self.on_failure.is_none() {
            errors.push(
                "with --no-reply and no --dead-letter-topic nobody is told of a failed message: say --on-failure stop \
                 (end the run) or --on-failure drop (count it and go on)"
                    .to_owned(),
            );
        }
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            errors.push(format!("--workers must be 1 to {MAX_WORKERS}, not {}", self.workers));
        }
        let max_in_flight = self.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT.max(2 * self.workers));
        if max_in_flight < self.workers {
            errors.push(format!(
                "--max-in-flight {max_in_flight} would leave some of {} workers idle for ever",
                self.workers
            ));
        }
        let max_in_flight_bytes = self.max_in_flight_bytes.unwrap_or(DEFAULT_MAX_IN_FLIGHT_BYTES);
        if max_in_flight_bytes < MIN_IN_FLIGHT_BYTES {
            errors.push(format!("--max-in-flight-bytes must be 64KiB or more, not {max_in_flight_bytes}"));
        }
        let times = [
            ("--commit-interval", self.commit_interval),
            ("--grace", self.grace),
            ("--startup-timeout", self.startup_timeout),
        ];
        for (flag, _) in times.into_iter().filter(|(_, time)| *time > LONGEST) {
            errors.push(format!("{flag} must be 365 days or less"));
        }
        if max_in_flight > MAX_IN_FLIGHT {
            errors.push(format!("--max-in-flight must be {MAX_IN_FLIGHT} or less, not {max_in_flight}"));
        }
        let kept_by_us = self.offsets != Offsets::Kafka;
        // A group deals out what it keeps the offsets of.
        let assign = self.assign.unwrap_or(if kept_by_us { Assign::All } else { Assign::Group });
        if assign == Assign::Partitions(BTreeSet::new()) {
            errors.push("--assign names no partition".to_owned());
        }
        if matches!(assign, Assign::Partitions(_)) && self.topics.len() > 1 {
            errors.push("--assign names partitions of one topic: of several topics, all are worked off".to_owned());
        }
        if assign == Assign::Group && kept_by_us {
            errors.push(
                "--assign group keeps offsets with the group: leave --offsets out, or say --assign all for one process \
                 that takes all partitions"
                    .to_owned(),
            );
        }
        if assign != Assign::Group && self.topic_regex.is_some() {
            errors.push(
                "--topic-regex needs --assign group, which finds out about topics as they come, and offsets that are kept \
                 with the group"
                    .to_owned(),
            );
        }
        if assign != Assign::Group {
            errors.extend(self.membership.of_no_use());
        }
        let membership = self.membership.check(&mut errors);
        if self.reader == ReadBy::Rskafka && self.isolation == Isolation::ReadCommitted {
            errors.push(
                "--reader rskafka cannot leave out aborted records: --isolation read_committed needs wire".to_owned(),
            );
        }
        let flow = self.flow.check(&mut errors);
        let security = self.security.check(&mut errors);
        if self.reader == ReadBy::Rskafka && !security.is_plain() {
            errors.push("--reader rskafka speaks neither TLS nor SASL: leave it out, or say --reader wire".to_owned());
        }
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        Ok(Config {
            brokers,
            group,
            topics: self.topics,
            reply_topic: self.reply_topic,
            dead_letter_topic: self.dead_letter_topic,
            policy,
            workers: self.workers,
            max_in_flight,
            max_in_flight_bytes,
            format: self.format,
            from: self.from,
            reader: self.reader,
            isolation: self.isolation,
            assign,
            membership,
            topic_pattern,
            offsets: self.offsets,
            commit_interval: self.commit_interval,
            grace: self.grace,
            until_end: self.until_end,
            startup_timeout: self.startup_timeout,
            on_data_loss: self.on_data_loss,
            trust_foreign_progress: self.trust_foreign_progress,
            flow,
            security,
        })
    }
}

/// Made so that it matches whole names.
fn check_pattern(regex: &str, errors: &mut Vec<String>) -> Option<regex_lite::Regex> {
    match regex_lite::Regex::new(&format!("^(?:{regex})$")) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            errors.push(format!("--topic-regex '{regex}': {error}"));
            None
        }
    }
}

fn check_topics(topics: &[String], is_matched: bool, errors: &mut Vec<String>) {
    if topics.is_empty() && is_matched {
        return;
    }
    if topics.iter().all(|topic| topic.trim().is_empty()) {
        return errors.push("--topic (KAFKA_TOPIC_NAME) is required".to_owned());
    }
    for (place, topic) in topics.iter().enumerate() {
        errors.extend(wrong_topic_name(topic).map(|wrong| format!("--topic {wrong}")));
        if topics[..place].contains(topic) {
            errors.push(format!("--topic {topic} is named twice"));
        }
    }
}

fn check_brokers(brokers: &[String], errors: &mut Vec<String>) -> Vec<HostPort> {
    let named: Vec<_> = brokers.iter().map(|broker| broker.trim()).filter(|broker| !broker.is_empty()).collect();
    if named.is_empty() {
        errors.push("--brokers (KAFKA_SERVER) is required".to_owned());
    }
    named
        .into_iter()
        .filter_map(|broker| address(broker).map_err(|wrong| errors.push(format!("--brokers {wrong}"))).ok())
        .collect()
}

fn address(broker: &str) -> Result<HostPort, String> {
    match broker.split_once("://") {
        Some((scheme, _)) => Err(format!("'{broker}' is not HOST:PORT: leave {scheme}:// off")),
        None => broker.parse().map_err(|error: AddressError| error.to_string()),
    }
}

/// Kafka's own rule for names of topics.
fn wrong_topic_name(name: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Some("is empty".to_owned()),
        "." | ".." => Some(format!("'{name}' is no name that Kafka takes")),
        _ if name.len() > 249 => Some(format!("is {} characters long, and Kafka takes 249", name.len())),
        _ => name.chars().find(|c| !legal(*c)).map(|c| {
            format!("'{}' has a {c:?} in it, and Kafka takes letters, digits, '.', '_' and '-'", name.escape_debug())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings {
            brokers: vec!["localhost".to_owned()],
            group: Some("g".to_owned()),
            topics: vec!["t".to_owned()],
            ..Settings::default()
        }
    }

    #[track_caller]
    fn check_errors(settings: Settings, expected: &[&str]) {
        let ConfigErrors(errors) = settings.check().expect_err("refused");
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let settings = Settings {
            workers: 0,
            reply_topic: Some("a b".to_owned()),
            max_in_flight_bytes: Some(1),
            ..Settings::default()
        };
        check_errors(
            settings,
            &[
                "--group (KAFKA_CONSUMER_GROUP) is required",
                "--topic (KAFKA_TOPIC_NAME) is required",
                "--brokers (KAFKA_SERVER) is required",
                "--reply-topic 'a b' has a ' '",
                "--workers must be 1 to 10000, not 0",
                "--max-in-flight-bytes must be 64KiB or more",
            ],
        );
    }

    #[test]
    fn the_source_is_not_written_to() {
        check_errors(Settings { reply_topic: Some("t".to_owned()), ..good() }, &["--reply-topic is the topic"]);
        let settings = Settings { dead_letter_topic: Some("t".to_owned()), ..good() };
        check_errors(settings, &["--dead-letter-topic is the topic"]);
    }

    #[test]
    fn several_topics_are_each_checked() {
        let topics = |list: &[&str]| Settings { topics: list.iter().map(|t| (*t).to_owned()).collect(), ..good() };
        assert_eq!(topics(&["t", "u"]).check().unwrap().topics, ["t", "u"]);
        check_errors(
            topics(&["t", "", "a b", "t"]),
            &["--topic is empty", "--topic 'a b' has", "--topic t is named twice"],
        );
        check_errors(topics(&[" ", ""]), &["--topic (KAFKA_TOPIC_NAME) is required"]);
        let settings = Settings { reply_topic: Some("u".to_owned()), ..topics(&["t", "u"]) };
        check_errors(settings, &["--reply-topic is the topic that is worked off, u"]);
        let some = Some(Assign::Partitions([0].into()));
        check_errors(
            Settings { assign: some.clone(), ..topics(&["t", "u"]) },
            &["--assign names partitions of one topic"],
        );
        assert!(Settings { assign: some, ..topics(&["t"]) }.check().is_ok());
    }

    #[test]
    fn what_the_group_deals_out_is_kept_with_the_group() {
        let group = Settings { assign: Some(Assign::Group), ..good() };
        assert!(group.clone().check().is_ok());
        let memory = Settings { offsets: Offsets::Memory, ..group.clone() };
        check_errors(memory, &["--assign group keeps offsets with the group"]);
        let assigned = |offsets| Settings { offsets, ..good() }.check().unwrap().assign;
        assert_eq!(assigned(Offsets::Kafka), Assign::Group);
        let membership = MembershipSettings { instance_id: Some("one".to_owned()), ..Default::default() };
        let fixed = Settings { assign: Some(Assign::All), membership, ..good() };
        check_errors(fixed, &["--instance-id is for members of a group, and the partitions are fixed"]);
        assert_eq!((assigned(Offsets::Memory), assigned(Offsets::File("o".into()))), (Assign::All, Assign::All));
        let pattern =
            |regex: &str| Settings { topic_regex: Some(regex.to_owned()), topics: Vec::new(), ..group.clone() };
        let config = pattern("in-.*|other").check().unwrap().topic_pattern.unwrap();
        let whole = ["in-1", "other", "in", "not-in-1", "others"].map(|name| config.is_match(name));
        assert_eq!(whole, [true, true, false, false, false]);
        check_errors(pattern("(("), &["--topic-regex '((': "]);
        check_errors(Settings { assign: Some(Assign::All), ..pattern(".*") }, &["--topic-regex needs --assign group"]);
    }

    #[test]
    fn with_nobody_told_the_user_has_to_decide() {
        check_errors(Settings { reply_topic: None, ..good() }, &["--on-failure"]);
        let drop = Settings { reply_topic: None, on_failure: Some(OnFailure::Drop), ..good() };
        assert_eq!(drop.check().unwrap().policy.on_failure, OnFailure::Drop);
        let dead = Settings { reply_topic: None, dead_letter_topic: Some("d".to_owned()), ..good() };
        assert!(dead.check().is_ok());
    }

    #[test]
    fn brokers_are_addresses_not_urls() {
        let brokers = |list: &[&str]| Settings { brokers: list.iter().map(|b| (*b).to_owned()).collect(), ..good() };
        let config = brokers(&["kafka", " other:1 ", ""]).check().unwrap();
        assert_eq!(config.brokers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["kafka:9092", "other:1"]);
        check_errors(brokers(&["PLAINTEXT://kafka:9092", "kafka:x"]), &["leave PLAINTEXT:// off", "has no port"]);
    }

    #[test]
    fn room_is_derived_from_the_workers() {
        assert_eq!(good().check().unwrap().max_in_flight, DEFAULT_MAX_IN_FLIGHT);
        assert_eq!(Settings { workers: 10_000, ..good() }.check().unwrap().max_in_flight, 20_000);
        check_errors(Settings { max_in_flight: Some(31), ..good() }, &["would leave some of 32 workers idle"]);
    }
}
