//! A controller as a process, and the verbs that ask it.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const HOUSE: &str = include_str!("../../../../docs/examples/control/house.toml");

/// A controller that is ended with the test.
pub(crate) struct Control {
    directory: TempDir,
    process: Option<Child>,
}

impl Control {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// One with more lines in its `[control]` table.
    pub(crate) fn with(lines: &str) -> Self {
        let mut control = Self { directory: tempfile::tempdir().unwrap(), process: None };
        let text = format!(
            "[control]\nstore = {:?}\nsocket = {:?}\n{lines}[[role]]\nname = \"viewer\"\nusers = \
             [1]\n",
            control.path("store"),
            control.path("socket"),
        );
        fs::write(control.path("control.toml"), text).unwrap();
        fs::write(control.path("house.toml"), HOUSE).unwrap();
        control.run_daemon();
        control
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn run_daemon(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wireonce"));
        command.arg("control").arg("--config").arg(self.path("control.toml"));
        self.process = Some(command.stderr(Stdio::null()).spawn().unwrap());
        // It answers when it is ready; a minute is for a machine that is very busy.
        for _ in 0..6_000 {
            if self.ask(&["export"]).status.success() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the controller does not answer");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wireonce"));
        command.args(args).arg("--socket").arg(self.path("socket")).output().unwrap()
    }

