//! From a head index to a chain's segments: the checks on hostile descriptors.
//!
//! Each descriptor is copied once and judged on the copy. The walk ends after
//! [`CHAIN_SEGMENTS_MAX`] descriptors, counted over the ring's table and the
//! indirect one together, so loops need no further care.

use super::{
    chain::{CHAIN_SEGMENTS_MAX, Chain, ChainFault},
    memory::{HostSegment, MappedMemory, RegionHint},
    shared::{DESCRIPTOR_LEN, Descriptor, SharedArray, SharedDescriptor, prefetch},
};

/// What a walk needs of its ring.
#[derive(Debug)]
pub(super) struct Walk<'r> {
    pub(super) memory: &'r MappedMemory,
    pub(super) table: &'r SharedArray<SharedDescriptor>,
    pub(super) size: u16,
    pub(super) indirect_negotiated: bool,
    pub(super) hints: &'r mut Hints,
}

/// Buffers and indirect tables often lie in different regions.
#[derive(Debug, Default)]
pub(super) struct Hints {
    buffer: RegionHint,
    table: RegionHint,
    /// Descriptors looked at since [`Self::take_walked`]; what a walk costs.
    walked: u32,
}

impl Hints {
    pub(super) fn take_walked(&mut self) -> u32 {
        std::mem::take(&mut self.walked)
    }

    /// The buffer of `first`, if it is the whole chain and lies near the one before: what
    /// nearly all chains are.
    #[inline]
    pub(super) fn only_segment(
        &self,
        memory: &MappedMemory,
        first: &Descriptor,
    ) -> Option<HostSegment> {
        let len = usize::try_from(first.len).ok().filter(|len| *len > 0)?;
        if first.is_indirect() || first.next().is_some() {
            return None;
        }
        let run = memory.run_near(self.buffer, first.address)?;
        (run.len() >= len).then(|| run.truncated(len))
    }

    /// Counts a descriptor that was looked at without a walk.
    #[inline]
    pub(super) fn count_one(&mut self) {
        self.walked = self.walked.saturating_add(1);
    }

    /// Asks for the first bytes of what `descriptor` leads to: a table, or a header
    /// and the start of a frame.
    #[inline]
    pub(super) fn prefetch(&self, memory: &MappedMemory, descriptor: &Descriptor) {
        let hint = if descriptor.is_indirect() { self.table } else { self.buffer };
        if let Some(run) = memory.run_near(hint, descriptor.address) {
            prefetch(run.as_ptr());
            prefetch(run.as_ptr().wrapping_add(CACHE_LINE_LEN));
        }
    }
}

const CACHE_LINE_LEN: usize = 64;

/// How far a walk has come.
struct Progress {
    descriptors_left: usize,
    segments_left: usize,
    bytes_left: u32,
    writable_seen: bool,
}

impl Progress {
    const START: Self = Self {
        descriptors_left: CHAIN_SEGMENTS_MAX,
        segments_left: CHAIN_SEGMENTS_MAX,
        bytes_left: u32::MAX,
        writable_seen: false,
    };

    #[inline]
    fn push(
        &mut self,
        segment: HostSegment,
        writable: bool,
        chain: &mut Chain,
    ) -> Result<(), ChainFault> {
        self.segments_left = self.segments_left.checked_sub(1).ok_or(ChainFault::TooLong)?;
        let len = u32::try_from(segment.len()).map_err(|_| ChainFault::TotalLen)?;
        self.bytes_left = self.bytes_left.checked_sub(len).ok_or(ChainFault::TotalLen)?;
        chain.push(segment, writable);
        Ok(())
    }
}

impl Walk<'_> {
    /// Adds the buffers of the chain whose first descriptor is `first` to `chain`.
    /// After an error `chain` holds a part of them.
    #[inline]
    pub(super) fn append(mut self, first: Descriptor, chain: &mut Chain) -> Result<(), ChainFault> {
        let mut progress = Progress::START;
        let mut descriptor = first;
        loop {
            if descriptor.is_indirect() {
                return self.append_table(descriptor, progress, chain);
            }
            self.append_buffer(descriptor, &mut progress, chain)?;
            let Some(next) = descriptor.next() else { return Ok(()) };
            if next >= self.size {
                return Err(ChainFault::NextOutOfRange { next, size: self.size.into() });
            }
            descriptor = self.table.at(next).load();
        }
    }

    /// Adds the buffers of the indirect table that `outer` describes. The table
    /// may begin anywhere and straddle regions.
    fn append_table(
        &mut self,
        outer: Descriptor,
        mut progress: Progress,
        chain: &mut Chain,
    ) -> Result<(), ChainFault> {
        if !self.indirect_negotiated {
            return Err(ChainFault::IndirectNotNegotiated);
        }
        if outer.next().is_some() {
            return Err(ChainFault::IndirectWithNext);
        }
        let entries = outer.len / 16;
        if !outer.len.is_multiple_of(16) || entries == 0 {
            return Err(ChainFault::IndirectLen(outer.len));
        }
        let mut index = 0u16;
        loop {
            let descriptor = self.load_entry(outer.address, index)?;
            if descriptor.is_indirect() {
                return Err(ChainFault::NestedIndirect);
            }
            self.append_buffer(descriptor, &mut progress, chain)?;
            let Some(next) = descriptor.next() else { return Ok(()) };
            if u32::from(next) >= entries {
                return Err(ChainFault::NextOutOfRange { next, size: entries });
            }
            index = next;
        }
    }

    fn load_entry(&mut self, table: u64, index: u16) -> Result<Descriptor, ChainFault> {
        let offset = u64::from(index) * 16;
        let address = table.checked_add(offset).ok_or(super::memory::Unmapped(table))?;
        let mut bytes = [0; DESCRIPTOR_LEN];
        self.memory.copy_out(&mut self.hints.table, address, &mut bytes)?;
        Ok(Descriptor::from_table_entry(bytes))
    }

    /// Adds one buffer. Empty ones are ignored, whatever their address says.
    #[inline]
    fn append_buffer(
        &mut self,
        descriptor: Descriptor,
        progress: &mut Progress,
        chain: &mut Chain,
    ) -> Result<(), ChainFault> {
        progress.descriptors_left =
            progress.descriptors_left.checked_sub(1).ok_or(ChainFault::TooLong)?;
        self.hints.walked = self.hints.walked.saturating_add(1);
        if descriptor.len == 0 {
            return Ok(());
        }
        let writable = descriptor.is_writable();
        if progress.writable_seen && !writable {
            return Err(ChainFault::ReadableAfterWritable);
        }
        progress.writable_seen = writable;
        let len = usize::try_from(descriptor.len).map_err(|_| ChainFault::TotalLen)?;
        if let Some(run) = self.memory.run_near(self.hints.buffer, descriptor.address)
            && run.len() >= len
        {
            return progress.push(run.truncated(len), writable, chain);
        }
        let mut runs = self.memory.translate_from(self.hints.buffer, descriptor.address, len);
        for run in runs.by_ref() {
            progress.push(run?, writable, chain)?;
        }
        self.hints.buffer = runs.hint();
        Ok(())
    }
}
