//! A test bed with its guests, and the questions that all tests ask.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use wireonce_qemu_tests::cluster::{Cluster, Ledger, Plan, Profile, VmPlan, daemon_binary};
use wireonce_qemu_tests::guest::{Accel, Guest, Image, Nic, NicBackend, Vm};
use wireonce_qemu_tests::process::wait_until;
use wireonce_qemu_tests::{Error, Result};

/// For one thing to happen: much more than it takes, on a loaded machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// For a guest to boot.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// One server with `vm-a` and `vm-b`, a gateway and the outside.
pub(crate) fn two_on_one_server(tag: &str) -> Plan {
    Plan::new(tag, 1).vm(VmPlan::new("vm-a", 0, 11)).vm(VmPlan::new("vm-b", 0, 12))
}

/// Hosts with their daemons running.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    image: Image,
    accel: Accel,
}

impl Bed {
    pub(crate) fn new(plan: Plan) -> Result<Self> {
        Self::with_config(plan, str::to_owned)
    }

    /// With each host's configuration file changed by `edit`.
    pub(crate) fn with_config(plan: Plan, edit: impl Fn(&str) -> String) -> Result<Self> {
        let image = Image::ensure()?;
        let accel = Accel::detect(&image)?;
        let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
        for host in cluster.hosts() {
            let path = cluster.config_path(host);
            let io = |source| Error::Io { what: path.display().to_string(), source };
            let text = fs::read_to_string(&path).map_err(io)?;
            fs::write(&path, edit(&text)).map_err(io)?;
        }
        cluster.start()?;
        Ok(Self { cluster, image, accel })
    }

    /// A VM of the plan, not started yet.
    pub(crate) fn vm(&self, name: &str) -> Result<Vm> {
        self.cluster.vm(name, &self.image, self.accel)
    }

    pub(crate) fn boot(&self, name: &str) -> Result<Guest> {
        self.vm(name)?.boot_in(self.cluster.server_of(name)?)
    }

    /// Boots a VM whose NIC has more properties of QEMU's `virtio-net-pci`, and no `host_mtu`.
    pub(crate) fn boot_with(&self, name: &str, properties: &[&str]) -> Result<Guest> {
        let plan = self.cluster.plan().vms.iter().find(|vm| vm.name == name);
        let plan = plan.ok_or_else(|| Error::Unexpected(format!("no VM {name}")))?;
        let socket = NicBackend::VhostUserConnect(self.cluster.vnic_socket(name));
        let mut nic = Nic::new(socket, &plan.mac());
        nic.properties = properties.iter().map(ToString::to_string).collect();
        Vm::new(name, &self.image, self.accel)
            .nic(nic)
            .address(&format!("{}/24", plan.address()))
            .boot_in(self.cluster.server_of(name)?)
    }

    /// The folder of the guest kernel's modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.image.kernel.with_file_name("../lib/modules")
    }

    /// Boots `vm-a` and `vm-b` side by side.
    pub(crate) fn boot_both(&self) -> Result<(Guest, Guest)> {
        let start = |name| self.vm(name)?.start_in(self.cluster.server_of(name)?);
        let (a, b) = (start("vm-a")?, start("vm-b")?);
        Ok((a.ready()?, b.ready()?))
    }

    /// Waits for a first answer from the outside; then all of five pings must be answered.
    pub(crate) fn must_reach_outside(&self, guest: &mut Guest) -> Result<()> {
        self.must_reach(guest, self.cluster.outside_address())
    }

    pub(crate) fn must_reach(&self, guest: &mut Guest, to: IpAddr) -> Result<()> {
        let first = wait_until(&format!("an answer of {to}"), LIMIT, || {
            let ping = guest.try_run(&format!("ping -c 1 -W 1 {to}"), LIMIT)?;
            Ok((ping.status == 0).then_some(()))
        });
        first.map_err(|error| self.explain(&error))?;
        let all = guest.run(&format!("ping -c 5 -i 0.1 -W 5 {to} | grep ' 0% packet loss'"), LIMIT);
        all.map(drop).map_err(|error| self.explain(&error))
    }

    /// Waits until the books of all running daemons close: what is on its way arrives, and the
    /// evidence of it.
    pub(crate) fn must_close(&self) -> Result<()> {
        let mut holes = Vec::new();
        let closed = wait_until("the closing of all ledgers", LIMIT, || {
            holes.clear();
            for (index, host) in self.cluster.hosts().iter().enumerate() {
                let status = self.cluster.status(index)?;
                holes.extend(
                    status.holes().into_iter().map(|hole| format!("{}: {hole}", host.name)),
                );
            }
            Ok(holes.is_empty().then_some(()))
        });
        closed.map_err(|error| self.explain(&Error::Unexpected(format!("{error}: {holes:#?}"))))
    }

    /// One account of a host.
    pub(crate) fn account(&self, host: usize, name: &str, stage: &str) -> Result<Ledger> {
        let status = self.cluster.status(host)?;
        let account = status.account(name, stage).cloned();
        account.ok_or_else(|| Error::Unexpected(format!("no books of {name} at {stage}")))
    }

    /// One field of a vNIC in the status of its server.
    pub(crate) fn vnic_field(
        &self,
        host: usize,
        name: &str,
        field: &str,
    ) -> Result<serde_json::Value> {
        let status = self.cluster.status(host)?;
        let named = |vnic: &&serde_json::Value| vnic.get("name").is_some_and(|it| it == name);
        let value = status.vnics.iter().find(named).and_then(|vnic| vnic.get(field));
        value.cloned().ok_or_else(|| Error::Unexpected(format!("no {field} of {name}")))
    }

    /// The error with the last words and the books of all daemons.
    pub(crate) fn explain(&self, error: &Error) -> Error {
        let mut text = error.to_string();
        for (index, host) in self.cluster.hosts().iter().enumerate() {
            text += &format!("\n--- {} said:\n{}", host.name, self.cluster.log(index));
            let Ok(status) = self.cluster.status(index) else { continue };
            text += &format!("\n{:#?}\n{:?}", status.ledger, status.links);
        }
        Error::Unexpected(text)
    }
}
