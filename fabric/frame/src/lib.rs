//! Ethernet frames and what travels beside them.
//!
//! Everything here is pure: bytes in, decision or bytes out. The crate knows
//! Ethernet, ARP, IPv4, IPv6, TCP, UDP, ICMPv6 and the virtio-net header, and
//! nothing of rings, sockets or the fabric.
#![forbid(unsafe_code)]

pub mod build;
pub mod checksum;
pub mod coalesce;
pub mod describe;
pub mod ecn;
pub mod flow;
pub mod headers;
pub mod mac;
pub mod offload;
pub mod salvage;
pub mod sample;
pub mod segment;
pub mod source;
pub mod storm;

pub use describe::describe;
pub use flow::flow_hash;
pub use headers::{Ethernet, Fragment, HeaderError, Headers, Layer3, Layer4};
pub use mac::MacAddr;
pub use offload::{
    ChecksumRequest, Gso, GsoKind, Offload, OffloadError, OffloadFeatures, VNET_HEADER_LEN,
    VNET_HEADER_LEN_LEGACY, Work,
};
pub use source::{FrameRef, FrameSource, HEAD_LEN, SliceSource};
pub use storm::{StormLimit, StormMeter};

/// Bytes of an Ethernet header without VLAN tag.
pub const ETHERNET_HEADER_LEN: usize = 14;

/// Longest frame that the data path carries: a 65,535-byte IP packet behind an
/// Ethernet header with two VLAN tags.
pub const FRAME_LEN_MAX: usize = 65_535 + ETHERNET_HEADER_LEN + 8;

/// Shortest frame of an Ethernet wire, without frame check sequence (IEEE 802.3, 3.2.8).
pub const WIRE_FRAME_LEN_MIN: usize = 60;

/// Bytes that a frame costs on an Ethernet wire beyond its own length: preamble
/// and start delimiter (8), frame check sequence (4), inter-packet gap (12).
pub const WIRE_OVERHEAD_LEN: usize = 24;
