//! Whom we are compared with: programs of Debian, started by the bench itself.

pub mod dpdk_vhost;
pub mod kernel_vxlan;
pub mod ovs;
pub mod qemu_tap;
pub mod vxlan;
