//! `wireonce token`, `wireonce host` and `wireonce user`: who is let in, and who no more.

use super::ask::{Ask, escape, query, seconds_of};
use crate::{failure::Failure, output::Table};
use clap::{Args, Parser, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use wireonce_control::{
    api::{HostItem, Made},
    pki::{Credentials, Invitation, Issued},
};
use wireonce_desired::Moment;
use wireonce_member::{Directory, certificate::TlsKey, join::admitted, messages::Admitted};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Print a token that lets one host in, once
    Make(MakeArgs),
    /// Show those that are kept, without their secrets
    List {
        #[command(flatten)]
        ask: Ask,
    },
    /// Remove one
    Rm {
        /// Its id, as `token list` shows it
        id: String,
        #[command(flatten)]
        ask: Ask,
    },
}

/// The command line of `token make`.
#[derive(Debug, Parser)]
pub(crate) struct MakeArgs {
    #[command(flatten)]
    who: Invited,
    /// How long it can be used, such as 30m, 1h or 2d; at most 7d
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    duration: String,
    /// Let the host come with another fabric key than the one that is known
    #[arg(long)]
    rekey: bool,
    #[command(flatten)]
    ask: Ask,
}

/// Whom a token is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Invited {
    /// The server that may join
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The gateway that may join
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
}

/// What can be done with hosts as members.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberVerb {
    /// Show all hosts: whether they joined, and until when their certificates are valid
    List {
        #[command(flatten)]
        ask: Ask,
    },
    /// Refuse a host's certificates from now on; what it serves goes on
    Revoke(RevokeArgs),
}

