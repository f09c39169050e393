//! What only the machine can tell: address, ports, interfaces, key file, sockets.

use crate::{
    Change, Config, ConfigError, Driver, Port, SocketMode, Uplink, VhostSocket, Vnic, VnicPlace,
    error::{Fault, Parts},
    schema::WORKER_PORTS,
};
use rustix::net::netdevice::name_to_index;
use rustix::{
    fs::{Access, access},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, ErrorKind},
    iter,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::fs::FileTypeExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long a port may stay taken after the daemon that had it was killed: the kernel
/// gives back what an `io_uring` holds some time after its process is gone.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(1);
/// How often a taken port is tried again.
const PREDECESSOR_POLL: Duration = Duration::from_millis(5);

/// What of a host a program serves, and so what has to be there for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The vNICs: a backend.
    Vnics,
    /// The uplinks: a gateway.
    Uplinks,
    /// Either: everything that the file places on this host is looked at.
    Everything,
}

impl Config {
    /// Looks whether this machine has what the configuration needs: the private key,
    /// the fabric's address with free ports, free sockets in directories that can be
    /// written, and the interfaces of local uplinks.
    ///
    /// Makes and removes nothing. A port that is taken is tried again for a second.
    ///
    /// # Errors
    /// The first thing that is missing or in use.
    pub fn check_host(&self, serves: Serves) -> Result<(), ConfigError> {
        let host = self.host_title();
        let in_host = |key, done: Result<(), Fault>| done.map_err(|f| self.error(&host, key, f));
        in_host("private_key_file", check_key_file(&self.host.private_key_file))?;
        in_host("control_socket", check_free_socket(&self.host.control_socket))?;
        self.check_fabric()?;
        if serves != Serves::Uplinks {
            self.check_vnics(self.local_vnics())?;
        }
        if serves != Serves::Vnics {
            self.check_uplinks(self.local_uplinks())?;
        }
        self.check_purpose(serves)
    }

    /// Looks whether this machine has what `change` adds to the configuration `running`,
    /// which a daemon of this machine serves: free sockets, interfaces.
    ///
    /// # Errors
    /// The first thing that is missing or in use, or that the daemon has nothing to do.
    pub fn check_change(
        &self,
        change: &Change,
        running: &Self,
        serves: Serves,
    ) -> Result<(), ConfigError> {
        if serves != Serves::Uplinks {
            // A socket that answers because the daemon itself listens there is free.
            let ours: HashSet<&Path> =
                running.local_vnics().map(|(_, socket)| socket.path.as_path()).collect();
            let new = change.vnics_to_connect().filter_map(|vnic| match &vnic.place {
                VnicPlace::Local(socket) => Some((vnic, socket)),
                VnicPlace::Peer(_) => None,
            });
            self.check_vnics(new.filter(|(_, socket)| !ours.contains(socket.path.as_path())))?;
        }
        if serves != Serves::Vnics {
            self.check_uplinks(change.uplinks_to_open())?;
        }
        self.check_purpose(serves)
    }

    /// Looks whether `own`, this host's public key, is given as a peer's: a host that
    /// takes itself for another never gets a link.
    ///
    /// # Errors
    /// The peer that has it.
    pub fn check_own_key(&self, own: &[u8; 32]) -> Result<(), ConfigError> {
        let Some(peer) = self.peers.iter().find(|peer| peer.public_key == *own) else {
            return Ok(());
        };
        let fault = Fault::new(
            format!("it is this host's own, of {}", self.host.private_key_file.display()),
            "give the key that `wireonce pubkey FILE` prints on that peer",
        );
        Err(self.error(&format!("[[peer]] {:?}", peer.name), "public_key", fault))
    }

    /// The start of an error about the private key's content, up to what is wrong.
    #[must_use]
    pub fn key_file_place(&self) -> String {
        let (origin, table) = (&self.origin, self.host_title());
        let line = self.lines.get(&table, "private_key_file");
        let line = line.map_or(String::new(), |(_, line)| format!(":{line}"));
        format!("{origin}{line}: {table}: key `private_key_file`")
    }

    fn check_fabric(&self) -> Result<(), ConfigError> {
        let error = |key, fault| Err(self.error("[fabric]", key, fault));
        let address = self.fabric.address;
        if let Err(refused) = UdpSocket::bind((address, 0)) {
            let problem = match refused.kind() {
                ErrorKind::AddrNotAvailable => format!("{address} is no address of this host"),
                _ => format!("{address} cannot be used: {}", text(&refused)),
            };
            return error("address", Fault::new(problem, "give an address that `ip addr` shows"));
        }
        let deadline = Instant::now() + PREDECESSOR_LIMIT;
        for port in self.own_ports() {
            if let Err(refused) = try_port(SocketAddr::new(address, port), deadline) {
                let problem = match refused.kind() {
                    ErrorKind::AddrInUse => format!("UDP port {port} of {address} is in use"),
                    _ => format!("UDP port {port} of {address}: {}", text(&refused)),
                };
                let last = self.own_ports().last().unwrap_or(port);
                let remedy = format!(
                    "free the ports {} to {last}, or give another `port`",
                    self.fabric.port
                );
                return error("port", Fault::new(problem, remedy));
            }
        }
        Ok(())
    }

    /// The UDP ports that a daemon binds: the control port, and of each worker's ports
    /// one for each path.
    fn own_ports(&self) -> impl Iterator<Item = u16> {
        let first = self.fabric.port;
        let paths = u16::from(self.fabric.paths);
        let data = (0..self.host.workers).flat_map(move |worker| {
            (0..paths).filter_map(move |path| {
                first.checked_add(1 + worker.saturating_mul(WORKER_PORTS) + path)
            })
        });
        iter::once(first).chain(data)
    }

