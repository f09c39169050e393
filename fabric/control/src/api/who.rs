//! Who calls: the kernel says it, the settings give the role.

use super::{
    ACTING_AS, Shared,
    answers::{ErrorBody, Failed},
};
use crate::{
    caller::{Caller, Role},
    refusal::{Gate, Refusal},
    settings::Settings,
};
use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::request::Parts,
    serve::{IncomingStream, Listener},
};
use std::{io, sync::Arc};
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

/// What the kernel says of the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// User and group, if it could be asked.
    account: Option<(u32, u32)>,
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
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            match known(Peer::of(&stream), &self.settings) {
                Ok(_) => return (stream, address),
                Err(refusal) => turn_away(&stream, refusal),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Peer {
    fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self { account: credentials.map(|found| (found.uid(), found.gid())) }
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self::of(stream.io())
    }
}

/// Who that is, if they have a role.
fn known(peer: Peer, settings: &Settings) -> Result<Caller, Refusal> {
    let caller = peer.account.and_then(|(uid, gid)| settings.caller(uid, gid));
    caller.ok_or_else(|| {
        let uid = peer.account.map_or("unknown".to_owned(), |(uid, _)| uid.to_string());
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

/// The caller of a request; those without a role get no further.
#[derive(Debug)]
pub(super) struct Who(pub(super) Caller);

impl FromRequestParts<Shared> for Who {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Failed> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0);
        let caller = known(peer.unwrap_or(Peer { account: None }), &shared.settings)?;
        let Some(role) = parts.headers.get(ACTING_AS) else { return Ok(Self(caller)) };
        let text = String::from_utf8_lossy(role.as_bytes());
        let role: Role = text.parse().map_err(|problem: String| {
            let (problem, remedy) = problem.split_once("; ").unwrap_or((&problem, ""));
            Failed(Refusal::new(Gate::Text, "the role to act in", problem, remedy))
        })?;
        caller.acting_as(role).map(Self).map_err(Failed)
    }
}

/// Who the controller takes the caller for.
#[utoipa::path(get, path = "/v1/whoami", responses((status = 200, body = Caller)))]
pub(super) async fn whoami(Who(caller): Who) -> Json<Caller> {
    Json(caller)
}
