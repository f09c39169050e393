//! The epochs of a server's vNICs on disk, so that those of its next life are above them.
//!
//! One line: where they end, and the same number with every bit turned round. So a file that was cut short,
//! or of which bits changed, is not believed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};
use wireonce_home::{EPOCH_MAX, Epochs};

/// `HOST.epochs` in the state directory.
#[derive(Debug, Clone)]
pub(super) struct EpochFile {
    path: PathBuf,
}

impl EpochFile {
    pub(super) fn new(directory: &Path, host: &str) -> Self {
        Self { path: directory.join(format!("{host}.epochs")) }
    }

    /// Takes the epochs of this life and writes where they end, before any is used.
    ///
    /// # Errors
    /// The directory is missing or cannot be written, or the file is not what it should be.
    pub(super) fn take(&self, wall_us: u64) -> Result<Epochs, String> {
        let written = match fs::read_to_string(&self.path) {
            Ok(text) => parse(&text).ok_or_else(|| self.broken())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(self.broken()),
            Err(error) => return Err(self.failed("read", &error)),
        };
        let epochs = Epochs::after(written, wall_us);
        self.write(epochs.end())?;
        Ok(epochs)
    }

    /// Writes where the epochs end now: beside it, synced, renamed.
    ///
    /// # Errors
    /// What is wrong with the directory or the disk; what was there before stands.
    pub(super) fn write(&self, end: u64) -> Result<(), String> {
        self.replace(end).map_err(|error| self.failed("write", &error))
    }

    fn replace(&self, end: u64) -> io::Result<()> {
        let beside = self.path.with_extension("epochs.new");
        let mut file = File::create(&beside)?;
        file.write_all(emit(end).as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        let directory = self.path.parent().map(File::open).transpose()?;
        directory.map_or(Ok(()), |directory| directory.sync_all())
    }

    fn failed(&self, what: &str, error: &io::Error) -> String {
        format!(
            "[host] key `state_directory`: cannot {what} {}: {error}; vNICs with standbys need it: make \
             the directory, and let this user write there",
            self.path.display()
        )
    }

    fn broken(&self) -> String {
        format!(
            "{} is not whole: it was cut short or changed; if this host's clock is right, remove it, and epochs \
             begin at the clock",
            self.path.display()
        )
    }
}

fn emit(end: u64) -> String {
    format!("{end} {:016x}\n", !end)
}

/// The number in a file that is whole. Files without a check were written once: they are whole if their line ends.
fn parse(text: &str) -> Option<u64> {
    let digits = text.split([' ', '\n']).next()?;
    let end = digits.parse().ok().filter(|end| *end <= EPOCH_MAX)?;
    (text == emit(end) || text == format!("{end}\n")).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn file(directory: &TempDir) -> EpochFile {
        EpochFile::new(directory.path(), "a")
    }

    #[test]
    fn each_life_s_epochs_are_above_those_of_the_one_before() {
        let directory = TempDir::new().unwrap();
        let mut first = file(&directory).take(1_000).unwrap();
        // The clock went back.
        let mut second = file(&directory).take(10).unwrap();
        assert!(second.take() > first.take());
        assert_eq!(second.take(), Some(first.end() + 1));
    }

    #[test]
    fn a_block_that_was_taken_later_counts_for_the_next_life() {
        let directory = TempDir::new().unwrap();
        let mut first = file(&directory).take(1_000).unwrap();
        assert!(!first.raise(first.end()));
        let end = first.due(0).unwrap();
        file(&directory).write(end).unwrap();
        first.written(0, true);
        assert!(first.raise(end - (1 << 32)));
        assert_eq!(file(&directory).take(10).unwrap().take(), Some(end));
    }

    #[test]
    fn a_file_that_was_cut_short_or_changed_is_refused_and_stands() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.epochs");
        let whole = emit(1_795_458_213_000_017);
        for cut in 0..whole.len() {
            let text = &whole[..cut];
            fs::write(&path, text).unwrap();
            let error = file(&directory).take(1).unwrap_err();
            assert!(error.contains("not whole") && error.contains("a.epochs"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let other = whole.replacen('7', "6", 1);
        for text in [
            "soon\n",
            "+5\n",
            " 5\n",
            "5 5\n",
            "18446744073709551615\n",
            "\0\0\0\0",
            other.as_str(),
        ] {
            fs::write(&path, text).unwrap();
            assert!(file(&directory).take(1).is_err(), "{text:?}");
        }
        fs::write(&path, [0xff]).unwrap();
        assert!(file(&directory).take(1).unwrap_err().contains("not whole"));
    }

    #[test]
    fn a_whole_file_is_read_with_and_without_a_check() {
        let directory = TempDir::new().unwrap();
        for text in [emit(17_000), "17000\n".to_owned()] {
            fs::write(directory.path().join("a.epochs"), text).unwrap();
            assert_eq!(file(&directory).take(1).unwrap().take(), Some(17_000));
        }
    }

    #[test]
    fn what_is_wrong_with_the_directory_is_said() {
        let directory = TempDir::new().unwrap();
        let missing = EpochFile::new(&directory.path().join("none"), "a");
        for error in [missing.take(1).unwrap_err(), missing.write(1).unwrap_err()] {
            assert!(error.contains("`state_directory`") && error.contains("none"), "{error}");
        }
    }
}
