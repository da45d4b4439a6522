//! What a fuzz target needs of a connection: bytes in, as from a broker, and whatever comes of them. Compiled for fuzzing only
//! (`docs/fuzzing.md`).

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::{messages::*, protocol::Request};

use super::{
    connection::{read, read_frame, response_body},
    fetched,
};

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
        8 => read_as::<FetchRequest, _, _>(version, frame, fetched::read),
        9 => decode_as::<DescribeGroupsRequest>(version, frame),
        10 => decode_as::<OffsetForLeaderEpochRequest>(version, frame),
        _ => decode_as::<SaslAuthenticateRequest>(version, frame),
    }
}

fn decode_as<R: Request>(version: u8, frame: Bytes) {
    read_as::<R, _, _>(version, frame, read::<R>);
}

fn read_as<R: Request, T, E>(version: u8, frame: Bytes, read: impl FnOnce(i16, Bytes) -> Result<T, E>) {
    let versions = R::VERSIONS;
    let version = versions.min + i16::from(version) % (versions.max - versions.min + 1);
    if let Ok(body) = response_body::<R>(version, frame) {
        let _ = read(version, body);
    }
}
