//! The VMM truncates the file behind the guest's memory while we use it.

use std::{fs::File, os::fd::FromRawFd as _, sync::Arc};

use vm_memory::{FileOffset, GuestAddress};

use super::driver::{Driver, LOW};
use crate::virtqueue::{
    Chain, GuestMemory, MappedMemory, Pop, RegionHint, RingError, sigbus::MAPPINGS_MAX,
};

const LEN: usize = 0x20_0000;

/// A memfd as the VMM would pass it.
fn memfd() -> File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(LEN.try_into().unwrap()).unwrap();
    file
}

fn guest_memory(file: &File) -> Arc<GuestMemory> {
    let offset = FileOffset::new(file.try_clone().unwrap(), 0);
    let regions = [(GuestAddress(0), LEN, Some(offset))];
    Arc::new(GuestMemory::from_ranges_with_files(regions).unwrap())
}

fn driver_on(file: &File) -> Driver {
    let mut driver = Driver::new(8);
    driver.memory = guest_memory(file);
    driver.set_avail_idx(super::driver::START);
    driver.set_used_idx(super::driver::START);
    driver
}

#[test]
fn memfd_truncated_after_map_only_ends_that_ring() {
    let (lost_file, kept_file) = (memfd(), memfd());
    let (mut lost, mut kept) = (driver_on(&lost_file), driver_on(&kept_file));
    let (mut lost_ring, mut kept_ring) = (lost.ring(), kept.ring());
    for driver in [&mut lost, &mut kept] {
        driver.write(LOW, b"data");
        driver.offer_chain(0, &[(LOW, 4, 0)]);
        driver.offer_chain(1, &[(LOW, 4, 0)]);
    }
    let mut chain = Chain::new();
    assert_eq!(lost_ring.available(), Ok(2));
    assert_eq!(lost_ring.pop(&mut chain), Ok(Pop::Chain));

    lost_file.set_len(0).unwrap();

    // The copy meets a page that is gone, and gets zeros.
    let mut bytes = [1; 4];
    assert_eq!(chain.reader().read(&mut bytes), 4);
    assert_eq!(bytes, [0; 4]);
    assert_eq!(lost_ring.available(), Err(RingError::MemoryLost));
    assert_eq!(lost_ring.available(), Err(RingError::MemoryLost), "for good");
    lost_ring.complete(0, 0);
    lost_ring.publish();

    assert_eq!(kept_ring.available(), Ok(2));
    assert_eq!(kept_ring.pop(&mut chain), Ok(Pop::Chain));
    assert_eq!(chain.reader().read(&mut bytes), 4);
    assert_eq!(&bytes, b"data");
}

#[test]
fn write_into_truncated_memory_is_survived() {
    let file = memfd();
    let memory = Arc::new(MappedMemory::new(guest_memory(&file)).unwrap());
    file.set_len(0x1000).unwrap();
    let run = memory.translate(0x8000, 16).next().unwrap().unwrap();
    assert!(!memory.is_poisoned());
    // SAFETY: `memory` is alive.
    assert_eq!(unsafe { run.copy_from(0, &[7; 16]) }, 16);
    assert!(memory.is_poisoned());
}

#[test]
fn loss_while_others_come_and_go_hits_only_its_own() {
    const ROUNDS: usize = 300;
    let bystander_file = memfd();
    let bystander = guest_memory(&bystander_file);
    let coming_and_going = std::thread::spawn(move || {
        for _ in 0..20 * ROUNDS {
            let memory = MappedMemory::new(Arc::clone(&bystander)).unwrap();
            assert!(!memory.is_poisoned());
        }
    });
    for _ in 0..ROUNDS {
        let file = memfd();
        let memory = MappedMemory::new(guest_memory(&file)).unwrap();
        file.set_len(0).unwrap();
        memory.copy_out(&mut RegionHint::default(), 0, &mut [0]).unwrap();
        assert!(memory.is_poisoned());
    }
    coming_and_going.join().unwrap();
}

#[test]
fn truncated_area_is_found_when_the_ring_starts() {
    let file = memfd();
    let driver = driver_on(&file);
    let mapped = driver.mapped();
    file.set_len(0).unwrap();
    let error = crate::virtqueue::SplitRing::new(mapped, &driver.config).unwrap_err();
    assert_eq!(error, RingError::MemoryLost);
}

#[test]
fn all_generations_that_share_a_mapping_are_lost_together() {
    let (file, other_file) = (memfd(), memfd());
    let guest = guest_memory(&file);
    let old = MappedMemory::new(Arc::clone(&guest)).unwrap();
    let new = MappedMemory::new(guest).unwrap();
    let other = MappedMemory::new(guest_memory(&other_file)).unwrap();
    file.set_len(0).unwrap();
    let mut byte = [1];
    new.copy_out(&mut RegionHint::default(), 0, &mut byte).unwrap();
    assert!(old.is_poisoned() && new.is_poisoned());
    assert!(!other.is_poisoned());
    // A place in the table that is used again starts clean.
    drop((old, new));
    let later = MappedMemory::new(guest_memory(&other_file)).unwrap();
    assert!(!later.is_poisoned());
}

/// Runs one ignored test of this file in a process of its own.
fn run_alone(test: &str) -> std::process::Output {
    let path = format!("{}::{test}", module_path!());
    let (_, name) = path.split_once("::").unwrap();
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name])
        .output()
        .unwrap()
}

#[test]
#[ignore = "takes all places of the process; run by the test below"]
fn full_table_child() {
    let guest = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap());
    let mut held = Vec::new();
    let error = loop {
        match MappedMemory::new(Arc::clone(&guest)) {
            Ok(memory) => held.push(memory),
            Err(error) => break error,
        }
    };
    assert_eq!(held.len(), MAPPINGS_MAX);
    assert!(error.to_string().contains("are taken"), "{error}");
    drop(held);
    assert!(MappedMemory::new(guest).is_ok());
}

#[test]
fn full_table_is_a_clean_error_and_room_comes_back() {
    let output = run_alone("full_table_child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "ends the process; run by the test below"]
fn fault_elsewhere_child() {
    let file = memfd();
    let guest = guest_memory(&file);
    let host = MappedMemory::new(Arc::clone(&guest)).unwrap();
    let run = host.translate(0, 1).next().unwrap().unwrap();
    file.set_len(0).unwrap();
    drop(host);
    let mut byte = [0];
    // SAFETY: `guest` keeps the range mapped; that its page is gone is the test.
    unsafe { run.copy_to(0, &mut byte) };
    // Else nothing need be read.
    std::hint::black_box(byte);
}

#[test]
fn fault_elsewhere_ends_the_process_as_usual() {
    use std::os::unix::process::ExitStatusExt as _;
    let output = run_alone("fault_elsewhere_child");
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
}
