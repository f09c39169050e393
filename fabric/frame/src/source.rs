//! The two shapes in which a frame crosses the data path.
//!
//! A frame on its way *in* from a guest or an uplink is a [`FrameSource`]: a
//! private copy of its first bytes, on which every decision is made, and a
//! reader for the rest, which is copied exactly once, to where it goes.
//! A frame on its way *out* is a [`FrameRef`]: a gather list into receive
//! buffers, because a long frame arrives as many datagrams.

use crate::Offload;

/// Bytes of a frame that are copied before any decision. 128 bytes hold
/// Ethernet, two VLAN tags, IPv6 with a short extension chain and TCP.
pub const HEAD_LEN: usize = 128;

/// A frame that can be read once, front to back.
pub trait FrameSource {
    /// Length of the whole frame in bytes, header of layer 2 included.
    fn frame_len(&self) -> usize;

    /// The private copy of the first `min(frame_len, HEAD_LEN)` bytes. What is
    /// checked here is what is sent: the reader hands out these same bytes.
    fn head(&self) -> &[u8];

    /// Copies the next `dst.len()` bytes of the frame, head included, to `dst`.
    /// The caller never asks for more than [`Self::frame_len`] bytes in all.
    fn read(&mut self, dst: &mut [u8]);
}

/// A frame of the process's own memory as a [`FrameSource`].
#[derive(Debug)]
pub struct SliceSource<'a> {
    frame: &'a [u8],
    rest: &'a [u8],
}

impl<'a> SliceSource<'a> {
    /// Reads `frame` from its first byte.
    #[must_use]
    pub fn new(frame: &'a [u8]) -> Self {
        Self { frame, rest: frame }
    }
}

impl FrameSource for SliceSource<'_> {
    fn frame_len(&self) -> usize {
        self.frame.len()
    }

    fn head(&self) -> &[u8] {
        self.frame.get(..HEAD_LEN).unwrap_or(self.frame)
    }

    fn read(&mut self, dst: &mut [u8]) {
        let (now, later) = self.rest.split_at(dst.len().min(self.rest.len()));
        dst[..now.len()].copy_from_slice(now);
        self.rest = later;
    }
}

/// A received frame: a gather list, its length and its offload.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    parts: &'a [&'a [u8]],
    len: usize,
    /// Checksum and segmentation work that is still to be done.
    pub offload: Offload,
}

impl<'a> FrameRef<'a> {
    /// A frame made of `parts`, in order.
    #[must_use]
    pub fn new(parts: &'a [&'a [u8]], offload: Offload) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        Self { parts, len, offload }
    }

    /// Length of the frame in bytes.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.len
    }

    /// The gather list.
    #[must_use]
    pub fn parts(&self) -> &'a [&'a [u8]] {
        self.parts
    }

    /// The gather list from byte `offset` on, without empty parts.
    pub fn parts_from(&self, offset: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut skip = offset;
        self.parts.iter().filter_map(move |part| {
            let (skipped, rest) = part.split_at(skip.min(part.len()));
            skip -= skipped.len();
            (!rest.is_empty()).then_some(rest)
        })
    }

    /// The frame's first bytes, [`HEAD_LEN`] if it has as many: where they are, or copied
    /// to `room` if no part has them all.
    #[inline]
    #[must_use]
    pub fn head<'h>(&self, room: &'h mut [u8; HEAD_LEN]) -> &'h [u8]
    where
        'a: 'h,
    {
        let len = self.len.min(HEAD_LEN);
        if let Some(head) = self.parts.first().and_then(|part| part.get(..len)) {
            return head;
        }
        let len = self.copy_at(0, room);
        &room[..len]
    }

    /// Copies up to `dst.len()` bytes from `offset` on to `dst`, and says how many.
    pub fn copy_at(&self, offset: usize, dst: &mut [u8]) -> usize {
        let mut skip = offset;
        let mut done = 0;
        for part in self.parts {
            let Some(part) = part.get(skip..) else {
                skip -= part.len();
                continue;
            };
            skip = 0;
            let n = part.len().min(dst.len() - done);
            dst[done..done + n].copy_from_slice(&part[..n]);
            done += n;
            if done == dst.len() {
                break;
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_the_same_wherever_the_parts_end() {
        let whole: Vec<u8> = (0..200).collect();
        for (cut, len) in [(0, 200), (1, 200), (127, 200), (128, 200), (200, 200), (9, 60)] {
            let parts = [&whole[..cut], &whole[cut..len.max(cut)]];
            let mut room = [0; HEAD_LEN];
            let head = FrameRef::new(&parts, Offload::default()).head(&mut room);
            assert_eq!(head, &whole[..len.min(HEAD_LEN)], "cut at {cut} of {len}");
        }
    }

    #[test]
    fn gather_list_copies_across_parts() {
        let parts: [&[u8]; 4] = [b"ab", b"", b"cde", b"f"];
        let frame = FrameRef::new(&parts, Offload::default());
        let mut dst = [0; 3];
        assert_eq!(frame.copy_at(1, &mut dst), 3);
        assert_eq!(&dst, b"bcd");
        assert_eq!(frame.copy_at(5, &mut dst), 1);
        assert_eq!(dst[0], b'f');
        assert_eq!(frame.copy_at(6, &mut dst), 0);
    }

    #[test]
    fn parts_from_skips_and_leaves_out_empty_parts() {
        let parts: [&[u8]; 4] = [b"ab", b"", b"cde", b"f"];
        let frame = FrameRef::new(&parts, Offload::default());
        for offset in 0..8 {
            let rest: Vec<_> = frame.parts_from(offset).collect();
            assert_eq!(rest.concat(), b"abcdef"[offset.min(6)..]);
            assert!(rest.iter().all(|part| !part.is_empty()));
        }
    }

    #[test]
    fn slice_source_reads_its_head_again() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut source = SliceSource::new(&bytes);
        assert_eq!(source.head().len(), HEAD_LEN);
        let mut all = vec![0; 256];
        let (a, b) = all.split_at_mut(100);
        source.read(a);
        source.read(b);
        assert_eq!(all, bytes);
    }
}
