//! PURE. What becomes of a message once its task has come to an end.
//!
//! Each message has exactly one fate: answered, answered with its failure, dead-lettered, no answer wanted, or dropped by
//! wish. What the fate asks to be written is a chain of [`Step`]s: each is sent when the one before it is acknowledged,
//! and the message is finished after the last.
//!
//! ```text
//!                    ┌─ an answer ─────────────────▶ reply                           ▶ finished
//!   task succeeded ──┴─ none wanted, or --no-reply ────────────────────────────────▶ finished
//!
//!                    ┌─ dead letter topic ─────────▶ dead letter ─▶ failure reply ──▶ finished
//!   given up, ───────┼─ none, but a reply topic ───▶ failure reply                 ─▶ finished
//!   malformed        ├─ neither, --on-failure drop ───────────────────────────────▶ finished, counted
//!                    └─ neither, --on-failure stop ────────────── stays unfinished, the run ends
//! ```
//!
//! Deliberately not here: whether what failed is given up (`scheduler/failures.rs`), what is written where a step is too large ([`smaller`]), and how a step
//! is written.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    page::Page,
    record::{Header, Headers, Offset, Outgoing, PutHeaders, Record},
    task::{Answer, Failure},
};

mod smaller;

pub use smaller::smaller;

/// Names of the headers of an answer: where the request was read, and how it went (`ok`, `failed`, `malformed`).
///
/// A reader that must not act twice compares topic, partition and offset: answers to the same message carry the same.
pub mod headers {
    /// The topic of the request.
    pub const TOPIC: &str = "longshore.topic";
    /// The partition of the request, in decimal.
    pub const PARTITION: &str = "longshore.partition";
    /// The offset of the request, in decimal.
    pub const OFFSET: &str = "longshore.offset";
    /// `ok`, `failed` or `malformed`.
    pub const STATUS: &str = "longshore.status";
    /// The headers of a request that its answer passes on: W3C trace context, and Spring's correlation id.
    pub const PASSED_ON: [&str; 3] = ["traceparent", "tracestate", "kafka_correlationId"];
    /// What a dead letter says of its record (KIP-1191): topic, partition, offset, group, delivery count and error.
    pub const DLQ_TOPIC: &str = "__dlq.errors.topic";
    /// See [`DLQ_TOPIC`].
    pub const DLQ_PARTITION: &str = "__dlq.errors.partition";
    /// See [`DLQ_TOPIC`].
    pub const DLQ_OFFSET: &str = "__dlq.errors.offset";
    /// See [`DLQ_TOPIC`].
    pub const DLQ_GROUP: &str = "__dlq.errors.group";
    /// See [`DLQ_TOPIC`].
    pub const DLQ_DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
    /// See [`DLQ_TOPIC`].
    pub const DLQ_MESSAGE: &str = "__dlq.errors.message";
    /// On a dead letter that comes in parts: which part of its value it holds, from 1. Parts of one message have the same key
    /// and coordinates; the first has the message's headers too.
    pub const DLQ_PART: &str = "longshore.part";
    /// On a dead letter that comes in parts: how many there are.
    pub const DLQ_PARTS: &str = "longshore.parts";
    /// On a dead letter that comes in parts, or without its content: the size of key and value in bytes.
    pub const DLQ_SIZE: &str = "longshore.size";
    /// On a dead letter that comes in parts, or without its content: the SHA-256 of key and value, in hex.
    pub const DLQ_SHA256: &str = "longshore.sha256";
    /// On a dead letter that holds a batch which cannot be read: the last offset of the batch. The first is that of the
    /// dead letter.
    pub const DLQ_LAST_OFFSET: &str = "longshore.last.offset";
}

/// How a task came to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It succeeded.
    Succeeded(Answer),
    /// It said that it failed, or it panicked.
    Failed(Failure),
    /// It was not run: the message is not what `--format` asks for.
    Malformed(Failure),
}

