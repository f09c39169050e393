//! The shape of vhost-user messages: what may be in one, before what it means.
//!
//! ```text
//!   0        4        8        12
//!   | request | flags  | size   | payload (size bytes) ...      + descriptors
//!               bit 0-1 version (1), 2 reply, 3 need_reply
//! ```
//! All numbers are in the host's byte order. Everything here is pure.

use std::fs::File;

use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures};

use super::memory::FileId;
use super::refusal::Refusal;

/// Length of a message's header in bytes.
pub(super) const HEADER_LEN: usize = 12;
/// Largest payload. The longest one that we accept, a table of 32 memory
/// regions, has 1,032 bytes.
pub(super) const PAYLOAD_MAX: usize = 4096;
/// Most descriptors with one message: one for each region of a memory table.
pub(super) const DESCRIPTORS_MAX: usize = 32;
/// "No descriptor comes with this ring event."
pub(super) const NO_DESCRIPTOR_FLAG: u64 = 0x100;

const VERSION: u32 = 1;
const REPLY_FLAG: u32 = 4;
const NEED_REPLY_FLAG: u32 = 8;

/// A request whose header is sound and whose payload has the right size.
#[derive(Debug)]
pub(super) struct Message {
    pub request: FrontendReq,
    pub need_reply: bool,
    pub payload: Vec<u8>,
    /// Closed when the message is dropped.
    pub files: Vec<File>,
    /// Which files these are, for memory regions.
    pub file_ids: Vec<FileId>,
}

/// A checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub request: FrontendReq,
    pub need_reply: bool,
    /// Payload bytes that follow.
    pub size: usize,
}

/// How the daemon answers a request that we pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// With a payload of its own, always.
    Always,
    /// With a status, if the front-end asked for one.
    Status,
}

/// What a request may look like.
#[derive(Debug, Clone, Copy)]
struct Shape {
    size: Size,
    files: Files,
    answer: Answer,
    /// Protocol feature that must have been negotiated.
    needs: VhostUserProtocolFeatures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Exactly(usize),
    /// Count, then 32 bytes for each region.
    MemoryTable,
    /// Offset, size, flags, then `size` bytes.
    ConfigSpace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    None,
    One,
    /// One, unless the payload says that none comes.
    RingEvent,
    /// As many as the table has regions.
    Regions,
    /// None; one is tolerated and closed (vhost-user, REM_MEM_REG).
    Tolerated,
}

/// The requests that a virtio-net back-end with our features can get. `None`
/// is a request that only makes sense with a feature that is not offered.
fn shape(request: FrontendReq) -> Option<Shape> {
    use FrontendReq as R;
    type P = VhostUserProtocolFeatures;
    let none = P::empty();
    let slots = P::CONFIGURE_MEM_SLOTS;
    let shape = |size, files, answer, needs| Some(Shape { size, files, answer, needs });
    match request {
        R::GET_FEATURES | R::GET_PROTOCOL_FEATURES => {
            shape(Size::Exactly(0), Files::None, Answer::Always, none)
        }
        R::SET_FEATURES | R::SET_PROTOCOL_FEATURES => {
            shape(Size::Exactly(8), Files::None, Answer::Status, none)
        }
        R::SET_OWNER | R::RESET_OWNER => shape(Size::Exactly(0), Files::None, Answer::Status, none),
        R::SET_MEM_TABLE => shape(Size::MemoryTable, Files::Regions, Answer::Status, none),
        R::SET_VRING_NUM | R::SET_VRING_BASE | R::SET_VRING_ENABLE => {
            shape(Size::Exactly(8), Files::None, Answer::Status, none)
        }
        R::SET_VRING_ADDR => shape(Size::Exactly(40), Files::None, Answer::Status, none),
        R::GET_VRING_BASE => shape(Size::Exactly(8), Files::None, Answer::Always, none),
        R::SET_VRING_KICK | R::SET_VRING_CALL | R::SET_VRING_ERR => {
            shape(Size::Exactly(8), Files::RingEvent, Answer::Status, none)
        }
        R::GET_QUEUE_NUM => shape(Size::Exactly(0), Files::None, Answer::Always, P::MQ),
        R::SEND_RARP => shape(Size::Exactly(8), Files::None, Answer::Status, P::RARP),
        R::NET_SET_MTU => shape(Size::Exactly(8), Files::None, Answer::Status, P::MTU),
        R::GET_CONFIG => shape(Size::ConfigSpace, Files::None, Answer::Always, P::CONFIG),
        R::SET_CONFIG => shape(Size::ConfigSpace, Files::None, Answer::Status, P::CONFIG),
        R::GET_MAX_MEM_SLOTS => shape(Size::Exactly(0), Files::None, Answer::Always, slots),
        R::ADD_MEM_REG => shape(Size::Exactly(40), Files::One, Answer::Status, slots),
        R::REM_MEM_REG => shape(Size::Exactly(40), Files::Tolerated, Answer::Status, slots),
        _ => None,
    }
}

