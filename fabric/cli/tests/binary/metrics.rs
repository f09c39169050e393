//! Live scrapes. What dashboard and alert rules expect of them is tested with a whole cluster, in
//! `bench/tests/metrics.rs`.

use crate::control::Control;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(20);
const METRICS: &str = "127.0.0.1:15964";

/// Ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A backend with a vNIC and a peer that nobody answers for.
fn start(directory: &Path, metrics: &str, port: u16) -> Daemon {
    fs::write(directory.join("a.key"), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
    fs::set_permissions(directory.join("a.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let shown = directory.display();
    let text = format!(
        "[host]\nname = \"a\"\nprivate_key_file = \"{shown}/a.key\"\n\
         control_socket = \"{shown}/a.sock\"\nmetrics_address = \"{metrics}\"\n\
         [fabric]\naddress = \"127.0.0.1\"\nport = {port}\n\
         [[peer]]\nname = \"b\"\naddress = \"127.0.0.2\"\n\
         public_key = \"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\"\n\
         [[network]]\nname = \"blue\"\nvni = 1\n\
         [[vnic]]\nid = 1\nname = \"vm-a\"\nhost = \"a\"\nnetwork = \"blue\"\n\
         mac = \"52:54:00:00:00:01\"\nsocket = \"{shown}/vm-a.sock\"\n"
    );
    let file = directory.join("a.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wireonce"));
    command.args(["backend", "--config"]).arg(&file).stderr(Stdio::piped());
    Daemon(command.spawn().unwrap())
}

fn scrape(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

#[test]
fn a_running_daemon_can_be_scraped() {
    let directory = tempfile::tempdir().unwrap();
    let _daemon = start(directory.path(), METRICS, 15_990);
    let deadline = Instant::now() + LIMIT;
    let page = loop {
        match scrape(METRICS) {
            Some(page) => break page,
            None => assert!(Instant::now() < deadline, "no metrics"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    for line in [
        "wireonce_vnic_state{vnic=\"vm-a\",network=\"blue\",state=\"down\"} 1.0",
        "wireonce_in_frames_total{port=\"vm-a\",stage=\"guest-tx\"} 0",
        "wireonce_link_up{peer=\"b\"} 0.0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\nis not in\n{page}");
    }
}

#[test]
fn a_controller_can_be_scraped_too() {
    let metrics = "127.0.0.1:15965";
    let control = Control::with(&format!("metrics_address = \"{metrics}\"\n"));
    control.furnish();
    control.said(&[
        "grant",
        "set",
        "east/server-a",
        "up.reservation=1200Mbit",
        "--as",
        "virtualisation",
    ]);
    let page = scrape(metrics).unwrap();
    for line in [
        "wireonce_control_revision 2.0",
        "wireonce_control_requests_open 1.0",
        "wireonce_control_objects{kind=\"vnic\"} 3.0",
        "wireonce_control_host_heard{host=\"server-a\",kind=\"server\"} 0.0",
        "wireonce_control_host_text_refused{host=\"gateway-b\",kind=\"gateway\"} 0.0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\nis not in\n{page}");
    }
    let lines = control.said(&["audit", "--limit", "10000"]).lines().count() - 1;
    assert!(page.contains(&format!("wireonce_control_audit_lines_total {lines}\n")), "{page}");
}

#[test]
fn an_address_that_is_taken_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut daemon = start(directory.path(), &address, 16_090);
    let mut said = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(daemon.0.wait().unwrap().code(), Some(1));
    assert!(said.contains(&format!("metrics at {address}")), "{said}");
    assert!(said.contains("metrics_address"), "{said}");
    assert!(!directory.path().join("a.sock").exists(), "the control socket is left behind");
}