/// A message that came to its end: what the scheduler has to know of it, without its content.
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// Which it is.
    pub offset: Offset,
    /// What it holds of the limit on bytes in flight.
    pub size: usize,
    /// How long its task ran.
    pub took: Duration,
    /// How its task ended.
    pub ending: Ending,
    /// What becomes of it.
    pub fate: Fate,
}

/// How a task ended, without what it had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed(Failure),
    /// It was not run: the message is malformed.
    Malformed(Failure),
}

/// Where answers and failures go; from `--reply-topic`, `--dead-letter-topic` and `--on-failure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// There is a reply topic.
    pub reply: bool,
    /// There is a dead letter topic.
    pub dead_letter: bool,
    /// What becomes of a failed message where there is neither.
    pub on_failure: OnFailure,
}

/// What becomes of a failed message that nobody is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The run ends, with the message unfinished.
    Stop,
    /// It is counted and forgotten.
    Drop,
}

/// What is to be written of one message, first to last; empty where nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where to.
    pub kind: Kind,
    /// What.
    pub record: Outgoing,
    /// What is to be written once this is acknowledged.
    pub then: Option<Box<Step>>,
    /// What is to be written in its place if no broker will ever take it; see [`smaller()`].
    pub instead: Option<Box<Step>>,
}

/// The kinds of records that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The answer of a task that succeeded.
    Reply,
    /// An answer that says that the message failed or was malformed.
    FailureReply,
    /// The message itself, set aside with the reason; or the last part of it.
    DeadLetter,
    /// A part of a message that is set aside, with more to come.
    DeadLetterPart,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// This is to be written, then it is finished.
    Write(Step),
    /// It failed: whether it is [given up](give_up), or tried again, is for the scheduler to say.
    Failed(Box<Record>),
    /// Finished: no answer is wanted.
    Silent,
    /// Finished: it failed, and the user asked to drop such messages.
    Drop,
    /// It failed, and the user asked to stop at such messages.
    Stop,
}

#[derive(Serialize)]
struct FailureBody<'a> {
    status: &'a str,
    error: &'a str,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

/// By what a fate is decided.
#[derive(Debug)]
pub struct Judge<'a> {
    /// Where answers and failures go.
    pub policy: Policy,
    /// The group, as dead letters name it.
    pub group: &'a str,
    /// Where headers are put.
    pub page: &'a mut Page,
}

/// Decides the fate of a message that came to its end. Done on the thread that ran it: its content, as far as nothing
/// becomes of it, goes no further.
#[must_use]
pub fn decide(record: Record, verdict: Verdict, took: Duration, judge: &mut Judge<'_>) -> Done {
    let (offset, size) = (record.offset, record.size());
    let (ending, fate) = match verdict {
        Verdict::Succeeded(Answer::Reply { value, headers }) if judge.policy.reply => {
            (Ending::Succeeded, Fate::Write(reply(record, value, &headers, judge)))
        }
        Verdict::Succeeded(_) => (Ending::Succeeded, Fate::Silent),
        Verdict::Failed(failure) => (Ending::Failed(failure), Fate::Failed(Box::new(record))),
        Verdict::Malformed(failure) => {
            let fate = failed(record, "malformed", &failure, judge);
            (Ending::Malformed(failure), fate)
        }
    };
    Done { offset, size, took, ending, fate }
}

/// What becomes of a message whose task has failed and is not run again.
#[must_use]
pub fn give_up(record: Record, failure: &Failure, judge: &mut Judge<'_>) -> Fate {
    failed(record, "failed", failure, judge)
}

fn reply(record: Record, value: Bytes, theirs: &[Header], judge: &mut Judge<'_>) -> Step {
    let headers = answer_headers(theirs, &record, "ok", judge.page);
    let size = value.len() + record.key.as_ref().map_or(0, Bytes::len) + headers.encoded().len();
    let instead = if_too_large(&record, size, value.len(), judge);
    let record = Outgoing { key: record.key, value: Some(judge.page.put(value)), headers };
    Step { kind: Kind::Reply, record, then: None, instead }
}

