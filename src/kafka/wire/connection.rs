//! One connection to one broker: one request at a time, each with its response.

use std::{collections::HashMap, io, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    protocol::{Decodable, HeaderVersion, Message, Request, StrBytes, VersionRange, encode_request_header_into_buffer},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::{HostPort, RequestName, WireError, cluster::to_ms};

/// No response that this client asks for is nearly as large; what claims to be larger is not one.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// An idle connection shows after this time that it is alive, so that what lies between keeps it open, or we learn.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// An open connection, on which versions are agreed.
///
/// Whoever gets an error from [`call`](Self::call), or drops its future, must drop the connection too: there may be half a
/// request or half a response on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Whom it leads to.
    pub(super) address: HostPort,
    client_id: StrBytes,
    correlation_id: i32,
    versions: HashMap<i16, VersionRange>,
}

impl Connection {
    /// Connects to the first address of `address` that lets us, and agrees on versions, by `until`.
    pub(super) async fn open(address: &HostPort, client_id: &StrBytes, until: Instant) -> Result<Self, WireError> {
        let stream = timeout_at(until, connect(address, until))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "not in time")))
            .map_err(|source| WireError::Connect { broker: address.to_string(), source })?;
        let mut connection = Self {
            stream,
            address: address.clone(),
            client_id: client_id.clone(),
            correlation_id: 0,
            versions: HashMap::new(),
        };
        let started = Instant::now();
        timeout_at(until, connection.agree_on_versions()).await.unwrap_or_else(|_| {
            Err(WireError::TimedOut {
                broker: address.to_string(),
                request: RequestName(ApiVersionsRequest::KEY),
                after: to_ms(started.elapsed()),
            })
        })?;
        Ok(connection)
    }

    /// Whether the broker has not closed it meanwhile, as brokers do with idle ones (`connections.max.idle.ms`).
    pub(super) fn is_open(&self) -> bool {
        // Between calls there is nothing to read: neither bytes nor an end.
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends what `build` makes for the version agreed on, and waits for the response. No version below `least` will do.
    pub(super) async fn call<R: Request>(
        &mut self,
        least: i16,
        build: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, WireError> {
        let version = self.version::<R>(least)?;
        let body = self.exchange(version, &build(version)).await?;
        self.decode::<R>(version, body)
    }

    /// The highest version of `R` that both sides know.
    fn version<R: Request>(&self, least: i16) -> Result<i16, WireError> {
        let ours = VersionRange { min: least.max(R::VERSIONS.min), max: R::VERSIONS.max };
        match self.versions.get(&R::KEY).map(|theirs| theirs.intersect(&ours)) {
            Some(both) if !both.is_empty() => Ok(both.max),
            _ => Err(WireError::Version {
                broker: self.address.to_string(),
                request: RequestName(R::KEY),
                least: ours.min,
                most: ours.max,
            }),
        }
    }

    /// KIP-511: asks in the latest version that we know; a broker that does not know that one answers in version 0, with
    /// UNSUPPORTED_VERSION and the versions that it does know.
    async fn agree_on_versions(&mut self) -> Result<(), WireError> {
        let mut version = ApiVersionsRequest::VERSIONS.max;
        loop {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
            let request = if version >= 3 { request } else { ApiVersionsRequest::default() };
            let body = self.exchange(version, &request).await?;
            let code = body.get(4..6).map_or(0, |mut code| code.get_i16());
            let unsupported = code == ResponseError::UnsupportedVersion.code();
            let response =
                self.decode::<ApiVersionsRequest>(if unsupported { 0 } else { version }, body)? as ApiVersionsResponse;
            if unsupported && version > 0 {
                let theirs = response.api_keys.iter().find(|key| key.api_key == ApiVersionsRequest::KEY);
                version = theirs.map_or(0, |key| key.max_version).clamp(0, version - 1);
                continue;
            }
            if code != 0 {
                return Err(self.garbled::<ApiVersionsRequest>(super::ErrorCode(code)));
            }
            self.versions = response
                .api_keys
                .iter()
                .map(|key| (key.api_key, VersionRange { min: key.min_version, max: key.max_version }))
                .collect();
            return Ok(());
        }
    }

    /// Sends a request, and returns its response with its header.
    async fn exchange<R: Request>(&mut self, version: i16, request: &R) -> Result<Bytes, WireError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        encode_request_header_into_buffer(&mut frame, &header)
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| self.garbled::<R>(error))?;
        let length = i32::try_from(frame.len() - 4).map_err(|error| self.garbled::<R>(error))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());

        let lost = |source| WireError::Lost { broker: self.address.to_string(), request: RequestName(R::KEY), source };
        self.stream.write_all(&frame).await.map_err(lost)?;
        let response = read_frame(&mut self.stream).await.map_err(lost)?.map_err(|error| self.garbled::<R>(error))?;
        let correlation_id = response.get(..4).map_or(-1, |mut id| id.get_i32());
        if correlation_id != self.correlation_id {
            let reason = format!("correlation id {correlation_id} where {} was due", self.correlation_id);
            return Err(self.garbled::<R>(reason));
        }
        Ok(response)
    }

    fn decode<R: Request>(&self, version: i16, body: Bytes) -> Result<R::Response, WireError> {
        decode_response::<R>(version, body).map_err(|error| self.garbled::<R>(error))
    }

    fn garbled<R: Request>(&self, reason: impl ToString) -> WireError {
        WireError::Garbled {
            broker: self.address.to_string(),
            request: RequestName(R::KEY),
            reason: reason.to_string(),
        }
    }
}

/// Tries each address of the name in turn; none may use up the time of those after it.
async fn connect(address: &HostPort, until: Instant) -> io::Result<TcpStream> {
    let candidates: Vec<_> = lookup_host((address.host.as_str(), address.port)).await?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (i, candidate) in candidates.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(candidates.len() - i).unwrap_or(u32::MAX);
        match timeout(share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{candidate} does not answer")),
        }
    }
    Err(last)
}

/// The response in a frame, behind its header.
pub(super) fn decode_response<R: Request>(version: i16, mut frame: Bytes) -> anyhow::Result<R::Response> {
    decode_header::<R>(version, &mut frame)?;
    R::Response::decode(&mut frame, version)
}

/// Takes the header off a frame.
pub(super) fn decode_header<R: Request>(version: i16, frame: &mut Bytes) -> anyhow::Result<ResponseHeader> {
    ResponseHeader::decode(frame, R::Response::header_version(version))
}

/// Reads one length-prefixed response. The inner error says that it cannot be one. Memory grows with what has arrived, not
/// with what the length promises.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Bytes, String>> {
    let length = stream.read_i32().await?;
    let length = match usize::try_from(length) {
        Ok(length) if length <= MAX_RESPONSE_BYTES => length,
        _ => return Ok(Err(format!("a response of {length} bytes, where at most {MAX_RESPONSE_BYTES} are taken"))),
    };
    let mut frame = BytesMut::with_capacity(length.min(64 << 10));
    while frame.len() < length {
        let missing = (length - frame.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Ok(frame.freeze()))
}
