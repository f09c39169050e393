//! testpmd as a load that is started and stopped at its console, with its rates by its own clock.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::cluster::VmPlan;
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::testpmd::{Console, End, Forward, Memory, Testpmd};

use crate::case::Times;
use crate::cpu::{processes_us, softirq_threads_us};

/// A switch may take seconds to notice a guest.
const FIRST_LIMIT: Duration = Duration::from_secs(20);
/// How often frames are looked for.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// Where frames go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The MAC address, as text.
    pub mac: String,
    /// The IPv4 address.
    pub address: IpAddr,
}

/// A front-end that sends frames of `bytes` from `vm` to `to` as fast as it can, on processor
/// `cpu`. Its socket is still to be set.
#[must_use]
pub fn txonly(vm: &VmPlan, to: &Place, cpu: u32, bytes: u16) -> Testpmd {
    let mut pmd = Testpmd::new(End::FrontEnd("unset".into()), Forward::TxOnly);
    pmd.memory = Memory::Huge;
    pmd.cpu = cpu;
    pmd.mac = Some(vm.mac());
    pmd.peer_mac = Some(to.mac.clone());
    pmd.addresses = Some((vm.address().to_string(), to.address.to_string()));
    pmd.frame_bytes = bytes;
    pmd
}

/// A testpmd that forwards only while it is told to; stopped, it sleeps.
#[derive(Debug)]
pub struct Load {
    console: Console,
}

/// Packets per second of one port, since they were last shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PortRates {
    /// Received.
    pub rx_pps: f64,
    /// Sent: taken by the driver.
    pub tx_pps: f64,
}

/// What was seen while a load ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The load's ports.
    pub ports: Vec<PortRates>,
    /// How long the window was, in seconds.
    pub seconds: f64,
    /// CPU time of the watched processes and of the kernel's softirq threads, in microseconds.
    pub cpu_us: f64,
}

impl Seen {
    /// One port's rates; zero if there is no such port.
    #[must_use]
    pub fn port(&self, index: usize) -> PortRates {
        self.ports.get(index).copied().unwrap_or_default()
    }

    /// CPU time for each frame at `frames_per_s`, in microseconds.
    #[must_use]
    pub fn cpu_us_per_frame(&self, frames_per_s: f64) -> Option<f64> {
        let frames = frames_per_s * self.seconds;
        (frames > 0.0).then(|| self.cpu_us / frames)
    }
}

impl Load {
    /// Starts the program; nothing is sent yet.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(pmd: &Testpmd, name: &str, dir: &Path) -> Result<Self> {
        Ok(Self { console: pmd.start_console(name, dir)? })
    }

    /// As [`Self::start`], in a namespace.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_in(netns: &Netns, pmd: &Testpmd, name: &str, dir: &Path) -> Result<Self> {
        Ok(Self { console: pmd.start_console_in(netns, name, dir)? })
    }

    /// Begins to forward.
    ///
    /// # Errors
    /// testpmd does not answer.
    pub fn begin(&mut self) -> Result<()> {
        self.console.command("start").map(drop)
    }

    /// Stops forwarding.
    ///
    /// # Errors
    /// testpmd does not answer.
    pub fn end(&mut self) -> Result<()> {
        self.console.command("stop").map(drop)
    }

    /// Forwards until `arrived` says that frames come through, so that all that is set up with the
    /// first frame is set up. Then stops.
    ///
    /// # Errors
    /// None came through in 20 s, or testpmd does not answer.
    pub fn first_frames(
        &mut self,
        mut arrived: impl FnMut(&[PortRates]) -> Result<bool>,
    ) -> Result<()> {
        self.begin()?;
        let console = &mut self.console;
        let done = wait_until("the first frames", FIRST_LIMIT, || {
            thread::sleep(FIRST_LOOK);
            let rates = parse_rates(&console.command("show port stats all")?);
            Ok(arrived(&rates)?.then_some(()))
        });
        self.end()?;
        done
    }

    /// The rates of all ports since the last time.
    ///
    /// # Errors
    /// testpmd does not answer.
    pub fn rates(&mut self) -> Result<Vec<PortRates>> {
        Ok(parse_rates(&self.console.command("show port stats all")?))
    }

    /// Its console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Runs the load for a warm-up and a window, and watches the processes `pids` in the window.
    /// `at` is called at its begin (`false`) and at its end (`true`), to look at other counters.
    ///
    /// # Errors
    /// testpmd does not answer, or `at` failed.
    pub fn measure(
        &mut self,
        times: Times,
        pids: &[u32],
        at: impl FnMut(bool) -> Result<()>,
    ) -> Result<Seen> {
        self.begin()?;
        self.watch(times, pids, at)
    }

    /// As [`Self::measure`], but first sends `bursts` bursts of 32 frames, which then go round.
    ///
    /// # Errors
    /// testpmd does not answer.
    pub fn measure_first(&mut self, times: Times, pids: &[u32], bursts: u32) -> Result<Seen> {
        self.console.command(&format!("start tx_first {bursts}"))?;
        self.watch(times, pids, |_| Ok(()))
    }

    fn watch(
        &mut self,
        times: Times,
        pids: &[u32],
        mut at: impl FnMut(bool) -> Result<()>,
    ) -> Result<Seen> {
        thread::sleep(times.warm_up);
        self.rates()?;
        let started = Instant::now();
        let before_us = processes_us(pids) + softirq_threads_us();
        at(false)?;
        thread::sleep(times.window);
        at(true)?;
        let cpu_us = processes_us(pids) + softirq_threads_us() - before_us;
        let seconds = started.elapsed().as_secs_f64();
        let ports = self.rates()?;
        self.end()?;
        Ok(Seen { ports, seconds, cpu_us })
    }
}

/// Reads `show port stats all`: a block for each port, in their order.
fn parse_rates(text: &str) -> Vec<PortRates> {
    let blocks = text.split("NIC statistics for port").skip(1);
    let number = |block: &str, name: &str| {
        let mut words = block.split_whitespace().skip_while(|word| *word != name).skip(1);
        words.next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    let rates = |block: &str| PortRates {
        rx_pps: number(block, "Rx-pps:"),
        tx_pps: number(block, "Tx-pps:"),
    };
    blocks.map(rates).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_of_each_port_are_read() {
        let text = "\
  ######################## NIC statistics for port 0  ########################
  RX-packets: 0          RX-missed: 0          RX-bytes:  0
  TX-packets: 99         TX-errors: 0          TX-bytes:  640

  Throughput (since last show)
  Rx-pps:            7          Rx-bps:            9
  Tx-pps:     20480112          Tx-bps:            8
  ############################################################################
  ######################## NIC statistics for port 1  ########################
  Rx-pps:            3          Rx-bps:            0
  Tx-pps:            4          Tx-bps:            0
";
        let seen = parse_rates(text);
        let wanted =
            [(7.0, 20_480_112.0), (3.0, 4.0)].map(|(rx_pps, tx_pps)| PortRates { rx_pps, tx_pps });
        assert_eq!(seen, wanted);
    }

    #[test]
    fn cpu_time_is_shared_among_the_frames() {
        let seen = Seen { ports: Vec::new(), seconds: 2.0, cpu_us: 1e6 };
        assert_eq!(seen.cpu_us_per_frame(1e6), Some(0.5));
        assert_eq!(seen.cpu_us_per_frame(0.0), None);
    }
}
