//! A scripted peer on 127.0.0.1: real TCP, and for each request whatever the test says. For what a real broker, or an
//! in-memory one, cannot be made to do.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, BrokerId, FindCoordinatorRequest, MetadataRequest, MetadataResponse,
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ResponseHeader,
        SaslAuthenticateRequest, SaslHandshakeRequest, SaslHandshakeResponse,
        api_versions_response::ApiVersion,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic},
    },
    protocol::{Encodable, HeaderVersion, Request, StrBytes, decode_request_header_from_buffer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{Cluster, HostPort};
use crate::kafka::Deadlines;

/// Short, and long enough for a busy machine.
pub(in crate::kafka) const DEADLINES: Deadlines =
    Deadlines { connect: Duration::from_millis(500), request: Duration::from_secs(1) };

/// A request, as it came.
pub(in crate::kafka) struct Asked {
    pub(in crate::kafka) key: i16,
    pub(in crate::kafka) version: i16,
    correlation_id: i32,
    body: Bytes,
    /// Where the peer itself listens.
    pub(in crate::kafka) peer: HostPort,
}

/// What comes back.
pub(in crate::kafka) enum Reply {
    /// These bytes, whatever they are.
    Raw(Bytes),
    /// Nothing, and the connection stays open.
    Silence,
    /// Nothing, and the connection is closed.
    Close,
}

impl Asked {
    pub(in crate::kafka) fn is<R: Request>(&self) -> bool {
        self.key == R::KEY
    }

    pub(in crate::kafka) fn body<R: Request>(&self) -> R {
        R::decode(&mut self.body.clone(), self.version).expect("what we send can be decoded")
    }

    pub(in crate::kafka) fn reply<R: Request>(&self, response: &R::Response) -> Reply {
        self.reply_as::<R>(self.version, self.correlation_id, response)
    }

    pub(in crate::kafka) fn reply_as<R: Request>(&self, version: i16, id: i32, response: &R::Response) -> Reply {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = ResponseHeader::default().with_correlation_id(id);
        header.encode(&mut frame, R::Response::header_version(version)).expect("a header can be encoded");
        response.encode(&mut frame, version).expect("a response can be encoded");
        let length = i32::try_from(frame.len() - 4).expect("short");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Reply::Raw(frame.freeze())
    }

    /// Says which requests the peer knows. As a real broker, it answers a version that it does not know in version 0.
    pub(in crate::kafka) fn versions(&self, known: &[(i16, i16, i16)]) -> Reply {
        let keys = known.iter().map(|&(key, min, max)| {
            ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
        });
        let response = ApiVersionsResponse::default().with_api_keys(keys.collect());
        let newest = known.iter().find(|k| k.0 == ApiVersionsRequest::KEY).map_or(0, |k| k.2);
        if self.version <= newest {
            return self.reply::<ApiVersionsRequest>(&response);
        }
        let response = response.with_error_code(ResponseError::UnsupportedVersion.code());
        self.reply_as::<ApiVersionsRequest>(0, self.correlation_id, &response)
    }

    /// A cluster of one, broker 1, with topic `t` of one partition.
    pub(in crate::kafka) fn metadata(&self) -> MetadataResponse {
        let port = i32::from(self.peer.port);
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1));
        let broker = broker.with_host(StrBytes::from_string(self.peer.host.clone()));
        let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1)).with_leader_epoch(3);
        let topic = MetadataResponseTopic::default().with_name(Some(text("t").into())).with_partitions(vec![partition]);
        MetadataResponse::default().with_brokers(vec![broker.with_port(port)]).with_topics(vec![topic])
    }

    /// What a quiet broker of a cluster of one says, where a test does not care.
    pub(in crate::kafka) fn quiet(&self) -> Reply {
        if self.is::<ApiVersionsRequest>() {
            self.versions(&[
                (ApiVersionsRequest::KEY, 0, 4),
                (MetadataRequest::KEY, 0, 12),
                (FindCoordinatorRequest::KEY, 0, 3),
                (OffsetFetchRequest::KEY, 1, 7),
                (OffsetCommitRequest::KEY, 2, 8),
                (SaslHandshakeRequest::KEY, 0, 1),
                (SaslAuthenticateRequest::KEY, 0, 2),
            ])
        } else if self.is::<MetadataRequest>() {
            self.reply::<MetadataRequest>(&self.metadata())
        } else if self.is::<SaslHandshakeRequest>() {
            let code = ResponseError::IllegalSaslState.code();
            self.reply::<SaslHandshakeRequest>(&SaslHandshakeResponse::default().with_error_code(code))
        } else {
            self.coordinator_is(1)
        }
    }

    pub(in crate::kafka) fn coordinator_is(&self, node: i32) -> Reply {
        assert!(self.is::<FindCoordinatorRequest>(), "request {} has no quiet answer", self.key);
        let response = kafka_protocol::messages::FindCoordinatorResponse::default()
            .with_node_id(BrokerId(node))
            .with_host(text("127.0.0.1"))
            .with_port(i32::from(self.peer.port));
        self.reply::<FindCoordinatorRequest>(&response)
    }

    /// Partition 0 of `t` is kept at this offset; -1 for nothing.
    pub(in crate::kafka) fn kept(&self, offset: i64) -> Reply {
        let partition = OffsetFetchResponsePartition::default().with_committed_offset(offset);
        let topic = OffsetFetchResponseTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
        self.reply::<OffsetFetchRequest>(&OffsetFetchResponse::default().with_topics(vec![topic]))
    }

    /// The commit of partition 0 of `t` ends with this code.
    pub(in crate::kafka) fn committed(&self, code: i16) -> Reply {
        let partition = OffsetCommitResponsePartition::default().with_error_code(code);
        let topic = OffsetCommitResponseTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
        self.reply::<OffsetCommitRequest>(&OffsetCommitResponse::default().with_topics(vec![topic]))
    }
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// A cluster whose only broker answers by `script`. It ends with the test's runtime.
pub(in crate::kafka) async fn cluster(script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Cluster {
    listening("127.0.0.1", None, script).await
}

/// The same on this address, and with TLS if it is given something to speak it with.
pub(in crate::kafka) async fn listening(
    host: &str,
    tls: Option<TlsAcceptor>,
    script: impl FnMut(&Asked) -> Reply + Send + 'static,
) -> Cluster {
    let listener = TcpListener::bind((host, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let peer = HostPort { host: host.to_owned(), port };
    let script = Arc::new(Mutex::new(script));
    tokio::spawn({
        let peer = peer.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (peer, script, tls) = (peer.clone(), Arc::clone(&script), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, peer, script).await,
                        // What is wrong is the client's to find out.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, peer, script).await;
                            }
                        }
                    }
                });
            }
        }
    });
    Cluster::new(vec![peer], "test", DEADLINES)
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: HostPort,
    script: Arc<Mutex<impl FnMut(&Asked) -> Reply>>,
) {
    while let Ok(length) = stream.read_i32().await {
        // A real broker, too, closes the connection on what can be no request.
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= 1 << 20) else { return };
        let mut frame = vec![0; length];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let mut body = Bytes::from(frame);
        let (key, version) = ((&body[..]).get_i16(), (&body[2..]).get_i16());
        let header = decode_request_header_from_buffer(&mut body).expect("what we send can be decoded");
        let asked = Asked { key, version, correlation_id: header.correlation_id, body, peer: peer.clone() };
        let reply = (script.lock().expect("the script did not panic"))(&asked);
        match reply {
            Reply::Raw(bytes) if stream.write_all(&bytes).await.is_ok() && stream.flush().await.is_ok() => {}
            Reply::Silence => {}
            Reply::Raw(_) | Reply::Close => return,
        }
    }
}
