//! The store as etcd would be asked, and with disks that fail.

use super::*;
use ::redb::StorageBackend;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

fn memory() -> RedbStore {
    RedbStore::in_memory().unwrap()
}

fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    match store.txn(&[], &[Op::put(key, value.as_bytes().to_vec())]).unwrap() {
        Outcome::Done(revision) => revision,
        Outcome::Conflict => panic!("nothing was compared"),
    }
}

fn all(store: &dyn Store) -> Vec<(String, String, Revision)> {
    let (_, ranges) = store.ranges(&[Range::all("")]).unwrap();
    let text = |value| String::from_utf8(value).unwrap();
    ranges.into_iter().flatten().map(|e| (e.key, text(e.value), e.version)).collect()
}

#[test]
fn each_change_is_one_revision_and_a_key_has_that_of_its_last() {
    let store = memory();
    assert_eq!(put(&store, "a", "1"), 1);
    assert_eq!(put(&store, "b", "2"), 2);
    assert_eq!(put(&store, "a", "3"), 3);
    assert_eq!(all(&store), [("a".into(), "3".into(), 3), ("b".into(), "2".into(), 2)]);
}

#[test]
fn a_condition_that_does_not_hold_stops_all_of_it() {
    let store = memory();
    put(&store, "a", "1");
    let stale = [Compare { key: "a".into(), version: 1 }, Compare { key: "b".into(), version: 7 }];
    let ops = [Op::put("a", b"2".to_vec()), Op::delete("a")];
    assert_eq!(store.txn(&stale, &ops).unwrap(), Outcome::Conflict);
    assert_eq!(all(&store), [("a".into(), "1".into(), 1)]);
    let fresh = [Compare { key: "a".into(), version: 1 }, Compare { key: "b".into(), version: 0 }];
    assert_eq!(store.txn(&fresh, &ops).unwrap(), Outcome::Done(2));
    assert_eq!(all(&store), []);
}

#[test]
fn a_range_is_a_prefix_and_can_go_on_after_a_key() {
    let store = memory();
    for key in ["a", "b/1", "b/2", "b/3", "c"] {
        put(&store, key, "");
    }
    let keys = |range: Range<'_>| -> Vec<String> {
        store.ranges(&[range]).unwrap().1.into_iter().flatten().map(|e| e.key).collect()
    };
    assert_eq!(keys(Range::all("b/")), ["b/1", "b/2", "b/3"]);
    assert_eq!(keys(Range { prefix: "b/", after: Some("b/1"), limit: 1 }), ["b/2"]);
    assert_eq!(keys(Range { prefix: "b/", after: Some("b/3"), limit: 9 }), [""; 0]);
}

#[test]
fn a_watcher_misses_nothing_and_is_told_what_is_forgotten() {
    let store = memory();
    put(&store, "a/1", "x");
    store
        .txn(&[], &[Op::put("a/2", b"y".to_vec()), Op::delete("a/1"), Op::put("b", vec![])])
        .unwrap();
    let seen: Vec<_> =
        store.events("a/", 0).unwrap().into_iter().map(|e| (e.revision, e.key, e.value)).collect();
    assert_eq!(
        seen,
        [
            (1, "a/1".to_owned(), Some(b"x".to_vec())),
            (2, "a/2".to_owned(), Some(b"y".to_vec())),
            (2, "a/1".to_owned(), None),
        ]
    );
    assert_eq!(store.events("a/", 2).unwrap(), []);
    assert_eq!(store.wait(1, Duration::from_secs(60)), 2, "no waiting for what is there");
}

#[test]
fn a_lease_takes_its_keys_along_unless_it_is_renewed() {
    let store = memory();
    store.lease(7, 10, 100).unwrap();
    let leased = Op::Put { key: "here".into(), value: b"1".to_vec(), lease: Some(7) };
    store.txn(&[], &[leased, Op::put("stays", vec![])]).unwrap();
    assert_eq!(store.expire(105).unwrap(), 0);
    store.lease(7, 10, 105).unwrap();
    assert_eq!(store.expire(115).unwrap(), 0);
    assert_eq!(store.expire(116).unwrap(), 1);
    assert_eq!(all(&store).len(), 1);
    let last = store.events("here", 1).unwrap();
    assert_eq!(last.iter().map(|e| e.value.clone()).collect::<Vec<_>>(), [None]);
}

#[test]
fn what_was_written_is_there_after_it_is_opened_again_and_one_process_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = RedbStore::open(&path).unwrap();
    put(&store, "a", "1");
    let busy = RedbStore::open(&path).unwrap_err().to_string();
    assert!(busy.contains("another controller has it open; stop that one"), "{busy}");
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(all(&store), [("a".into(), "1".into(), 1)]);
    assert_eq!(put(&store, "b", "2"), 2);
}

#[test]
fn a_file_cut_short_is_one_clear_error_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = RedbStore::open(&path).unwrap();
    for number in 0..200 {
        put(&store, &format!("key/{number}"), &"v".repeat(500));
    }
    let before = all(&store);
    drop(store);
    let whole = fs::read(&path).unwrap();
    for part in 0..24 {
        let len = whole.len() * part / 24;
        fs::write(&path, &whole[..len]).unwrap();
        // Cut in what is unused, it is still all there; else it is refused.
        match RedbStore::open(&path) {
            Ok(store) => assert_eq!(all(&store), before, "cut to {len}"),
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("restore a backup"), "cut to {len}: {said}");
                assert!(!said.contains('\n'), "{said}");
            }
        }
    }
    fs::write(&path, b"this is not a store").unwrap();
    let said = RedbStore::open(&path).unwrap_err().to_string();
    assert!(said.contains("restore a backup"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"this is not a store");
}

