//! Network namespaces for tests: made by `ip`, removed on drop.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

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

fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
