//! Tokens, joining, certificates, and who has them.

use super::{
    Shared,
    answers::{Body, Failed},
    blocking, now,
    who::{Anyone, Who},
};
use crate::{
    caller::Role,
    pki::{
        Authority, Credentials, Holder, Identity, Invitation, Invite, Issued, plan_forget,
        plan_invite, plan_join, plan_person, plan_renew, plan_revoke,
    },
    refusal::{Gate, Refusal},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;
use wireonce_desired::Kind;
use wireonce_member::{
    HostKind, Token,
    messages::{Admitted, Join, Renew},
    token::Secret,
};

/// What gives certificates.
#[derive(Debug)]
pub(super) struct Gatehouse {
    pub(super) authority: Arc<Authority>,
    /// Where hosts find the controller: `HOST:PORT`.
    pub(super) addresses: Vec<String>,
}

impl Gatehouse {
    fn admitted(&self, certificate: String) -> Json<Admitted> {
        let ca = self.authority.to_pem();
        Json(Admitted { certificate, ca, addresses: self.addresses.clone() })
    }
}

impl Shared {
    /// What gives certificates, if the controller can be reached over the network.
    fn gatehouse(&self) -> Result<Arc<Gatehouse>, Refusal> {
        self.gatehouse.clone().ok_or_else(|| {
            let problem = "listens on its Unix socket only, where hosts cannot come";
            let remedy = "give `[control] https` and `https_addresses` in its file, and restart it";
            Refusal::new(Gate::House, "the controller", problem, remedy).who("admin")
        })
    }
}

/// A token on its way to the host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Made {
    /// What `wireonce join` takes. It is shown once.
    pub token: String,
    /// What the controller keeps of it.
    pub invitation: Invitation,
}

/// Makes a token that lets one host in, once; admin.
#[utoipa::path(post, path = "/v1/tokens", request_body = Invite, responses((status = 200, body =
    Made), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn invite(
    State(shared): State<Shared>,
    Who(caller): Who,
    Body(ask): Body<Invite>,
) -> Result<Json<Made>, Failed> {
    let gatehouse = shared.gatehouse()?;
    let secret = Secret::generate().ok_or_else(|| {
        let problem = "the operating system gave no random bytes";
        Refusal::new(Gate::Store, "the token", problem, "try again")
    })?;
    let (hash, asked) = (secret.hash(), ask.clone());
    let made = move || {
        let plan = |state: &_| plan_invite(state, &caller, &asked, &hash, now());
        shared.controller.commit(plan)
    };
    let invitation = blocking(made).await?;
    let token = Token {
        kind: if ask.holder == Holder::Gateway { HostKind::Gateway } else { HostKind::Server },
        name: ask.name,
        addresses: gatehouse.addresses.clone(),
        ca: gatehouse.authority.fingerprint(),
        secret,
        until_s: invitation.until.0,
    };
    Ok(Json(Made { token: token.to_string(), invitation }))
}

/// All tokens that are kept, without their secrets; admin.
#[utoipa::path(get, path = "/v1/tokens", responses((status = 200, body = Vec<Invitation>)))]
pub(super) async fn invitations(
    State(shared): State<Shared>,
    Who(caller): Who,
) -> Result<Json<Vec<Invitation>>, Failed> {
    caller.need_admin("tokens")?;
    let state = blocking(move || shared.controller.state()).await?;
    Ok(Json(state.invitations.values().cloned().collect()))
}

/// Removes a token; admin.
#[utoipa::path(delete, path = "/v1/tokens/{id}", params(("id" = String, Path)), responses((status =
    200), (status = "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn forget(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(id): Path<String>,
) -> Result<Json<()>, Failed> {
    let done = move || shared.controller.commit(|state| plan_forget(state, &caller, &id, now()));
    Ok(Json(blocking(done).await?))
}

/// A host with a token joins. The only request that needs no certificate.
#[utoipa::path(post, path = "/v1/join", request_body(content = String, description =
    "{\"secret\", \"kind\", \"name\", \"address\", \"port\", \"public_key\", \"tls_key\"}"),
    responses((status = 200, description = "{\"certificate\", \"ca\", \"addresses\"}"), (status =
    "4XX", body = super::answers::ErrorBody)))]
pub(super) async fn join(
    State(shared): State<Shared>,
    Body(ask): Body<Join>,
) -> Result<Json<Admitted>, Failed> {
    let gatehouse = shared.gatehouse()?;
    let name = ask.name.chars().take(64).collect::<String>();
    let authority = Arc::clone(&gatehouse.authority);
    let done = move || shared.controller.commit(|state| plan_join(state, &authority, &ask, now()));
    let certificate = blocking(done).await?;
    tracing::info!(name, "a host has joined");
    Ok(gatehouse.admitted(certificate))
}

