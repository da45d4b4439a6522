//! What the fuzz targets need of a connection: bytes in, as from a broker, and whatever comes of them. Compiled for fuzzing
//! only (`docs/fuzzing.md`).

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::{messages::*, protocol::Request};

use super::{
    connection::{Kind, read, read_frame, response_body},
    fetched,
    membership::embedded::{decode_assignment, decode_subscription},
};

/// Reads frames from `stream` until it ends, as a connection does.
fn frames(mut stream: &[u8]) -> impl Iterator<Item = Bytes> {
    // A slice has everything there already, so nothing is waited for.
    std::iter::from_fn(move || read_frame(&mut stream).now_or_never()?.ok()?.ok())
}

/// Takes the header off each frame, with and without tagged fields.
pub fn headers(stream: &[u8]) {
    for frame in frames(stream) {
        let _ = response_body(Kind::of::<MetadataRequest>(), 0, frame.clone());
        let _ = response_body(Kind::of::<MetadataRequest>(), 9, frame);
    }
}

/// Takes each frame for the response to the request `api`, in a version that is ours, chosen by `version`.
pub fn responses(api: u8, version: u8, stream: &[u8]) {
    for frame in frames(stream) {
        match api % 19 {
            0 => decode::<ApiVersionsRequest>(version, frame),
            1 => decode::<MetadataRequest>(version, frame),
            2 => decode::<FindCoordinatorRequest>(version, frame),
            3 => decode::<OffsetCommitRequest>(version, frame),
            4 => decode::<OffsetFetchRequest>(version, frame),
            5 => decode::<ListOffsetsRequest>(version, frame),
            6 => decode::<ProduceRequest>(version, frame),
            7 => decode::<InitProducerIdRequest>(version, frame),
            8 => decode_by::<FetchRequest, _, _>(version, frame, fetched::read),
            9 => decode::<DescribeGroupsRequest>(version, frame),
            10 => decode::<OffsetForLeaderEpochRequest>(version, frame),
            11 => decode::<SaslAuthenticateRequest>(version, frame),
            12 => decode::<JoinGroupRequest>(version, frame),
            13 => decode::<SyncGroupRequest>(version, frame),
            14 => decode::<HeartbeatRequest>(version, frame),
            15 => decode::<LeaveGroupRequest>(version, frame),
            16 => decode::<ConsumerGroupHeartbeatRequest>(version, frame),
            17 => decode::<ConsumerGroupDescribeRequest>(version, frame),
            _ => embedded(&frame),
        }
    }
}

/// What members say to each other, which no broker looks at.
fn embedded(bytes: &Bytes) {
    let _ = (decode_subscription(bytes), decode_assignment(bytes));
}

fn decode<R: Request>(version: u8, frame: Bytes) {
    decode_by::<R, _, _>(version, frame, read::<R>);
}

fn decode_by<R: Request, T, E>(version: u8, frame: Bytes, read: impl FnOnce(i16, Bytes) -> Result<T, E>) {
    let versions = R::VERSIONS;
    let version = versions.min + i16::from(version) % (versions.max - versions.min + 1);
    if let Ok(body) = response_body(Kind::of::<R>(), version, frame) {
        let _ = read(version, body);
    }
}
