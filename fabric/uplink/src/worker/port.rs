//! One uplink as a worker has it: its driver and what goes through it.

use super::{
    NewRights, downward::Downward, egress::Egress, snapshot::UplinkSnapshot, tables::Moves,
};
use crate::{
    announce::{self, Announcer},
    books::{Books, Owner},
    driver::{Booking, Driver, DriverError, Sent, SentOutcome},
    forward::Out,
    probe::Gate,
    shares::Police,
    storm::OutsideStorm,
    sys::VNET_LEN,
};
use std::{collections::BTreeMap, sync::Arc};
use tracing::{debug, info, warn};
use wireonce_config::{Uplink, Vnic};
use wireonce_directory::Directory;
use wireonce_frame::{
    FrameRef, HEAD_LEN, Offload, VNET_HEADER_LEN,
    coalesce::JoinKind,
    segment::{WireCost, cut, segment},
};
use wireonce_ledger::{Amount, DropReason, Stage};
use wireonce_ring::{Ring, RingError};
use wireonce_wire::VnicId;

/// A frame that needs no offload.
const PLAIN: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

/// One uplink.
#[derive(Debug)]
pub(super) struct UplinkPort {
    pub(super) uplink: Arc<Uplink>,
    pub(super) driver: Driver,
    pub(super) storm: Arc<OutsideStorm>,
    /// What frames from servers have to pass; `None`: it is not shaped.
    pub(super) police: Option<Arc<Police>>,
    /// What came from outside and waits for its turn.
    pub(super) down: Downward,
    /// What came from servers and waits for the port.
    pub(super) egress: Egress,
    /// Who lets broadcast in, and where probes go.
    pub(super) gate: Arc<Gate>,
    /// What went from outside to the fabric, copies included.
    pub(super) inward: Amount,
    outward: Amount,
    pub(super) carrier: bool,
    /// Nothing new comes or goes.
    pub(super) closing: bool,
    /// `None` on workers that leave announcing to another.
    announcer: Option<Announcer>,
    /// Kernel drops that are booked already.
    booked_kernel_drops: u64,
    software_segmented: u64,
    announcements: u64,
    scratch: Vec<u8>,
}

impl UplinkPort {
    pub(super) fn new(
        uplink: Arc<Uplink>,
        driver: Driver,
        storm: Arc<OutsideStorm>,
        gate: Arc<Gate>,
        announces: bool,
    ) -> Self {
        Self {
            uplink,
            driver,
            storm,
            police: None,
            down: Downward::default(),
            egress: Egress::default(),
            gate,
            inward: Amount::ZERO,
            outward: Amount::ZERO,
            // The first look at the carrier announces, if there is one.
            carrier: false,
            closing: false,
            announcer: announces.then(Announcer::default),
            booked_kernel_drops: 0,
            software_segmented: 0,
            announcements: 0,
            scratch: Vec::new(),
        }
    }

    /// The uplink has other keys, but the same port.
    pub(super) fn change(&mut self, rights: NewRights) {
        let NewRights { uplink, storm, police, down, gate } = rights;
        (self.uplink, self.storm, self.police, self.gate) = (uplink, storm, police, gate);
        self.down.change(down);
    }

    /// Tells those outside which vNICs are here since now.
    pub(super) fn moved(&mut self, moves: &Moves, now_us: u64) {
        let Some(announcer) = &mut self.announcer else { return };
        let of = |vnics: &BTreeMap<_, Vec<VnicId>>| vnics.get(&self.uplink.id).cloned();
        of(&moves.gone).into_iter().flatten().for_each(|vnic| announcer.stop(vnic));
        // Without a carrier nobody hears; when it comes, all are announced.
        let come = of(&moves.come).filter(|_| self.carrier);
        come.into_iter().flatten().for_each(|vnic| announcer.start(vnic, now_us));
    }

    /// No table names the uplink any more: takes nothing more from outside. What is queued
    /// still goes out.
    pub(super) fn begin_closing(
        &mut self,
        ring: &mut Ring,
        books: &mut Books,
    ) -> Result<(), RingError> {
        info!(uplink = self.uplink.name, "uplink closes");
        self.refresh_driver(ring);
        self.book_kernel_drops(books);
        self.closing = true;
        self.carrier = false;
        self.announcer = None;
        // What waits goes at once.
        self.down.change(None);
        self.driver.close(ring)
    }

