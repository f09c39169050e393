//! What a gateway does with a frame: decided on the tables and the frame's head
//! alone, without sockets.
//!
//! ```text
//!   from the fabric: owned by the peer? headers, offload ─▶ source MAC ─▶ link control,
//!                    tags ─▶ out on the network's VLAN
//!   from outside:    headers ─▶ link control, tags ─▶ VLAN → network ─▶ reflection ─▶ offload,
//!                    length ─▶ unicast: vNIC whose home this is / group: designated uplink only
//! ```
//!
//! A peer may have been broken into, and so may anyone outside: what arrives is
//! checked here as if nobody had checked it before.

use crate::{
    attached::Attached, driver::Received, link_control::is_link_control, probe::Gate,
    reflection::reflected,
};
use wireonce_directory::{Directory, Host};
use wireonce_frame::{
    Ethernet, FrameRef, HEAD_LEN, HeaderError, Headers, MacAddr, Offload, OffloadError,
    OffloadFeatures, VNET_HEADER_LEN,
    coalesce::Flow,
    ecn::{self, Ecn},
    flow_hash,
    headers::ethertype,
    segment::{WireCost, segment_count, wire_cost},
};
use wireonce_ledger::{Amount, DropReason};
use wireonce_link::PeerId;
use wireonce_wire::{Endpoint, UplinkId, Vni, VnicId};

/// A decision, and how much it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<T> {
    /// The frame, as it is booked. Where the headers are wrong it is one segment.
    pub amount: Amount,
    /// Whose book it goes in; `None` where nobody can be named.
    pub account: Option<VnicId>,
    /// Where it goes, or why not.
    pub decision: Result<T, DropReason>,
}

/// Out through an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    /// Which one.
    pub uplink: UplinkId,
    /// On which VLAN.
    pub vlan: Option<u16>,
    /// With this virtio-net header, for a kernel that takes every offload.
    pub vnet: [u8; VNET_HEADER_LEN],
    /// What it may be joined with.
    pub flow: Option<Flow>,
    /// What it costs on the wire.
    pub cost: WireCost,
    /// It is for a group: broadcast or multicast.
    pub to_group: bool,
}

/// In to the fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct In {
    /// To whom.
    pub target: Target,
    /// The frame's destination MAC; groups have a storm limit each.
    pub destination: MacAddr,
    /// Work left to the last hop.
    pub offload: Offload,
    /// Frames of one flow have one hash.
    pub flow_hash: u32,
    /// ECN field of the frame's IP header.
    pub ecn: Ecn,
    /// Bytes of all its headers, for what it costs on the wire.
    pub header_len: usize,
}

/// Whom a frame from outside goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One vNIC of a peer.
    Vnic(PeerId, VnicId),
    /// Every peer that has a vNIC in the network.
    Flood(Vni),
}

/// What a frame is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Tables<'a> {
    /// Who is where.
    pub directory: &'a Directory,
    /// Which vNICs use which of our uplinks now.
    pub attached: &'a Attached,
    /// Now, on the clock of the attachments' fences.
    pub now_us: u64,
}

/// Decides on a frame that `peer` sent from `source` to `destination`.
#[must_use]
pub fn outward(
    tables: Tables<'_>,
    peer: PeerId,
    source: Endpoint,
    destination: Endpoint,
    frame: &FrameRef<'_>,
) -> Verdict<Out> {
    let mut head = [0; HEAD_LEN];
    let copied = frame.copy_at(0, &mut head);
    let head = head.get(..copied).unwrap_or(&head);
    let headers = Headers::parse(head, frame.frame_len());
    let segments = headers
        .as_ref()
        .map_or(1, |headers| segment_count(frame.frame_len(), &frame.offload, headers));
    let admitted = tables.directory.admit(peer, source, destination);
    Verdict {
        amount: Amount::frame(frame.frame_len(), segments),
        // A peer can book only on what it owns.
        account: admitted.is_ok().then_some(source).and_then(vnic_of),
        decision: admitted
            .and_then(|vni| leave(tables, vni, source, destination, frame, head, headers)),
    }
}

fn leave(
    tables: Tables<'_>,
    vni: Vni,
    source: Endpoint,
    destination: Endpoint,
    frame: &FrameRef<'_>,
    head: &[u8],
    headers: Result<Headers, HeaderError>,
) -> Result<Out, DropReason> {
    // Only a vNIC of a peer may leave, and only through an uplink of this process.
    let Endpoint::Uplink(uplink) = destination else {
        return Err(DropReason::UnknownDestination);
    };
    let directory = tables.directory;
    let entry = vnic_of(source).and_then(|id| directory.vnic(id));
    let entry = entry.ok_or(DropReason::SourceNotOwned)?;
    tables.attached.egress(entry, uplink, tables.now_us)?;
    let vnic = &entry.vnic;
    let network = &directory.network(vni).ok_or(DropReason::NetworkMismatch)?.network;
    let outside = network.outside.as_ref().ok_or(DropReason::NetworkMismatch)?;
    let headers = headers.map_err(|_| DropReason::BadHeaders)?;
    frame
        .offload
        .check_parsed(&headers, frame.frame_len(), network.mtu)
        .map_err(|_| DropReason::BadBlock)?;
    if headers.ethernet.source != vnic.mac {
        return Err(DropReason::SourceMac);
    }
    check_link_layer(&headers.ethernet)?;
    if headers.ethernet.ethertype == ethertype::PROBE {
        return Err(DropReason::ProbeForged);
    }
    let to_group = headers.ethernet.destination.is_group();
    let vnet = frame.offload.to_vnet(head, OffloadFeatures::ALL);
    let flow = Flow::of(&headers, head, frame.frame_len(), &frame.offload);
    let cost = wire_cost(frame.frame_len(), &frame.offload, &headers);
    Ok(Out { uplink, vlan: outside.vlan, vnet, flow, cost, to_group })
}

