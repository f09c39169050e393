//! Names of virtio feature bits, for people (virtio 1.2, sections 5.1.3 and 6).

use virtio_bindings::{virtio_config, virtio_net, virtio_ring};

const NAMES: [(u32, &str); 23] = [
    (virtio_net::VIRTIO_NET_F_CSUM, "csum"),
    (virtio_net::VIRTIO_NET_F_GUEST_CSUM, "guest_csum"),
    (virtio_net::VIRTIO_NET_F_MTU, "mtu"),
    (virtio_net::VIRTIO_NET_F_MAC, "mac"),
    (virtio_net::VIRTIO_NET_F_GUEST_TSO4, "guest_tso4"),
    (virtio_net::VIRTIO_NET_F_GUEST_TSO6, "guest_tso6"),
    (virtio_net::VIRTIO_NET_F_GUEST_ECN, "guest_ecn"),
    (virtio_net::VIRTIO_NET_F_HOST_TSO4, "host_tso4"),
    (virtio_net::VIRTIO_NET_F_HOST_TSO6, "host_tso6"),
    (virtio_net::VIRTIO_NET_F_HOST_ECN, "host_ecn"),
    (virtio_net::VIRTIO_NET_F_MRG_RXBUF, "mrg_rxbuf"),
    (virtio_net::VIRTIO_NET_F_STATUS, "status"),
    (virtio_net::VIRTIO_NET_F_CTRL_VQ, "ctrl_vq"),
    (virtio_net::VIRTIO_NET_F_CTRL_RX, "ctrl_rx"),
    (virtio_net::VIRTIO_NET_F_CTRL_VLAN, "ctrl_vlan"),
    (virtio_net::VIRTIO_NET_F_GUEST_ANNOUNCE, "guest_announce"),
    (virtio_net::VIRTIO_NET_F_MQ, "mq"),
    (virtio_net::VIRTIO_NET_F_CTRL_MAC_ADDR, "ctrl_mac_addr"),
    (virtio_ring::VIRTIO_RING_F_INDIRECT_DESC, "indirect_desc"),
    (virtio_ring::VIRTIO_RING_F_EVENT_IDX, "event_idx"),
    (virtio_config::VIRTIO_F_VERSION_1, "version_1"),
    (virtio_config::VIRTIO_F_IN_ORDER, "in_order"),
    (virtio_config::VIRTIO_F_ANY_LAYOUT, "any_layout"),
];

/// The names of the bits that are set; one that has no name is `bit_N`.
pub(crate) fn feature_names(features: u64) -> Vec<String> {
    let name = |bit: u32| {
        let known = NAMES.iter().find(|(number, _)| *number == bit);
        known.map_or_else(|| format!("bit_{bit}"), |(_, name)| (*name).to_owned())
    };
    (0..u64::BITS).filter(|bit| features >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_bit_has_a_name() {
        assert_eq!(
            feature_names(1 << 32 | 1 << 15 | 1 << 63),
            ["mrg_rxbuf", "version_1", "bit_63"]
        );
        assert!(feature_names(0).is_empty());
    }
}
