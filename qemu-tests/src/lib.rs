//! Real VMMs, real guests, hostile front-ends; the demo and the verify command.
//!
//! # Theory of operation
//!
//! A host of the test bed is a network namespace. Hosts are joined by veth pairs to a bridge (the
//! *fabric*); the outside network is one more namespace behind the gateway's uplink.
//!
//! ```text
//!   VM a -- vhost-user -- [server-a]--+
//!                                     +--[fabric: bridge]--[gateway]--uplink--[outside]
//!   VM b -- vhost-user -- [server-b]--+
//! ```
//!
//! Everything that outlives a function (namespaces, processes, temporary folders, huge pages)
//! is written down with the [`watchdog`] before it is used: a tiny child process that undoes it
//! when this process is gone, for whatever reason, SIGKILL included. `Drop` does the same work
//! earlier where it gets the chance.
//!
//! | module | idea |
//! |---|---|
//! | [`cargo`] | cargo, from a program that cargo runs |
//! | [`interrupt`] | Ctrl-C: clean up, then end |
//! | [`process`] | run a command with a time limit; keep a child with its log |
//! | [`watchdog`] | what is left behind when this process dies, is cleaned up |
//! | [`netns`] | namespaces, veth pairs, the fabric bridge |
//! | [`packages`] | Debian packages that are needed, and their installation |
//! | [`guest`] | kernel, initramfs, QEMU, the command channel into the guest |
//! | [`impair`] | a relay that loses, doubles, reorders, delays, damages and replays datagrams |
//! | [`iperf`] | TCP throughput between two places |
//! | [`capture`], [`rates`], [`plot`] | what came over an interface, and when; rates of it over time, drawn |
//! | [`testpmd`] | DPDK's front-end and back-end without a guest |
//! | [`cluster`] | servers, gateway and outside with the `wireonce` daemons |
//! | [`report`] | progress for people |
#![forbid(unsafe_code)]

pub mod capture;
pub mod cargo;
pub mod cluster;
pub mod guest;
pub mod hugepages;
pub mod impair;
pub mod interrupt;
pub mod iperf;
pub mod netns;
pub mod packages;
pub mod plot;

pub mod process;
pub mod rates;
pub mod report;

pub mod testpmd;
pub mod watchdog;

mod error;

pub use error::{Error, Result};
