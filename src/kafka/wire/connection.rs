//! One connection to one broker: one request at a time, each with its response.
//!
//! It opens in this order: TCP, TLS where it is spoken, versions, SASL where it is asked for (`authenticate.rs`). What goes
//! wrong there and will not pass by itself is told as such, with what to do: a certificate, a password, a port that
//! speaks something else.

use std::{collections::HashMap, io, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    protocol::{Decodable, HeaderVersion, Request, StrBytes, VersionRange, encode_request_header_into_buffer},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::{
    HostPort, RequestName, Security, WireError,
    cluster::to_ms,
    guarded::Guarded,
    security::Stream,
    tls::{self, Tls},
};

/// No response that this client asks for is nearly as large (but for one with a huge batch); what claims to be larger is
/// not one.
const MAX_RESPONSE_BYTES: usize = 128 << 20;

/// So much room is made on the word of a length.
const BELIEVED_BYTES: usize = 4 << 20;

/// How TLS says that it has not understood: a record of type alert, version 3.
const TLS_ALERT: [u8; 2] = [21, 3];

/// An idle connection shows after this time that it is alive, so that what lies between keeps it open, or we learn.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A kind of request, without its type: what is done with every kind is compiled once, not once for each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: RequestName,
    versions: VersionRange,
    response_header: fn(i16) -> i16,
}

impl Kind {
    pub(super) fn of<R: Request>() -> Self {
        Self { name: RequestName(R::KEY), versions: R::VERSIONS, response_header: R::Response::header_version }
    }

    /// Whether lengths are varints (KIP-482). The header of one response stays as it was, for brokers that know no other.
    fn is_flexible(self, version: i16) -> bool {
        (self.response_header)(version) > 0 || (self.name.0 == ApiVersionsRequest::KEY && version >= 3)
    }
}

/// Writes the body of a request, in this version. Called once.
pub(super) type Write<'a> = &'a mut (dyn FnMut(i16, &mut BytesMut) -> anyhow::Result<()> + Send);

/// Writes what `build` makes.
pub(super) fn writing<R: Request>(
    build: impl FnOnce(i16) -> R + Send,
) -> impl FnMut(i16, &mut BytesMut) -> anyhow::Result<()> + Send {
    let mut build = Some(build);
    move |version, to| {
        let build = build.take().expect("a request is written once");
        build(version).encode(to, version)
    }
}

/// An open connection, on which versions are agreed.
///
/// Whoever gets an error from [`call`](Self::call), or drops its future, must drop the connection too: there may be half a
/// request or half a response on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// The TLS that is spoken on it, if any.
    tls: Option<Tls>,
    /// Whom it leads to.
    pub(super) address: HostPort,
    pub(super) client_id: StrBytes,
    correlation_id: i32,
    versions: HashMap<i16, VersionRange>,
    /// When the broker would have us say anew who we are: then another connection is made.
    pub(super) good_until: Option<Instant>,
    /// Whether we have said who we are, or a request was answered although we have not.
    pub(super) welcome: bool,
}

impl Connection {
    /// Connects to the first address of `address` that lets us, agrees on versions, and says who we are, by `until`.
    pub(super) async fn open(
        address: &HostPort,
        client_id: &StrBytes,
        security: &Security,
        until: Instant,
    ) -> Result<Self, WireError> {
        let stream = timeout_at(until, connect(address, until)).await.unwrap_or_else(|_| Err(late()));
        let stream = stream.map_err(|source| WireError::Connect { broker: address.to_string(), source })?;
        let stream = match &security.tls {
            None => Stream::Plain(stream),
            Some(tls) => secured(tls, stream, address, client_id, until).await?,
        };
        let mut connection = Self::on(stream, address, client_id);
        connection.tls.clone_from(&security.tls);
        connection
            .by(Kind::of::<ApiVersionsRequest>(), until, Self::agree_on_versions)
            .await
            .map_err(|error| if security.tls.is_none() { plainly(error) } else { error })?;
        if let Some(sasl) = &security.sasl {
            use kafka_protocol::messages::SaslAuthenticateRequest;
            connection.welcome = true;
            let kind = Kind::of::<SaslAuthenticateRequest>();
            connection.by(kind, until, async |it| it.authenticate(sasl).await).await?;
        }
        Ok(connection)
    }

    fn on(stream: Stream, address: &HostPort, client_id: &StrBytes) -> Self {
        Self {
            stream,
            tls: None,
            address: address.clone(),
            client_id: client_id.clone(),
            correlation_id: 0,
            versions: HashMap::new(),
            good_until: None,
            welcome: false,
        }
    }