    /// What a verb prints, if it succeeds.
    pub(crate) fn said(&self, args: &[&str]) -> String {
        let output = self.ask(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a verb's refusal.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let output = self.ask(args);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    pub(crate) fn furnish(&self) {
        let house = self.path("house.toml");
        self.said(&["apply", "-f", house.to_str().unwrap()]);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn bandwidth_moves_between_servers_in_one_command_and_the_trail_says_who() {
    let control = Control::start();
    control.furnish();
    let said = control.said(&[
        "grant",
        "move",
        "--pool",
        "east",
        "--from",
        "server-a",
        "--to",
        "server-b",
        "200Mbit",
        "--for",
        "2h",
        "--reason",
        "month end",
        "--as",
        "virtualisation",
    ]);
    assert!(said.contains("~ grant east/server-b\n"), "{said}");
    assert!(said.contains("up.reservation: \"400Mbit\" -> \"600Mbit\""), "{said}");
    assert!(said.contains("applied, revision 2"), "{said}");
    let used = control.said(&["grant", "use"]);
    assert!(used.contains("server-a 400Mbit, server-b 600Mbit"), "{used}");
    let trail = control.said(&["audit", "--limit", "2"]);
    assert!(trail.contains("root (admin, as virtualisation)"), "{trail}");
    assert!(trail.contains("grant east/server-b") && trail.contains("month end"), "{trail}");
    control.said(&["grant", "end", "east/server-a", "east/server-b"]);
    let used = control.said(&["grant", "use"]);
    assert!(used.contains("server-a 600Mbit, server-b 400Mbit"), "{used}");
}

#[test]
fn a_request_is_seen_and_approved() {
    let control = Control::start();
    control.furnish();
    let set =
        ["grant", "set", "east/server-a", "up.reservation=1200Mbit", "--as", "virtualisation"];
    let said = control.said(&set);
    assert!(said.contains("not applied: it is request 1 to the network team"), "{said}");
    let list = control.said(&["request", "list"]);
    assert!(list.contains("the budget is 1500Mbit"), "{list}");
    control.refused(&["request", "approve", "1", "--as", "virtualisation"]);
    control.said(&["request", "approve", "1", "--ceiling", "1150Mbit", "--as", "network"]);
    assert!(control.said(&["grant", "show", "east/server-a"]).contains("1150Mbit"));
    assert_eq!(control.said(&["request", "list"]), "no requests\n");
}

#[test]
fn verbs_show_set_and_remove() {
    let control = Control::start();
    control.furnish();
    let list = control.said(&["vnic", "list"]);
    assert!(list.starts_with("NAME  VERSION    ID  HOST"), "{list}");
    assert!(control.said(&["gateway", "list"]).contains("gateway-b"));
    let said = control.said(&["vnic", "set", "vm-a", "home=east-2", "standbys=east-1"]);
    assert!(said.contains("home: \"east-1\" -> \"east-2\""), "{said}");
    let json = control.said(&["vnic", "show", "vm-a", "--json"]);
    let item: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(item["object"]["home"], "east-2");
    control.said(&["vnic", "rm", "vm-c", "--reason", "retired"]);
    let error = control.refused(&["vnic", "show", "vm-c"]);
    assert!(error.starts_with("error: [[vnic]] \"vm-c\": does not exist"), "{error}");
    let error = control.refused(&["pool", "rm", "east"]);
    assert!(error.contains("\"east\" is the name of no [[pool]]"), "{error}");
}

#[test]
fn a_vnic_moves_in_one_command_and_what_cannot_be_is_one_line() {
    let control = Control::start();
    control.furnish();
    let tried = control.said(&["vnic", "move", "vm-a", "--to", "east-2", "--dry-run"]);
    assert!(tried.ends_with("this is a trial, nothing was changed\n"), "{tried}");
    let said = control.said(&["vnic", "move", "vm-a", "--to", "east-2", "--as", "virtualisation"]);
    assert_eq!(
        said,
        "~ vnic vm-a\n    home: \"east-1\" -> \"east-2\"\n    standbys: [\"east-2\"] -> \
         [\"east-1\"]\napplied, revision 2\n"
    );
    let error = control.refused(&["vnic", "move", "vm-a", "--to", "east-9"]);
    assert_eq!(error, "error: [[uplink]] \"east-9\": does not exist; did you mean \"east-1\"?\n");
    control.said(&["vnic", "move", "vm-a", "--to", "east-1"]);
    control.said(&["vnic", "move", "vm-a", "--to", "east-2"]);
    let error = control.refused(&["vnic", "move", "vm-a", "--to", "east-1"]);
    assert!(error.contains("has moved 3 times within 180 s"), "{error}");
    assert!(error.contains("it may move again at 20"), "{error}");
}

#[test]
fn an_uplink_drains_and_a_wait_says_for_whom() {
    let control = Control::start();
    control.furnish();
    let drain = ["uplink", "drain", "east-1", "--as", "network", "--wait", "--timeout", "1s"];
    let output = control.ask(&drain);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("~ uplink east-1\n    draining: true\n"), "{said}");
    assert!(said.contains("home: \"east-1\" -> \"east-2\""), "{said}");
    assert!(
        said.contains("note: nothing is kept free for the loss of the home of \"vm-a\""),
        "{said}"
    );
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("waiting for gateway-a: has not reported\n"), "{error}");
    assert!(
        error.contains("error: [[uplink]] \"east-1\": after 1 s it still waits for gateway-a"),
        "{error}"
    );
    assert!(control.said(&["uplink", "list"]).contains("DRAINING"));
    let error = control.refused(&["vnic", "move", "vm-a", "--to", "east-1"]);
    assert!(error.contains("uplink \"east-1\" drains, and nothing new goes there"), "{error}");
    assert!(error.ends_with("(the role `network` can)\n"), "{error}");
    control.said(&["uplink", "undrain", "east-1"]);
    assert!(control.said(&["uplink", "undrain", "east-1"]).starts_with("unchanged"));
    let bad = control.ask(&["uplink", "drain", "east-1", "--wait", "--timeout", "soon"]);
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn a_gateway_drains_as_a_host_and_a_server_does_not() {
    let control = Control::start();
    control.furnish();
    control.said(&["host", "drain", "gateway-a"]);
    assert!(control.said(&["vnic", "show", "vm-a"]).contains("home: east-2"));
    control.said(&["host", "undrain", "gateway-a"]);
    for verb in ["drain", "undrain"] {
        let error = control.refused(&["host", verb, "server-a"]);
        assert!(error.contains("is a server: its vNICs stay with their VMs"), "{error}");
    }
    let error = control.refused(&["host", "drain", "gateway-q"]);
    assert!(error.contains("[[gateway]] \"gateway-q\": does not exist; did you mean"), "{error}");
}

#[test]
fn a_pool_is_rebalanced_by_hand_or_by_itself() {
    let control = Control::start();
    control.furnish();
    let said = control.said(&["pool", "rebalance", "east", "--yes"]);
    assert!(
        said.contains("note: there is no fresh report of \"server-a\", \"server-b\""),
        "{said}"
    );
    assert!(
        said.ends_with("nothing to move: no move would have enough more bandwidth used\n"),
        "{said}"
    );
    control.said(&["pool", "set", "east", "rebalance=auto", "--as", "network"]);
    assert!(control.said(&["pool", "list"]).contains("auto"));
    let error = control.refused(&["pool", "set", "east", "rebalance=always"]);
    assert!(error.contains("give `off` or `auto`"), "{error}");
    let error = control.refused(&["pool", "rebalance", "wset"]);
    assert!(error.contains("[[pool]] \"wset\": does not exist"), "{error}");
}

#[test]
fn a_difference_is_told_by_the_exit_status() {
    let mut control = Control::start();
    control.furnish();
    let house = control.path("house.toml");
    let house = house.to_str().unwrap();
    assert!(control.said(&["diff", "-f", house]).starts_with("unchanged"));
    fs::write(house, HOUSE.replace("shares = 200", "shares = 300")).unwrap();
    let output = control.ask(&["diff", "-f", house]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("up.shares: 200 -> 300"), "{said}");
    control.said(&["apply", "-f", house, "--dry-run"]);
    assert!(control.said(&["policy", "show", "gold"]).contains("shares=200"));
    // What cannot be found out is no difference.
    fs::write(house, "[[policy]]\nname = 7\n").unwrap();
    assert_eq!(control.ask(&["diff", "-f", house]).status.code(), Some(2));
    assert_eq!(control.ask(&["diff", "-f", "/nowhere"]).status.code(), Some(2));
    control.kill();
    fs::write(house, HOUSE).unwrap();
    let output = control.ask(&["diff", "-f", house]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("the controller cannot be reached"), "{error}");
}

#[test]
fn the_kernel_says_who_asks_and_strangers_are_turned_away() {
    let control = Control::start();
    control.furnish();
    fs::set_permissions(control.directory.path(), Permissions::from_mode(0o755)).unwrap();
    // The built program may lie where only root can look.
    let program = control.path("wireonce");
    fs::copy(env!("CARGO_BIN_EXE_wireonce"), &program).unwrap();
    let ask_as = |uid: u32, args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args).arg("--socket").arg(control.path("socket")).uid(uid).gid(uid);
        command.current_dir("/").output().unwrap()
    };
    let viewer = ask_as(1, &["export"]);
    assert!(viewer.status.success(), "{}", String::from_utf8_lossy(&viewer.stderr));
    let error = ask_as(1, &["vnic", "rm", "vm-c"]);
    let error = String::from_utf8(error.stderr).unwrap();
    assert!(error.contains("the role `viewer` may not change vnics"), "{error}");
    let error = ask_as(1, &["export", "--as", "admin"]);
    let error = String::from_utf8(error.stderr).unwrap();
    assert!(error.contains("cannot act as `admin`"), "{error}");
    let stranger = ask_as(65_534, &["export"]);
    assert_eq!(stranger.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(stranger.stderr).unwrap(),
        "error: user 65534: has no role here; have it added to a [[role]] of the controller's file \
         (the role `admin` can)\n"
    );
}

