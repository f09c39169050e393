//! A cluster whose hosts are members of a controller.
//!
//! ```text
//!   verbs ──Unix socket──> [control 10.77.0.200] <──HTTPS, mutual TLS── daemons of all hosts
//! ```
//! Hosts join as an operator has them join: a token for each, and one command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::metrics::METRICS_ADDRESS;
use super::{Cluster, LIMIT, Role, config, ipv4_address, ipv6_address};
use crate::error::{Context, Error, Result};
use crate::netns::Netns;
use crate::process::{Output, Process, output, run, wait_until};

/// The last byte of the controller's address, and its port.
const NUMBER: u8 = 200;
const PORT: u16 = 7443;

/// The controller of a cluster.
#[derive(Debug)]
pub struct Control {
    // Before the namespace, so that the process ends first.
    process: Option<Process>,
    pub(super) netns: Netns,
}

impl Cluster {
    /// Starts the controller, has all hosts join it, and tells it what the plan says.
    pub(super) fn start_control(&mut self) -> Result<()> {
        let netns = Netns::new(&self.plan.tag, "control")?;
        let addresses = [ipv4_address(NUMBER), ipv6_address(NUMBER)];
        self.fabric.attach(&netns, self.hosts.len(), &addresses)?;
        let mut text = format!(
            "[control]\nstore = {:?}\nsocket = {:?}\nhttps = \"{}:{PORT}\"\n",
            self.dir.path().join("control.redb"),
            self.house_socket(),
            ipv4_address(NUMBER),
        );
        if self.plan.metrics {
            text += &format!("metrics_address = {METRICS_ADDRESS:?}\n");
        }
        let path = self.control_file();
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
        self.control = Some(Control { process: None, netns });
        self.start_controller()?;
        for index in 0..self.hosts.len() {
            self.join_host(index)?;
        }
        self.apply_house()
    }

    /// Starts the controller (again), and waits until it answers.
    ///
    /// # Errors
    /// It does not; or the plan has none.
    pub fn start_controller(&mut self) -> Result<()> {
        let (file, dir, binary) = (self.control_file(), self.dir().to_owned(), self.binary.clone());
        let control = self.control.as_mut().ok_or_else(no_controller)?;
        let mut command = control.netns.command(&binary.to_string_lossy());
        command.arg("control").arg("--config").arg(file);
        control.process = Some(Process::start("control", &dir, &mut command)?);
        wait_until("an answer of the controller", LIMIT, || Ok(self.verb(&["pool", "list"]).ok()))?;
        Ok(())
    }

    /// Kills the controller as `kill -9` does.
    pub fn kill_controller(&mut self) {
        if let Some(control) = self.control.as_mut() {
            control.process = None;
        }
    }

    /// Runs one of the operator's verbs, and returns what it printed.
    ///
    /// # Errors
    /// The controller refuses; its words are in the error.
    pub fn verb(&self, words: &[&str]) -> Result<String> {
        run(&mut self.verb_command(words), LIMIT)
    }

    /// The same, where a refusal is an answer, too.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn try_verb(&self, words: &[&str]) -> Result<Output> {
        output(&mut self.verb_command(words), LIMIT)
    }

    /// Has the controller take objects, as `wireonce apply -f` does.
    ///
    /// # Errors
    /// The controller refuses.
    pub fn apply(&self, text: &str) -> Result<String> {
        let path = self.dir().join("apply.toml");
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
        self.verb(&["apply", "-f", &path.to_string_lossy()])
    }

    /// Has the controller take all that the plan says.
    ///
    /// # Errors
    /// The controller refuses.
    pub fn apply_house(&self) -> Result<()> {
        self.apply(&config::house(self)?).map(drop)
    }

    /// The socket on which the controller takes the operator's verbs.
    #[must_use]
    pub fn house_socket(&self) -> PathBuf {
        self.dir.path().join("control.socket")
    }

    fn verb_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--socket").arg(self.house_socket());
        command
    }

    fn join_host(&self, index: usize) -> Result<()> {
        let host = self.host(index)?;
        let kind = match host.role {
            Role::Backend => "--server",
            Role::Gateway => "--gateway",
        };
        let token = self.verb(&["token", "make", kind, &host.name])?;
        let is_token = |word: &&str| word.len() > 40;
        let token = token.split_whitespace().find(is_token);
        let token = token.ok_or_else(|| Error::Unexpected("no token was printed".to_owned()))?;
        let mut command = host.netns.command(&self.binary.to_string_lossy());
        command.arg("join").arg("--config").arg(self.config_path(host)).arg(token);
        run(&mut command, LIMIT).map(drop)
    }

    fn control_file(&self) -> PathBuf {
        self.dir.path().join("control.toml")
    }

    /// Where a host keeps its membership.
    pub(super) fn member_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.member"))
    }
}

pub(super) fn no_controller() -> Error {
    Error::Unexpected("the plan has no controller".to_owned())
}
