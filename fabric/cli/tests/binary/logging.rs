//! What becomes of log lines that nobody takes.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A backend without vNICs on a port of its own, its control socket in `directory`.
fn start(directory: &Path, port: u16, stderr: Stdio) -> Child {
    let key = directory.join("a.key");
    fs::write(&key, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let file = directory.join("a.toml");
    let shown = directory.display();
    let text = format!(
        "[host]\nname = \"a\"\nprivate_key_file = \"{shown}/a.key\"\n\
         control_socket = \"{shown}/a.sock\"\n\n\
         [fabric]\naddress = \"127.0.0.1\"\nport = {port}\n"
    );
    fs::write(&file, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_wireonce"))
        .args(["backend", "--config"])
        .arg(&file)
        .env("WIREONCE_LOG", "debug")
        .stderr(stderr)
        .spawn()
        .unwrap()
}

/// The daemon starts, answers, and ends as it should when it is told to.
fn works_and_ends(directory: &Path, mut daemon: Child) {
    let socket = directory.join("a.sock");
    let deadline = Instant::now() + LIMIT;
    let there = |path: &Path| fs::metadata(path).is_ok_and(|m| m.file_type().is_socket());
    while !there(&socket) {
        assert_eq!(daemon.try_wait().unwrap(), None, "it ended");
        assert!(Instant::now() < deadline, "no control socket");
        thread::sleep(Duration::from_millis(10));
    }
    let mut ask = Command::new(env!("CARGO_BIN_EXE_wireonce"));
    ask.args(["status", "--json", "--socket"]).arg(&socket);
    // The socket is there a little before the daemon is.
    loop {
        let status = ask.output().unwrap();
        if status.status.success() {
            break;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        thread::sleep(Duration::from_millis(10));
    }
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(!there(&socket), "the control socket is left behind");
}

#[test]
fn a_full_disk_costs_the_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let daemon = start(directory.path(), 15_790, full.into());
    works_and_ends(directory.path(), daemon);
}

#[test]
fn a_reader_that_went_away_costs_the_lines_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(directory.path(), 15_890, Stdio::piped());
    drop(daemon.stderr.take());
    works_and_ends(directory.path(), daemon);
}