    /// A gateway has uplinks. With a controller they may come at any time.
    fn check_purpose(&self, serves: Serves) -> Result<(), ConfigError> {
        let has_some = self.local_uplinks().next().is_some();
        if serves != Serves::Uplinks || has_some || self.control.is_some() {
            return Ok(());
        }
        let problem = "no uplink is on this host, so there is nothing for a gateway to do";
        let remedy = "give an [[uplink]] this `host`, a `driver` and an `interface`";
        Err(self.error(&self.host_title(), "name", Fault::new(problem, remedy)))
    }

    fn check_vnics<'c>(
        &self,
        vnics: impl Iterator<Item = (&'c Arc<Vnic>, &'c VhostSocket)>,
    ) -> Result<(), ConfigError> {
        for (vnic, socket) in vnics {
            let checked = match socket.mode {
                SocketMode::Listen => check_free_socket(&socket.path),
                SocketMode::Connect => check_directory(&socket.path),
            };
            let table = format!("[[vnic]] {:?}", vnic.name);
            checked.map_err(|fault| self.error(&table, "socket", fault))?;
        }
        Ok(())
    }

    fn check_uplinks<'c>(
        &self,
        uplinks: impl Iterator<Item = (&'c Arc<Uplink>, &'c Port)>,
    ) -> Result<(), ConfigError> {
        for (uplink, port) in uplinks {
            let table = format!("[[uplink]] {:?}", uplink.name);
            check_interface(port.driver, &port.interface)
                .map_err(|fault| self.error(&table, "interface", fault))?;
        }
        Ok(())
    }

    pub(crate) fn host_title(&self) -> String {
        format!("[host] {:?}", self.host.name)
    }

    pub(crate) fn error(&self, table: &str, key: &'static str, fault: Fault) -> ConfigError {
        let (origin, line) = match self.lines.get(table, key) {
            Some((origin, line)) => (origin, Some(line)),
            None => (self.origin.clone(), None),
        };
        let (table, key) = (Some(table.to_owned()), Some(key.to_owned()));
        Parts { origin, line, table, key, fault }.into()
    }
}

/// Takes the port and gives it back at once. It may still be a killed daemon's.
fn try_port(local: SocketAddr, deadline: Instant) -> io::Result<()> {
    loop {
        match UdpSocket::bind(local) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(PREDECESSOR_POLL);
            }
            bound => return bound.map(drop),
        }
    }
}

fn check_key_file(path: &Path) -> Result<(), Fault> {
    let shown = path.display();
    // Not opened before it is known for a file: opening a FIFO would wait for a writer.
    let opened = fs::metadata(path).and_then(|found| match found.is_file() {
        true => File::open(path).map(|_| true),
        false => Ok(false),
    });
    match opened {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Fault::new(format!("{shown} is not a regular file"), "name the private key file"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Fault::new(
            format!("{shown} does not exist"),
            format!("run `wireonce keygen {shown}`"),
        )),
        Err(error) => Err(Fault::new(
            format!("{shown} cannot be read: {}", text(&error)),
            "let this user read it",
        )),
    }
}

/// The path can become a listening socket: nobody answers on it, and nothing but a
/// dead process's socket is in the way.
fn check_free_socket(path: &Path) -> Result<(), Fault> {
    check_directory(path)?;
    check_writable(path)?;
    let shown = path.display();
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let problem = format!("{shown} cannot be reached: {}", text(&error));
            return Err(Fault::new(problem, "let this user reach it"));
        }
    };
    if !kind.is_socket() {
        let problem = format!("{shown} exists and is not a socket");
        return Err(Fault::new(problem, "remove it or give another path"));
    }
    if answers(path) {
        let problem = format!("{shown} is in use by a running process");
        return Err(Fault::new(problem, "stop that process or give another path"));
    }
    Ok(())
}

/// Somebody listens: `connect` succeeds, or their queue is full. The socket does not
/// wait, so that a hung process does not hang this one.
fn answers(path: &Path) -> bool {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)
    });
    matches!(connected, Ok(()) | Err(Errno::AGAIN))
}

fn check_directory(path: &Path) -> Result<(), Fault> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let shown = directory.display();
    let remedy = format!("run `mkdir -p {shown}` or give another path");
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Fault::new(format!("{shown} is not a directory"), remedy)),
        Err(error) => {
            let problem = format!("the directory {shown} is missing: {}", text(&error));
            Err(Fault::new(problem, remedy))
        }
    }
}

/// A socket can be made in the directory of `path`.
fn check_writable(path: &Path) -> Result<(), Fault> {
    let Some(directory) = path.parent() else { return Ok(()) };
    let shown = directory.display();
    access(directory, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        let why = text(&errno.into());
        let problem = format!("no socket can be made in the directory {shown}: {why}");
        Fault::new(problem, "let this user write there or give another path")
    })
}

/// A packet socket needs its interface now; a TAP device is made if need be.
fn check_interface(driver: Driver, interface: &str) -> Result<(), Fault> {
    // Asked of the kernel and not of /sys, which may show another network namespace.
    let exists = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .map_or(true, |socket| name_to_index(&socket, interface).is_ok());
    if driver == Driver::Tap || exists {
        return Ok(());
    }
    let problem = format!("there is no interface {interface:?}");
    Err(Fault::new(problem, "give an interface that `ip link` shows"))
}

/// The error without the number that std appends.
pub(crate) fn text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
