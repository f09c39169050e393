//! What the operator says about a vNIC's socket, and what can be wrong with it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Most queue pairs of one vNIC.
pub const MAX_QUEUE_PAIRS: u8 = 8;
/// Largest ring that a VMM may set, a power of two. QEMU stops at 1,024; DPDK and
/// cloud-hypervisor use 256 unless told otherwise. More only adds latency.
pub const MAX_QUEUE_SIZE: u16 = 1024;
/// Smallest MTU that IPv4 allows a link to have (RFC 791).
pub const MIN_MTU: u16 = 68;

/// Who listens on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketMode {
    /// We listen, the VMM connects. The socket stays bound all the time.
    Listen,
    /// The VMM listens (QEMU's `server=on`), we connect, and again when it is lost.
    Connect,
}

/// One vNIC's device, as the desired state has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Name in logs and status: 1 to 64 printable characters, unique in the process.
    pub name: String,
    /// Path of the vhost-user socket.
    pub socket: PathBuf,
    /// Who listens on it.
    pub mode: SocketMode,
    /// Permission bits of the socket file that [`SocketMode::Listen`] makes.
    pub socket_permissions: u32,
    /// The MAC address that a VMM without one of its own shows the guest.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes, without the Ethernet header.
    pub mtu: u16,
    /// Receive and transmit ring pairs, 1 to [`MAX_QUEUE_PAIRS`].
    pub queue_pairs: u8,
    /// Offer GUEST_TSO4, GUEST_TSO6 and GUEST_ECN. Turn it off for guests that
    /// run XDP: QEMU does not tell a back-end when the guest switches them off.
    pub offer_guest_tso: bool,
    /// Refuse guest memory that the VMM could shrink under us: a load from
    /// beyond the end of a shrunk file is a SIGBUS. Needs a VMM that seals its
    /// memory (QEMU's `memory-backend-memfd` does; hugetlbfs files cannot be).
    pub require_sealed_memory: bool,
}

impl DeviceConfig {
    /// A device with one queue pair, an MTU of 1,500 and a socket of mode 0660.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        socket: impl Into<PathBuf>,
        mode: SocketMode,
        mac: [u8; 6],
    ) -> Self {
        Self {
            name: name.into(),
            socket: socket.into(),
            mode,
            socket_permissions: 0o660,
            mac,
            mtu: 1500,
            queue_pairs: 1,
            offer_guest_tso: true,
            require_sealed_memory: false,
        }
    }

    /// How many rings the device has.
    #[must_use]
    pub fn rings(&self) -> u16 {
        u16::from(self.queue_pairs) * 2
    }

    /// Checks everything that can be checked without touching the system.
    ///
    /// # Errors
    /// [`DeviceError::Config`] with what would be right.
    pub fn check(&self) -> Result<(), DeviceError> {
        let printable = self.name.chars().all(|c| !c.is_control());
        if self.name.is_empty() || self.name.len() > 64 || !printable {
            return self.wrong("the name must have 1 to 64 printable characters".into());
        }
        if !(1..=MAX_QUEUE_PAIRS).contains(&self.queue_pairs) {
            return self.wrong(format!(
                "{} queue pairs: must be 1 to {MAX_QUEUE_PAIRS}",
                self.queue_pairs
            ));
        }
        if self.mtu < MIN_MTU {
            return self.wrong(format!("MTU {}: must be at least {MIN_MTU}", self.mtu));
        }
        if self.mac[0] & 1 != 0 || self.mac == [0; 6] {
            return self.wrong("the MAC address must be a unicast address".into());
        }
        Ok(())
    }

    fn wrong(&self, what: String) -> Result<(), DeviceError> {
        Err(DeviceError::Config { name: self.name.clone(), what })
    }
}

/// Why a device could not be added.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The configuration makes no sense.
    #[error("vNIC {name:?}: {what}")]
    Config {
        /// The vNIC.
        name: String,
        /// What is wrong and what would be right.
        what: String,
    },
    /// There is a device of this name already.
    #[error("vNIC {0:?} exists already: names must be unique in one backend")]
    Exists(String),
    /// There is no device of this name.
    #[error("no vNIC is called {0:?}")]
    Unknown(String),
    /// Somebody answers at the socket path.
    #[error(
        "vNIC {name:?}: process {pid} listens on {} already: stop it or choose another path",
        socket.display()
    )]
    InUse {
        /// The vNIC.
        name: String,
        /// The socket path.
        socket: PathBuf,
        /// Process id of the listener; 0 if it lives in another pid namespace.
        pid: i32,
    },
    /// The path exists and is something else.
    #[error(
        "vNIC {name:?}: {} exists and is not a socket: remove it or choose another path",
        socket.display()
    )]
    NotASocket {
        /// The vNIC.
        name: String,
        /// The path.
        socket: PathBuf,
    },
    /// A system call failed.
    #[error("vNIC {name:?}: cannot {action}: {source}")]
    Io {
        /// The vNIC.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor thread is gone.
    #[error("the vhost-user supervisor has stopped")]
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> DeviceConfig {
        DeviceConfig::new("vm1.0", "/run/vm1.sock", SocketMode::Listen, [2, 0, 0, 0, 0, 1])
    }

    #[test]
    fn default_device_is_accepted() {
        good().check().unwrap();
    }

    #[test]
    fn every_wrong_field_is_named() {
        type Case = (&'static str, fn(&mut DeviceConfig));
        let cases: [Case; 7] = [
            ("name", |c| c.name.clear()),
            ("name", |c| c.name = "a\0b".into()),
            ("name", |c| c.name = "x".repeat(65)),
            ("queue pairs", |c| c.queue_pairs = 0),
            ("queue pairs", |c| c.queue_pairs = 9),
            ("MTU", |c| c.mtu = 67),
            ("unicast", |c| c.mac = [1, 0, 0, 0, 0, 1]),
        ];
        for (word, spoil) in cases {
            let mut config = good();
            spoil(&mut config);
            let text = config.check().unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
    }
}
