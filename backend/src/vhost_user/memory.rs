//! Memory regions: what a front-end may map into this process.
//!
//! `vm-memory` no longer compares a mapping with its file, and `mmap` of more
//! than a file holds succeeds: the first touch beyond the end is a SIGBUS that
//! would end the daemon of every VM on the host. So each file is measured first.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use vhost::vhost_user::message::FrontendReq;

use super::message::Message;
use super::refusal::Refusal;
use super::socket;

/// Most regions of one guest. Each costs a descriptor and a mapping. It may be
/// raised later but never lowered: QEMU insists on what it saw at first.
pub(super) const REGIONS_MAX: usize = 128;
/// Most regions of one memory table (one descriptor each).
const TABLE_REGIONS_MAX: usize = super::message::DESCRIPTORS_MAX;

/// One region, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    /// Guest-physical address.
    pub guest: u64,
    pub size: u64,
    /// Address in the VMM.
    pub vmm: u64,
    /// Offset of the region in its file.
    pub file_offset: u64,
}

/// Device and inode of a region's file.
pub(super) type FileId = (u64, u64);

/// The regions of a SET_MEM_TABLE, ADD_MEM_REG or REM_MEM_REG message. All
/// sums are checked: guest address, VMM address and file offset plus size.
pub(super) fn parse_regions(message: &Message) -> Result<Vec<Region>, Refusal> {
    if message.request != FrontendReq::SET_MEM_TABLE {
        return Ok(vec![parse_region(message, 8)?]);
    }
    let count = message.u32_at(0);
    let given = message.payload.len().saturating_sub(8) / 32;
    if count == 0 && given == 0 {
        return Err(Refusal::EmptyMemoryTable);
    }
    if count == 0 || usize::try_from(count) != Ok(given) || given > TABLE_REGIONS_MAX {
        return Err(Refusal::RegionCount(u64::from(count), TABLE_REGIONS_MAX));
    }
    (0..given).map(|index| parse_region(message, 8 + 32 * index)).collect()
}

fn parse_region(message: &Message, at: usize) -> Result<Region, Refusal> {
    let (guest, size) = (message.u64_at(at), message.u64_at(at + 8));
    let (vmm, file_offset) = (message.u64_at(at + 16), message.u64_at(at + 24));
    let ends = [guest, vmm, file_offset].map(|start| start.checked_add(size));
    if size == 0 || ends.contains(&None) {
        return Err(Refusal::RegionRange(guest));
    }
    Ok(Region { guest, size, vmm, file_offset })
}

/// Checks that the file holds the region.
pub(super) fn check_file(region: Region, file: &File) -> Result<CheckedFile, Refusal> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Refusal::RegionKind(region.guest));
    }
    let needed =
        region.file_offset.checked_add(region.size).ok_or(Refusal::RegionRange(region.guest))?;
    if metadata.size() < needed {
        return Err(Refusal::RegionFile { guest: region.guest, file: metadata.size(), needed });
    }
    let id = (metadata.dev(), metadata.ino());
    Ok(CheckedFile { id, sealed: socket::is_sealed_against_shrinking(file) })
}

/// A file that holds its region now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CheckedFile {
    pub id: FileId,
    /// The VMM cannot make it shorter any more.
    pub sealed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region_bytes(guest: u64, size: u64, vmm: u64, offset: u64) -> Vec<u8> {
        [guest, size, vmm, offset].iter().flat_map(|value| value.to_ne_bytes()).collect()
    }

    fn table(count: u32, regions: &[Vec<u8>]) -> Message {
        let mut payload = count.to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; 4]);
        payload.extend(regions.concat());
        Message::new(FrontendReq::SET_MEM_TABLE, payload)
    }

    fn single(region: &[u8]) -> Message {
        let payload = [&[0; 8], region].concat();
        Message::new(FrontendReq::ADD_MEM_REG, payload)
    }

    const HIGH: u64 = u64::MAX - 0xfff;

    #[test]
    fn set_mem_table_sums_that_overflow_are_refused() {
        for spoiled in [
            region_bytes(HIGH, 0x2000, 0, 0),
            region_bytes(0, 0x2000, HIGH, 0),
            region_bytes(0, 0x2000, 0, HIGH),
            region_bytes(0, 0, 0, 0),
        ] {
            let good = region_bytes(0x1000, 0x1000, 0x7000, 0);
            let refused = parse_regions(&table(2, &[good, spoiled])).unwrap_err();
            assert_eq!(refused.name(), "region-range");
        }
    }

    #[test]
    fn add_mem_reg_sums_that_overflow_are_refused() {
        for spoiled in [
            region_bytes(HIGH, 0x2000, 0, 0),
            region_bytes(0, 0x2000, HIGH, 0),
            region_bytes(0, 0x2000, 0, HIGH),
            region_bytes(0, 0, 0, 0),
        ] {
            assert_eq!(parse_regions(&single(&spoiled)).unwrap_err().name(), "region-range");
        }
    }

    #[test]
    fn a_count_other_than_what_came_is_refused() {
        let region = region_bytes(0, 0x1000, 0, 0);
        for count in [0, 2, 33, u32::MAX] {
            let refused = parse_regions(&table(count, std::slice::from_ref(&region))).unwrap_err();
            assert_eq!(refused.name(), "region-count");
        }
        let many = vec![region; 33];
        assert_eq!(parse_regions(&table(33, &many)).unwrap_err().name(), "region-count");
    }

    #[test]
    fn a_file_that_ends_inside_the_region_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x3000).unwrap();
        let region = |file_offset, size| Region { guest: 0, size, vmm: 0, file_offset };
        assert!(!check_file(region(0x1000, 0x2000), &file).unwrap().sealed);
        let refused = check_file(region(0x1001, 0x2000), &file).unwrap_err();
        assert_eq!(refused, Refusal::RegionFile { guest: 0, file: 0x3000, needed: 0x3001 });
        let refused = check_file(region(u64::MAX, 2), &file).unwrap_err();
        assert_eq!(refused.name(), "region-range");
    }

    #[test]
    fn memory_must_be_a_file() {
        let region = Region { guest: 0, size: 1, vmm: 0, file_offset: 0 };
        let device = File::open("/dev/zero").unwrap();
        assert_eq!(check_file(region, &device).unwrap_err().name(), "region-not-a-file");
    }
}
