//! What is written is read, what is damaged or copied is not believed, and nothing that comes in does harm.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TOPIC: TopicId = TopicId(Uuid::from_u128(0x1234_5678_9abc_def0_0fed_cba9_8765_4321));

const NO_END: Offset = Offset(i64::MAX);

/// Where `base` is committed.
fn beside(base: i64) -> Place {
    Place { topic: TOPIC, partition: 3, offset: Offset(base) }
}

fn set(runs: &[(i64, i64)]) -> Finished {
    runs.iter().map(|(first, end)| Run::new(Offset(*first), Offset(*end))).collect()
}

fn written(base: i64, finished: &Finished) -> String {
    let encoded = encode(&beside(base), finished, MOST_UNITS);
    assert_eq!(encoded.fits, Fits::All);
    encoded.text
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Sets as they come about: long runs, and fronts at which one offset is finished and the next is not.
fn sets() -> impl Strategy<Value = (i64, Finished)> {
    let length = prop_oneof![6 => 1i64..4, 3 => 1i64..60, 1 => 1i64..100_000, 1 => Just(1i64 << 40)];
    let runs = prop::collection::vec((length.clone(), length), 0..3000);
    (0i64..1 << 50, any::<bool>(), runs).prop_map(|(base, with_base, runs)| {
        // The first gap may be none.
        let mut at = base - if with_base { runs.first().map_or(0, |(gap, _)| *gap) } else { 0 };
        let finished = runs.into_iter().map(|(gap, length)| {
            let first = at + gap;
            at = first + length;
            Run::new(Offset(first), Offset(at))
        });
        (base, finished.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read((base, finished) in sets(), most in LEAST_UNITS..=MOST_UNITS) {
        let Encoded { text, fits } = encode(&beside(base), &finished, most);
        prop_assert!(units(&text) <= most);
        let mut kept = finished.clone();
        if let Fits::Below(reach) = fits {
            prop_assert!(reach > Offset(base) && reach < finished.end().expect("something does not fit"));
            kept.cut_from(reach);
        }
        prop_assert_ne!(fits, Fits::Nothing);
        let writer = if text.is_empty() { Writer::Nobody } else { Writer::Longshore };
        prop_assert_eq!(decode(&text, &beside(base), NO_END, false), Ok((kept, writer)));
    }

    #[test]
    fn what_is_written_is_no_longer_than_bits_or_runs((base, finished) in sets()) {
        let Encoded { text, fits } = encode(&beside(base), &finished, usize::MAX / 16);
        prop_assert_eq!(fits, Fits::All);
        let bits = finished.end().map_or(0, |end| (end.0 - base) as usize / 8 + 1);
        let runs: usize = finished.runs().iter().scan(base, |at, run| {
            let bytes = varint::size(run.first.0 - *at) + varint::size(run.end.0 - run.first.0);
            *at = run.end.0;
            Some(bytes)
        }).sum();
        prop_assert!(units(&text) <= 4 + base32768::units_of(bits.min(runs) + 4 + 16 + 9 + 2 * map::FIELD_HEAD + 1));
    }

    /// One character is another, gone, or there twice.
    #[test]
    fn what_is_damaged_is_not_believed(
        (base, finished) in sets(),
        at in any::<prop::sample::Index>(),
        becomes in prop_oneof![Just(None), Just(Some(String::new())), any::<char>().prop_map(|c| Some(c.to_string()))],
    ) {
        let text = encode(&beside(base), &finished, MOST_UNITS).text;
        prop_assume!(!text.is_empty());
        let mut characters: Vec<String> = text.chars().map(|character| character.to_string()).collect();
        let at = at.index(characters.len());
        characters[at] = becomes.unwrap_or_else(|| characters[at].repeat(2));
        let damaged = characters.concat();
        prop_assume!(damaged != text);
        prop_assert!(decode(&damaged, &beside(base), NO_END, true).is_err(), "{damaged} of {text}");
    }

    #[test]
    fn anything_at_all_is_read_without_harm(text in any::<String>(), trust in any::<bool>()) {
        let _ = decode(&text, &beside(7), NO_END, trust);
        let _ = decode(&format!("{PREFIX}{text}"), &beside(7), NO_END, trust);
    }

    /// The checksum is no hindrance to whoever wants to do harm.
    #[test]
    fn any_fields_at_all_are_read_without_harm(fields in prop::collection::vec(any::<u8>(), 0..200), base in 0i64..i64::MAX) {
        let text = signed(base, &fields);
        let end = Offset(base.saturating_add(1000));
        if let Ok((finished, writer)) = decode(&text, &beside(base), end, false) {
            prop_assert_eq!(writer, Writer::Longshore);
            prop_assert!(finished.runs().len() <= 8 * fields.len());
            prop_assert!(finished.first().is_none_or(|first| first >= Offset(base)));
            prop_assert!(finished.end().is_none_or(|last| last <= end));
        }
    }
}

/// A string with these fields and a good checksum.
fn signed(base: i64, fields: &[u8]) -> String {
    let mut bytes = BytesMut::new();
    bytes.put_slice(TOPIC.0.as_bytes());
    varint::put(&mut bytes, 3);
    varint::put(&mut bytes, base);
    bytes.put_slice(fields);
    seal(&bytes)
}

#[test]
fn one_slow_task_and_a_front_take_few_units() {
    let mut finished = set(&[(1001, 500_000)]);
    for offset in (500_001..516_000).step_by(2) {
        finished.push(Run::new(Offset(offset), Offset(offset + 1)));
    }
    let text = written(1000, &finished);
    assert!(units(&text) < 4 + 1100, "{} units", units(&text));
}

#[test]
fn nothing_finished_is_an_empty_string() {
    assert_eq!(written(5, &Finished::default()), "");
    assert_eq!(decode("", &beside(5), NO_END, false), Ok((Finished::default(), Writer::Nobody)));
}

#[test]
fn what_a_broker_takes_no_room_for_is_left_out() {
    let encoded = encode(&beside(5), &set(&[(7, 9)]), LEAST_UNITS - 1);
    assert_eq!(encoded, Encoded { text: String::new(), fits: Fits::Nothing });
}

#[test]
fn a_string_beside_anything_else_is_not_believed() {
    let finished = set(&[(7, 9), (20, 30)]);
    let text = written(5, &finished);
    let refused = |place: Place| decode(&text, &place, NO_END, true).unwrap_err();
    assert_eq!(refused(beside(6)), Unbelieved::OtherOffset { theirs: Offset(5) });
    assert_eq!(refused(Place { partition: 4, ..beside(5) }), Unbelieved::OtherPartition { theirs: 3 });
    let other = TopicId(Uuid::from_u128(9));
    assert_eq!(refused(Place { topic: other, ..beside(5) }), Unbelieved::OtherTopic { theirs: TOPIC });
    let end = Offset(29);
    assert_eq!(decode(&text, &beside(5), end, true), Err(Unbelieved::BeyondEnd { reach: Offset(30), end }));
    assert_eq!(decode(&text, &beside(5), Offset(30), false), Ok((finished, Writer::Longshore)));
}

#[test]
fn strings_of_others_and_of_newer_versions_are_told_apart() {
    let refused = |text: &str| decode(text, &beside(5), NO_END, true).unwrap_err();
    for foreign in ["none", "ls:", "lsx:abc", "ls0:㐀", "{\"a\": 1}", "㐀㐀", "AQ==", &"x".repeat(MOST_BYTES + 1)] {
        assert_eq!(refused(foreign), Unbelieved::Foreign, "{:.20}", foreign);
    }
    assert_eq!(refused("ls2:anything"), Unbelieved::Newer { version: "2".to_owned() });
    assert!(matches!(refused(&signed(5, &[9, 2, 0])), Unbelieved::Newer { .. }));
    for damaged in ["ls1:", "ls1:abc", "ls1:㐀㐀㐀㐀㐀㐀㐀㐀㐀㐀㐀㐀㐀㐀"] {
        assert!(matches!(refused(damaged), Unbelieved::Damaged { .. }), "{damaged}");
    }
}

#[test]
fn a_field_that_is_optional_is_passed_over() {
    // Length 2 is 4 in zigzag.
    let text = signed(5, &[OPTIONAL_TAGS + 35, 4, 1, 2, BITS, 2, 0b1000]);
    assert_eq!(decode(&text, &beside(5), NO_END, false), Ok((set(&[(8, 9)]), Writer::Longshore)));
}

#[test]
fn maps_that_are_not_as_they_are_written_are_damaged() {
    for fields in [
        &[RUNS, 2, 2][..],      // a gap without a run
        &[RUNS, 8, 2, 2, 0, 2], // no gap
        &[RUNS, 4, 2, 0],       // no run
        &[RUNS, 4, 1, 2],       // a gap below zero
        &[BITS, 4, 2, 0],       // nothing in the last byte
        &[BITS, 40, 2],         // longer than the string
        &[BITS, 1, 2],          // a length below zero
        &[0, 0, 0, 1],          // something behind the end
    ] {
        let refused = decode(&signed(5, fields), &beside(5), NO_END, false).unwrap_err();
        assert!(matches!(refused, Unbelieved::Damaged { .. }), "{fields:?}: {refused}");
    }
}

// --- Confluent's Parallel Consumer ---

fn parallel_consumer(magic: u8, body: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode([&[magic], body].concat())
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
}

/// 100, 103 to 105 and 109 are unfinished, 110 is the last finished.
const RUN_LENGTHS: [i32; 6] = [1, 2, 3, 3, 1, 1];

fn theirs() -> Finished {
    set(&[(101, 103), (106, 109), (110, 111)])
}

#[test]
fn all_forms_of_parallel_consumer_are_read() {
    let shorts: Vec<u8> = RUN_LENGTHS.iter().flat_map(|length| (*length as i16).to_be_bytes()).collect();
    let ints: Vec<u8> = RUN_LENGTHS.iter().flat_map(|length| length.to_be_bytes()).collect();
    let bits = [0b1100_0110, 0b0000_0101, 0];
    let short_bits = [&11_i16.to_be_bytes()[..], &bits].concat();
    let int_bits = [&11_i32.to_be_bytes()[..], &bits].concat();
    for (magic, compressed, body) in
        [(b'n', b'J', shorts), (b'e', b'p', ints), (b'l', b'a', short_bits), (b'o', b's', int_bits)]
    {
        for text in [parallel_consumer(magic, &body), parallel_consumer(compressed, &zstd(&body))] {
            assert_eq!(decode(&text, &beside(100), NO_END, true), Ok((theirs(), Writer::ParallelConsumer)), "{text}");
            assert_eq!(decode(&text, &beside(100), NO_END, false), Err(Unbelieved::ParallelConsumer));
            let end = Offset(110);
            let refused = decode(&text, &beside(100), end, true);
            assert_eq!(refused, Err(Unbelieved::BeyondEnd { reach: Offset(111), end }));
        }
    }
}

#[test]
fn what_is_damaged_of_parallel_consumer_is_not_believed() {
    let cases = [
        (b'l', vec![0]),
        (b'l', vec![0xff, 0xff, 1]),
        (b'o', vec![0, 0]),
        (b'n', vec![0]),
        (b'e', vec![0x80, 0, 0, 0]),
        (b's', b"no zstd".to_vec()),
        (b'p', zstd(&[0; (1 << 20) + 4])),
    ];
    for (magic, body) in cases {
        let refused = decode(&parallel_consumer(magic, &body), &beside(100), NO_END, true).unwrap_err();
        assert!(matches!(refused, Unbelieved::Damaged { .. }), "{magic} {body:.20?}: {refused}");
    }
}

/// Made by Parallel Consumer itself: see tests/progress/README.md.
#[test]
fn what_parallel_consumer_itself_has_written_is_read() {
    let lines = include_str!("../../tests/progress/parallel-consumer.txt").lines();
    let mut forms = BTreeSet::new();
    for line in lines {
        let [name, base, end, unfinished, text] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let number = |text: &str| text.parse::<i64>().expect("a number");
        let unfinished: BTreeSet<i64> = unfinished.split(',').map(number).collect();
        let finished = (number(base)..number(end)).filter(|offset| !unfinished.contains(offset));
        let finished: Finished = finished.map(|offset| Run::new(Offset(offset), Offset(offset + 1))).collect();
        let read = decode(text, &beside(number(base)), Offset(number(end)), true);
        assert_eq!(read, Ok((finished, Writer::ParallelConsumer)), "{name}");
        forms.insert(name.split('-').next_back().expect("a form").to_owned());
    }
    assert_eq!(forms.len(), 8, "{forms:?}");
}

fn attempts() -> impl Strategy<Value = Vec<(i64, u32)>> {
    prop::collection::btree_map(0i64..100_000, 1u32..9, 0..40).prop_map(|all| all.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn notes_travel_along((base, finished) in sets(), attempts in attempts()) {
        let attempts = attempts.into_iter().map(|(offset, times)| (Offset(base + offset), times));
        let noted = Notes { attempts: attempts.collect() };
        let Encoded { text, fits } = encode_with(&beside(base), &finished, &noted, MOST_UNITS);
        prop_assert!(units(&text) <= MOST_UNITS);
        let mut kept = finished;
        if let Fits::Below(reach) = fits {
            kept.cut_from(reach);
        }
        prop_assert_eq!(decode(&text, &beside(base), NO_END, false).map(|(finished, _)| finished), Ok(kept));
        prop_assert_eq!(notes(&text, &beside(base)), noted);
        prop_assert_eq!(notes(&text, &beside(base + 1)), Notes::default(), "they are bound to their place");
    }
}

#[test]
fn notes_that_take_too_much_are_left_out() {
    let noted = Notes { attempts: (0..5_000).map(|offset| (Offset(1_000 * offset), 1)).collect() };
    let finished = set(&[(7, 9)]);
    let text = encode_with(&beside(5), &finished, &noted, MOST_UNITS).text;
    assert_eq!(decode(&text, &beside(5), NO_END, false).map(|(finished, _)| finished), Ok(finished));
    assert_eq!(notes(&text, &beside(5)), Notes::default());
}