    /// The worker ends: books what waits.
    pub(super) fn give_up_waiting(&mut self, books: &mut Books) {
        self.down.give_up(&mut |vnic, frame| {
            let account = books.at(Owner::vnic(vnic), Stage::UplinkRx);
            account.drop(DropReason::Stopped, frame.amount);
        });
        self.drop_egress(books, DropReason::Stopped);
    }

    /// Whether the kernel is done with it.
    pub(super) fn is_closed(&self) -> bool {
        self.closing && self.down.is_empty() && self.egress.is_empty() && self.driver.is_closed()
    }

    /// Books a frame of `owner` and queues it for the wire.
    pub(super) fn send(
        &mut self,
        books: &mut Books,
        owner: Owner,
        amount: Amount,
        out: &Out,
        frame: &FrameRef<'_>,
    ) {
        let account = books.at(owner, Stage::UplinkTx);
        account.input += amount;
        if !self.carrier {
            account.drop(DropReason::UplinkFailed, amount);
            return;
        }
        let booking = Booking { owner, amount };
        let transmit = self.driver.transmit();
        if let Some(sent) = transmit.send_at_once(out.vnet, out.vlan, frame, booking) {
            self.finish(books, sent);
        } else if transmit.queue(out.vnet, out.vlan, out.flow, frame, booking).is_err() {
            account.drop(DropReason::UplinkBusy, amount);
        }
    }

    /// Books what became of a frame.
    pub(super) fn finish(&mut self, books: &mut Books, sent: Sent) {
        let Booking { owner, amount } = sent.booking;
        let account = books.at(owner, Stage::UplinkTx);
        match sent.outcome {
            SentOutcome::Done => {
                account.output += amount;
                self.outward += amount;
            }
            SentOutcome::Busy => account.drop(DropReason::UplinkBusy, amount),
            SentOutcome::Failed(errno) => {
                let error = std::io::Error::from_raw_os_error(errno);
                debug!(uplink = self.uplink.name, %error, "the port refused a frame");
                account.drop(DropReason::UplinkFailed, amount);
            }
            SentOutcome::OffloadRefused(bytes) => {
                if let Some(kind) = sent.joined {
                    let uplink = &self.uplink.name;
                    info!(uplink, ?kind, "the port refuses joined frames; none are made any more");
                }
                if self.send_finished(sent.booking, &bytes).is_none() {
                    account.drop(DropReason::UplinkFailed, amount);
                }
            }
        }
    }

    /// Does in software what the port would not do, and queues the frames that come
    /// of it. The first one carries the whole amount, so that the books close.
    fn send_finished(&mut self, booking: Booking, bytes: &[u8]) -> Option<()> {
        let (vnet, frame) = bytes.split_first_chunk::<VNET_LEN>()?;
        let parts = [frame];
        let transmit = self.driver.transmit();
        // The rest would be cut for nothing, and booked as sent.
        if booking.amount.segments > transmit.room() as u64 {
            return None;
        }
        let mut amount = Some(booking.amount);
        let mut first_is_queued = false;
        let mut queue = |piece: &[u8]| {
            let first = amount.is_some();
            let booking = Booking { amount: amount.take().unwrap_or_default(), ..booking };
            let parts = [piece];
            // The VLAN tag, if there is one, is in the frame already.
            let frame = FrameRef::new(&parts, Offload::default());
            let queued = transmit.queue(PLAIN, None, None, &frame, booking).is_ok();
            first_is_queued |= first && queued;
        };
        let pieces = if let Some((JoinKind::Udp, size)) = JoinKind::of_vnet(vnet) {
            let frame = FrameRef::new(&parts, Offload::default());
            cut(&frame, size, &mut self.scratch, &mut queue)
        } else {
            let head = frame.get(..HEAD_LEN).unwrap_or(frame);
            let offload = Offload::from_kernel(vnet, head, frame.len(), u16::MAX).ok()?;
            segment(&FrameRef::new(&parts, offload), &mut self.scratch, &mut queue)
        };
        self.software_segmented += 1;
        pieces.ok().filter(|_| first_is_queued).map(|_| ())
    }

    /// Queues the announcements that are due.
    pub(super) fn announce(&mut self, books: &mut Books, directory: &Directory, now_us: u64) {
        let Some(announcer) = self.announcer.as_mut().filter(|_| !self.gate.is_held()) else {
            return;
        };
        let frames_of = |id| directory.vnic(id).map_or(1, |e| announce::frames(&e.vnic).len());
        let mut due: Vec<VnicId> = Vec::new();
        while let Some(id) = announcer.next(now_us, frames_of) {
            due.push(id);
        }
        for vnic in due.into_iter().filter_map(|id| directory.vnic(id)) {
            self.announce_vnic(books, &vnic.vnic);
        }
    }

