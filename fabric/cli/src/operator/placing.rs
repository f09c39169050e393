//! `wireonce vnic move`, `uplink drain`, `host drain`, `pool rebalance`: who leaves the fabric where.

use super::{
    ask::{Ask, escape, lines, query, seconds_of},
    members::{self, MemberVerb},
    objects::{self, ObjectVerb},
};
use crate::{
    failure::Failure,
    output::{self, Table},
};
use clap::{Parser, Subcommand};
use serde_json::json;
use std::{
    io::{self, BufRead, IsTerminal},
    thread,
    time::{Duration, Instant},
};
use wireonce_control::{
    Gate,
    placing::{Progress, Proposal, Way},
};
use wireonce_desired::Kind;

/// How often it is asked how far a drain is.
const LOOK: Duration = Duration::from_millis(500);
/// How often a plan is made anew because the house changed.
const TRIES: usize = 3;

/// What can be done with vNICs.
#[derive(Debug, Subcommand)]
pub(crate) enum VnicVerb {
    /// Move one to another home, while its virtual machine runs
    Move {
        /// The vNIC
        name: String,
        /// The uplink that is to be its home
        #[arg(long, value_name = "UPLINK")]
        to: String,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        ask: Ask,
    },
    #[command(flatten)]
    Object(ObjectVerb),
}

/// What can be done with uplinks.
#[derive(Debug, Subcommand)]
pub(crate) enum UplinkVerb {
    /// Empty one: nothing new goes there, and all vNICs that are there get another home, or nothing
    /// is changed
    Drain(DrainArgs),
    /// Have one take vNICs again; nobody comes back by itself
    Undrain(DrainArgs),
    #[command(flatten)]
    Object(ObjectVerb),
}

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// Empty all uplinks of a gateway, or change nothing
    Drain(DrainArgs),
    /// Have a gateway's uplinks take vNICs again
    Undrain(DrainArgs),
    #[command(flatten)]
    Member(MemberVerb),
}

/// What can be done with pools.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// Show which moves would have more bandwidth used, at what price, and make them if told so
    Rebalance {
        /// The pool
        name: String,
        /// Make them without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        ask: Ask,
    },
    #[command(flatten)]
    Object(ObjectVerb),
}

/// What all of these can be told.
#[derive(Debug, Parser)]
pub(crate) struct How {
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// The command line of a drain, or of its end.
#[derive(Debug, Parser)]
pub(crate) struct DrainArgs {
    /// Its name
    name: String,
    /// Wait until every host has taken it and, for a drain, nobody is there any more
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "wait")]
    timeout: String,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    ask: Ask,
}

impl How {
    fn path(&self, path: &str) -> String {
        let how = [("dry_run", self.dry_run.then_some("true")), ("reason", self.reason.as_deref())];
        query(path, &how)
    }
}

/// Does it with a vNIC.
pub(crate) fn vnic(verb: &VnicVerb) -> Result<(), Failure> {
    match verb {
        VnicVerb::Object(verb) => objects::run(Kind::Vnic, verb),
        VnicVerb::Move { name, to, how, ask } => {
            let path = how.path(&format!("/v1/vnics/{}/move", escape(name)));
            let headers = [("content-type", "application/json")];
            ask.change("POST", &path, &headers, json!({ "to": to }).to_string())?;
            Ok(())
        }
    }
}

/// Does it with an uplink.
pub(crate) fn uplink(verb: &UplinkVerb) -> Result<(), Failure> {
    match verb {
        UplinkVerb::Object(verb) => objects::run(Kind::Uplink, verb),
        UplinkVerb::Drain(args) => drain(Kind::Uplink, args, true),
        UplinkVerb::Undrain(args) => drain(Kind::Uplink, args, false),
    }
}

/// Does it with a host. A server is refused by the controller, with the reason.
pub(crate) fn host(verb: &HostVerb) -> Result<(), Failure> {
    let (args, draining) = match verb {
        HostVerb::Drain(args) => (args, true),
        HostVerb::Undrain(args) => (args, false),
        HostVerb::Member(verb) => return members::member(verb),
    };
    let server = format!("/v1/servers/{}", escape(&args.name));
    let is_server = args.ask.client().text(&server).is_ok();
    drain(if is_server { Kind::Server } else { Kind::Gateway }, args, draining)
}