    /// Does `what`, which is about requests of this kind, by `until`.
    async fn by(
        &mut self,
        kind: Kind,
        until: Instant,
        what: impl AsyncFnOnce(&mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let (started, broker) = (Instant::now(), self.address.to_string());
        timeout_at(until, what(self)).await.unwrap_or_else(|_| {
            let after = to_ms(started.elapsed());
            Err(WireError::TimedOut { broker, request: kind.name, after })
        })
    }

    /// Gives itself, unless the broker has closed it meanwhile, as brokers do with idle ones (`connections.max.idle.ms`),
    /// or is about to, because we would have to say anew who we are (KIP-368).
    pub(super) fn if_open(mut self) -> Option<Self> {
        let in_time = self.good_until.is_none_or(|until| Instant::now() < until);
        (in_time && self.stream.is_quiet()).then_some(self)
    }

    /// Sends what `write` writes for the version agreed on, and waits for the response: its body, and in which version it
    /// is. No version below `least` will do.
    pub(super) async fn call_raw(
        &mut self,
        kind: Kind,
        least: i16,
        write: Write<'_>,
    ) -> Result<(i16, Bytes), WireError> {
        let version = self.version(kind, least)?;
        let frame = self.exchange(kind, version, write).await?;
        self.welcome = true;
        let body = response_body(kind, version, frame).map_err(|error| self.garbled(kind, error))?;
        Ok((version, body))
    }

    /// As [`call_raw`](Self::call_raw), and reads the response.
    pub(super) async fn call<R: Request>(
        &mut self,
        least: i16,
        build: impl FnOnce(i16) -> R + Send,
    ) -> Result<R::Response, WireError> {
        let kind = Kind::of::<R>();
        let (version, body) = self.call_raw(kind, least, &mut writing(build)).await?;
        read::<R>(version, body).map_err(|error| self.garbled(kind, error))
    }

    /// The highest version of `kind` that both sides know.
    fn version(&self, kind: Kind, least: i16) -> Result<i16, WireError> {
        let ours = VersionRange { min: least.max(kind.versions.min), max: kind.versions.max };
        match self.versions.get(&kind.name.0).map(|theirs| theirs.intersect(&ours)) {
            Some(both) if !both.is_empty() => Ok(both.max),
            _ => Err(WireError::Version {
                broker: self.address.to_string(),
                request: kind.name,
                least: ours.min,
                most: ours.max,
            }),
        }
    }

    /// KIP-511: asks in the latest version that we know; a broker that does not know that one answers in version 0, with
    /// UNSUPPORTED_VERSION and the versions that it does know.
    async fn agree_on_versions(&mut self) -> Result<(), WireError> {
        let kind = Kind::of::<ApiVersionsRequest>();
        let mut version = kind.versions.max;
        loop {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
            let request = if version >= 3 { request } else { ApiVersionsRequest::default() };
            let frame = self.exchange(kind, version, &mut writing(|_| request)).await?;
            let code = frame.get(4..6).map_or(0, |mut code| code.get_i16());
            let unsupported = code == ResponseError::UnsupportedVersion.code();
            let answered = if unsupported { 0 } else { version };
            let response: ApiVersionsResponse = response_body(kind, answered, frame)
                .and_then(|body| read::<ApiVersionsRequest>(answered, body))
                .map_err(|error| self.garbled(kind, error))?;
            if unsupported && version > 0 {
                let theirs = response.api_keys.iter().find(|key| key.api_key == ApiVersionsRequest::KEY);
                version = theirs.map_or(0, |key| key.max_version).clamp(0, version - 1);
                continue;
            }
            if code != 0 {
                return Err(self.garbled(kind, super::ErrorCode(code)));
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
    async fn exchange(&mut self, kind: Kind, version: i16, write: Write<'_>) -> Result<Bytes, WireError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(kind.name.0)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        encode_request_header_into_buffer(&mut frame, &header)
            .and_then(|()| write(version, &mut frame))
            .map_err(|error| self.garbled(kind, error))?;
        let length = i32::try_from(frame.len() - 4).map_err(|error| self.garbled(kind, error))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());

        let sent = match self.stream.write_all(&frame).await {
            // TLS may hold bytes back until it is told.
            Ok(()) => self.stream.flush().await,
            error => error,
        };
        // Where sending has failed, there may be something to read that says why.
        let response = match (read_frame(&mut self.stream).await, sent) {
            (Ok(response), Ok(())) => response.map_err(|error| self.garbled(kind, error))?,
            (Err(error), _) | (Ok(_), Err(error)) => return Err(self.lost(kind, error)),
        };
        let correlation_id = response.get(..4).map_or(-1, |mut id| id.get_i32());
        if correlation_id != self.correlation_id {
            let reason = format!("correlation id {correlation_id} where {} was due", self.correlation_id);
            return Err(self.garbled(kind, reason));
        }
        Ok(response)
    }

    /// TLS has reasons of its own to end a connection, a client certificate that the broker does not take among them.
    fn lost(&self, kind: Kind, source: io::Error) -> WireError {
        let broker = self.address.to_string();
        let trouble = match &self.tls {
            Some(tls) => tls.trouble(source, &self.address),
            None => tls::Trouble::Broken(source),
        };
        match trouble {
            tls::Trouble::Final(reason) => WireError::Tls { broker, reason },
            tls::Trouble::Broken(source) => WireError::Lost { broker, request: kind.name, source },
        }
    }

    pub(super) fn garbled(&self, kind: Kind, reason: impl ToString) -> WireError {
        WireError::Garbled { broker: self.address.to_string(), request: kind.name, reason: reason.to_string() }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "not in time")
}

/// Speaks TLS on `stream`. One that breaks may have led to a port without TLS, where Kafka closes without a word: then
/// that is found out by speaking without.
async fn secured(
    tls: &Tls,
    stream: TcpStream,
    address: &HostPort,
    client_id: &StrBytes,
    until: Instant,
) -> Result<Stream, WireError> {
    let broker = address.to_string();
    let outcome = timeout_at(until, tls.connect(stream, address)).await;
    match outcome.unwrap_or_else(|_| Err(tls::Trouble::Broken(late()))) {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(tls::Trouble::Final(reason)) => Err(WireError::Tls { broker, reason }),
        Err(tls::Trouble::Broken(source)) => {
            let plain = async {
                let stream = connect(address, until).await.ok()?;
                Connection::on(Stream::Plain(stream), address, client_id).agree_on_versions().await.ok()
            };
            if let Ok(Some(())) = timeout_at(until, plain).await {
                let reason = "it speaks Kafka's protocol on this port without TLS: name its TLS port, or say --security \
                              plaintext";
                return Err(WireError::Tls { broker, reason: reason.to_owned() });
            }
            let source = io::Error::new(source.kind(), format!("the TLS handshake broke off: {source}"));
            Err(WireError::Connect { broker, source })
        }
    }
}

/// Where a broker without TLS was expected, an odd first answer is explained.
fn plainly(error: WireError) -> WireError {
    match error {
        WireError::Lost { broker, request, source } if source.kind() != io::ErrorKind::TimedOut => {
            let source = io::Error::new(source.kind(), format!("{source} (does this port want TLS? --security tls)"));
            WireError::Lost { broker, request, source }
        }
        error => error,
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

/// What is behind the header of a response.
pub(super) fn response_body(kind: Kind, version: i16, frame: Bytes) -> anyhow::Result<Bytes> {
    let mut frame = Guarded::new(frame, kind.is_flexible(version));
    ResponseHeader::decode(&mut frame, (kind.response_header)(version))?;
    Ok(frame.into_rest())
}

/// Reads a response behind its header.
pub(super) fn read<R: Request>(version: i16, body: Bytes) -> anyhow::Result<R::Response> {
    R::Response::decode(&mut Guarded::new(body, Kind::of::<R>().is_flexible(version)), version)
}

/// Reads one length-prefixed response. The inner error says that it cannot be one. Memory grows with what has arrived, not
/// with what the length promises.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Bytes, String>> {
    let length = stream.read_i32().await?;
    if length.to_be_bytes().starts_with(&TLS_ALERT) {
        return Ok(Err("an alert of TLS: this port speaks TLS, so say --security tls".to_owned()));
    }
    let length = match usize::try_from(length) {
        Ok(length) if length <= MAX_RESPONSE_BYTES => length,
        _ => return Ok(Err(format!("a response of {length} bytes, where at most {MAX_RESPONSE_BYTES} are taken"))),
    };
    let mut frame = BytesMut::with_capacity(length.min(BELIEVED_BYTES));
    while frame.len() < length {
        let missing = (length - frame.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Ok(frame.freeze()))
}
