//! Frames that a guest receives.
//!
//! First all buffers that a frame needs are popped, then the frame is written
//! over them in one go. So a lack of buffers is known before a byte is copied,
//! and `num_buffers` before the header is written.

use std::sync::Arc;

use virtio_bindings::bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use wireonce_frame::{FrameRef, VNET_HEADER_LEN};

use super::{
    Pop, RingConfig, RingError, SplitRing,
    chain::{CHAIN_SEGMENTS_MAX, Chain, ChainFault},
    memory::MappedMemory,
};

/// Segments of all chains of one frame: enough for a 64 KB frame in buffers of
/// 22 bytes, so that only a guest that sabotages itself meets it.
const FRAME_SEGMENTS_MAX: usize = 4 * CHAIN_SEGMENTS_MAX;

/// Malformed chains that one delivery works through before it gives up, so that
/// a guest cannot make one frame cost a whole ring.
const BAD_CHAINS_MAX: u32 = 32;

/// Where `num_buffers` is in the virtio-net header (virtio 1.2, 5.1.6).
const NUM_BUFFERS_OFFSET: usize = 10;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// It is in the guest's buffers.
    Yes {
        /// How many chains it took.
        buffers: u16,
    },
    /// The guest has not posted enough; nothing was used.
    NoBuffers,
    /// The next buffer (with `MRG_RXBUF`: a ring full of them) cannot hold it;
    /// nothing was used.
    BufferSmall,
    /// The guest posts malformed chains without end; they were returned.
    BadChain,
}

/// A guest's receive ring.
#[derive(Debug)]
pub struct RxRing {
    ring: SplitRing,
    mergeable: bool,
    /// The buffers of all chains popped for the frame at hand.
    chain: Chain,
    /// Head and capacity in bytes of each of these chains.
    popped: Vec<(u16, u32)>,
}

impl RxRing {
    /// Starts the ring that `config` describes.
    ///
    /// # Errors
    /// See [`SplitRing::new`].
    pub fn new(memory: Arc<MappedMemory>, config: &RingConfig) -> Result<Self, RingError> {
        Ok(Self {
            ring: SplitRing::new(memory, config)?,
            mergeable: config.features & (1u64 << VIRTIO_NET_F_MRG_RXBUF) != 0,
            chain: Chain::new(),
            popped: Vec::with_capacity(64),
        })
    }

    /// The ring beneath, for its indices, counters and kicks.
    #[must_use]
    pub fn ring(&self) -> &SplitRing {
        &self.ring
    }

    /// The ring beneath. Buffers are popped and completed through `self` only.
    pub fn ring_mut(&mut self) -> &mut SplitRing {
        &mut self.ring
    }

    /// Writes `header`, with `num_buffers` filled in, and `frame` to the guest.
    /// The guest sees it after [`Self::publish_and_notify`].
    ///
    /// # Errors
    /// [`RingError`] if the ring is broken; stop serving it.
    #[inline]
    pub fn deliver(
        &mut self,
        header: [u8; VNET_HEADER_LEN],
        frame: &FrameRef<'_>,
    ) -> Result<Delivered, RingError> {
        let Ok(len) = u32::try_from(VNET_HEADER_LEN + frame.frame_len()) else {
            return Ok(Delivered::BufferSmall);
        };
        let one = with_num_buffers(header, 1);
        let parts = std::iter::once(&one[..]).chain(frame.parts().iter().copied());
        if self.ring.put(parts, len)? {
            return Ok(Delivered::Yes { buffers: 1 });
        }
        match self.take_buffers(len) {
            Ok(Delivered::Yes { buffers }) => {
                self.fill(header, buffers, frame);
                self.complete(len);
                Ok(Delivered::Yes { buffers })
            }
            // Nothing is to be used, so nothing may stay popped.
            refused => {
                self.ring.undo_pop(self.ring.in_flight());
                refused
            }
        }
    }

    /// Shows the guest what was delivered; true if it wants an interrupt.
    #[inline]
    pub fn publish_and_notify(&mut self) -> bool {
        self.ring.publish();
        self.ring.needs_notification()
    }

    /// Ends the service; see [`SplitRing::stop`].
    pub fn stop(&mut self) -> u16 {
        self.chain.clear();
        self.ring.stop()
    }

    /// Pops chains until they hold `len` bytes.
    #[inline]
    fn take_buffers(&mut self, len: u32) -> Result<Delivered, RingError> {
        self.popped.clear();
        let mut bad_left = BAD_CHAINS_MAX;
        loop {
            let capacity_before =
                if self.popped.is_empty() { 0 } else { self.chain.writable_len() };
            match self.pop()? {
                Pop::Empty if self.ring.in_flight() == self.ring.size() => {
                    return Ok(Delivered::BufferSmall);
                }
                Pop::Empty => return Ok(Delivered::NoBuffers),
                Pop::Chain if self.chain.writable_len() > capacity_before => {}
                bad => {
                    if bad == Pop::Chain {
                        self.ring.reject_last(ChainFault::NoBuffer);
                    }
                    bad_left -= 1;
                    if bad_left == 0 {
                        return Ok(Delivered::BadChain);
                    }
                    continue;
                }
            }
            let capacity = self.chain.writable_len();
            self.popped.push((self.ring.last_popped(), capacity - capacity_before));
            if capacity >= len {
                let buffers = u16::try_from(self.popped.len()).unwrap_or(u16::MAX);
                return Ok(Delivered::Yes { buffers });
            }
            let segments = self.chain.writable_segments();
            if !self.mergeable || segments + CHAIN_SEGMENTS_MAX > FRAME_SEGMENTS_MAX {
                return Ok(Delivered::BufferSmall);
            }
        }
    }

    /// Pops one chain behind those of the same frame, looking at the driver's
    /// index when all that it showed before is used up.
    #[inline]
    fn pop(&mut self) -> Result<Pop, RingError> {
        let first = self.popped.is_empty();
        let pop = |ring: &mut SplitRing, chain: &mut Chain| {
            if first { ring.pop(chain) } else { ring.pop_more(chain) }
        };
        let found = pop(&mut self.ring, &mut self.chain)?;
        if found == Pop::Empty && self.ring.available()? > 0 {
            return pop(&mut self.ring, &mut self.chain);
        }
        Ok(found)
    }

    fn fill(&self, header: [u8; VNET_HEADER_LEN], buffers: u16, frame: &FrameRef<'_>) {
        let mut writer = self.chain.writer();
        writer.write(&with_num_buffers(header, buffers));
        for part in frame.parts() {
            writer.write(part);
        }
    }

    /// Returns the popped chains, `len` bytes in them.
    #[inline]
    fn complete(&mut self, len: u32) {
        let mut left = len;
        for (head, capacity) in &self.popped {
            let written = left.min(*capacity);
            self.ring.complete(*head, written);
            left -= written;
        }
    }
}

/// Fills in `num_buffers`. Without `MRG_RXBUF` it must be 1 (virtio 1.2, 5.1.6.4), and is.
#[inline]
fn with_num_buffers(mut header: [u8; VNET_HEADER_LEN], buffers: u16) -> [u8; VNET_HEADER_LEN] {
    if let Some(field) = header.get_mut(NUM_BUFFERS_OFFSET..) {
        field.copy_from_slice(&buffers.to_le_bytes());
    }
    header
}
