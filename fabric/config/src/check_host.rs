//! What only the machine can tell: interfaces, key file, sockets.

use crate::{
    Config, ConfigError, Driver, SocketMode,
    error::{Fault, Parts},
};
use rustix::net::netdevice::name_to_index;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::FileTypeExt,
    path::Path,
};

impl Config {
    /// Looks whether this machine has what the configuration needs: the private key,
    /// free sockets in existing directories, and the interfaces of local uplinks.
    ///
    /// Makes and removes nothing.
    ///
    /// # Errors
    /// The first thing that is missing or in use.
    pub fn check_host(&self) -> Result<(), ConfigError> {
        let host = format!("[host] {:?}", self.host.name);
        let error = |table: &str, key: &str, fault| -> ConfigError {
            let (table, key) = (Some(table.to_owned()), Some(key.to_owned()));
            Parts { origin: self.origin.clone(), line: None, table, key, fault }.into()
        };
        check_key_file(&self.host.private_key_file)
            .map_err(|fault| error(&host, "private_key_file", fault))?;
        check_free_socket(&self.host.control_socket)
            .map_err(|fault| error(&host, "control_socket", fault))?;
        for (vnic, socket) in self.local_vnics() {
            let checked = match socket.mode {
                SocketMode::Listen => check_free_socket(&socket.path),
                SocketMode::Connect => check_directory(&socket.path),
            };
            let table = format!("[[vnic]] {:?}", vnic.name);
            checked.map_err(|fault| error(&table, "socket", fault))?;
        }
        for (uplink, port) in self.local_uplinks() {
            let table = format!("[[uplink]] {:?}", uplink.name);
            check_interface(port.driver, &port.interface)
                .map_err(|fault| error(&table, "interface", fault))?;
        }
        Ok(())
    }
}

fn check_key_file(path: &Path) -> Result<(), Fault> {
    let shown = path.display();
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(file) if file.is_file() => Ok(()),
        Ok(_) => Err(Fault::new(format!("{shown} is not a file"), "name the private key file")),
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
