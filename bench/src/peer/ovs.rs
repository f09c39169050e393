//! Open vSwitch with its userspace datapath: DPDK for guests, AF_XDP for the wire, VXLAN between.
//!
//! Its own database, sockets and logs are in a folder of its own, so that several of them run side
//! by side and none meets the machine's. Flows are fixed, port to port: no learning, no flooding;
//! that is the least work that it can have.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use wireonce_qemu_tests::netns::{FABRIC_INTERFACE, Netns};
use wireonce_qemu_tests::process::{Process, run, tail, wait_until};
use wireonce_qemu_tests::{Error, Result};

use crate::bench::{pause_process, resume_process};

/// The switch with DPDK; plain `ovs-vswitchd` may be the one without.
const VSWITCHD: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const START_LIMIT: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(20);
/// Packet buffers, in megabytes of huge pages.
const MEMORY_MB: u32 = 512;

/// A running switch.
#[derive(Debug)]
pub struct Ovs {
    // The switch ends before its database.
    vswitchd: Process,
    _database: Process,
    dir: PathBuf,
}

impl Ovs {
    /// The name in results.
    pub const NAME: &'static str = "OVS-DPDK 3.1";

    /// Starts a switch in `netns`, with its files in `DIR/NAME`; it polls on processor `cpu`.
    ///
    /// # Errors
    /// The package openvswitch-switch-dpdk is missing, or the switch does not start; the message
    /// has the end of its log.
    pub fn start(netns: &Netns, dir: &Path, name: &str, cpu: u32) -> Result<Self> {
        Self::start_by(netns, dir, name, cpu, false)
    }

    /// As [`Self::start`], with super-frames between guests and packet sockets
    /// (`userspace-tso-enable`).
    ///
    /// # Errors
    /// As there.
    pub fn start_with_tso(netns: &Netns, dir: &Path, name: &str, cpu: u32) -> Result<Self> {
        Self::start_by(netns, dir, name, cpu, true)
    }

    fn start_by(netns: &Netns, dir: &Path, name: &str, cpu: u32, tso: bool) -> Result<Self> {
        let dir = fresh_dir(dir.join(name))?;
        let file = |name: &str| dir.join(name).display().to_string();
        run(Command::new("ovsdb-tool").args(["create", &file("conf.db"), SCHEMA]), LIMIT)?;
        let mut database = netns.command("ovsdb-server");
        database.arg(file("conf.db")).arg(format!("--remote=punix:{}", file("db.sock")));
        database.arg(format!("--unixctl={}", file("db.ctl"))).env("OVS_RUNDIR", &dir);
        let mut database = Process::start("ovsdb", &dir, &mut database)?;
        wait_until("the switch's database", START_LIMIT, || {
            database.must_be_alive()?;
            Ok(dir.join("db.sock").exists().then_some(()))
        })?;
        configure(&dir, cpu, tso)?;
        let mut vswitchd = netns.command(VSWITCHD);
        vswitchd.arg(format!("unix:{}", file("db.sock")));
        vswitchd.arg(format!("--unixctl={}", file("vs.ctl"))).arg("-vconsole:info");
        vswitchd.env("OVS_RUNDIR", &dir);
        let mut vswitchd = Process::start("vswitchd", &dir, &mut vswitchd)?;
        let started = wait_until("the switch", START_LIMIT, || {
            vswitchd.must_be_alive()?;
            Ok(vsctl(&dir, &["get", "Open_vSwitch", ".", "dpdk_initialized"])
                .is_ok_and(|answer| answer.trim() == "true")
                .then_some(()))
        });
        started.map_err(|error| {
            Error::Unexpected(format!("{error}: {}", tail(&vswitchd.log(), 10)))
        })?;
        Ok(Self { vswitchd, _database: database, dir })
    }

