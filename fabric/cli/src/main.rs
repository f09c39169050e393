//! The wireonce command: backend, gateway, status, check, keygen, doctor.
//!
//! One file per verb. Exit status: 0 all is well, 1 something failed while it ran,
//! 2 the command line or the configuration is wrong.
#![deny(unsafe_code)]

mod backend;
mod check;
mod daemon;
mod doctor;
mod failure;
mod gateway;
mod keygen;
mod logging;
mod output;
mod reload;
mod status;
mod status_server;
mod sys;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

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
    /// Offer this host's uplinks
    Gateway(daemon::Args),
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
}

fn main() -> ExitCode {
    let done = match Command::parse().verb {
        Verb::Backend(args) => backend::run(&args),
        Verb::Gateway(args) => gateway::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Keygen(args) => keygen::keygen(&args),
        Verb::Pubkey(args) => keygen::pubkey(&args),
        Verb::Doctor(args) => doctor::run(&args),
    };
    failure::report(done)
}
