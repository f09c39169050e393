//! A ping from outside to one VM that goes on while something happens to another: not one may be
//! lost.

use std::collections::BTreeSet;
use std::process::Command;

use wireonce_qemu_tests::process::{Process, run, wait_until};
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT};

/// Pings that must come after the event, as proof that the VM still answers then.
const AFTERWARDS: usize = 5;

/// A ping that goes on.
#[derive(Debug)]
pub(crate) struct Steady {
    ping: Process,
}

impl Steady {
    /// Starts it and waits for the first answers.
    pub(crate) fn start(bed: &Bed, vm: &str) -> Result<Self> {
        let to = bed.cluster.vm_address(vm)?.to_string();
        // The first answer needs the outside's neighbour table and the link: not part of the test.
        wait_until("a first answer", LIMIT, || {
            Ok((!bed.cluster.outside().ping(bed.cluster.vm_address(vm)?, 1)?.is_empty())
                .then_some(()))
        })
        .map_err(|error| bed.explain(&error))?;
        let mut command = bed.cluster.outside().command("busybox");
        // Enough for ten minutes.
        command.args(["ping", "-i", "0.1", "-c", "6000", &to]);
        let ping = Process::start(&format!("steady-{vm}"), bed.cluster.dir(), &mut command)?;
        let steady = Self { ping };
        steady.answers_until(AFTERWARDS)?;
        Ok(steady)
    }

    /// Waits for more answers, ends it, and fails if one up to the last answer had none or
    /// had two.
    pub(crate) fn must_have_lost_nothing(mut self) -> Result<()> {
        let sent = self.last_sent();
        self.answers_until(sent + AFTERWARDS)?;
        // SIGINT: it ends and prints its statistics.
        let pid = self.ping.pid().to_string();
        run(Command::new("kill").args(["-INT", &pid]), LIMIT)?;
        self.ping.wait(LIMIT)?;
        let log = self.ping.log();
        let seen = sequence_numbers(&log);
        let last = seen.last().copied().unwrap_or(0);
        let missing: Vec<_> = (0..=last).filter(|number| !seen.contains(number)).collect();
        if missing.is_empty() && !log.contains("DUP!") && !log.contains("nreachable") {
            return Ok(());
        }
        Err(Error::Unexpected(format!("pings {missing:?} of {last} got no answer:\n{log}")))
    }

    /// The newest number that was answered.
    fn last_sent(&self) -> usize {
        sequence_numbers(&self.ping.log()).last().copied().unwrap_or(0)
    }

    fn answers_until(&self, number: usize) -> Result<()> {
        let done =
            wait_until("steady pings", LIMIT, || Ok((self.last_sent() >= number).then_some(())));
        done.map_err(|error| Error::Unexpected(format!("{error}:\n{}", self.ping.log())))
    }
}

fn sequence_numbers(log: &str) -> BTreeSet<usize> {
    let number = |line: &str| line.split_once(" seq=")?.1.split(' ').next()?.parse().ok();
    log.lines().filter(|line| line.contains("time=")).filter_map(number).collect()
}
