//! Sees every frame of the outside's wire.

use wireonce_qemu_tests::process::{Process, wait_until};
use wireonce_qemu_tests::{Error, Result};

use crate::bed::{Bed, LIMIT};

/// A tcpdump, one line a frame.
pub(crate) struct Sniffer {
    tcpdump: Process,
}

impl Sniffer {
    /// From when this returns on, every frame is seen.
    pub(crate) fn start(bed: &Bed) -> Result<Self> {
        let mut command = bed.cluster.outside().command("tcpdump");
        command.args(["-i", "out0", "-nn", "-e", "-l", "--immediate-mode", "-B", "8192"]);
        let mut tcpdump = Process::start("sniffer", bed.cluster.dir(), &mut command)?;
        wait_until("tcpdump listens", LIMIT, || {
            tcpdump.must_be_alive()?;
            Ok(tcpdump.log().contains("listening on").then_some(()))
        })?;
        Ok(Self { tcpdump })
    }

    /// What was seen, when it has all that `is_there` asks for.
    pub(crate) fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) -> Result<String> {
        let done = wait_until(&format!("{what} outside"), LIMIT, || {
            let log = self.tcpdump.log();
            Ok(is_there(&log).then_some(log))
        });
        done.map_err(|error| Error::Unexpected(format!("{error}:\n{}", self.tcpdump.log())))
    }
}
