//! A worker's half of the ledger.

use rustc_hash::FxHashMap;
use wireonce_ledger::{Account, Amount, DropReason, Stage};
use wireonce_wire::{Endpoint, UplinkId, VnicId};

/// Whose account: a vNIC, an uplink for what belongs to no vNIC, or nobody for what
/// a peer sent without owning it. Peers and outsiders cannot make new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u64);

impl Owner {
    /// Blocks whose source the peer does not own.
    pub const NOBODY: Self = Self(0);

    /// The account of a vNIC.
    #[must_use]
    pub fn vnic(id: VnicId) -> Self {
        Self(Endpoint::Vnic(id).to_bits())
    }

    /// The account of an uplink.
    #[must_use]
    pub fn uplink(id: UplinkId) -> Self {
        Self(Endpoint::Uplink(id).to_bits())
    }

    /// The owner that [`Self::bits`] gave.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A number for [`wireonce_link::Outbound::account`].
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The vNIC or uplink; `None` is nobody.
    #[must_use]
    pub fn endpoint(self) -> Option<Endpoint> {
        Endpoint::from_bits(self.0).filter(|endpoint| *endpoint != Endpoint::Link)
    }
}

/// Accounts by owner and stage.
#[derive(Debug, Clone, Default)]
pub struct Books {
    accounts: FxHashMap<(Owner, Stage), Account>,
}

impl Books {
    /// The account of `owner` at `stage`, opened if need be.
    pub fn at(&mut self, owner: Owner, stage: Stage) -> &mut Account {
        self.accounts.entry((owner, stage)).or_default()
    }

    /// Books what came to a stage and left it.
    pub fn pass(&mut self, owner: Owner, stage: Stage, amount: Amount) {
        let account = self.at(owner, stage);
        account.input += amount;
        account.output += amount;
    }

    /// Books what came to a stage and went no further.
    pub fn drop(&mut self, owner: Owner, stage: Stage, reason: DropReason, amount: Amount) {
        let account = self.at(owner, stage);
        account.input += amount;
        account.drop(reason, amount);
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = (Owner, Stage, &Account)> {
        self.accounts.iter().map(|((owner, stage), account)| (*owner, *stage, account))
    }

    /// Adds another worker's accounts.
    pub fn merge(&mut self, other: &Self) {
        for (owner, stage, account) in other.accounts() {
            self.at(owner, stage).merge(account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_apart() {
        let vnic = Owner::vnic(VnicId::new(7).unwrap());
        let uplink = Owner::uplink(UplinkId(7));
        assert_ne!(vnic, uplink);
        assert_eq!(Owner::from_bits(uplink.bits()).endpoint(), Some(Endpoint::Uplink(UplinkId(7))));
        assert_eq!(Owner::NOBODY.endpoint(), None);
    }

    #[test]
    fn books_of_two_workers_add_up() {
        let owner = Owner::uplink(UplinkId(1));
        let one = Amount::frame(100, 1);
        let (mut a, mut b) = (Books::default(), Books::default());
        a.pass(owner, Stage::UplinkRx, one);
        b.drop(owner, Stage::UplinkRx, DropReason::UnknownMac, one);
        a.merge(&b);
        let account = a.at(owner, Stage::UplinkRx);
        assert_eq!((account.input.frames, account.output.frames), (2, 1));
        assert_eq!(account.open_frames(), 0);
    }
}
