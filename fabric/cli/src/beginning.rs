//! What a daemon begins with: its file, and if it has a controller the last text that it took.
//!
//! ```text
//! file ─┬─ without [control]: all of it
//!       └─ with: membership ─ state.toml ─┬─ whole: begin with it, ask nobody
//!                                         └─ none, or not to be used: begin with nothing, and wait
//! ```

use crate::{check, failure::Failure, reload::Source};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};
use wireonce_config::{Config, HostFile, Serves};
use wireonce_member::{Directory, Text};

/// What errors call the controller's text.
pub(crate) const TEXT_ORIGIN: &str = "the controller's text";

/// What a daemon begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// The configuration.
    pub(crate) config: Arc<Config>,
    /// Where the next ones come from.
    pub(crate) source: Source,
    /// What is to be said as soon as there is a log.
    pub(crate) warnings: Vec<String>,
}

/// A host's membership, and the text that it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Where it is kept.
    pub(crate) directory: Directory,
    /// The tag of the text that the daemon began with; `None`: it began with nothing.
    pub(crate) served: Option<String>,
    /// The last text, if it could not be used on this machine as it was then.
    pub(crate) refused: Option<Text>,
}

/// Reads what there is, and checks it against the machine.
pub(crate) fn begin(path: &Path, serves: Serves) -> Result<Beginning, Failure> {
    let file = HostFile::load(path)?;
    let mut warnings = Vec::new();
    let (mut config, mut joined, mut newest) = (file.alone().clone(), None, None);
    if let Some(control) = file.control() {
        let directory = Directory::new(&control.directory);
        directory.membership().map_err(|error| Failure::Input(error.to_string()))?;
        newest = cached(&directory, &mut warnings);
        let used = newest.as_ref().and_then(|text| usable(&file, text, serves, &mut warnings));
        let (served, refused) = match &used {
            Some(_) => (newest.as_ref().map(|text| text.tag().to_owned()), None),
            None => (None, newest.clone()),
        };
        config = used.unwrap_or(config);
        joined = Some(Joined { directory, served, refused });
    }
    let public_key = check::machine(&config, serves)?;
    let newest = Mutex::new(newest);
    let source = Source { path: path.to_owned(), public_key, newest, joined };
    Ok(Beginning { config: Arc::new(config), source, warnings })
}

fn cached(directory: &Directory, warnings: &mut Vec<String>) -> Option<Text> {
    match directory.text() {
        Ok(Some(text)) => Some(text),
        Ok(None) => {
            let what = "no text has come yet: nothing is served until the controller answers";
            warnings.push(what.to_owned());
            None
        }
        Err(error) => {
            warnings.push(error.to_string());
            None
        }
    }
}

/// The file with the text, if it can be used on this machine.
fn usable(
    file: &HostFile,
    text: &Text,
    serves: Serves,
    warnings: &mut Vec<String>,
) -> Option<Config> {
    let config = file.with(text.text(), TEXT_ORIGIN).map_err(Failure::from);
    match config.and_then(|config| check::machine(&config, serves).map(|_| config)) {
        Ok(config) => Some(config),
        Err(failure) => {
            let reason = failure.text();
            warnings
                .push(format!("the last text cannot be used, so nothing is served yet: {reason}"));
            None
        }
    }
}
