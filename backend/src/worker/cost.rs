//! What things cost in CPU time: rough figures, by which ports are charged.
//!
//! They need not be right to the nanosecond. They must grow with everything that a
//! guest can make large: frames, bytes, descriptors, pieces of a large segment, copies
//! of a broadcast. What costs nothing here is what a hostile guest will send.

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

/// Walking `count` descriptors.
pub(super) fn descriptors_ns(count: u32) -> i64 {
    i64::from(count) * DESCRIPTOR_NS
}
