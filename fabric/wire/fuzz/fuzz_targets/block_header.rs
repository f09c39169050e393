//! Headers: what parses is written back as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wireonce_wire::{BLOCK_HEADER_LEN, BlockHeader, DatagramHeader};

fuzz_target!(|bytes: &[u8]| {
    if let Some(bytes) = bytes.first_chunk::<BLOCK_HEADER_LEN>()
        && let Ok(header) = BlockHeader::parse(bytes)
    {
        assert_eq!(header.emit(), *bytes);
    }
    if let Ok((header, rest)) = DatagramHeader::parse(bytes) {
        assert_eq!([&header.emit()[..], rest].concat(), bytes);
    }
});
