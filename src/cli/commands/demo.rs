//! `longshore demo`: the whole thing at work, with nothing installed.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore::{
    Counters, Longshore, Progress, Summary,
    broker::{Broker, Options},
    task::Sleep,
};

use super::{Signals, drain_on_signal, refuse};
use crate::cli::{args::DemoArgs, duration};

const TOPIC: &str = "Scenario-Execute";
const REPLIES: &str = "Scenario-Execute-Response";
const DEAD_LETTERS: &str = "Scenario-Execute-Dead";
const PARTITIONS: i32 = 4;
/// Every so many messages, one is malformed, and one fails.
const MALFORMED_EVERY: u32 = 25;
const FAILS_EVERY: u32 = 40;

/// Shows it.
///
/// # Errors
/// What should not happen on a machine that can listen on a port.
pub(crate) async fn demo(args: DemoArgs) -> anyhow::Result<u8> {
    let task_time = match duration(&args.task_time) {
        Ok(time) => time,
        Err(error) => {
            return Ok(refuse(&[format!("--task-time '{}': {error}", args.task_time)], "longshore demo --help"));
        }
    };
    let mut out = io::stdout();
    let signals = Signals::listen()?;
    let broker = Broker::start(Options::default())?;
    for topic in [TOPIC, REPLIES, DEAD_LETTERS] {
        broker.create_topic(topic, PARTITIONS)?;
    }
    fill(&broker, args.messages)?;
    writeln!(out, "An in-memory broker listens on {}; it keeps nothing.", broker.address())?;
    writeln!(out, "{} messages wait in {TOPIC}, on {PARTITIONS} partitions; each takes {task_time:?}.", args.messages)?;
    writeln!(out, "{} workers take them on, answer in {REPLIES},", args.workers)?;
    writeln!(out, "and set what is malformed or fails aside in {DEAD_LETTERS}.\n")?;

    let run = Longshore::builder()
        .brokers(&broker.address())
        .group("demo")
        .topic(TOPIC)
        .reply_topic(REPLIES)
        .dead_letter_topic(DEAD_LETTERS)
        .workers(args.workers as usize)
        .until_end(true)
        .build(Sleep::new(task_time))?;
    tokio::spawn(drain_on_signal(signals, run.drain()));
    let watching = tokio::spawn(watch(run.progress(), u64::from(args.messages)));
    let summary = match run.run().await {
        Ok(summary) => summary,
        Err(error) => {
            writeln!(io::stderr(), "longshore: {error}")?;
            return Ok(error.exit_code());
        }
    };
    watching.await?;
    report(&mut out, &broker, &summary, task_time)?;
    Ok(summary.exit_code())
}

fn fill(broker: &Broker, messages: u32) -> anyhow::Result<()> {
    let partitions = u32::try_from(PARTITIONS)?;
    for partition in 0..partitions {
        let values = (0..messages).filter(|number| number % partitions == partition).map(|number| {
            if number % MALFORMED_EVERY == MALFORMED_EVERY - 1 {
                format!("{{\"scenario\": {number}, oops")
            } else if number % FAILS_EVERY == FAILS_EVERY - 1 {
                format!("{{\"scenario\": {number}, \"longshore\": {{\"fail\": \"no such scenario\"}}}}")
            } else {
                format!("{{\"scenario\": {number}}}")
            }
        });
        broker.append_values(TOPIC, i32::try_from(partition)?, values)?;
    }
    Ok(())
}

fn finished(counters: &Counters) -> u64 {
    counters.replied + counters.failure_replies
}

/// A progress bar on a terminal, a line a second elsewhere.
async fn watch(mut progress: Progress, messages: u64) {
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new(messages)
    } else {
        ProgressBar::with_draw_target(Some(messages), ProgressDrawTarget::hidden())
    };
    let style = "{bar:40} {pos}/{len} answered, {msg} [{elapsed_precise}]";
    bar.set_style(ProgressStyle::with_template(style).expect("a template that is right"));
    let mut told = tokio::time::Instant::now();
    while progress.changed().await {
        let counters = progress.now();
        let set_aside = counters.dead_lettered;
        bar.set_message(format!("{set_aside} set aside"));
        bar.set_position(finished(&counters));
        if bar.is_hidden() && told.elapsed() >= Duration::from_secs(1) {
            told = tokio::time::Instant::now();
            // Where standard error is gone, there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}/{messages} answered, {set_aside} set aside", finished(&counters));
        }
    }
    bar.finish_and_clear();
}

fn report(out: &mut impl Write, broker: &Broker, summary: &Summary, task_time: Duration) -> anyhow::Result<()> {
    let ends = |topic| broker.end_offsets(topic).map_or(0, |ends| ends.iter().map(|end| end.0).sum::<i64>());
    let took = Duration::from_secs_f64(summary.work_ms.unwrap_or_default() / 1e3);
    let run = summary.succeeded + summary.failed;
    let one_by_one = task_time.saturating_mul(u32::try_from(run)?);
    writeln!(
        out,
        "{} messages: {} succeeded, {} failed, {} malformed.",
        summary.received, summary.succeeded, summary.failed, summary.malformed
    )?;
    writeln!(
        out,
        "{} answers in {REPLIES}, {} dead letters in {DEAD_LETTERS}, none lost.",
        ends(REPLIES),
        ends(DEAD_LETTERS)
    )?;
    writeln!(out, "Took {took:.2?}; one by one, the {run} tasks would have taken {one_by_one:.2?}.")?;
    Ok(())
}
