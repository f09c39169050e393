use std::sync::Mutex;

use vm_memory::GuestAddress;

use super::*;

const FEATURES: u64 = VERSION_1_BIT | PROTOCOL_FEATURES_BIT | 1;

/// Writes down what it is told. Rings stop at index 77.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    refuse: bool,
}

impl Notes {
    fn add(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

impl PortEvents for Notes {
    fn connected(&self) {}

    fn features_acked(&self, features: u64) {
        self.add(format!("features {features:#x}"));
    }

    fn ring_started(&self, start: RingStart) -> Result<(), String> {
        if self.refuse {
            return Err("no".to_owned());
        }
        let RingStart { index, config, call, enabled, kick, .. } = start;
        assert!(kick.is_some());
        assert_eq!(config.features, FEATURES & !PROTOCOL_FEATURES_BIT);
        let (size, base, table) = (config.size, config.base, config.descriptor_table);
        let call = call.is_some();
        self.add(format!("start {index} {size} {base} {table:#x} {call} {enabled}"));
        Ok(())
    }

    fn ring_stopped(&self, index: u16) -> u16 {
        self.add(format!("stop {index}"));
        77
    }

    fn ring_enabled(&self, index: u16, enabled: bool) {
        self.add(format!("enable {index} {enabled}"));
    }

    fn ring_call(&self, index: u16, call: Option<OwnedFd>) {
        self.add(format!("call {index} {}", call.is_some()));
    }

    fn memory_replaced(&self, memory: Arc<GuestMemory>) {
        self.add(format!("memory {}", memory.iter().count()));
    }

    fn announce(&self) {}

    fn disconnected(&self) {}
}

fn book_with(notes: &Arc<Notes>) -> Book {
    let events: Arc<dyn PortEvents> = Arc::clone(notes) as _;
    Book::new(events, Arc::new(Board::new("v", 2)), 2)
}

fn descriptor() -> Option<OwnedFd> {
    Some(tempfile::tempfile().unwrap().into())
}

fn at(base: u64) -> Addresses {
    Addresses { descriptors: base, available: base + 0x1000, used: base + 0x2000 }
}

/// What the daemon does on a kick: the descriptor, then ready.
fn kick(book: &mut Book, index: u16) {
    book.set_kick(index, descriptor());
    book.set_ready(index, true);
}

/// What the daemon does on GET_VRING_BASE.
fn get_base(book: &mut Book, index: u16) -> u16 {
    book.set_ready(index, false);
    let base = book.base(index);
    book.set_kick(index, None);
    book.set_call(index, None);
    base
}

#[test]
fn ring_starts_with_its_last_part_in_every_order() {
    type Step = (&'static str, fn(&mut Book));
    let steps: [Step; 4] = [
        ("features", |book| book.acknowledge(FEATURES)),
        ("size", |book| book.set_size(0, 256)),
        ("addresses", |book| book.set_addresses(0, at(0x4000))),
        ("kick", |book| kick(book, 0)),
    ];
    for first in 0..4 {
        for second in (0..4).filter(|i| *i != first) {
            for third in (0..4).filter(|i| ![first, second].contains(i)) {
                let fourth = 6 - first - second - third;
                let notes = Arc::new(Notes::default());
                let mut book = book_with(&notes);
                for step in [first, second, third] {
                    steps[step].1(&mut book);
                    assert_eq!(book.running(), 0, "after {}", steps[step].0);
                }
                steps[fourth].1(&mut book);
                assert_eq!(book.running(), 1);
                let starts = notes.take().iter().filter(|l| l.starts_with("start 0 256 0")).count();
                assert_eq!(starts, 1);
            }
        }
    }
}

fn running() -> (Book, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let mut book = book_with(&notes);
    book.acknowledge(FEATURES);
    book.set_size(0, 256);
    book.set_base(0, 5);
    book.set_addresses(0, at(0x4000));
    kick(&mut book, 0);
    assert_eq!(notes.take().last().unwrap(), "start 0 256 5 0x4000 false false");
    (book, notes)
}

#[test]
fn call_that_comes_after_the_kick_is_passed_on() {
    let (mut book, notes) = running();
    book.set_call(0, descriptor());
    book.set_call(0, None);
    assert_eq!(notes.take(), ["call 0 true", "call 0 false"]);
}

#[test]
fn enable_is_told_once_and_only_for_running_rings() {
    let (mut book, notes) = running();
    book.set_enabled(1, true);
    assert!(notes.take().is_empty());
    book.set_enabled(0, true);
    book.set_enabled(0, true);
    book.set_enabled(0, false);
    assert_eq!(notes.take(), ["enable 0 true", "enable 0 false"]);
}

/// DPDK 1846fe767f: stale addresses after a guest's reboot.
#[test]
fn get_vring_base_forgets_addresses() {
    let (mut book, notes) = running();
    assert_eq!(get_base(&mut book, 0), 77);
    assert_eq!(notes.take(), ["stop 0"]);
    // A kick alone does not bring the old ring back.
    kick(&mut book, 0);
    assert_eq!(book.running(), 0);
    // Nor do addresses alone.
    assert_eq!(get_base(&mut book, 0), 77);
    book.set_addresses(0, at(0x8000));
    assert_eq!(book.running(), 0);
    kick(&mut book, 0);
    assert_eq!(notes.take(), ["start 0 256 77 0x8000 false false"]);
}

#[test]
fn a_ring_that_never_ran_answers_the_base_it_was_given() {
    let notes = Arc::new(Notes::default());
    let mut book = book_with(&notes);
    book.set_base(1, 0xfff0);
    assert_eq!(get_base(&mut book, 1), 0xfff0);
    assert!(notes.take().is_empty());
}

#[test]
fn a_new_kick_on_a_running_ring_restarts_it_where_it_was() {
    let (mut book, notes) = running();
    book.set_kick(0, descriptor());
    assert_eq!(notes.take(), ["stop 0", "start 0 256 77 0x4000 false false"]);
}

#[test]
fn legacy_driver_gets_no_rings_until_a_modern_one_comes() {
    let notes = Arc::new(Notes::default());
    let board = Arc::new(Board::new("v", 2));
    let mut book = Book::new(Arc::clone(&notes) as _, Arc::clone(&board), 2);
    book.acknowledge(PROTOCOL_FEATURES_BIT);
    book.set_size(0, 256);
    book.set_addresses(0, at(0x4000));
    kick(&mut book, 0);
    assert!(notes.take().is_empty());
    assert!(board.snapshot().last_error.unwrap().contains("legacy"));
    get_base(&mut book, 0);
    book.acknowledge(FEATURES);
    book.set_addresses(0, at(0x4000));
    kick(&mut book, 0);
    assert_eq!(notes.take().last().unwrap(), "start 0 256 0 0x4000 false false");
}

#[test]
fn a_ring_that_the_worker_refuses_is_not_tried_again_and_again() {
    let notes = Arc::new(Notes { refuse: true, ..Notes::default() });
    let board = Arc::new(Board::new("v", 2));
    let mut book = Book::new(Arc::clone(&notes) as _, Arc::clone(&board), 2);
    book.acknowledge(FEATURES);
    book.set_size(0, 256);
    book.set_addresses(0, at(0x4000));
    kick(&mut book, 0);
    assert_eq!(board.snapshot().last_error.unwrap(), "ring 0 does not start: no");
    board.waiting(String::new());
    book.set_err(0, None);
    book.set_base(0, 1);
    assert_eq!(board.snapshot().last_error.unwrap(), "");
    assert_eq!(get_base(&mut book, 0), 1);
}

#[test]
fn new_memory_is_told_only_while_rings_run() {
    let memory = |regions: u64| {
        let ranges: Vec<_> = (0..regions).map(|i| (GuestAddress(i << 20), 4096)).collect();
        Arc::new(GuestMemory::from_ranges(&ranges).unwrap())
    };
    let notes = Arc::new(Notes::default());
    let mut book = book_with(&notes);
    book.replace_memory(memory(1));
    assert!(notes.take().is_empty());
    let (mut book, notes) = running();
    let held = memory(2);
    book.replace_memory(Arc::clone(&held));
    assert_eq!(notes.take(), ["memory 2"]);
    book.replace_memory(memory(3));
    // Nothing here holds the old one any more.
    assert_eq!(Arc::strong_count(&held), 1);
}
