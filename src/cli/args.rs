//! What was typed. Everything is text here; what it means is [`read`](super::read)'s.

use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    flow::FlowArgs,
    layers::{environment_name, older_name},
    membership::MembershipArgs,
    security::SecurityArgs,
};

/// Run a slow, blocking task for every message of a Kafka topic, many at once, and lose none.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, arg_required_else_help = true, max_term_width = 120)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Work off a topic
    Run(Box<RunArgs>),
    /// Show how a group stands: what it has committed, what is finished above that, what is not
    Inspect(Box<InspectArgs>),
    /// Show it with nothing installed: in-memory broker, messages, consumer, result
    #[cfg(feature = "broker")]
    Demo(DemoArgs),
    /// Run the in-memory broker on its own, for trying things; it keeps nothing
    #[cfg(feature = "broker")]
    Broker(BrokerArgs),
}

const EXAMPLE: &str = "\
Example:
  longshore run -b localhost:9092 -g scenarios -t Scenario-Execute --task-time 5s --workers 100 \\
      --dead-letter-topic Scenario-Execute-Dead

Settings come from flags, then the environment, then a .env file in the working directory, then --kafka-config.

Exit codes:
  0 clean · 1 a message failed (--fail-on-failure, --on-failure stop) · 64 wrong usage or configuration
  65 data is gone · 69 Kafka not reachable or refusing · 70 our own fault
  75 drain was forced, or its last commit not acknowledged";

