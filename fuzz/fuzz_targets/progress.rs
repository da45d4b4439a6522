//! The metadata of a commit, as whoever may commit for the group wrote it. The first byte chooses whose it looks like, the
//! next two how far above the commit the log ends.
#![no_main]

use base64::{Engine, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use longshore::{
    progress::{Bound, Fits, MOST_UNITS, Writer, decode, encode, seal},
    record::{Offset, TopicId},
};

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
/// One byte in zigzag.
const OFFSET: Offset = Offset(5);

fuzz_target!(|input: &[u8]| {
    let [whose, high, low, body @ ..] = input else { return };
    let end = OFFSET + (i64::from(*high) << 8 | i64::from(*low)) * 64;
    let bound = Bound { topic: TOPIC, offset: OFFSET, end };
    let text = match whose % 3 {
        0 => seal(&[&TOPIC.0.as_bytes()[..], &[10], body].concat()),
        1 => STANDARD.encode(body),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let Ok((finished, writer)) = decode(&text, &bound, true) else { return };
    assert!(finished.first().is_none_or(|first| first > OFFSET));
    assert!(finished.end().is_none_or(|reach| reach <= end));
    assert!(finished.runs().is_sorted_by(|one, next| one.end < next.first));
    let encoded = encode(TOPIC, OFFSET, &finished, MOST_UNITS);
    let mut kept = finished;
    if let Fits::Below(reach) = encoded.fits {
        assert!(writer == Writer::ParallelConsumer || body.len() > 7_000);
        kept.cut_from(reach);
    }
    assert_eq!(decode(&encoded.text, &bound, false).expect("ours").0, kept);
});
