//! What the shim does with each message: the pure half.
//!
//! The VMM negotiates with the shim, never with the daemon behind it, which is
//! switched to everything it can at the start. So the shim alone decides what
//! is allowed when:
//!
//! * SET_VRING_ENABLE before the first SET_FEATURES is held back and replayed,
//!   because the stock daemon ends the session on it and QEMU always does it;
//! * SEND_RARP and NET_SET_MTU, which the stock daemon does not know, end here;
//! * a ring's size, addresses and base are frozen while it runs;
//! * GET_QUEUE_NUM means pairs to QEMU and rings to everybody else. QEMU claims
//!   the session (SET_OWNER) after that question, the others before it.

use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures};

use super::config::{DeviceConfig, MAX_QUEUE_SIZE, MIN_MTU};
use super::features::{self, PROTOCOL_FEATURES_BIT};
use super::memory::{FileId, REGIONS_MAX, Region, parse_regions};
use super::message::{Message, NO_DESCRIPTOR_FLAG};
use super::refusal::Refusal;

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Give it to the daemon, and its answer to the VMM.
    Forward,
    /// It ends here, with this status (`true`: done) for a VMM that asks.
    Done(bool),
    /// It ends here, and the worker announces the vNIC.
    Announce,
    /// Answer with this number.
    Number(u64),
}

/// The rings that run now, one bit each.
pub(super) type RunningRings = u16;

/// The state of one session, as far as the rules above need it.
#[derive(Debug)]
pub(super) struct Judge {
    config: DeviceConfig,
    owned: bool,
    /// Whether the session was claimed before the first question. QEMU asks
    /// again for each further queue pair, after the claim, and must hear the same.
    claimed_first: Option<bool>,
    /// Protocol features that the VMM chose, if it did.
    protocol: Option<VhostUserProtocolFeatures>,
    /// Virtio features that the driver acknowledged, if it did.
    features: Option<u64>,
    /// The memory that the daemon has mapped.
    regions: Vec<(Region, Option<FileId>)>,
    rings: Vec<RingMemo>,
}

#[derive(Debug, Clone, Default)]
struct RingMemo {
    /// An enable that came before SET_FEATURES.
    held: Option<bool>,
    /// The VMM's last addresses: descriptors, used, available.
    addresses: Option<[u64; 3]>,
}

impl Judge {
    pub(super) fn new(config: DeviceConfig) -> Self {
        let rings = vec![RingMemo::default(); usize::from(config.rings())];
        Self {
            config,
            owned: false,
            claimed_first: None,
            protocol: None,
            features: None,
            regions: Vec::new(),
            rings,
        }
    }

    /// Protocol features in force.
    pub(super) fn protocol(&self) -> VhostUserProtocolFeatures {
        self.protocol.unwrap_or(VhostUserProtocolFeatures::empty())
    }

