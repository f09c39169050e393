//! Frames to send: Ethernet, IPv4, UDP or TCP, as a capture file that DPDK's pcap port replays.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use wireonce_qemu_tests::{Error, Result};

/// Ethernet and IPv4 header, in bytes.
const IP_END: usize = 34;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Of all frames, UDP and TCP.
const SOURCE_PORT: u16 = 1024;

/// From whom to whom.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// The source's MAC address.
    pub source_mac: [u8; 6],
    /// The destination's.
    pub destination_mac: [u8; 6],
    /// The source's address.
    pub source: Ipv4Addr,
    /// The destination's.
    pub destination: Ipv4Addr,
}

/// Which frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// UDP, all of one length in bytes, without FCS.
    Fixed(u16),
    /// The same with UDP checksums, as a guest's kernel sends.
    Summed(u16),
    /// UDP, 7 of 64, 4 of 594 and 1 of 1450 bytes: the usual mix, with the largest one made to
    /// fit a tunnel.
    Imix,
    /// TCP super-frames with so many bytes of payload, to be segmented by somebody.
    Tcp(u16),
}

impl Mix {
    /// The mean length of a frame, in bytes.
    #[must_use]
    pub fn mean_len(self) -> f64 {
        let lens = self.lens();
        lens.iter().map(|len| f64::from(*len)).sum::<f64>() / lens.len() as f64
    }

    /// The name in cases.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Fixed(len) => format!("{len} B"),
            Self::Summed(len) => format!("{len} B with checksums"),
            Self::Imix => "IMIX".to_owned(),
            Self::Tcp(_) => "TSO".to_owned(),
        }
    }

    /// The lengths of the frames of one turn, spread so that no two long ones follow each other.
    fn lens(self) -> Vec<u16> {
        match self {
            Self::Fixed(len) | Self::Summed(len) => vec![len],
            Self::Imix => vec![64, 594, 64, 64, 594, 64, 1450, 64, 594, 64, 64, 594],
            Self::Tcp(payload) => vec![payload.saturating_add(54)],
        }
    }
}

/// Writes a capture file with `turns` turns of `mix`; `flows` take the frames in turn.
///
/// # Errors
/// The file cannot be written.
pub fn write_pcap(path: &Path, flows: &[Flow], mix: Mix, turns: u16) -> Result<()> {
    let mut bytes = Vec::new();
    // pcap(5): magic, version 2.4, zone, accuracy, longest, Ethernet.
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    let lens = (0..turns).flat_map(|_| mix.lens());
    for (len, flow) in lens.zip(flows.iter().cycle()) {
        let frame = frame(flow, mix, len);
        let len = u32::from(len);
        [0, 0, len, len].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(frame);
    }
    fs::write(path, bytes)
        .map_err(|source| Error::Io { what: format!("cannot write {}", path.display()), source })
}

/// The first frame of `mix`.
#[must_use]
pub fn build(flow: &Flow, mix: Mix) -> Vec<u8> {
    let len = mix.lens().first().copied().unwrap_or(64);
    frame(flow, mix, len)
}

fn frame(flow: &Flow, mix: Mix, len: u16) -> Vec<u8> {
    match mix {
        Mix::Tcp(_) => tcp(flow, len),
        Mix::Summed(_) => summed(udp(flow, len)),
        _ => udp(flow, len),
    }
}

/// A UDP frame of `len` bytes; no UDP checksum (RFC 768: zero is none).
fn udp(flow: &Flow, len: u16) -> Vec<u8> {
    let mut frame = ipv4(flow, UDP, len);
    let payload = len.saturating_sub(34);
    for word in [SOURCE_PORT, 9, payload, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.resize(len.into(), 0);
    frame
}

/// A frame of [`udp`] with its checksum.
fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    // Addresses, protocol and length stand for the pseudo-header.
    let mut covered = frame.get(26..).unwrap_or_default().to_vec();
    covered.extend([0, UDP]);
    covered.extend(frame.get(38..40).unwrap_or_default());
    let sum = match checksum(&covered) {
        0 => 0xffff,
        sum => sum,
    };
    if let Some(field) = frame.get_mut(40..42) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// A TCP frame of `len` bytes: ACK set, no options; whoever segments it makes the checksums.
fn tcp(flow: &Flow, len: u16) -> Vec<u8> {
    let mut frame = ipv4(flow, TCP, len);
    frame.extend(SOURCE_PORT.to_be_bytes());
    frame.extend(9u16.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(len.into(), 0);
    frame
}

fn ipv4(flow: &Flow, protocol: u8, len: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len.into());
    frame.extend(flow.destination_mac);
    frame.extend(flow.source_mac);
    frame.extend([0x08, 0x00, 0x45, 0x00]);
    frame.extend(len.saturating_sub(14).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(flow.source.octets());
    frame.extend(flow.destination.octets());
    let sum = checksum(frame.get(14..IP_END).unwrap_or_default());
    if let Some(field) = frame.get_mut(24..26) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = sum.to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
        }
    }

    #[test]
    fn a_frame_has_its_length_and_a_checksum_that_adds_up() {
        for frame in [udp(&flow(), 64), tcp(&flow(), 1514)] {
            assert_eq!(checksum(&frame[14..34]), 0);
            let ip_len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            assert_eq!(ip_len, frame.len() - 14);
        }
        assert_eq!(udp(&flow(), 64).len(), 64);
    }

    #[test]
    fn a_summed_frame_has_the_checksum_that_a_receiver_expects() {
        let frame = build(&flow(), Mix::Summed(64));
        assert_ne!(frame[40..42], [0, 0]);
        let datagram_len = [0, 30];
        let pseudo = [&frame[26..34], &[0, 17], &datagram_len].concat();
        assert_eq!(checksum(&[&pseudo, &frame[34..]].concat()), 0);
    }

    #[test]
    fn imix_has_its_usual_parts() {
        let lens = Mix::Imix.lens();
        let count = |wanted| lens.iter().filter(|len| **len == wanted).count();
        assert_eq!((count(64), count(594), count(1450)), (7, 4, 1));
        assert!((Mix::Imix.mean_len() - 356.17).abs() < 0.01);
    }

    #[test]
    fn a_capture_file_has_a_record_for_each_frame() {
        let dir = wireonce_qemu_tests::watchdog::TempDir::new("pcap").unwrap();
        let path = dir.path().join("x.pcap");
        write_pcap(&path, &[flow()], Mix::Fixed(100), 3).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 24 + 3 * (16 + 100));
    }
}
