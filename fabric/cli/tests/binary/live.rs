//! `wireonce top` and `wireonce watch` beside a controller that stops and starts again.

use crate::control::Control;
use std::{
    io::{BufRead, BufReader, Lines, Read},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const LIMIT: Duration = Duration::from_secs(60);

/// A verb that goes on until it is ended, with what it prints.
struct Live {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Live {
    fn start(control: &Control, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wireonce"));
        command.args(args).arg("--socket").arg(control.path("socket"));
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = piped.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Reads on to a line that has this in it.
    fn until(&mut self, what: &str) -> String {
        let end = Instant::now() + LIMIT;
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if line.contains(what) {
                return line;
            }
            assert!(Instant::now() < end, "{what} does not come");
        }
        panic!("it ended without {what}");
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_live_view_outlives_a_restart_of_the_controller_and_says_since_when_it_is_old() {
    let mut control = Control::start();
    control.furnish();
    let mut top = Live::start(&control, &["top", "--table", "vnics"]);
    top.until("vm-a");
    control.kill();
    let line = top.until("NO ANSWER SINCE ");
    assert!(line.contains("what is below is of then"), "{line}");
    let why = top.until("the controller cannot be reached");
    assert!(why.starts_with("  "), "{why}");
    assert!(top.until("vm-a").contains("server-a"), "the last picture stays");
    control.run_daemon();
    // A page that begins with the table is of now.
    assert!(top.until("\u{1b}[H\u{1b}[JVNIC").contains("SERVER"));
}

#[test]
fn a_view_that_was_never_there_is_an_error() {
    let mut control = Control::start();
    control.kill();
    let error = control.refused(&["top"]);
    assert!(error.contains("the controller cannot be reached"), "{error}");
}

#[test]
fn the_terminal_is_given_back_when_the_view_is_told_to_end() {
    let control = Control::start();
    control.furnish();
    let line = format!(
        "exec 3<&0; {} top --socket {} <&3 & pid=$!; n=0; \
         until stty -a <&3 | grep -q -- -icanon || [ $n -gt 600 ]; do n=$((n+1)); sleep 0.05; done; \
         echo key mode after $n; kill -TERM $pid; wait $pid; echo ended with $?; stty -a <&3",
        env!("CARGO_BIN_EXE_wireonce"),
        control.path("socket").display()
    );
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null());
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (before, after) = said.split_once("ended with ").unwrap_or_else(|| panic!("{said}"));
    assert!(before.contains("key mode after "), "{said}");
    assert!(after.starts_with('0'), "{said}");
    for mode in ["icanon", "echo", "isig"] {
        let is_set = |word: &str| word.trim_end_matches(';') == mode;
        assert!(after.split_whitespace().any(is_set), "{mode} is not set again: {after}");
    }
}

#[test]
fn a_watch_says_that_the_controller_stopped_and_where_to_go_on() {
    let mut control = Control::start();
    control.furnish();
    let mut watch = Live::start(&control, &["watch", "--after", "0"]);
    watch.until("vnic vm-a");
    let last = watch.until("grant east/server-b");
    let revision = last.split_whitespace().next().unwrap().to_owned();
    control.kill();
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = watch.process.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it does not end");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
    let mut error = String::new();
    watch.process.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("the watch"), "{error}");
    assert!(error.contains(&format!("`wireonce watch --after {revision}`")), "{error}");
}