#[derive(Debug, ClapArgs, Default)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RunArgs {
    /// Bootstrap brokers; without a port, 9092 is meant
    #[arg(short, long, value_name = "HOST:PORT,...", help_heading = "Kafka")]
    pub(crate) brokers: Option<String>,
    /// Consumer group: where progress is kept, as standard tools see it
    #[arg(short, long, value_name = "ID", help_heading = "Kafka")]
    pub(crate) group: Option<String>,
    /// Topic to work off; may be repeated
    #[arg(short, long, value_name = "NAME,...", help_heading = "Kafka")]
    pub(crate) topic: Vec<String>,
    /// Topics to work off, by a regular expression that matches whole names; those that come later, too
    #[arg(long, value_name = "REGEX", help_heading = "Kafka")]
    pub(crate) topic_regex: Option<String>,
    /// Partitions to work off: group (those that the group deals out), or fixed ones, by one process alone: all, or, of one
    /// topic, some, such as 0,2,5-7 [default: group; all where --offsets is not kafka]
    #[arg(long, value_name = "group|all|LIST", help_heading = "Kafka")]
    pub(crate) assign: Option<String>,
    /// Which records of transactions to read: read_uncommitted, or read_committed [default: read_uncommitted]
    #[arg(long, value_name = "LEVEL", help_heading = "Kafka")]
    pub(crate) isolation: Option<String>,
    /// What reads the topic: auto (rskafka, and wire where rskafka cannot), rskafka or wire [default: auto]
    #[arg(long, value_name = "READER", help_heading = "Kafka")]
    pub(crate) reader: Option<String>,
    /// How long to wait at the start for brokers and topic to be there [default: 60s]
    #[arg(long, value_name = "DURATION", help_heading = "Kafka")]
    pub(crate) startup_timeout: Option<String>,

    #[command(flatten)]
    pub(crate) membership: MembershipArgs,

    #[command(flatten)]
    pub(crate) flow: FlowArgs,

    #[command(flatten)]
    pub(crate) security: SecurityArgs,

    /// Topic for answers [default: Scenario-Execute-Response]
    #[arg(long, value_name = "NAME", help_heading = "Answers and failures")]
    pub(crate) reply_topic: Option<String>,
    /// Write no answers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Answers and failures")]
    pub(crate) no_reply: Option<String>,
    /// Topic for malformed and failed messages [default: none]
    #[arg(long, value_name = "NAME", help_heading = "Answers and failures")]
    pub(crate) dead_letter_topic: Option<String>,
    /// What becomes of a failed message that nobody is told of: stop or drop
    /// [must be said with --no-reply and no dead letter topic]
    #[arg(long, value_name = "stop|drop", help_heading = "Answers and failures")]
    pub(crate) on_failure: Option<String>,
    /// Exit with 1 if any message failed or was malformed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Answers and failures")]
    pub(crate) fail_on_failure: Option<String>,

    /// What to do for each message: sleep, the simulated long task, or exec, a process for each: -- CMD ARG... [default: sleep]
    #[arg(long, value_name = "KIND", help_heading = "Task")]
    pub(crate) task: Option<String>,
    /// How long the simulated task takes: 250ms, 5s, 0 [default: 5s]
    #[arg(long, value_name = "DURATION", help_heading = "Task")]
    pub(crate) task_time: Option<String>,
    /// How long the process of a message may take before it is killed, with what it started [default: no limit]
    #[arg(long, value_name = "DURATION", help_heading = "Task")]
    pub(crate) task_timeout: Option<String>,
    /// What the process of a message sees of Longshore's environment, beside PATH, HOME, USER, LANG, TZ and TMPDIR
    #[arg(long, value_name = "NAME,...", help_heading = "Task")]
    pub(crate) exec_env: Option<String>,
    /// Headers of a message that its process sees, each as LONGSHORE_MSG_HEADER_NAME
    #[arg(long, value_name = "NAME,...", help_heading = "Task")]
    pub(crate) exec_header: Option<String>,
    /// With --task exec: the program and its arguments, without a shell. The value is its standard input, its standard output
    /// the answer; LONGSHORE_MSG_TOPIC, _PARTITION, _OFFSET, _TIMESTAMP_MS, _KEY say which message it is; exit code 0 is success
    #[arg(last = true, value_name = "CMD ARG", help_heading = "Task")]
    pub(crate) command: Vec<std::ffi::OsString>,
    /// Threads of the pool, which is tasks at once [default: 32]
    #[arg(long, value_name = "N", help_heading = "Task")]
    pub(crate) workers: Option<String>,
    /// What a well-formed message is: json, utf8 or bytes [default: json]
    #[arg(long, value_name = "FORMAT", help_heading = "Task")]
    pub(crate) format: Option<String>,

    /// Where to begin when the group has no offset: earliest, latest or stop [default: earliest]
    #[arg(long, value_name = "WHERE", help_heading = "Progress")]
    pub(crate) from: Option<String>,
    /// When messages are gone that were not worked off: stop (exit code 65), or go on at the earliest or the latest
    /// [default: stop]
    #[arg(long, value_name = "WHAT", help_heading = "Progress")]
    pub(crate) on_data_loss: Option<String>,
    /// Work off what was there at the start, then drain and exit 0
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Progress")]
    pub(crate) until_end: Option<String>,
    /// Believe what Confluent's Parallel Consumer says is finished above its commits; nobody can check that it belongs there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Progress")]
    pub(crate) trust_foreign_progress: Option<String>,
    /// Where offsets are kept: kafka, file:PATH or memory [default: kafka]
    #[arg(long, value_name = "STORE", help_heading = "Progress")]
    pub(crate) offsets: Option<String>,
    /// Commit at most this often, but after 100 ms where 1,000 messages or more were finished meanwhile [default: 1s]
    #[arg(long, value_name = "DURATION", help_heading = "Progress")]
    pub(crate) commit_interval: Option<String>,
    /// How long running tasks may finish after SIGTERM or Ctrl-C [default: 25s]
    #[arg(long, value_name = "DURATION", help_heading = "Progress")]
    pub(crate) grace: Option<String>,

    /// Records held at once, waiting or running; beyond them fetching pauses [default: 16384, or twice the workers]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub(crate) max_in_flight: Option<String>,
    /// Bytes held at once; beyond them fetching pauses [default: 64MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) max_in_flight_bytes: Option<String>,

    /// What to log: error, warn, info, debug, trace, or targets such as info,rskafka=debug [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Telling")]
    pub(crate) log_level: Option<String>,
    /// How to log, on standard error: text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Telling")]
    pub(crate) log_format: Option<String>,
    /// How to tell at the end what was done, on standard output: text, or json (one line) [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Telling")]
    pub(crate) summary: Option<String>,
    /// File with settings, in place of .env
    #[arg(long, value_name = "PATH", help_heading = "Telling")]
    pub(crate) env_file: Option<String>,
}