/// Another certificate for a host that has one.
#[utoipa::path(post, path = "/v1/hosts/{host}/certificate", params(("host" = String, Path)),
    request_body(content = String, description = "{\"tls_key\"}"), responses((status = 200,
    description = "{\"certificate\", \"ca\", \"addresses\"}"), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn renew(
    State(shared): State<Shared>,
    Anyone(caller, _): Anyone,
    Path(host): Path<String>,
    Body(ask): Body<Renew>,
) -> Result<Json<Admitted>, Failed> {
    caller.need_host(&host)?;
    let gatehouse = shared.gatehouse()?;
    let authority = Arc::clone(&gatehouse.authority);
    let done = move || {
        let identity = host_identity(&shared, &host)?;
        let plan = |state: &_| plan_renew(state, &authority, &identity, &ask.tls_key, now());
        shared.controller.commit(plan)
    };
    Ok(gatehouse.admitted(blocking(done).await?))
}

/// The identity of a host that exists, or that joined once.
fn host_identity(shared: &Shared, host: &str) -> Result<Identity, Refusal> {
    let state = shared.controller.state()?;
    let kept = state.members.keys().find(|id| id.holder != Holder::User && id.name == host);
    let holder = match state.house.host_kind(host) {
        Some(Kind::Gateway) => Some(Holder::Gateway),
        Some(_) => Some(Holder::Server),
        None => kept.map(|identity| identity.holder),
    };
    holder.and_then(|holder| Identity::new(holder, host)).ok_or_else(|| {
        let shown: String = host.chars().take(64).collect();
        let remedy = "`wireonce host list` shows those that there are";
        Refusal::new(Gate::Missing, format!("host {shown:?}"), "does not exist", remedy)
    })
}

/// A host, and how it stands with the controller.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HostItem {
    /// Its name.
    pub name: String,
    /// `server` or `gateway`.
    pub holder: Holder,
    /// Whether the house has it.
    pub exists: bool,
    /// What it was given; left out if it never joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// All hosts, with their certificates.
#[utoipa::path(get, path = "/v1/hosts", responses((status = 200, body = Vec<HostItem>)))]
pub(super) async fn hosts(
    State(shared): State<Shared>,
    Who(_): Who,
) -> Result<Json<Vec<HostItem>>, Failed> {
    let state = blocking(move || shared.controller.state()).await?;
    let holder = |kind| if kind == Kind::Gateway { Holder::Gateway } else { Holder::Server };
    let existing = state.house.hosts().map(|(kind, host)| (holder(kind), host.name.clone()));
    let gone = state.members.keys().filter(|identity| {
        let kind = identity.holder.kind();
        kind.is_some_and(|kind| state.house.get(kind, &identity.name).is_none())
    });
    let gone = gone.map(|identity| (identity.holder, identity.name.clone()));
    let item = |(holder, name): (Holder, String)| {
        let identity = Identity { holder, name: name.clone() };
        let exists = holder.kind().is_some_and(|kind| state.house.get(kind, &name).is_some());
        HostItem { name, holder, exists, credentials: state.members.get(&identity).cloned() }
    };
    Ok(Json(existing.chain(gone).map(item).collect()))
}

/// Why.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    /// For the audit trail.
    pub(super) reason: Option<String>,
}

/// From now on a host's certificates count no more; admin.
#[utoipa::path(post, path = "/v1/hosts/{host}/revoke", params(("host" = String, Path), Why),
    responses((status = 200, body = Vec<Issued>), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn revoke(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(host): Path<String>,
    Query(why): Query<Why>,
) -> Result<Json<Vec<Issued>>, Failed> {
    let done = move || {
        let identity = host_identity(&shared, &host)?;
        revoked(&shared, &caller, &identity, why)
    };
    Ok(Json(blocking(done).await?))
}

fn revoked(
    shared: &Shared,
    caller: &crate::Caller,
    identity: &Identity,
    why: Why,
) -> Result<Vec<Issued>, Refusal> {
    let Why { reason } = why;
    let plan = |state: &_| plan_revoke(state, caller, identity, reason.clone(), now());
    shared.controller.commit(plan)
}

/// A person or program that wants a certificate.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    /// Their name.
    pub(crate) name: String,
    /// Their role.
    pub(crate) role: Role,
    /// Their public key for TLS: base64 of an uncompressed point on P-256.
    pub(crate) tls_key: String,
}

/// Gives a person a certificate; admin.
#[utoipa::path(post, path = "/v1/users", request_body = Person, responses((status = 200,
    description = "{\"certificate\", \"ca\", \"addresses\"}"), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn person(
    State(shared): State<Shared>,
    Who(caller): Who,
    Body(ask): Body<Person>,
) -> Result<Json<Admitted>, Failed> {
    let gatehouse = shared.gatehouse()?;
    if matches!(ask.role, Role::Control | Role::Host) {
        let problem = format!("`{}` is no role for people", ask.role);
        let remedy = "give admin, network, virtualisation or viewer";
        return Err(Refusal::new(Gate::Text, "the user", problem, remedy).into());
    }
    let authority = Arc::clone(&gatehouse.authority);
    let done = move || {
        let about = (ask.name.as_str(), ask.role, ask.tls_key.as_str());
        let plan = |state: &_| plan_person(state, &authority, &caller, about, now());
        shared.controller.commit(plan)
    };
    Ok(gatehouse.admitted(blocking(done).await?))
}

/// All people who were given certificates.
#[utoipa::path(get, path = "/v1/users", responses((status = 200, body = Vec<Credentials>)))]
pub(super) async fn people(
    State(shared): State<Shared>,
    Who(_): Who,
) -> Result<Json<Vec<Credentials>>, Failed> {
    let state = blocking(move || shared.controller.state()).await?;
    let people = state.members.values().filter(|it| it.holder == Holder::User);
    Ok(Json(people.cloned().collect()))
}

/// From now on a person's certificates count no more; admin.
#[utoipa::path(post, path = "/v1/users/{name}/revoke", params(("name" = String, Path), Why),
    responses((status = 200, body = Vec<Issued>), (status = "4XX", body =
    super::answers::ErrorBody)))]
pub(super) async fn revoke_person(
    State(shared): State<Shared>,
    Who(caller): Who,
    Path(name): Path<String>,
    Query(why): Query<Why>,
) -> Result<Json<Vec<Issued>>, Failed> {
    let done = move || {
        let identity = Identity::new(Holder::User, &name).ok_or_else(|| {
            Refusal::new(Gate::Missing, "the user", "does not exist", "`wireonce user list`")
        })?;
        revoked(&shared, &caller, &identity, why)
    };
    Ok(Json(blocking(done).await?))
}
