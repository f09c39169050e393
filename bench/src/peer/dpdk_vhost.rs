//! DPDK's vhost PMD as the device: a second testpmd that receives and drops.

use std::path::Path;

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::testpmd::{End, Forward, Memory, Testpmd};

use crate::case::{Contender, Sample, Times};
use crate::load::Load;
use crate::machine::Cores;

/// The name in results.
pub const NAME: &str = "DPDK 22.11 vhost PMD";

/// A front-end that sends and a vhost PMD that drops, one core each.
#[derive(Debug)]
pub struct DpdkVhost {
    // The front-end ends first.
    front: Load,
    back: Load,
    back_pid: u32,
}

impl DpdkVhost {
    /// Starts both; `front` describes the front-end but for its socket.
    ///
    /// # Errors
    /// DPDK does not start.
    pub fn start(front: &Testpmd, cores: Cores, dir: &Path, name: &str) -> Result<Self> {
        let socket = dir.join(format!("{name}.vhost"));
        let mut back = Testpmd::new(End::BackEnd(socket.clone()), Forward::RxOnly);
        back.memory = Memory::Huge;
        back.cpu = cores.device;
        let mut back = Load::start(&back, &format!("{name}-back"), dir)?;
        let back_pid = back.console().process().pid();
        let mut front = front.clone();
        front.connect_to(&socket);
        Ok(Self { front: Load::start(&front, &format!("{name}-front"), dir)?, back, back_pid })
    }
}

impl Contender for DpdkVhost {
    fn round(&mut self, times: Times) -> Result<Sample> {
        self.back.begin()?;
        let seen = self.front.measure(times, &[self.back_pid], |_| Ok(()))?;
        self.back.end()?;
        let pps = seen.port(0).tx_pps;
        Ok(Sample {
            values: vec![pps / 1e6],
            cpu_us_per_frame: seen.cpu_us_per_frame(pps),
            facts: Vec::new(),
            events: Vec::new(),
        })
    }
}