/// Does it with a pool.
pub(crate) fn pool(verb: &PoolVerb) -> Result<(), Failure> {
    match verb {
        PoolVerb::Object(verb) => objects::run(Kind::Pool, verb),
        PoolVerb::Rebalance { name, yes, how, ask } => rebalance(name, *yes, how, ask),
    }
}

fn drain(kind: Kind, args: &DrainArgs, draining: bool) -> Result<(), Failure> {
    let timeout = Duration::from_secs(seconds_of("--timeout", &args.timeout)?);
    let ask = &args.ask;
    let place = format!("/v1/{}/{}", kind.plural(), escape(&args.name));
    // A server is refused the one as the other.
    let verb = if draining || kind == Kind::Server { "drain" } else { "undrain" };
    let path = args.how.path(&format!("{place}/{verb}"));
    let answer = ask.send("POST", &path, &[], String::new())?;
    if !args.wait {
        return ask.show_answer(&answer);
    }
    // People read what came of it at once; scripts read one document, when it is over.
    if !ask.json {
        ask.show_answer(&answer)?;
    }
    let (progress, end) =
        wait(ask, &format!("{place}/drain"), (kind, &args.name), draining, timeout);
    if ask.json {
        ask.show(&json!({"answer": answer, "progress": progress}), String::new)?;
    } else if end.is_ok() {
        output::print(match draining {
            true => "done: every host has taken it, and nobody is there any more\n",
            false => "done: every host has taken it\n",
        })?;
    }
    end
}

/// Asks until it is done, and says what it waits for whenever that changes. Returns what was heard
/// last, and how it ended.
fn wait(
    ask: &Ask,
    path: &str,
    (kind, name): (Kind, &str),
    draining: bool,
    timeout: Duration,
) -> (Option<Progress>, Result<(), Failure>) {
    let title = kind.title(name);
    let end = Instant::now() + timeout;
    let (mut heard, mut shown) = (None, Vec::new());
    loop {
        let progress: Progress = match ask.client().get(path) {
            Ok(progress) => progress,
            Err(error) => return (heard, Err(error.into())),
        };
        if progress.draining != draining {
            let now = if progress.draining { "drains" } else { "does not drain" };
            let problem = format!("{title}: {now} any more or again: somebody else changed it");
            let failure = Failure::Runtime(format!("{problem}; `wireonce audit` shows who"));
            return (Some(progress), Err(failure));
        }
        if progress.done {
            return (Some(progress), Ok(()));
        }
        let waits: Vec<String> =
            progress.waits_for.iter().map(|it| format!("{}: {}", it.host, it.why)).collect();
        heard = Some(progress);
        if waits != shown {
            ask.complain(&waits.iter().map(|it| format!("waiting for {it}\n")).collect::<String>());
            shown = waits;
        }
        if Instant::now() >= end {
            let failure = Failure::Runtime(format!(
                "{title}: after {} s it still waits for {}; it goes on by itself: look again with \
                 `{}`",
                timeout.as_secs(),
                first(&shown),
                look_again(kind, name, draining)
            ));
            return (heard, Err(failure));
        }
        thread::sleep(LOOK);
    }
}

/// The command that waits on.
fn look_again(kind: Kind, name: &str, draining: bool) -> String {
    let thing = if kind == Kind::Uplink { "uplink" } else { "host" };
    let verb = if draining { "drain" } else { "undrain" };
    format!("wireonce {thing} {verb} {name} --wait")
}

