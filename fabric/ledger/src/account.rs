//! Amounts, stages and accounts.

use crate::DropReason;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// How much traffic: the three units in which the ledger closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Frames as the guest or uplink handed them over; a 64 KB TSO frame is one.
    pub frames: u64,
    /// Frames that a wire carries: the TSO frame counts once per MSS.
    pub segments: u64,
    /// Bytes of the frames, layer-2 header included, without wire overhead.
    pub bytes: u64,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self { frames: 0, segments: 0, bytes: 0 };

    /// One frame of `bytes` that a wire carries as `segments` frames.
    #[must_use]
    pub fn frame(bytes: usize, segments: u32) -> Self {
        Self { frames: 1, segments: u64::from(segments), bytes: bytes as u64 }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.frames = self.frames.wrapping_add(other.frames);
        self.segments = self.segments.wrapping_add(other.segments);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

/// Where on its way a frame is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Out of the guest's TX ring, through the port guard, to a link, to a
    /// neighbour on this host or into a drop.
    GuestTx,
    /// Into a train, until the receiver's evidence says that it arrived.
    FabricTx,
    /// Out of a train of a peer, to a port of this host.
    FabricRx,
    /// Into the guest's RX ring.
    GuestRx,
    /// From the fabric to an uplink's wire.
    UplinkTx,
    /// From an uplink's wire to the fabric.
    UplinkRx,
}

impl Stage {
    /// All stages, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [
        Self::GuestTx,
        Self::FabricTx,
        Self::FabricRx,
        Self::GuestRx,
        Self::UplinkTx,
        Self::UplinkRx,
    ];

    /// The name in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GuestTx => "guest-tx",
            Self::FabricTx => "fabric-tx",
            Self::FabricRx => "fabric-rx",
            Self::GuestRx => "guest-rx",
            Self::UplinkTx => "uplink-tx",
            Self::UplinkRx => "uplink-rx",
        }
    }

    /// Position in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// One stage's counters of one vNIC or uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What came to the stage.
    pub input: Amount,
    /// What replication added: a broadcast to three places is one in, two copies.
    pub copies: Amount,
    /// What left the stage towards the next.
    pub output: Amount,
    drops: [Amount; DropReason::COUNT],
}

impl Default for Account {
    fn default() -> Self {
        Self {
            input: Amount::ZERO,
            copies: Amount::ZERO,
            output: Amount::ZERO,
            drops: [Amount::ZERO; DropReason::COUNT],
        }
    }
}

impl Account {
    /// Books a drop.
    pub fn drop(&mut self, reason: DropReason, amount: Amount) {
        self.drops[reason.index()] += amount;
    }

    /// What was dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> Amount {
        self.drops[reason.index()]
    }

    /// The reasons that have a count, with it.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, Amount)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.dropped(reason)))
            .filter(|(_, amount)| *amount != Amount::ZERO)
    }

    /// All drops together.
    #[must_use]
    pub fn dropped_total(&self) -> Amount {
        let mut total = Amount::ZERO;
        for (_, amount) in self.drops() {
            total += amount;
        }
        total
    }

    /// What came in and neither left nor was dropped: frames in flight, or a hole
    /// in the books. Zero when the stage is drained.
    #[must_use]
    pub fn open_frames(&self) -> i128 {
        let arrived = i128::from(self.input.frames) + i128::from(self.copies.frames);
        let left = i128::from(self.output.frames) + i128::from(self.dropped_total().frames);
        arrived - left
    }

    /// Adds `other`, counter by counter.
    pub fn merge(&mut self, other: &Self) {
        self.input += other.input;
        self.copies += other.copies;
        self.output += other.output;
        for (mine, theirs) in self.drops.iter_mut().zip(other.drops) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_closes() {
        let mut account = Account::default();
        account.input += Amount::frame(100, 1);
        account.copies += Amount::frame(100, 1);
        account.output += Amount::frame(100, 1);
        assert_eq!(account.open_frames(), 1);
        account.drop(DropReason::NoSession, Amount::frame(100, 1));
        assert_eq!(account.open_frames(), 0);
        assert_eq!(account.drops().count(), 1);
    }

    #[test]
    fn stage_order_is_its_index() {
        for (at, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(stage.index(), at);
        }
    }
}
