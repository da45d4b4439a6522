//! The metadata of a commit, as whoever may commit for the group wrote it. The first byte chooses whose it looks like, the
//! next two how far above the commit the log ends.
#![no_main]

use base64::{Engine, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use longshore::{
    progress::{Fits, MOST_UNITS, Place, Writer, decode, encode, seal},
    record::{Offset, TopicId},
};

const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
const OFFSET: Offset = Offset(5);
const PLACE: Place = Place { topic: TOPIC, partition: 3, offset: OFFSET };

fuzz_target!(|input: &[u8]| {
    let [whose, high, low, body @ ..] = input else { return };
    let end = OFFSET + (i64::from(*high) << 8 | i64::from(*low)) * 64;
    let text = match whose % 3 {
        // Partition and offset in zigzag.
        0 => seal(&[&TOPIC.0.as_bytes()[..], &[6, 10], body].concat()),
        1 => STANDARD.encode(body),
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let Ok((finished, writer)) = decode(&text, &PLACE, end, true) else { return };
    assert!(finished.first().is_none_or(|first| first >= OFFSET));
    assert!(finished.end().is_none_or(|reach| reach <= end));
    assert!(finished.runs().is_sorted_by(|one, next| one.end < next.first));
    let encoded = encode(&PLACE, &finished, MOST_UNITS);
    let mut kept = finished;
    if let Fits::Below(reach) = encoded.fits {
        assert!(writer == Writer::ParallelConsumer || body.len() > 7_000);
        kept.cut_from(reach);
    }
    assert_eq!(decode(&encoded.text, &PLACE, end, false).expect("ours").0, kept);
});
