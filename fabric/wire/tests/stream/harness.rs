//! A sender and a receiver with nothing between them but a list of datagrams.

use proptest::prelude::*;
use std::collections::VecDeque;
use wireonce_frame::{ChecksumRequest, FRAME_LEN_MAX, Gso, GsoKind, Offload, SliceSource};
use wireonce_wire::{
    BlockHeader, Datagram, DatagramHeader, Endpoint, Geometry, Kind, Packer, PathIndex, Span,
    Train, TrainPool, UnpackStats, Unpacker, UplinkId, VnicId,
};

/// One frame with all that must arrive with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) header: BlockHeader,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    /// The `n`th frame of a stream: its bytes and header differ from its neighbours'.
    pub(crate) fn nth(n: usize, len: usize) -> Self {
        let seed = u8::try_from(n % 255).unwrap();
        let bytes = (0..len).map(|at| seed ^ u8::try_from(at % 251).unwrap()).collect();
        let vnic = |id| Endpoint::Vnic(VnicId::new(id).unwrap());
        let destination = match n % 3 {
            0 => Endpoint::Uplink(UplinkId(u32::from(seed))),
            _ => vnic(u64::from(seed) + 1),
        };
        let request = ChecksumRequest { start: 0, offset: 0 };
        let gso = Gso { kind: GsoKind::TcpV4, size: 1448, ecn: n.is_multiple_of(2) };
        let offload = Offload {
            checksum: (len > 2 && n % 5 == 1).then_some(request),
            checksum_valid: n % 5 == 2,
            gso: (n % 5 == 3).then_some(gso),
        };
        let len = u32::try_from(len).unwrap();
        Self { header: BlockHeader { destination, source: vnic(77), len, offload }, bytes }
    }
}

/// A datagram as the link would hand it over: opened, its header parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) packet_number: u64,
    pub(crate) first_block: u16,
    pub(crate) payload: Vec<u8>,
}

impl Carried {
    pub(crate) fn datagram(&self) -> Datagram<'_> {
        let Self { packet_number, first_block, ref payload } = *self;
        Datagram { packet_number, first_block, payload }
    }

    fn of(datagram: &Datagram<'_>) -> Self {
        let Datagram { packet_number, first_block, payload } = *datagram;
        Self { packet_number, first_block, payload: payload.to_vec() }
    }
}

/// What a sender made of its frames.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) frames: Vec<(Frame, Span)>,
    pub(crate) datagrams: Vec<Carried>,
}

impl Stream {
    /// Frames that a receiver must get if it never sees the datagrams in `lost`.
    pub(crate) fn survivors(&self, lost: &[u64]) -> Vec<Frame> {
        let alive = |span: &Span| !lost.iter().any(|n| (span.first..=span.last).contains(n));
        self.frames.iter().filter(|(_, span)| alive(span)).map(|(frame, _)| frame.clone()).collect()
    }
}

/// Packs `lens` frames; closes the train after those for which `closes` is true.
pub(crate) fn send(geometry: Geometry, lens: &[usize], closes: impl Fn(usize) -> bool) -> Stream {
    let frames = lens.iter().enumerate().map(|(n, &len)| Frame::nth(n, len));
    send_frames(geometry, frames, closes)
}

/// Packs `frames`; closes the train after those for whose position `closes` is true.
pub(crate) fn send_frames(
    geometry: Geometry,
    frames: impl IntoIterator<Item = Frame>,
    closes: impl Fn(usize) -> bool,
) -> Stream {
    let path = PathIndex::new(0xabcde, 3, 1).unwrap();
    let mut packer = Packer::new(path, 9, geometry, 0);
    let (mut pool, mut full) = (TrainPool::new(2), VecDeque::new());
    let mut stream = Stream { frames: Vec::new(), datagrams: Vec::new() };
    for (n, Frame { header, bytes }) in frames.into_iter().enumerate() {
        let BlockHeader { destination, source, offload, .. } = header;
        let mut reader = SliceSource::new(&bytes);
        let span = packer.put(destination, source, offload, &mut reader, &mut pool, &mut full);
        if closes(n) {
            full.extend(packer.close());
        }
        stream.frames.push((Frame { header, bytes }, span));
        carry(&mut full, &mut pool, &mut stream.datagrams);
    }
    full.extend(packer.close());
    carry(&mut full, &mut pool, &mut stream.datagrams);
    assert_eq!(pool.in_use(), 0);
    stream
}

