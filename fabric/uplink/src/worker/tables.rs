//! What a worker is told of another configuration, made where nobody waits.

use crate::{attached::Attached, down::Down, probe::Gate, shares::Police, storm::OutsideStorm};
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, sync::Arc};
use wireonce_config::{Uplink, Vnic};
use wireonce_directory::Directory;
use wireonce_wire::{UplinkId, VnicId};

/// Tables that a worker is to use.
#[derive(Debug, Clone)]
pub(crate) struct NewTables {
    pub(crate) directory: Arc<Directory>,
    pub(crate) attached: Arc<Attached>,
    /// This host's uplinks.
    pub(crate) uplinks: FxHashMap<UplinkId, NewRights>,
    pub(crate) moves: Arc<Moves>,
}

/// What may pass an uplink.
#[derive(Debug, Clone)]
pub(crate) struct NewRights {
    pub(crate) uplink: Arc<Uplink>,
    /// What the outside may send to everybody.
    pub(crate) storm: Arc<OutsideStorm>,
    /// What frames from servers have to pass; `None`: it is not shaped.
    pub(crate) police: Option<Arc<Police>>,
    /// What frames from outside have to wait for; `None`: it is not shaped downwards.
    pub(crate) down: Option<Arc<Down>>,
    /// Who lets broadcast in, and where probes go.
    pub(crate) gate: Arc<Gate>,
}

/// Which vNICs an uplink is home for since now, and which no more.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    pub(crate) come: BTreeMap<UplinkId, Vec<VnicId>>,
    pub(crate) gone: BTreeMap<UplinkId, Vec<VnicId>>,
}

impl Moves {
    /// From the tables `before` to those `after`. A vNIC with another MAC address, other
    /// addresses or another network comes anew: outside they have to hear of it.
    pub(crate) fn between(before: &Directory, after: &Directory) -> Self {
        let mut moves = Self::default();
        for entry in before.vnics() {
            let now = after.vnic(entry.vnic.id).and_then(|entry| home(&entry.vnic));
            if let Some(home) = home(&entry.vnic).filter(|home| now != Some(*home)) {
                moves.gone.entry(home).or_default().push(entry.vnic.id);
            }
        }
        for entry in after.vnics() {
            let known = before.vnic(entry.vnic.id).is_some_and(|old| same(&old.vnic, &entry.vnic));
            if let Some(home) = home(&entry.vnic).filter(|_| !known) {
                moves.come.entry(home).or_default().push(entry.vnic.id);
            }
        }
        moves
    }
}

fn home(vnic: &Vnic) -> Option<UplinkId> {
    vnic.home.as_ref().map(|home| home.id)
}

/// Whether those outside know all that an announcement would tell them.
fn same(before: &Vnic, after: &Vnic) -> bool {
    home(before) == home(after)
        && before.mac == after.mac
        && before.addresses == after.addresses
        && before.network.outside.as_ref().map(|outside| outside.vlan)
            == after.network.outside.as_ref().map(|outside| outside.vlan)
}
