//! The door for the network: TLS, with certificates of clients.
//!
//! ```text
//! accept ─ handshake, 10 s ─┬─ certificate ─ at most 8 connections of each holder ─┐
//!                           └─ none: may only join ─ 64, for 30 s ─────────────────┴─> requests
//! ```
//! A handshake shows that a certificate is ours and of this time; whether it still counts is asked
//! at each request. Sessions are not resumed, because that would skip the handshake's question.

use super::who::{Peer, Shown};
use crate::{
    change::Allowed,
    pki::{Authority, Identity},
    refusal::{Gate, Refusal},
};
use axum::{extract::connect_info::Connected, serve::IncomingStream, serve::Listener};
use rustix::net::sockopt;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{self, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use wireonce_desired::Moment;
use wireonce_member::{
    certificate::Facts,
    tls::{Clock, crypto},
};

/// How long a handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Most handshakes at a time.
const HANDSHAKES_MAX: usize = 256;
/// Most connections without a certificate at a time, and how long each may last.
const STRANGERS_MAX: usize = 64;
const STRANGER_PATIENCE: Duration = Duration::from_secs(30);
/// How long somebody who was turned away is given to read why.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Foreign certificates are said in the log once in this time at most.
const SAID_EACH: Duration = Duration::from_secs(1);
/// Most connections of one holder of a certificate.
const CONNECTIONS_MAX: usize = 8;
/// A connection whose other end is gone is noticed after this long.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How often it is looked whether the controller's own certificate has to be renewed.
const LOOK: Duration = Duration::from_secs(3600);

/// What TLS is spoken with.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    own: Arc<Own>,
}

/// The controller's own certificate, which is renewed while it runs.
#[derive(Debug)]
struct Own {
    authority: Arc<Authority>,
    places: Vec<String>,
    shown: RwLock<(Arc<CertifiedKey>, Moment)>,
}

impl Tls {
    /// Shows a certificate of `authority` for these hosts' names and addresses, and believes
    /// clients that it gave theirs.
    pub(super) fn new(
        authority: Arc<Authority>,
        places: Vec<String>,
        clock: Clock,
    ) -> Allowed<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).map_err(failed)?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto())
            .allow_unauthenticated()
            .build()
            .map_err(failed)?;
        let shown = RwLock::new(certified(&authority, &places, Moment(clock.now_s()))?);
        let own = Arc::new(Own { authority, places, shown });
        let mut config = ServerConfig::builder_with_details(crypto(), Arc::new(clock))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(&own) as Arc<dyn ResolvesServerCert>);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), own })
    }
}

impl Own {
    /// Another certificate, if it is time.
    fn renew(&self, now: Moment) -> Allowed<()> {
        let is_due = self.shown.read().unwrap_or_else(PoisonError::into_inner).1 <= now;
        if is_due {
            let renewed = certified(&self.authority, &self.places, now)?;
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = renewed;
            tracing::info!("the controller's own certificate is renewed");
        }
        Ok(())
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner).0))
    }
}

fn certified(
    authority: &Authority,
    places: &[String],
    now: Moment,
) -> Allowed<(Arc<CertifiedKey>, Moment)> {
    let made = authority.controller_key(places, now)?;
    let key = PrivateKeyDer::Pkcs8(made.key);
    let key = CertifiedKey::from_der(made.chain, key, &crypto()).map_err(failed)?;
    Ok((Arc::new(key), made.renew_at))
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    let problem = format!("cannot be spoken: {error}");
    Refusal::new(Gate::Store, "TLS", problem, "see that the controller's store is whole")
}

/// Connections that have been greeted, one after the other.
#[derive(Debug)]
pub(super) struct TlsDoor {
    greeted: mpsc::Receiver<(Greeted, Peer)>,
    local: SocketAddr,
}

impl TlsDoor {
    /// Greets who connects to `listener`. Has to be called inside the runtime.
    pub(super) fn open(listener: TcpListener, tls: Tls) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (done, greeted) = mpsc::channel(HANDSHAKES_MAX);
        let own = Arc::clone(&tls.own);
        tokio::spawn(async move {
            let mut looks = time::interval(LOOK);
            loop {
                looks.tick().await;
                if let Err(refusal) = own.renew(super::now()) {
                    tracing::error!(%refusal, "the controller's own certificate is not renewed");
                }
            }
        });
        let greeter = Arc::new(Greeter {
            acceptor: TlsAcceptor::from(tls.config),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            known: Arc::default(),
            said: Arc::default(),
        });
        tokio::spawn(accept(listener, greeter, done));
        Ok(Self { greeted, local })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.local
    }
}

