//! What is written is what is read.

use bytes::Bytes;
use flate2::Compression as Level;
use lz4_flex::frame::{BlockMode, BlockSize, FrameInfo};
use proptest::prelude::*;

use super::{CONTROL, Codec, LIMIT, LOG_APPEND, Plan, Planned, codecs, first, plans, put_field, read, records, source};
use crate::{
    kafka::batch::{Compression, Control, Encoder, Inflater, Producer, TimestampType, split},
    record::{Header, LeaderEpoch, Offset, Outgoing, Record},
};

proptest! {
    #[test]
    fn every_record_comes_back_byte_for_byte(plan in plans()) {
        prop_assert_eq!(read(plan.encode()).expect("good"), plan.expected());
    }

    #[test]
    fn headers_of_batches_say_what_was_planned(plan in plans()) {
        let bytes = plan.encode();
        let batch = first(bytes.clone()).expect("a batch").expect("good");
        prop_assert_eq!(batch.base_offset(), Offset(plan.base_offset));
        prop_assert_eq!(batch.last_offset(), Offset(plan.base_offset + i64::from(plan.last_offset_delta())));
        prop_assert_eq!(batch.leader_epoch(), LeaderEpoch(7));
        prop_assert_eq!(batch.producer_id(), plan.producer_id);
        prop_assert_eq!(batch.producer_epoch(), if plan.producer_id < 0 { -1 } else { 5 });
        prop_assert_eq!(batch.is_transactional(), plan.producer_id >= 0);
        prop_assert_eq!(i16::from(batch.compression().id()), plan.codec.id());
        prop_assert_eq!(batch.timestamp_type() == TimestampType::LogAppend, plan.attributes & LOG_APPEND != 0);
        prop_assert_eq!(batch.record_count() as usize, plan.records.len());
        prop_assert_eq!(batch.control().expect("good"), None);
        prop_assert_eq!(&batch.bytes()[..], &bytes);
    }

    #[test]
    fn batches_follow_each_other(plans in prop::collection::vec(plans(), 0..5), cut in 0usize..200) {
        let whole: Vec<_> = plans.iter().map(Plan::encode).collect();
        // Something is cut off the last one, unless all of it would be.
        let mut bytes = whole.concat();
        let cut = cut.min(whole.last().map_or(0, |last| last.len() - 1));
        bytes.truncate(bytes.len() - cut);
        let mut batches = split(bytes.into());
        let read: Vec<_> = batches.by_ref().map(|batch| batch.expect("good").bytes().to_vec()).collect();
        let complete = if cut == 0 { &whole[..] } else { &whole[..whole.len() - 1] };
        prop_assert_eq!(read, complete);
        let needs = batches.first_needs();
        match (complete, &whole[..]) {
            ([], [first]) if first.len() - cut >= 12 => prop_assert_eq!(needs, Some(first.len())),
            ([], [_]) => prop_assert_eq!(needs, Some(61)),
            _ => prop_assert_eq!(needs, None),
        }
    }

    #[test]
    fn records_below_the_offset_asked_for_are_left_out(plan in plans(), below in 0..70_i64) {
        let from = Offset(plan.base_offset + below);
        let batch = first(plan.encode()).expect("a batch").expect("good");
        let before = Record { offset: Offset(-5), ..Plan::small(Codec::None).expected()[0].clone() };
        let mut out = vec![before.clone()];
        batch.records(&source(), from, &mut Inflater::new(LIMIT), &mut out).expect("good");
        let mut expected = vec![before];
        expected.extend(plan.expected().into_iter().filter(|record| record.offset >= from));
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn what_we_write_we_read(values in prop::collection::vec(prop::option::of(any::<Vec<u8>>()), 1..40)) {
        let mut encoder = Encoder::with_capacity(0);
        let header = Header { name: Bytes::from_static(b"\xff"), value: None };
        let outgoing = |value: &Option<Vec<u8>>| Outgoing {
            key: None,
            value: value.clone().map(Bytes::from),
            headers: vec![header.clone(), header.clone()].into(),
        };
        values.iter().for_each(|value| encoder.push(&outgoing(value)));
        let read = read(encoder.finish(77, Producer::NOBODY)).expect("good");
        prop_assert_eq!(read.len(), values.len());
        for (at, (record, value)) in read.iter().zip(&values).enumerate() {
            prop_assert_eq!((record.offset, record.timestamp_ms), (Offset(at as i64), 77));
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            prop_assert_eq!(&record.headers, &vec![header.clone(), header.clone()]);
        }
    }

    #[test]
    fn one_inflater_does_for_all(plans in prop::collection::vec(plans(), 0..8)) {
        let mut inflater = Inflater::new(LIMIT);
        for plan in plans {
            let batch = first(plan.encode()).expect("a batch").expect("good");
            let mut out = Vec::new();
            batch.records(&source(), Offset(0), &mut inflater, &mut out).expect("good");
            prop_assert_eq!(out, plan.expected());
        }
    }
}

/// A value that neither repeats itself nor is all the same, longer than the windows and blocks of all codecs.
fn long_value() -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    let words: Vec<Vec<u8>> = (0..500).map(|_| (0..rng.usize(2..40)).map(|_| rng.u8(..)).collect()).collect();
    let mut value = Vec::new();
    while value.len() < 3 << 20 {
        value.extend(&words[rng.usize(..words.len())]);
    }
    value
}

