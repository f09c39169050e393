//! `wireonce check`: validate a configuration file.

use crate::{beginning::TEXT_ORIGIN, failure::Failure, output};
use clap::Parser;
use std::path::PathBuf;
use wireonce_config::{Config, Encryption, HostFile, Serves};
use wireonce_desired::Moment;
use wireonce_link::StaticKey;
use wireonce_member::{Directory, DirectoryError};

/// The command line.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
    /// Also look whether this machine has what the file names: the key file, the
    /// address and its UDP ports, the directories of sockets, the interfaces
    #[arg(long)]
    host: bool,
}

/// Says `ok` and what the file describes, or what is wrong with it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let file = HostFile::load(&args.file)?;
    let Some(control) = file.control() else {
        return report(args, file.alone(), "");
    };
    let directory = Directory::new(&control.directory);
    let wrong = |error: DirectoryError| Failure::Input(error.to_string());
    let until = match directory.membership() {
        Ok(membership) => Moment(membership.facts.until_s),
        Err(error) if error.is_absent() && !args.host => {
            return report(args, file.alone(), "not joined yet: `wireonce join` does that\n");
        }
        Err(error) => return Err(wrong(error)),
    };
    match directory.text().map_err(wrong)? {
        Some(text) => {
            let config = file.with(text.text(), TEXT_ORIGIN)?;
            let short: String = text.tag().chars().take(12).collect();
            let note = format!("with the controller's text {short}; certificate until {until}\n");
            report(args, &config, &note)
        }
        None => {
            let note = format!("no text of the controller yet; certificate until {until}\n");
            report(args, file.alone(), &note)
        }
    }
}

fn report(args: &Args, config: &Config, note: &str) -> Result<(), Failure> {
    if args.host {
        machine(config, Serves::Everything)?;
    }
    output::print(&format!("{}{note}", summary(config)))
}

/// Looks whether this machine has what a program needs that serves what `serves`
/// says, key included. Returns the public key.
pub(crate) fn machine(config: &Config, serves: Serves) -> Result<[u8; 32], Failure> {
    config.check_host(serves)?;
    let key = StaticKey::load(&config.host.private_key_file)
        .map_err(|error| Failure::Input(format!("{}: {error}", config.key_file_place())))?;
    config.check_own_key(key.public().as_bytes())?;
    Ok(*key.public().as_bytes())
}

fn summary(config: &Config) -> String {
    let local_vnics = config.local_vnics().count();
    let local_uplinks = config.local_uplinks().count();
    let mut text = format!(
        "ok: host {:?}: {}, {}, {} ({local_vnics} here), {} ({local_uplinks} here)\n",
        config.host.name,
        count(config.peers.len(), "peer"),
        count(config.networks.len(), "network"),
        count(config.vnics.len(), "vNIC"),
        count(config.uplinks.len(), "uplink"),
    );
    if config.fabric.encryption == Encryption::Off {
        text.push_str(
            "warning: encryption is off: anyone on the fabric can read and forge frames\n",
        );
    }
    text
}

/// `1 vNIC`, `2 vNICs`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
