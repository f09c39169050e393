//! Why a session was closed by us.

use thiserror::Error;

/// What a front-end did that ends its session. Each has a counter in the
/// device's status under [`Refusal::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error(
        "message {request} has header flags {flags:#x}: a request has version 1 and no reply bit"
    )]
    Header { request: u32, flags: u32 },
    #[error("message {0} is unknown")]
    Unknown(u32),
    #[error("message {0} belongs to a feature that was not negotiated")]
    NotNegotiated(u32),
    #[error("message {request} has {size} bytes of payload: {expected}")]
    Size { request: u32, size: u32, expected: &'static str },
    #[error("message {request} carries {count} file descriptors: {expected}")]
    Descriptors { request: u32, count: usize, expected: &'static str },
    #[error("the connection ended inside a message")]
    Truncated,
    #[error("ring {index} of message {request} does not exist: there are {rings}")]
    RingIndex { request: u32, index: u64, rings: u16 },
    #[error("ring size {size}: must be a power of two, at most {max}")]
    RingSize { size: u32, max: u16 },
    #[error("ring base {0}: must fit 16 bits")]
    RingBase(u32),
    #[error("ring addresses {0:#x}: reserved flags or not aligned")]
    RingAddresses(u64),
    #[error("message {request} changes ring {index} while it runs")]
    RingRuns { request: u32, index: u16 },
    #[error("ring enable value {0}: must be 0 or 1")]
    Enable(u32),
    #[error("ring event of message {0} is not an eventfd")]
    NotAnEventfd(u32),
    #[error("kick of ring {0} comes without a file descriptor: rings are not polled here")]
    KickWithoutDescriptor(u16),
    #[error("features {0:#x} were never offered")]
    Features(u64),
    #[error("protocol features {0:#x} were never offered")]
    ProtocolFeatures(u64),
    #[error("features change while rings run")]
    FeaturesWhileRunning,
    #[error("the session was claimed twice")]
    OwnedTwice,
    #[error("memory regions: {0} given, at most {1}")]
    RegionCount(u64, usize),
    #[error("memory region {0:#x}: empty, or its end overflows")]
    RegionRange(u64),
    #[error("memory region {guest:#x}: file of {file} bytes ends before {needed}")]
    RegionFile { guest: u64, file: u64, needed: u64 },
    #[error("memory region {0:#x}: not a regular file")]
    RegionKind(u64),
    #[error(
        "memory region {0:#x}: the file is not sealed against shrinking, which this vNIC requires"
    )]
    RegionUnsealed(u64),
    #[error("the protocol daemon refused message {0}")]
    Daemon(u32),
    #[error("the protocol daemon did not answer message {0} in time")]
    Timeout(u32),
    #[error("system error {0}")]
    System(i32),
}

impl Refusal {
    /// The counter's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Header { .. } => "header",
            Self::Unknown(_) => "unknown-message",
            Self::NotNegotiated(_) => "not-negotiated",
            Self::Size { .. } => "payload-size",
            Self::Descriptors { .. } => "file-descriptors",
            Self::Truncated => "truncated",
            Self::RingIndex { .. } => "ring-index",
            Self::RingSize { .. } => "ring-size",
            Self::RingBase(_) => "ring-base",
            Self::RingAddresses(_) => "ring-addresses",
            Self::RingRuns { .. } => "ring-runs",
            Self::Enable(_) => "enable-value",
            Self::NotAnEventfd(_) => "not-an-eventfd",
            Self::KickWithoutDescriptor(_) => "kick-without-fd",
            Self::Features(_) => "features",
            Self::ProtocolFeatures(_) => "protocol-features",
            Self::FeaturesWhileRunning => "features-while-running",
            Self::OwnedTwice => "owned-twice",
            Self::RegionCount(..) => "region-count",
            Self::RegionRange(_) => "region-range",
            Self::RegionFile { .. } => "region-file-short",
            Self::RegionKind(_) => "region-not-a-file",
            Self::RegionUnsealed(_) => "region-unsealed",
            Self::Daemon(_) => "daemon-refused",
            Self::Timeout(_) => "daemon-timeout",
            Self::System(_) => "system-error",
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.raw_os_error().unwrap_or(0))
    }
}
