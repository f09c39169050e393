//! The formats between the hosts: datagrams and the blocks inside them.
//!
//! ```text
//!  frames      | A |      B (64 KB)        |C|D|
//!                \   \                   /  / /
//!  blocks      [hA A][hB B . . . . . . .][hC C][hD D]     24-byte headers
//!               ____________ ____________ ____________
//!  datagrams   |H A  B . . .|H . . . . . |H . B C D T|    16-byte headers
//!               first=0      first=none    first=n
//!  train       one UDP_SEGMENT send: equal datagrams, the last may be short
//! ```
//!
//! The [`Packer`] of a path writes frames back to back into [`Train`]s; a
//! block's payload runs on over a datagram's end and into the next train, its
//! header does not. Each datagram names the offset of the first block that
//! starts in it, so that the [`Unpacker`] finds its way again after a loss.
//! (The idea is that of RFC 9347, AGGFRAG.)
//!
//! `docs/wire.md` has the byte layout with drawings. Nothing here does I/O or
//! cryptography; a datagram's payload is clear text when it gets here.
#![forbid(unsafe_code)]

pub mod block;
pub mod header;
mod held;
pub mod ids;
pub mod packer;
pub mod train;
pub mod unpacker;

pub use block::{BLOCK_HEADER_LEN, BlockError, BlockHeader, LINK_BLOCK_LEN_MAX};
pub use header::{
    DATAGRAM_HEADER_LEN, DatagramHeader, HeaderError, Kind, NO_BLOCK, PathIndex, VERSION,
};
pub use held::{HELD_BYTES_MAX, HELD_DATAGRAMS_MAX};
pub use ids::{Endpoint, UplinkId, Vni, VnicId};
pub use packer::{Packer, Span};
pub use train::{
    DATAGRAM_LEN_MIN, DatagramMut, Geometry, GeometryError, TAG_LEN, TRAIN_DATAGRAMS_MAX, Train,
    TrainPool, UDP_PAYLOAD_MAX,
};
pub use unpacker::{
    Datagram, GATHER_PARTS_MAX, HOLE_AGE_MIN_US, HOLE_AGE_US, HOLES_MAX, UNPACKER_BUFFERS_MAX,
    UnpackStats, Unpacker,
};
