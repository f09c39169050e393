//! The configuration file: schema, validation, errors that name file, line and key.
//!
//! ```text
//! text ──DeTable──> tables with places ──schema──> names ──resolve──> Config
//!        (syntax)                        (types,          (duplicates,
//!                                         ranges, keys)    references, rules)
//! ```
//! Each step stops at the first thing that is wrong with one [`ConfigError`]: the
//! operator reads one line, mends it and asks again. `docs/configuration.md` has
//! every key.
//!
//! [`Config::change_from`] compares it with the one that a daemon runs.
//! [`Config::check_host`] is apart from this: it looks at the machine, not at the
//! text, so that a file can be checked anywhere.
#![forbid(unsafe_code)]

mod bandwidth;
mod change;
mod check_host;
mod error;
mod host_file;
mod lines;
mod model;
mod nearest;
mod reader;
mod resolve;
pub mod schema;
mod split;
mod unique;
mod values;
mod vnics;

#[cfg(test)]
mod tests;

pub use bandwidth::Direction;
pub use change::{Change, Changed, Parts};
pub use check_host::Serves;
pub use error::ConfigError;
pub use host_file::HostFile;
pub use lines::Lines;
pub use model::{
    Allow, Config, Control, Driver, Encryption, Fabric, FabricMtu, FabricPort, Failover, Grant,
    Holder, Host, Network, NextHop, Outside, Peer, Policy, Port, SocketMode, Uplink, UplinkPlace,
    VhostSocket, Vnic, VnicPlace,
};
pub use nearest::nearest;
pub use split::GrantSplit;

use error::Fault;
use reader::File;
use std::{io::Read, path::Path};
use toml::de::DeTable;

impl Config {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    /// The one thing that is wrong first: with the file, its syntax or its meaning.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let text = read_text(path).map_err(|fault| File::new(&origin, "").whole(fault))?;
        Self::parse(&text, &origin)
    }

    /// Validates `text`; `origin` is what errors call the file.
    ///
    /// # Errors
    /// The one thing that is wrong first: with the syntax or the meaning.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        Self::parse_file(&File::new(origin, text), text, origin)
    }

    fn parse_file(file: &File, text: &str, origin: &str) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| file.line(span.start));
            // Some of the parser's messages have several lines.
            let message = error.message().replace(char::is_control, " ");
            let remedy = match message.as_str() {
                "duplicate key" => "write each key and each `[table]` once",
                _ => "mend this line, or see https://toml.io for the syntax",
            };
            file.error(line, "", None, Fault::new(format!("not TOML: {message}"), remedy))
        })?;
        let raw = schema::read(file, document.get_ref())?;
        resolve::resolve(file, origin, raw)
    }
}

/// The text of the file, if there is one and it is of a sane size.
fn read_text(path: &Path) -> Result<String, Fault> {
    let unreadable = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "give the path of a file that exists",
            std::io::ErrorKind::PermissionDenied => "let this user read the file",
            _ => "give the path of a readable text file",
        };
        Fault::new(format!("cannot be read: {}", check_host::text(&error)), remedy)
    };
    let limit = schema::FILE_LEN_MAX;
    let mut bytes = Vec::new();
    let handle = std::fs::File::open(path).map_err(unreadable)?;
    // One byte more than allowed tells a full file from a longer one.
    handle.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit {
        let problem = format!("is larger than {} MiB", limit >> 20);
        return Err(Fault::new(problem, "give a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Fault::new(format!("byte {at} is not UTF-8 text"), "save the file as UTF-8")
    })
}
