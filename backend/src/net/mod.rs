//! The virtio-net header, offloads and the port guard.
