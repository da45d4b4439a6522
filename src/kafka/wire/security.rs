//! How a connection is secured, and the stream that comes of it.
//!
//! ```text
//!  TCP ──▶ TLS handshake ──▶ ApiVersions ──▶ SaslHandshake, SaslAuthenticate … ──▶ open
//!          (if any)                          (if any; connection.rs)
//! ```

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{Sasl, Tls};

/// How brokers are spoken to: neither TLS nor SASL by default. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// TLS, if it is spoken.
    pub tls: Option<Tls>,
    /// Who we are, if brokers are told.
    pub sasl: Option<Sasl>,
}

impl Security {
    /// Neither TLS nor SASL.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.sasl.is_none()
    }

    /// What the user should know before the first connection.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.tls.as_ref().and_then(Tls::warning)
    }
}

/// A TCP connection, with or without TLS on it.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether there is neither an end nor anything that could be read, as it has to be between calls.
    pub(super) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(stream) => {
                matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            // There may be bytes that are TLS's own, such as new session tickets: reading takes note of them.
            Self::Tls(stream) => {
                let mut byte = [0];
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
