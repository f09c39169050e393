//! `wireonce join`: this host becomes a member of a controller's installation.

use crate::{failure::Failure, output};
use clap::Parser;
use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};
use wireonce_config::HostFile;
use wireonce_desired::Moment;
use wireonce_link::{PublicKey, StaticKey};
use wireonce_member::{
    Directory, HostKind, Token,
    join::{Host, JoinError, join},
    tls::Clock,
};

/// Longest token on standard input, bytes.
const TOKEN_LEN_MAX: u64 = 8 << 10;

/// The command line.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// This host's file, with its tables host, fabric and control
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What `wireonce token make` printed at the controller; `-` reads it from standard input
    token: String,
}

/// Makes what is missing, shows the token, keeps what comes.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let file = HostFile::load(&args.config)?;
    let token: Token =
        token_text(&args.token)?.parse().map_err(|error| Failure::Input(format!("{error}")))?;
    let Some(control) = file.control() else {
        let shown = args.config.display();
        return Err(Failure::Input(format!(
            "{shown}: there is no table `[control]`; add it, with `directory = \
             \"/var/lib/wireonce/{}\"`",
            file.alone().host.name
        )));
    };
    let directory = Directory::new(&control.directory);
    directory.make().map_err(|error| Failure::Input(error.to_string()))?;
    let public_key = fabric_key(&file.alone().host.private_key_file, directory.path())?;
    let config = file.alone();
    let host = Host {
        name: config.host.name.clone(),
        address: config.fabric.address,
        port: config.fabric.port,
        public_key: public_key.to_string(),
    };
    let membership = join(&token, &host, Clock::of_the_machine()).map_err(|error| match error {
        JoinError::OtherHost { .. } => Failure::Input(error.to_string()),
        _ => Failure::Runtime(error.to_string()),
    })?;
    directory.keep(&membership).map_err(|error| Failure::Runtime(error.to_string()))?;
    let verb = match token.kind {
        HostKind::Server => "backend",
        HostKind::Gateway => "gateway",
    };
    output::print(&format!(
        "{} {:?} has joined; its certificate is valid until {} and renews by itself. A daemon that \
         runs finds it; else start `wireonce {verb} --config {}`\n",
        token.kind,
        host.name,
        Moment(membership.facts.until_s),
        args.config.display()
    ))
}

fn token_text(given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(TOKEN_LEN_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::Input(format!("standard input: {error}; give the token")))?;
    Ok(text)
}

/// The fabric's key, made if there is none. It belongs to who owns the directory: the daemon.
fn fabric_key(path: &Path, directory: &Path) -> Result<PublicKey, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::Input(error.to_string());
    if !path.exists() {
        let key = StaticKey::generate().map_err(|error| failed(&error))?;
        key.write_new(path).map_err(|error| failed(&error))?;
        let owner = fs::metadata(directory).map_err(|error| failed(&error))?;
        let made = fs::metadata(path).map_err(|error| failed(&error))?;
        if made.uid() != owner.uid() {
            chown(path, Some(owner.uid()), Some(owner.gid())).map_err(|error| failed(&error))?;
        }
    }
    Ok(StaticKey::load(path).map_err(|error| failed(&error))?.public())
}
