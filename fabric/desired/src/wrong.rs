//! The one error: which thing, what is wrong with it, and what would be right.

use std::fmt;

/// Why an object, or a house as a whole, is not accepted.
///
/// Reads as `THING: key `KEY`: what is wrong; what would be right`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Wrong {
    /// The thing, such as `[[vnic]] "vm-a"`.
    pub thing: String,
    /// The key inside it, if it is about one.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl Wrong {
    /// A thing that is wrong as a whole.
    #[must_use]
    pub fn new(
        thing: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { thing: thing.into(), key: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// The same, about one key of the thing.
    #[must_use]
    pub fn at(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.thing)?;
        if let Some(key) = &self.key {
            write!(f, ": key `{key}`")?;
        }
        write!(f, ": {}; {}", self.problem, self.remedy)
    }
}

/// How many known names an error lists.
const LISTED: usize = 8;

/// What would be right instead of a name that leads nowhere: the one that was
/// probably meant, or those that there are, or to add it.
pub(crate) fn instead<'k>(
    name: &str,
    plural: &str,
    add: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    match wireonce_config::nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None if known.is_empty() => format!("add {add}"),
        None => {
            let more = if known.len() > LISTED { ", .." } else { "" };
            let listed: Vec<String> =
                known.iter().take(LISTED).map(|name| format!("{name:?}")).collect();
            format!("add {add}, or give one of the {plural} {}{more}", listed.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_thing_the_fault_and_the_remedy() {
        let wrong = Wrong::new("[[vnic]] \"a\"", "is bad", "make it good").at("mac");
        assert_eq!(wrong.to_string(), "[[vnic]] \"a\": key `mac`: is bad; make it good");
    }

    #[test]
    fn a_slip_is_mended_and_a_stranger_gets_the_list() {
        let known = ["east", "west"];
        assert_eq!(instead("eats", "pools", "a [[pool]]", known), "did you mean \"east\"?");
        assert_eq!(
            instead("elsewhere", "pools", "a [[pool]]", known),
            "add a [[pool]], or give one of the pools \"east\", \"west\""
        );
        assert_eq!(instead("x", "pools", "a [[pool]]", []), "add a [[pool]]");
    }
}