/// Checks a header: known request, version, flags, negotiated, size in bounds.
/// Nothing is allocated before this passed.
pub(super) fn parse_header(
    bytes: &[u8; HEADER_LEN],
    negotiated: VhostUserProtocolFeatures,
) -> Result<Header, Refusal> {
    let (request_id, flags, size) = (word(bytes, 0), word(bytes, 4), word(bytes, 8));
    if flags & !NEED_REPLY_FLAG != VERSION {
        return Err(Refusal::Header { request: request_id, flags });
    }
    let request = FrontendReq::try_from(request_id).map_err(|()| Refusal::Unknown(request_id))?;
    let shape = shape(request).ok_or(Refusal::NotNegotiated(request_id))?;
    if !negotiated.contains(shape.needs) {
        return Err(Refusal::NotNegotiated(request_id));
    }
    let wrong = |expected| Refusal::Size { request: request_id, size, expected };
    let size = usize::try_from(size).map_err(|_| wrong("far too many"))?;
    match shape.size {
        Size::Exactly(expected) if size != expected => return Err(wrong("not its size")),
        Size::MemoryTable if size < 8 || (size - 8) % 32 != 0 => {
            return Err(wrong("8 and 32 for each region"));
        }
        Size::ConfigSpace if size < 12 => return Err(wrong("at least 12")),
        _ if size > PAYLOAD_MAX => return Err(wrong("at most 4,096")),
        _ => {}
    }
    Ok(Header { request, need_reply: flags & NEED_REPLY_FLAG != 0, size })
}

/// Checks that exactly the right descriptors came with a message.
pub(super) fn check_files(message: &mut Message) -> Result<(), Refusal> {
    let request = u32::from(message.request);
    let count = message.files.len();
    let wrong = |expected| Err(Refusal::Descriptors { request, count, expected });
    let shape = shape(message.request).ok_or(Refusal::NotNegotiated(request))?;
    match shape.files {
        Files::None if count != 0 => wrong("none is expected"),
        Files::One if count != 1 => wrong("one is expected"),
        Files::RingEvent => {
            let announced = message.u64_at(0) & NO_DESCRIPTOR_FLAG == 0;
            if count == usize::from(announced) { Ok(()) } else { wrong("as its payload says") }
        }
        Files::Regions if count != (message.payload.len().saturating_sub(8)) / 32 => {
            wrong("one for each region")
        }
        Files::Tolerated if count > 1 => wrong("none is expected"),
        Files::Tolerated => {
            message.files.clear();
            Ok(())
        }
        _ => Ok(()),
    }
}

/// How the daemon answers.
pub(super) fn answer(request: FrontendReq) -> Answer {
    shape(request).map_or(Answer::Status, |shape| shape.answer)
}

