//! SIGHUP at a daemon: what is new in the file is served, what is wrong with it is said.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram, net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(20);

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

/// A backend's file with these vNICs.
fn write_file(directory: &Path, port: u16, vnics: &[u32]) {
    let shown = directory.display();
    let mut text = format!(
        "[host]\nname = \"a\"\nprivate_key_file = \"{shown}/a.key\"\n\
         control_socket = \"{shown}/a.sock\"\n\n\
         [fabric]\naddress = \"127.0.0.1\"\nport = {port}\n\
         [[network]]\nname = \"blue\"\nvni = 1\n"
    );
    for id in vnics {
        text += &format!(
            "[[vnic]]\nid = {id}\nname = \"v{id}\"\nhost = \"a\"\nnetwork = \"blue\"\n\
             mac = \"52:54:00:00:00:0{id}\"\nsocket = \"{shown}/v{id}.sock\"\n"
        );
    }
    fs::write(directory.join("a.toml"), text).unwrap();
}

fn write_key(directory: &Path, text: &str) {
    let key = directory.join("a.key");
    fs::write(&key, text).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Starts a backend that tells `manager` how it is.
fn start(directory: &Path, manager: &Path) -> Daemon {
    let log = fs::File::create(directory.join("log")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_wireonce"))
        .args(["backend", "--config"])
        .arg(directory.join("a.toml"))
        .env("NOTIFY_SOCKET", manager)
        .stderr(Stdio::from(log))
        .spawn();
    Daemon(child.unwrap())
}

/// What the service manager is told next.
fn told(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let len = manager.recv(&mut message).expect("the daemon says how it is");
    String::from_utf8_lossy(&message[..len]).into_owned()
}

fn status(directory: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_wireonce"))
        .args(["status", "--json", "--socket"])
        .arg(directory.join("a.sock"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks for the file to be read again and waits until the manager hears that it was.
fn reload(daemon: &Daemon, manager: &UnixDatagram) {
    daemon.signal("-HUP");
    let began = told(manager);
    assert!(began.contains("RELOADING=1") && began.contains("MONOTONIC_USEC="), "{began}");
    let done = told(manager);
    assert!(done.contains("READY=1") && done.contains("STATUS=backend a is serving"), "{done}");
}

#[test]
fn a_hang_up_serves_what_is_new_and_a_bad_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let manager_path = dir.join("notify");
    let manager = UnixDatagram::bind(&manager_path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    write_key(dir, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n");
    write_file(dir, 15_990, &[1, 2]);
    let mut daemon = start(dir, &manager_path);
    assert!(told(&manager).contains("READY=1"));
    // A VMM that stays.
    let vmm = UnixStream::connect(dir.join("v1.sock")).unwrap();
    let names = |status: &serde_json::Value| -> Vec<String> {
        let mut names: Vec<_> = status["vnics"].as_array().unwrap().iter().collect();
        names.sort_by_key(|vnic| vnic["id"].as_u64());
        names.iter().map(|vnic| vnic["name"].as_str().unwrap().to_owned()).collect()
    };
    let connected = |status: &serde_json::Value| {
        let vnics = status["vnics"].as_array().unwrap();
        vnics.iter().any(|vnic| vnic["name"] == "v1" && vnic["state"] == "connected")
    };
    let deadline = Instant::now() + LIMIT;
    while !connected(&status(dir)) {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }

    write_file(dir, 15_990, &[1, 3]);
    reload(&daemon, &manager);
    let second = status(dir);
    assert_eq!(names(&second), ["v1", "v3"]);
    assert!(connected(&second), "the VMM of v1 has noticed nothing: {second}");
    assert!(dir.join("v3.sock").exists() && !dir.join("v2.sock").exists());
    let configuration = &second["configuration"];
    assert_eq!(configuration["number"], 2);
    assert_eq!(configuration["changed"], serde_json::json!(["+ vnic \"v3\"", "- vnic \"v2\""]));

    // Another vNIC at the socket of one that goes.
    let text = fs::read_to_string(dir.join("a.toml")).unwrap();
    let text = text.replace("id = 3", "id = 5").replace("name = \"v3\"", "name = \"v5\"");
    fs::write(dir.join("a.toml"), text).unwrap();
    reload(&daemon, &manager);
    let third = status(dir);
    assert_eq!(names(&third), ["v1", "v5"]);
    assert_eq!(third["configuration"]["troubles"], serde_json::json!([]));
    UnixStream::connect(dir.join("v3.sock")).unwrap();
    write_file(dir, 15_990, &[1, 3]);
    reload(&daemon, &manager);

    // Each of these is refused, and nothing is different.
    for (what, spoil) in [
        ("not TOML", &(|| fs::write(dir.join("a.toml"), "[[[").unwrap()) as &dyn Fn()),
        ("key `port`: cannot change from 15990 to 15991", &|| write_file(dir, 15_991, &[1])),
        ("v4.sock exists and is not a socket", &|| {
            fs::write(dir.join("v4.sock"), "").unwrap();
            write_file(dir, 15_990, &[1, 4]);
        }),
        ("it has another key", &|| {
            write_key(dir, "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n");
            write_file(dir, 15_990, &[1]);
        }),
    ] {
        spoil();
        reload(&daemon, &manager);
        let now = status(dir);
        let reason = now["configuration"]["refused"].as_str().unwrap_or_default();
        assert!(reason.contains(what), "{reason}");
        assert_eq!((names(&now), connected(&now)), (names(&second), true));
        assert_eq!(now["configuration"]["number"], 4);
        let log = fs::read_to_string(dir.join("log")).unwrap();
        assert_eq!(log.lines().filter(|line| line.contains(what)).count(), 1, "one line: {log}");
    }

    write_key(dir, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n");
    write_file(dir, 15_990, &[1, 3]);
    reload(&daemon, &manager);
    assert_eq!(status(dir)["configuration"]["refused"], serde_json::Value::Null);
    drop(vmm);
    daemon.signal("-TERM");
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
}
