//! One QEMU: its description ([`Vm`]) and its running form ([`Guest`]).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::accel::Accel;
use super::agent::{Agent, GuestOutput};
use super::image::Image;
use super::qmp::Qmp;
use crate::error::{Error, Result};
use crate::netns::Netns;
use crate::process::{Process, tail, wait_until};
use crate::watchdog::TempDir;

/// A loaded machine with two cores boots a guest under TCG in 3-15 s.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// What carries a NIC's frames outside the guest.
#[derive(Debug, Clone)]
pub enum NicBackend {
    /// QEMU connects to a listening vhost-user backend and tries again every second.
    VhostUserConnect(PathBuf),
    /// QEMU listens and the backend connects.
    VhostUserListen(PathBuf),
    /// QEMU's own tap device of that name (it must exist), for comparison.
    Tap(String),
}

/// One virtio NIC of a guest.
#[derive(Debug, Clone)]
pub struct Nic {
    /// What carries its frames.
    pub backend: NicBackend,
    /// Its MAC address, as text.
    pub mac: String,
    /// Receive and transmit queues: so many of each.
    pub queue_pairs: u16,
    /// The MTU that the device tells the guest, in bytes.
    pub host_mtu: Option<u32>,
    /// More properties of QEMU's `virtio-net-pci`, such as `event_idx=off`.
    pub properties: Vec<String>,
}

impl Nic {
    /// A NIC with one queue pair and QEMU's defaults.
    #[must_use]
    pub fn new(backend: NicBackend, mac: &str) -> Self {
        Self {
            backend,
            mac: mac.to_owned(),
            queue_pairs: 1,
            host_mtu: None,
            properties: Vec::new(),
        }
    }

    /// QEMU's arguments for NIC number `index`.
    fn arguments(&self, index: usize, accel: Accel) -> Vec<String> {
        let netdev = match &self.backend {
            NicBackend::VhostUserConnect(path) => vec![
                "-chardev".to_owned(),
                format!("socket,id=char{index},path={},reconnect=1", path.display()),
                "-netdev".to_owned(),
                format!("vhost-user,id=net{index},chardev=char{index},queues={}", self.queue_pairs),
            ],
            NicBackend::VhostUserListen(path) => vec![
                "-chardev".to_owned(),
                format!("socket,id=char{index},path={},server=on,wait=off", path.display()),
                "-netdev".to_owned(),
                format!("vhost-user,id=net{index},chardev=char{index},queues={}", self.queue_pairs),
            ],
            NicBackend::Tap(name) => vec![
                "-netdev".to_owned(),
                format!("tap,id=net{index},ifname={name},script=no,downscript=no,vhost=off"),
            ],
        };
        // romfile: no network boot. vectors=0: QEMU 7.2 under TCG takes KVM's way for MSI-X of a
        // vhost-user device and crashes when the guest starts it; INTx is safe.
        let mut device =
            format!("virtio-net-pci,id=nic{index},netdev=net{index},mac={},romfile=", self.mac);
        if accel == Accel::Tcg {
            device += ",vectors=0";
        }
        if self.queue_pairs > 1 {
            device += ",mq=on";
        }
        if let Some(mtu) = self.host_mtu {
            device += &format!(",host_mtu={mtu}");
        }
        for property in &self.properties {
            device += &format!(",{property}");
        }
        let mut arguments = netdev;
        arguments.extend(["-device".to_owned(), device]);
        arguments
    }
}

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct Vm {
    name: String,
    image: Image,
    accel: Accel,
    memory_mb: u32,
    hotplug_mb: u32,
    cpus: u16,
    nics: Vec<Nic>,
    kernel_arguments: Vec<String>,
    console: Option<PathBuf>,
    boot_limit: Duration,
}

impl Vm {
    /// A guest with 256 MB, one CPU and no NIC.
    #[must_use]
    pub fn new(name: &str, image: &Image, accel: Accel) -> Self {
        Self {
            name: name.to_owned(),
            image: image.clone(),
            accel,
            memory_mb: 256,
            hotplug_mb: 0,
            cpus: 1,
            nics: Vec::new(),
            kernel_arguments: Vec::new(),
            console: None,
            boot_limit: BOOT_LIMIT,
        }
    }

    /// Adds a NIC.
    #[must_use]
    pub fn nic(mut self, nic: Nic) -> Self {
        self.nics.push(nic);
        self
    }

    /// The address with prefix length of the first NIC, such as `192.0.2.11/24`.
    #[must_use]
    pub fn address(self, address: &str) -> Self {
        self.kernel_argument(&format!("wo.ip={address}"))
    }

