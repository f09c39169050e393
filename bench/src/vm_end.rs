//! A VM of a cluster without its guest: a namespace whose TAP has its addresses, joined to its vNIC.

use wireonce_qemu_tests::Result;
use wireonce_qemu_tests::cluster::{Cluster, VmPlan};
use wireonce_qemu_tests::netns::Netns;

use crate::tapend::{TapEnd, make_tap};

/// The TAP in the VM's namespace.
pub const VM_TAP: &str = "tap0";

/// Starts the end of `vm`, whose backend runs; its thread is on processor `cpu`, or anywhere. Keep the
/// namespace for as long as the end.
///
/// # Errors
/// There is such a namespace, or the backend refuses something.
pub fn vm_end(cluster: &Cluster, vm: &VmPlan, cpu: Option<u32>) -> Result<(TapEnd, Netns)> {
    let plan = cluster.plan();
    let netns = Netns::new(&plan.tag, &vm.name)?;
    make_tap(&netns, VM_TAP, plan.network_mtu)?;
    netns.ip(&format!("link set {VM_TAP} address {}", vm.mac()))?;
    netns.add_address(VM_TAP, vm.address(), 24)?;
    let end = TapEnd::start(&netns, VM_TAP, &cluster.vnic_socket(&vm.name), cpu)?;
    Ok((end, netns))
}
