//! Real guests: a stock Debian kernel under QEMU, built from packages, driven by commands.
//!
//! # Theory of operation
//!
//! No kernel is installed on the host: [`image`] downloads Debian's cloud kernel package, unpacks
//! it into a cache, and packs an initramfs of a static busybox, iperf3 and the virtio drivers.
//! [`vm`] starts QEMU with it; [`qmp`] is QEMU's own control socket. Inside, a small shell loop
//! ([`agent`]) reads commands from a virtio-serial port and answers with output and exit status:
//! the network under test carries none of it. [`accel`] finds out by a real boot whether KVM works.
//!
//! ```text
//!   test --- unix socket --- QEMU --- virtio-serial --- /init in the guest: sh -c COMMAND
//!      \---- unix socket --- QMP
//! ```

pub mod accel;
pub mod agent;
pub mod cpio;
pub mod image;
pub mod qmp;
pub mod vm;

pub use accel::Accel;
pub use image::Image;
pub use vm::{Guest, Nic, NicBackend, Vm};
