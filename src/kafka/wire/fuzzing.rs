//! What the fuzz targets need of a connection: bytes in, as from a broker, and whatever comes of them. Compiled for fuzzing
//! only (`docs/fuzzing.md`).

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::{messages::*, protocol::Request};

use super::connection::{decode_header, decode_response, read_frame};

/// Reads frames from `stream` until it ends, as a connection does.
fn frames(mut stream: &[u8]) -> impl Iterator<Item = Bytes> {
    // A slice has everything there already, so nothing is waited for.
    std::iter::from_fn(move || read_frame(&mut stream).now_or_never()?.ok()?.ok())
}

/// Takes the header off each frame, with and without tagged fields.
pub fn headers(stream: &[u8]) {
    for frame in frames(stream) {
        let _ = decode_header::<MetadataRequest>(0, &mut frame.clone());
        let _ = decode_header::<MetadataRequest>(9, &mut frame.clone());
    }
}

/// Takes each frame for the response to the request `api`, in a version that is ours, chosen by `version`.
pub fn responses(api: u8, version: u8, stream: &[u8]) {
    for frame in frames(stream) {
        match api % 12 {
            0 => decode::<ApiVersionsRequest>(version, frame),
            1 => decode::<MetadataRequest>(version, frame),
            2 => decode::<FindCoordinatorRequest>(version, frame),
            3 => decode::<OffsetCommitRequest>(version, frame),
            4 => decode::<OffsetFetchRequest>(version, frame),
            5 => decode::<ListOffsetsRequest>(version, frame),
            6 => decode::<ProduceRequest>(version, frame),
            7 => decode::<InitProducerIdRequest>(version, frame),
            8 => decode::<FetchRequest>(version, frame),
            9 => decode::<DescribeGroupsRequest>(version, frame),
            10 => decode::<OffsetForLeaderEpochRequest>(version, frame),
            _ => decode::<SaslAuthenticateRequest>(version, frame),
        }
    }
}

fn decode<R: Request>(version: u8, frame: Bytes) {
    let versions = R::VERSIONS;
    let version = versions.min + i16::from(version) % (versions.max - versions.min + 1);
    let _ = decode_response::<R>(version, frame);
}