/// The first of some, and how many more there are.
fn first(waits: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = waits.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match waits.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn rebalance(pool: &str, yes: bool, how: &How, ask: &Ask) -> Result<(), Failure> {
    let path = format!("/v1/pools/{}/rebalance", escape(pool));
    for _ in 0..TRIES {
        let plan: Proposal = ask.client().get(&path)?;
        if plan.moves.is_empty() || !yes {
            ask.show(&plan, || text(&plan))?;
        } else if !ask.json {
            output::print(&text(&plan))?;
        }
        if plan.moves.is_empty() || (!yes && !agreed(&plan, ask)?) {
            return Ok(());
        }
        let moves: Vec<_> =
            plan.moves.iter().map(|it| json!({"vnic": it.vnic, "to": it.to})).collect();
        let body = json!({"revision": plan.revision, "moves": moves}).to_string();
        let headers = [("content-type", "application/json")];
        match ask.send("POST", &how.path(&path), &headers, body) {
            Err(Failure::Refused(refusal))
                if refusal.gate == Gate::Conflict && &*refusal.thing == "the plan" =>
            {
                ask.complain("the house changed meanwhile: the plan is made again\n");
            }
            done => return ask.show_answer(&done?),
        }
    }
    Err(Failure::Runtime(format!(
        "[[pool]] {pool:?}: others changed the house {TRIES} times meanwhile; try again"
    )))
}

/// Whether somebody at a terminal says yes.
fn agreed(plan: &Proposal, ask: &Ask) -> Result<bool, Failure> {
    if ask.json || !io::stdin().is_terminal() {
        ask.complain("nothing was changed; to make these moves, say --yes\n");
        return Ok(false);
    }
    let moves = if plan.moves.len() == 1 { "this move" } else { "these moves" };
    output::print(&format!("make {moves}? [y/N] "))?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Runtime(format!("standard input: {error}")))?;
    let is_yes = matches!(line.trim(), "y" | "Y" | "yes");
    if !is_yes {
        output::print("nothing was changed\n")?;
    }
    Ok(is_yes)
}

/// A plan for people.
fn text(plan: &Proposal) -> String {
    let mut table = Table::new(["VNIC", "FROM", "TO", "GAINS", "FABRIC", "CORES", "DEPENDS ON"]);
    for it in &plan.moves {
        table.row([
            it.vnic.clone(),
            it.from.clone(),
            it.to.clone(),
            both(it.gain),
            both(it.fabric),
            format!("{}.{:02}", it.millicores / 1_000, it.millicores % 1_000 / 10),
            it.depends_on.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let mut text = table.render();
    for it in &plan.kept {
        text += &format!("{} is short of {}: {}\n", it.vnic, both(it.short), it.why);
    }
    text += &lines(&plan.notes);
    if plan.moves.is_empty() {
        text += "nothing to move: no move would have enough more bandwidth used\n";
    }
    text
}

fn both(way: Way) -> String {
    match (way.up.bps(), way.down.bps()) {
        (0, 0) => "-".to_owned(),
        (_, 0) => format!("{} up", way.up),
        (0, _) => format!("{} down", way.down),
        _ => format!("{} up, {} down", way.up, way.down),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_control::placing::{Kept, PlannedMove};

    #[test]
    fn a_plan_has_gain_and_price_of_each_move() {
        let rate = |text: &str| text.parse().unwrap();
        let way = |up, down| Way { up: rate(up), down: rate(down) };
        let plan = Proposal {
            pool: "east".to_owned(),
            revision: 7,
            moves: vec![PlannedMove {
                vnic: "vm-a".to_owned(),
                from: "east-1".to_owned(),
                to: "east-2".to_owned(),
                gain: way("3Gbit", "0bit"),
                fabric: way("8Gbit", "1Gbit"),
                millicores: 1_080,
                depends_on: Some("gateway-b".to_owned()),
            }],
            kept: vec![Kept {
                vnic: "vm-b".to_owned(),
                short: way("1Gbit", "1Gbit"),
                why: "no luck".to_owned(),
            }],
            notes: vec!["well".to_owned()],
        };
        assert_eq!(
            text(&plan),
            "VNIC  FROM    TO         GAINS                FABRIC  CORES  DEPENDS ON\nvm-a  east-1  \
             east-2  3Gbit up  8Gbit up, 1Gbit down   1.08  gateway-b\nvm-b is short of 1Gbit up, 1Gbit \
             down: no luck\nnote: well\n"
        );
        let none = Proposal { moves: vec![], kept: vec![], notes: vec![], ..plan };
        assert!(text(&none).starts_with("nothing to move"));
    }

    #[test]
    fn the_command_that_waits_on_exists() {
        use clap::Parser as _;
        for (kind, draining) in [
            (Kind::Uplink, true),
            (Kind::Uplink, false),
            (Kind::Gateway, true),
            (Kind::Gateway, false),
        ] {
            let line = look_again(kind, "x", draining);
            let parsed = crate::Command::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        assert_eq!(look_again(Kind::Gateway, "a", false), "wireonce host undrain a --wait");
    }

    #[test]
    fn long_waits_are_cut() {
        let waits: Vec<String> = (0..5).map(|at| format!("host-{at}: x")).collect();
        assert_eq!(first(&waits), "host-0: x, host-1: x, host-2: x and 2 more");
    }
}
