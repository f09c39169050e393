//! What has to be written for a token, a join, a renewal, a revocation. Arithmetic on a
//! [`State`], as all changes are; the audit trail is written in the same transaction.

use super::{Authority, Credentials, Holder, Identity, Invitation, Issued, Lasting};
use crate::{
    caller::{Caller, Role},
    change::{
        Action, Allowed, AuditEntry, Base, Change, Counters, Edit, HOUSE, Standing, State,
        check_words, json, plan, take_counters,
    },
    refusal::{Gate, Refusal},
    store::Op,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wireonce_desired::{Host, Moment, Object};
use wireonce_member::{messages::Join, token::Secret};

/// Most tokens at a time.
pub(super) const TOKENS_MAX: usize = 256;
/// Longest time that a token may be used, seconds.
const TOKEN_S_MAX: u64 = 7 * 86_400;

/// What is written, and what is answered when it is.
pub type Given<T> = (Vec<Op>, T);

/// What a token is asked for with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// `server` or `gateway`.
    pub holder: Holder,
    /// Which one.
    pub name: String,
    /// How long it can be used, seconds.
    pub for_s: u64,
    /// Whether the host may come with another key than the one that is known.
    #[serde(default)]
    pub rekey: bool,
}

/// Makes a token whose secret has this hash.
///
/// # Errors
/// Only an admin can; there are too many; the name is no host's, or another kind's.
pub fn plan_invite(
    state: &State,
    caller: &Caller,
    ask: &Invite,
    hash: &str,
    now: Moment,
) -> Allowed<Given<Invitation>> {
    caller.need_admin("tokens")?;
    let identity = identity(ask.holder, &ask.name)?;
    let Some(kind) = ask.holder.kind() else {
        return wrong(&identity, "is no host", "name a server or a gateway");
    };
    if let Some(other) = state.house.host_kind(&ask.name).filter(|other| *other != kind) {
        let problem = format!("is the name of a {other}");
        return wrong(&identity, &problem, "servers and gateways have names of their own");
    }
    if !(1..=TOKEN_S_MAX).contains(&ask.for_s) {
        return wrong(&identity, "a token is for 1 s to 7 days", "give another `--for`");
    }
    let mut ops = expired(state, now);
    if state.invitations.len() - ops.len() >= TOKENS_MAX {
        let problem = format!("there are {TOKENS_MAX} already");
        let remedy = "remove some with `wireonce token rm`";
        return Err(Refusal::new(Gate::Admission, "tokens", problem, remedy));
    }
    let invitation = Invitation {
        id: Invitation::id_of(hash),
        holder: ask.holder,
        name: ask.name.clone(),
        until: Moment(now.0.saturating_add(ask.for_s)),
        rekey: ask.rekey,
        made: now,
        by: caller.clone(),
        used: None,
    };
    ops.push(Op::put(Invitation::key(hash), json(&invitation)?));
    let word = format!("until {}", invitation.until);
    let line = Line { action: Action::Invited, identity: &identity, by: caller, reason: word };
    line.write(&mut ops, state.counters.clone(), now)?;
    Ok((ops, invitation))
}

/// Removes a token by the name that `token list` shows.
///
/// # Errors
/// Only an admin can; there is none.
pub fn plan_forget(state: &State, caller: &Caller, id: &str, now: Moment) -> Allowed<Given<()>> {
    caller.need_admin("tokens")?;
    let found = state.invitations.iter().find(|(_, invitation)| invitation.id == id);
    let Some((hash, invitation)) = found else {
        let shown: String = id.chars().take(40).collect();
        let remedy = "`wireonce token list` shows those that there are";
        return Err(Refusal::new(
            Gate::Missing,
            format!("token {shown:?}"),
            "does not exist",
            remedy,
        ));
    };
    let mut ops = vec![Op::delete(Invitation::key(hash))];
    let identity = Identity { holder: invitation.holder, name: invitation.name.clone() };
    let reason = format!("token {id}");
    let line = Line { action: Action::Uninvited, identity: &identity, by: caller, reason };
    line.write(&mut ops, state.counters.clone(), now)?;
    Ok((ops, ()))
}

