//! The embedded store: one file, one process, every transaction on disk before it counts.
//!
//! After an error of the disk, redb refuses everything until the file is opened anew. That
//! is done here at the next call: what was committed before is there again, and what
//! was not is not.

use super::{Compare, Entry, Event, LeaseId, Op, Outcome, Range, Revision, Store, StoreError};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction, backends::InMemoryBackend,
};
use std::{
    fmt, fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Key: (version, lease or 0, value).
const CURRENT: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("current");
/// (Revision, position in it): (key, whether it has a value, value).
const EVENTS: TableDefinition<'_, (u64, u64), (&str, bool, &[u8])> = TableDefinition::new("events");
/// Lease: when it ends.
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// Lease, key.
const LEASED: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("leased");
/// `revision` and nothing else so far.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// How many revisions are remembered for watchers.
pub(super) const REVISIONS_KEPT: u64 = 10_000;
/// How much of the file is kept in memory, bytes.
const CACHE_BYTES: usize = 64 << 20;

/// The embedded store.
pub struct RedbStore {
    place: String,
    open: Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>,
    /// `None` after an error of the disk, until it is opened again.
    database: Mutex<Option<Database>>,
    revision: Mutex<Revision>,
    grown: Condvar,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("place", &self.place).finish_non_exhaustive()
    }
}

impl RedbStore {
    /// Opens the store at `path`, or makes it if there is no file.
    ///
    /// # Errors
    /// The file is damaged, in use, or cannot be read and written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let place = path.display().to_string();
        let path: PathBuf = path.to_owned();
        let shown = place.clone();
        Self::with(place, move || {
            // An empty file would become an empty house without a word.
            match fs::metadata(&path) {
                Ok(found) if found.len() == 0 => {
                    let problem = "the file is empty".to_owned();
                    return Err(StoreError::Damaged { place: shown.clone(), problem });
                }
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(io_error(&shown, &error));
                }
                _ => {}
            }
            let database = builder().create(&path);
            let database = database.map_err(|error| database_error(&shown, error))?;
            // It holds the key of the certificate authority.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|error| io_error(&shown, &error))?;
            Ok(database)
        })
    }

    /// A store in memory, which is gone when it is dropped.
    ///
    /// # Errors
    /// There is no memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::on(|| Ok(InMemoryBackend::new()))
    }

    /// A store on something else than a file.
    ///
    /// # Errors
    /// What it holds is damaged, or cannot be read and written.
    pub fn on<B: StorageBackend>(
        backend: impl Fn() -> std::io::Result<B> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Self::with("in memory".to_owned(), move || {
            let backend = backend().map_err(|error| io_error("in memory", &error))?;
            let opened = builder().create_with_backend(backend);
            opened.map_err(|error| database_error("in memory", error))
        })
    }

    fn with(
        place: String,
        open: impl Fn() -> Result<Database, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let store = Self {
            place,
            open: Box::new(open),
            database: Mutex::new(None),
            revision: Mutex::new(0),
            grown: Condvar::new(),
        };
        let revision = store.attempt(|database| {
            let write = database.begin_write()?;
            // Opened once, so that reading never meets a table that is not there.
            write.open_table(CURRENT)?;
            write.open_table(EVENTS)?;
            write.open_table(LEASES)?;
            write.open_table(LEASED)?;
            let revision = write.open_table(META)?.get("revision")?.map_or(0, |v| v.value());
            write.commit()?;
            Ok(revision)
        })?;
        *lock(&store.revision) = revision;
        Ok(store)
    }

    /// Does something with the database, opened again if need be; after an error it is
    /// closed.
    fn attempt<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut database = lock(&self.database);
        let open = match database.take() {
            Some(open) => open,
            None => (self.open)()?,
        };
        match work(&open) {
            Ok(done) => {
                *database = Some(open);
                Ok(done)
            }
            Err(error) => {
                drop(open);
                Err(store_error(&self.place, &error))
            }
        }
    }

    /// Writes, and tells those who wait.
    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction, Revision) -> Result<bool, redb::Error>,
    ) -> Result<Option<Revision>, StoreError> {
        let done = self.attempt(|database| {
            let write = database.begin_write()?;
            let before = write.open_table(META)?.get("revision")?.map_or(0, |v| v.value());
            let revision = before + 1;
            if !work(&write, revision)? {
                write.abort()?;
                return Ok(None);
            }
            write.open_table(META)?.insert("revision", revision)?;
            if let Some(last) = revision.checked_sub(REVISIONS_KEPT) {
                write.open_table(EVENTS)?.retain_in(..(last + 1, 0), |_, _| false)?;
            }
            write.commit()?;
            Ok(Some(revision))
        })?;
        if let Some(revision) = done {
            *lock(&self.revision) = revision;
            self.grown.notify_all();
        }
        Ok(done)
    }
}

