//! 2 MB pages: what is missing of free ones is added to the machine's pool, and just that is given
//! back. The pool may be others' too: an operator's VMs, or another test bed beside this one.
//!
//! ```text
//!   pool     4096, 100 of them free; 512 wanted
//!   reserve  +412 -> 4508
//!   (others  +1000 -> 5508)
//!   drop     -412 -> 5096
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Context, Error, Result};
use crate::watchdog;

/// The kernel's pool of 2 MB pages (admin-guide/mm/hugetlbpage).
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const SIZE: &str = "nr_hugepages";

/// Tells the reservations of this process apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Makes sure of `megabytes` of free 2 MB pages until the value is dropped, or this process ends.
///
/// # Errors
/// The kernel does not have that much memory in one piece, or we are not root.
pub fn reserve(megabytes: u32) -> Result<HugePages> {
    HugePages::reserve(Path::new(POOL), u64::from(megabytes.div_ceil(2)))
}

/// Pages that were added to a pool; dropping it takes them out again.
#[derive(Debug)]
pub struct HugePages {
    pool: PathBuf,
    added: u64,
    id: String,
}

impl HugePages {
    fn reserve(pool: &Path, wanted: u64) -> Result<Self> {
        let _turn = take_turn(pool)?;
        let before = Count::read(pool)?;
        let added = before.missing(wanted);
        let id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
        if added > 0 {
            watchdog::watch_pages(&id, added, pool)?;
            add(pool, before, added).inspect_err(|_| watchdog::forget_pages(&id))?;
        }
        Ok(Self { pool: pool.to_owned(), added, id })
    }
}

/// All of `added` pages, or none. The caller has the pool's turn.
fn add(pool: &Path, before: Count, added: u64) -> Result<()> {
    // The kernel takes any number and makes as many pages as it can.
    write(pool, before.all + added)?;
    let got = Count::read(pool)?.all.saturating_sub(before.all);
    if got >= added {
        return Ok(());
    }
    take_out(pool, got)?;
    Err(Error::Unexpected(format!(
        "the kernel made {got} of {added} more 2 MB pages: it has too little free memory in one \
         piece"
    )))
}

/// The caller has the pool's turn.
fn take_out(pool: &Path, added: u64) -> Result<()> {
    write(pool, Count::read(pool)?.all.saturating_sub(added))
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if self.added == 0 {
            return;
        }
        // Without a turn it is still better to give back than to keep.
        let _turn = take_turn(&self.pool);
        // If this fails, the watchdog tries once more at our end.
        if take_out(&self.pool, self.added).is_ok() {
            watchdog::forget_pages(&self.id);
        }
    }
}

/// A pool's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    all: u64,
    /// Neither in use nor promised to somebody who has not touched them yet.
    free: u64,
}

impl Count {
    fn read(pool: &Path) -> Result<Self> {
        let [all, free, promised] =
            [SIZE, "free_hugepages", "resv_hugepages"].map(|name| number(&pool.join(name)));
        Ok(Self { all: all?, free: free?.saturating_sub(promised?) })
    }

    /// How many must be added for `wanted` free ones.
    fn missing(self, wanted: u64) -> u64 {
        wanted.saturating_sub(self.free)
    }
}

fn number(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().map_err(|_| {
        Error::Unexpected(format!("{} has `{}`, not a number", path.display(), text.trim()))
    })
}

fn write(pool: &Path, pages: u64) -> Result<()> {
    let path = pool.join(SIZE);
    fs::write(&path, pages.to_string()).context(|| format!("cannot write {}", path.display()))
}

/// Keeps other test beds (and their watchdogs) from changing the pool between our look and our
/// change, until the value is dropped.
fn take_turn(pool: &Path) -> Result<File> {
    let path = pool.join(SIZE);
    let name = || format!("cannot lock {}", path.display());
    let file = File::open(&path).context(name)?;
    file.lock().context(name)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::TempDir;

    /// A pool that gives what it is asked for; none of it is ever used.
    fn pool(all: u64, free: u64, promised: u64) -> TempDir {
        let dir = TempDir::new("pool").unwrap();
        for (name, value) in [(SIZE, all), ("free_hugepages", free), ("resv_hugepages", promised)] {
            fs::write(dir.path().join(name), value.to_string()).unwrap();
        }
        dir
    }

    fn all(pool: &TempDir) -> u64 {
        Count::read(pool.path()).unwrap().all
    }

    #[test]
    fn only_what_is_missing_of_free_pages_is_added() {
        assert_eq!(Count { all: 4096, free: 100 }.missing(512), 412);
        assert_eq!(Count { all: 2048, free: 0 }.missing(2048), 2048, "all are in use");
        assert_eq!(Count { all: 4096, free: 4096 }.missing(2048), 0);
        let promised = pool(1000, 600, 500);
        let pages = HugePages::reserve(promised.path(), 512).unwrap();
        assert_eq!(all(&promised), 1412);
        drop(pages);
    }

    #[test]
    fn an_operators_pool_is_as_before_in_the_end() {
        let operators = pool(4096, 96, 0);
        let pages = HugePages::reserve(operators.path(), 2048).unwrap();
        assert_eq!(all(&operators), 6048);
        drop(pages);
        assert_eq!(all(&operators), 4096);
        drop(HugePages::reserve(operators.path(), 10).unwrap());
        assert_eq!(all(&operators), 4096);
    }

    #[test]
    fn of_two_at_once_each_gives_back_its_own() {
        let shared = pool(0, 0, 0);
        let first = HugePages::reserve(shared.path(), 2048).unwrap();
        let second = HugePages::reserve(shared.path(), 1024).unwrap();
        assert_eq!(all(&shared), 3072);
        drop(first);
        assert_eq!(all(&shared), 1024);
        drop(second);
        assert_eq!(all(&shared), 0);
    }

    #[test]
    fn what_somebody_else_took_out_is_not_taken_twice() {
        let shrunk = pool(0, 0, 0);
        let pages = HugePages::reserve(shrunk.path(), 512).unwrap();
        write(shrunk.path(), 100).unwrap();
        drop(pages);
        assert_eq!(all(&shrunk), 0);
    }
}