    fn announce_vnic(&mut self, books: &mut Books, vnic: &Vnic) {
        let Some(outside) = &vnic.network.outside else { return };
        for bytes in announce::frames(vnic) {
            self.emit(books, outside.vlan, &bytes);
            self.announcements += 1;
        }
    }

    /// Sends a frame of our own, booked on the uplink.
    pub(super) fn emit(&mut self, books: &mut Books, vlan: Option<u16>, bytes: &[u8]) {
        let out = Out {
            uplink: self.uplink.id,
            vlan,
            vnet: PLAIN,
            flow: None,
            cost: WireCost::SHORTEST,
            to_group: true,
        };
        let parts = [bytes];
        let frame = FrameRef::new(&parts, Offload::default());
        let owner = Owner::uplink(self.uplink.id);
        self.send(books, owner, Amount::frame(bytes.len(), 1), &out, &frame);
    }

    /// When [`Self::announce`] is to be called next.
    pub(super) fn next_announcement_us(&self) -> Option<u64> {
        // While broadcast is held back they wait; the next second looks again.
        self.announcer.as_ref().filter(|_| !self.gate.is_held())?.next_due_us()
    }

    /// Looks at what changes by itself: interface, carrier, the kernel's drop count.
    pub(super) fn refresh(
        &mut self,
        ring: &mut Ring,
        books: &mut Books,
        directory: &Directory,
        now_us: u64,
    ) {
        if self.closing {
            return;
        }
        self.refresh_driver(ring);
        self.book_kernel_drops(books);
        let carrier = self.driver.has_carrier();
        // One worker tells it, each time: whoever missed it hears it in a second.
        if self.announcer.is_some() {
            self.gate.carrier(carrier);
        }
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        let name = &self.uplink.name;
        if carrier {
            info!(uplink = name, mtu = self.driver.mtu(), "uplink has a carrier");
            self.compare_mtus(directory);
            self.start_announcing(directory, now_us);
        } else {
            warn!(uplink = name, "uplink has no carrier");
            self.announcer.iter_mut().for_each(Announcer::stop_all);
        }
    }

    fn refresh_driver(&mut self, ring: &mut Ring) {
        match self.driver.refresh(ring) {
            Ok(()) => {}
            Err(DriverError::Ring(error)) => warn!(%error, "cannot receive on an uplink"),
            Err(error) => debug!(%error, "will be tried again"),
        }
    }

    /// A network's large packets are lost on an interface with a smaller MTU.
    fn compare_mtus(&self, directory: &Directory) {
        let Some(mtu) = self.uplink.mtu.or_else(|| self.driver.mtu()) else { return };
        let networks: BTreeMap<_, _> =
            self.at_home(directory).map(|vnic| (vnic.network.vni, &vnic.network)).collect();
        for network in networks.values().filter(|network| network.mtu > mtu) {
            warn!(
                uplink = self.uplink.name,
                network = network.name,
                uplink_mtu = mtu,
                network_mtu = network.mtu,
                "the uplink takes smaller packets than the network allows; raise its MTU"
            );
        }
    }

