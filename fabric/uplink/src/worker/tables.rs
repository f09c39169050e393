//! What a worker is told of another configuration, made where nobody waits.

use crate::{attached::Attached, down::Down, probe::Gate, shares::Police, storm::OutsideStorm};
use rustc_hash::FxHashMap;
use std::sync::Arc;
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
    /// vNICs of which those outside have to hear.
    pub(crate) news: Arc<[VnicId]>,
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

/// The vNICs of which those outside have to hear, wherever they are: with another home than `before`, another
/// MAC address, other addresses or another network; and new ones.
pub(crate) fn news(before: &Directory, after: &Directory) -> Arc<[VnicId]> {
    let is_known = |vnic: &Vnic| before.vnic(vnic.id).is_some_and(|old| same(&old.vnic, vnic));
    let new = after.vnics().filter(|entry| !is_known(&entry.vnic));
    new.map(|entry| entry.vnic.id).collect()
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