    /// The switch's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.vswitchd.pid()
    }

    /// Adds a bridge of the userspace datapath.
    ///
    /// # Errors
    /// The switch does not take it.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        let settings = ["set", "bridge", name, "datapath_type=netdev"];
        self.vsctl(&[&["add-br", name, "--"][..], &settings[..]].concat())
    }

    /// Adds a port for a front-end and returns the path of its socket.
    ///
    /// # Errors
    /// The switch does not take it.
    pub fn add_vhost(&self, bridge: &str, port: &str) -> Result<PathBuf> {
        self.add_port(bridge, port, &["type=dpdkvhostuser"])?;
        Ok(self.dir.join(port))
    }

    /// Adds a port that connects to a front-end's socket: the only kind that takes super-frames.
    ///
    /// # Errors
    /// The switch does not take it.
    pub fn add_vhost_client(&self, bridge: &str, port: &str) -> Result<PathBuf> {
        let socket = self.dir.join(format!("{port}.server"));
        let path = format!("options:vhost-server-path={}", socket.display());
        self.add_port(bridge, port, &["type=dpdkvhostuserclient", &path])?;
        Ok(socket)
    }

    /// Adds an interface of the namespace by AF_XDP. Virtual interfaces need no wake-up
    /// (Documentation/intro/install/afxdp.rst).
    ///
    /// # Errors
    /// The kernel or the switch does not take it.
    pub fn add_afxdp(&self, bridge: &str, interface: &str) -> Result<()> {
        let options = ["type=afxdp", "options:use-need-wakeup=false", "options:xdp-mode=native"];
        self.add_port(bridge, interface, &options)
    }

    /// Adds an interface of the namespace by a packet socket.
    ///
    /// # Errors
    /// The kernel or the switch does not take it.
    pub fn add_system(&self, bridge: &str, interface: &str) -> Result<()> {
        self.add_port(bridge, interface, &["type=system"])
    }

    /// Adds a VXLAN tunnel with the network number 100.
    ///
    /// # Errors
    /// The switch does not take it.
    pub fn add_vxlan(&self, bridge: &str, port: &str, remote: IpAddr) -> Result<()> {
        let remote = format!("options:remote_ip={remote}");
        self.add_port(bridge, port, &["type=vxlan", &remote, "options:key=100"])
    }

    /// Makes the host of one guest, whose frames go to `remote` through VXLAN by AF_XDP and back.
    /// Returns the guest's socket.
    ///
    /// # Errors
    /// The kernel or the switch does not take it.
    pub fn vxlan_host(&self, netns: &Netns, local: IpAddr, remote: IpAddr) -> Result<PathBuf> {
        self.add_bridge("br-wire")?;
        self.add_afxdp("br-wire", FABRIC_INTERFACE)?;
        netns.add_address("br-wire", local, 24)?;
        netns.ip("link set br-wire up")?;
        self.add_bridge("br-guest")?;
        let socket = self.add_vhost("br-guest", "vhost0")?;
        self.add_vxlan("br-guest", "vxlan0", remote)?;
        self.join("br-guest", "vhost0", "vxlan0")?;
        Ok(socket)
    }

    /// From now on `bridge` carries frames between the two ports, both ways, and no others.
    ///
    /// # Errors
    /// There is no such bridge or port.
    pub fn join(&self, bridge: &str, a: &str, b: &str) -> Result<()> {
        let target = format!("unix:{}", self.dir.join(format!("{bridge}.mgmt")).display());
        let ofctl = |args: &[&str]| run(Command::new("ovs-ofctl").args(args), LIMIT).map(drop);
        ofctl(&["del-flows", &target])?;
        for (from, to) in [(a, b), (b, a)] {
            ofctl(&["add-flow", &target, &format!("in_port={from},actions=output:{to}")])?;
        }
        Ok(())
    }

    /// Frames from port `from` to `mac` leave by port `to`, whatever [`Self::join`] says.
    ///
    /// # Errors
    /// There is no such bridge or port.
    pub fn steer(&self, bridge: &str, from: &str, mac: &str, to: &str) -> Result<()> {
        let target = format!("unix:{}", self.dir.join(format!("{bridge}.mgmt")).display());
        let flow = format!("priority=40000,in_port={from},dl_dst={mac},actions=output:{to}");
        run(Command::new("ovs-ofctl").args(["add-flow", &target, &flow]), LIMIT).map(drop)
    }

    /// Lets it have no processor time: it polls without end otherwise.
    ///
    /// # Errors
    /// It is gone.
    pub fn pause(&self) -> Result<()> {
        pause_process(self.pid())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It is gone.
    pub fn resume(&self) -> Result<()> {
        resume_process(self.pid())
    }

    fn add_port(&self, bridge: &str, port: &str, settings: &[&str]) -> Result<()> {
        let mut args = vec!["add-port", bridge, port, "--", "set", "interface", port];
        args.extend(settings);
        self.vsctl(&args)?;
        let error = vsctl(&self.dir, &["get", "interface", port, "error"])?;
        if error.trim() == "[]" {
            return Ok(());
        }
        Err(Error::Unexpected(format!("Open vSwitch on {port}: {}", error.trim())))
    }

    fn vsctl(&self, args: &[&str]) -> Result<()> {
        vsctl(&self.dir, args).map(drop)
    }
}

/// An empty folder; one of an earlier case goes.
fn fresh_dir(path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        std::fs::remove_dir_all(&path).map_err(|source| io(&path, source))?;
    }
    std::fs::create_dir_all(&path).map_err(|source| io(&path, source))?;
    Ok(path)
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { what: format!("cannot make {}", path.display()), source }
}

/// What has to stand in the database before the switch starts.
fn configure(dir: &Path, cpu: u32, tso: bool) -> Result<()> {
    let mask = format!("{:#x}", 1u64 << cpu.min(63));
    vsctl(dir, &["--no-wait", "init"])?;
    let settings = [
        "other_config:dpdk-init=true".to_owned(),
        format!("other_config:dpdk-socket-mem={MEMORY_MB}"),
        "other_config:dpdk-extra=\"--in-memory --no-pci\"".to_owned(),
        format!("other_config:dpdk-lcore-mask={mask}"),
        format!("other_config:pmd-cpu-mask={mask}"),
        format!("other_config:userspace-tso-enable={tso}"),
    ];
    let mut args = vec!["--no-wait", "set", "Open_vSwitch", "."];
    args.extend(settings.iter().map(String::as_str));
    vsctl(dir, &args).map(drop)
}

fn vsctl(dir: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("ovs-vsctl");
    command.arg(format!("--db=unix:{}", dir.join("db.sock").display())).args(["-t", "10"]);
    run(command.args(args), LIMIT)
}
