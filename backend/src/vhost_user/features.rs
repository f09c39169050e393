//! What the device offers, and the configuration space it shows.
//!
//! Never take a bit away in a later version: a VMM that reconnects insists on
//! what it had ("vhost lacks feature mask"). So MQ is offered even with a single
//! queue pair, and only `offer_guest_tso` changes the set.

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_bindings::virtio_config::{VIRTIO_F_IN_ORDER, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::config::DeviceConfig;

/// Bit 30, the transport's own: "I know protocol features".
pub(super) const PROTOCOL_FEATURES_BIT: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
/// The driver follows virtio 1.0 or later.
pub(super) const VERSION_1_BIT: u64 = 1 << VIRTIO_F_VERSION_1;

const ALWAYS: &[u32] = &[
    VIRTIO_F_VERSION_1,
    VIRTIO_F_IN_ORDER,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
    VIRTIO_NET_F_MQ,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MAC,
    // cloud-hypervisor terminates the control queue itself but offers it to
    // the guest only if the back-end does; QEMU decides about both bits alone.
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_GUEST_ANNOUNCE,
];
const GUEST_TSO: &[u32] =
    &[VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN];

/// The virtio features of a device, bit 30 included.
pub(super) fn offered(config: &DeviceConfig) -> u64 {
    let optional = if config.offer_guest_tso { GUEST_TSO } else { &[] };
    ALWAYS.iter().chain(optional).fold(PROTOCOL_FEATURES_BIT, |features, bit| features | (1 << bit))
}

/// What the stock daemon behind the shim speaks. All of it is switched on at
/// the start of every session; the VMM negotiates with the shim only.
pub(super) fn daemon_protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
}

/// What a VMM is offered. `CONFIG` is meant for cloud-hypervisor; QEMU prints a
/// warning when it sees it on a network device, so it is shown only to those
/// who claimed the session first (see [`super::judge`]).
pub(super) fn offered_protocol(show_config: bool) -> VhostUserProtocolFeatures {
    let common = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
        | VhostUserProtocolFeatures::RARP
        | VhostUserProtocolFeatures::MTU;
    if show_config { common | VhostUserProtocolFeatures::CONFIG } else { common }
}

/// Bytes of `struct virtio_net_config` that may be asked for; what we do not
/// fill is zero.
const CONFIG_SPACE_LEN: usize = 256;
/// Link is up (VIRTIO_NET_S_LINK_UP).
const STATUS_UP: u16 = 1;
/// Shown as the port's speed; the real limit is the policy's.
const SPEED_MBPS: u32 = 100_000;
const FULL_DUPLEX: u8 = 1;

/// Reads `size` bytes at `offset` of the configuration space (virtio 1.2,
/// section 5.1.4, little-endian). `None` beyond its end: the daemon then
/// answers with an empty payload, which means an error.
pub(super) fn config_space(config: &DeviceConfig, offset: u32, size: u32) -> Option<Vec<u8>> {
    let mut space = Vec::with_capacity(CONFIG_SPACE_LEN);
    space.extend_from_slice(&config.mac);
    space.extend_from_slice(&STATUS_UP.to_le_bytes());
    space.extend_from_slice(&u16::from(config.queue_pairs).to_le_bytes());
    space.extend_from_slice(&config.mtu.to_le_bytes());
    space.extend_from_slice(&SPEED_MBPS.to_le_bytes());
    space.push(FULL_DUPLEX);
    space.resize(CONFIG_SPACE_LEN, 0);
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    space.get(start..end).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::super::config::SocketMode;
    use super::*;

    fn device() -> DeviceConfig {
        let mut config = DeviceConfig::new("p", "/s", SocketMode::Listen, [2, 0, 0, 0, 0, 9]);
        config.mtu = 9000;
        config.queue_pairs = 4;
        config
    }

    #[test]
    fn config_space_has_the_layout_of_virtio_net_config() {
        let bytes = config_space(&device(), 0, 17).unwrap();
        assert_eq!(bytes.len(), 17);
        assert_eq!(bytes[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[6..8], [1, 0]);
        assert_eq!(bytes[8..10], [4, 0]);
        assert_eq!(bytes[10..12], 9000u16.to_le_bytes());
        assert_eq!(bytes[12..16], 100_000u32.to_le_bytes());
        assert_eq!(bytes[16], 1);
    }

    #[test]
    fn config_space_is_zero_padded_and_bounded() {
        assert_eq!(config_space(&device(), 17, 10).unwrap(), [0; 10]);
        assert_eq!(config_space(&device(), 8, 2).unwrap(), [4, 0]);
        assert_eq!(config_space(&device(), 250, 6).unwrap().len(), 6);
        assert!(config_space(&device(), 250, 7).is_none());
        assert!(config_space(&device(), u32::MAX, u32::MAX).is_none());
    }

    #[test]
    fn only_guest_tso_changes_the_offer() {
        let mut without = device();
        without.offer_guest_tso = false;
        let difference = offered(&device()) ^ offered(&without);
        assert_eq!(difference, 1 << 7 | 1 << 8 | 1 << 9);
        let mut one_pair = device();
        one_pair.queue_pairs = 1;
        one_pair.mtu = 1500;
        assert_eq!(offered(&one_pair), offered(&device()));
    }

    /// The exact set, so that no change of it goes unnoticed: taking a bit away
    /// strands VMMs that reconnect after an upgrade.
    #[test]
    fn offered_features_are_these() {
        let bits: Vec<u32> = (0..64).filter(|bit| offered(&device()) >> bit & 1 == 1).collect();
        assert_eq!(bits, [0, 1, 3, 5, 7, 8, 9, 11, 12, 13, 15, 17, 21, 22, 28, 29, 30, 32, 35]);
        assert_eq!(offered_protocol(true).bits(), 0x821d);
        assert_eq!(offered_protocol(false).bits(), 0x801d);
    }
}