/// The header of a request to the daemon, or of a reply to the VMM.
pub(super) fn header_bytes(
    request: FrontendReq,
    reply: bool,
    need_reply: bool,
    size: usize,
) -> [u8; HEADER_LEN] {
    let mut flags = VERSION;
    if reply {
        flags |= REPLY_FLAG;
    }
    if need_reply {
        flags |= NEED_REPLY_FLAG;
    }
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let mut bytes = [0; HEADER_LEN];
    for (slot, value) in bytes.chunks_exact_mut(4).zip([u32::from(request), flags, size]) {
        slot.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

/// Payload size of a reply to `request`; `None` if the header is no such reply.
pub(super) fn reply_size(bytes: &[u8; HEADER_LEN], request: FrontendReq) -> Option<usize> {
    let is_reply = word(bytes, 0) == u32::from(request) && word(bytes, 4) & REPLY_FLAG != 0;
    let size = usize::try_from(word(bytes, 8)).ok()?;
    (is_reply && size <= PAYLOAD_MAX).then_some(size)
}

impl Message {
    /// A request of our own to the daemon.
    pub(super) fn new(request: FrontendReq, payload: Vec<u8>) -> Self {
        Self { request, need_reply: false, payload, files: Vec::new(), file_ids: Vec::new() }
    }

    /// The 32-bit number at byte `offset`; 0 beyond the end, which the size
    /// check has excluded.
    pub(super) fn u32_at(&self, offset: usize) -> u32 {
        word(&self.payload, offset)
    }

    /// The 64-bit number at byte `offset`, likewise.
    pub(super) fn u64_at(&self, offset: usize) -> u64 {
        self.payload
            .get(offset..)
            .and_then(|tail| tail.first_chunk())
            .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(|tail| tail.first_chunk())
        .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(request: u32, flags: u32, size: u32) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&request.to_ne_bytes());
        bytes[4..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..].copy_from_slice(&size.to_ne_bytes());
        bytes
    }

    fn all() -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::all()
    }

    #[test]
    fn wrong_version_reply_and_reserved_flags_are_refused() {
        for flags in [0, 2, 3, 5, 0xd, 0x11, u32::MAX] {
            let refused = parse_header(&header(1, flags, 0), all()).unwrap_err();
            assert_eq!(refused.name(), "header", "{flags:#x}");
        }
        assert!(!parse_header(&header(1, 1, 0), all()).unwrap().need_reply);
        assert!(parse_header(&header(1, 9, 0), all()).unwrap().need_reply);
    }

    #[test]
    fn requests_of_features_that_are_not_offered_are_refused() {
        // LOG_BASE, LOG_FD, BACKEND_REQ, IOTLB, ENDIAN, INFLIGHT, RESET, STATUS, DEVICE_STATE.
        for request in [6, 7, 21, 22, 23, 26, 28, 31, 32, 33, 34, 35, 39, 40, 41, 42, 43, 44] {
            let refused = parse_header(&header(request, 1, 16), all()).unwrap_err();
            assert_eq!(refused.name(), "not-negotiated", "{request}");
        }
        for request in [0, 45, 64, u32::MAX] {
            let refused = parse_header(&header(request, 1, 0), all()).unwrap_err();
            assert_eq!(refused.name(), "unknown-message", "{request}");
        }
    }

    #[test]
    fn what_was_not_negotiated_is_refused() {
        let none = VhostUserProtocolFeatures::empty();
        for (request, size) in [(17, 0), (19, 8), (20, 8), (24, 29), (36, 0), (37, 40), (38, 40)] {
            assert_eq!(
                parse_header(&header(request, 1, size), none).unwrap_err().name(),
                "not-negotiated"
            );
            parse_header(&header(request, 1, size), all()).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_header_is_accepted_with_a_payload_above_the_limit(
            request: u32, flags: u32, size: u32, negotiated: u64,
        ) {
            let negotiated = VhostUserProtocolFeatures::from_bits_truncate(negotiated);
            for request in [request, request % 64] {
                for flags in [flags, 1, 9] {
                    if let Ok(header) = parse_header(&header(request, flags, size), negotiated) {
                        prop_assert!(header.size <= PAYLOAD_MAX);
                    }
                }
            }
        }
    }

    #[test]
    fn headers_round_trip() {
        let bytes = header_bytes(FrontendReq::SET_OWNER, false, true, 0);
        let parsed = parse_header(&bytes, all()).unwrap();
        assert_eq!(parsed, Header { request: FrontendReq::SET_OWNER, need_reply: true, size: 0 });
        let reply = header_bytes(FrontendReq::GET_FEATURES, true, false, 8);
        assert_eq!(reply_size(&reply, FrontendReq::GET_FEATURES), Some(8));
        assert_eq!(reply_size(&reply, FrontendReq::SET_FEATURES), None);
        assert_eq!(reply_size(&bytes, FrontendReq::SET_OWNER), None);
    }
}
