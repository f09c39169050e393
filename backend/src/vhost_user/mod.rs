//! Speaks vhost-user with the VMM, through the rust-vmm crates.
