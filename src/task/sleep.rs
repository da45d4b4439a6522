//! `--task sleep`: the simulated long task.

use std::{
    thread,
    time::{Duration, Instant},
};

use memchr::memmem;
use serde::Deserialize;

use super::{Answer, Failure, Task};
use crate::record::Record;

/// Sleeps, then answers with a small JSON object: `status`, `topic`, `partition`, `offset`, `took_ms`.
///
/// For trials, a message may ask for something else: in a JSON object, the member `longshore` may hold `sleep_ms`
/// (milliseconds, in place of the time given), `fail` (text: fail with it) and `panic` (text: panic with it), as in
/// `{"longshore": {"sleep_ms": 20, "fail": "no such scenario"}}`.
#[derive(Debug, Clone, Copy)]
pub struct Sleep {
    time: Duration,
}

#[derive(Deserialize)]
struct Message {
    longshore: Wishes,
}

#[derive(Deserialize, Default)]
struct Wishes {
    sleep_ms: Option<u64>,
    fail: Option<String>,
    panic: Option<String>,
}

impl Sleep {
    /// A task that takes `time`.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time }
    }
}

/// Reads what a message asks for. Most ask for nothing, and are not parsed.
fn wishes(record: &Record) -> Wishes {
    let Some(value) = record.value.as_deref() else { return Wishes::default() };
    if memmem::find(value, b"\"longshore\"").is_none() {
        return Wishes::default();
    }
    serde_json::from_slice(value).map(|message: Message| message.longshore).unwrap_or_default()
}

/// Gives how long it took. No time takes none.
fn sleep(time: Duration) -> Duration {
    if time.is_zero() {
        return time;
    }
    let begun = Instant::now();
    thread::sleep(time);
    begun.elapsed()
}

/// Where a task takes no time, this is most of it: so it is put together, and only what may need it is escaped.
fn body(record: &Record, took: Duration) -> serde_json::Result<Vec<u8>> {
    let mut numbers = itoa::Buffer::new();
    let mut body = Vec::with_capacity(128);
    body.extend_from_slice(br#"{"status":"ok","topic":"#);
    serde_json::to_writer(&mut body, &*record.source.topic)?;
    body.extend_from_slice(br#","partition":"#);
    body.extend_from_slice(numbers.format(record.source.partition).as_bytes());
    body.extend_from_slice(br#","offset":"#);
    body.extend_from_slice(numbers.format(record.offset.0).as_bytes());
    body.extend_from_slice(br#","took_ms":"#);
    body.extend_from_slice(numbers.format(took.as_millis()).as_bytes());
    body.push(b'}');
    Ok(body)
}

impl Task for Sleep {
    fn run(&self, record: &Record) -> Result<Answer, Failure> {
        let wishes = wishes(record);
        let took = sleep(wishes.sleep_ms.map_or(self.time, Duration::from_millis));
        if let Some(why) = wishes.panic {
            panic!("{why}");
        }
        if let Some(why) = wishes.fail {
            return Err(Failure::new(why));
        }
        Ok(Answer::value(body(record, took)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn run(value: &[u8]) -> Result<Answer, Failure> {
        Sleep::new(Duration::ZERO).run(&record(7, Some(value)))
    }

    #[test]
    fn answers_with_coordinates() {
        let Ok(Answer::Reply { value, .. }) = run(b"anything") else { panic!("no answer") };
        let body: serde_json::Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(body["status"], "ok");
        assert_eq!(body["topic"], "in");
        assert_eq!(body["offset"], 7);
        assert!(body["took_ms"].is_u64());
    }

    #[test]
    fn fails_on_request() {
        assert_eq!(run(br#"{"longshore": {"fail": "no"}}"#), Err(Failure::new("no")));
    }

    #[test]
    #[should_panic(expected = "boom")]
    fn panics_on_request() {
        let _ = run(br#"{"longshore": {"panic": "boom"}}"#);
    }
}