/// An answer that no broker takes becomes a failure. Only answers large enough to be refused (with their keys and headers,
/// `size`) carry this along; [`smaller()`] makes do without it where a topic takes less still.
fn if_too_large(record: &Record, size: usize, answer: usize, judge: &mut Judge<'_>) -> Option<Box<Step>> {
    const SELDOM_REFUSED: usize = 4096;
    if size <= SELDOM_REFUSED {
        return None;
    }
    let failure = too_large(answer);
    match failed(record.clone(), "failed", &failure, judge) {
        Fate::Write(step) => Some(Box::new(step)),
        Fate::Failed(_) | Fate::Silent | Fate::Drop | Fate::Stop => None,
    }
}

fn too_large(answer: usize) -> Failure {
    Failure::new(format_args!("the answer of {answer} bytes is too large for the reply topic"))
}

fn failed(record: Record, status: &'static str, failure: &Failure, judge: &mut Judge<'_>) -> Fate {
    let Judge { policy, group, page } = judge;
    let reply = policy.reply.then(|| failure_reply(&record, status, failure, page));
    if policy.dead_letter {
        return Fate::Write(dead_letter(record, failure, group, reply));
    }
    match (reply, policy.on_failure) {
        (Some(reply), _) => Fate::Write(reply),
        (None, OnFailure::Drop) => Fate::Drop,
        (None, OnFailure::Stop) => Fate::Stop,
    }
}

fn failure_reply(record: &Record, status: &'static str, failure: &Failure, page: &mut Page) -> Step {
    let body = FailureBody {
        status,
        error: failure.error(),
        topic: &record.source.topic,
        partition: record.source.partition,
        offset: record.offset.0,
    };
    let value = serde_json::to_vec(&body).expect("strings and numbers are JSON");
    let headers = answer_headers(&[], record, status, page);
    let record = Outgoing { key: record.key.clone(), value: Some(value.into()), headers };
    Step { kind: Kind::FailureReply, record, then: None, instead: None }
}

/// How many headers an answer has beside those of its task and those that it passes on. They are its last.
const OWN_HEADERS: usize = 4;

fn answer_headers(theirs: &[Header], record: &Record, status: &'static str, page: &mut Page) -> Headers {
    let mut put = PutHeaders::in_page(page);
    let passed_on = |header: &&Header| headers::PASSED_ON.iter().any(|name| header.name == name.as_bytes());
    for header in theirs.iter().chain(record.headers.iter().filter(passed_on)) {
        put.put(&header.name, header.value.as_deref());
    }
    put.put(headers::TOPIC.as_bytes(), Some(record.source.topic.as_bytes()));
    put.put_number(headers::PARTITION.as_bytes(), i64::from(record.source.partition));
    put.put_number(headers::OFFSET.as_bytes(), record.offset.0);
    put.put(headers::STATUS.as_bytes(), Some(status.as_bytes()));
    put.done()
}

fn dead_letter(record: Record, failure: &Failure, group: &str, then: Option<Step>) -> Step {
    let headers = record.headers.iter().chain(&dead_letter_headers(&record, failure, group)).collect();
    let outgoing = Outgoing { key: record.key, value: record.value, headers };
    Step { kind: Kind::DeadLetter, record: outgoing, then: then.map(Box::new), instead: None }
}

fn dead_letter_headers(record: &Record, failure: &Failure, group: &str) -> Vec<Header> {
    let mut headers = vec![
        text(headers::DLQ_TOPIC, &record.source.topic),
        text(headers::DLQ_PARTITION, record.source.partition),
        text(headers::DLQ_OFFSET, record.offset),
        text(headers::DLQ_GROUP, group),
        text(headers::DLQ_DELIVERY_COUNT, record.attempt),
        text(headers::DLQ_MESSAGE, failure.error()),
    ];
    headers.extend(record.damage.iter().map(|damage| text(headers::DLQ_LAST_OFFSET, damage.last)));
    headers
}

fn text(name: &'static str, value: impl ToString) -> Header {
    Header::new(name, value.to_string())
}

#[cfg(test)]
mod tests;