#[test]
fn long_content_is_inflated_in_all_forms() {
    let plan = Plan::new(vec![Planned { value: Some(long_value()), ..Planned::new(0, "") }, Planned::new(1, "behind")]);
    let content = plan.content();
    let info = |size, mode| FrameInfo::new().block_size(size).block_mode(mode);
    let forms = [
        (Codec::Gzip, codecs::gzip(&content, Level::fast())),
        (Codec::Gzip, codecs::gzip(&content, Level::none())),
        (Codec::Gzip, codecs::gzip(&content, Level::best())),
        (
            Codec::Gzip,
            [codecs::gzip(&content[..100], Level::fast()), codecs::gzip(&content[100..], Level::fast())].concat(),
        ),
        (Codec::Gzip, [codecs::gzip(&content, Level::fast()), codecs::gzip(b"", Level::fast())].concat()),
        (Codec::SnappyRaw, codecs::snappy(&content)),
        (Codec::SnappyRaw, codecs::snappy_java(content.chunks(32 << 10), 1)),
        // Redpanda's versions are in the other byte order.
        (Codec::SnappyRaw, codecs::snappy_java(content.chunks(1 << 20), 1 << 24)),
        (Codec::Lz4, codecs::lz4(&content, info(BlockSize::Max64KB, BlockMode::Independent))),
        (Codec::Lz4, codecs::lz4(&content, info(BlockSize::Max4MB, BlockMode::Independent))),
        (Codec::Lz4, codecs::lz4(&content, info(BlockSize::Max64KB, BlockMode::Linked))),
        (Codec::Lz4, codecs::lz4(&content, info(BlockSize::Max1MB, BlockMode::Linked).content_checksum(true))),
        (Codec::Zstd, Codec::Zstd.compress(&content)),
        (Codec::Zstd, [Codec::Zstd.compress(&content[..1000]), Codec::Zstd.compress(&content[1000..])].concat()),
        (Codec::Zstd, [&b"\x50\x2a\x4d\x18\x02\0\0\0xx"[..], &Codec::Zstd.compress(&content)].concat()),
    ];
    for (at, (codec, body)) in forms.into_iter().enumerate() {
        let bytes = Plan { codec, ..plan.clone() }.encode_with(&body);
        // Not by assert_eq: nobody wants to see what is different.
        assert!(read(bytes).expect("good") == plan.expected(), "form {at}, {codec:?}");
    }
}

#[test]
fn fields_of_a_gzip_header_are_passed_over() {
    let plan = Plan { codec: Codec::Gzip, ..Plan::small(Codec::Gzip) };
    let plain = codecs::gzip(&plan.content(), Level::fast());
    let mut body = plain[..10].to_vec();
    body[3] = 0b11110;
    body.extend(b"\x03\0xxx");
    body.extend(b"name\0comment\0cc");
    body.extend(&plain[10..]);
    assert_eq!(read(plan.encode_with(&body)).expect("good"), plan.expected());
}

#[test]
fn an_empty_batch_has_no_records_in_any_codec() {
    for codec in Codec::ALL {
        let plan = Plan { codec, gap: 9, base_offset: 100, ..Plan::new(Vec::new()) };
        // As compaction leaves it, and as somebody might compress nothing.
        for bytes in [plan.encode_with(&[]), plan.encode()] {
            let batch = first(bytes.clone()).expect("a batch").expect("good");
            assert_eq!(batch.last_offset(), Offset(109), "a reader goes on behind it");
            assert_eq!(read(bytes).expect("good"), []);
        }
    }
}

#[test]
fn a_record_does_not_hold_what_it_came_in() {
    let bytes = Bytes::from(Plan::small(Codec::None).encode());
    let records = read(bytes.clone()).expect("good");
    assert!(bytes.is_unique(), "a record that is held for long would hold a whole response");
    assert_eq!(records.len(), 3);
}

#[test]
fn control_batches_say_what_they_are_and_have_no_records() {
    let said = |kind: i16| {
        let key = [0_i16.to_be_bytes(), kind.to_be_bytes()].concat();
        let record = Planned { key: Some(key), ..Planned::new(0, "") };
        let plan = Plan { attributes: CONTROL, producer_id: 1, ..Plan::new(vec![record]) };
        let batch = first(plan.encode()).expect("a batch").expect("good");
        assert!(batch.is_control());
        assert_eq!(records(&batch).expect("good"), []);
        batch.control().expect("good")
    };
    assert_eq!(said(0), Some(Control::Abort));
    assert_eq!(said(1), Some(Control::Commit));
    assert_eq!(said(2), Some(Control::Other(2)));
    let gone = Plan { attributes: CONTROL, producer_id: 1, ..Plan::new(Vec::new()) };
    assert_eq!(first(gone.encode()).expect("a batch").expect("good").control().expect("good"), Some(Control::Gone));
}

#[test]
fn a_number_of_ten_bytes_is_read() {
    let mut plan = Plan::new(vec![Planned::new(0, "far")]);
    plan.records[0].timestamp = plan.base_timestamp.wrapping_add(i64::MIN);
    assert_eq!(read(plan.encode()).expect("good"), plan.expected());
}

#[test]
fn codecs_are_named_as_kafka_names_them() {
    let named = |id| Compression::from_attributes(id).to_string();
    assert_eq!((0..6).map(named).collect::<Vec<_>>(), ["none", "gzip", "snappy", "lz4", "zstd", "codec 5"]);
    let mut field = Vec::new();
    put_field(&mut field, None);
    assert_eq!(field, [1], "the encoder here writes what the protocol says");
}
