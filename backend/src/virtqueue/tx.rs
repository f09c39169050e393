//! Frames that a guest sends.
//!
//! The header and the frame's first bytes are copied out once, together; every
//! decision is made on that copy, and that copy is what is sent. The rest is
//! copied once, straight to where it goes, and nobody decides anything on it.

use std::sync::Arc;

use wireonce_frame::{ETHERNET_HEADER_LEN, FRAME_LEN_MAX, FrameSource, HEAD_LEN, VNET_HEADER_LEN};

use super::{
    Pop, RingConfig, RingError, SplitRing,
    chain::{Chain, Cursor},
    memory::MappedMemory,
};

/// Virtio-net header and first bytes of the frame.
const FIRST_LEN: usize = VNET_HEADER_LEN + HEAD_LEN;

/// A frame in a guest's transmit ring. Reusable; holds on to the memory
/// generation of its last frame until [`Self::clear`].
#[derive(Debug)]
pub struct TxFrame {
    chain: Chain,
    /// The private copy; what is valid of it depends on `frame_len`.
    first: [u8; FIRST_LEN],
    frame_len: usize,
    /// Bytes of the frame that were read.
    position: usize,
    /// Behind the private copy.
    cursor: Cursor,
}

impl Default for TxFrame {
    fn default() -> Self {
        Self::new()
    }
}

impl TxFrame {
    /// A frame to be filled by [`TxRing::next`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            chain: Chain::new(),
            first: [0; FIRST_LEN],
            frame_len: 0,
            position: 0,
            cursor: Cursor::default(),
        }
    }

    /// The virtio-net header as the guest wrote it: nothing in it is checked.
    #[must_use]
    pub fn header(&self) -> [u8; VNET_HEADER_LEN] {
        self.first.first_chunk().copied().unwrap_or_default()
    }

    /// Forgets the frame and lets go of the guest's memory.
    pub fn clear(&mut self) {
        self.chain.clear();
        self.frame_len = 0;
        self.position = 0;
        self.cursor = Cursor::default();
    }

    /// Copies the first bytes of the popped chain.
    #[inline]
    fn load(&mut self, frame_len: usize) {
        self.frame_len = frame_len;
        self.position = 0;
        self.cursor = Cursor::default();
        self.chain.read_at(&mut self.cursor, &mut self.first);
    }
}

impl FrameSource for TxFrame {
    #[inline]
    fn frame_len(&self) -> usize {
        self.frame_len
    }

    #[inline]
    fn head(&self) -> &[u8] {
        let end = VNET_HEADER_LEN + self.frame_len.min(HEAD_LEN);
        self.first.get(VNET_HEADER_LEN..end).unwrap_or_default()
    }

    /// Hands out the private copy first. Bytes that the caller asks for beyond
    /// the frame's end are set to zero.
    #[inline]
    fn read(&mut self, dst: &mut [u8]) {
        let private = self.head().get(self.position..).unwrap_or_default();
        let n = private.len().min(dst.len());
        let (start, rest) = dst.split_at_mut(n);
        start.copy_from_slice(private.get(..n).unwrap_or_default());
        self.position += n;
        if rest.is_empty() {
            return;
        }
        let guest = rest.len().min(self.frame_len.saturating_sub(self.position));
        let (body, beyond) = rest.split_at_mut(guest);
        self.position += self.chain.read_at(&mut self.cursor, body);
        beyond.fill(0);
    }
}

/// What [`TxRing::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing to send.
    Empty,
    /// A frame to handle before [`TxRing::publish_and_notify`].
    Frame,
    /// A chain shorter than the virtio-net and the Ethernet header. Like `Long`
    /// and `Bad` it is returned to the guest by itself; count it.
    Short,
    /// A frame of over [`FRAME_LEN_MAX`] bytes.
    Long,
    /// A malformed chain.
    Bad,
}

/// A guest's transmit ring.
#[derive(Debug)]
pub struct TxRing {
    ring: SplitRing,
    /// A frame was taken last, and may still be put back.
    taken: bool,
}

impl TxRing {
    /// Starts the ring that `config` describes.
    ///
    /// # Errors
    /// See [`SplitRing::new`].
    pub fn new(memory: Arc<MappedMemory>, config: &RingConfig) -> Result<Self, RingError> {
        Ok(Self { ring: SplitRing::new(memory, config)?, taken: false })
    }

    /// The ring beneath, for its indices, counters and kicks.
    #[must_use]
    pub fn ring(&self) -> &SplitRing {
        &self.ring
    }

    /// The ring beneath. Frames are taken and returned through `self` only.
    pub fn ring_mut(&mut self) -> &mut SplitRing {
        &mut self.ring
    }

    /// Loads the next frame into `frame`, looking at the driver's index again
    /// only when all that it showed before is used up. It goes back to the guest with
    /// the next [`Self::publish_and_notify`].
    ///
    /// # Errors
    /// [`RingError`] if the ring is broken; stop serving it.
    #[inline]
    pub fn next(&mut self, frame: &mut TxFrame) -> Result<Next, RingError> {
        self.taken = false;
        frame.frame_len = 0;
        let mut pop = self.ring.take(&mut frame.chain)?;
        if pop == Pop::Empty && self.ring.available()? > 0 {
            pop = self.ring.take(&mut frame.chain)?;
        }
        match pop {
            Pop::Empty => Ok(Next::Empty),
            Pop::Bad => Ok(Next::Bad),
            Pop::Chain => Ok(self.load(frame)),
        }
    }

    /// Leaves the frame that [`Self::next`] gave in the ring: the next call finds
    /// it again, and copies it again.
    pub fn put_back(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.ring.untake();
        }
    }

    /// Shows the guest what was returned; true if it wants an interrupt.
    #[inline]
    pub fn publish_and_notify(&mut self) -> bool {
        self.taken = false;
        self.ring.publish();
        self.ring.needs_notification()
    }

    /// Ends the service; see [`SplitRing::stop`].
    pub fn stop(&mut self) -> u16 {
        self.taken = false;
        self.ring.stop()
    }

    #[inline]
    fn load(&mut self, frame: &mut TxFrame) -> Next {
        let chain_len = usize::try_from(frame.chain.readable_len()).unwrap_or(usize::MAX);
        match chain_len.checked_sub(VNET_HEADER_LEN) {
            Some(frame_len) if frame_len > FRAME_LEN_MAX => Next::Long,
            Some(frame_len) if frame_len >= ETHERNET_HEADER_LEN => {
                frame.load(frame_len);
                self.taken = true;
                Next::Frame
            }
            _ => Next::Short,
        }
    }
}
