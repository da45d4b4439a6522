//! What was done, told at the end.

use std::io::{self, Write};

use longshore::{Summary, scheduler::PartitionOffsets, sink::Unwritten};

use super::SummaryFormat;

/// Writes the summary to `out`.
///
/// # Errors
/// If `out` cannot be written to.
pub(crate) fn write(out: &mut impl Write, summary: &Summary, format: SummaryFormat) -> io::Result<()> {
    match format {
        SummaryFormat::Json => {
            serde_json::to_writer(&mut *out, summary)?;
            writeln!(out)
        }
        SummaryFormat::Text => write_text(out, summary),
    }
}

fn write_text(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Summary { received, succeeded, failed, malformed, replied, failure_replies, dead_lettered, dropped, .. } =
        summary;
    writeln!(out, "messages   {received} received: {succeeded} succeeded, {failed} failed, {malformed} malformed")?;
    writeln!(
        out,
        "answers    {replied} of success, {failure_replies} of failure; {dead_lettered} dead letters, {dropped} dropped"
    )?;
    let committed = if summary.committed.is_empty() { "nothing".to_owned() } else { offsets(&summary.committed) };
    writeln!(out, "committed  {committed}")?;
    let seconds = |millis: f64| format!("{:.3} s", millis / 1e3);
    let work = summary.work_ms.map_or_else(|| "no task ran".to_owned(), |work| format!("{} of work", seconds(work)));
    writeln!(out, "time       {}, {work}", seconds(summary.elapsed_ms))?;
    for loss in &summary.data_loss {
        writeln!(out, "data loss  {loss}")?;
    }
    if summary.past_life > 0 {
        writeln!(
            out,
            "past life  {} tasks ran on when their partition or its log was gone: nothing was written of them",
            summary.past_life
        )?;
    }
    if summary.adopted > 0 {
        writeln!(out, "adopted    {} tasks, which ran on while their partitions went and came back", summary.adopted)?;
    }
    if summary.retried > 0 {
        writeln!(out, "retried    {} attempts that failed and were not the last", summary.retried)?;
    }
    if summary.circuit_opened > 0 {
        writeln!(out, "circuit    opened {} times: nearly all tasks failed", summary.circuit_opened)?;
    }
    if summary.in_flight_at_exit > 0 {
        writeln!(out, "unfinished {} tasks, which run again next time", summary.in_flight_at_exit)?;
    }
    for (n, unfinished) in summary.unfinished.iter().enumerate() {
        // What waits to be tried again is listed where nothing is in flight, too.
        let title = if n == 0 && summary.in_flight_at_exit == 0 { "unfinished" } else { "" };
        writeln!(out, "{title:<10} {unfinished}")?;
    }
    if summary.already_finished > 0 {
        writeln!(out, "passed     {} messages, which the commit says are finished", summary.already_finished)?;
    }
    if summary.progress_dropped > 0 {
        writeln!(
            out,
            "dropped    {} offsets are finished above the commit, which has no room to say so: they run again",
            summary.progress_dropped
        )?;
    }
    if summary.unanswered > 0 {
        writeln!(
            out,
            "unanswered {} of them: their tasks have ended, their answers are not written",
            summary.unanswered
        )?;
    }
    for Unwritten { topic, partition, waited_ms, reason, .. } in &summary.unwritten {
        let waited = f64::from(u32::try_from(*waited_ms).unwrap_or(u32::MAX));
        writeln!(out, "           {topic}-{partition} could not be written to for {}: {reason}", seconds(waited))?;
    }
    if !summary.uncommitted.is_empty() {
        let uncommitted = offsets(&summary.uncommitted);
        writeln!(out, "beyond     {uncommitted} is done, but no commit says so: it runs again")?;
    }
    if summary.forced {
        writeln!(
            out,
            "forced     the end did not wait for every task and answer, or the last commit was not acknowledged"
        )?;
    }
    Ok(())
}

fn offsets(offsets: &PartitionOffsets) -> String {
    offsets.named().map(|(partition, offset)| format!("{partition}:{offset}")).collect::<Vec<_>>().join(" ")
}
