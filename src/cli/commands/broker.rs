//! `longshore broker`.

use std::io::Write;

use longshore::{
    broker::{Broker, Options},
    error::exit,
};

use super::{Signals, refuse};
use crate::cli::{args::BrokerArgs, logging::Logging, size};

/// Runs the in-memory broker until a signal.
///
/// # Errors
/// What has nothing to do with the command line, such as a port that is taken.
pub(crate) async fn broker(args: BrokerArgs) -> anyhow::Result<u8> {
    let (options, topics) = match read(&args) {
        Ok(read) => read,
        Err(errors) => return Ok(refuse(&errors, "longshore broker --help")),
    };
    Logging::default().start();
    let mut signals = Signals::listen()?;
    let partitions = args.partitions;
    let broker =
        Broker::start(options).map_err(|error| anyhow::anyhow!("cannot listen on port {}: {error}", args.port))?;
    for (name, count) in &topics {
        broker.create_topic(name, count.unwrap_or(partitions))?;
    }
    tracing::warn!("this broker is for trying things: it holds messages in memory and keeps nothing when it ends");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", broker.address())?;
    out.flush()?;
    drop(out);
    tracing::info!("listening; try: kcat -b {} -L", broker.address());
    let signal = signals.next().await;
    tracing::info!("{signal}: ended");
    broker.stop();
    Ok(exit::OK)
}

type Topics<'a> = Vec<(&'a str, Option<i32>)>;

fn read(args: &BrokerArgs) -> Result<(Options, Topics<'_>), Vec<String>> {
    let mut errors = Vec::new();
    let max_bytes = size(&args.max_bytes).unwrap_or_else(|error| {
        errors.push(format!("--max-bytes '{}': {error}", args.max_bytes));
        0
    });
    let mut topics = Vec::new();
    for topic in &args.topic {
        match topic.split_once(':') {
            None => topics.push((topic.as_str(), None)),
            Some((name, count)) => match count.parse() {
                Ok(count @ 1..=10_000) => topics.push((name, Some(count))),
                _ => errors.push(format!("--topic '{topic}': not NAME:PARTITIONS, with 1 to 10000 partitions")),
            },
        }
    }
    let options = Options {
        port: args.port,
        default_partitions: args.partitions,
        auto_create_topics: args.auto_create,
        max_bytes,
        ..Options::default()
    };
    if errors.is_empty() { Ok((options, topics)) } else { Err(errors) }
}
