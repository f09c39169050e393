//! Why a session was closed by us.

use thiserror::Error;
use vhost::vhost_user::message::FrontendReq;

/// What to do about a VMM that keeps the guest's memory to itself.
const SHARE_MEMORY: &str = "start the VM with shared memory (QEMU: -object \
     memory-backend-memfd,id=mem,share=on,size=... -machine memory-backend=mem)";

/// What a front-end did that ends its session. Each has a counter in the
/// device's status under [`Refusal::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error(
        "{} has header flags {flags:#x}: a request has version 1 and no reply bit",
        name_of(.request)
    )]
    Header { request: u32, flags: u32 },
    #[error("{} is unknown", name_of(.0))]
    Unknown(u32),
    #[error("{} belongs to a feature that was not negotiated", name_of(.0))]
    NotNegotiated(u32),
    #[error("{} has {size} bytes of payload: {expected}", name_of(.request))]
    Size { request: u32, size: u32, expected: &'static str },
    #[error("{} carries {count} file descriptors: {expected}", name_of(.request))]
    Descriptors { request: u32, count: usize, expected: &'static str },
    #[error("the connection ended inside a message")]
    Truncated,
    #[error(
        "the client sent no message within {} s of connecting, as a VMM does at once: \
         it kept the socket from others",
        super::session::FIRST_MESSAGE.as_secs()
    )]
    Silent,
    #[error("ring {index} of {} does not exist: there are {rings}", name_of(.request))]
    RingIndex { request: u32, index: u64, rings: u16 },
    #[error("ring size {size}: must be a power of two, at most {max}")]
    RingSize { size: u32, max: u16 },
    #[error("ring base {0}: must fit 16 bits")]
    RingBase(u32),
    #[error("ring addresses {0:#x}: reserved flags or not aligned")]
    RingAddresses(u64),
    #[error("{} changes ring {index} while it runs", name_of(.request))]
    RingRuns { request: u32, index: u16 },
    #[error("the VMM set up ring {0} (SET_VRING_ADDR), but has shared no guest memory; {share}", share = SHARE_MEMORY)]
    RingWithoutMemory(u16),
    #[error("the VMM's SET_MEM_TABLE is empty: it has shared no guest memory; {share}", share = SHARE_MEMORY)]
    EmptyMemoryTable,
    #[error(
        "the VMM set up ring {index} (SET_VRING_ADDR) at its address {address:#x}, which is in none \
         of the {regions} memory regions it has shared; {share}",
        share = SHARE_MEMORY
    )]
    RingOutsideMemory { index: u16, address: u64, regions: usize },
    #[error("ring enable value {0}: must be 0 or 1")]
    Enable(u32),
    #[error("ring event of {} is not an eventfd", name_of(.0))]
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
    #[error("the protocol daemon refused {}", name_of(.0))]
    Daemon(u32),
    #[error("the protocol daemon did not answer {} in time", name_of(.0))]
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
            Self::Silent => "silent",
            Self::RingIndex { .. } => "ring-index",
            Self::RingSize { .. } => "ring-size",
            Self::RingBase(_) => "ring-base",
            Self::RingAddresses(_) => "ring-addresses",
            Self::RingRuns { .. } => "ring-runs",
            Self::RingWithoutMemory(_) | Self::EmptyMemoryTable => "no-shared-memory",
            Self::RingOutsideMemory { .. } => "ring-outside-memory",
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

/// A message by the specification's name, or its number if it has none.
fn name_of(request: &u32) -> String {
    match FrontendReq::try_from(*request) {
        Ok(known) => format!("{known:?}"),
        Err(()) => format!("message {request}"),
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.raw_os_error().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_named_as_the_specification_does() {
        let request = u32::from(FrontendReq::SET_VRING_ADDR);
        let refused = Refusal::RingRuns { request, index: 1 };
        assert_eq!(refused.to_string(), "SET_VRING_ADDR changes ring 1 while it runs");
        let refused = Refusal::Daemon(request).to_string();
        assert_eq!(refused, "the protocol daemon refused SET_VRING_ADDR");
        assert_eq!(Refusal::Unknown(99).to_string(), "message 99 is unknown");
    }

    #[test]
    fn missing_memory_names_the_cause_and_the_cure() {
        let no_file = Refusal::RingOutsideMemory { index: 0, address: 0x7f00, regions: 2 };
        for refused in [Refusal::RingWithoutMemory(0), Refusal::EmptyMemoryTable, no_file] {
            let text = refused.to_string();
            assert!(text.contains("shared"), "{text}");
            assert!(text.contains("memory-backend-memfd,id=mem,share=on"), "{text}");
            assert!(text.contains("-machine memory-backend=mem"), "{text}");
        }
    }
}
