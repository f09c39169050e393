//! The built program with a configuration that is wrong: exit status 2, exactly one
//! error on standard error, and nothing started.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

fn wireonce(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wireonce")).args(arguments).output().unwrap()
}

/// A good file whose sockets and key are in `directory`.
fn good(directory: &Path) -> String {
    let key = directory.join("server-a.key");
    fs::write(&key, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let directory = directory.display();
    format!(
        r#"[host]
name = "server-a"
private_key_file = "{directory}/server-a.key"
control_socket = "{directory}/server-a.sock"

[fabric]
address = "127.0.0.1"

[[network]]
name = "blue"
vni = 100

[[vnic]]
id = 1
name = "vm-a"
host = "server-a"
network = "blue"
mac = "52:54:00:00:00:01"
socket = "{directory}/vm-a.sock"
"#
    )
}

fn write(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("server-a.toml");
    fs::write(&path, text).unwrap();
    path
}

/// Runs both daemons and `check` with `from` replaced by `to`; each must say `message`.
fn refused(from: &str, to: &str, message: &str) {
    let directory = TempDir::new().unwrap();
    let text = good(directory.path());
    assert!(text.contains(from), "{from}");
    let file = write(directory.path(), &text.replace(from, to));
    let file = file.to_str().unwrap();
    for arguments in [
        &["backend", "--config", file][..],
        &["gateway", "--config", file],
        &["check", "--host", file],
    ] {
        let output = wireonce(arguments);
        let shown = directory.path().to_str().unwrap();
        let said = String::from_utf8(output.stderr).unwrap().replace(shown, "DIR");
        assert_eq!(said, format!("error: DIR/server-a.toml{message}\n"));
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["server-a.key", "server-a.toml"], "something was started");
    }
}

#[test]
fn a_bad_value() {
    refused(
        "52:54:00:00:00:01",
        "52:54:00:00:00",
        ":18: [[vnic]] \"vm-a\": key `mac`: \"52:54:00:00:00\" is not a MAC address; write six \
         hexadecimal bytes like \"52:54:00:12:34:56\"",
    );
}

#[test]
fn a_misspelt_key() {
    refused(
        "socket = \"",
        "soket = \"",
        ":4: [host] \"server-a\": key `control_soket`: unknown key; did you mean \
         `control_socket`?",
    );
}

#[test]
fn a_broken_reference() {
    refused(
        "network = \"blue\"",
        "network = \"bleu\"",
        ":17: [[vnic]] \"vm-a\": key `network`: \"bleu\" is the name of no [[network]]; did you \
         mean \"blue\"?",
    );
}

#[test]
fn broken_syntax() {
    refused(
        "vni = 100",
        "vni = ",
        ":11: not TOML: string values must be quoted, expected literal string; mend this line, \
         or see https://toml.io for the syntax",
    );
}

#[test]
fn a_key_file_that_is_missing() {
    refused(
        "/server-a.key",
        "/other.key",
        ": [host] \"server-a\": key `private_key_file`: DIR/other.key does not exist; run \
         `wireonce keygen DIR/other.key`",
    );
}

#[test]
fn a_key_file_that_others_can_read() {
    let directory = TempDir::new().unwrap();
    let file = write(directory.path(), &good(directory.path()));
    let key = directory.path().join("server-a.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    for verb in ["backend", "gateway"] {
        let output = wireonce(&[verb, "--config", file.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(directory.path().to_str().unwrap(), "DIR");
        assert!(said.starts_with("error: DIR/server-a.toml: [host] \"server-a\": key"), "{said}");
        assert!(said.contains("chmod 600 DIR/server-a.key") && said.lines().count() == 1, "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn a_socket_directory_that_is_missing() {
    refused(
        "/vm-a.sock",
        "/missing/vm-a.sock",
        ": [[vnic]] \"vm-a\": key `socket`: the directory DIR/missing is missing: No such file \
         or directory; run `mkdir -p DIR/missing` or give another path",
    );
}

#[test]
fn a_file_that_is_missing() {
    for verb in ["backend", "gateway"] {
        let output = wireonce(&[verb, "--config", "/nonexistent/a.toml"]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "error: /nonexistent/a.toml: cannot be read: No such file or directory; give the path \
             of a file that exists\n"
        );
    }
}

#[test]
fn a_bad_command_line() {
    for arguments in [&["backend"][..], &["frontend"], &["status", "--colour"], &[]] {
        assert_eq!(wireonce(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_good_file_is_summed_up() {
    let directory = TempDir::new().unwrap();
    let file = write(directory.path(), &good(directory.path()));
    let output = wireonce(&["check", "--host", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "ok: host \"server-a\": 0 peers, 1 network, 1 vNIC (1 here), 0 uplinks (0 here)\n"
    );
}

#[test]
fn a_daemon_that_is_not_there_cannot_be_asked() {
    let output = wireonce(&["status", "--socket", "/nonexistent/a.sock"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: /nonexistent/a.sock: No such file or directory (os error 2); is the daemon \
         running?\n"
    );
}

#[test]
fn doctor_reports_each_probe_on_a_line_of_json() {
    let output = wireonce(&["doctor", "--json", "--interface", "lo"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for check in ["kernel", "io_uring", "UDP_SEGMENT", "UDP_GRO", "tap", "lo mtu"] {
        assert!(text.contains(&format!("{{\"check\":\"{check}\",\"level\":")), "{check}: {text}");
    }
    let failed = text.contains("\"level\":\"fail\"");
    assert_eq!(output.status.code(), Some(i32::from(failed)));
}
