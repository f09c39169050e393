//! The demo's command line.

use std::path::PathBuf;

use clap::Parser;

/// Shows wireonce at work on this machine: two servers, two gateways, a controller and
/// an outside (network namespaces), two VMs; bandwidth that moves, a gateway that is killed, one that
/// is emptied, and every frame accounted for.
#[derive(Debug, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
pub(crate) struct Options {
    /// Leave everything running and tell how to look around, until Enter or Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw both VMs' rates around the move into FILE (SVG); else into `demo.svg` in cargo's target
    /// folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// How soon a lost home is left: `fast` or `default`; else what this machine is calm enough for.
    #[arg(long, value_name = "PROFILE", value_parser = ["fast", "default"])]
    pub(crate) failover: Option<String>,
    /// Install no packages: stop and list what is missing.
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Show the daemons' last words at the end.
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Use this wireonce instead of building it.
    #[arg(long, value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// Only attach this terminal to a VM's console (see --keep).
    #[arg(long, value_name = "SOCKET", hide = true)]
    pub(crate) console: Option<PathBuf>,
}
