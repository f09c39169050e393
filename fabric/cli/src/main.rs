//! The wireonce command: backend, gateway, control, the operator's verbs, status, check,
//! keygen, doctor.
//!
//! One file per verb. Exit status: 0 all is well, 1 something failed while it ran,
//! 2 the command line or the configuration is wrong; `diff` alone has others.
#![deny(unsafe_code)]

mod backend;
mod beginning;
mod check;
mod control;
mod daemon;
mod doctor;
mod failure;
mod gateway;
mod join;
mod keygen;
mod logging;
mod manual;
mod operator;
mod output;
mod reload;
mod status;
mod status_server;
mod sys;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;
use wireonce_desired::Kind;

/// NICs for virtual machines that are not tied to the server they run on.
#[derive(Debug, Parser)]
#[command(version, after_help = failure::EXIT_CODES)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve the vNICs of this host's virtual machines
    Backend(daemon::Args),
    /// Offer this host's uplinks; or list, show, set, rm: gateways in the desired state
    Gateway(gateway::Args),
    /// Keep the desired state of all hosts, and serve it
    Control(control::Args),
    /// Have the controller take the objects of a file
    Apply(operator::ApplyArgs),
    /// Show what `apply` would change
    Diff(operator::DiffArgs),
    /// Print all objects, as `apply` takes them
    Export(operator::ExportArgs),
    /// Print all that the controller keeps, for `control --restore`
    Backup(operator::BackupArgs),
    /// Servers: hosts that run virtual machines
    #[command(subcommand)]
    Server(operator::ObjectVerb),
    /// Uplinks: ports of gateways
    #[command(subcommand)]
    Uplink(operator::UplinkVerb),
    /// Pools: uplinks that reach the same outside
    #[command(subcommand)]
    Pool(operator::PoolVerb),
    /// Networks: layer-2 segments
    #[command(subcommand)]
    Network(operator::ObjectVerb),
    /// Policies: terms of vNICs
    #[command(subcommand)]
    Policy(operator::ObjectVerb),
    /// vNICs
    #[command(subcommand)]
    Vnic(operator::VnicVerb),
    /// Grants: what servers may use of pools
    #[command(subcommand)]
    Grant(operator::GrantVerb),
    /// Budgets: what grants of a pool may promise without asking
    #[command(subcommand)]
    Budget(operator::ObjectVerb),
    /// Requests beyond a budget
    #[command(subcommand)]
    Request(operator::RequestVerb),
    /// Join the installation of a controller, with a token
    Join(join::Args),
    /// Tokens: each lets one host in, once
    #[command(subcommand)]
    Token(operator::TokenVerb),
    /// Hosts: empty a gateway; list and revoke members
    #[command(subcommand)]
    Host(operator::HostVerb),
    /// People who come over the network: make, list, revoke
    #[command(subcommand)]
    User(operator::UserVerb),
    /// Show servers, uplinks, vNICs and pools as they are now, those that lack most first
    Top(operator::TopArgs),
    /// Say what is out of balance, and the command that cures it
    Advise(operator::AdviseArgs),
    /// Follow a vNIC's frames from station to station, and say what holds them up
    Explain(operator::ExplainArgs),
    /// Show who changed what, when and why
    Audit(operator::AuditArgs),
    /// Show changes as they happen
    Watch(operator::WatchArgs),
    /// Show what a running backend or gateway does, and its ledger
    Status(status::Args),
    /// Validate a configuration file
    Check(check::Args),
    /// Make this host's private key, and print its public key
    Keygen(keygen::KeygenArgs),
    /// Print the public key of a private key
    Pubkey(keygen::PubkeyArgs),
    /// Find out whether this machine can run wireonce, and what to do about it
    Doctor(doctor::Args),
    /// Print what a shell needs to complete commands
    Completion(manual::CompletionArgs),
    /// Write the manual: a page for each verb
    Manual(manual::ManualArgs),
}

fn main() -> ExitCode {
    let read = Command::command().try_get_matches().and_then(|matches| {
        let command = Command::from_arg_matches(&matches)?;
        Ok((command.verb, wants_json(&matches)))
    });
    match read {
        Ok((verb, json)) => failure::report(run(verb), json),
        Err(error) => failure::misread(&error),
    }
}

/// Whether `--json` was said, to whichever verb.
fn wants_json(matches: &ArgMatches) -> bool {
    let here = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or_default();
    here || matches.subcommand().is_some_and(|(_, below)| wants_json(below))
}

fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Backend(args) => backend::run(&args),
        Verb::Gateway(args) => gateway::run(&args),
        Verb::Control(args) => control::run(&args),
        Verb::Apply(args) => operator::apply(&args),
        Verb::Diff(args) => operator::diff(&args),
        Verb::Export(args) => operator::export(&args),
        Verb::Backup(args) => operator::backup(&args),
        Verb::Server(verb) => operator::object(Kind::Server, &verb),
        Verb::Uplink(verb) => operator::uplink(&verb),
        Verb::Pool(verb) => operator::pool(&verb),
        Verb::Network(verb) => operator::object(Kind::Network, &verb),
        Verb::Policy(verb) => operator::object(Kind::Policy, &verb),
        Verb::Vnic(verb) => operator::vnic(&verb),
        Verb::Host(verb) => operator::host(&verb),
        Verb::Grant(verb) => operator::grant(&verb),
        Verb::Budget(verb) => operator::object(Kind::Budget, &verb),
        Verb::Request(verb) => operator::request(&verb),
        Verb::Join(args) => join::run(&args),
        Verb::Token(verb) => operator::token(&verb),
        Verb::User(verb) => operator::user(&verb),
        Verb::Top(args) => operator::top(&args),
        Verb::Advise(args) => operator::advise(&args),
        Verb::Explain(args) => operator::explain(&args),
        Verb::Audit(args) => operator::audit(&args),
        Verb::Watch(args) => operator::watch(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Keygen(args) => keygen::keygen(&args),
        Verb::Pubkey(args) => keygen::pubkey(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Completion(args) => manual::completion(&args, Command::command()),
        Verb::Manual(args) => manual::manual(&args, Command::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What advice and verdicts print has to work as it is printed.
    #[test]
    fn every_command_that_evidence_prints_parses() {
        for line in wireonce_sight::Command::examples().iter().map(ToString::to_string) {
            let parsed = Command::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
