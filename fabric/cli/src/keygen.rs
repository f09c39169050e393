//! `wireonce keygen` and `wireonce pubkey`: a host's key pair.

use crate::{failure::Failure, output};
use clap::Parser;
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};
use wireonce_link::{KeyError, StaticKey};

/// The command line of `keygen`.
#[derive(Debug, Parser)]
pub(crate) struct KeygenArgs {
    /// Where the private key goes: a new file, with mode 0600
    file: PathBuf,
}

/// The command line of `pubkey`.
#[derive(Debug, Parser)]
pub(crate) struct PubkeyArgs {
    /// The private key's file
    file: PathBuf,
}

/// Writes a new private key and prints its public key. The private key is never
/// shown, so there is no way to leave the file out.
pub(crate) fn keygen(args: &KeygenArgs) -> Result<(), Failure> {
    let key = StaticKey::generate().map_err(|error| Failure::Runtime(error.to_string()))?;
    key.write_new(&args.file).map_err(|error| match &error {
        KeyError::File { path, source } if source.kind() == ErrorKind::AlreadyExists => {
            Failure::Input(format!(
                "key file {0}: exists already, and existing keys are not overwritten; give \
                 another path, or run `wireonce pubkey {0}`",
                path.display()
            ))
        }
        _ => refused(error),
    })?;
    output::print(&format!("{}\n", key.public()))
}

/// Prints the public key of the private key in a file.
pub(crate) fn pubkey(args: &PubkeyArgs) -> Result<(), Failure> {
    check_regular(&args.file)?;
    let key = StaticKey::load(&args.file).map_err(refused)?;
    output::print(&format!("{}\n", key.public()))
}

/// Nothing but a regular file holds a key. Looked at before it is opened: opening a
/// FIFO would wait for a writer, and a directory's mode is not what is wrong with it.
fn check_regular(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(Failure::Input(format!(
            "key file {}: not a regular file; name the file that `wireonce keygen FILE` made",
            path.display()
        ))),
        // What else is wrong, opening it will tell.
        _ => Ok(()),
    }
}

/// The file is what is wrong.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` wants")]
fn refused(error: KeyError) -> Failure {
    Failure::Input(error.to_string())
}