    /// The vNICs that this uplink is home for.
    fn at_home<'d>(&self, directory: &'d Directory) -> impl Iterator<Item = &'d Vnic> {
        let id = self.uplink.id;
        let vnics = directory.vnics().map(|entry| &*entry.vnic);
        vnics.filter(move |vnic| vnic.home.as_ref().is_some_and(|home| home.id == id))
    }

    fn start_announcing(&mut self, directory: &Directory, now_us: u64) {
        let vnics: Vec<VnicId> = self.at_home(directory).map(|vnic| vnic.id).collect();
        let Some(announcer) = &mut self.announcer else { return };
        for id in vnics {
            announcer.start(id, now_us);
        }
    }

    fn book_kernel_drops(&mut self, books: &mut Books) {
        let drops = self.driver.counters().kernel_drops;
        let new = drops - self.booked_kernel_drops;
        self.booked_kernel_drops = drops;
        if new > 0 {
            // How long they were, nobody knows.
            let amount = Amount { frames: new, segments: new, bytes: 0 };
            let owner = Owner::uplink(self.uplink.id);
            books.drop(owner, Stage::UplinkRx, DropReason::KernelDrop, amount);
        }
    }

    pub(super) fn snapshot(&self) -> UplinkSnapshot {
        UplinkSnapshot {
            id: self.uplink.id,
            carrier: self.carrier,
            inward: self.inward,
            outward: self.outward,
            counters: self.driver.counters(),
            software_segmented: self.software_segmented,
            announcements: self.announcements,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::{Access, Port},
        sample::{STRANGER, config, directory, mac, tcp_segment, vnic},
        testbed::{Namespace, Raw},
    };
    use wireonce_frame::{Headers, checksum, coalesce::Flow, sample::Sample};
    use wireonce_ring::{Token, Wait};

    fn port(ring: &mut Ring) -> UplinkPort {
        let port = Port {
            access: Access::Packet,
            interface: "up0".to_owned(),
            group: None,
            receive: Token::new(1, 0),
            transmit: Token::new(2, 0),
        };
        let driver = Driver::open(port, ring).unwrap();
        let config = config();
        let uplink = Arc::clone(&config.uplinks[0]);
        let storm = Arc::new(OutsideStorm::new(&config, &uplink));
        let gate = Arc::new(Gate::deaf(uplink.id, uplink.id));
        let mut port = UplinkPort::new(uplink, driver, storm, gate, false);
        port.refresh(ring, &mut Books::default(), &directory(), 0);
        port
    }

    /// The uplink's namespace, the other end's, and who listens there.
    fn wired() -> Option<(Namespace, Namespace, Raw)> {
        let inside = Namespace::new()?;
        let outside = Namespace::new()?;
        inside.veth("up0", &outside, "out0");
        let listener = outside.run(|| Raw::open("out0"));
        Some((inside, outside, listener))
    }

    fn settle(port: &mut UplinkPort, ring: &mut Ring, books: &mut Books) {
        port.driver.transmit().submit(ring).unwrap();
        for _ in 0..100 {
            let mut completions = Vec::new();
            ring.enter(Wait::AtMostUs(10_000), &mut completions).unwrap();
            for completion in completions.into_iter().filter(|c| c.token.kind == 2) {
                let sent = port.driver.transmit().finish(completion).unwrap();
                port.finish(books, sent);
            }
            if port.driver.transmit().in_flight() == 0 {
                return;
            }
        }
        panic!("sends do not complete");
    }

    #[test]
    fn what_a_port_refuses_whole_is_cut_in_software_and_the_books_close() {
        let Some((inside, _outside, listener)) = wired() else { return };
        inside.run(|| {
            let mut ring = Ring::new().unwrap();
            let mut port = port(&mut ring);
            let mut books = Books::default();
            let (vnet, segment) = tcp_segment(STRANGER, mac(1), 4_000);
            let tagged = [&segment[..12], &[0x81, 0, 0, 20], &segment[12..]].concat();
            let len = segment.len();
            let booking = Booking { owner: Owner::vnic(vnic(1)), amount: Amount::frame(len, 3) };
            books.at(booking.owner, Stage::UplinkTx).input += booking.amount;
            let mut refused = vnet[..VNET_LEN].to_vec();
            refused[6] += 4; // the tag is in the frame
            refused.extend(&tagged);
            let outcome = SentOutcome::OffloadRefused(refused);
            port.finish(&mut books, Sent { booking, outcome, joined: None });
            settle(&mut port, &mut ring, &mut books);

            for n in 0..3_usize {
                let (_, piece) = listener.read();
                let payload = &segment[54..][n * 1448..4_000.min((n + 1) * 1448)];
                assert_eq!(&piece[54..], payload, "untagged by the kernel");
                assert_eq!(checksum::verify(&piece), Some(true));
            }
            assert_eq!(port.snapshot().software_segmented, 1);
            let account = books.at(booking.owner, Stage::UplinkTx);
            assert_eq!(account.output, booking.amount);
            assert_eq!(account.open_frames(), 0);
        });
    }

    #[test]
    fn a_train_that_a_port_refuses_is_cut_in_software_and_the_books_close() {
        let Some((inside, _outside, listener)) = wired() else { return };
        inside.run(|| {
            let mut ring = Ring::new().unwrap();
            let mut port = port(&mut ring);
            let mut books = Books::default();
            let owner = Owner::vnic(vnic(1));
            let frames: Vec<Vec<u8>> =
                (0..5).map(|n| Sample::udp4().ipv4_id(n).payload(vec![9; 80]).build()).collect();
            let mut send = |port: &mut UplinkPort, bytes: &[u8]| {
                let headers = Headers::parse(bytes, bytes.len()).unwrap();
                let flow = Flow::of(&headers, bytes, bytes.len(), &Offload::default());
                let out = Out {
                    uplink: port.uplink.id,
                    vlan: Some(20),
                    vnet: PLAIN,
                    flow,
                    cost: WireCost::SHORTEST,
                    to_group: false,
                };
                let parts = [bytes];
                let frame = FrameRef::new(&parts, Offload::default());
                port.send(&mut books, owner, Amount::frame(bytes.len(), 1), &out, &frame);
            };
            frames.iter().for_each(|bytes| send(&mut port, bytes));
            assert_eq!(port.driver.transmit().in_flight(), 1);
            for sent in port.driver.transmit().refuse_waiting() {
                port.finish(&mut books, sent);
            }
            settle(&mut port, &mut ring, &mut books);
            for bytes in &frames {
                assert_eq!(listener.read().1, *bytes, "untagged by the kernel");
            }
            let snapshot = port.snapshot();
            assert_eq!(snapshot.software_segmented, 1);
            assert_eq!(snapshot.counters.joining_refused, 1);
            assert_eq!(snapshot.counters.frames_joined, 4);
            assert_eq!(snapshot.counters.joined_header_bytes, 4 * 42);
            let account = books.at(owner, Stage::UplinkTx);
            let bytes = 5 * 122;
            assert_eq!(account.output, Amount { frames: 5, segments: 5, bytes });
            assert_eq!(account.open_frames(), 0);
        });
    }

    #[test]
    fn a_large_frame_goes_at_once_but_never_before_an_earlier_one() {
        let Some((inside, _outside, listener)) = wired() else { return };
        inside.run(|| {
            let mut ring = Ring::new().unwrap();
            let mut port = port(&mut ring);
            let mut books = Books::default();
            let owner = Owner::vnic(vnic(1));
            let id = port.uplink.id;
            let (vnet, large) = tcp_segment(STRANGER, mac(1), 30_000);
            let mut send = |port: &mut UplinkPort, bytes: &[u8], vnet, vlan| {
                // In pieces, as the fabric hands them over.
                let parts: Vec<&[u8]> = bytes.chunks(1400).collect();
                let frame = FrameRef::new(&parts, Offload::default());
                let amount = Amount::frame(bytes.len(), 1);
                port.send(
                    &mut books,
                    owner,
                    amount,
                    &Out {
                        uplink: id,
                        vlan,
                        vnet,
                        flow: None,
                        cost: WireCost::SHORTEST,
                        to_group: false,
                    },
                    &frame,
                );
                port.driver.transmit().in_flight()
            };
            let small = &large[..60];
            assert_eq!(send(&mut port, &large, vnet, Some(20)), 0, "went at once");
            assert_eq!(send(&mut port, &large, vnet, None), 0, "went at once");
            assert_eq!(send(&mut port, small, PLAIN, None), 1, "waits for the batch");
            assert_eq!(send(&mut port, &large, vnet, None), 2, "waits behind it");
            settle(&mut port, &mut ring, &mut books);

            for len in [large.len(), large.len(), small.len(), large.len()] {
                let (_, seen) = listener.read();
                assert_eq!(seen.len(), len);
                assert_eq!(seen[..], large[..len], "untagged by the kernel");
            }
            let account = books.at(owner, Stage::UplinkTx);
            assert_eq!(account.output.frames, 4);
            assert_eq!(account.open_frames(), 0);
        });
    }

    #[test]
    fn without_a_carrier_nothing_is_sent_and_everything_is_booked() {
        let Some(inside) = Namespace::new() else { return };
        inside.ip("link add up0 type veth peer name out0");
        inside.run(|| {
            let mut ring = Ring::new().unwrap();
            let mut port = port(&mut ring);
            let mut books = Books::default();
            let owner = Owner::vnic(vnic(1));
            let amount = Amount::frame(60, 1);
            let out = Out {
                uplink: port.uplink.id,
                vlan: None,
                vnet: PLAIN,
                flow: None,
                cost: WireCost::SHORTEST,
                to_group: false,
            };
            let parts = [&[0; 60][..]];
            let frame = FrameRef::new(&parts, Offload::default());
            port.send(&mut books, owner, amount, &out, &frame);
            assert_eq!(port.driver.transmit().in_flight(), 0);
            let account = books.at(owner, Stage::UplinkTx);
            assert_eq!(account.dropped(DropReason::UplinkFailed), amount);
            assert_eq!(account.open_frames(), 0);
        });
    }
}
