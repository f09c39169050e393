//! The `wireonce` program that a cluster runs, and as whom.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cargo;
use crate::error::{Context, Error, Result};
use crate::guest::image::target_dir;
use crate::netns::Netns;
use crate::process::output_of_many;

/// The user and group id of daemons without privileges.
pub const NOBODY: u32 = 65_534;
/// Names a program to use instead of building one.
const OVERRIDE: &str = "WIREONCE_BINARY";
/// A cold release build on two cores, with others on the machine.
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

/// How it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As the tests are: quick to build, with checks of arithmetic.
    Dev,
    /// Nearly as fast as it is shipped, and built in half of the time.
    Demo,
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
    let mut command = cargo::command();
    command.args(["build", "--package", "wireonce"]);
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Demo => {
            command.args(["--profile", "demo"]);
            "demo"
        }
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    // Tests run in their own folder: cargo must find the workspace whatever it is.
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    let built = output_of_many(&mut command, BUILD_LIMIT)?;
    if !built.status.success() {
        return Err(Error::Unexpected(format!("wireonce does not build:\n{}", built.stderr)));
    }
    Ok(target_dir().join(folder).join("wireonce"))
}

/// Runs `program` in `netns` as [`NOBODY`] with these capabilities and no others: not inherited, not
/// to be had back by any program that it starts. The process stays one: setpriv becomes the program.
pub(super) fn unprivileged_command(
    netns: &Netns,
    program: &Path,
    capabilities: &[&str],
) -> Command {
    let mut set = "-all".to_owned();
    for name in capabilities {
        set += &format!(",+{name}");
    }
    let mut command = netns.command("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string()]);
    command.args(["--clear-groups", "--no-new-privs"]);
    for kind in ["inh-caps", "ambient-caps", "bounding-set"] {
        command.arg(format!("--{kind}={set}"));
    }
    command.arg(program);
    command
}

/// Gives a file or folder to [`NOBODY`].
pub(super) fn hand_over(path: &Path) -> Result<()> {
    chown(path, Some(NOBODY), Some(NOBODY)).context(|| format!("chown {}", path.display()))
}

/// A copy of the program in a folder that [`NOBODY`] can read, wherever it was built.
pub(super) fn copy_of(binary: &Path, dir: &Path) -> Result<PathBuf> {
    let copy = dir.join("wireonce");
    fs::copy(binary, &copy).context(|| format!("cannot copy {}", binary.display()))?;
    Ok(copy)
}