    /// The MTU that the guest sets on its first NIC, in bytes.
    #[must_use]
    pub fn mtu(self, mtu: u32) -> Self {
        self.kernel_argument(&format!("wo.mtu={mtu}"))
    }

    /// One more word on the kernel's command line.
    #[must_use]
    pub fn kernel_argument(mut self, word: &str) -> Self {
        self.kernel_arguments.push(word.to_owned());
        self
    }

    /// Memory in megabytes.
    #[must_use]
    pub fn memory_mb(mut self, megabytes: u32) -> Self {
        self.memory_mb = megabytes;
        self
    }

    /// Room for memory plugged in later, in megabytes.
    #[must_use]
    pub fn hotplug_mb(mut self, megabytes: u32) -> Self {
        self.hotplug_mb = megabytes;
        self
    }

    /// Processors.
    #[must_use]
    pub fn cpus(mut self, cpus: u16) -> Self {
        self.cpus = cpus;
        self
    }

    /// A shell for people at a unix socket.
    #[must_use]
    pub fn console(mut self, socket: PathBuf) -> Self {
        self.console = Some(socket);
        self
    }

    /// How long the boot may take.
    #[must_use]
    pub fn boot_limit(mut self, limit: Duration) -> Self {
        self.boot_limit = limit;
        self
    }

    /// Starts QEMU here and waits for the guest's agent.
    ///
    /// # Errors
    /// QEMU ends, or the guest does not come up in time; the message has the end of its log.
    pub fn boot(&self) -> Result<Guest> {
        self.start(Command::new(QEMU))?.ready()
    }

    /// Starts QEMU in a namespace and waits for the guest's agent.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn boot_in(&self, netns: &Netns) -> Result<Guest> {
        self.start(netns.command(QEMU))?.ready()
    }

    /// Starts QEMU in a namespace without waiting, so that several guests boot side by side;
    /// [`Booting::ready`] waits.
    ///
    /// # Errors
    /// QEMU cannot start.
    pub fn start_in(&self, netns: &Netns) -> Result<Booting> {
        self.start(netns.command(QEMU))
    }

    fn start(&self, mut command: Command) -> Result<Booting> {
        let dir = TempDir::new("vm")?;
        command.args(self.arguments(dir.path()));
        let process = Process::start(&format!("qemu-{}", self.name), dir.path(), &mut command)?;
        Ok(Booting { guest_dir: dir, process, limit: self.boot_limit, started: Instant::now() })
    }

    fn arguments(&self, dir: &Path) -> Vec<OsString> {
        let mut arguments: Vec<String> = Vec::new();
        let mut push = |words: &[&str]| arguments.extend(words.iter().map(ToString::to_string));
        push(&["-nodefaults", "-no-user-config", "-display", "none"]);
        push(&["-name", &self.name, "-smp", &self.cpus.to_string()]);
        push(match self.accel {
            Accel::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Accel::Tcg => &["-accel", "tcg,thread=multi"],
        });
        // vhost-user needs memory that another process can map.
        let memory = format!("memory-backend-memfd,id=mem,size={}M,share=on", self.memory_mb);
        push(&["-machine", "pc,memory-backend=mem", "-object", &memory]);
        let most = self.memory_mb + self.hotplug_mb;
        push(&[
            "-m",
            &match self.hotplug_mb {
                0 => format!("{}M", self.memory_mb),
                _ => format!("{}M,slots=4,maxmem={most}M", self.memory_mb),
            },
        ]);
        push(&["-kernel", &self.image.kernel.to_string_lossy()]);
        push(&["-initrd", &self.image.initramfs.to_string_lossy()]);
        push(&["-append", &self.command_line()]);
        // The kernel's messages go to QEMU's output, that is, to the log.
        push(&["-serial", "stdio"]);
        if let Some(socket) = &self.console {
            let socket = format!("socket,id=console,path={},server=on,wait=off", socket.display());
            push(&["-chardev", &socket, "-serial", "chardev:console"]);
        }
        let agent = dir.join("agent.sock");
        let agent = format!("socket,id=agent,path={},server=on,wait=off", agent.display());
        push(&["-chardev", &agent, "-device", "virtio-serial-pci"]);
        push(&["-device", "virtserialport,chardev=agent,name=agent"]);
        let qmp = dir.join("qmp.sock");
        push(&["-qmp", &format!("unix:{},server=on,wait=off", qmp.display())]);
        for (index, nic) in self.nics.iter().enumerate() {
            arguments.extend(nic.arguments(index, self.accel));
        }
        arguments.into_iter().map(OsString::from).collect()
    }

    fn command_line(&self) -> String {
        // panic=-1 with -no-reboot would hide a panic as a clean end: let it stand in the log.
        let mut line = "console=ttyS0 quiet mitigations=off tsc=unstable".to_owned();
        if self.console.is_some() {
            line += " wo.console";
        }
        for word in &self.kernel_arguments {
            line += &format!(" {word}");
        }
        line
    }
}

