//! The socket file of a vNIC whose backend listens: made, replaced, removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::config::{DeviceConfig, DeviceError};
use super::socket;

/// A socket file that we made, and remove if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the vNIC's socket. A socket file that nobody answers at is what a
/// killed backend left behind, and is replaced.
pub(super) fn bind(config: &DeviceConfig) -> Result<(UnixListener, SocketFile), DeviceError> {
    let (name, path) = (&config.name, &config.socket);
    match fs::symlink_metadata(path) {
        Err(_) => {}
        Ok(found) if !found.file_type().is_socket() => {
            return Err(DeviceError::NotASocket { name: name.clone(), socket: path.clone() });
        }
        Ok(_) => match socket::connect_to(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)
                    .map_err(|error| io_error(name, "remove the stale socket", error))?;
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(io_error(name, "see who listens on the socket", error));
            }
            answered => {
                let pid = answered.and_then(|stream| socket::peer_pid(&stream)).unwrap_or(0);
                let (name, socket) = (name.clone(), path.clone());
                return Err(DeviceError::InUse { name, socket, pid });
            }
        },
    }
    let failed = |error| io_error(name, "bind the socket", error);
    let listener = socket::listen_at(path, config.socket_permissions).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let made = fs::symlink_metadata(path).map_err(failed)?;
    Ok((listener, SocketFile { path: path.clone(), device: made.dev(), inode: made.ino() }))
}

pub(super) fn io_error(name: &str, action: &'static str, source: io::Error) -> DeviceError {
    DeviceError::Io { name: name.to_owned(), action, source }
}
