//! Real guests at real daemons: what a VM lives through, and what its frames do.
//!
//! Each test makes its own hosts (namespaces), daemons and guests, and ends with the books: on every
//! daemon each frame that came in went out or was dropped for a reason. No time is measured; limits
//! are only there so that a failure ends.
//!
//! | module | what it proves |
//! |---|---|
//! | `lifetime` | a VM reboots, rebinds its driver, is reset, stopped, unplugged, killed, gets memory; its backend is killed; each time it is back on the network, and its neighbour on the same server lost nothing |
//! | `neighbours` | VMs of one server talk, on one worker and on two; VMs of two servers and the outside at once |
//! | `queues` | two queue pairs carry traffic, and their number changes under load |
//! | `offloads` | jumbo frames over a small fabric; a guest that takes no offloads gets right checksums |
//! | `stream` | a gigabyte through a VM and back comes out bit for bit |
//! | `guard` | a VM that lies is stopped at its port, by name, and nothing of it is seen outside |
//! | `announce` | a guest that QEMU announces is seen outside |
//! | `sealed` | a VMM whose memory cannot shrink is accepted where that is required |
//! | `live` | the configuration changes under a running connection: vNICs come and go, a home moves, a file is wrong |
//! | `frontend` | DPDK's front-end: all ring sizes and receive modes; every frame is in the books |
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

mod announce;
mod bed;
mod frontend;
mod guard;
mod lifetime;
mod live;
mod neighbours;
mod offloads;
mod queues;
mod sealed;
mod sniffer;
mod steady;
mod stream;
