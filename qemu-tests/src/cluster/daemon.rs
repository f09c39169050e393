//! The `wireonce` program that a cluster runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::guest::image::target_dir;
use crate::process::output;

/// Names a program to use instead of building one.
const OVERRIDE: &str = "WIREONCE_BINARY";
/// A cold release build on two cores, with others on the machine.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// How it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As the tests are: quick to build, with checks of arithmetic.
    Dev,
    /// As it is shipped.
    Release,
}

/// Where the program is; it is built first, if need be, with cargo. `WIREONCE_BINARY` names
/// another one.
///
/// # Errors
/// It does not build; the message has the compiler's.
pub fn daemon_binary(profile: Profile) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--package", "wireonce"]);
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    // Tests run in their own folder: cargo must find the workspace whatever it is.
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let built = output(&mut command, BUILD_LIMIT)?;
    if !built.status.success() {
        return Err(Error::Unexpected(format!("wireonce does not build:\n{}", built.stderr)));
    }
    Ok(target_dir().join(folder).join("wireonce"))
}