const INSPECT_EXAMPLE: &str = "\
Example:
  longshore inspect -b localhost:9092 -g scenarios

It looks, and changes nothing: any group, of whatever client, with members or without. What is finished above a commit is
known where Longshore or Confluent's Parallel Consumer has written it there.

Exit codes:
  0 shown · 64 wrong usage or configuration · 69 Kafka not reachable or refusing, or no such group";

#[derive(Debug, ClapArgs, Default)]
#[command(after_help = INSPECT_EXAMPLE)]
pub(crate) struct InspectArgs {
    /// Bootstrap brokers; without a port, 9092 is meant
    #[arg(short, long, value_name = "HOST:PORT,...", help_heading = "Kafka")]
    pub(crate) brokers: Option<String>,
    /// Consumer group to look at
    #[arg(short, long, value_name = "ID", help_heading = "Kafka")]
    pub(crate) group: Option<String>,
    /// Topic to look at; may be repeated [default: all that the group keeps offsets of]
    #[arg(short, long, value_name = "NAME", help_heading = "Kafka")]
    pub(crate) topic: Vec<String>,

    #[command(flatten)]
    pub(crate) security: SecurityArgs,

    /// Tell it as JSON, in one line
    #[arg(long, help_heading = "Telling")]
    pub(crate) json: bool,
    /// File with settings, in place of .env
    #[arg(long, value_name = "PATH", help_heading = "Telling")]
    pub(crate) env_file: Option<String>,
}

#[cfg(feature = "broker")]
#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    /// How many messages; every 25th is malformed, every 40th fails
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) messages: u32,
    /// How long the task of each takes
    #[arg(long, value_name = "DURATION", default_value = "250ms")]
    pub(crate) task_time: String,
    /// Threads of the pool, which is tasks at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) workers: u32,
}

#[cfg(feature = "broker")]
#[derive(Debug, ClapArgs)]
pub(crate) struct BrokerArgs {
    /// Port on 127.0.0.1; 0 lets the system pick one
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    pub(crate) port: u16,
    /// Create a topic: NAME, or NAME:PARTITIONS; may be repeated
    #[arg(long, value_name = "NAME[:N]")]
    pub(crate) topic: Vec<String>,
    /// Partitions of a topic that is created without a number
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub(crate) partitions: i32,
    /// Create a topic when somebody asks for it
    #[arg(long)]
    pub(crate) auto_create: bool,
    /// Most bytes of messages to hold; beyond them, nothing more is taken
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) max_bytes: String,
}

/// Parses the command line. Its help names each flag's name in the environment.
///
/// # Errors
/// What clap says, which is also how `--help` and `--version` are told.
pub(crate) fn parse(line: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Args, clap::Error> {
    let command = Args::command()
        .mut_subcommand("run", |run| name_variables(run, &[]))
        // What is looked at is said with the command, and not by what a worker beside it is told to do.
        .mut_subcommand("inspect", |inspect| name_variables(inspect, &["json", "topic"]));
    Args::from_arg_matches(&command.try_get_matches_from(line)?)
}

/// Names, in the help of each flag but these, its name in the environment.
fn name_variables(subcommand: clap::Command, but: &[&str]) -> clap::Command {
    subcommand.mut_args(|arg| {
        let Some(flag) = arg.get_long().filter(|flag| *flag != "help" && !but.contains(flag)) else { return arg };
        let name = older_name(flag).map_or_else(|| environment_name(flag), str::to_owned);
        let help = format!("{} [env: {name}]", arg.get_help().map(ToString::to_string).unwrap_or_default());
        arg.help(help)
    })
}
