//! A UDP receiver in a namespace: it reads datagrams as fast as they come, counts and forgets
//! them. The live receiver of peers that need no more than one.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::{Error, Result};

use crate::machine::pin_this_thread;

/// How often it looks whether it is to stop.
const POLL: Duration = Duration::from_millis(100);

/// A receiver; it ends with this value.
#[derive(Debug)]
pub struct Sink {
    datagrams: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Receives at UDP `port` of `netns`, on processor `cpu`.
    ///
    /// # Errors
    /// The port is in use, or the namespace is gone.
    pub fn start(netns: &Netns, port: u16, cpu: u32) -> Result<Self> {
        let socket = bind_in(netns, port)?;
        let datagrams = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, ended) = (Arc::clone(&datagrams), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let _where_it_may_run = pin_this_thread(cpu);
            let mut buffer = vec![0; 65_536];
            while !ended.load(Ordering::Relaxed) {
                if socket.recv(&mut buffer).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { datagrams, stop, thread: Some(thread) })
    }

    /// Datagrams received until now.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.datagrams.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A socket of the namespace: made by a thread that went there, and usable by all.
fn bind_in(netns: &Netns, port: u16) -> Result<UdpSocket> {
    let name = netns.name().to_owned();
    let bound = thread::spawn(move || {
        let place = File::open(format!("/run/netns/{name}"))?;
        move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))?;
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        socket.set_read_timeout(Some(POLL))?;
        Ok(socket)
    });
    let bound = bound.join().map_err(|_| Error::Unexpected("a thread ended early".to_owned()))?;
    let what = || format!("cannot receive at UDP port {port} of {}", netns.name());
    bound.map_err(|source: std::io::Error| Error::Io { what: what(), source })
}
