//! What a fuzz target needs of a connection: bytes in, as from a broker, and whatever comes of them. Compiled for fuzzing only
//! (`docs/fuzzing.md`).

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::{messages::*, protocol::Request};

use super::connection::{decode_response, read_frame};

/// Reads frames from `stream` until it ends, as a connection does, and takes each for the response to the request `api`, in a
/// version that is ours, chosen by `version`.
pub fn responses(api: u8, version: u8, mut stream: &[u8]) {
    // A slice has everything there already, so nothing is waited for.
    while let Some(Ok(Ok(frame))) = read_frame(&mut stream).now_or_never() {
        decode(api, version, frame);
    }
}

fn decode(api: u8, version: u8, frame: Bytes) {
    match api % 12 {
        0 => decode_as::<ApiVersionsRequest>(version, frame),
        1 => decode_as::<MetadataRequest>(version, frame),
        2 => decode_as::<FindCoordinatorRequest>(version, frame),
        3 => decode_as::<OffsetCommitRequest>(version, frame),
        4 => decode_as::<OffsetFetchRequest>(version, frame),
        5 => decode_as::<ListOffsetsRequest>(version, frame),
        6 => decode_as::<ProduceRequest>(version, frame),
        7 => decode_as::<InitProducerIdRequest>(version, frame),
        8 => decode_as::<FetchRequest>(version, frame),
        9 => decode_as::<DescribeGroupsRequest>(version, frame),
        10 => decode_as::<OffsetForLeaderEpochRequest>(version, frame),
        _ => decode_as::<SaslAuthenticateRequest>(version, frame),
    }
}

fn decode_as<R: Request>(version: u8, frame: Bytes) {
    let versions = R::VERSIONS;
    let version = versions.min + i16::from(version) % (versions.max - versions.min + 1);
    let _ = decode_response::<R>(version, frame);
}
