//! The built program with a configuration that is wrong: exit status 2, exactly one
//! error on standard error, and nothing started.

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, UdpSocket},
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixListener,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command, Output},
};
use tempfile::TempDir;

/// A user that root can become to be one without rights.
const NOBODY: u32 = 65_534;
/// The arguments before the file: all that start with the host check.
const ALL: &[&[&str]] = &[&["backend", "--config"], &["gateway", "--config"], &["check", "--host"]];
const BACKEND: &[&[&str]] = &[&["backend", "--config"], &["check", "--host"]];

/// A loopback address for this process's ports.
fn address() -> Ipv4Addr {
    let [_, _, high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, 201, high, low)
}

fn wireonce(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wireonce")).args(arguments).output().unwrap()
}

/// A good file whose sockets and key are in `directory`.
fn good(directory: &Path) -> String {
    let key = directory.join("server-a.key");
    fs::write(&key, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let directory = directory.display();
    let address = address();
    format!(
        r#"[host]
name = "server-a"
private_key_file = "{directory}/server-a.key"
control_socket = "{directory}/server-a.sock"

[fabric]
address = "{address}"

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

/// Runs `verbs` with `from` replaced by `to`; each must say `message`.
fn refused(verbs: &[&[&str]], from: &str, to: &str, message: &str) {
    let directory = TempDir::new().unwrap();
    let text = good(directory.path());
    assert!(text.contains(from), "{from}");
    let file = write(directory.path(), &text.replace(from, to));
    let file = file.to_str().unwrap();
    for verb in verbs {
        let output = wireonce(&[verb, &[file][..]].concat());
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
        ALL,
        "52:54:00:00:00:01",
        "52:54:00:00:00",
        ":18: [[vnic]] \"vm-a\": key `mac`: \"52:54:00:00:00\" is not a MAC address; write six \
         hexadecimal bytes like \"52:54:00:12:34:56\"",
    );
}

#[test]
fn a_misspelt_key() {
    refused(
        ALL,
        "socket = \"",
        "soket = \"",
        ":4: [host] \"server-a\": key `control_soket`: unknown key; did you mean \
         `control_socket`?",
    );
}

#[test]
fn a_broken_reference() {
    refused(
        ALL,
        "network = \"blue\"",
        "network = \"bleu\"",
        ":17: [[vnic]] \"vm-a\": key `network`: \"bleu\" is the name of no [[network]]; did you \
         mean \"blue\"?",
    );
}

#[test]
fn broken_syntax() {
    refused(
        ALL,
        "vni = 100",
        "vni = ",
        ":11: not TOML: string values must be quoted, expected literal string; mend this line, \
         or see https://toml.io for the syntax",
    );
}

#[test]
fn a_key_file_that_is_missing() {
    refused(
        ALL,
        "/server-a.key",
        "/other.key",
        ":3: [host] \"server-a\": key `private_key_file`: DIR/other.key does not exist; run \
         `wireonce keygen DIR/other.key`",
    );
}

#[test]
fn a_key_file_that_others_can_read() {
    let directory = TempDir::new().unwrap();
    let file = write(directory.path(), &good(directory.path()));
    let key = directory.path().join("server-a.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    for verb in BACKEND {
        let output = wireonce(&[verb, &[file.to_str().unwrap()][..]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(directory.path().to_str().unwrap(), "DIR");
        assert!(said.starts_with("error: DIR/server-a.toml:3: [host] \"server-a\": key"), "{said}");
        assert!(said.contains("chmod 600 DIR/server-a.key") && said.lines().count() == 1, "{said}");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn a_socket_directory_that_is_missing() {
    refused(
        BACKEND,
        "/vm-a.sock",
        "/missing/vm-a.sock",
        ":19: [[vnic]] \"vm-a\": key `socket`: the directory DIR/missing is missing: No such file \
         or directory; run `mkdir -p DIR/missing` or give another path",
    );
}

#[test]
fn an_address_of_another_host() {
    refused(
        ALL,
        &address().to_string(),
        "192.0.2.7",
        ":7: [fabric]: key `address`: 192.0.2.7 is no address of this host; give an address that \
         `ip addr` shows",
    );
}

#[test]
fn a_port_that_is_taken() {
    let address = address();
    let taken = UdpSocket::bind((address, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let last = port + 1;
    refused(
        ALL,
        "[[network]]",
        &format!("port = {port}\n[[network]]"),
        &format!(
            ":9: [fabric]: key `port`: UDP port {port} of {address} is in use; free the ports \
             {port} to {last}, or give another `port`"
        ),
    );
}

#[test]
fn a_port_without_room_for_the_workers() {
    let message = ":9: [fabric]: key `port`: 65535 leaves no room for the 8 ports that follow it, \
                   8 for each worker; give at most 65527";
    let verbs = [ALL, &[&["check"]]].concat();
    refused(&verbs, "[[network]]", "port = 65535\n[[network]]", message);
}

#[test]
fn this_host_s_own_key_as_a_peer_s() {
    let directory = TempDir::new().unwrap();
    good(directory.path());
    let own = wireonce(&["pubkey", directory.path().join("server-a.key").to_str().unwrap()]);
    let own = String::from_utf8(own.stdout).unwrap();
    let peer = format!(
        "[[peer]]\nname = \"server-b\"\naddress = \"127.0.0.2\"\npublic_key = \"{}\"\n[[network]]",
        own.trim()
    );
    refused(
        BACKEND,
        "[[network]]",
        &peer,
        ":12: [[peer]] \"server-b\": key `public_key`: it is this host's own, of \
         DIR/server-a.key; give the key that `wireonce pubkey FILE` prints on that peer",
    );
}

#[test]
fn a_gateway_without_uplinks() {
    refused(
        &[&["gateway", "--config"]],
        "vni",
        "vni",
        ":2: [host] \"server-a\": key `name`: no uplink is on this host, so there is nothing for a \
         gateway to do; give an [[uplink]] this `host`, a `driver` and an `interface`",
    );
}

/// `wireonce` as a user without rights, which root becomes for it.
fn as_nobody(arguments: &[&str]) -> Output {
    // Where the program is built, others may not be let in.
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("wireonce");
    fs::copy(env!("CARGO_BIN_EXE_wireonce"), &program).unwrap();
    let mut command = Command::new(&program);
    // Only root can become another; anybody else has no more rights than wanted.
    if chown(place.path(), Some(NOBODY), Some(NOBODY)).is_ok() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn a_socket_directory_that_cannot_be_written() {
    let directory = TempDir::new().unwrap();
    let text = good(directory.path());
    // For the vNIC's socket; the control socket goes elsewhere.
    let open = TempDir::new().unwrap();
    for (control, place) in [
        (directory.path(), ":4: [host] \"server-a\": key `control_socket`"),
        (open.path(), ":19: [[vnic]] \"vm-a\": key `socket`"),
    ] {
        let control = format!("\"{}/server-a.sock", control.display());
        let default = format!("\"{}/server-a.sock", directory.path().display());
        let file = write(directory.path(), &text.replace(&default, &control));
        for path in [&directory.path().join("server-a.key"), directory.path(), open.path()] {
            let _ = chown(path, Some(NOBODY), Some(NOBODY));
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o555)).unwrap();
        let output = as_nobody(&["backend", "--config", file.to_str().unwrap()]);
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let said = said.replace(directory.path().to_str().unwrap(), "DIR");
        assert_eq!(
            said,
            format!(
                "error: DIR/server-a.toml{place}: no socket can be made in the directory DIR: \
                 Permission denied; let this user write there or give another path\n"
            )
        );
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn who_may_ask_for_the_status_is_said() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = directory.path().join("a.sock");
    let _daemon = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    let output = as_nobody(&["status", "--socket", socket.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("root, the daemon's user and the group of its socket may ask"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_no_socket_cannot_be_asked() {
    for path in ["/", "/dev/null"] {
        let output = wireonce(&["status", "--socket", path]);
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!("error: {path}: not a socket; name the daemon's control socket\n")
        );
        assert_eq!(output.status.code(), Some(2));
    }
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
