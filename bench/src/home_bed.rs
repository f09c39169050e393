//! One server, two gateways, one outside: for homes that are lost and homes that move.
//!
//! ```text
//!   numbers ─▶ TAP ══ TAP end ══ backend ─┬─ gateway 1 ─ up0 ══ to-gw0 ─┐
//!   [the VM's namespace]                  │                             ├─ bridge out0 ◀─ numbers
//!                                         └─ gateway 2 ─ up0 ══ to-gw1 ─┘  [outside]
//! ```
//! Both ends send numbered datagrams to each other all the time. What came is what the kernel saw at the
//! bridge's two ports and at the TAP, with the kernel's times (tcpdump): nobody has to wake up to
//! see a datagram in time. Other vNICs of the server are in the tables and attached as it is, without a VM.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use wireonce_qemu_tests::capture::Capture;
use wireonce_qemu_tests::cluster::{Cluster, Plan, UPLINK_INTERFACE, VmPlan};
use wireonce_qemu_tests::netns::{Netns, Offloads};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

use crate::bench::Bench;
use crate::numbered::{Beat, Sender, Story};
use crate::suite::wait_links;
use crate::tap_bed::Drops;
use crate::tapend::TapEnd;
use crate::vm_end::{VM_TAP, vm_end};
use crate::{inside, io_error};

/// The server, by its number in the cluster.
pub const SERVER: usize = 0;
/// The gateways.
pub const GATEWAYS: [usize; 2] = [1, 2];
const VM: &str = "vm-a";
const PORT: u16 = 5_400;
/// What is captured: nothing else has this port.
const FILTER: &str = "udp dst port 5400";
/// The bridge outside and its address, so that it stays the same whatever its ports do.
const BRIDGE: &str = "out0";
const BRIDGE_MAC: &str = "52:54:00:99:00:01";
/// A debug build beside other builds, a thousand vNICs.
const LIMIT: Duration = Duration::from_secs(30);
/// What is under way when the senders stop has come after this.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// The bed at work.
#[derive(Debug)]
pub struct HomeBed {
    // Before what they use.
    end: TapEnd,
    vm: Arc<UdpSocket>,
    outside: Arc<UdpSocket>,
    netns: Netns,
    /// The daemons.
    pub cluster: Cluster,
}

