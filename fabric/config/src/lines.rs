//! Where the keys stand that only the machine can prove wrong.
//!
//! The text is long gone when [`Config::check_host`](crate::Config::check_host) looks
//! at the machine, so the lines of what it looks at are kept: of this host's sockets
//! and interfaces, not of the others'.

use crate::schema::{RawFabric, RawHost, RawPeer, RawUplink, RawVnic};
use std::collections::HashMap;

/// Lines, from 1, by table and key; a table is titled as errors title it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines(HashMap<(String, &'static str), usize>);

impl Lines {
    /// The lines of what was read. A key with a default stands where its table begins.
    pub(crate) fn new(
        host: &RawHost,
        fabric: &RawFabric,
        peers: &[RawPeer],
        uplinks: &[RawUplink],
        vnics: &[RawVnic],
    ) -> Self {
        let mut lines = Self::default();
        let control = host.control_socket.as_ref().map_or(host.line, |at| at.line);
        lines.add(&host.title, "name", host.name.line);
        lines.add(&host.title, "private_key_file", host.private_key_file.line);
        lines.add(&host.title, "control_socket", control);
        lines.add("[fabric]", "address", fabric.address.line);
        lines.add("[fabric]", "port", fabric.port.line);
        for peer in peers {
            lines.add(&peer.title, "public_key", peer.public_key.line);
        }
        for uplink in uplinks.iter().filter(|uplink| uplink.host.value == host.name.value) {
            if let Some(interface) = &uplink.interface {
                lines.add(&uplink.title, "interface", interface.line);
            }
        }
        for vnic in vnics.iter().filter(|vnic| vnic.host.value == host.name.value) {
            if let Some(socket) = &vnic.socket {
                lines.add(&vnic.title, "socket", socket.line);
            }
        }
        lines
    }

    /// The line of `key` in the table titled `table`.
    pub(crate) fn get(&self, table: &str, key: &'static str) -> Option<usize> {
        self.0.get(&(table.to_owned(), key)).copied()
    }

    fn add(&mut self, table: &str, key: &'static str, line: usize) {
        self.0.insert((table.to_owned(), key), line);
    }
}
