//! The files that results go to: looked at before anything runs, and written after each case, so
//! that a run that is broken off keeps what it had.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::Args;
use wireonce_qemu_tests::{Error, Result};

use crate::io_error;
use crate::result::Results;
use crate::{plot, table};

/// Which files, by kind.
#[derive(Debug, Clone, Default, Args)]
pub struct Outputs {
    /// Write the results to FILE.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the ratios into FILE.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Write the table to FILE, too, as Markdown.
    #[arg(long, value_name = "FILE.md")]
    pub table: Option<PathBuf>,
}

impl Outputs {
    /// Makes sure that all files can be written. One that exists stays as it is, and none is left
    /// that was not there.
    ///
    /// # Errors
    /// Those of all files that cannot be written.
    pub fn check(&self) -> Result<()> {
        all(self.paths().map(can_write))
    }

    /// Writes all files.
    ///
    /// # Errors
    /// Those of all files that could not be written; the others are.
    pub fn write(&self, results: &Results) -> Result<()> {
        let json = self.json.iter().map(|path| results.write(path));
        let plot = self.plot.iter().map(|path| plot::write(results, path));
        let table = self.table.iter().map(|path| table::write(results, path));
        all(json.chain(plot).chain(table))
    }

    /// The files' names, for people.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<_> = self.paths().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.json, &self.plot, &self.table].into_iter().flatten().map(PathBuf::as_path)
    }
}

fn can_write(path: &Path) -> Result<()> {
    let io = || io_error(&format!("cannot write {}", path.display()));
    let is_new = !path.exists();
    File::options().create(true).truncate(false).write(true).open(path).map_err(io())?;
    if is_new { fs::remove_file(path).map_err(io()) } else { Ok(()) }
}

/// All of it happens; the errors are told together.
fn all(results: impl Iterator<Item = Result<()>>) -> Result<()> {
    let errors: Vec<String> =
        results.filter_map(Result::err).map(|error| error.to_string()).collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::Unexpected(errors.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::example;
    use wireonce_qemu_tests::watchdog::TempDir;

    #[test]
    fn a_file_that_cannot_be_written_is_told_and_the_others_are_written() {
        let dir = TempDir::new("output").unwrap();
        let file = |name: &str| Some(dir.path().join(name));
        let outputs = Outputs {
            json: Some(dir.path().to_owned()),
            plot: file("no-such-folder/a.svg"),
            table: file("a.md"),
        };
        for refused in [outputs.check(), outputs.write(&example())] {
            let refused = refused.unwrap_err().to_string();
            assert_eq!(refused.lines().count(), 2, "{refused}");
            assert!(refused.contains("no-such-folder"), "{refused}");
        }
        assert!(fs::read_to_string(dir.path().join("a.md")).unwrap().contains("| case"));
    }

    #[test]
    fn a_look_leaves_files_as_they_are() {
        let dir = TempDir::new("output").unwrap();
        let (old, new) = (dir.path().join("old.json"), dir.path().join("new.md"));
        fs::write(&old, "good").unwrap();
        let outputs =
            Outputs { json: Some(old.clone()), table: Some(new.clone()), ..Outputs::default() };
        outputs.check().unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "good");
        assert!(!new.exists());
    }

    #[test]
    fn results_of_a_run_that_was_broken_off_say_so() {
        let mut results = example();
        assert!(!table::render(&results).contains("broken off"));
        results.whole = false;
        assert!(table::render(&results).contains("broken off"));
    }
}
