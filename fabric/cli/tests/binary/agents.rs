//! Real daemons and a real controller over TLS: joining, texts, silence, revocation.

use serde_json::Value;
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// For a machine that is very busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A process that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wireonce(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wireonce")).args(args).output().unwrap()
}

/// A house with one controller and some hosts, all on this machine.
struct Place {
    directory: TempDir,
    control: Option<Process>,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = Self { directory, control: None };
        fs::create_dir(place.path("sockets")).unwrap();
        let text = format!(
            "[control]\nstore = {:?}\nsocket = {:?}\nhttps = \"127.0.0.1:{port}\"\n",
            place.path("store"),
            place.path("socket"),
        );
        fs::write(place.path("control.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn daemon(&self, verb: &str, name: &str) -> Process {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_wireonce"));
        command.arg(verb).arg("--config").arg(self.path(&format!("{name}.toml")));
        Process(command.stderr(Stdio::from(log.unwrap())).spawn().unwrap())
    }

    fn start_control(&mut self) {
        self.control = Some(self.daemon("control", "control"));
        self.until("the controller answers", || self.ask(&["export"]).status.success());
    }

    fn ask(&self, args: &[&str]) -> Output {
        wireonce(&[args, &["--socket", &self.text("socket")]].concat())
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.ask(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn write_host(&self, name: &str, port: u16) {
        let text = format!(
            "[host]\nname = {name:?}\nprivate_key_file = {:?}\ncontrol_socket = {:?}\n\
             [fabric]\naddress = \"{}\"\nport = {port}\n\
             [control]\ndirectory = {:?}\n",
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.sock")),
            own_address(),
            self.path(&format!("{name}.d")),
        );
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    fn token(&self, kind: &str, name: &str) -> String {
        let json = self.said(&["token", "make", kind, name, "--json"]);
        let made: Value = serde_json::from_str(&json).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }

    fn join(&self, name: &str, token: &str) -> Output {
        wireonce(&["join", "--config", &self.text(&format!("{name}.toml")), token])
    }

    fn joined(&self, kind: &str, name: &str) {
        let output = self.join(name, &self.token(kind, name));
        assert!(output.status.success(), "{output:?}");
    }

    fn status(&self, name: &str) -> Option<Value> {
        let output =
            wireonce(&["status", "--json", "--socket", &self.text(&format!("{name}.sock"))]);
        serde_json::from_slice(&output.stdout).ok()
    }

    fn controller(&self, name: &str) -> Value {
        self.status(name).map_or(Value::Null, |s| s["configuration"]["controller"].clone())
    }

    fn vnics(&self, name: &str) -> Vec<String> {
        let status = self.status(name).unwrap_or_default();
        let vnics = status["vnics"].as_array().cloned().unwrap_or_default();
        vnics.iter().map(|vnic| vnic["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Gives server-a these vNICs.
    fn furnish(&self, vnics: &[u32]) {
        let mut text = "[[network]]\nname = \"blue\"\nvni = 1\n".to_owned();
        for id in vnics {
            text += &format!(
                "[[vnic]]\nid = {id}\nname = \"v{id}\"\nhost = \"server-a\"\nnetwork = \"blue\"\n\
                 mac = \"52:54:00:00:00:0{id}\"\nsocket = {:?}\n",
                self.path("sockets").join(format!("v{id}.sock"))
            );
        }
        fs::write(self.path("house.toml"), text).unwrap();
        self.said(&["apply", "-f", &self.text("house.toml")]);
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so() {
            if Instant::now() >= deadline {
                for log in ["server-a.log", "gateway-b.log", "control.log"] {
                    eprintln!("{log}:\n{}", fs::read_to_string(self.path(log)).unwrap_or_default());
                }
                panic!("{what} does not come to be");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An address of this machine that no other process of this test has.
fn own_address() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + (high >> 6), high & 63, low.clamp(1, 254))
}

fn error(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn hosts_join_by_one_command_take_their_texts_and_need_nobody_to_go_on() {
    let mut place = Place::new();
    place.start_control();
    assert_eq!(mode(&place.path("store")), 0o600);
    place.write_host("server-a", 14_790);
    place.write_host("gateway-b", 14_890);

    // Before it has joined, a daemon says how to.
    let file = place.text("server-a.toml");
    let output = wireonce(&["backend", "--config", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("wireonce join"), "{output:?}");
    assert!(String::from_utf8_lossy(&wireonce(&["check", &file]).stdout).contains("not joined"));

    // One command each; a token works once, and for its host.
    let token = place.token("--server", "server-a");
    let other = place.join("gateway-b", &token);
    assert_eq!(other.status.code(), Some(2));
    assert!(error(&other).contains("is for server \"server-a\""));
    let output = place.join("server-a", &token);
    assert!(output.status.success(), "{output:?}");
    let again = place.join("server-a", &token);
    assert_eq!(again.status.code(), Some(1));
    assert!(error(&again).contains("works once"), "{again:?}");
    place.joined("--gateway", "gateway-b");
    for name in ["server-a.d", "gateway-b.d"] {
        assert_eq!(mode(&place.path(name)), 0o700);
        assert_eq!(mode(&place.path(name).join("key.pem")), 0o600);
    }
    let export = place.said(&["export"]);
    assert!(export.contains("name = \"server-a\"") && export.contains("name = \"gateway-b\""));
    let list = place.said(&["host", "list"]);
    assert!(list.contains("server-a") && !list.contains("- \n"), "{list}");

    // Daemons start with nothing, take what comes, and report.
    let backend = place.daemon("backend", "server-a");
    let gateway = place.daemon("gateway", "gateway-b");
    for name in ["server-a", "gateway-b"] {
        place.until("a text is taken", || place.controller(name)["tag"].is_string());
    }
    place.furnish(&[1]);
    place.until("v1 is served", || place.vnics("server-a") == ["v1"]);
    assert!(place.path("sockets/v1.sock").exists());
    let report = || {
        let output = place.ask(&["host", "list", "--json"]);
        output.status.success() && {
            let client = wireonce_control::client::Client::unix(&place.path("socket"), None);
            let got: Result<Value, _> = client.get("/v1/hosts/server-a/report");
            got.is_ok_and(|it| it["report"]["status"]["vnics"][0]["name"] == "v1")
        }
    };
    place.until("a report with v1 has come", report);

    // The controller is killed: nothing happens. It comes back: changes arrive.
    drop(place.control.take());
    place.until("it is noticed", || place.controller("server-a")["silent_since_s"].is_u64());
    assert_eq!(place.vnics("server-a"), ["v1"]);
    place.start_control();
    place.furnish(&[1, 2]);
    place.until("v2 is served", || place.vnics("server-a").len() == 2);
    place.until("it is said", || place.controller("server-a")["silent_since_s"].is_null());

    // A revoked host is refused at its next request, and its daemon goes on.
    place.said(&["host", "revoke", "server-a", "--reason", "stolen"]);
    place.furnish(&[1, 2, 3]);
    let is_refused = || {
        let error = place.controller("server-a")["error"].clone();
        error.as_str().is_some_and(|error| error.contains("was revoked at"))
    };
    place.until("it is told so", is_refused);
    assert_eq!(place.vnics("server-a").len(), 2);
    let trail = place.said(&["audit"]);
    assert!(trail.contains("revoked") && trail.contains("stolen"), "{trail}");

    // Without a controller it starts with what it took last.
    drop(place.control.take());
    drop(backend);
    // What it needs may come after it, as interfaces do at boot.
    fs::rename(place.path("sockets"), place.path("not yet")).unwrap();
    let backend = place.daemon("backend", "server-a");
    let refused =
        || place.status("server-a").is_some_and(|s| s["configuration"]["refused"].is_string());
    place.until("it cannot serve its text", refused);
    assert!(place.vnics("server-a").is_empty());
    fs::rename(place.path("not yet"), place.path("sockets")).unwrap();
    place.until("v1 and v2 are served", || place.vnics("server-a").len() == 2);
    let checked = wireonce(&["check", &file]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.contains("2 vNICs (2 here)") && checked.contains("controller's text"));

    // It joins again while it runs, and is where the others are.
    place.start_control();
    place.joined("--server", "server-a");
    place.until("v3 is served", || place.vnics("server-a").len() == 3);

    // Its file's own tables change by SIGHUP, with the newest text below.
    place.said(&["vnic", "rm", "v3"]);
    place.until("v3 is gone", || place.vnics("server-a").len() == 2);
    let answered = || {
        let controller = place.controller("gateway-b");
        controller.is_object() && controller["silent_since_s"].is_null()
    };
    place.until("the gateway has its controller again", answered);
    drop((backend, gateway));
}

#[test]
fn people_ask_over_the_network_with_a_certificate_of_their_role() {
    let mut place = Place::new();
    place.start_control();
    let nina = place.text("nina");
    place.said(&["user", "make", "nina", "--role", "viewer", "--out", &nina]);
    assert_eq!(mode(&place.path("nina")), 0o700);
    let seen = wireonce(&["vnic", "list", "--identity", &nina]);
    assert!(seen.status.success(), "{seen:?}");
    fs::write(place.path("x.toml"), "[[network]]\nname = \"n\"\nvni = 1\n").unwrap();
    let refused = wireonce(&["apply", "-f", &place.text("x.toml"), "--identity", &nina]);
    assert!(error(&refused).contains("the role `viewer` may not change networks"), "{refused:?}");
    place.said(&["user", "make", "nina", "--role", "network", "--out", &nina]);
    let done = wireonce(&["apply", "-f", &place.text("x.toml"), "--identity", &nina]);
    assert!(done.status.success(), "{done:?}");
    assert!(place.said(&["audit"]).contains("nina (network)"));
    place.said(&["user", "revoke", "nina"]);
    let refused = wireonce(&["vnic", "list", "--identity", &nina]);
    assert!(error(&refused).contains("was revoked"), "{refused:?}");
}
