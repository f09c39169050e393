//! Where the keys stand that only the machine can prove wrong.
//!
//! The text is long gone when [`Config::check_host`](crate::Config::check_host) looks
//! at the machine, so the lines of what it looks at are kept: of this host's sockets
//! and interfaces, not of the others'.

use crate::{
    reader::{At, Origins},
    schema::{RawFabric, RawHost, RawPeer, RawUplink, RawVnic},
};
use std::{collections::HashMap, path::PathBuf};

/// Lines, from 1, by table and key; a table is titled as errors title it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lines {
    origins: Origins,
    lines: HashMap<(String, &'static str), usize>,
}

impl Lines {
    /// The lines of what was read. A key with a default stands where its table begins.
    pub(crate) fn new(
        origins: &Origins,
        host: &RawHost,
        fabric: &RawFabric,
        peers: &[RawPeer],
        uplinks: &[RawUplink],
        vnics: &[RawVnic],
    ) -> Self {
        let mut lines = Self { origins: origins.clone(), ..Self::default() };
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

    /// The same, with the line of `[control]`.
    pub(crate) fn with_control(mut self, directory: Option<&At<PathBuf>>) -> Self {
        if let Some(directory) = directory {
            self.add("[control]", "directory", directory.line);
        }
        self
    }

    /// The file and the line in it of `key` in the table titled `table`.
    pub(crate) fn get(&self, table: &str, key: &'static str) -> Option<(String, usize)> {
        let line = self.lines.get(&(table.to_owned(), key))?;
        Some(self.origins.place(*line))
    }

    fn add(&mut self, table: &str, key: &'static str, line: usize) {
        self.lines.insert((table.to_owned(), key), line);
    }
}
