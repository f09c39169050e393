//! The operator's verbs: they ask the controller, and show what it says.
//!
//! Tables for people; `--json` is the controller's answer as it is, for scripts: one document on
//! standard output, and nothing else. A refusal is one line on standard error and exit status 1.

mod advise;
mod ask;
mod documents;
mod explain;
mod grants;
mod members;
mod objects;
mod placing;
mod requests;
mod top;
mod trail;

pub(crate) use advise::{AdviseArgs, advise};
pub(crate) use documents::{
    ApplyArgs, BackupArgs, DiffArgs, ExportArgs, apply, backup, diff, export,
};
pub(crate) use explain::{ExplainArgs, explain};
pub(crate) use grants::GrantVerb;
pub(crate) use members::{TokenVerb, UserVerb, token, user};
pub(crate) use objects::{ObjectVerb, run as object};
pub(crate) use placing::{HostVerb, PoolVerb, UplinkVerb, VnicVerb, host, pool, uplink, vnic};
pub(crate) use requests::RequestVerb;
pub(crate) use top::{TopArgs, top};
pub(crate) use trail::{AuditArgs, WatchArgs, audit, watch};

pub(crate) use grants::run as grant;
pub(crate) use requests::run as request;
