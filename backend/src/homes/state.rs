//! The epochs of a server's vNICs on disk, so that those of its next life are above them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};
use wireonce_home::Epochs;

/// Takes the epochs of this life and writes where they end, before any is used.
///
/// # Errors
/// The directory is missing or cannot be written, or the file is not what it should be.
pub(super) fn take_epochs(directory: &Path, host: &str, wall_us: u64) -> Result<Epochs, String> {
    let path = directory.join(format!("{host}.epochs"));
    let failed = |what: &str, error: &io::Error| {
        format!(
            "[host] key `state_directory`: cannot {what} {}: {error}; vNICs with standbys need it: make \
             the directory, and let this user write there",
            path.display()
        )
    };
    let written = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            format!("{} is no number; remove it, if this host's clock is right", path.display())
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed("read", &error)),
    };
    let epochs = Epochs::after(written, wall_us);
    write(&path, epochs.end()).map_err(|error| failed("write", &error))?;
    Ok(epochs)
}

/// Beside it, synced, renamed.
fn write(path: &Path, end: u64) -> io::Result<()> {
    let beside: PathBuf = path.with_extension("epochs.new");
    let mut file = File::create(&beside)?;
    file.write_all(format!("{end}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    let directory = path.parent().map(File::open).transpose()?;
    directory.map_or(Ok(()), |directory| directory.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    #[test]
    fn each_life_s_epochs_are_above_those_of_the_one_before() {
        let directory = TempDir::new().unwrap();
        let mut first = take_epochs(directory.path(), "a", 1_000).unwrap();
        // The clock went back.
        let mut second = take_epochs(directory.path(), "a", 10).unwrap();
        assert!(second.take() > first.take());
        assert_eq!(second.take(), Some(first.end() + 1));
    }

    #[test]
    fn what_is_wrong_with_the_directory_is_said() {
        let directory = TempDir::new().unwrap();
        let missing = directory.path().join("none");
        let error = take_epochs(&missing, "a", 1).unwrap_err();
        assert!(error.contains("`state_directory`") && error.contains("none"), "{error}");
        fs::write(directory.path().join("a.epochs"), "soon").unwrap();
        assert!(take_epochs(directory.path(), "a", 1).unwrap_err().contains("no number"));
    }
}
