//! Network namespaces for tests, made by `ip`, removed on drop; and raw sockets in them.

use crate::sys;
use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};
use wireonce_frame::VNET_HEADER_LEN;

/// One network namespace with loopback up.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Namespace {
    /// A new namespace, or `None` (said aloud) where we may not make one.
    pub(crate) fn new() -> Option<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wo-upl-{}-{number}", std::process::id());
        // Dropped, and so removed, if a later step fails.
        let namespace = Self { name };
        match run(&["netns", "add", &namespace.name]) {
            Ok(()) => {}
            Err(why) if std::env::var_os("WIREONCE_REQUIRE_TOOLS").is_some() => {
                panic!("cannot make a network namespace: {why}")
            }
            Err(why) => {
                eprintln!("skipped: cannot make a network namespace: {why}");
                return None;
            }
        }
        namespace.ip("link set lo up");
        // No neighbour discovery of our interfaces among the frames that are counted.
        namespace.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        Some(namespace)
    }

    /// Runs `ip -n NAME` with words separated by spaces.
    pub(crate) fn ip(&self, words: &str) {
        let mut all = vec!["-n", &self.name];
        all.extend(words.split(' '));
        run(&all).unwrap_or_else(|why| panic!("ip {all:?}: {why}"));
    }

    /// A veth pair with `here` in this namespace and `there` in `other`, both up.
    pub(crate) fn veth(&self, here: &str, other: &Self, there: &str) {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.name));
        self.ip(&format!("link set {here} up"));
        other.ip(&format!("link set {there} up"));
        // The kernel starts the queues some time after it has seen the carrier, and
        // until then drops what is sent.
        self.wait_up(here);
        other.wait_up(there);
    }

    fn wait_up(&self, interface: &str) {
        for _ in 0..2_000 {
            let words = ["-n", &self.name, "-o", "link", "show", "dev", interface];
            let output = Command::new("ip").args(words).output().unwrap();
            if String::from_utf8_lossy(&output.stdout).contains("state UP") {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{interface} never came up");
    }

    /// Runs `body` on a thread of its own in this namespace.
    pub(crate) fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name));
                body()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn sysctl(&self, key: &str, value: &str) {
        // Where the kernel has no IPv6 there is nothing to switch off.
        let _ = self.run(|| std::fs::write(format!("/proc/sys/{key}"), value));
    }

    fn enter(&self) -> io::Result<()> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        // SAFETY: a plain system call; only this thread moves.
        let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(&["netns", "del", &self.name]);
    }
}

/// What a raw socket read: a frame without the tag that the kernel took out of it.
struct Heard {
    tag: Option<[u8; 4]>,
    vnet: Vec<u8>,
    frame: Vec<u8>,
}

/// A raw socket with virtio-net headers that the driver under test has no part in.
#[derive(Debug)]
pub(crate) struct Raw(File);

impl Raw {
    pub(crate) fn open(interface: &str) -> Self {
        let socket = sys::packet_socket(false).unwrap();
        let index = sys::interface_index(interface).unwrap();
        let names = [libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING];
        for name in names {
            sys::set_option(&socket, libc::SOL_PACKET, name, 1).unwrap();
        }
        sys::set_receive_timeout(&socket, Duration::from_secs(5)).unwrap();
        sys::bind_packet(&socket, index, true).unwrap();
        Self(File::from(socket))
    }

    pub(crate) fn write(&self, vnet: &[u8; VNET_HEADER_LEN], frame: &[u8]) {
        let mut bytes = vnet[..sys::VNET_LEN].to_vec();
        bytes.extend(frame);
        assert_eq!((&self.0).write(&bytes).unwrap(), bytes.len());
    }

    /// The next frame that begins with `start`; others are passed over.
    pub(crate) fn next_of(&self, start: &[u8]) -> Vec<u8> {
        self.next_with_tag(start).1
    }

    /// The same, with the tag that the kernel took out of it.
    pub(crate) fn next_with_tag(&self, start: &[u8]) -> (Option<[u8; 4]>, Vec<u8>) {
        for _ in 0..100 {
            let heard = self.receive(0).expect("a frame");
            if heard.frame.starts_with(start) {
                return (heard.tag, heard.frame);
            }
        }
        panic!("a hundred frames, and none is for us");
    }

    /// The next frame, behind its virtio-net header.
    pub(crate) fn read(&self) -> (Vec<u8>, Vec<u8>) {
        let heard = self.receive(0).expect("a frame");
        (heard.vnet, heard.frame)
    }

    /// The frames that have come already.
    pub(crate) fn waiting(&self) -> Vec<Vec<u8>> {
        let next = || self.receive(libc::MSG_DONTWAIT).ok();
        std::iter::from_fn(next).map(|heard| heard.frame).take(1_000).collect()
    }

    fn receive(&self, flags: i32) -> io::Result<Heard> {
        const VLAN_VALID: u32 = 1 << 4; // TP_STATUS_VLAN_VALID
        let mut vnet = vec![0; 70_000];
        let (len, aux) = sys::receive_with_aux(&self.0, &mut vnet, flags)?;
        vnet.truncate(len);
        let frame = vnet.split_off(sys::VNET_LEN);
        let aux = aux.filter(|aux| aux.status & VLAN_VALID != 0);
        let tag = aux.map(|aux| {
            let [a, b] = aux.vlan_tpid.to_be_bytes();
            let [c, d] = aux.vlan_tci.to_be_bytes();
            [a, b, c, d]
        });
        Ok(Heard { tag, vnet, frame })
    }
}

/// `frame` with a tag behind its two MAC addresses.
pub(crate) fn tagged(frame: &[u8], tag: [u8; 4]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
