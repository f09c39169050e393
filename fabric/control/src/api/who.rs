//! Who calls: the kernel says it, the settings give the role.

use super::{ACTING_AS, Shared, answers::Failed};
use crate::{
    caller::{Caller, Role},
    refusal::{Gate, Refusal},
};
use axum::{
    Json,
    extract::{ConnectInfo, FromRequestParts, connect_info::Connected},
    http::request::Parts,
    serve::IncomingStream,
};
use tokio::net::UnixListener;

/// What the kernel says of the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// User and group, if it could be asked.
    account: Option<(u32, u32)>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self { account: credentials.map(|found| (found.uid(), found.gid())) }
    }
}

/// The caller of a request; those without a role get no further.
#[derive(Debug)]
pub(super) struct Who(pub(super) Caller);

impl FromRequestParts<Shared> for Who {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Failed> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|info| info.0);
        let account = peer.and_then(|peer| peer.account);
        let caller = account.and_then(|(uid, gid)| shared.settings.caller(uid, gid));
        let Some(caller) = caller else {
            let uid = account.map_or("unknown".to_owned(), |(uid, _)| uid.to_string());
            let remedy = "have it added to a [[role]] of the controller's file";
            let refusal =
                Refusal::new(Gate::Right, format!("user {uid}"), "has no role here", remedy);
            return Err(Failed(refusal.who("admin")));
        };
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
