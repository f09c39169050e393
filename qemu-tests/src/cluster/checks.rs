//! What the demo and most tests ask of a running cluster.

use std::net::IpAddr;
use std::time::Duration;

use super::Cluster;
use crate::error::{Error, Result};
use crate::guest::{Accel, Guest, Image};
use crate::process::wait_until;

/// A first answer may wait for a link, for QEMU's reconnect (1 s) and for a busy machine.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long frames may be on their way after the last load.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const PINGS: usize = 10;

/// The books of all hosts when they closed.
#[derive(Debug, Clone, Copy)]
pub struct Books {
    /// Rows: a vNIC or uplink at a stage.
    pub accounts: usize,
    /// Frames that came in, over all rows.
    pub frames: u64,
}

impl Cluster {
    /// Starts all daemons, then boots all VMs of the plan side by side, in its order.
    ///
    /// # Errors
    /// As [`Self::start`] and [`crate::guest::Vm::boot`].
    pub fn start_with_guests(&mut self) -> Result<Vec<Guest>> {
        let image = Image::ensure()?;
        let accel = Accel::detect(&image)?;
        self.start()?;
        self.boot_guests(&image, accel)
    }

    /// Boots all VMs of the plan side by side, in its order, with consoles.
    ///
    /// # Errors
    /// As [`crate::guest::Vm::boot`].
    pub fn boot_guests(&self, image: &Image, accel: Accel) -> Result<Vec<Guest>> {
        let start = |name: &str| {
            let vm = self.vm(name, image, accel)?.console(self.console_socket(name));
            vm.start_in(self.server_of(name)?)
        };
        let booting: Result<Vec<_>> = self.plan.vms.iter().map(|vm| start(&vm.name)).collect();
        booting?.into_iter().map(|guest| guest.ready()).collect()
    }

    /// Waits until `guest` gets an answer from `to`; from then on all of 10 pings must be answered.
    ///
    /// # Errors
    /// No answer in 30 s, or a ping was lost. The message has the daemons' last lines.
    pub fn must_reach(&self, guest: &mut Guest, to: IpAddr) -> Result<()> {
        self.wait_answer(guest, to)?;
        let line = format!("ping -c {PINGS} -i 0.1 -W 2 {to}");
        let seen = guest.try_run(&line, FIRST_ANSWER_LIMIT)?.output;
        if crate::netns::parse_ping(&seen).len() == PINGS {
            return Ok(());
        }
        Err(Error::Unexpected(format!("{to} lost pings: {seen}\n{}", self.all_logs())))
    }

    /// Waits until `guest` gets an answer from `to`.
    ///
    /// # Errors
    /// No answer in 30 s. The message has the daemons' last lines.
    pub fn wait_answer(&self, guest: &mut Guest, to: IpAddr) -> Result<()> {
        let line = format!("ping -c 1 -W 1 {to}");
        let answered = wait_until(&format!("an answer of {to}"), FIRST_ANSWER_LIMIT, || {
            Ok((guest.try_run(&line, FIRST_ANSWER_LIMIT)?.status == 0).then_some(()))
        });
        answered.map_err(|error| Error::Unexpected(format!("{error}\n{}", self.all_logs())))
    }

    /// Waits until the books of all hosts close: what is on its way arrives within a moment.
    ///
    /// # Errors
    /// They do not, or nothing was booked at all. The message has the rows that are open.
    pub fn must_close(&self) -> Result<Books> {
        let mut open = Vec::new();
        let closed = wait_until("the closing of all ledgers", DRAIN_LIMIT, || {
            open.clear();
            let mut books = Books { accounts: 0, frames: 0 };
            for (index, host) in self.hosts.iter().enumerate() {
                let status = self.status(index)?;
                books.accounts += status.ledger.len();
                books.frames += status.ledger.iter().map(|row| row.input.frames).sum::<u64>();
                let holes = status.holes().into_iter();
                open.extend(holes.map(|hole| format!("{}: {hole}", host.name)));
            }
            Ok((open.is_empty() && books.frames > 0).then_some(books))
        });
        closed.map_err(|error| Error::Unexpected(format!("{error}:\n{}", open.join("\n"))))
    }

    /// The last lines of all daemons.
    #[must_use]
    pub fn all_logs(&self) -> String {
        let log = |(index, host): (usize, &super::Host)| {
            format!("--- {}:\n{}\n", host.name, self.log(index))
        };
        self.hosts.iter().enumerate().map(log).collect()
    }
}