/// Decides on a frame that came in through the uplink that `gate` belongs to.
#[must_use]
pub(crate) fn inward(tables: Tables<'_>, gate: &Gate, received: &Received<'_>) -> Verdict<In> {
    let len = received.frame.len();
    let drop = |reason, segments| Verdict {
        amount: Amount::frame(len, segments),
        account: None,
        decision: Err(reason),
    };
    let head = received.frame.get(..HEAD_LEN).unwrap_or(received.frame);
    let Ok(headers) = Headers::parse(head, len) else { return drop(DropReason::BadHeaders, 1) };
    // The network, and with it the MTU, is not known yet.
    let offload = match kernel_offload(received, &headers) {
        Ok(offload) => offload,
        Err(error) => return drop(offload_reason(error), 1),
    };
    let segments = segment_count(len, &offload, &headers);
    match arrive(tables, gate, received, &headers, &offload) {
        Ok(target) => Verdict {
            amount: Amount::frame(len, segments),
            account: match target {
                Target::Vnic(_, vnic) => Some(vnic),
                Target::Flood(_) => None,
            },
            decision: Ok(In {
                target,
                destination: headers.ethernet.destination,
                offload,
                flow_hash: flow_hash(&headers, head),
                ecn: ecn::read(&headers, head).unwrap_or(Ecn::NotEct),
                header_len: headers.header_len(),
            }),
        },
        Err(reason) => drop(reason, segments),
    }
}

fn arrive(
    tables: Tables<'_>,
    gate: &Gate,
    received: &Received<'_>,
    headers: &Headers,
    offload: &Offload,
) -> Result<Target, DropReason> {
    let Tables { directory, attached, now_us } = tables;
    let uplink = gate.uplink();
    let ethernet = &headers.ethernet;
    check_link_layer(ethernet)?;
    let vni = directory.network_by_vlan(uplink, received.vlan).ok_or(DropReason::UnknownVlan)?;
    let network = directory.network(vni).ok_or(DropReason::UnknownVlan)?;
    if !ethernet.source.is_unicast() {
        return Err(DropReason::BadHeaders);
    }
    if let Some(own) = reflected(directory, vni, ethernet.source) {
        attached.heard_elsewhere(own, uplink, now_us);
        return Err(DropReason::Reflection);
    }
    offload
        .check_parsed(headers, received.frame.len(), network.network.mtu)
        .map_err(offload_reason)?;
    if ethernet.destination.is_group() {
        gate.lets_groups_in()?;
        let anybody = !network.member_peers.is_empty();
        return if anybody { Ok(Target::Flood(vni)) } else { Err(DropReason::NoRoute) };
    }
    let entry = directory.lookup(vni, ethernet.destination).ok_or(DropReason::UnknownMac)?;
    match attached.server_of(entry, uplink, now_us)? {
        Host::Peer(peer) => Ok(Target::Vnic(peer, entry.vnic.id)),
        // The backend of this host is a process of its own, with a name of its own.
        Host::Local => Err(DropReason::UnknownDestination),
    }
}

/// What both directions refuse: the protocols of the cable, and tags beside the one
/// that stands for the network, which would reach into other networks of the pool.
fn check_link_layer(ethernet: &Ethernet) -> Result<(), DropReason> {
    if is_link_control(ethernet) {
        return Err(DropReason::LinkControl);
    }
    if ethernet.tags > 0 { Err(DropReason::VlanTag) } else { Ok(()) }
}

fn kernel_offload(received: &Received<'_>, headers: &Headers) -> Result<Offload, OffloadError> {
    const DATA_VALID: u8 = 2;
    let vnet = &received.vnet;
    let all = OffloadFeatures::ALL;
    let mut offload =
        Offload::from_vnet_parsed(vnet, headers, received.frame.len(), all, u16::MAX)?;
    offload.checksum_valid = vnet[0] & DATA_VALID != 0;
    Ok(offload)
}

fn offload_reason(error: OffloadError) -> DropReason {
    match error {
        OffloadError::FrameShort(_) => DropReason::FrameShort,
        OffloadError::FrameLong { .. } => DropReason::FrameLong,
        _ => DropReason::BadOffload,
    }
}

fn vnic_of(endpoint: Endpoint) -> Option<VnicId> {
    match endpoint {
        Endpoint::Vnic(id) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
