//! The units in `docs/systemd` are what systemd understands. They are not run: the tests have no
//! systemd of their own to start them by.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use wireonce_qemu_tests::process::output;
use wireonce_qemu_tests::watchdog::TempDir;
use wireonce_qemu_tests::{Error, Result};

const PROGRAM: &str = "/usr/bin/wireonce";
const LIMIT: Duration = Duration::from_secs(30);

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/systemd").join(name);
    fs::read_to_string(path).unwrap_or_default()
}

/// What systemd has to say against a unit. It does not look at the program, which need not be
/// installed where the tests run.
fn complaints(name: &str, text: &str) -> Result<String> {
    let dir = TempDir::new("unit")?;
    let path = dir.path().join(name);
    let io = |source| Error::Io { what: path.display().to_string(), source };
    fs::write(&path, text.replace(PROGRAM, "/bin/true")).map_err(io)?;
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).arg(&path);
    let said = output(&mut command, LIMIT)?;
    let status = if said.status.success() { "" } else { "refused" };
    Ok([status, &said.stdout, &said.stderr].concat())
}

#[test]
fn systemd_has_nothing_against_the_units() {
    for name in ["wireonce-backend.service", "wireonce-control.service", "wireonce-gateway.service"]
    {
        let text = unit(name);
        assert!(text.contains(&format!("ExecStart={PROGRAM} ")), "{name}");
        assert_eq!(complaints(name, &text).unwrap(), "", "{name}");
    }
}

#[test]
fn a_misspelt_setting_is_noticed() {
    let text = unit("wireonce-backend.service").replace("RestrictRealtime=", "RestrictRealtim=");
    let said = complaints("wireonce-backend.service", &text).unwrap();
    assert!(said.contains("RestrictRealtim"), "{said}");
}
