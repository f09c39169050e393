//! Things of which there may be only one, and names that lead nowhere.

use crate::{
    error::{ConfigError, Fault},
    nearest::nearest,
    reader::{At, File},
};
use std::{collections::HashMap, fmt::Debug, hash::Hash};

/// How many known names an error lists.
const LISTED: usize = 8;

/// Who has which value of one key.
pub(crate) struct Unique<'a, K> {
    file: &'a File,
    key: &'static str,
    noun: &'static str,
    remedy: &'static str,
    owners: HashMap<K, (String, usize)>,
}

impl<'a, K: Eq + Hash> Unique<'a, K> {
    /// Nobody has anything yet. The `noun` is what people call the values of `key`.
    pub(crate) fn new(
        file: &'a File,
        key: &'static str,
        noun: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self { file, key, noun, remedy, owners: HashMap::new() }
    }

    /// Gives `value` to `owner`, or says who has it. `shown` is the value with its
    /// verb: `7 is`.
    pub(crate) fn claim_shown(
        &mut self,
        title: &str,
        owner: &str,
        value: K,
        line: usize,
        shown: &str,
    ) -> Result<(), ConfigError> {
        if let Some((other, at)) = self.owners.get(&value) {
            let problem = format!("{shown} already the {} of {other} (line {at})", self.noun);
            let fault = Fault::new(problem, self.remedy);
            return Err(self.file.error(line, title, Some(self.key), fault));
        }
        self.owners.insert(value, (owner.to_owned(), line));
        Ok(())
    }
}

impl<K: Eq + Hash + Debug + Clone> Unique<'_, K> {
    /// Gives a value to `owner` that reads well as it is.
    pub(crate) fn claim(
        &mut self,
        title: &str,
        owner: &str,
        value: &At<K>,
    ) -> Result<(), ConfigError> {
        let shown = format!("{:?} is", value.value);
        self.claim_shown(title, owner, value.value.clone(), value.line, &shown)
    }
}

/// The fault of a name that leads nowhere: `what` it is not, the names that would
/// have led somewhere, and what to add otherwise.
pub(crate) fn unknown<'k>(
    name: &str,
    what: &str,
    plural: &str,
    add: &str,
    known: impl Iterator<Item = &'k str>,
) -> Fault {
    // Sorted: a hash map's order would make two runs print different errors.
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let remedy = match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None if known.is_empty() => format!("add {add}"),
        None => {
            let more = if known.len() > LISTED { ", .." } else { "" };
            let listed: Vec<String> =
                known.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
            format!("add {add}, or give one of the {plural} {}{more}", listed.join(", "))
        }
    };
    Fault::new(format!("{name:?} is {what}"), remedy)
}