/// Lets a host in: uses the token up, pins the fabric's key, gives a certificate. What it had
/// before counts no more.
///
/// # Errors
/// The token does not let this host in, or one of the gates refuses its object.
pub fn plan_join(
    state: &State,
    authority: &Authority,
    ask: &Join,
    now: Moment,
) -> Allowed<Given<String>> {
    let hash = Secret::from_hex(&ask.secret).map(|secret| secret.hash()).unwrap_or_default();
    let identity = identity(ask.kind.into(), &ask.name)?;
    let invitation = invited(state, &hash, &identity, now)?;
    let object = pinned(state, ask, invitation.rekey)?;
    let change = Change::one(Edit::Put(object, Base::Any)).because(Some("joined".to_owned()));
    let mut planned = plan(state, &invitation.by, &change, Standing::default(), now)?;
    let counters = take_counters(&mut planned.ops, state);
    let mut ops = planned.ops;
    let (certificate, issued) = authority.give(&identity, &ask.tls_key, now)?;
    let before = state.members.get(&identity);
    let joined = Credentials {
        holder: identity.holder,
        name: identity.name.clone(),
        role: None,
        joined: now,
        by: invitation.by.clone(),
        certificates: vec![issued],
        lasting: if before.is_some() { Lasting::Listed } else { Lasting::All },
        revoked: None,
    };
    ops.push(Op::put(Credentials::key(&identity), json(&joined)?));
    let used = Invitation { used: Some(now), ..invitation.clone() };
    ops.push(Op::put(Invitation::key(&hash), json(&used)?));
    let reason = format!("with token {} from {} port {}", invitation.id, ask.address, ask.port);
    let line = Line { action: Action::Joined, identity: &identity, by: &invitation.by, reason };
    line.write(&mut ops, counters, now)?;
    Ok((ops, certificate))
}

/// Gives a member another certificate; those that it has go on until they expire.
///
/// # Errors
/// It is no member, or there are no random bytes.
pub fn plan_renew(
    state: &State,
    authority: &Authority,
    identity: &Identity,
    tls_key: &str,
    now: Moment,
) -> Allowed<Given<String>> {
    let Some(known) = state.members.get(identity) else {
        return wrong(identity, "is no member", &identity.way_back());
    };
    let (certificate, issued) = authority.give(identity, tls_key, now)?;
    let mut renewed = known.clone();
    renewed.give(issued, now);
    let ops = vec![
        Op::put(Credentials::key(identity), json(&renewed)?),
        Op::put(HOUSE, json(&state.counters)?),
    ];
    Ok((ops, certificate))
}

/// Gives a person a certificate for a role; what they had before counts no more.
///
/// # Errors
/// Only an admin can; the name is none.
pub fn plan_person(
    state: &State,
    authority: &Authority,
    caller: &Caller,
    (name, role, tls_key): (&str, Role, &str),
    now: Moment,
) -> Allowed<Given<String>> {
    caller.need_admin("users")?;
    let identity = identity(Holder::User, name)?;
    let (certificate, issued) = authority.give(&identity, tls_key, now)?;
    let given = Credentials {
        holder: Holder::User,
        name: name.to_owned(),
        role: Some(role),
        joined: now,
        by: caller.clone(),
        certificates: vec![issued],
        lasting: Lasting::Listed,
        revoked: None,
    };
    let mut ops = vec![Op::put(Credentials::key(&identity), json(&given)?)];
    let reason = format!("as {role}");
    let line = Line { action: Action::Joined, identity: &identity, by: caller, reason };
    line.write(&mut ops, state.counters.clone(), now)?;
    Ok((ops, certificate))
}

/// From now on no certificate of a holder counts, until it joins again.
///
/// # Errors
/// Only an admin can; it never joined.
pub fn plan_revoke(
    state: &State,
    caller: &Caller,
    identity: &Identity,
    reason: Option<String>,
    now: Moment,
) -> Allowed<Given<Vec<Issued>>> {
    caller.need_admin("certificates")?;
    check_words(&identity.title(), "reason", reason.as_deref())?;
    let Some(known) = state.members.get(identity) else {
        let remedy = "`wireonce host list` shows those that there are";
        let problem = "has not joined";
        return Err(Refusal::new(Gate::Missing, identity.title(), problem, remedy));
    };
    let mut revoked = known.clone();
    let gone = std::mem::take(&mut revoked.certificates);
    revoked.lasting = Lasting::Listed;
    revoked.revoked = Some(now);
    let mut ops = vec![Op::put(Credentials::key(identity), json(&revoked)?)];
    let reason = reason.unwrap_or_else(|| format!("{} certificates", gone.len()));
    let line = Line { action: Action::Revoked, identity, by: caller, reason };
    line.write(&mut ops, state.counters.clone(), now)?;
    Ok((ops, gone))
}

