//! How `ureq` reaches a controller: over TLS to the first of its addresses that answers, or
//! over whatever stream a caller brings.

use crate::tls::CONTROLLER;
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
    },
};

/// How long one address is tried.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long the handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Names lead nowhere: who connects knows the address already.
#[derive(Debug)]
pub struct Nowhere;

impl Resolver for Nowhere {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(addresses)
    }
}

/// Something that bytes go through, with time limits.
pub trait Stream: Read + Write + Send + Sync + 'static {
    /// How long a read may wait; `None`: for ever.
    ///
    /// # Errors
    /// What the system says.
    fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()>;

    /// How long a write may wait; `None`: for ever.
    ///
    /// # Errors
    /// What the system says.
    fn limit_writes(&self, limit: Option<Duration>) -> io::Result<()>;

    /// Whether it can be used for another request.
    fn is_open(&self) -> bool;
}

/// A stream as `ureq` wants it.
pub struct Through<S> {
    stream: S,
    buffers: LazyBuffers,
}

impl<S> fmt::Debug for Through<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Through").finish_non_exhaustive()
    }
}

impl<S: Stream> Through<S> {
    /// Requests go through `stream`.
    pub fn new(stream: S, config: &Config) -> Self {
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Self { stream, buffers }
    }
}

impl<S: Stream> Transport for Through<S> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.limit_writes(timeout.not_zero().map(|left| *left))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        match self.stream.write_all(output).and_then(|()| self.stream.flush()) {
            // Strangers are answered before they ask: the answer is there to be read.
            Err(error) if is_hung_up(error.kind()) => Ok(()),
            done => done.map_err(|error| late(error, &timeout)),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.limit_reads(timeout.not_zero().map(|left| *left))?;
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input).map_err(|error| late(error, &timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.is_open()
    }
}

fn is_hung_up(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn late(error: io::Error, timeout: &NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

/// A TLS connection.
type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Tls {
    fn limit_reads(&self, limit: Option<Duration>) -> io::Result<()> {
        self.sock.set_read_timeout(limit)
    }

    fn limit_writes(&self, limit: Option<Duration>) -> io::Result<()> {
        self.sock.set_write_timeout(limit)
    }

    /// Between two answers nothing comes but the end.
    fn is_open(&self) -> bool {
        let look = || {
            self.sock.set_nonblocking(true)?;
            let seen = self.sock.peek(&mut [0]);
            self.sock.set_nonblocking(false)?;
            seen
        };
        look().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// Connects to the first of some addresses that answers, beginning with the last good one.
#[derive(Debug)]
pub struct TlsConnector {
    addresses: Vec<String>,
    config: Arc<ClientConfig>,
    good: AtomicUsize,
}

impl TlsConnector {
    /// Connects to one of `addresses`, each `HOST:PORT`.
    #[must_use]
    pub fn new(addresses: Vec<String>, config: ClientConfig) -> Self {
        Self { addresses, config: Arc::new(config), good: AtomicUsize::new(0) }
    }

    fn reach(&self, address: &str) -> io::Result<Tls> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for place in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&place, CONNECT_PATIENCE) {
                Ok(stream) => return self.greet(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn greet(&self, mut stream: TcpStream) -> io::Result<Tls> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE_PATIENCE))?;
        stream.set_write_timeout(Some(HANDSHAKE_PATIENCE))?;
        let name = ServerName::try_from(CONTROLLER).map_err(io::Error::other)?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

impl Connector for TlsConnector {
    type Out = Through<Tls>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let first = self.good.load(Ordering::Relaxed);
        let mut last = io::Error::new(ErrorKind::NotFound, "no address is known");
        for index in 0..self.addresses.len() {
            let index = first.wrapping_add(index) % self.addresses.len();
            let Some(address) = self.addresses.get(index) else { continue };
            match self.reach(address) {
                Ok(stream) => {
                    self.good.store(index, Ordering::Relaxed);
                    return Ok(Some(Through::new(stream, details.config)));
                }
                Err(error) => {
                    let kind = error.kind();
                    last = io::Error::new(kind, Tried { address: address.clone(), error });
                }
            }
        }
        Err(Error::Io(last))
    }
}

/// Which address it was that did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {error}")]
pub(crate) struct Tried {
    pub(crate) address: String,
    #[source]
    pub(crate) error: io::Error,
}
