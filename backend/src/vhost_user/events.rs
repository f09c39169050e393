//! What the worker is told about a vNIC's rings.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::virtqueue::{GuestMemory, RingConfig};

/// Everything that a worker needs to serve one ring.
#[derive(Debug)]
pub struct RingStart {
    /// Ring index: receive ring of pair `k` is `2k`, transmit ring `2k + 1`,
    /// both from the guest's point of view.
    pub index: u16,
    /// Size, addresses, base and features.
    pub config: RingConfig,
    /// The guest's memory now; held as long as the ring uses it.
    pub memory: Arc<GuestMemory>,
    /// Readable when the guest added buffers. A ring never starts without one.
    pub kick: Option<OwnedFd>,
    /// Written to interrupt the guest. May come later, by [`PortEvents::ring_call`]:
    /// QEMU sends it after the kick. Interrupt once when it arrives.
    pub call: Option<OwnedFd>,
    /// Written when the ring is broken.
    pub err: Option<OwnedFd>,
    /// Whether frames may pass. A started but disabled ring discards what the
    /// guest sends (vhost-user, "Ring states").
    pub enabled: bool,
}

/// The worker's side of one vNIC.
///
/// Calls come from that vNIC's protocol thread, one at a time, in this order:
/// `connected`, anything else, `disconnected`; and again for the next VMM. A
/// VMM waits for most of them while it holds its own big lock, so they should
/// be short: 100 ms is long, and the session is given up after ten seconds.
pub trait PortEvents: Send + Sync + 'static {
    /// A VMM connected.
    fn connected(&self);

    /// The driver acknowledged these virtio features (never bit 30, which is
    /// the transport's). Not called for a legacy driver, whose rings never start.
    fn features_acked(&self, features: u64);

    /// Serve this ring. An error is written to the log and leaves the ring
    /// stopped; the session goes on, because a guest can choose the addresses.
    fn ring_started(&self, start: RingStart) -> Result<(), String>;

    /// Blocks until the worker has let go of the ring and its memory (bounded,
    /// about a second). Returns the next available index, which is what the
    /// VMM gets as the ring's base.
    fn ring_stopped(&self, index: u16) -> u16;

    /// The VMM enabled or disabled a started ring.
    fn ring_enabled(&self, index: u16, enabled: bool);

    /// The interrupt of a started ring was replaced.
    fn ring_call(&self, index: u16, call: Option<OwnedFd>);

    /// The memory table changed while rings run: blocks until the worker uses
    /// the new one and has dropped the old one. A running ring may no longer lie
    /// in the new one: it is then served no more, until it is stopped.
    fn memory_replaced(&self, memory: Arc<GuestMemory>);

    /// The VMM asks for an announcement of the vNIC's MAC address (SEND_RARP): after a
    /// migration, or because its operator wants one. There may be many.
    fn announce(&self);

    /// The VMM is gone. All rings are stopped and the worker has dropped the
    /// memory before this returns.
    fn disconnected(&self);
}

impl fmt::Debug for dyn PortEvents {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PortEvents")
    }
}
