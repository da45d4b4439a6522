//! Whatever the damage: it is told, and nothing panics.

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    CONTROL, Codec, LIMIT, Plan, Planned, first, framed, planned, put_field, put_number, read, records, seal, source,
};
use crate::{
    kafka::batch::{Damage, DamageKind, Inflater, RecordFault, split},
    record::Offset,
};

/// From here on all bytes matter: what is before (base offset, length, leader epoch) is outside the checksum.
const MAGIC_AT: usize = 16;

fn kind(outcome: Result<impl std::fmt::Debug, Damage>) -> DamageKind {
    outcome.expect_err("damage").kind
}

fn fault(record: &[u8]) -> RecordFault {
    let plan = Plan::new(vec![Planned::new(0, "")]);
    match kind(read(plan.encode_with(record))) {
        DamageKind::Record { index: 0, fault } => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_bit_that_flips_is_damage() {
    for codec in Codec::ALL {
        let good = Plan::small(codec).encode();
        assert!(read(good.clone()).is_ok());
        for bit in MAGIC_AT * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(bad).is_err(), "{codec:?}, bit {bit}");
        }
    }
}

#[test]
fn no_bit_makes_anything_panic_where_the_checksum_does_not_help() {
    for codec in Codec::ALL {
        let good = Plan::small(codec).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            seal(&mut bad);
            for batch in split(bad.into()).flatten() {
                let _ = (records(&batch), batch.control());
            }
        }
    }
}

#[test]
fn a_batch_that_is_cut_off_is_no_damage() {
    for codec in Codec::ALL {
        let good = Bytes::from(Plan::small(codec).encode());
        for length in 0..good.len() {
            let mut batches = split(good.slice(..length));
            assert!(batches.next().is_none());
            let needs = [0, 61, good.len()][usize::from(length > 0) + usize::from(length >= 12)];
            assert_eq!(batches.first_needs().unwrap_or(0), needs, "{length} bytes");
            assert_eq!(batches.rest().len(), length);
        }
    }
}

#[test]
fn content_that_is_cut_off_is_damage() {
    for codec in Codec::ALL {
        let plan = Plan::small(codec);
        let body = codec.compress(&plan.content());
        for length in 0..body.len() {
            assert!(read(plan.encode_with(&body[..length])).is_err(), "{codec:?}, {length} bytes");
        }
    }
}

