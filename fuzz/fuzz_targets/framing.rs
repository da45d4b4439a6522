//! What a broker sends on a connection: frames, and the header of a response in each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore::kafka::wire::fuzzing::headers;

fuzz_target!(|stream: &[u8]| headers(stream));