#[test]
fn a_killed_controller_comes_back_with_what_it_had() {
    let mut control = Control::start();
    control.furnish();
    let before = control.said(&["export"]);
    control.kill();
    let error = control.refused(&["export"]);
    assert!(error.contains("the controller cannot be reached"), "{error}");
    control.run_daemon();
    assert_eq!(control.said(&["export"]), before);
}

#[test]
fn a_backup_is_restored_and_nothing_is_overwritten() {
    let mut control = Control::start();
    control.furnish();
    let (before, backup) = (control.said(&["export"]), control.said(&["backup"]));
    control.kill();
    fs::write(control.path("backup"), &backup).unwrap();
    let restore = |control: &Control| {
        Command::new(env!("CARGO_BIN_EXE_wireonce"))
            .arg("control")
            .arg("--config")
            .arg(control.path("control.toml"))
            .arg("--restore")
            .arg(control.path("backup"))
            .output()
            .unwrap()
    };
    let refused = restore(&control);
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("exists already and is not overwritten"), "{error}");
    fs::remove_file(control.path("store")).unwrap();
    fs::write(control.path("backup"), &backup[..backup.len() / 2]).unwrap();
    assert_eq!(restore(&control).status.code(), Some(2));
    fs::write(control.path("backup"), &backup).unwrap();
    // Root restores, and the service's user opens: what is made belongs to who owns the directory.
    chown(control.directory.path(), Some(65_534), Some(65_534)).unwrap();
    assert!(restore(&control).status.success());
    let made = fs::metadata(control.path("store")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (65_534, 65_534, 0o600));
    control.run_daemon();
    // The first line names the revision, and none comes again.
    let after = control.said(&["export"]);
    assert_eq!(after.split_once('\n').unwrap().1, before.split_once('\n').unwrap().1);
    assert_ne!(after, before);
    let trail = control.said(&["audit", "--limit", "1"]);
    assert!(trail.contains("restored") && trail.contains("root"), "{trail}");
    assert!(trail.contains("from a backup of revision 1"), "{trail}");
}

#[test]
fn a_store_cut_short_is_one_line_and_stays_as_it_is() {
    let mut control = Control::start();
    control.furnish();
    control.kill();
    let store = control.path("store");
    let whole = fs::read(&store).unwrap();
    fs::write(&store, &whole[..whole.len() / 3]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wireonce"))
        .arg("control")
        .arg("--config")
        .arg(control.path("control.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("restore a backup with `wireonce control"), "{error}");
    fs::write(&store, &whole).unwrap();
    control.run_daemon();
    assert!(control.said(&["export"]).contains("vm-a"));
}