/// Takes trains apart, as far as their senders' rules go.
fn carry(full: &mut VecDeque<Train>, pool: &mut TrainPool, datagrams: &mut Vec<Carried>) {
    for mut train in full.drain(..) {
        let (count, len) = (train.count(), train.bytes().len());
        assert_eq!(count, len.div_ceil(train.datagram_len()));
        assert_eq!(train.first_packet_number(), u64::try_from(datagrams.len()).unwrap());
        let before = datagrams.len();
        for datagram in train.datagrams() {
            let (header, _) = DatagramHeader::parse(datagram.header).unwrap();
            assert_eq!((header.kind, header.epoch), (Kind::Data, 9));
            assert_eq!(header.path, PathIndex::new(0xabcde, 3, 1).unwrap());
            assert_eq!(header.packet_number, datagram.packet_number);
            datagrams.push(Carried {
                packet_number: header.packet_number,
                first_block: header.first_block,
                payload: datagram.payload.to_vec(),
            });
        }
        assert_eq!(datagrams.len() - before, count);
        assert_eq!(train.last_packet_number() + 1, u64::try_from(datagrams.len()).unwrap());
        pool.put(train);
    }
}

/// An unpacker with everything that came out of it. It lends the datagrams that it is
/// asked to, but only two times of three: then they have to be copied.
pub(crate) struct Receiver {
    pub(crate) unpacker: Unpacker,
    pub(crate) got: Vec<Frame>,
    lent: Vec<Carried>,
    calls: usize,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self { unpacker: Unpacker::new(0), got: Vec::new(), lent: Vec::new(), calls: 0 }
    }

    pub(crate) fn feed<'a>(&mut self, run: impl IntoIterator<Item = &'a Carried>, now_us: u64) {
        let lent: Vec<_> = self.lent.iter().map(Carried::datagram).collect();
        let run: Vec<_> = run.into_iter().map(Carried::datagram).collect();
        let got = &mut self.got;
        let wanted = self.unpacker.feed_lent(&lent, &run, now_us, &mut |header, parts| {
            got.push(Frame { header: *header, bytes: parts.concat() });
        });
        let mut asked = [lent, run].concat();
        asked.drain(..asked.len() - wanted);
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            self.unpacker.keep_lent(&asked);
            asked.clear();
        }
        self.lent = asked.iter().map(Carried::of).collect();
    }

    /// Lets every hole that is left become final.
    pub(crate) fn finish(mut self) -> (Vec<Frame>, UnpackStats) {
        let got = &mut self.got;
        self.unpacker.tick(u64::MAX, &mut |header, parts| {
            got.push(Frame { header: *header, bytes: parts.concat() });
        });
        assert_eq!(self.unpacker.next_deadline_us(), None);
        (self.got, self.unpacker.stats())
    }
}

/// Compares without printing kilobytes.
pub(crate) fn same(got: &[Frame], expected: &[Frame]) -> Result<(), TestCaseError> {
    let headers = |frames: &[Frame]| frames.iter().map(|f| f.header).collect::<Vec<_>>();
    prop_assert_eq!(headers(got), headers(expected));
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        prop_assert!(got.bytes == expected.bytes, "bytes of frame {at} differ");
    }
    Ok(())
}

/// UDP payloads of fabrics with an MTU from 1,280 to 9,000 bytes, and odd ones.
pub(crate) fn any_geometry() -> impl Strategy<Value = Geometry> {
    let len = prop_oneof![1232usize..=8972, 512usize..=1500, Just(65_507)];
    (len, prop_oneof![Just(0), Just(16)]).prop_map(|(len, tag)| Geometry::new(len, tag).unwrap())
}

/// Mostly small frames, some of one MTU, a few of any length.
pub(crate) fn any_lens(count: usize) -> impl Strategy<Value = Vec<usize>> {
    let len = prop_oneof![
        6 => 1usize..200,
        3 => 1000usize..1600,
        1 => 1usize..=FRAME_LEN_MAX,
        1 => Just(FRAME_LEN_MAX),
    ];
    proptest::collection::vec(len, 1..count)
}
