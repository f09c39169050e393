//! Work that a frame's sender left to whoever sends it on: a checksum to
//! complete, a large TCP segment to cut (virtio 1.2, section 5.1.6).

/// Length of the virtio-net header of a modern device (virtio 1.2, 5.1.6:
/// `num_buffers` is always there once `VIRTIO_F_VERSION_1` is negotiated).
pub const VNET_HEADER_LEN: usize = 12;

/// A checksum that the sender left open: the ones' complement sum from `start`
/// to the end of the frame belongs at `start + offset`, whose two bytes hold
/// the pseudo-header's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// First byte of the frame that is summed.
    pub start: u16,
    /// Where the sum goes, from `start` on: 16 for TCP, 6 for UDP.
    pub offset: u8,
}

/// What kind of large segment a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
}

/// A frame that must be cut into segments of `size` payload bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gso {
    /// Which headers are repeated.
    pub kind: GsoKind,
    /// TCP payload bytes of each segment but the last; never 0.
    pub size: u16,
    /// The TCP segment carries CWR, which only the first piece may keep.
    pub ecn: bool,
}

/// The offload state of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// A checksum still to be completed.
    pub checksum: Option<ChecksumRequest>,
    /// The checksum was verified by somebody we trust; never set from a guest.
    pub checksum_valid: bool,
    /// A large segment still to be cut.
    pub gso: Option<Gso>,
}