impl Listener for TlsDoor {
    type Io = Greeted;
    type Addr = Peer;

    async fn accept(&mut self) -> (Greeted, Peer) {
        match self.greeted.recv().await {
            Some(greeted) => greeted,
            // The runtime is ending.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::Stranger(self.local))
    }
}

impl Connected<IncomingStream<'_, TlsDoor>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsDoor>) -> Self {
        stream.remote_addr().clone()
    }
}

async fn accept(listener: TcpListener, greeter: Arc<Greeter>, done: mpsc::Sender<(Greeted, Peer)>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, address) = next(&listener).await;
        let (greeter, done) = (Arc::clone(&greeter), done.clone());
        tokio::spawn(async move {
            let greeting = greeter.greet(stream, address);
            match time::timeout(HANDSHAKE_PATIENCE, greeting).await {
                Ok(Ok(greeted)) => drop(done.send(greeted).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "turned away"),
                Err(_) => tracing::debug!(%address, "turned away: the handshake took too long"),
            }
            drop(permit);
        });
    }
}

async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection is lost");
                // Out of descriptors, most likely: no hurry to fail again.
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Shakes hands, and counts.
#[derive(Clone)]
struct Greeter {
    acceptor: TlsAcceptor,
    strangers: Arc<Semaphore>,
    known: Arc<Mutex<HashMap<Identity, usize>>>,
    /// When a foreign certificate was last said.
    said: Arc<Mutex<Option<time::Instant>>>,
}

impl Greeter {
    /// Somebody with a certificate that is not ours means us, and wonders why it does not work.
    fn turned_away(&self, address: SocketAddr, error: &io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(rustls::Error::InvalidCertificate(problem)) = inner else { return };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAID_EACH) {
            *said = Some(time::Instant::now());
            tracing::info!(
                %address,
                ?problem,
                "turned away: the certificate is not of this controller's authority, or not of this \
                 time; a host joins with `wireonce join`, a person with `wireonce user make`"
            );
        }
    }

    async fn greet(&self, stream: TcpStream, address: SocketAddr) -> io::Result<(Greeted, Peer)> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE / 6)?;
        let stream = match self.acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                self.turned_away(address, &error);
                hang_up(stream).await;
                return Err(error);
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some(certificate) = certificate else {
            let full = || io::Error::other("too many strangers");
            let permit = Arc::clone(&self.strangers).try_acquire_owned().map_err(|_| full())?;
            let end = Some(Box::pin(time::sleep(STRANGER_PATIENCE)));
            let greeted = Greeted { stream, end, _place: Place::Stranger { _permit: permit } };
            return Ok((greeted, Peer::Stranger(address)));
        };
        let nobody = || io::Error::other("the certificate names nobody");
        let shown = shown(certificate).ok_or_else(nobody)?;
        let place = Counted::new(&self.known, &shown.identity)?;
        let greeted = Greeted { stream, end: None, _place: Place::Known { _counted: place } };
        Ok((greeted, Peer::Certificate(Arc::new(shown))))
    }
}

/// The last that was sent says why. A socket that is closed with something unread in it takes that back.
async fn hang_up(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    let read = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    let _ = time::timeout(LAST_PATIENCE, read).await;
}

/// Whom a certificate names, with its number and end. The handshake has judged it.
fn shown(certificate: &CertificateDer<'_>) -> Option<Shown> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let identity = parsed.valid_uri_names().find_map(Identity::from_uri)?;
    let Facts { serial, until_s, .. } = Facts::of(certificate)?;
    Some(Shown { identity, serial, until: Moment(until_s) })
}

/// A connection that counts among those of its holder until it is dropped.
struct Counted {
    known: Arc<Mutex<HashMap<Identity, usize>>>,
    identity: Identity,
}

impl Counted {
    fn new(known: &Arc<Mutex<HashMap<Identity, usize>>>, identity: &Identity) -> io::Result<Self> {
        let mut counts = known.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(identity.clone()).or_default();
        if *count >= CONNECTIONS_MAX {
            return Err(io::Error::other(format!("{identity} has {count} connections already")));
        }
        *count += 1;
        Ok(Self { known: Arc::clone(known), identity: identity.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.identity) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.identity);
            }
        }
    }
}

/// What a connection takes up as long as it lasts.
enum Place {
    Stranger { _permit: OwnedSemaphorePermit },
    Known { _counted: Counted },
}

/// A connection after its handshake. A stranger's ends by itself.
pub(super) struct Greeted {
    stream: TlsStream<TcpStream>,
    end: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl std::fmt::Debug for Greeted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Greeted").finish_non_exhaustive()
    }
}

impl Greeted {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready())
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
