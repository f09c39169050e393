//! `wireonce gateway`: offer this host's uplinks; and the verbs for gateways as objects.

use crate::{
    daemon::{self, Role},
    failure::Failure,
    operator::{self, ObjectVerb},
};
use clap::Parser;
use std::path::PathBuf;
use wireonce_desired::Kind;
use wireonce_uplink::Gateway;

/// The command line: the daemon's, or one of the verbs.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<ObjectVerb>,
}

/// Runs until it is told to stop, or does what the verb says.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(verb) = &args.verb {
        return operator::object(Kind::Gateway, verb);
    }
    let config = args.config.clone().unwrap_or_default();
    daemon::run(Role::Gateway, &daemon::Args { config }, |config, failed| {
        Gateway::start(config, &failed).map_err(|error| error.to_string())
    })
}
