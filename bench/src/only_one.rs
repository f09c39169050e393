//! One measurement at a time on a machine: two would measure each other.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use wireonce_qemu_tests::{Error, Result};

use crate::io_error;

/// Only root can write there, and it is empty after a start of the machine.
const PATH: &str = "/run/wireonce-measure.lock";

/// As long as this value lives, or its process, nobody else has one.
#[derive(Debug)]
pub struct OnlyOne {
    /// The lock goes with the file; children do not inherit it (close-on-exec).
    _file: File,
}

impl OnlyOne {
    /// The only one on this machine.
    ///
    /// # Errors
    /// Another process measures: the error has its id. Or the file cannot be made.
    pub fn on_this_machine() -> Result<Self> {
        Self::at(Path::new(PATH))
    }

    fn at(path: &Path) -> Result<Self> {
        let io = || io_error(&format!("cannot lock {}", path.display()));
        let open = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(io())?;
        let mut pid = String::new();
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                file.read_to_string(&mut pid).map_err(io())?;
                return Err(Error::Unexpected(format!(
                    "another measurement runs on this machine (process {}): two at once would \
                     measure each other; wait until it ends",
                    pid.trim()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(io()(error)),
        }
        let own = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).map_err(io())?;
        file.write_all(own.as_bytes()).map_err(io())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireonce_qemu_tests::watchdog::TempDir;

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let dir = TempDir::new("lock").unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "4294967295 of long ago\n").unwrap();
        let first = OnlyOne::at(&path).unwrap();
        let refused = OnlyOne::at(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(first);
        OnlyOne::at(&path).unwrap();
    }
}