impl HomeBed {
    /// Starts it with `vnics` vNICs, all with their home at the first gateway and their standby at the
    /// second; `failover` is the profile.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(bench: &Bench, tag: &str, failover: &'static str, vnics: u16) -> Result<Self> {
        let idle_vnics = vnics.saturating_sub(1);
        let plan = Plan { gateways: 2, failover, idle_vnics, ..Plan::new(tag, 1) };
        Self::of(plan, &bench.binary)
    }

    /// Starts it with what else is planned, and one VM with its home at the first gateway.
    ///
    /// # Errors
    /// Something does not start.
    pub fn of(plan: Plan, binary: &Path) -> Result<Self> {
        let vm = VmPlan { standbys: vec![1], ..VmPlan::new(VM, 0, 11) };
        let plan = plan.vm(vm.clone());
        let mut cluster = Cluster::build(plan, binary)?;
        let outside = cluster.outside();
        // Neighbours are known, so that no question of theirs is lost instead of a datagram.
        outside.ip(&format!("link set {BRIDGE} address {BRIDGE_MAC}"))?;
        set_neighbour(outside, BRIDGE, vm.address(), &vm.mac())?;
        // A gateway joins small frames of a flow; on a wire the NIC cuts them again, here the kernel.
        let cut = Offloads { udp_segmentation: Some(false), ..Offloads::default() };
        for gateway in GATEWAYS {
            cluster.host(gateway)?.netns.set_offloads(UPLINK_INTERFACE, &cut)?;
        }
        cluster.start()?;
        let (end, netns) = vm_end(&cluster, &vm, None)?;
        set_neighbour(&netns, VM_TAP, cluster.outside_address(), BRIDGE_MAC)?;
        let outside = socket(cluster.outside(), cluster.outside_address())?;
        let vm = socket(&netns, vm.address())?;
        let bed = Self { end, vm, outside, netns, cluster };
        bed.explain(wait_links(&bed.cluster, SERVER))?;
        bed.wait_all_at(0)?;
        Ok(bed)
    }

    /// The gateway that the VM's vNIC uses now, by its place in [`GATEWAYS`].
    ///
    /// # Errors
    /// It is attached nowhere, or the server does not answer.
    pub fn home(&self) -> Result<usize> {
        let status = self.cluster.status(SERVER)?;
        let vm = status.vnics.iter().find(|vnic| vnic["name"] == VM);
        let now = vm.and_then(|vnic| vnic["home"]["now"].as_str()).unwrap_or_default();
        let home = (0..GATEWAYS.len()).find(|home| uplink(*home) == now);
        home.ok_or_else(|| Error::Unexpected(format!("{VM} is attached to `{now}`")))
    }

    /// Waits until every vNIC is attached to the uplink of that gateway and the gateway has said so.
    ///
    /// # Errors
    /// They are not in time. The message has the daemons' last lines.
    pub fn wait_all_at(&self, home: usize) -> Result<()> {
        self.end.must_run()?;
        let uplink = uplink(home);
        let all = wait_until(&format!("all vNICs at {uplink}"), LIMIT, || {
            let status = self.cluster.status(SERVER)?;
            let there = |vnic: &serde_json::Value| {
                let home = &vnic["home"];
                home["now"] == uplink.as_str()
                    && home["confirmed"] == true
                    && home["going"].is_null()
            };
            Ok(status.vnics.iter().all(there).then_some(()))
        });
        self.explain(all)
    }

    /// Waits until a gateway that was started again has a link with the server.
    ///
    /// # Errors
    /// It has not in time.
    pub fn wait_link_of(&self, home: usize) -> Result<()> {
        let gateway = GATEWAYS.get(home).copied().unwrap_or_default();
        let server = &self.cluster.host(SERVER)?.name;
        let linked = wait_until("a link with the server", LIMIT, || {
            let links = self.cluster.status(gateway)?.links;
            let up =
                |link: &serde_json::Value| link["peer"] == server.as_str() && link["state"] == "up";
            Ok(links.iter().any(up).then_some(()))
        });
        self.explain(linked)
    }

    /// What the daemons dropped until now.
    ///
    /// # Errors
    /// A daemon does not answer.
    pub fn drops(&self) -> Result<Drops> {
        let all = [SERVER].into_iter().chain(GATEWAYS);
        let statuses: Result<Vec<_>> = all.map(|host| self.cluster.status(host)).collect();
        statuses.map(|statuses| Drops::of(&statuses))
    }

    /// From now on numbers are sent both ways and what comes is written down.
    ///
    /// # Errors
    /// tcpdump does not start.
    pub fn watch(&self, beat: Beat) -> Result<Watch> {
        let capture = |netns: &Netns, interface: &str| {
            Capture::prompt(self.cluster.dir(), netns, interface, FILTER)
        };
        let outside = self.cluster.outside();
        let captures = [
            capture(outside, &port(0))?,
            capture(outside, &port(1))?,
            capture(&self.netns, VM_TAP)?,
        ];
        let vm = self.cluster.vm_address(VM)?;
        let out = Sender::start(&self.vm, (self.cluster.outside_address(), PORT).into(), beat);
        let inward = Sender::start(&self.outside, SocketAddr::new(vm, PORT), beat);
        Ok(Watch { out, inward, captures })
    }

    /// Adds the daemons' last lines to an error.
    ///
    /// # Errors
    /// The one that is given.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let logs = |error| Error::Unexpected(format!("{error}\n{}", self.cluster.all_logs()));
        result.map_err(logs)
    }
}

/// Numbers under way.
#[derive(Debug)]
pub struct Watch {
    // They stop before nobody sees any more what they send.
    out: Sender,
    inward: Sender,
    captures: [Capture; 3],
}

/// What became of them.
#[derive(Debug)]
pub struct Stories {
    /// From the VM to the outside; the ways are the gateways.
    pub out: Story,
    /// From the outside to the VM.
    pub inward: Story,
}

impl Watch {
    /// Ends it.
    ///
    /// # Errors
    /// A sender could not send, or a capture has holes.
    pub fn end(self) -> Result<Stories> {
        let (out, inward) = (self.out.end()?, self.inward.end()?);
        sleep(UNDER_WAY);
        let [first, second, vm] = self.captures;
        let ways = [first.stop()?, second.stop()?];
        Ok(Stories { out: Story::new(out, &ways), inward: Story::new(inward, &[vm.stop()?]) })
    }
}

/// The uplink of a gateway.
#[must_use]
pub fn uplink(home: usize) -> String {
    format!("uplink-{}", home + 1)
}

/// The bridge's port outside that leads to a gateway.
#[must_use]
pub fn port(home: usize) -> String {
    format!("to-gw{home}")
}

fn set_neighbour(netns: &Netns, interface: &str, address: IpAddr, mac: &str) -> Result<()> {
    netns.ip(&format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent"))?;
    Ok(())
}

/// A socket in a namespace. Nobody reads it: it is there so that nothing is refused.
fn socket(netns: &Netns, address: IpAddr) -> Result<Arc<UdpSocket>> {
    let (thread, _) = inside::start(netns, "socket", None, move |ready| {
        let socket = UdpSocket::bind((address, PORT)).map_err(io_error("cannot bind"))?;
        ready.tell();
        Ok(socket)
    })?;
    let socket = thread.join().map_err(|_| Error::Unexpected("no socket".to_owned()))??;
    Ok(Arc::new(socket))
}
