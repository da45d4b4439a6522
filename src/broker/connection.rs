//! One connection of a client: reads a request, has it carried out, writes its answer, and so on, one at a time.
//!
//! ```text
//! client ──frame──▶ header ──▶ decode ──▶ fault? ──▶ handle (under the lock) ──▶ encode ──frame──▶ client
//!                                                        ▲        │ a fetch with too little, a join or sync too early
//!                                                        └─ changed or time over
//! ```
//!
//! As with Kafka, what comes while a request is under way waits, so answers are in the order of their requests.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        DescribeGroupsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest,
        JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, RequestHeader,
        ResponseHeader, SyncGroupRequest,
    },
    protocol::{Decodable, Encodable, HeaderVersion},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    NodeId,
    faults::{Action, Asked},
    requests::{Handle, Reply, spoken, unsupported_version},
    server::Shared,
    state::Context,
};

/// The largest request, as Kafka's `socket.request.max.bytes`.
const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;
/// What is set aside for a request before it has arrived.
const CHUNK_BYTES: usize = 64 * 1024;
/// What the shortest header holds before the client id.
const MIN_FRAME_BYTES: usize = 8;
/// How long a connection may be silent, as Kafka's `connections.max.idle.ms`.
const MAX_IDLE: Duration = Duration::from_secs(600);
/// How long the rest of a request, or the reading of an answer, may take.
const MAX_TRANSFER: Duration = Duration::from_secs(60);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client closed it")]
    ByClient,
    #[error("the network failed")]
    Network(#[from] io::Error),
    #[error("nothing happened for too long")]
    Idle,
    #[error("a request of {0} bytes")]
    FrameSize(i64),
    #[error("request {key} in version {version} is not spoken here")]
    NotSpoken { key: i16, version: i16 },
    #[error("cannot read a request or write its answer: {0}")]
    Malformed(String),
    #[error("as a fault, or as the answer to a request without acknowledgement")]
    OnPurpose,
    #[error("nothing is answered any more, as a fault")]
    BlackHole,
}

/// What to write.
enum Answer {
    Whole(BytesMut),
    Cut(BytesMut, usize),
    Nothing,
}

/// A request whose header was read.
struct Incoming {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: String,
    body: Bytes,
}

/// Serves one client until either side has enough.
pub(super) async fn run(shared: Arc<Shared>, node: NodeId, mut stream: TcpStream) {
    let ended = match stream.set_nodelay(true) {
        Ok(()) => match serve_all(&shared, node, &mut stream).await {
            Err(Ended::BlackHole) => {
                swallow(&mut stream).await;
                Ended::BlackHole
            }
            Err(ended) => ended,
            Ok(never) => match never {},
        },
        Err(error) => Ended::Network(error),
    };
    match ended {
        Ended::NotSpoken { .. } | Ended::Malformed(_) | Ended::FrameSize(_) => {
            tracing::warn!(%node, "closed a connection: {ended}");
        }
        _ => tracing::debug!(%node, "a connection ended: {ended}"),
    }
}

async fn serve_all(shared: &Shared, node: NodeId, stream: &mut TcpStream) -> Result<std::convert::Infallible, Ended> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let frame = read_frame(&mut read).await?;
        shared.resumed().await;
        let answer = Box::pin(dispatch(shared, node, frame)).await?;
        shared.resumed().await;
        let (bytes, cut) = match &answer {
            Answer::Whole(bytes) => (&bytes[..], false),
            Answer::Cut(bytes, at) => (&bytes[..(*at).min(bytes.len())], true),
            Answer::Nothing => continue,
        };
        timeout(MAX_TRANSFER, write.write_all(bytes)).await.map_err(|_| Ended::Idle)??;
        if cut {
            return Err(Ended::OnPurpose);
        }
    }
}

/// Reads and forgets until the client goes.
async fn swallow(stream: &mut TcpStream) {
    let mut scratch = [0; 4096];
    while let Ok(1..) = stream.read(&mut scratch).await {}
}

async fn read_frame(read: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Ended> {
    let length = match timeout(MAX_IDLE, read.read_i32()).await.map_err(|_| Ended::Idle)? {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Ended::ByClient),
        length => length?,
    };
    let size = usize::try_from(length).ok().filter(|size| (MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(size));
    let size = size.ok_or(Ended::FrameSize(length.into()))?;
    let mut frame = BytesMut::new();
    let fill = async {
        while frame.len() < size {
            let missing = size - frame.len();
            frame.reserve(missing.min(CHUNK_BYTES));
            if read.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
                return Err(Ended::ByClient);
            }
        }
        Ok(())
    };
    timeout(MAX_TRANSFER, fill).await.map_err(|_| Ended::Idle)??;
    Ok(frame.freeze())
}