const QEMU: &str = "qemu-system-x86_64";

/// A QEMU that was started; its guest is on its way.
#[derive(Debug)]
pub struct Booting {
    guest_dir: TempDir,
    process: Process,
    limit: Duration,
    started: Instant,
}

impl Booting {
    /// Waits for the guest's agent.
    ///
    /// # Errors
    /// As [`Vm::boot`].
    pub fn ready(mut self) -> Result<Guest> {
        match self.connect() {
            Ok((agent, qmp)) => Ok(Guest {
                agent,
                qmp,
                process: self.process,
                boot_time: self.started.elapsed(),
                dir: self.guest_dir,
            }),
            Err(error) => Err(Error::Unexpected(format!(
                "{} did not boot: {error}; its log ends with:\n{}",
                self.process.name(),
                tail(&self.process.log(), 20)
            ))),
        }
    }

    fn connect(&mut self) -> Result<(Agent, Qmp)> {
        let dir = self.guest_dir.path();
        let mut agent = Agent::connect(&dir.join("agent.sock"), Duration::from_secs(10))?;
        // Look for QEMU's end now and then: a crash is told at once, not after the limit.
        wait_until("the guest's first answer", self.limit, || {
            self.process.must_be_alive()?;
            match agent.wait_ready(Duration::from_millis(500)) {
                Ok(()) => Ok(Some(())),
                Err(Error::TimedOut { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        let qmp = Qmp::connect(&dir.join("qmp.sock"), Duration::from_secs(10))?;
        Ok((agent, qmp))
    }
}

/// A running guest; dropping it kills its QEMU.
#[derive(Debug)]
pub struct Guest {
    agent: Agent,
    qmp: Qmp,
    process: Process,
    boot_time: Duration,
    dir: TempDir,
}

impl Guest {
    /// Runs a shell command line in the guest, whatever its exit status.
    ///
    /// # Errors
    /// The guest does not answer; the message has the end of its log.
    pub fn try_run(&mut self, line: &str, limit: Duration) -> Result<GuestOutput> {
        self.agent.run(line, limit).map_err(|error| {
            Error::Unexpected(format!(
                "{}: {error}; its log ends with:\n{}",
                self.process.name(),
                tail(&self.process.log(), 20)
            ))
        })
    }

    /// Runs a shell command line in the guest and returns what it wrote.
    ///
    /// # Errors
    /// It fails, or the guest does not answer.
    pub fn run(&mut self, line: &str, limit: Duration) -> Result<String> {
        let output = self.try_run(line, limit)?;
        if output.status == 0 {
            return Ok(output.output);
        }
        Err(Error::Command {
            command: format!("{}: {line}", self.process.name()),
            status: output.status.to_string(),
            stderr: tail(&output.output, 20),
        })
    }

    /// Waits for the agent once more, after a reboot.
    ///
    /// # Errors
    /// The guest does not come up within `limit`.
    pub fn wait_rebooted(&mut self, limit: Duration) -> Result<()> {
        self.agent.wait_ready(limit)
    }

    /// QEMU's control.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// QEMU itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// How long it took from QEMU's start to the agent.
    #[must_use]
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Where its log and sockets are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image { kernel: "/k".into(), initramfs: "/i".into() }
    }

    #[test]
    fn vhost_user_nics_use_no_msi_x_under_tcg() {
        let nic = Nic::new(NicBackend::VhostUserListen("/s".into()), "52:54:00:00:00:01");
        assert!(nic.arguments(0, Accel::Tcg).join(" ").contains("vectors=0"));
        assert!(!nic.arguments(0, Accel::Kvm).join(" ").contains("vectors"));
    }

    #[test]
    fn settings_reach_the_kernel_command_line() {
        let vm = Vm::new("a", &image(), Accel::Tcg).address("192.0.2.11/24").mtu(1400);
        let line = vm.command_line();
        assert!(line.ends_with("wo.ip=192.0.2.11/24 wo.mtu=1400"), "{line}");
    }
}
