//! A host's own file, and what a controller's text makes of it.
//!
//! ```text
//! [host] [fabric] [control]   the file
//! [[peer]] [[network]] ..     the controller's text, below the line
//! ```
//! Both are read as one file by the one reader; errors name the part that they are in.

use crate::{Config, ConfigError, Control, read_text, reader::File};
use std::path::Path;

/// A host's own file, with or without `[control]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFile {
    origin: String,
    text: String,
    alone: Config,
}

impl HostFile {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let text = read_text(path).map_err(|fault| File::new(&origin, "").whole(fault))?;
        Self::parse(text, &origin)
    }

    /// Validates `text`; `origin` is what errors call the file.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse(text: impl Into<String>, origin: &str) -> Result<Self, ConfigError> {
        let text = text.into();
        let alone = Config::parse(&text, origin)?;
        Ok(Self { origin: origin.to_owned(), text, alone })
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the file says alone. With `[control]` nothing exists in it yet.
    #[must_use]
    pub fn alone(&self) -> &Config {
        &self.alone
    }

    /// Where the host keeps its membership, if it has a controller.
    #[must_use]
    pub fn control(&self) -> Option<&Control> {
        self.alone.control.as_ref()
    }

    /// The file with a controller's text below it; `origin` is what errors call the text.
    ///
    /// # Errors
    /// As [`Config::parse`], of either part.
    pub fn with(&self, text: &str, origin: &str) -> Result<Config, ConfigError> {
        let own = format!("{}\n", self.text.trim_end_matches('\n'));
        let joined = format!("{own}{text}");
        let file = File::joined(&self.origin, origin, &joined, own.len());
        Config::parse_file(&file, &joined, &self.origin)
    }
}