/// The command line of `revoke`.
#[derive(Debug, Parser)]
pub(crate) struct RevokeArgs {
    /// Whose
    name: String,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// What can be done with people who come over the network.
#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// Make a directory with a certificate for somebody, for `--identity`
    Make {
        /// Their name
        name: String,
        /// admin, network, virtualisation or viewer
        #[arg(long = "role", value_name = "ROLE", id = "users_role")]
        role: String,
        /// The directory, which is made; NAME if left out
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show all that were given certificates
    List {
        #[command(flatten)]
        ask: Ask,
    },
    /// Refuse somebody's certificates from now on
    Revoke(RevokeArgs),
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Does it.
pub(crate) fn token(verb: &TokenVerb) -> Result<(), Failure> {
    match verb {
        TokenVerb::Make(args) => make(args),
        TokenVerb::List { ask } => {
            let tokens: Vec<Invitation> = ask.client().get("/v1/tokens")?;
            ask.show(&tokens, || tokens_table(&tokens))
        }
        TokenVerb::Rm { id, ask } => {
            let path = format!("/v1/tokens/{}", escape(id).replace('/', "%2F"));
            ask.client().change::<()>(method("DELETE")?, &path, &[], String::new())?;
            ask.show(&json!({"removed": id}), || format!("token {id} is removed\n"))
        }
    }
}

fn make(args: &MakeArgs) -> Result<(), Failure> {
    let MakeArgs { who, duration, rekey, ask } = args;
    let (holder, name) = match (&who.server, &who.gateway) {
        (Some(name), _) => ("server", name),
        (_, Some(name)) => ("gateway", name),
        _ => return Err(Failure::Input("give --server NAME or --gateway NAME".to_owned())),
    };
    let for_s = seconds_of("--for", duration)?;
    let body = json!({"holder": holder, "name": name, "for_s": for_s, "rekey": rekey});
    let made: Made = ask.client().change(method("POST")?, "/v1/tokens", &JSON, body.to_string())?;
    ask.show(&made, || {
        let until = made.invitation.until;
        format!(
            "{}\n\nIt lets {holder} {name:?} in once, until {until}, and is not shown again. On that \
             host:\n\n    wireonce join --config FILE TOKEN\n",
            made.token
        )
    })
}

fn tokens_table(tokens: &[Invitation]) -> String {
    let mut table = Table::new(["ID", "FOR", "UNTIL", "USED", "REKEY", "BY"]);
    for token in tokens {
        table.row([
            token.id.clone(),
            format!("{} {}", token.holder.word(), token.name),
            token.until.to_string(),
            at(token.used),
            if token.rekey { "yes" } else { "-" }.to_owned(),
            token.by.user.clone(),
        ]);
    }
    if tokens.is_empty() { "no tokens\n".to_owned() } else { table.render() }
}

/// Does it.
pub(crate) fn member(verb: &MemberVerb) -> Result<(), Failure> {
    match verb {
        MemberVerb::List { ask } => {
            let hosts: Vec<HostItem> = ask.client().get("/v1/hosts")?;
            ask.show(&hosts, || hosts_table(&hosts))
        }
        MemberVerb::Revoke(args) => revoke(args, "hosts"),
    }
}

fn hosts_table(hosts: &[HostItem]) -> String {
    let mut table = Table::new(["NAME", "KIND", "JOINED", "CERTIFICATE UNTIL", "REVOKED"]);
    for host in hosts {
        let known = host.credentials.as_ref();
        let kind = host.holder.word();
        table.row([
            host.name.clone(),
            if host.exists { kind.to_owned() } else { format!("{kind} (removed)") },
            at(known.map(|known| known.joined)),
            at(known.and_then(Credentials::until)),
            at(known.and_then(|known| known.revoked)),
        ]);
    }
    if hosts.is_empty() { "no hosts\n".to_owned() } else { table.render() }
}

fn revoke(args: &RevokeArgs, kind: &str) -> Result<(), Failure> {
    let RevokeArgs { name, reason, ask } = args;
    let path = format!("/v1/{kind}/{}/revoke", escape(name).replace('/', "%2F"));
    let path = query(&path, &[("reason", reason.as_deref())]);
    let gone: Vec<Issued> = ask.client().change(method("POST")?, &path, &[], String::new())?;
    ask.show(&gone, || {
        format!(
            "{name}: {} certificates are refused from its next request on; what it serves goes on\n",
            gone.len()
        )
    })
}

/// Does it.
pub(crate) fn user(verb: &UserVerb) -> Result<(), Failure> {
    match verb {
        UserVerb::Make { name, role, out, ask } => {
            let directory = out.clone().unwrap_or_else(|| name.into());
            make_user(name, role, &Directory::new(directory), ask)
        }
        UserVerb::List { ask } => {
            let users: Vec<Credentials> = ask.client().get("/v1/users")?;
            ask.show(&users, || {
                let mut table =
                    Table::new(["NAME", "ROLE", "SINCE", "CERTIFICATE UNTIL", "REVOKED"]);
                for user in &users {
                    table.row([
                        user.name.clone(),
                        user.role.map_or("-".to_owned(), |role| role.to_string()),
                        user.joined.to_string(),
                        at(user.until()),
                        at(user.revoked),
                    ]);
                }
                if users.is_empty() { "no users\n".to_owned() } else { table.render() }
            })
        }
        UserVerb::Revoke(args) => revoke(args, "users"),
    }
}

/// The key is made here and stays here.
fn make_user(name: &str, role: &str, directory: &Directory, ask: &Ask) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Runtime(error.to_string());
    let key = TlsKey::generate();
    let key = key.ok_or_else(|| failed(&"the operating system gave no random bytes"))?;
    directory.make().map_err(|error| failed(&error))?;
    let body = json!({"name": name, "role": role, "tls_key": key.public_text()}).to_string();
    let answer: Admitted = ask.client().change(method("POST")?, "/v1/users", &JSON, body)?;
    let answer = serde_json::to_string(&answer).map_err(|error| failed(&error))?;
    let membership = admitted(&answer, key);
    let membership =
        membership.ok_or_else(|| failed(&"the controller answered what cannot be understood"))?;
    directory.keep(&membership).map_err(|error| failed(&error))?;
    let shown = directory.path().display();
    let until = Moment(membership.facts.until_s);
    let made = json!({"name": name, "role": role, "directory": directory.path(), "until": until});
    ask.show(&made, || {
        format!(
            "{shown}: certificate for {name} as {role}, until {until}. It is a secret; give it to \
             them, for `wireonce VERB --identity {shown}`\n"
        )
    })
}

fn method<M: std::str::FromStr>(word: &str) -> Result<M, Failure> {
    word.parse().map_err(|_| Failure::Runtime("this method does not exist".to_owned()))
}

fn at(moment: Option<Moment>) -> String {
    moment.map_or("-".to_owned(), |moment| moment.to_string())
}