/// The token that lets this host in.
fn invited<'s>(
    state: &'s State,
    hash: &str,
    identity: &Identity,
    now: Moment,
) -> Allowed<&'s Invitation> {
    let no = |problem: String| {
        let word = identity.holder.word();
        let remedy = format!(
            "make another at the controller: `wireonce token make --{word} {}`",
            identity.name
        );
        Err(Refusal::new(Gate::Right, "the token", problem, remedy).who("admin"))
    };
    let Some(invitation) = state.invitations.get(hash) else {
        return no("is not known here, or was removed".to_owned());
    };
    let Invitation { holder, name, until, used, .. } = invitation;
    if let Some(used) = used {
        return no(format!("was used at {used}, and works once"));
    }
    if *until < now {
        return no(format!("was for use until {until}"));
    }
    if *holder != identity.holder || *name != identity.name {
        return no(format!("is for {} {name:?}", holder.word()));
    }
    Ok(invitation)
}

/// The host's object with the key that it comes with.
fn pinned(state: &State, ask: &Join, rekey: bool) -> Allowed<Object> {
    let holder = Holder::from(ask.kind);
    let known = holder.kind().and_then(|kind| state.house.get(kind, &ask.name));
    let known = match known {
        Some(Object::Server(host) | Object::Gateway(host)) => Some(host),
        _ => None,
    };
    if known.is_some_and(|known| known.public_key != ask.public_key) && !rekey {
        let problem = "the host comes with another fabric key than the one that is known";
        let word = holder.word();
        let remedy = format!(
            "put the key back on the host, or make the token with `wireonce token make --{word} {} \
             --rekey`",
            ask.name
        );
        return Err(Refusal::new(
            Gate::Conflict,
            format!("{word} {:?}", ask.name),
            problem,
            remedy,
        ));
    }
    let host = Host {
        name: ask.name.clone(),
        address: ask.address,
        port: ask.port,
        public_key: ask.public_key.clone(),
        ..match known {
            Some(known) => known.clone(),
            None => Host {
                name: String::new(),
                address: ask.address,
                port: ask.port,
                public_key: String::new(),
                machine: None,
                port_up: None,
                port_down: None,
                draining: false,
            },
        }
    };
    Ok(match holder {
        Holder::Gateway => Object::Gateway(host),
        _ => Object::Server(host),
    })
}

/// Tokens that nobody can use any more.
fn expired(state: &State, now: Moment) -> Vec<Op> {
    let old = state.invitations.iter().filter(|(_, invitation)| invitation.until < now);
    old.map(|(hash, _)| Op::delete(Invitation::key(hash))).collect()
}

fn identity(holder: Holder, name: &str) -> Allowed<Identity> {
    Identity::new(holder, name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let problem = "is no name";
        let remedy = "give 1 to 63 letters, digits, `-`, `_` or `.`, a letter or digit first";
        Refusal::new(Gate::Text, format!("{} {shown:?}", holder.word()), problem, remedy)
    })
}

fn wrong<T>(identity: &Identity, problem: &str, remedy: &str) -> Allowed<T> {
    Err(Refusal::new(Gate::House, identity.title(), problem, remedy))
}

/// A line of the audit trail about a holder.
struct Line<'l> {
    action: Action,
    identity: &'l Identity,
    by: &'l Caller,
    reason: String,
}

impl Line<'_> {
    fn write(self, ops: &mut Vec<Op>, mut counters: Counters, now: Moment) -> Allowed<()> {
        let entry = AuditEntry {
            number: counters.audit,
            at: now,
            by: self.by.clone(),
            action: self.action,
            kind: self.identity.holder.kind(),
            name: match self.identity.holder {
                Holder::User => self.identity.to_string(),
                _ => self.identity.name.clone(),
            },
            before: None,
            after: None,
            reason: Some(self.reason),
            request: None,
        };
        counters.audit += 1;
        ops.push(Op::put(AuditEntry::key(entry.number), json(&entry)?));
        ops.push(Op::put(HOUSE, json(&counters)?));
        Ok(())
    }
}
