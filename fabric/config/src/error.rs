//! The one error: where, what is wrong, and what would be right.

use std::fmt;

/// Why a configuration was refused, on one line.
///
/// Reads as `FILE:LINE: TABLE: key `KEY`: what is wrong; what would be right`,
/// where the parts that do not apply are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Box<Parts>);

/// The parts of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The file, as it was named by whoever asked for it.
    pub(crate) origin: String,
    /// Line in the file, from 1.
    pub(crate) line: Option<usize>,
    /// The table with its header and name, such as `[[vnic]] "vm-a"`.
    pub(crate) table: Option<String>,
    /// The key inside the table.
    pub(crate) key: Option<String>,
    /// What is wrong and what would be right.
    pub(crate) fault: Fault,
}

/// What is wrong and what would be right, before its place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    problem: String,
    remedy: String,
}

impl From<Parts> for ConfigError {
    fn from(parts: Parts) -> Self {
        Self(Box::new(parts))
    }
}

impl ConfigError {
    /// The table with its header and name, such as `[[vnic]] "vm-a"`, if it is about one.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.0.table.as_deref()
    }

    /// The key inside the table, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.0.fault.problem
    }

    /// What would be right.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.0.fault.remedy
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { origin, line, table, key, fault } = &*self.0;
        f.write_str(origin)?;
        if let Some(line) = line {
            write!(f, ":{line}")?;
        }
        if let Some(table) = table {
            write!(f, ": {table}")?;
        }
        if let Some(key) = key {
            write!(f, ": key `{key}`")?;
        }
        write!(f, ": {}; {}", fault.problem, fault.remedy)
    }
}

impl std::error::Error for ConfigError {}

impl Fault {
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    /// The same problem with a better remedy.
    pub(crate) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}
