//! One configuration for the tests: a gateway with two uplinks of one pool, two
//! servers, a network that is untagged outside, one on VLAN 20, one that stays inside.

use wireonce_config::Config;
use wireonce_directory::Directory;
use wireonce_frame::{MacAddr, VNET_HEADER_LEN};
use wireonce_link::PeerId;
use wireonce_wire::{Endpoint, UplinkId, Vni, VnicId};

pub(crate) const FILE: &str = r#"
[host]
name = "gateway"
private_key_file = "/nowhere/gateway.key"

[fabric]
address = "10.0.0.3"
mtu = 1500

[[peer]]
name = "server-a"
address = "10.0.0.1"
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

[[peer]]
name = "server-b"
address = "10.0.0.2"
public_key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="

[[uplink]]
id = 7
name = "up-a"
host = "gateway"
pool = "outside"
driver = "packet"
interface = "up0"
designated = true

[[uplink]]
id = 8
name = "up-b"
host = "gateway"
pool = "outside"
driver = "packet"
interface = "up1"

[[network]]
name = "blue"
vni = 100
pool = "outside"

[[network]]
name = "green"
vni = 200
pool = "outside"
vlan = 20
mtu = 9000

[[network]]
name = "red"
vni = 300

[[vnic]]
id = 1
name = "a1"
host = "server-a"
network = "blue"
mac = "52:54:00:00:00:01"
addresses = ["192.0.2.1", "2001:db8::1", "198.51.100.0/24"]
home = "up-a"

[[vnic]]
id = 2
name = "b2"
host = "server-b"
network = "blue"
mac = "52:54:00:00:00:02"
home = "up-b"

[[vnic]]
id = 3
name = "b3"
host = "server-b"
network = "green"
mac = "52:54:00:00:00:03"
home = "up-a"

[[vnic]]
id = 4
name = "b4"
host = "server-b"
network = "red"
mac = "52:54:00:00:00:04"
"#;

pub(crate) const SERVER_A: PeerId = PeerId(0);
pub(crate) const SERVER_B: PeerId = PeerId(1);
pub(crate) const UP_A: UplinkId = UplinkId(7);
pub(crate) const UP_B: UplinkId = UplinkId(8);

pub(crate) fn config() -> Config {
    Config::parse(FILE, "gateway.toml").unwrap()
}

pub(crate) fn directory() -> Directory {
    Directory::new(&config())
}

pub(crate) fn vnic(id: u64) -> VnicId {
    VnicId::new(id).unwrap()
}

pub(crate) fn vni(vni: u32) -> Vni {
    Vni::new(vni).unwrap()
}

pub(crate) fn from_vnic(id: u64) -> Endpoint {
    Endpoint::Vnic(vnic(id))
}

/// The MAC of the vNIC with this id.
pub(crate) fn mac(id: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, id])
}

/// Somebody outside.
pub(crate) const STRANGER: MacAddr = MacAddr([0x02, 0xaa, 0, 0, 0, 1]);

/// An IPv4 UDP frame of `len` bytes.
pub(crate) fn frame(to: MacAddr, from: MacAddr, len: u16) -> Vec<u8> {
    let mut bytes = [to.0, from.0].concat();
    let [high, low] = (len - 14).to_be_bytes();
    bytes.extend([8, 0, 0x45, 0, high, low, 0, 1, 0, 0, 64, 17, 0, 0]);
    bytes.extend([192, 0, 2, 1, 192, 0, 2, 9]);
    let [high, low] = (len - 34).to_be_bytes();
    bytes.extend([0x10, 0, 0, 53, high, low, 0, 0]);
    bytes.resize(len.into(), 0xaa);
    bytes
}

/// A large TCP segment with its checksum open, and the header that says so.
pub(crate) fn tcp_segment(
    to: MacAddr,
    from: MacAddr,
    payload_len: u16,
) -> ([u8; VNET_HEADER_LEN], Vec<u8>) {
    let mut bytes = [to.0, from.0].concat();
    bytes.extend([8, 0]);
    let [len_high, len_low] = (payload_len + 40).to_be_bytes();
    bytes.extend([0x45, 0, len_high, len_low, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum(&bytes[14..34], 0);
    bytes[24..26].copy_from_slice(&(!sum).to_be_bytes());
    bytes.extend([0x80, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0]);
    let pseudo = checksum(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 6], u32::from(payload_len) + 20);
    bytes.extend(pseudo.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend((0..payload_len).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]));
    let [size_low, size_high] = 1448_u16.to_le_bytes();
    ([1, 1, 54, 0, size_low, size_high, 34, 0, 16, 0, 0, 0], bytes)
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while let high @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + high;
    }
    u16::try_from(sum).unwrap()
}