impl Store for RedbStore {
    fn ranges(&self, ranges: &[Range<'_>]) -> Result<(Revision, Vec<Vec<Entry>>), StoreError> {
        self.attempt(|database| {
            let read = database.begin_read()?;
            let revision = read.open_table(META)?.get("revision")?.map_or(0, |v| v.value());
            let table = read.open_table(CURRENT)?;
            let mut found = Vec::with_capacity(ranges.len());
            for range in ranges {
                let mut entries = Vec::new();
                let first = range.after.filter(|after| *after > range.prefix);
                for item in table.range(first.unwrap_or(range.prefix)..)? {
                    let (key, value) = item?;
                    let key = key.value();
                    if !key.starts_with(range.prefix) || entries.len() >= range.limit {
                        break;
                    }
                    if range.after == Some(key) {
                        continue;
                    }
                    let (version, _, value) = value.value();
                    entries.push(Entry { key: key.to_owned(), value: value.to_vec(), version });
                }
                found.push(entries);
            }
            Ok((revision, found))
        })
    }

    fn txn(&self, compares: &[Compare], ops: &[Op]) -> Result<Outcome, StoreError> {
        let done = self.write(|write, revision| {
            let mut current = write.open_table(CURRENT)?;
            for compare in compares {
                let found = current.get(compare.key.as_str())?.map_or(0, |v| v.value().0);
                if found != compare.version {
                    return Ok(false);
                }
            }
            let mut events = write.open_table(EVENTS)?;
            let mut leased = write.open_table(LEASED)?;
            for (at, op) in (0u64..).zip(ops) {
                match op {
                    Op::Put { key, value, lease } => {
                        let lease = lease.unwrap_or(0);
                        let old = current.insert(key.as_str(), (revision, lease, &value[..]))?;
                        if let Some(old) = old.map(|old| old.value().1).filter(|old| *old != 0) {
                            leased.remove((old, key.as_str()))?;
                        }
                        if lease != 0 {
                            leased.insert((lease, key.as_str()), ())?;
                        }
                        events.insert((revision, at), (key.as_str(), true, &value[..]))?;
                    }
                    Op::Delete { key } => {
                        if let Some(old) = current.remove(key.as_str())? {
                            leased.remove((old.value().1, key.as_str()))?;
                            events.insert((revision, at), (key.as_str(), false, &[][..]))?;
                        }
                    }
                }
            }
            Ok(true)
        })?;
        Ok(done.map_or(Outcome::Conflict, Outcome::Done))
    }

    fn events(&self, prefix: &str, after: Revision) -> Result<Vec<Event>, StoreError> {
        let oldest = self.wait(0, Duration::ZERO).saturating_sub(REVISIONS_KEPT);
        if after < oldest {
            return Err(StoreError::Forgotten { oldest });
        }
        self.attempt(|database| {
            let read = database.begin_read()?;
            let mut found = Vec::new();
            for item in read.open_table(EVENTS)?.range((after + 1, 0)..)? {
                let (place, event) = item?;
                let (revision, _) = place.value();
                let (key, is_there, value) = event.value();
                if key.starts_with(prefix) {
                    let value = is_there.then(|| value.to_vec());
                    found.push(Event { revision, key: key.to_owned(), value });
                }
            }
            Ok(found)
        })
    }

    fn wait(&self, after: Revision, patience: Duration) -> Revision {
        let revision = lock(&self.revision);
        if patience.is_zero() {
            return *revision;
        }
        let waited = self.grown.wait_timeout_while(revision, patience, |now| *now <= after);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn begin_after(&self, revision: Revision) -> Result<(), StoreError> {
        let revision = self.attempt(|database| {
            let write = database.begin_write()?;
            let before = write.open_table(META)?.get("revision")?.map_or(0, |v| v.value());
            write.open_table(META)?.insert("revision", before.max(revision))?;
            write.commit()?;
            Ok(before.max(revision))
        })?;
        *lock(&self.revision) = revision;
        self.grown.notify_all();
        Ok(())
    }

    fn lease(&self, id: LeaseId, ttl_s: u64, now_s: u64) -> Result<(), StoreError> {
        self.attempt(|database| {
            let write = database.begin_write()?;
            write.open_table(LEASES)?.insert(id, now_s.saturating_add(ttl_s))?;
            write.commit()?;
            Ok(())
        })
    }

    fn expire(&self, now_s: u64) -> Result<usize, StoreError> {
        let ended: Vec<LeaseId> = self.attempt(|database| {
            let read = database.begin_read()?;
            let mut ended = Vec::new();
            for item in read.open_table(LEASES)?.iter()? {
                let (id, end) = item?;
                if end.value() < now_s {
                    ended.push(id.value());
                }
            }
            Ok(ended)
        })?;
        if ended.is_empty() {
            return Ok(0);
        }
        self.write(|write, revision| {
            let mut current = write.open_table(CURRENT)?;
            let mut events = write.open_table(EVENTS)?;
            let mut leased = write.open_table(LEASED)?;
            let mut leases = write.open_table(LEASES)?;
            let mut at = 0;
            for id in &ended {
                leases.remove(id)?;
                let mut keys = Vec::new();
                for item in leased.range((*id, "")..)? {
                    let place = item?.0;
                    let (owner, key) = place.value();
                    if owner != *id {
                        break;
                    }
                    keys.push(key.to_owned());
                }
                for key in keys {
                    leased.remove((*id, key.as_str()))?;
                    current.remove(key.as_str())?;
                    events.insert((revision, at), (key.as_str(), false, &[][..]))?;
                    at += 1;
                }
            }
            Ok(true)
        })?;
        Ok(ended.len())
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    // A file that was cut short or altered is refused, never trusted.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// A lock whose holder panicked still holds what it held: nothing is half done in it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn database_error(place: &str, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Busy { place: place.to_owned() },
        other => store_error(place, &other.into()),
    }
}

fn store_error(place: &str, error: &redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => io_error(place, error),
        redb::Error::Corrupted(problem) => {
            let problem = format!("the file is damaged: {problem}");
            StoreError::Damaged { place: place.to_owned(), problem }
        }
        other => StoreError::Io { place: place.to_owned(), problem: other.to_string() },
    }
}

fn io_error(place: &str, error: &std::io::Error) -> StoreError {
    let place = place.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full { place }
        }
        // What opening says of a file that is no store, or not all of one.
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            StoreError::Damaged { place, problem: format!("the file is damaged: {error}") }
        }
        _ => StoreError::Io { place, problem: error.to_string() },
    }
}
