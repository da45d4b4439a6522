//! Each fate, and what is written of it.

use std::sync::Arc;

use super::*;
use crate::{record::Damage, task::Format, testing::record};

const BOTH: Policy = Policy { reply: true, dead_letter: true, on_failure: OnFailure::Stop };
const NEITHER: Policy = Policy { reply: false, dead_letter: false, on_failure: OnFailure::Stop };

fn message() -> Record {
    let mut record = record(7, Some(b"v"));
    record.headers = vec![
        Header::new("traceparent", "00-1"),
        Header::new("private", "p"),
        Header::new("private", "q"),
        Header { name: Bytes::from_static(b"kafka_correlationId"), value: Some(Bytes::from_static(b"\0\x01")) },
    ];
    record
}

fn fate(verdict: Verdict, policy: Policy) -> Fate {
    fate_of(message(), verdict, policy)
}

fn fate_of(record: Record, verdict: Verdict, policy: Policy) -> Fate {
    let mut page = Page::default();
    let mut judge = Judge { policy, group: "g", page: &mut page };
    let done = decide(record, verdict, Duration::ZERO, &mut judge);
    match (done.fate, done.ending) {
        (Fate::Failed(record), Ending::Failed(failure)) => give_up(*record, &failure, &mut judge),
        (fate, _) => fate,
    }
}

fn failure() -> Verdict {
    Verdict::Failed(Failure::new("no"))
}

fn shown(headers: &Headers) -> Vec<String> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    headers.iter().map(|(name, value)| format!("{}={}", text(name), value.map_or_else(String::new, text))).collect()
}

#[track_caller]
fn written(fate: Fate) -> Step {
    match fate {
        Fate::Write(step) => step,
        other => panic!("nothing written: {other:?}"),
    }
}

