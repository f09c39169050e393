//! Servers, gateways and the outside, with the `wireonce` daemons between them.
//!
//! # Theory of operation
//!
//! A [`Plan`] says what there is; [`Cluster::build`] makes the namespaces, the fabric, the keys and
//! the configuration files; [`Cluster::start`] starts a daemon on each host. Tests and the demo use
//! the same code, so what the demo shows is what the tests test.
//!
//! ```text
//!   VMs 192.0.2.11.. -- [server-a 10.77.0.1]--+
//!                                             +--[fabric]--[gateway-a 10.77.0.101]--up0 == out0--[outside 192.0.2.1]
//!   VMs ----------------[server-b 10.77.0.2]--+
//! ```

mod checks;
mod config;
mod control;
mod daemon;
mod metrics;
mod plan;
mod status;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use checks::Books;
pub use control::Control;
pub use daemon::{NOBODY, Profile, daemon_binary};
pub use plan::{Plan, Role, UplinkDriver, VmPlan};
pub use status::{Amount, Configuration, Ledger, Status};

use crate::error::{Context, Error, Result};
use crate::guest::{Accel, Image, Nic, NicBackend, Vm};
use crate::netns::{End, FABRIC_INTERFACE, Fabric, Netns, Offloads, join};
use crate::process::{Process, run, tail, wait_until};
use crate::watchdog::TempDir;

const LIMIT: Duration = Duration::from_secs(20);
/// The outside's interface, and its address.
const OUTSIDE_INTERFACE: &str = "out0";
/// A gateway's interface to the outside.
pub const UPLINK_INTERFACE: &str = "up0";

/// One host of the cluster.
#[derive(Debug)]
pub struct Host {
    // Before the namespace, so that the daemon ends first.
    daemon: Option<Process>,
    /// Its namespace.
    pub netns: Netns,
    /// Its name in the configuration, such as `server-a`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its address on the fabric.
    pub address: IpAddr,
    /// The last byte of that address.
    number: u8,
    public_key: String,
}

impl Host {
    /// Its daemon, if it was started.
    pub fn daemon(&mut self) -> Option<&mut Process> {
        self.daemon.as_mut()
    }
}

/// A test bed; dropping it removes everything.
#[derive(Debug)]
pub struct Cluster {
    hosts: Vec<Host>,
    control: Option<Control>,
    outside: Netns,
    fabric: Fabric,
    plan: Plan,
    binary: PathBuf,
    dir: TempDir,
}

impl Cluster {
    /// Makes namespaces, wires, keys and configuration files for the daemons of `binary`.
    ///
    /// # Errors
    /// No right to do so, or `wireonce keygen` fails.
    pub fn build(plan: Plan, binary: &Path) -> Result<Self> {
        let dir = TempDir::new(&plan.tag)?;
        let binary = if plan.unprivileged {
            daemon::hand_over(dir.path())?;
            daemon::copy_of(binary, dir.path())?
        } else {
            binary.to_owned()
        };
        let fabric = Fabric::new(&plan.tag, plan.fabric_mtu, plan.fabric_offloads)?;
        let outside = Netns::new(&plan.tag, "outside")?;
        let mut cluster =
            Self { hosts: Vec::new(), control: None, outside, fabric, plan, binary, dir };
        let servers = (0..cluster.plan.servers).map(|n| (Role::Backend, "server", n, n + 1));
        let gateways = (0..cluster.plan.gateways).map(|n| (Role::Gateway, "gateway", n, n + 101));
        for (role, kind, number, host_part) in servers.chain(gateways) {
            cluster.add_host(role, &host_name(kind, number), host_part)?;
        }
        cluster.wire_outside()?;
        cluster.write_configs()?;
        Ok(cluster)
    }

    /// Ends all daemons, changes the plan, and starts them again with new configurations. VMs stay:
    /// their VMMs reconnect. Only what `change` does to the fabric, the encryption, the workers and
    /// the paths has an effect.
    ///
    /// # Errors
    /// A daemon does not end or start in time; the kernel refuses the change.
    pub fn refit(&mut self, change: impl FnOnce(&mut Plan)) -> Result<()> {
        for index in 0..self.hosts.len() {
            self.stop_daemon(index)?;
        }
        change(&mut self.plan);
        for host in &mut self.hosts {
            host.address = fabric_address(&self.plan, host.number);
        }
        self.refit_fabric()?;
        self.write_configs()?;
        self.start()
    }

