//! Measurements against peers, all in one run on one machine.
//!
//! # Theory of operation
//!
//! A *suite* is a list of *cases*. A case has *contenders*: ours, and the peers that can run
//! here. Each is set up before the first round and then takes its turn in every round, so that
//! whatever the machine does in a minute, it does to all of them.
//!
//! ```text
//!   suite::queue ─┐             ┌─ ours:  testpmd ══ wireonce backend
//!   suite::encap ─┼─▶ case ──▶──┤                                        ──▶ round ──▶ stats ──▶ table
//!   ...          ─┘             └─ peer:  testpmd ══ testpmd (vhost PMD)                        json
//!                                   load core   device core                                     plot
//! ```
//! What is set up outlives this process in no case: the test bed's watchdog removes it.
//!
//! | module | idea |
//! |---|---|
//! | [`suite`] | what is measured |
//! | [`case`](mod@case) | contenders, figures, goals |
//! | [`round`] | ours and the peers in turn; noise is found and told |
//! | [`stats`] | medians and spreads |
//! | [`machine`] | idleness, and the distance of the processors |
//! | [`cpu`] | CPU time of processes, ours and others' |
//! | [`frames`] | what is sent, as capture files |
//! | [`driver`] | a guest's driver that keeps a pace and can misbehave |
//! | [`senders`] | guests that send at a pace, and number their frames |
//! | [`load`] | testpmd as a front-end that is started and stopped |
//! | [`tapend`] | a vNIC that the kernel's own TCP drives |
//! | [`mod@vm_end`] | such an end in a VM's place |
//! | [`tap_bed`] | our path between such ends |
//! | [`tcp`] | TCP between two namespaces, with what it cost |
//! | [`home_bed`] | a server and two gateways, for homes that are lost or move |
//! | [`numbered`] | numbered datagrams: gaps, losses, doubles |
//! | [`round_trip`] | request and response |
//! | [`impair`] | loss and reordering between hosts |
//! | [`inside`] | threads of this process inside a namespace |
//! | [`sim`] | houses larger than any machine here, in simulated time |
//! | [`mod@bench`] | what all suites share: the program, pages, folders |
//! | [`wire`], [`sink`] | a veth pair for peers, and a receiver behind it |
//! | [`peer`] | whom we are compared with |
//! | [`only_one`] | one measurement at a time on a machine |
//! | [`result`], [`table`], [`plot`], [`output`] | what comes out, and into which files |
#![deny(unsafe_code)]

pub mod bench;
pub mod case;
pub mod cpu;
pub mod driver;
pub mod frames;
pub mod home_bed;
pub mod impair;
pub mod inside;
pub mod load;
pub mod machine;
pub mod numbered;
pub mod only_one;
pub mod output;
pub mod peer;
pub mod plot;
pub mod result;
pub mod round;
pub mod round_trip;
pub mod senders;
pub mod sim;
pub mod sink;
pub mod stats;
pub mod suite;
pub mod table;
pub mod tap_bed;
pub mod tapend;
pub mod tcp;
pub mod vm_end;
pub mod wire;

use std::io;

use wireonce_qemu_tests::Error;

/// Names what was being done when the operating system refused.
pub(crate) fn io_error(what: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}
