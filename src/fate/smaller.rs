//! PURE. What is written in place of what no broker takes.

use std::fmt::Write as _;

use super::{FailureBody, Kind, OWN_HEADERS, Step, headers, text, too_large};
use crate::record::{Header, Headers, Outgoing};

/// The bytes of its value in a part of a dead letter: far less than a topic's default limit of 1 MiB.
const PART_BYTES: usize = 64 << 10;
/// The most parts; a message larger than this many comes in larger ones.
const MAX_PARTS: usize = 256;

/// What is written in place of a record that the broker calls too large, if anything is left to try.
///
/// An answer becomes a failure. A dead letter comes in parts; where even one of these is too large, in one that says what the
/// message was, without its content. An answer of failure loses its key (which may be as large as a message) and the headers
/// that it passes on; its own headers still say which message it was, and how it went. A step without content that is too large all the same has nothing left.
#[must_use]
pub fn smaller(step: Step) -> Option<Step> {
    let Step { kind, record, then, instead } = step;
    let has_content = record.key.is_some() || record.value.is_some();
    let (kind, record) = match (kind, instead) {
        (_, Some(instead)) => return Some(*instead),
        (Kind::Reply, None) => (Kind::FailureReply, answered_with_failure(record)),
        (Kind::FailureReply, None) if has_content => (kind, without_key(record)),
        (Kind::DeadLetter, None) if has_content => return Some(in_parts(record, then)),
        (Kind::FailureReply | Kind::DeadLetter | Kind::DeadLetterPart, None) => return None,
    };
    Some(Step { kind, record, then, instead: None })
}

/// Those headers of an answer that say where it comes from and how it went.
fn own_headers(headers: &Headers) -> Vec<Header> {
    headers.to_vec().split_off(headers.len() - OWN_HEADERS)
}

/// Makes an answer of success, of which only itself is left, into one of failure.
fn answered_with_failure(answer: Outgoing) -> Outgoing {
    let Outgoing { key, value, headers } = answer;
    let mut headers = own_headers(&headers);
    headers.pop();
    headers.push(text(headers::STATUS, "failed"));
    let own = |at: usize| headers[at].value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let failure = too_large(value.map_or(0, |value| value.len()));
    let body = FailureBody {
        status: "failed",
        error: failure.error(),
        topic: &own(0),
        partition: own(1).parse().expect("we wrote it"),
        offset: own(2).parse().expect("we wrote it"),
    };
    let value = serde_json::to_vec(&body).expect("strings and numbers are JSON");
    Outgoing { key, value: Some(value.into()), headers: headers.into() }
}

fn without_key(failure: Outgoing) -> Outgoing {
    let Outgoing { key, value, headers } = failure;
    let value = value.filter(|_| key.is_some());
    Outgoing { key: None, value, headers: own_headers(&headers).into() }
}

/// The parts of a dead letter, first to last; in place of each there is one without content.
fn in_parts(dead_letter: Outgoing, then: Option<Box<Step>>) -> Step {
    let Outgoing { key, value, headers } = dead_letter;
    let value = value.unwrap_or_default();
    let headers = headers.to_vec();
    let own = described(&headers, key.as_deref(), &value);
    let bare = Outgoing { key: None, value: None, headers: own.clone().into() };
    let bare = Step { kind: Kind::DeadLetter, record: bare, then, instead: None };
    let size = value.len().div_ceil(MAX_PARTS).max(PART_BYTES);
    let parts = value.len().div_ceil(size);
    if parts < 2 {
        // Not the value is too large.
        return bare;
    }
    let mut next = bare.then.clone();
    for part in (0..parts).rev() {
        let mut with = own.clone();
        if part == 0 {
            // What the message brought along comes first, as in a dead letter of one piece.
            with.splice(0..0, headers[..ours(&headers)].iter().cloned());
        }
        with.push(text(headers::DLQ_PART, part + 1));
        with.push(text(headers::DLQ_PARTS, parts));
        let content = value.slice(part * size..value.len().min((part + 1) * size));
        let record = Outgoing { key: key.clone(), value: Some(content), headers: with.into() };
        let kind = if part + 1 == parts { Kind::DeadLetter } else { Kind::DeadLetterPart };
        next = Some(Box::new(Step { kind, record, then: next, instead: Some(Box::new(bare.clone())) }));
    }
    next.map_or(bare, |first| *first)
}

/// Where the headers of a dead letter begin that its message did not bring along.
fn ours(headers: &[Header]) -> usize {
    headers.iter().rposition(|header| header.name == headers::DLQ_TOPIC.as_bytes()).expect("we put it there")
}

/// What a dead letter says of its message, and what its content was.
fn described(headers: &[Header], key: Option<&[u8]>, value: &[u8]) -> Vec<Header> {
    // Those that the message brought along may be what is too large.
    let mut own = headers[ours(headers)..].to_vec();
    own.push(text(headers::DLQ_SIZE, key.map_or(0, <[u8]>::len) + value.len()));
    own.push(text(headers::DLQ_SHA256, sha256(key, value)));
    own
}

fn sha256(key: Option<&[u8]>, value: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::new().chain_update(key.unwrap_or_default()).chain_update(value).finalize();
    hash.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