#[test]
fn content_that_goes_on_is_damage() {
    for codec in Codec::ALL {
        let plan = Plan::small(codec);
        let body = [codec.compress(&plan.content()), vec![0]].concat();
        assert!(read(plan.encode_with(&body)).is_err(), "{codec:?}");
        let body = codec.compress(&[plan.content(), vec![0]].concat());
        assert_eq!(kind(read(plan.encode_with(&body))), DamageKind::Trailing { bytes: 1 }, "{codec:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_at_all_may_be_in_a_batch(codec in Codec::any(), records in planned(), body in any::<Vec<u8>>()) {
        let plan = Plan { codec, ..Plan::new(records) };
        let _ = read(plan.encode_with(&body));
    }

    #[test]
    fn anything_at_all_may_come_in(bytes in any::<Vec<u8>>()) {
        for batch in split(bytes.into()).flatten() {
            let _ = (records(&batch), batch.control());
        }
    }

    #[test]
    fn anything_may_stand_where_something_else_belongs(
        codec in Codec::any(),
        at in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let plan = Plan::small(codec);
        let mut body = codec.compress(&plan.content());
        let at = at.index(body.len());
        let end = body.len().min(at + put.len());
        body[at..end].copy_from_slice(&put[..end - at]);
        let _ = read(plan.encode_with(&body));
    }

    #[test]
    fn damage_leaves_the_records_before_alone(codec in Codec::any(), cut in 1..50usize) {
        let plan = Plan { codec, ..Plan::small(codec) };
        let body = codec.compress(&plan.content());
        let batch = first(plan.encode_with(&body[..body.len().saturating_sub(cut)])).expect("a batch").expect("good");
        let mut out = plan.expected();
        batch.records(&source(), Offset(0), &mut Inflater::new(LIMIT), &mut out).expect_err("damage");
        prop_assert_eq!(out, plan.expected());
    }
}

#[test]
fn faults_of_a_record_are_named() {
    let planned = Planned { key: Some(b"k".to_vec()), headers: vec![(b"n".to_vec(), None)], ..Planned::new(0, "v") };
    let good = Planned { timestamp: 0, ..planned }.encode(0);
    assert_eq!(good, b"\0\0\0\x02k\x02v\x02\x02n\x01");
    let with = |at: usize, with: &[u8]| framed(&[&good[..at], with, &good[at + 1..]].concat());
    let length = |field, length| RecordFault::Length { field, length };
    assert!(read(Plan::new(vec![Planned::new(0, "")]).encode_with(&framed(&good))).is_ok());
    assert_eq!(fault(&with(3, &[3])), length("its key", -2));
    assert_eq!(fault(&with(5, &[5])), length("its value", -3));
    assert_eq!(fault(&with(7, &[1])), length("its list of headers", -1));
    assert_eq!(fault(&with(8, &[1])), length("the name of a header", -1));
    assert_eq!(fault(&with(10, &[3])), length("the value of a header", -2));
    assert_eq!(fault(&with(10, &[2])), RecordFault::Truncated);
    assert_eq!(fault(&with(7, &[4])), RecordFault::Truncated, "two headers where there is one");
    assert_eq!(fault(&with(7, &[0])), RecordFault::Trailing { bytes: 3 });
    assert_eq!(fault(&framed(&[&good[..], &[9]].concat())), RecordFault::Trailing { bytes: 1 });
    assert_eq!(fault(&with(1, &[0xff; 10])), RecordFault::Number);
    assert_eq!(fault(&[3]), length("it", -2));
    assert_eq!(fault(&[0]), RecordFault::Truncated);
    assert_eq!(fault(&[]), RecordFault::Truncated);
    assert_eq!(fault(&with(2, &[1])), RecordFault::Offset { delta: -1, least: 0, most: 0 });
    assert_eq!(fault(&with(2, &[2])), RecordFault::Offset { delta: 1, least: 0, most: 0 });
}

#[test]
fn a_length_of_gigabytes_allocates_nothing() {
    let mut head = vec![0, 0, 0];
    for count in [i64::from(i32::MAX), i64::MAX, 1 << 40] {
        let mut record = head.clone();
        put_number(&mut record, count);
        assert_eq!(fault(&framed(&record)), RecordFault::Truncated, "as a key");
        let mut many = head.clone();
        put_field(&mut many, None);
        put_field(&mut many, None);
        put_number(&mut many, count);
        assert_eq!(fault(&framed(&many)), RecordFault::Truncated, "as a number of headers");
    }
    head.clear();
    put_number(&mut head, i64::MAX);
    assert_eq!(fault(&head), RecordFault::Truncated, "as a record");
}

#[test]
fn offsets_that_do_not_ascend_are_damage() {
    let mut plan = Plan::small(Codec::None);
    plan.records[2].offset_delta = 1;
    plan.gap = 1;
    let fault = RecordFault::Offset { delta: 1, least: 2, most: 2 };
    assert_eq!(kind(read(plan.encode())), DamageKind::Record { index: 2, fault });
}

#[test]
fn a_count_that_is_wrong_is_damage() {
    let mut bytes = Plan { gap: 1, ..Plan::small(Codec::None) }.encode();
    bytes[60] = 2;
    seal(&mut bytes);
    assert!(matches!(kind(read(bytes.clone())), DamageKind::Trailing { .. }));
    bytes[60] = 4;
    seal(&mut bytes);
    assert_eq!(kind(read(bytes.clone())), DamageKind::Record { index: 3, fault: RecordFault::Truncated });
    bytes[60] = 5;
    assert_eq!(kind(read(bytes.clone())), DamageKind::Header { field: "record count", value: 5 });
    // Room is made for as many as there can be, not for as many as it says.
    for field in [23, 57] {
        bytes[field..field + 4].copy_from_slice(&1_000_000_i32.to_be_bytes());
    }
    seal(&mut bytes);
    assert_eq!(kind(read(bytes)), DamageKind::Record { index: 3, fault: RecordFault::Truncated });
}

#[test]
fn a_header_that_cannot_be_is_damage() {
    let with = |at: usize, with: &[u8]| {
        let mut bytes = Plan::small(Codec::None).encode();
        bytes[at..at + with.len()].copy_from_slice(with);
        first(bytes).expect("something").expect_err("damage")
    };
    let negative = with(0, &(-3_i64).to_be_bytes());
    assert_eq!(negative.kind, DamageKind::Header { field: "base offset", value: -3 });
    assert_eq!(with(0, &i64::MAX.to_be_bytes()).last_offset, None, "no place to go on");
    assert_eq!(with(23, &(-1_i32).to_be_bytes()).kind, DamageKind::Header { field: "last offset delta", value: -1 });
    assert_eq!(with(57, &(-1_i32).to_be_bytes()).kind, DamageKind::Header { field: "record count", value: -1 });
    let unknown = with(16, &[9]);
    assert_eq!((unknown.kind, unknown.last_offset), (DamageKind::UnknownFormat { magic: 9 }, None));
    let short = with(8, &48_i32.to_be_bytes());
    assert_eq!(short.kind, DamageKind::Length { length: 48 });
    assert_eq!(with(8, &(-1_i32).to_be_bytes()).kind, DamageKind::Length { length: -1 });
}

#[test]
fn reading_goes_on_behind_a_batch_that_is_damaged() {
    let (good, bad) = (Plan::small(Codec::None).encode(), {
        let mut bad = Plan::small(Codec::None).encode();
        bad[57] = 0x80;
        bad
    });
    let mut batches = split([good.clone(), bad.clone(), good.clone()].concat().into());
    assert!(batches.next().expect("the first").is_ok());
    let damage = batches.next().expect("the second").expect_err("damage");
    assert_eq!((damage.base_offset, damage.last_offset), (Offset(40), Some(Offset(42))));
    assert_eq!(damage.bytes, bad);
    assert!(batches.next().expect("the third").is_ok());
    assert!(batches.next().is_none());
}

#[test]
fn behind_a_length_that_cannot_be_nothing_is_read() {
    let mut bytes = Plan::small(Codec::None).encode();
    bytes[8..12].copy_from_slice(&7_i32.to_be_bytes());
    let all = [bytes, Plan::small(Codec::None).encode()].concat();
    let mut batches = split(all.clone().into());
    assert_eq!(batches.next().expect("something").expect_err("damage").bytes, all);
    assert!(batches.next().is_none());
    assert_eq!(batches.first_needs(), None);
}

#[test]
fn old_formats_are_named_with_what_to_do() {
    // Format 1: offset, size, crc, magic, attributes, timestamp, key, value; format 0 has no timestamp.
    for (magic, timestamp) in [(0, 0_i32), (1, 8)] {
        let mut message = 9_i64.to_be_bytes().to_vec();
        message.extend((14 + timestamp + 1).to_be_bytes());
        message.extend([0, 0, 0, 0, magic as u8, 0]);
        message.extend(vec![0; timestamp as usize]);
        message.extend((-1_i32).to_be_bytes());
        message.extend(1_i32.to_be_bytes());
        message.push(b'v');
        let mut batches = split([message.clone(), message.clone()].concat().into());
        for _ in 0..2 {
            let damage = batches.next().expect("something").expect_err("damage");
            assert_eq!((damage.base_offset, damage.last_offset), (Offset(9), Some(Offset(9))));
            assert_eq!(damage.kind, DamageKind::OldFormat { magic });
            assert!(damage.kind.to_string().contains("copy the topic"), "{}", damage.kind);
            assert_eq!(damage.bytes, message);
        }
        assert!(batches.next().is_none());
    }
}

#[test]
fn a_codec_that_kafka_does_not_have_is_named() {
    let mut bytes = Plan::small(Codec::None).encode();
    bytes[22] |= 6;
    seal(&mut bytes);
    assert_eq!(kind(read(bytes)), DamageKind::Codec(6));
}

#[test]
fn control_batches_that_say_nothing_are_damage() {
    let control = |codec, key: Option<Vec<u8>>| {
        let record = Planned { key, ..Planned::new(0, "") };
        let plan = Plan { codec, attributes: CONTROL, ..Plan::new(vec![record]) };
        first(plan.encode()).expect("a batch").expect("good").control()
    };
    assert!(control(Codec::None, Some(vec![0, 0, 0, 1])).is_ok());
    let fault = |length| RecordFault::Length { field: "the key of a control record", length };
    assert_eq!(kind(control(Codec::None, None)), DamageKind::Record { index: 0, fault: fault(-1) });
    assert_eq!(kind(control(Codec::None, Some(vec![0; 3]))), DamageKind::Record { index: 0, fault: fault(3) });
    let version = DamageKind::Header { field: "control record version", value: -1 };
    assert_eq!(kind(control(Codec::None, Some(vec![0xff, 0xff, 0, 1]))), version);
    assert!(control(Codec::Gzip, Some(vec![0, 0, 0, 1])).is_err());
}

#[test]
fn neither_damage_nor_batches_show_what_is_in_them() {
    let mut bytes = Plan::new(vec![Planned::new(0, "secret")]).encode();
    let batch = first(bytes.clone()).expect("a batch").expect("good");
    bytes[30] ^= 1;
    let damage = read(bytes).expect_err("damage");
    let shown = format!("{batch:?} {damage:?} {damage} {}", damage.kind);
    let secret = format!("{:?}", Bytes::from_static(b"secret"));
    assert!(!shown.contains(secret.trim_matches(['b', '"'])), "{shown}");
    assert!(shown.contains("checksum"), "{shown}");
}
