//! What other clients wrote is read as other clients read it; `tests/batches/README.md` says where it comes from.

use std::{collections::HashMap, fs, path::PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{LIMIT, source};
use crate::{
    kafka::batch::{Aborted, AbortedTransactions, Compression, Control, Inflater, RawBatch, TimestampType, split},
    record::{Offset, Record},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/batches")
}

fn batches(name: &str) -> Vec<RawBatch> {
    let log = fs::read(folder().join(format!("{name}.log"))).expect("a segment");
    let mut batches = split(log.into());
    let all = batches.by_ref().map(|batch| batch.expect("good")).collect();
    assert!(batches.rest().is_empty());
    all
}

fn records(batches: &[RawBatch]) -> Vec<Record> {
    let (mut inflater, mut out) = (Inflater::new(LIMIT), Vec::new());
    for batch in batches {
        batch.check_crc().expect("good");
        batch.records(&source(), Offset(0), &mut inflater, &mut out).expect("good");
    }
    out
}

/// As `make.py` has it.
fn short(content: Option<&Bytes>) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match content {
        None => Value::Null,
        Some(content) if content.len() <= 200 => hex(content).into(),
        Some(content) => format!("sha256 {}", hex(&Sha256::digest(content))).into(),
    }
}

fn shown(record: &Record) -> Value {
    let headers: Vec<_> =
        record.headers.iter().map(|header| json!([short(Some(&header.name)), short(header.value.as_ref())])).collect();
    json!({
        "offset": record.offset.0,
        "timestamp": record.timestamp_ms,
        "key": short(record.key.as_ref()),
        "value": short(record.value.as_ref()),
        "headers": headers,
    })
}

/// The aborted transactions, from the markers in the log itself.
fn aborted(batches: &[RawBatch]) -> AbortedTransactions {
    let (mut open, mut list) = (HashMap::new(), Vec::new());
    for batch in batches.iter().filter(|batch| batch.is_transactional()) {
        let producer_id = batch.producer_id();
        match batch.control().expect("good") {
            None => drop(open.entry(producer_id).or_insert(batch.base_offset())),
            Some(Control::Abort) => {
                list.extend(open.remove(&producer_id).map(|first_offset| Aborted { producer_id, first_offset }));
            }
            Some(_) => drop(open.remove(&producer_id)),
        }
    }
    AbortedTransactions::new(list)
}

#[test]
fn what_others_wrote_is_read_as_others_read_it() {
    let files = fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let names: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 25, "{names:?}");
    for name in names {
        let expected = fs::read(folder().join(format!("{name}.json"))).expect("what others read");
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        let batches = batches(&name);
        let shown: Vec<_> = records(&batches).iter().map(shown).collect();
        assert_eq!(&shown, expected["records"].as_array().expect("a list"), "{name}");
        let mut aborted = aborted(&batches);
        let committed: Vec<_> = batches.into_iter().filter(|batch| !aborted.is_aborted(batch).expect("good")).collect();
        let offsets: Vec<_> = records(&committed).iter().map(|record| record.offset.0).collect();
        assert_eq!(json!(offsets), expected["committed"], "{name}");
    }
}

#[test]
fn the_batches_of_others_are_what_they_are_kept_for() {
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (client, codec) in
        ["kcat", "java", "librdkafka", "kafka-python"].iter().flat_map(|c| codecs.map(|codec| (c, codec)))
    {
        let name = format!("{client}-{codec}");
        assert!(batches(&name).iter().any(|batch| batch.compression() == codec), "{name}");
    }
    let body = |name: &str| batches(name)[0].bytes().slice(super::super::HEADER_BYTES..);
    assert!(body("java-snappy").starts_with(b"\x82SNAPPY\0"), "snappy-java's frames");
    assert!(!body("kcat-snappy").starts_with(b"\x82SNAPPY\0"), "raw");
    assert_eq!(body("java-lz4")[4] & 0x20, 0x20, "independent blocks");
    assert_eq!(body("java-zstd-22")[4] & 0x20, 0, "a window of its own");
    assert_eq!(body("java-zstd-22")[5], 17 << 3, "of 128 MiB");
    assert_eq!(batches("log-append-time")[0].timestamp_type(), TimestampType::LogAppend);
    let compacted = batches("compacted");
    assert!(compacted.iter().any(|batch| batch.record_count() == 0), "a batch without records");
    let holes = |batch: &RawBatch| i64::from(batch.record_count()) < batch.last_offset().0 - batch.base_offset().0;
    for codec in codecs {
        assert!(compacted.iter().any(|batch| batch.compression() == codec && holes(batch)), "{codec} with holes");
    }
    let controls: Vec<_> = batches("transactions").iter().filter_map(|batch| batch.control().expect("good")).collect();
    assert_eq!(controls.iter().filter(|control| **control == Control::Commit).count(), 2);
    assert_eq!(controls.iter().filter(|control| **control == Control::Abort).count(), 6);
}