/// A disk with so much room, whose content outlives those who open it.
#[derive(Debug, Clone)]
pub(crate) struct SmallDisk {
    bytes: Arc<Mutex<Vec<u8>>>,
    pub(crate) room: Arc<AtomicU64>,
}

impl SmallDisk {
    pub(crate) fn new(room: u64) -> Self {
        Self { bytes: Arc::default(), room: Arc::new(AtomicU64::new(room)) }
    }

    /// The bytes that are in use.
    pub(crate) fn used(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    pub(crate) fn store(&self) -> RedbStore {
        let disk = self.clone();
        RedbStore::on(move || Ok(disk.clone())).unwrap()
    }

    fn full(&self, end: u64) -> bool {
        end > self.room.load(Ordering::Relaxed)
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.used())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if self.full(len) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        // A full disk takes not even what was promised before.
        if self.room.load(Ordering::Relaxed) == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn a_full_disk_is_one_clear_error_and_the_old_state_stands() {
    for limit in [0, 1] {
        let disk = SmallDisk::new(u64::MAX);
        let store = disk.store();
        put(&store, "a", "1");
        // No room at all, or none to grow.
        disk.room.store(disk.used() * limit, Ordering::Relaxed);
        let big = [Op::put("a", vec![b'x'; 16 << 20]), Op::put("b", vec![])];
        let said = store.txn(&[], &big).unwrap_err();
        assert!(matches!(said, StoreError::Full { .. }), "{said}");
        assert!(said.to_string().contains("nothing was changed; make room"), "{said}");
        disk.room.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(all(&store), [("a".into(), "1".into(), 1)]);
        assert_eq!(put(&store, "a", "2"), 2, "and it goes on when there is room");
    }
}

#[test]
fn a_backup_fills_an_empty_store_and_no_other() {
    let store = memory();
    put(&store, "house", "{}");
    put(&store, "a/b", "text\nwith \"all\" sorts");
    put(&store, "status/x", "passing");
    let text = backup(&store).unwrap();
    let fresh = memory();
    assert_eq!(restore(&fresh, &text).unwrap(), Restored { keys: 2, revision: 3 });
    let pairs = |store: &RedbStore| -> Vec<(String, String)> {
        all(store).into_iter().filter(|e| e.0 != "status/x").map(|e| (e.0, e.1)).collect()
    };
    assert_eq!(pairs(&fresh), pairs(&store));
    let said = restore(&fresh, &text).unwrap_err().to_string();
    assert_eq!(said, "backup: the store is not empty; move its file away first");
    assert_eq!(restore(&memory(), &backup(&memory()).unwrap()).unwrap().keys, 0);
}

/// Whoever remembers a revision of the old store, before or after its backup, must not take something
/// of the new one for it.
#[test]
fn no_revision_of_the_old_store_comes_again_in_a_restored_one() {
    let store = memory();
    put(&store, "house", "{}");
    let text = backup(&store).unwrap();
    let last = put(&store, "a", "after the backup");
    let fresh = memory();
    restore(&fresh, &text).unwrap();
    let versions: Vec<Revision> = all(&fresh).into_iter().map(|entry| entry.2).collect();
    assert!(versions.iter().all(|version| *version > last + 999_000), "{versions:?}");
    assert_eq!(put(&fresh, "a", "1"), versions[0] + 1);
    assert!(matches!(fresh.events("", last), Err(StoreError::Forgotten { .. })));
    assert_eq!(fresh.wait(0, Duration::ZERO), versions[0] + 1);
}

#[test]
fn a_backup_cut_short_or_altered_is_refused_and_nothing_is_restored() {
    let store = memory();
    put(&store, "a", "1");
    put(&store, "b", "2");
    let text = backup(&store).unwrap();
    let fresh = memory();
    for len in 0..text.len() - 1 {
        assert!(restore(&fresh, &text[..len]).is_err(), "cut to {len} of {}", text.len());
    }
    let altered = text.replace("\"1\"", "\"7\"");
    let said = restore(&fresh, &altered).unwrap_err().to_string();
    assert!(said.contains("its checksum does not fit; take a backup that is whole"), "{said}");
    assert_eq!(all(&fresh), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever applies all events to what he had has what is there.
    #[test]
    fn events_lead_from_any_revision_to_the_present(
        changes in prop::collection::vec((0u8..6, any::<Option<u8>>()), 1..40),
        from in 0u64..40,
    ) {
        let store = memory();
        let mut known: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let apply = |known: &mut BTreeMap<String, Vec<u8>>, events: Vec<Event>| {
            for event in events {
                match event.value {
                    Some(value) => known.insert(event.key, value),
                    None => known.remove(&event.key),
                };
            }
        };
        let mut at = 0;
        for (key, value) in &changes {
            let key = format!("k/{key}");
            let op = match value {
                Some(value) => Op::put(key, vec![*value]),
                None => Op::delete(key),
            };
            store.txn(&[], &[op]).unwrap();
            if store.wait(0, Duration::ZERO) <= from {
                apply(&mut known, store.events("", at).unwrap());
                at = store.wait(0, Duration::ZERO);
            }
        }
        apply(&mut known, store.events("", at).unwrap());
        let now: BTreeMap<String, Vec<u8>> =
            store.ranges(&[Range::all("")]).unwrap().1.into_iter().flatten()
                .map(|e| (e.key, e.value)).collect();
        prop_assert_eq!(known, now);
    }
}