    /// Changes the plan under the running daemons: writes new files and has the hosts `order` read
    /// them, one after the other. All of them must take theirs. Wires and hosts stay as they are.
    ///
    /// # Errors
    /// A daemon refuses its file, or could not do all of it.
    pub fn change(&mut self, order: &[usize], change: impl FnOnce(&mut Plan)) -> Result<()> {
        self.write_plan(change)?;
        for &index in order {
            let before = self.status(index)?.configuration.number;
            let taken = self.reload(index)?;
            let is_new = taken.number == before + 1 && taken.refused.is_none();
            if !is_new || !taken.troubles.is_empty() {
                let name = &self.host(index)?.name;
                return Err(Error::Unexpected(format!("{name} did not take it: {taken:?}")));
            }
        }
        Ok(())
    }

    /// Changes the plan and writes new files, which nobody reads yet.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_plan(&mut self, change: impl FnOnce(&mut Plan)) -> Result<()> {
        change(&mut self.plan);
        self.write_configs()
    }

    /// Has the daemon of one host read its file again, and waits until it has (its log says so).
    /// Returns what it serves then.
    ///
    /// # Errors
    /// It does not do so in time.
    pub fn reload(&self, index: usize) -> Result<Configuration> {
        let host = self.host(index)?;
        let daemon = host.daemon.as_ref();
        let daemon = daemon.ok_or_else(|| Error::Unexpected(format!("{} is down", host.name)))?;
        let reloads = || {
            let ends = ["serving another configuration", "configuration refused", "is the same"];
            ends.iter().map(|end| daemon.log().matches(end).count()).sum::<usize>()
        };
        let before = reloads();
        run(Command::new("kill").args(["-HUP", &daemon.pid().to_string()]), LIMIT)?;
        wait_until(&format!("{} to read its file", host.name), LIMIT, || {
            Ok((reloads() > before).then_some(()))
        })?;
        wait_until("a status", LIMIT, || Ok(self.status(index).ok()))
            .map(|status| status.configuration)
    }

    /// Changes the offloads of the hosts' fabric interfaces under the running daemons.
    ///
    /// # Errors
    /// The kernel refuses the change.
    pub fn set_fabric_offloads(&mut self, offloads: Offloads) -> Result<()> {
        self.plan.fabric_offloads = offloads;
        self.refit_fabric()
    }

    fn refit_fabric(&mut self) -> Result<()> {
        let Plan { fabric_mtu, fabric_offloads, .. } = self.plan;
        self.fabric.refit(self.hosts.iter().map(|host| &host.netns), fabric_mtu, fabric_offloads)
    }

    /// Starts the daemon of every host and waits until each answers.
    ///
    /// # Errors
    /// One ends or does not answer; the message has the end of its log.
    pub fn start(&mut self) -> Result<()> {
        if self.plan.controlled && self.control.is_none() {
            self.start_control()?;
        }
        for index in 0..self.hosts.len() {
            self.start_daemon(index)?;
        }
        Ok(())
    }

    /// Starts the daemon of one host (again) and waits until it answers.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_daemon(&mut self, index: usize) -> Result<()> {
        let log_dir = self.dir.path().to_owned();
        let binary = self.binary.clone();
        let host = self.host(index)?;
        let mut command = if self.plan.unprivileged {
            let capabilities = self.plan.capabilities(host.role);
            daemon::unprivileged_command(&host.netns, &binary, capabilities)
        } else {
            host.netns.command(&binary.to_string_lossy())
        };
        command.arg(host.role.name()).arg("--config").arg(self.config_path(host));
        let daemon = Process::start(&host.name, &log_dir, &mut command)?;
        let name = host.name.clone();
        if let Some(host) = self.hosts.get_mut(index) {
            host.daemon = Some(daemon);
        }
        wait_until(&format!("an answer of {name}"), LIMIT, || {
            self.must_run(index)?;
            Ok(self.status(index).ok().map(drop))
        })
        .map_err(|error| Error::Unexpected(format!("{error}; its log: {}", self.log(index))))
    }

    /// The process id of the daemon of one host, if it was started.
    #[must_use]
    pub fn daemon_pid(&self, index: usize) -> Option<u32> {
        self.hosts.get(index)?.daemon.as_ref().map(Process::pid)
    }

    /// Kills the daemon of one host as `kill -9` does.
    ///
    /// # Errors
    /// There is no such host.
    pub fn kill_daemon(&mut self, index: usize) -> Result<()> {
        self.host_mut(index)?.daemon = None;
        Ok(())
    }

    /// Asks the daemon of one host to end (SIGTERM) and returns whether it ended with success.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop_daemon(&mut self, index: usize) -> Result<bool> {
        match self.host_mut(index)?.daemon.take() {
            Some(mut daemon) => Ok(daemon.terminate(LIMIT)?.success()),
            None => Ok(true),
        }
    }

    /// What the daemon of one host tells about itself.
    ///
    /// # Errors
    /// It does not answer, or says something else.
    pub fn status(&self, index: usize) -> Result<Status> {
        let socket = self.control_socket(self.host(index)?);
        let mut command = Command::new(&self.binary);
        command.args(["status", "--json", "--socket"]).arg(socket);
        Status::parse(&run(&mut command, LIMIT)?)
    }

    /// Starts no VM yet: describes the one called `name` for [`Vm::boot_in`] or
    /// [`Vm::start_in`] on its server's namespace.
    ///
    /// # Errors
    /// There is no such VM in the plan.
    pub fn vm(&self, name: &str, image: &Image, accel: Accel) -> Result<Vm> {
        let plan = self.vm_plan(name)?;
        let socket = self.vnic_socket(name);
        let backend = if self.plan.backend_listens {
            NicBackend::VhostUserConnect(socket)
        } else {
            NicBackend::VhostUserListen(socket)
        };
        let mut nic = Nic::new(backend, &plan.mac());
        nic.queue_pairs = plan.queue_pairs;
        nic.host_mtu = Some(self.plan.network_mtu);
        Ok(Vm::new(name, image, accel).nic(nic).address(&format!("{}/24", plan.address())))
    }

    /// The namespace of the server of the VM called `name`.
    ///
    /// # Errors
    /// There is no such VM in the plan.
    pub fn server_of(&self, name: &str) -> Result<&Netns> {
        let server = self.vm_plan(name)?.server;
        self.host(server).map(|host| &host.netns)
    }

    /// The address of the VM called `name`.
    ///
    /// # Errors
    /// There is no such VM in the plan.
    pub fn vm_address(&self, name: &str) -> Result<IpAddr> {
        self.vm_plan(name).map(VmPlan::address)
    }

    /// All hosts: servers first, then gateways.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// One host.
    ///
    /// # Errors
    /// There is no such host.
    pub fn host(&self, index: usize) -> Result<&Host> {
        self.hosts.get(index).ok_or_else(|| no_host(index))
    }

    /// The network outside the gateways.
    #[must_use]
    pub fn outside(&self) -> &Netns {
        &self.outside
    }

    /// The outside's address.
    #[must_use]
    pub fn outside_address(&self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, 1).into()
    }

    /// The wires between the hosts.
    #[must_use]
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The plan that it was built by.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where logs, keys, sockets and configuration files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The vhost-user socket of a VM.
    #[must_use]
    pub fn vnic_socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.sock"))
    }

    /// The socket of a VM's console.
    #[must_use]
    pub fn console_socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.console"))
    }

    /// The control socket of a host's daemon.
    #[must_use]
    pub fn control_socket(&self, host: &Host) -> PathBuf {
        self.dir.path().join(format!("{}.control", host.name))
    }

    /// The configuration file of a host.
    #[must_use]
    pub fn config_path(&self, host: &Host) -> PathBuf {
        self.dir.path().join(format!("{}.toml", host.name))
    }

    /// The last lines that the daemon of one host wrote.
    #[must_use]
    pub fn log(&self, index: usize) -> String {
        let daemon = self.hosts.get(index).and_then(|host| host.daemon.as_ref());
        daemon.map(|daemon| tail(&daemon.log(), 20)).unwrap_or_default()
    }

    fn key_path(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.key"))
    }

    fn must_run(&mut self, index: usize) -> Result<()> {
        match self.host_mut(index)?.daemon.as_mut() {
            Some(daemon) => daemon.must_be_alive(),
            None => Ok(()),
        }
    }

    fn host_mut(&mut self, index: usize) -> Result<&mut Host> {
        self.hosts.get_mut(index).ok_or_else(|| no_host(index))
    }

    fn vm_plan(&self, name: &str) -> Result<&VmPlan> {
        let found = self.plan.vms.iter().find(|vm| vm.name == name);
        found.ok_or_else(|| Error::Unexpected(format!("no VM `{name}` in the plan")))
    }

    fn add_host(&mut self, role: Role, name: &str, host_part: usize) -> Result<()> {
        let netns = Netns::new(&self.plan.tag, name)?;
        let last = u8::try_from(host_part)
            .map_err(|_| Error::Unexpected(format!("host number {host_part} is over 255")))?;
        let addresses = [ipv4_address(last), ipv6_address(last)];
        if self.plan.direct {
            self.wire_directly(&netns, &addresses)?;
        } else {
            self.fabric.attach(&netns, self.hosts.len(), &addresses)?;
        }
        let address = fabric_address(&self.plan, last);
        let public_key = self.make_key(name)?;
        let name = name.to_owned();
        let host = Host { daemon: None, netns, name, role, address, number: last, public_key };
        self.hosts.push(host);
        Ok(())
    }

    /// The second host is wired to the first one; the first one waits for it.
    fn wire_directly(&self, netns: &Netns, addresses: &[IpAddr]) -> Result<()> {
        let Plan { fabric_mtu, fabric_offloads, .. } = self.plan;
        let Some(first) = self.hosts.first() else { return Ok(()) };
        if self.hosts.len() > 1 {
            return Err(Error::Unexpected("one wire joins two hosts, no more".to_owned()));
        }
        let ends = [&first.netns, netns].map(|netns| End { netns, interface: FABRIC_INTERFACE });
        join(ends[0], ends[1], fabric_mtu)?;
        for (end, number) in [(ends[0], Some(first.number)), (ends[1], None)] {
            end.netns.set_offloads(end.interface, &fabric_offloads)?;
            let own = number.map(|number| [ipv4_address(number), ipv6_address(number)]);
            for &address in own.as_ref().map_or(addresses, |own| own.as_slice()) {
                let prefix = if address.is_ipv4() { 24 } else { 64 };
                end.netns.add_address(end.interface, address, prefix)?;
            }
        }
        Ok(())
    }

    fn write_configs(&self) -> Result<()> {
        for host in &self.hosts {
            let path = self.config_path(host);
            fs::write(&path, config::render(self, host)?)
                .context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Makes a host's private key and returns the public one.
    fn make_key(&self, name: &str) -> Result<String> {
        let path = self.key_path(name);
        let mut command = Command::new(&self.binary);
        command.arg("keygen").arg(&path);
        let text = run(&mut command, LIMIT)?;
        if self.plan.unprivileged {
            daemon::hand_over(&path)?;
        }
        let is_key = |word: &&str| word.len() == 44 && word.ends_with('=');
        let key = text.split_whitespace().find(is_key);
        key.map(str::to_owned).ok_or_else(|| {
            Error::Unexpected(format!("`wireonce keygen` printed no public key: {text}"))
        })
    }

    /// One gateway is wired to the outside directly; several share a bridge there.
    fn wire_outside(&self) -> Result<()> {
        let gateways: Vec<_> =
            self.hosts.iter().filter(|host| host.role == Role::Gateway).collect();
        let shared = gateways.len() != 1;
        if shared {
            self.outside.ip(&format!("link add {OUTSIDE_INTERFACE} type bridge"))?;
            self.outside.ip(&format!("link set {OUTSIDE_INTERFACE} addrgenmode none up"))?;
        }
        for (number, gateway) in gateways.iter().enumerate() {
            let port = if shared { format!("to-gw{number}") } else { OUTSIDE_INTERFACE.to_owned() };
            let outer = End { netns: &self.outside, interface: &port };
            match self.plan.driver {
                UplinkDriver::Packet => {
                    let inner = End { netns: &gateway.netns, interface: UPLINK_INTERFACE };
                    join(inner, outer, self.plan.network_mtu)?;
                }
                UplinkDriver::Tap => self.wire_tap(&gateway.netns, outer)?,
            }
            if shared {
                self.outside.ip(&format!("link set {port} master {OUTSIDE_INTERFACE}"))?;
            }
        }
        self.outside.add_address(OUTSIDE_INTERFACE, self.outside_address(), 24)
    }

    /// A TAP device for the daemon, bridged to the wire.
    fn wire_tap(&self, gateway: &Netns, outer: End<'_>) -> Result<()> {
        join(End { netns: gateway, interface: "wire0" }, outer, self.plan.network_mtu)?;
        gateway.ip("link add br0 type bridge mcast_snooping 0")?;
        let user = match self.plan.unprivileged {
            true => format!(" user {NOBODY}"),
            false => String::new(),
        };
        gateway.ip(&format!("tuntap add {UPLINK_INTERFACE} mode tap vnet_hdr{user}"))?;
        if self.plan.unprivileged {
            gateway.ip(&format!("link set {UPLINK_INTERFACE} up"))?;
        }
        for interface in ["wire0", UPLINK_INTERFACE] {
            gateway.ip(&format!("link set {interface} master br0"))?;
        }
        for interface in ["br0", UPLINK_INTERFACE] {
            gateway.ip(&format!("link set {interface} addrgenmode none up"))?;
        }
        Ok(())
    }
}

/// `server-a`, `server-b`...; from the 27th on, by number.
fn host_name(kind: &str, number: usize) -> String {
    match u8::try_from(number).ok().filter(|n| *n < 26) {
        Some(n) => format!("{kind}-{}", char::from(b'a' + n)),
        None => format!("{kind}-{number}"),
    }
}

/// The address that the daemon of host `number` uses; the host has the other one, too.
fn fabric_address(plan: &Plan, number: u8) -> IpAddr {
    if plan.fabric_ipv6 { ipv6_address(number) } else { ipv4_address(number) }
}

fn ipv4_address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, number).into()
}

fn ipv6_address(number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()).into()
}

fn no_host(index: usize) -> Error {
    Error::Unexpected(format!("no host number {index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_by_letters_then_numbers() {
        assert_eq!(host_name("server", 1), "server-b");
        assert_eq!(host_name("server", 26), "server-26");
    }
}
