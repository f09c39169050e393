//! `wireonce grant`: as other objects, and `move`, `end`, `use`.

use super::{
    ask::{Ask, cell, for_seconds, query},
    objects::{self, ObjectVerb},
};
use crate::{failure::Failure, output::Table};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};
use wireonce_desired::Kind;

/// What can be done with grants.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantVerb {
    /// Move a reservation from one server to another
    Move(MoveArgs),
    /// End timed changes now: what was before comes back
    End {
        /// POOL/SERVER, each
        #[arg(required = true)]
        grants: Vec<String>,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show what pools can carry, and what of it is promised to whom
    Use {
        #[command(flatten)]
        ask: Ask,
    },
    #[command(flatten)]
    Object(ObjectVerb),
}

/// The command line of `grant move`.
#[derive(Debug, Parser)]
pub(crate) struct MoveArgs {
    /// The pool
    #[arg(long)]
    pool: String,
    /// The server whose reservation becomes less
    #[arg(long, value_name = "SERVER")]
    from: String,
    /// The server whose reservation becomes more
    #[arg(long, value_name = "SERVER")]
    to: String,
    /// How much, such as 2Gbit
    rate: String,
    /// Which way
    #[arg(long, value_enum, default_value = "up")]
    direction: Way,
    /// Move it back after this time, such as 90s, 30m, 2h or 7d
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<String>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    ask: Ask,
}

/// Directions of a move.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    Up,
    Down,
    Both,
}

/// Does it.
pub(crate) fn run(verb: &GrantVerb) -> Result<(), Failure> {
    let headers = [("content-type", "application/json")];
    match verb {
        GrantVerb::Object(verb) => objects::run(Kind::Grant, verb),
        GrantVerb::Move(args) => shift(args),
        GrantVerb::End { grants, reason, ask } => {
            let path = query("/v1/grants/end", &[("reason", reason.as_deref())]);
            let body = json!({ "grants": grants }).to_string();
            ask.change("POST", &path, &headers, body)?;
            Ok(())
        }
        GrantVerb::Use { ask } => {
            let pools: Value = ask.client().get("/v1/pools/use")?;
            ask.show(&pools, || pools_table(&pools))
        }
    }
}

fn shift(args: &MoveArgs) -> Result<(), Failure> {
    let directions = match args.direction {
        Way::Up => vec!["up"],
        Way::Down => vec!["down"],
        Way::Both => vec!["up", "down"],
    };
    let body = json!({
        "pool": args.pool,
        "from": args.from,
        "to": args.to,
        "rate": args.rate,
        "directions": directions,
    });
    let for_s = for_seconds(args.duration.as_deref())?;
    let how = [
        ("dry_run", args.dry_run.then_some("true")),
        ("reason", args.reason.as_deref()),
        ("for_s", for_s.as_deref()),
    ];
    let headers = [("content-type", "application/json")];
    let path = query("/v1/grants/move", &how);
    args.ask.change("POST", &path, &headers, body.to_string())?;
    Ok(())
}

/// Pools with what is promised of them, and below each its servers.
pub(super) fn pools_table(pools: &Value) -> String {
    let mut table = Table::new(["POOL", "WAY", "USABLE", "BUDGET", "RESERVED", "SERVERS"]);
    for entry in pools.as_array().into_iter().flatten() {
        let servers = entry["servers"].as_object().into_iter().flatten();
        let servers: Vec<String> =
            servers.map(|(server, rate)| format!("{server} {}", cell(rate))).collect();
        table.row([
            cell(&entry["pool"]),
            cell(&entry["direction"]),
            cell(&entry["usable"]),
            cell(&entry["budget"]),
            cell(&entry["reserved"]),
            if servers.is_empty() { "-".to_owned() } else { servers.join(", ") },
        ]);
    }
    let text = table.render();
    if text.is_empty() { "no pools\n".to_owned() } else { text }
}