    /// Whether a request with the need_reply flag is answered with a status.
    pub(super) fn answers_status(&self) -> bool {
        self.protocol().contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    /// Decides, and remembers what later decisions need. May change the
    /// message that goes on to the daemon.
    pub(super) fn judge(
        &mut self,
        message: &mut Message,
        running: RunningRings,
    ) -> Result<Verdict, Refusal> {
        use FrontendReq as R;
        match message.request {
            R::GET_PROTOCOL_FEATURES => {
                Ok(Verdict::Number(features::offered_protocol(self.claimed_first()).bits()))
            }
            R::SET_PROTOCOL_FEATURES => self.set_protocol(message.u64_at(0)),
            R::SET_FEATURES => self.set_features(message, running),
            R::SET_OWNER if self.owned => Err(Refusal::OwnedTwice),
            R::SET_OWNER => {
                self.owned = true;
                Ok(Verdict::Forward)
            }
            // "No longer used": back-ends should ignore it.
            R::RESET_OWNER => Ok(Verdict::Done(true)),
            R::SET_MEM_TABLE | R::ADD_MEM_REG | R::REM_MEM_REG => self.memory(message),
            R::GET_MAX_MEM_SLOTS => Ok(Verdict::Number(slots())),
            R::SET_VRING_NUM => self.set_size(message, running),
            R::SET_VRING_BASE => self.set_base(message, running),
            R::SET_VRING_ADDR => self.set_addresses(message, running),
            R::GET_VRING_BASE => self.get_base(message),
            R::SET_VRING_ENABLE => self.enable(message),
            R::SET_VRING_KICK | R::SET_VRING_CALL | R::SET_VRING_ERR => self.ring_event(message),
            R::GET_QUEUE_NUM => Ok(Verdict::Number(self.queue_number())),
            R::NET_SET_MTU => Ok(Verdict::Done(self.accepts_mtu(message.u64_at(0)))),
            // The guest may have taken another MAC, but the port guard lets it send with
            // the vNIC's only.
            R::SEND_RARP if message.payload.starts_with(&self.config.mac) => Ok(Verdict::Announce),
            R::SEND_RARP => Ok(Verdict::Done(false)),
            // Nothing in the configuration space may be written.
            R::SET_CONFIG => Ok(Verdict::Done(false)),
            _ => Ok(Verdict::Forward),
        }
    }

    /// The enables that were held back, once, after SET_FEATURES has passed.
    pub(super) fn take_held(&mut self) -> Vec<Message> {
        if self.features.is_none() {
            return Vec::new();
        }
        let held = self.rings.iter_mut().zip(0u32..);
        held.filter_map(|(ring, index)| {
            let enable = u32::from(ring.held.take()?);
            let payload = [index.to_ne_bytes(), enable.to_ne_bytes()].concat();
            Some(Message::new(FrontendReq::SET_VRING_ENABLE, payload))
        })
        .collect()
    }

    fn set_protocol(&mut self, bits: u64) -> Result<Verdict, Refusal> {
        // On restore, cloud-hypervisor sets what it had without asking again.
        let offered = features::offered_protocol(true);
        let chosen = VhostUserProtocolFeatures::from_bits(bits);
        let chosen = chosen.filter(|chosen| offered.contains(*chosen));
        self.protocol = Some(chosen.ok_or(Refusal::ProtocolFeatures(bits))?);
        Ok(Verdict::Done(true))
    }

    fn set_features(
        &mut self,
        message: &mut Message,
        running: RunningRings,
    ) -> Result<Verdict, Refusal> {
        let mut bits = message.u64_at(0);
        if bits & !features::offered(&self.config) != 0 {
            return Err(Refusal::Features(bits));
        }
        // QEMU before 7.2 negotiates protocol features without saying so here.
        // The ring states of the specification depend on this bit.
        if self.protocol.is_some() || self.rings.iter().any(|ring| ring.held.is_some()) {
            bits |= PROTOCOL_FEATURES_BIT;
            message.payload = bits.to_ne_bytes().to_vec();
        }
        // With dirty logging (LOG_ALL) this will have to allow that bit to change.
        if running != 0 && self.features != Some(bits) {
            return Err(Refusal::FeaturesWhileRunning);
        }
        self.features = Some(bits);
        Ok(Verdict::Forward)
    }

    /// QEMU 7.2 sends ADD_MEM_REG and REM_MEM_REG once for each queue pair
    /// (later versions once), so the same again is done already.
    fn memory(&mut self, message: &Message) -> Result<Verdict, Refusal> {
        let ids = message.file_ids.iter().copied().map(Some).chain(std::iter::repeat(None));
        let given: Vec<_> = parse_regions(message)?.into_iter().zip(ids).collect();
        let mut regions = std::mem::take(&mut self.regions);
        let before = regions.len();
        match message.request {
            FrontendReq::SET_MEM_TABLE => regions = given,
            FrontendReq::ADD_MEM_REG if given.iter().all(|new| regions.contains(new)) => {
                self.regions = regions;
                return Ok(Verdict::Done(true));
            }
            FrontendReq::ADD_MEM_REG => regions.extend(given),
            _ => {
                // A removal need not repeat the file offset.
                let place = |region: &Region| (region.guest, region.size, region.vmm);
                regions.retain(|(old, _)| given.iter().all(|(gone, _)| place(old) != place(gone)));
                if regions.len() == before {
                    self.regions = regions;
                    return Ok(Verdict::Done(true));
                }
            }
        }
        if regions.len() > REGIONS_MAX {
            return Err(Refusal::RegionCount(slots() + 1, REGIONS_MAX));
        }
        self.regions = regions;
        Ok(Verdict::Forward)
    }

    fn set_size(&self, message: &Message, running: RunningRings) -> Result<Verdict, Refusal> {
        self.stopped_ring(message, running)?;
        let (size, max) = (message.u32_at(4), MAX_QUEUE_SIZE);
        if !size.is_power_of_two() || size > u32::from(max) {
            return Err(Refusal::RingSize { size, max });
        }
        Ok(Verdict::Forward)
    }

    fn set_base(&self, message: &Message, running: RunningRings) -> Result<Verdict, Refusal> {
        self.stopped_ring(message, running)?;
        let base = message.u32_at(4);
        u16::try_from(base).map_err(|_| Refusal::RingBase(base))?;
        Ok(Verdict::Forward)
    }

    fn set_addresses(
        &mut self,
        message: &Message,
        running: RunningRings,
    ) -> Result<Verdict, Refusal> {
        let index = self.ring_index(message, u64::from(message.u32_at(0)))?;
        let log_flag = 1;
        let flags = message.u32_at(4);
        let [descriptors, used, available] = [8, 16, 24].map(|at| message.u64_at(at));
        if flags & !log_flag != 0 {
            return Err(Refusal::RingAddresses(u64::from(flags)));
        }
        // Alignment: virtio 1.2, section 2.7.
        for (address, alignment) in [(descriptors, 16), (available, 2), (used, 4)] {
            if address % alignment != 0 {
                return Err(Refusal::RingAddresses(address));
            }
        }
        let addresses = Some([descriptors, used, available]);
        let memo = self.rings.get_mut(usize::from(index));
        let known = memo.map(|memo| std::mem::replace(&mut memo.addresses, addresses));
        if running >> index & 1 == 0 {
            self.in_shared_memory(index, [descriptors, used, available])?;
            return Ok(Verdict::Forward);
        }
        // QEMU turns logging of a running ring on and off by sending its
        // addresses again. The same addresses change nothing.
        if known == Some(addresses) {
            return Ok(Verdict::Done(true));
        }
        Err(Refusal::RingRuns { request: u32::from(message.request), index })
    }

    /// The daemon refuses such addresses too, but does not say why. The usual
    /// cause is a VM whose memory no other process can map.
    fn in_shared_memory(&self, index: u16, addresses: [u64; 3]) -> Result<(), Refusal> {
        let regions = self.regions.len();
        if regions == 0 {
            return Err(Refusal::RingWithoutMemory(index));
        }
        let shared = |address: u64| {
            let mut offsets = self.regions.iter().map(|(it, _)| (address.checked_sub(it.vmm), it));
            offsets.any(|(offset, it)| offset.is_some_and(|offset| offset < it.size))
        };
        match addresses.into_iter().find(|address| !shared(*address)) {
            Some(address) => Err(Refusal::RingOutsideMemory { index, address, regions }),
            None => Ok(()),
        }
    }

    fn get_base(&mut self, message: &Message) -> Result<Verdict, Refusal> {
        let index = self.ring_index(message, u64::from(message.u32_at(0)))?;
        if let Some(memo) = self.rings.get_mut(usize::from(index)) {
            memo.addresses = None;
        }
        Ok(Verdict::Forward)
    }

    fn enable(&mut self, message: &Message) -> Result<Verdict, Refusal> {
        let index = self.ring_index(message, u64::from(message.u32_at(0)))?;
        let enable = match message.u32_at(4) {
            0 => false,
            1 => true,
            other => return Err(Refusal::Enable(other)),
        };
        match self.features {
            Some(bits) if bits & PROTOCOL_FEATURES_BIT != 0 => Ok(Verdict::Forward),
            Some(_) => Err(Refusal::NotNegotiated(u32::from(message.request))),
            None => {
                if let Some(memo) = self.rings.get_mut(usize::from(index)) {
                    memo.held = Some(enable);
                }
                Ok(Verdict::Done(true))
            }
        }
    }

    fn ring_event(&self, message: &Message) -> Result<Verdict, Refusal> {
        let value = message.u64_at(0);
        let index = self.ring_index(message, value & !NO_DESCRIPTOR_FLAG)?;
        let is_kick = message.request == FrontendReq::SET_VRING_KICK;
        if is_kick && value & NO_DESCRIPTOR_FLAG != 0 {
            return Err(Refusal::KickWithoutDescriptor(index));
        }
        Ok(Verdict::Forward)
    }

    fn queue_number(&mut self) -> u64 {
        let pairs = u64::from(self.config.queue_pairs);
        if self.claimed_first() { pairs * 2 } else { pairs }
    }

    fn claimed_first(&mut self) -> bool {
        *self.claimed_first.get_or_insert(self.owned)
    }

    fn accepts_mtu(&self, mtu: u64) -> bool {
        (u64::from(MIN_MTU)..=u64::from(self.config.mtu)).contains(&mtu)
    }

    fn stopped_ring(&self, message: &Message, running: RunningRings) -> Result<u16, Refusal> {
        let index = self.ring_index(message, u64::from(message.u32_at(0)))?;
        if running >> index & 1 == 1 {
            return Err(Refusal::RingRuns { request: u32::from(message.request), index });
        }
        Ok(index)
    }

    /// The ring that a message means. The index is compared in full width,
    /// before anything cuts it down to the 8 or 16 bits that suffice.
    fn ring_index(&self, message: &Message, index: u64) -> Result<u16, Refusal> {
        let rings = self.config.rings();
        match u16::try_from(index) {
            Ok(small) if small < rings => Ok(small),
            _ => Err(Refusal::RingIndex { request: u32::from(message.request), index, rings }),
        }
    }
}

fn slots() -> u64 {
    u64::try_from(REGIONS_MAX).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
