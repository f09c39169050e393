//! What the demo tells, chapter by chapter.
//!
//! | chapter | what it shows |
//! |---|---|
//! | [`stage`] | two servers, two gateways, a controller; two VMs |
//! | [`basics`] | ping, and TCP three ways |
//! | [`starved`] | a server that lacks what another has: seen, moved, cured, drawn |
//! | [`request`] | more than the budget: asked for, and approved within bounds |
//! | [`fault`] | a gateway that is killed |
//! | [`drain`] | a gateway that is emptied |
//! | [`books`] | ledgers that close, and ports that counted the same |
//! | [`keep`] | everything left running, to look around |
//!
//! What they share is here; [`flow`] is traffic that runs beside the story.

mod basics;
mod books;
mod drain;
mod fault;
mod flow;
mod keep;
mod request;
mod stage;
mod starved;

use std::time::Duration;

use serde_json::Value;
use wireonce_qemu_tests::cluster::{Cluster, Status};
use wireonce_qemu_tests::guest::Guest;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::report::Report;
use wireonce_qemu_tests::{Error, Result};

use crate::options::Options;
use crate::result::DemoResult;
use books::Ports;

/// What happens within moments on a machine that is not overloaded.
const LIMIT: Duration = Duration::from_secs(20);
/// Servers come first among the hosts, then gateways.
const SERVERS: usize = 2;
/// The pool of both uplinks, as the test bed calls it.
const POOL: &str = "outside";
/// The outside's interface, which all uplinks reach.
const OUTSIDE_INTERFACE: &str = "out0";

/// The demo under way. Fields end in this order: VMs before what carries them.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    vm_a: Guest,
    vm_b: Guest,
    cluster: Cluster,
    ports: Ports,
    report: &'a Report,
    options: &'a Options,
}

impl Story<'_> {
    /// All that is told with the stage that was set up.
    pub(crate) fn tell(&mut self, seen: &mut DemoResult) -> Result<()> {
        let outcome = self.chapters(seen);
        if self.options.verbose || outcome.is_err() {
            self.report.note(&self.cluster.all_logs());
        }
        outcome
    }

    fn chapters(&mut self, seen: &mut DemoResult) -> Result<()> {
        self.basics(seen)?;
        self.report.title("A server lacks bandwidth that another one has");
        self.starved(seen)?;
        self.request()?;
        self.check_ports()?;
        self.report.title("A gateway is lost, another one is emptied");
        self.fault(seen)?;
        self.drain(seen)?;
        self.report.title("Where the frames went");
        self.close_books(seen)
    }

    /// One step. If it fails, its reason is followed by where to look.
    fn step<T>(
        report: &Report,
        name: &str,
        look_at: &str,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        let result = report.step(name, work);
        if result.is_err() {
            report.note(&format!("look at: {look_at}"));
        }
        result
    }
}

/// One of the operator's verbs as it is shown: with the program's name, without the socket.
fn typed(words: &[&str]) -> String {
    let quoted = |word: &&str| match word.contains(' ') {
        true => format!("\"{word}\""),
        false => (*word).to_owned(),
    };
    let words: Vec<String> = words.iter().map(quoted).collect();
    format!("$ wireonce {}", words.join(" "))
}

/// An operator's verb that answers with JSON.
fn asked(cluster: &Cluster, words: &[&str]) -> Result<Value> {
    let text = cluster.verb(&[words, &["--json"]].concat())?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Unexpected(format!("{} said {text}: {error}", typed(words))))
}

/// The uplink that a vNIC uses now, if its gateway has said so and no move is under way.
fn home_of(status: &Status, vnic: &str) -> Option<String> {
    let home = &status.vnics.iter().find(|it| it["name"] == vnic)?["home"];
    let stands = home["confirmed"] == true && home["going"].is_null();
    home["now"].as_str().filter(|_| stands).map(str::to_owned)
}

/// Waits until a vNIC of a server uses an uplink that is as it should be.
fn wait_home(
    cluster: &Cluster,
    server: usize,
    vnic: &str,
    is_right: impl Fn(&str) -> bool,
) -> Result<String> {
    wait_until(&format!("another home of {vnic}"), LIMIT, || {
        Ok(home_of(&cluster.status(server)?, vnic).filter(|home| is_right(home)))
    })
}

/// Which host has an uplink: `uplink-1` is that of the first gateway.
fn gateway_of(uplink: &str) -> Result<usize> {
    let number = uplink.strip_prefix("uplink-").and_then(|text| text.parse::<usize>().ok());
    let number = number.filter(|number| *number > 0);
    number
        .map(|number| SERVERS + number - 1)
        .ok_or_else(|| Error::Unexpected(format!("no gateway has an uplink `{uplink}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_are_those_of_the_gateways_in_order() {
        assert_eq!(gateway_of("uplink-1").unwrap(), 2);
        assert_eq!(gateway_of("uplink-2").unwrap(), 3);
        assert!(gateway_of("uplink-0").is_err() && gateway_of("eth0").is_err());
    }

    #[test]
    fn commands_are_shown_as_they_can_be_typed() {
        let words = ["grant", "end", "outside/server-a", "--reason", "it is over"];
        let shown = "$ wireonce grant end outside/server-a --reason \"it is over\"";
        assert_eq!(typed(&words), shown);
    }
}
