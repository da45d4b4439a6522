//! Responses that a broker sends, decoded by kafka-protocol: the first two bytes choose what was asked, and in which version;
//! the rest are the frames that come back. See docs/fuzzing.md for what it is known to find.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore::kafka::wire::fuzzing::responses;

fuzz_target!(|bytes: &[u8]| {
    if let [api, version, frames @ ..] = bytes {
        responses(*api, *version, frames);
    }
});
