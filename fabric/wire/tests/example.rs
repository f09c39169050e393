//! The worked example of `docs/wire.md`, byte for byte.

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, fmt::Write};
    use wireonce_frame::{ChecksumRequest, Offload, SliceSource};
    use wireonce_wire::{Endpoint, Geometry, Packer, PathIndex, TrainPool, UplinkId, VnicId};

    /// The lines of the document's block that starts with "```hex".
    fn documented() -> String {
        let text = include_str!("../../../docs/wire.md");
        let (_, example) = text.split_once("```hex\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let bytes = example.lines().map(|line| line.split('|').next().unwrap());
        bytes.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_documented_example_is_what_the_packer_makes() {
        let path = PathIndex::new(0x12345, 2, 1).unwrap();
        let geometry = Geometry::new(512, 0).unwrap();
        let mut packer = Packer::new(path, 7, geometry, 1000);
        let (mut pool, mut full) = (TrainPool::new(1), VecDeque::new());
        let vnic = |id| Endpoint::Vnic(VnicId::new(id).unwrap());
        let checksum = Some(ChecksumRequest { start: 34, offset: 16 });
        let open = Offload { checksum, ..Offload::default() };
        let first = [0xaa; 440];
        let second = [0xbb; 20];
        let (uplink, none) = (Endpoint::Uplink(UplinkId(3)), Offload::default());
        packer.put(uplink, vnic(9), open, &mut SliceSource::new(&first), &mut pool, &mut full);
        packer.put(vnic(10), vnic(9), none, &mut SliceSource::new(&second), &mut pool, &mut full);
        packer.put(vnic(10), vnic(9), none, &mut SliceSource::new(&second), &mut pool, &mut full);
        let train = packer.close().unwrap();
        let mut hex = String::new();
        for byte in train.bytes() {
            write!(hex, "{byte:02x} ").unwrap();
        }
        // The document leaves out most of the first frame.
        let (long, short) = ("aa ".repeat(440), "aa ... aa ".to_owned());
        assert_eq!(hex.replace(&long, &short).trim_end(), documented(), "\n{hex}");
    }
}
