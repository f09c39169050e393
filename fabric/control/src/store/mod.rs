//! What the controller needs of a store: the operations of etcd, so that etcd can take
//! the place of the embedded one.
//!
//! ```text
//! revision   of the whole store: one more with each transaction that changed something
//! version    of one key: the revision of its last change
//! txn        if all these keys have these versions, do all of this; or nothing
//! wait, events   what changed after a revision, as long as it is remembered
//! lease      keys that go when nobody renews them
//! ```
//! Keys are texts; a range is all keys with a prefix, in their order.

mod backup;
mod redb;

#[cfg(test)]
mod tests;

pub use self::redb::RedbStore;
pub use backup::{Restored, backup, restore};

use std::{fmt::Debug, time::Duration};

/// A number that only grows; 0 is before everything.
pub type Revision = u64;
/// The number of a lease, chosen by who takes it.
pub type LeaseId = u64;

/// One key and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The revision of its last change.
    pub version: Revision,
}

/// Which keys to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<'k> {
    /// What the keys begin with.
    pub prefix: &'k str,
    /// Only keys after this one.
    pub after: Option<&'k str>,
    /// At most this many.
    pub limit: usize,
}

impl<'k> Range<'k> {
    /// All keys with this prefix.
    #[must_use]
    pub fn all(prefix: &'k str) -> Self {
        Self { prefix, after: None, limit: usize::MAX }
    }
}

/// A condition of a transaction: this key has this version, 0 if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// The version that it must have.
    pub version: Revision,
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Gives a key a value, and perhaps a lease with which it goes.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The lease.
        lease: Option<LeaseId>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// The key.
        key: String,
    },
}

impl Op {
    /// Gives a key a value for good.
    #[must_use]
    pub fn put(key: impl Into<String>, value: Vec<u8>) -> Self {
        Self::Put { key: key.into(), value, lease: None }
    }

    /// Removes a key.
    #[must_use]
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }
}

/// How a transaction went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done, and this is the revision now.
    Done(Revision),
    /// A condition did not hold; nothing was done.
    Conflict,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision that it made.
    pub revision: Revision,
    /// The key.
    pub key: String,
    /// Its value since; `None`: it is gone.
    pub value: Option<Vec<u8>>,
}

/// Why the store did not do what it was asked. What was there before stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room.
    #[error(
        "store {place}: no room is left, so nothing was changed; make room on that file system \
         and try again"
    )]
    Full {
        /// Where the store is.
        place: String,
    },
    /// It is damaged.
    #[error(
        "store {place}: {problem}; move it away and restore a backup with `wireonce control \
         --config FILE --restore BACKUP`"
    )]
    Damaged {
        /// Where the store is.
        place: String,
        /// What was found.
        problem: String,
    },
    /// Another process has it.
    #[error(
        "store {place}: another controller has it open; stop that one, or give another `store`"
    )]
    Busy {
        /// Where the store is.
        place: String,
    },
    /// It cannot be reached.
    #[error(
        "store {place}: {problem}; nothing was changed; see that the file can be read and written"
    )]
    Io {
        /// Where the store is.
        place: String,
        /// What the system said.
        problem: String,
    },
    /// A backup cannot be used.
    #[error("backup: {problem}; {remedy}")]
    Backup {
        /// What is wrong.
        problem: String,
        /// What would be right.
        remedy: &'static str,
    },
    /// Who asked fell too far behind.
    #[error(
        "changes up to revision {oldest} are forgotten; read everything anew, then watch from there"
    )]
    Forgotten {
        /// The newest revision that is not remembered.
        oldest: Revision,
    },
}

/// Where the desired state is kept.
pub trait Store: Send + Sync + Debug {
    /// Reads ranges, all as of the same revision, which is returned.
    ///
    /// # Errors
    /// The store cannot be read.
    fn ranges(&self, ranges: &[Range<'_>]) -> Result<(Revision, Vec<Vec<Entry>>), StoreError>;

    /// Does all of `ops` if all of `compares` hold.
    ///
    /// # Errors
    /// The store cannot be written; nothing was changed.
    fn txn(&self, compares: &[Compare], ops: &[Op]) -> Result<Outcome, StoreError>;

    /// What changed after a revision, of keys with this prefix.
    ///
    /// # Errors
    /// [`StoreError::Forgotten`], or the store cannot be read.
    fn events(&self, prefix: &str, after: Revision) -> Result<Vec<Event>, StoreError>;

    /// Waits until the revision is more than `after`, at most this long, and returns it.
    fn wait(&self, after: Revision, patience: Duration) -> Revision;

    /// Has a store that is empty number its changes from beyond `revision`. A store that numbers by
    /// itself, as etcd does, cannot: there only an older revision can be told from a newer one.
    ///
    /// # Errors
    /// The store cannot be written.
    fn begin_after(&self, revision: Revision) -> Result<(), StoreError>;

    /// Takes or renews a lease of `ttl_s` seconds, from `now_s` on.
    ///
    /// # Errors
    /// The store cannot be written.
    fn lease(&self, id: LeaseId, ttl_s: u64, now_s: u64) -> Result<(), StoreError>;

    /// Removes the keys of leases that ended before `now_s`, and returns how many leases.
    /// etcd does this by itself.
    ///
    /// # Errors
    /// The store cannot be written.
    fn expire(&self, now_s: u64) -> Result<usize, StoreError>;
}
