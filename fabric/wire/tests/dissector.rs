//! `docs/wireonce.lua` against real packer output, read by a real tshark.

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, env, fs, path::Path, process::Command};
    use wireonce_frame::{ChecksumRequest, Gso, GsoKind, Offload, SliceSource};
    use wireonce_wire::{
        Endpoint, Geometry, Packer, PathIndex, TAG_LEN, Train, TrainPool, UplinkId, Vni, VnicId,
    };

    const FIRST_PACKET_NUMBER: u64 = 1 << 33;

    /// True if the test cannot run here; says why. With WIREONCE_REQUIRE_TOOLS=1
    /// a missing tool is a failure.
    fn must_skip() -> bool {
        let found = Command::new("tshark").arg("--version").output().is_ok();
        let required = env::var_os("WIREONCE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(found || !required, "tshark is not installed, but WIREONCE_REQUIRE_TOOLS=1");
        if !found {
            eprintln!("skipped: tshark is not installed");
        }
        !found
    }

    /// An Ethernet frame with a payload that no dissector knows.
    fn ethernet(ether_type: u16, len: usize) -> Vec<u8> {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, 1, 0x52, 0x54, 0, 0, 0, 2];
        frame.extend(ether_type.to_be_bytes());
        frame.resize(len, 0xa5);
        frame
    }

    fn vnic(id: u64) -> Endpoint {
        Endpoint::Vnic(VnicId::new(id).unwrap())
    }

    /// A train of four datagrams: small frames, a link message, a frame that
    /// fills the second datagram and ends in the third, and a last small one.
    fn train(tag_len: usize) -> Train {
        let geometry = Geometry::new(600, tag_len).unwrap();
        let path = PathIndex::new(0xabcde, 17, 5).unwrap();
        let mut packer = Packer::new(path, 3, geometry, FIRST_PACKET_NUMBER);
        let (mut pool, mut full) = (TrainPool::new(1), VecDeque::new());
        let checksum = Some(ChecksumRequest { start: 34, offset: 16 });
        let gso = Some(Gso { kind: GsoKind::TcpV6, size: 1440, ecn: true });
        let open = Offload { checksum, checksum_valid: false, gso };
        let plain = Offload::default();
        let network = Endpoint::Network(Vni::new(5000).unwrap());
        let frames = [
            (vnic(7), vnic(9), plain, ethernet(0x88b5, 60)),
            (Endpoint::Uplink(UplinkId(3)), vnic(VnicId::MAX), open, ethernet(0x88b6, 100)),
            (network, Endpoint::Uplink(UplinkId(4)), plain, ethernet(0x88b5, 1200)),
            (vnic(11), vnic(9), plain, ethernet(0x0806, 60)),
        ];
        for (n, (to, from, offload, bytes)) in frames.iter().enumerate() {
            let mut frame = SliceSource::new(bytes);
            packer.put(*to, *from, *offload, &mut frame, &mut pool, &mut full);
            if n == 1 {
                packer.put_link(b"evidence", &mut pool, &mut full);
            }
        }
        assert!(full.is_empty());
        packer.close().unwrap()
    }

    /// Writes a capture of raw IPv4 packets, each a UDP datagram to `port`
    /// (draft-ietf-opsawg-pcap; checksums are left at 0).
    fn write_pcap(file: &Path, datagrams: &[&[u8]], port: u16) {
        const LINKTYPE_RAW: u32 = 101;
        let mut bytes = Vec::new();
        bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
        bytes.extend([2, 0, 4, 0]);
        bytes.extend([0; 8]);
        bytes.extend(65_535_u32.to_le_bytes());
        bytes.extend(LINKTYPE_RAW.to_le_bytes());
        for datagram in datagrams {
            let udp_len = u16::try_from(8 + datagram.len()).unwrap();
            let ip_len = udp_len + 20;
            bytes.extend([0; 8]);
            bytes.extend(u32::from(ip_len).to_le_bytes());
            bytes.extend(u32::from(ip_len).to_le_bytes());
            bytes.extend([0x45, 0]);
            bytes.extend(ip_len.to_be_bytes());
            bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
            bytes.extend(40_000_u16.to_be_bytes());
            bytes.extend(port.to_be_bytes());
            bytes.extend(udp_len.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(*datagram);
        }
        fs::write(file, bytes).unwrap();
    }

    /// Runs tshark over `datagrams`; returns a line for each, fields split by `|`,
    /// repeated ones by `,`.
    fn tshark(datagrams: &[&[u8]], port: u16, options: &[&str], fields: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("train.pcap");
        write_pcap(&file, datagrams, port);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wireonce.lua");
        let mut command = Command::new("tshark");
        command.args(["-n", "-X", &format!("lua_script:{script}"), "-r"]).arg(&file);
        command.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"]);
        command.env("HOME", folder.path());
        for option in options {
            command.args(["-o", option]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("Lua"), "{errors}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    const CLEAR: &str = "wireonce.tag_length:0";

    #[test]
    fn clear_datagrams_are_shown_down_to_the_frames() {
        if must_skip() {
            return;
        }
        let train = train(0);
        let datagrams: Vec<_> = train.bytes().chunks(train.datagram_len()).collect();
        let fields = [
            "wireonce.packet_number",
            "wireonce.first_block",
            "wireonce.block.source_name",
            "wireonce.block.destination_name",
            "wireonce.block.len",
            "eth.type",
        ];
        let expected = [
            "8589934592|0|vnic 9,vnic 4611686018427387903,link,uplink 4|\
             vnic 7,uplink 3,link,network 5000|60,100,8,1200|0x88b5,0x88b6",
            "8589934593|65535||||",
            "8589934594|296|vnic 9|vnic 11|60|0x0806",
        ];
        assert_eq!(tshark(&datagrams, 4790, &[CLEAR], &fields), expected);
    }

    #[test]
    fn header_and_flags_are_shown() {
        if must_skip() {
            return;
        }
        let train = train(0);
        let datagrams: Vec<_> = train.bytes().chunks(train.datagram_len()).take(1).collect();
        let fields = [
            "wireonce.version",
            "wireonce.kind",
            "wireonce.epoch",
            "wireonce.session",
            "wireonce.worker",
            "wireonce.path",
            "wireonce.block.destination",
            "wireonce.block.flags",
            "wireonce.block.csum_start",
            "wireonce.block.csum_offset",
            "wireonce.block.gso_size",
            "wireonce.block.link",
            "_ws.expert.message",
        ];
        let expected = "1|0|3|703710|17|5|\
             0x0000000000000007,0x4000000000000003,0x0000000000000000,0x8000000000001388|\
             0x00,0x2a,0x00,0x00|0,34,0,0|0,16,0,0|0,1440,0,0|65766964656e6365|";
        assert_eq!(tshark(&datagrams, 4853, &[CLEAR], &fields), [expected]);
    }

    #[test]
    fn sealed_datagrams_are_opaque() {
        if must_skip() {
            return;
        }
        let mut train = train(TAG_LEN);
        train.datagrams().for_each(|d| d.tag.fill(0xcc));
        let datagrams: Vec<_> = train.bytes().chunks(train.datagram_len()).take(1).collect();
        let fields = ["wireonce.packet_number", "wireonce.tag", "wireonce.block.len", "eth.type"];
        let expected = format!("8589934592|{}||", "cc".repeat(TAG_LEN));
        assert_eq!(tshark(&datagrams, 4800, &[], &fields), [expected]);
    }

    #[test]
    fn other_ports_are_left_alone_until_the_preference_names_them() {
        if must_skip() {
            return;
        }
        let train = train(0);
        let datagrams: Vec<_> = train.bytes().chunks(train.datagram_len()).take(1).collect();
        let fields = ["wireonce.packet_number", "udp.dstport"];
        assert_eq!(tshark(&datagrams, 5555, &[], &fields), ["|5555"]);
        let moved = ["wireonce.ports:5555"];
        assert_eq!(tshark(&datagrams, 5555, &moved, &fields), ["8589934592|5555"]);
        assert_eq!(tshark(&datagrams, 4800, &moved, &fields), ["|4800"]);
    }

    #[test]
    fn nonsense_is_marked_and_breaks_nothing() {
        if must_skip() {
            return;
        }
        let train = train(0);
        let good = train.bytes().chunks(train.datagram_len()).next().unwrap();
        let change = |at: usize, byte| {
            let mut bytes = good.to_vec();
            bytes[at] = byte;
            bytes
        };
        // A version, an offset beyond the end, a reserved flag, an unknown endpoint.
        let changed =
            [change(0, 0x20), change(3, 0x40), change(16 + 18, 0x80), change(16 + 7, 0xc0)];
        let truncated = (0..good.len()).step_by(13).map(|len| &good[..len]);
        let datagrams: Vec<_> = changed.iter().map(Vec::as_slice).chain(truncated).collect();
        let lines = tshark(&datagrams, 4790, &[CLEAR], &["_ws.expert.message", "_ws.lua.error"]);
        assert_eq!(lines.len(), datagrams.len());
        assert_eq!(lines[0], "Unknown version or kind|");
        assert_eq!(lines[1], "No block header fits at the first block's offset|");
        assert_eq!(lines[2..4], ["Not a block header|"; 2]);
        assert!(lines.iter().all(|line| !line.contains("Lua")), "{lines:?}");
    }
}
