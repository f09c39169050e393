//! What things cost in CPU time: rough figures, by which ports are charged.
//!
//! They need not be right to the nanosecond. Measured (perf, 64-byte frames between two
//! hosts): 0.15 us to send one, 0.26 us to take one in and deliver it; here 138 and 284 ns.
//! They must grow with everything that a guest can make large: frames, bytes, descriptors,
//! pieces of a large segment, copies of a broadcast. What costs nothing here is what a hostile guest will send.

/// CPU time that a port may use before the next has its turn.
pub(super) const QUANTUM_NS: i64 = 20_000;
/// CPU time that floods from peers may save up.
pub(super) const FLOOD_MAX_NS: i64 = 1_000_000;
/// CPU time for the fabric before the guests have their turn.
pub(super) const FABRIC_TURN_NS: i64 = 200_000;

/// A frame, whatever becomes of it.
const FRAME_NS: i64 = 120;
/// Bytes that are copied in a nanosecond.
const COPY_BYTES_PER_NS: i64 = 8;
/// A descriptor: a load from the guest's memory, checks, a translation.
const DESCRIPTOR_NS: i64 = 10;

/// Handling a frame of `len` bytes.
pub(super) fn frame_ns(len: usize) -> i64 {
    FRAME_NS + i64::try_from(len).unwrap_or(i64::MAX / 2) / COPY_BYTES_PER_NS
}

/// Work that a port may make of one frame for it before it is charged: descriptors and
/// pieces in a number that its length explains.
pub(super) fn is_usual(len: usize, descriptors: u32, pieces: u32) -> bool {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    descriptors <= 32 + len / 256 && pieces <= 1 + len / 512
}

/// Walking `count` descriptors.
pub(super) fn descriptors_ns(count: u32) -> i64 {
    i64::from(count) * DESCRIPTOR_NS
}
