//! A peer with a valid key: any datagrams, in any runs, at any time.
#![no_main]

use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use wireonce_frame::{FRAME_LEN_MAX, Gso, GsoKind, Offload, sample::Sample};
use wireonce_wire::{
    BlockHeader, Datagram, Endpoint, GATHER_PARTS_MAX, NO_BLOCK, UNPACKER_BUFFERS_MAX, Unpacker,
    VnicId,
};

/// One datagram. Numbers are relative to the edge, so that they stay of interest.
#[derive(Debug, Arbitrary)]
struct Step {
    number: i8,
    first_block: FirstBlock,
    payload: Vec<Piece>,
    ends_run: bool,
    wait_us: u16,
}

#[derive(Debug, Arbitrary)]
enum FirstBlock {
    Start,
    None,
    At(u16),
}

/// A piece of a payload.
#[derive(Debug, Arbitrary)]
enum Piece {
    Raw(Vec<u8>),
    Header { len: u32 },
    /// The start of a large TCP segment: what is lost of it is cut out.
    Large { len: u16, size: u16 },
    Fill { byte: u8, len: u16 },
}

fuzz_target!(|steps: Vec<Step>| {
    let payloads: Vec<_> = steps.iter().map(|step| payload(&step.payload)).collect();
    let mut unpacker = Unpacker::new(1000);
    let (mut run, mut lent, mut came, mut went, mut now_us) = (Vec::new(), Vec::new(), 0, 0, 0);
    // Each piece of a torn frame has its headers.
    let allowed = |came: usize, unpacker: &Unpacker| {
        came + usize::try_from(unpacker.stats().salvaged_frames).map_or(0, |n| n * 188)
    };
    let mut edge = unpacker.edge();
    for (step, payload) in steps.iter().zip(&payloads) {
        let first_block = match step.first_block {
            FirstBlock::Start => 0,
            FirstBlock::None => NO_BLOCK,
            FirstBlock::At(offset) => offset,
        };
        let packet_number = edge.wrapping_add_signed(step.number.into());
        edge += u64::from(step.number == 0);
        run.push(Datagram { packet_number, first_block, payload });
        came += payload.len();
        if step.ends_run {
            now_us += u64::from(step.wait_us);
            let wanted = unpacker.feed_lent(&lent, &run, now_us, &mut |header, parts| {
                went += check(header, parts);
            });
            lent.append(&mut run);
            lent.drain(..lent.len() - wanted);
            if step.wait_us % 2 == 1 {
                unpacker.keep_lent(&lent);
                lent.clear();
            }
            assert!(unpacker.buffers_len() <= UNPACKER_BUFFERS_MAX);
            assert!(went <= allowed(came, &unpacker));
            edge = unpacker.edge();
        }
    }
    unpacker.tick(u64::MAX, &mut |header, parts| went += check(header, parts));
    assert!(unpacker.next_deadline_us().is_none());
    assert!(went <= allowed(came, &unpacker));
});

fn payload(pieces: &[Piece]) -> Vec<u8> {
    let vnic = VnicId::new(5).map_or(Endpoint::Link, Endpoint::Vnic);
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Raw(raw) => bytes.extend(raw),
            Piece::Header { len } => {
                let offload = Offload::default();
                let len = len % (1 << 17);
                let header = BlockHeader { destination: vnic, source: vnic, len, offload };
                bytes.extend(header.emit());
            }
            Piece::Large { len, size } => {
                let sample = Sample::tcp4().payload(vec![7; usize::from(len % 60_000)]);
                let (frame, request) = sample.build_open();
                let gso = Some(Gso { kind: GsoKind::TcpV4, size: size % 2000 + 1, ecn: true });
                let offload = Offload { checksum: Some(request), checksum_valid: false, gso };
                let len = u32::try_from(frame.len()).unwrap_or(0);
                let header = BlockHeader { destination: vnic, source: vnic, len, offload };
                bytes.extend(header.emit());
                bytes.extend(frame.iter().take(100));
            }
            Piece::Fill { byte, len } => bytes.resize(bytes.len() + usize::from(*len), *byte),
        }
    }
    bytes.truncate(65_507);
    bytes
}

/// The rules for each block that comes out; returns its length.
fn check(header: &BlockHeader, parts: &[&[u8]]) -> usize {
    let len = parts.iter().map(|part| part.len()).sum::<usize>();
    assert_eq!(u32::try_from(len), Ok(header.len));
    assert!((1..=FRAME_LEN_MAX).contains(&len));
    assert!((1..=GATHER_PARTS_MAX).contains(&parts.len()));
    assert_eq!(BlockHeader::parse(&header.emit()), Ok(*header));
    len
}