async fn dispatch(shared: &Shared, node: NodeId, mut frame: Bytes) -> Result<Answer, Ended> {
    let mut start = &frame[..MIN_FRAME_BYTES];
    let (key, version, correlation_id) = (start.get_i16(), start.get_i16(), start.get_i32());
    let not_spoken = Ended::NotSpoken { key, version };
    let Ok(api) = ApiKey::try_from(key) else { return Err(not_spoken) };
    let is_spoken = spoken(&shared.lock(), api).is_some_and(|range| (range.min..=range.max).contains(&version));
    if !is_spoken && api == ApiKey::ApiVersions {
        let response = unsupported_version(&shared.lock());
        return encode(&response, correlation_id, 0).map(Answer::Whole);
    }
    if !is_spoken {
        return Err(not_spoken);
    }
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version)).map_err(malformed)?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    let incoming = Incoming { api, version, correlation_id, client_id, body: frame };
    match api {
        ApiKey::Produce => serve::<ProduceRequest>(shared, node, incoming).await,
        ApiKey::Fetch => serve::<FetchRequest>(shared, node, incoming).await,
        ApiKey::ListOffsets => serve::<ListOffsetsRequest>(shared, node, incoming).await,
        ApiKey::Metadata => serve::<MetadataRequest>(shared, node, incoming).await,
        ApiKey::OffsetCommit => serve::<OffsetCommitRequest>(shared, node, incoming).await,
        ApiKey::OffsetFetch => serve::<OffsetFetchRequest>(shared, node, incoming).await,
        ApiKey::FindCoordinator => serve::<FindCoordinatorRequest>(shared, node, incoming).await,
        ApiKey::JoinGroup => serve::<JoinGroupRequest>(shared, node, incoming).await,
        ApiKey::Heartbeat => serve::<HeartbeatRequest>(shared, node, incoming).await,
        ApiKey::LeaveGroup => serve::<LeaveGroupRequest>(shared, node, incoming).await,
        ApiKey::SyncGroup => serve::<SyncGroupRequest>(shared, node, incoming).await,
        ApiKey::DescribeGroups => serve::<DescribeGroupsRequest>(shared, node, incoming).await,
        ApiKey::ListGroups => serve::<ListGroupsRequest>(shared, node, incoming).await,
        ApiKey::ApiVersions => serve::<ApiVersionsRequest>(shared, node, incoming).await,
        ApiKey::CreateTopics => serve::<CreateTopicsRequest>(shared, node, incoming).await,
        ApiKey::DeleteTopics => serve::<DeleteTopicsRequest>(shared, node, incoming).await,
        ApiKey::DeleteRecords => serve::<DeleteRecordsRequest>(shared, node, incoming).await,
        ApiKey::InitProducerId => serve::<InitProducerIdRequest>(shared, node, incoming).await,
        ApiKey::OffsetForLeaderEpoch => serve::<OffsetForLeaderEpochRequest>(shared, node, incoming).await,
        _ => Err(not_spoken),
    }
}

async fn serve<R: Handle>(shared: &Shared, node: NodeId, mut incoming: Incoming) -> Result<Answer, Ended> {
    let version = incoming.version;
    let request = R::decode(&mut incoming.body, version).map_err(malformed)?;
    let (fault, ticket) = {
        let mut state = shared.lock();
        *state.asked.entry((incoming.api, node)).or_default() += 1;
        let places = if state.faults.is_empty() { Vec::new() } else { request.places(&state) };
        let asked = Asked { api: incoming.api, client_id: &incoming.client_id, node, places: &places };
        (state.faults.take(&asked), state.new_ticket())
    };
    shared.progressed();
    let (action, filter) = fault.unzip();
    let wanted = match action {
        Some(Action::BlackHole) => return Err(Ended::BlackHole),
        Some(Action::Disconnect) => return Err(Ended::OnPurpose),
        Some(Action::Error(error)) => Some(error),
        Some(Action::Delay(_) | Action::CloseAfter(_)) | None => None,
    };
    let fault = wanted.zip(filter);
    let client_id = incoming.client_id;
    let now = Instant::now().into_std();
    let context = Context { node, version, client_id, ticket, again: false, now, fault };
    let response = carry_out(shared, &request, context).await;
    if let Some(Action::Delay(delay)) = action {
        sleep(delay).await;
    }
    match request.reply(&response) {
        Reply::Silence => return Ok(Answer::Nothing),
        Reply::Close => return Err(Ended::OnPurpose),
        Reply::Answer => {}
    }
    let bytes = encode(&response, incoming.correlation_id, version)?;
    Ok(match action {
        Some(Action::CloseAfter(at)) => Answer::Cut(bytes, at),
        _ => Answer::Whole(bytes),
    })
}

async fn carry_out<R: Handle>(shared: &Shared, request: &R, mut context: Context) -> R::Response {
    let deadline = Instant::now() + request.max_wait();
    loop {
        // Made before looking, so that it ends with every change from here on.
        let changed = shared.changed();
        let now = Instant::now();
        context.now = now.into_std();
        let (response, is_due, again_at, has_advanced) = {
            let mut state = shared.lock();
            let has_advanced = state.groups.advance(context.now);
            let response = request.handle(&mut state, &context);
            let is_due = request.is_due(&state, &context, &response);
            (response, is_due, request.look_again(&state), has_advanced)
        };
        // What waits changes nothing when it looks again, and must not wake others that wait, who would wake it.
        if has_advanced || (R::CHANGES && !context.again) {
            shared.notify();
        }
        if is_due || now >= deadline {
            return response;
        }
        drop(response);
        context.again = true;
        let until = again_at.map_or(deadline, |at| deadline.min(Instant::from_std(at)));
        // Over time it looks once more, and then answers with what there is.
        let _ = timeout_at(until, changed).await;
        // While the broker is paused, nobody looks.
        shared.resumed().await;
    }
}

fn encode<M: Encodable + HeaderVersion>(response: &M, correlation_id: i32, version: i16) -> Result<BytesMut, Ended> {
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut bytes, M::header_version(version)).map_err(malformed)?;
    response.encode(&mut bytes, version).map_err(malformed)?;
    let size = i32::try_from(bytes.len() - size_of::<i32>()).map_err(malformed)?;
    bytes[..size_of::<i32>()].copy_from_slice(&size.to_be_bytes());
    Ok(bytes)
}

fn malformed(error: impl std::fmt::Display) -> Ended {
    Ended::Malformed(format!("{error:#}"))
}
