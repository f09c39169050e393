//! Who calls: on the socket the kernel says it and the settings give the role; over the network a
//! certificate says it, and the store whether it counts.

use super::{
    ACTING_AS, Shared,
    answers::{ErrorBody, Failed},
    blocking, now,
};
use crate::{
    caller::{Caller, Role},
    pki::Identity,
    refusal::{Gate, Refusal},
    settings::Settings,
};
use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::request::Parts,
    serve::{IncomingStream, Listener},
};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr as UnixAddr};
use wireonce_desired::Moment;

/// What is known of the other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// What the kernel says of it: user and group, if it could be asked.
    Account(Option<(u32, u32)>),
    /// The certificate that it showed.
    Certificate(Arc<Shown>),
    /// It came over the network and showed none.
    Stranger(SocketAddr),
}

/// A certificate of ours.
#[derive(Debug)]
pub(super) struct Shown {
    /// Whom it names.
    pub(super) identity: Identity,
    /// Its number.
    pub(super) serial: String,
    /// Until when it is valid.
    pub(super) until: Moment,
}

/// The socket's door: strangers are told so and turned away at once, so that they cannot
/// hold connections open.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: UnixListener,
    pub(super) settings: Arc<Settings>,
}

impl Listener for Door {
    type Io = UnixStream;
    type Addr = UnixAddr;

    async fn accept(&mut self) -> (UnixStream, UnixAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            match known(account(&stream), &self.settings) {
                Ok(_) => return (stream, address),
                Err(refusal) => turn_away(&stream, refusal),
            }
        }
    }

    fn local_addr(&self) -> io::Result<UnixAddr> {
        self.listener.local_addr()
    }
}

fn account(stream: &UnixStream) -> Option<(u32, u32)> {
    stream.peer_cred().ok().map(|found| (found.uid(), found.gid()))
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self::Account(account(stream.io()))
    }
}

/// Who that is, if they have a role.
fn known(account: Option<(u32, u32)>, settings: &Settings) -> Result<Caller, Refusal> {
    let caller = account.and_then(|(uid, gid)| settings.caller(uid, gid));
    caller.ok_or_else(|| {
        let uid = account.map_or("unknown".to_owned(), |(uid, _)| uid.to_string());
        let remedy = "have it added to a [[role]] of the controller's file";
        let refusal = Refusal::new(Gate::Right, format!("user {uid}"), "has no role here", remedy);
        refusal.who("admin")
    })
}

/// Answers without having read what was asked.
fn turn_away(stream: &UnixStream, refusal: Refusal) {
    let text = refusal.to_string();
    let body = serde_json::to_string(&ErrorBody { error: refusal, text }).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    // Nothing is in the way of so short an answer, and nobody waits for one that has gone.
    let _ = stream.try_write(answer.as_bytes());
}

/// Who is at the other end, as of now: each request asks anew.
pub(super) async fn identify(shared: &Shared, peer: &Peer) -> Result<Caller, Refusal> {
    match peer {
        Peer::Account(account) => known(*account, &shared.settings),
        Peer::Certificate(shown) => {
            let (controller, shown) = (shared.controller.clone(), Arc::clone(shown));
            blocking(move || {
                let Shown { identity, serial, until } = &*shown;
                controller.state()?.admit(identity, serial, *until, now())
            })
            .await
        }
        Peer::Stranger(address) => {
            let remedy = "give `--identity DIR` with one that `wireonce user make` made; hosts join \
                          with `wireonce join`";
            let thing = format!("the caller at {address}");
            let refusal = Refusal::new(Gate::Right, thing, "shows no certificate", remedy);
            Err(refusal.who("admin"))
        }
    }
}

/// The caller of a request, hosts too: for what hosts may ask. And by which way they came.
#[derive(Debug)]
pub(super) struct Anyone(pub(super) Caller, pub(super) Peer);

impl FromRequestParts<Shared> for Anyone {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Failed> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0.clone());
        let peer = peer.unwrap_or(Peer::Account(None));
        let caller = identify(shared, &peer).await?;
        let Some(role) = parts.headers.get(ACTING_AS) else { return Ok(Self(caller, peer)) };
        let text = String::from_utf8_lossy(role.as_bytes());
        let role: Role = text.parse().map_err(|problem: String| {
            let (problem, remedy) = problem.split_once("; ").unwrap_or((&problem, ""));
            Failed(Refusal::new(Gate::Text, "the role to act in", problem, remedy))
        })?;
        Ok(Self(caller.acting_as(role)?, peer))
    }
}

/// The caller of a request; hosts, and those without a role, get no further.
#[derive(Debug)]
pub(super) struct Who(pub(super) Caller);

impl FromRequestParts<Shared> for Who {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Failed> {
        let Anyone(caller, _) = Anyone::from_request_parts(parts, shared).await?;
        caller.need_person()?;
        Ok(Self(caller))
    }
}

/// Who the controller takes the caller for.
#[utoipa::path(get, path = "/v1/whoami", responses((status = 200, body = Caller)))]
pub(super) async fn whoami(Anyone(caller, _): Anyone) -> Json<Caller> {
    Json(caller)
}