#[test]
fn an_answer_carries_where_it_came_from_and_the_trace() {
    let step = written(fate(Verdict::Succeeded(Answer::value("a")), BOTH));
    assert_eq!((step.kind, &step.then, &step.instead), (Kind::Reply, &None, &None));
    assert_eq!(step.record.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(step.record.value.as_deref(), Some(&b"a"[..]));
    assert_eq!(
        shown(&step.record.headers),
        [
            "traceparent=00-1",
            "kafka_correlationId=\\x00\\x01",
            "longshore.topic=in",
            "longshore.partition=0",
            "longshore.offset=7",
            "longshore.status=ok"
        ]
    );
}

#[test]
fn a_failure_is_dead_lettered_whole_then_answered() {
    let step = written(fate(failure(), BOTH));
    assert_eq!(step.kind, Kind::DeadLetter);
    assert_eq!((step.record.key.as_deref(), step.record.value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!(
        shown(&step.record.headers)[1..],
        [
            "private=p",
            "private=q",
            "kafka_correlationId=\\x00\\x01",
            "__dlq.errors.topic=in",
            "__dlq.errors.partition=0",
            "__dlq.errors.offset=7",
            "__dlq.errors.group=g",
            "__dlq.errors.delivery.count=1",
            "__dlq.errors.message=no"
        ]
    );
    let reply = step.then.expect("whoever asked learns of it");
    assert_eq!((reply.kind, &reply.then), (Kind::FailureReply, &None));
    let body: serde_json::Value = serde_json::from_slice(reply.record.value.as_deref().unwrap()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"status": "failed", "error": "no", "topic": "in", "partition": 0, "offset": 7})
    );
    assert_eq!(shown(&reply.record.headers).last().unwrap(), "longshore.status=failed");
}

#[test]
fn malformed_is_marked_so() {
    let policy = Policy { dead_letter: false, ..BOTH };
    let step = written(fate(Verdict::Malformed(Failure::new("not JSON")), policy));
    assert_eq!(step.kind, Kind::FailureReply);
    assert_eq!(shown(&step.record.headers).last().unwrap(), "longshore.status=malformed");
}

#[test]
fn with_neither_topic_the_user_decides() {
    assert_eq!(fate(failure(), NEITHER), Fate::Stop);
    assert_eq!(fate(failure(), Policy { on_failure: OnFailure::Drop, ..NEITHER }), Fate::Drop);
}

#[test]
fn no_answer_wanted() {
    assert_eq!(fate(Verdict::Succeeded(Answer::None), BOTH), Fate::Silent);
    assert_eq!(fate(Verdict::Succeeded(Answer::value("a")), NEITHER), Fate::Silent);
}

#[test]
fn an_answer_too_large_becomes_a_dead_letter_that_says_why() {
    let step = written(fate(Verdict::Succeeded(Answer::value(vec![0; 5000])), BOTH));
    let smaller = smaller(step).expect("something left to try");
    assert_eq!(smaller.kind, Kind::DeadLetter);
    assert_eq!(smaller.record.value.as_deref(), Some(&b"v"[..]));
    let why = "__dlq.errors.message=the answer of 5000 bytes is too large for the reply topic";
    assert_eq!(shown(&smaller.record.headers).last().unwrap(), why);
}

#[test]
fn a_dead_letter_too_large_says_what_it_was() {
    let step = smaller(written(fate(failure(), BOTH))).expect("something left to try");
    assert_eq!((&step.record.key, &step.record.value), (&None, &None));
    let headers = shown(&step.record.headers);
    assert_eq!(headers[0], "__dlq.errors.topic=in");
    // printf kv | sha256sum
    let hash = "379f1b10a1c750842d937eb3143098d3775d0b10bfad08e0aea86c892ef858df";
    assert_eq!(headers[6..8], ["longshore.size=2".to_owned(), format!("longshore.sha256={hash}")]);
    assert!(step.then.is_some(), "whoever asked still learns of it");
    assert_eq!(smaller(step), None);
}

#[test]
fn a_large_dead_letter_comes_in_parts() {
    let value: Vec<u8> = (0..150_000_u32).flat_map(u32::to_le_bytes).collect();
    let theirs = vec![Header::new("h", "1"), Header::new("__dlq.errors.topic", "of another life")];
    let record = Record { value: Some(value.clone().into()), headers: theirs.clone(), ..message() };
    let whole = written(fate_of(record, failure(), BOTH));
    let mut part = smaller(whole).expect("something left to try");
    let (mut joined, mut kinds, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    assert_eq!(part.record.headers.to_vec()[..2], theirs);
    let reply = loop {
        let bare = smaller(part.clone()).expect("something left to try");
        assert_eq!((bare.kind, &bare.record.value), (Kind::DeadLetter, &None));
        assert_eq!(bare.then.as_ref().map(|step| step.kind), Some(Kind::FailureReply), "and no other part");
        joined.extend_from_slice(part.record.value.as_deref().unwrap());
        kinds.push(part.kind);
        let shown = shown(&part.record.headers);
        assert!(shown.contains(&"longshore.size=600001".to_owned()), "{shown:?}");
        numbers.push(shown[shown.len() - 2..].join(" "));
        part = *part.then.expect("whoever asked learns of it at the end");
        if part.kind == Kind::FailureReply {
            break part;
        }
        assert!(part.record.headers.iter().all(|(name, _)| name != b"h"), "in the first part only");
    };
    assert!(joined == value, "the parts together are the message");
    assert_eq!(numbers[0], "longshore.part=1 longshore.parts=10");
    assert_eq!(numbers.last().unwrap(), "longshore.part=10 longshore.parts=10");
    assert_eq!(kinds[..9], [Kind::DeadLetterPart; 9]);
    assert_eq!(kinds[9..], [Kind::DeadLetter], "which is what is counted");
    assert!(reply.then.is_none());
}

#[test]
fn a_batch_that_cannot_be_read_is_a_dead_letter_with_its_range() {
    let damage = Damage { last: Offset(11), reason: "its checksum is wrong".to_owned() };
    let record = Record { damage: Some(Arc::new(damage)), key: None, ..message() };
    assert_eq!(Format::Bytes.check(&record), Err("its checksum is wrong".to_owned()));
    let verdict = Verdict::Malformed(Failure::new("its checksum is wrong"));
    let step = written(fate_of(record, verdict, BOTH));
    let shown = shown(&step.record.headers);
    assert!(shown.contains(&"__dlq.errors.offset=7".to_owned()), "{shown:?}");
    assert!(shown.contains(&"longshore.last.offset=11".to_owned()), "{shown:?}");
}

#[test]
fn a_large_key_counts_as_much_as_a_large_answer() {
    let record = Record { key: Some(vec![b'k'; 5000].into()), ..message() };
    let fate = fate_of(record, Verdict::Succeeded(Answer::value("a")), BOTH);
    let step = smaller(written(fate)).expect("something left to try");
    assert_eq!(step.kind, Kind::DeadLetter);
    let reply = *step.then.expect("whoever asked learns of it");
    let reply = smaller(reply).expect("something left to try");
    assert_eq!((reply.kind, &reply.record.key), (Kind::FailureReply, &None));
    assert!(reply.record.value.is_some());
    let bare = smaller(reply).expect("something left to try");
    assert_eq!((&bare.record.key, &bare.record.value), (&None, &None));
    let coordinates = ["longshore.topic=in", "longshore.partition=0", "longshore.offset=7", "longshore.status=failed"];
    assert_eq!(shown(&bare.record.headers), coordinates);
    assert_eq!(smaller(bare), None);
}

#[test]
fn a_small_answer_that_is_too_large_all_the_same_becomes_a_failure_answer() {
    let step = smaller(written(fate(Verdict::Succeeded(Answer::value("abc")), BOTH))).expect("left");
    assert_eq!((step.kind, step.record.key.as_deref()), (Kind::FailureReply, Some(&b"k"[..])));
    assert_eq!(shown(&step.record.headers).last().unwrap(), "longshore.status=failed");
    let body: serde_json::Value = serde_json::from_slice(step.record.value.as_deref().unwrap()).unwrap();
    let error = "the answer of 3 bytes is too large for the reply topic";
    let expected = serde_json::json!({"status": "failed", "error": error, "topic": "in", "partition": 0, "offset": 7});
    assert_eq!(body, expected);
}
