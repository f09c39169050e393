//! Well-behaved front-ends: the message orders of QEMU, cloud-hypervisor and
//! DPDK, byte by byte, and the vhost crate's own front-end.

#[cfg(test)]
#[path = "vhost_user_support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::time::Duration;

    use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures};
    use vhost::vhost_user::{Frontend, VhostUserFrontend};
    use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
    use vm_memory::GuestMemoryBackend;
    use vmm_sys_util::eventfd::EventFd;

    use super::support::*;

    /// A ring as QEMU and DPDK set it up, who wait for no answer.
    fn set_up_ring(vmm: &Vmm, ring: u32, events: &RingEvents) {
        vmm.send(SET_VRING_NUM, PLAIN, &state(ring, 256), &[]);
        vmm.send(SET_VRING_BASE, PLAIN, &state(ring, 0), &[]);
        vmm.send(SET_VRING_ADDR, PLAIN, &ring_addresses(ring), &[]);
        vmm.send(SET_VRING_KICK, PLAIN, &number(ring), &[events.kick.as_raw_fd()]);
    }

    /// Both rings of a pair as QEMU sets them up, and what the worker hears of it.
    fn set_up_pair_like_qemu(vmm: &Vmm, events: &[RingEvents; 2]) -> [&'static str; 4] {
        for (ring, events) in (0..).zip(events) {
            set_up_ring(vmm, ring, events);
            vmm.send(SET_VRING_CALL, PLAIN, &number(ring), &[events.call.as_raw_fd()]);
        }
        vmm.ask_number(GET_FEATURES);
        ["start 0 size 256 base 0", "call 0 true", "start 1 size 256 base 0", "call 1 true"]
    }

    /// QEMU 7.2 with `queues=2`, as traced, up to a guest that uses one pair.
    #[test]
    fn qemu_order_is_served() {
        let bed = Bed::with(|config| config.queue_pairs = 2);
        let vmm = bed.vmm();
        let call = EventFd::new(0).unwrap();
        let mut features = 0;
        for pair in 0..2u32 {
            features = vmm.ask_number(GET_FEATURES);
            let protocol = vmm.ask_number(GET_PROTOCOL_FEATURES);
            assert_eq!(protocol & 1 << 9, 0, "CONFIG makes QEMU print a warning");
            vmm.send(SET_PROTOCOL_FEATURES, PLAIN, &(protocol & 0x801d).to_ne_bytes(), &[]);
            if pair == 0 {
                assert_eq!(vmm.ask_number(GET_QUEUE_NUM), 2);
                assert!(vmm.ask_number(GET_MAX_MEM_SLOTS) >= 32);
                vmm.send(SET_OWNER, PLAIN, &[], &[]);
            }
            vmm.ask_number(GET_FEATURES);
            for ring in [2 * pair, 2 * pair + 1] {
                vmm.send(SET_VRING_CALL, PLAIN, &number(ring), &[call.as_raw_fd()]);
                vmm.send(SET_VRING_ERR, PLAIN, &number(ring), &[call.as_raw_fd()]);
            }
        }
        // The stock daemon would end the session here. QEMU 10 wants answers.
        for ring in [0, 1, 0, 1, 2, 3, 2, 3] {
            vmm.send(SET_VRING_ENABLE, PLAIN, &state(ring, u32::from(ring < 2)), &[]);
        }
        vmm.done(SET_VRING_ENABLE, &state(0, 1), &[]);

        // The guest's driver is ready.
        vmm.done(NET_SET_MTU, &number(1500), &[]);
        vmm.send(SET_VRING_ENABLE, PLAIN, &state(0, 1), &[]);
        vmm.send(SET_VRING_ENABLE, PLAIN, &state(1, 1), &[]);
        let acked = features & !(1 << 5 | 1 << 17 | 1 << 35);
        vmm.send(SET_FEATURES, PLAIN, &acked.to_ne_bytes(), &[]);
        let memory = memory();
        // Twice with two queue pairs: 7.2 does that, later versions do not.
        vmm.done(ADD_MEM_REG, &slot(&whole()), &[memory.as_raw_fd()]);
        vmm.done(ADD_MEM_REG, &slot(&whole()), &[memory.as_raw_fd()]);
        assert_eq!(bed.status().memory_regions, 1);
        let events = [RingEvents::new(), RingEvents::new()];
        let started = set_up_pair_like_qemu(&vmm, &events);
        let lines = bed.worker.take_lines();
        assert_eq!(lines[..2], ["connected", &format!("features {:#x}", acked & !(1 << 30))]);
        assert_eq!(lines[2..], started);
        bed.worker.look(|state| {
            assert!(state.rings[&0].enabled && state.rings[&1].enabled);
            assert_eq!(state.rings[&0].config.descriptor_table, 0);
            assert_eq!(state.rings[&1].config.descriptor_table, 0x1_0000);
            assert_eq!(state.rings[&1].config.avail_ring, 0x1_4000);
            assert_eq!(state.rings[&1].config.used_ring, 0x1_8000);
            assert!(state.rings[&0].err.is_some());
        });

        // The guest reboots: no message but these, and everything again.
        bed.worker.look(|state| state.next_avail = 300);
        assert_eq!(vmm.get_base(0), 300);
        assert_eq!(vmm.get_base(1), 300);
        vmm.send(SET_FEATURES, PLAIN, &acked.to_ne_bytes(), &[]);
        let started = set_up_pair_like_qemu(&vmm, &events);
        let lines = bed.worker.take_lines();
        assert_eq!(lines[..2], ["stop 0", "stop 1"]);
        assert_eq!(lines[2..], started);
        // QEMU announces the guest after a migration.
        vmm.send(SEND_RARP, PLAIN, &words(&[0x5040_3020_1002]), &[]);
        vmm.ask_number(GET_FEATURES);
        drop(vmm);
        bed.wait_idle();
        assert_eq!(bed.worker.take_lines(), ["announce", "disconnected"]);
        assert!(bed.status().refusals.is_empty());
    }

    /// cloud-hypervisor: claims first, asks for the configuration, wants a
    /// status for everything, enables at the end.
    #[test]
    fn cloud_hypervisor_order_is_served() {
        let bed = Bed::with(|config| config.queue_pairs = 2);
        let vmm = bed.vmm();
        vmm.send(SET_OWNER, PLAIN, &[], &[]);
        let features = vmm.ask_number(GET_FEATURES);
        for bit in [3, 5, 17, 21, 22] {
            assert_eq!(features >> bit & 1, 1, "it shows the guest only what we offer: {bit}");
        }
        let protocol = vmm.ask_number(GET_PROTOCOL_FEATURES);
        assert_eq!(protocol >> 9 & 1, 1, "CONFIG");
        vmm.send(SET_PROTOCOL_FEATURES, PLAIN, &protocol.to_ne_bytes(), &[]);
        assert_eq!(vmm.ask_number(GET_QUEUE_NUM), 4, "rings");
        let request = [0u32, 17, 0].map(u32::to_ne_bytes).concat();
        let config = vmm.ask(GET_CONFIG, &[request, vec![0; 17]].concat());
        assert_eq!(config.len(), 12 + 17);
        assert_eq!(config[12..18], MAC);
        assert_eq!(config[20..22], [2, 0]);

        vmm.done(SET_FEATURES, &features.to_ne_bytes(), &[]);
        vmm.map(&memory());
        for ring in 0..4 {
            vmm.done(SET_VRING_NUM, &state(ring, 512), &[]);
        }
        let events: Vec<_> = (0..4).map(|_| RingEvents::new()).collect();
        for (ring, events) in (0..).zip(&events) {
            vmm.done(SET_VRING_ADDR, &ring_addresses(ring), &[]);
            vmm.done(SET_VRING_BASE, &state(ring, 0), &[]);
            vmm.done(SET_VRING_CALL, &number(ring), &[events.call.as_raw_fd()]);
            vmm.done(SET_VRING_KICK, &number(ring), &[events.kick.as_raw_fd()]);
        }
        for ring in 0..4 {
            vmm.done(SET_VRING_ENABLE, &state(ring, 1), &[]);
        }
        bed.worker.look(|state| {
            assert_eq!(state.rings.len(), 4);
            for ring in state.rings.values() {
                assert!(ring.enabled && ring.call.is_some() && ring.config.size == 512);
                assert_eq!(ring.config.features, features & !(1 << 30));
            }
            state.next_avail = 7;
        });
        // Pause and resume, then a reset.
        vmm.done(SET_VRING_ENABLE, &state(0, 0), &[]);
        vmm.done(SET_VRING_ENABLE, &state(0, 1), &[]);
        for ring in 0..4 {
            vmm.done(SET_VRING_ENABLE, &state(ring, 0), &[]);
            assert_eq!(vmm.get_base(ring), 7);
        }
        bed.worker.look(|state| assert!(state.rings.is_empty()));
    }

    /// DPDK's `net_virtio_user`: calls first, then SET_FEATURES, then the rest.
    #[test]
    fn testpmd_order_is_served() {
        let bed = Bed::new();
        let vmm = bed.vmm();
        vmm.send(SET_OWNER, PLAIN, &[], &[]);
        let features = vmm.ask_number(GET_FEATURES);
        let protocol = vmm.ask_number(GET_PROTOCOL_FEATURES);
        vmm.send(SET_PROTOCOL_FEATURES, PLAIN, &(protocol & 0x9).to_ne_bytes(), &[]);
        let events = [RingEvents::new(), RingEvents::new()];
        for (ring, events) in (0..).zip(&events) {
            vmm.send(SET_VRING_CALL, PLAIN, &number(ring), &[events.call.as_raw_fd()]);
        }
        vmm.send(SET_FEATURES, PLAIN, &(features & !(1 << 5)).to_ne_bytes(), &[]);
        vmm.map(&memory());
        for (ring, events) in (0..).zip(&events) {
            set_up_ring(&vmm, ring, events);
        }
        for ring in 0..2 {
            vmm.send(SET_VRING_ENABLE, PLAIN, &state(ring, 1), &[]);
        }
        vmm.ask_number(GET_FEATURES);
        bed.worker.look(|state| {
            assert_eq!(state.rings.len(), 2);
            assert!(state.rings.values().all(|ring| ring.enabled && ring.call.is_some()));
        });
    }

    /// The kick that the VMM writes is the one that the worker waits for, and
    /// the other way round for the call.
    #[test]
    fn kick_and_call_are_the_vmms_own() {
        let (bed, _vmm, _memory, events) = Bed::started();
        events[1].kick.write(3).unwrap();
        bed.worker.look(|state| {
            let ring = state.rings.get_mut(&1).unwrap();
            let kick = std::fs::File::from(ring.kick.take().unwrap());
            let mut count = [0; 8];
            std::io::Read::read_exact(&mut &kick, &mut count).unwrap();
            assert_eq!(u64::from_ne_bytes(count), 3);
            let call = std::fs::File::from(ring.call.take().unwrap());
            std::io::Write::write_all(&mut &call, &1u64.to_ne_bytes()).unwrap();
        });
        assert_eq!(events[1].call.read().unwrap(), 1);
    }

    /// The base that the VMM gets is the worker's, not that of the daemon's
    /// own queue, which never moves from 0; and indices may wrap.
    #[test]
    fn all_rings_start_at_0xfff0() {
        let (bed, vmm, _memory, _events) = Bed::started();
        bed.worker.look(|state| state.next_avail = 0xfff0);
        for ring in 0..2 {
            assert_eq!(vmm.get_base(ring), 0xfff0);
            let events = RingEvents::new();
            vmm.done(SET_VRING_BASE, &state(ring, 0xfff0), &[]);
            vmm.done(SET_VRING_ADDR, &ring_addresses(ring), &[]);
            vmm.done(SET_VRING_KICK, &number(ring), &[events.kick.as_raw_fd()]);
        }
        bed.worker.look(|state| {
            assert_eq!(state.rings.len(), 2);
            assert!(state.rings.values().all(|ring| ring.config.base == 0xfff0));
            state.next_avail = 2;
        });
        assert_eq!(vmm.get_base(0), 2);
    }

    /// After GET_VRING_BASE neither a kick nor anything else revives the old ring.
    #[test]
    fn get_vring_base_forgets_addresses() {
        let (bed, vmm, _memory, events) = Bed::started();
        vmm.get_base(0);
        vmm.done(SET_VRING_KICK, &number(0), &[events[0].kick.as_raw_fd()]);
        vmm.done(SET_VRING_CALL, &number(0), &[events[0].call.as_raw_fd()]);
        vmm.done(SET_VRING_ENABLE, &state(0, 1), &[]);
        bed.worker.look(|state| assert!(!state.rings.contains_key(&0)));
        vmm.done(SET_VRING_ADDR, &ring_addresses(0), &[]);
        bed.worker.look(|state| assert!(state.rings.contains_key(&0)));
    }

    #[test]
    fn memory_slots_are_added_and_removed_while_rings_run() {
        let (bed, vmm, _memory, _events) = Bed::started();
        bed.worker.take_lines();
        let before = (descriptors(), mappings());
        let more = memory();
        let extra = region(0x1000_0000, MEMORY_SIZE, VMM_BASE + 0x1000_0000, 0);
        for _ in 0..50 {
            vmm.done(ADD_MEM_REG, &slot(&extra), &[more.as_raw_fd()]);
            bed.worker.look(|state| {
                let regions: Vec<_> =
                    state.rings.values().map(|ring| ring.memory.num_regions()).collect();
                assert_eq!(regions, [2, 2]);
            });
            assert_eq!(bed.status().memory_regions, 2);
            vmm.done(REM_MEM_REG, &slot(&extra), &[]);
            assert_eq!(bed.status().memory_regions, 1);
        }
        drop(more);
        assert_eq!(bed.worker.take_lines().len(), 100);
        assert_eq!((descriptors(), mappings()), (before.0, before.1));
    }

    /// REM_MEM_REG with a descriptor: an old mistake that must be put up with.
    #[test]
    fn removal_with_a_descriptor_is_tolerated() {
        let (_bed, vmm) = Bed::negotiated();
        let memory = memory();
        vmm.done(ADD_MEM_REG, &slot(&whole()), &[memory.as_raw_fd()]);
        let before = descriptors();
        vmm.done(REM_MEM_REG, &slot(&whole()), &[memory.as_raw_fd()]);
        assert!(descriptors() < before, "the region's own descriptor is closed too");
    }

    /// The status comes only after the worker dropped the old memory: when the
    /// VMM hears "done", nothing of it is mapped any more.
    #[test]
    fn mem_table_change_waits_for_inflight() {
        let (bed, vmm, _memory, _events) = Bed::started();
        let old = bed.worker.look(|state| Arc::downgrade(&state.rings[&0].memory));
        bed.worker.look(|state| state.slowness = Duration::from_millis(50));
        vmm.map(&memory());
        assert!(old.upgrade().is_none());
        bed.worker.look(|state| {
            state.slowness = Duration::ZERO;
            assert_eq!(state.lines.last().unwrap(), "memory");
        });
    }

    #[test]
    fn disconnect_drains_before_munmap() {
        let (bed, vmm, _memory, _events) = Bed::started();
        let held = bed.worker.look(|state| Arc::clone(&state.rings[&0].memory));
        let weak = Arc::downgrade(&held);
        drop(vmm);
        bed.wait_idle();
        // What somebody still holds stays mapped, what nobody holds is gone.
        assert_eq!(held.num_regions(), 1);
        drop(held);
        eventually("the memory to go", || weak.upgrade().is_none());
        assert_eq!(bed.status().memory_regions, 0);
        assert!(bed.status().rings.iter().all(|ring| !ring.running));
    }

    #[test]
    fn config_is_read_only_and_mtu_is_checked() {
        let bed = Bed::with(|config| config.mtu = 9000);
        let vmm = bed.vmm();
        vmm.negotiate();
        let request = [0u32, 6, 1].map(u32::to_ne_bytes).concat();
        assert_eq!(vmm.status_of(SET_CONFIG, &[request, vec![9; 6]].concat(), &[]), 1);
        assert_eq!(vmm.status_of(NET_SET_MTU, &number(9001), &[]), 1);
        vmm.done(NET_SET_MTU, &number(9000), &[]);
        assert_eq!(vmm.status_of(SEND_RARP, &number(0), &[]), 1, "another MAC");
        vmm.done(RESET_OWNER, &[], &[]);
        vmm.ask_number(GET_FEATURES);
    }

    /// A guest without virtio 1.0 gets no traffic, loudly, but its VMM is not
    /// thrown out: the next driver (after the boot ROM's) may be a modern one.
    #[test]
    fn legacy_driver_is_refused_loudly_and_the_session_lives() {
        let (bed, vmm) = Bed::negotiated();
        vmm.done(SET_FEATURES, &(1u64 << 30).to_ne_bytes(), &[]);
        vmm.map(&memory());
        vmm.start_ring(0);
        assert!(bed.status().last_error.unwrap().contains("legacy"));
        assert_eq!(bed.rings(), 0);
        assert_eq!(vmm.get_base(0), 0);
        vmm.done(SET_FEATURES, &DRIVER_FEATURES.to_ne_bytes(), &[]);
        vmm.start_ring(0);
        assert_eq!(bed.rings(), 1);
    }

    #[test]
    fn status_shows_the_session() {
        let bed = Bed::new();
        assert!(!bed.status().connected);
        let vmm = bed.vmm();
        let memory = memory();
        vmm.start(&memory, 2);
        let status = bed.status();
        assert!(status.connected && !status.memory_sealed);
        assert_eq!(status.sessions, 1);
        assert_eq!(status.features, DRIVER_FEATURES);
        assert_eq!(u32::try_from(status.peer_pid).unwrap(), std::process::id());
        assert!(status.rings.iter().all(|ring| ring.running && ring.enabled));
    }

    /// The vhost crate's front-end, through its whole life.
    #[test]
    fn stock_frontend_is_served() {
        let bed = Bed::new();
        let mut frontend = Frontend::connect(&bed.path, 2).unwrap();
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        frontend.set_features(features).unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(protocol).unwrap();
        frontend.set_hdr_flags(vhost::vhost_user::message::VhostUserHeaderFlag::NEED_REPLY);
        assert!(protocol.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS));
        assert_eq!(frontend.get_queue_num().unwrap(), 2);
        let (_, config) =
            frontend.get_config(0, 17, VhostUserConfigFlags::WRITABLE, &[0; 17]).unwrap();
        assert_eq!(config[..6], MAC);
        let memory = memory();
        let whole = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY_SIZE,
            userspace_addr: VMM_BASE,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        frontend.set_mem_table(&[whole]).unwrap();
        for ring in 0..2 {
            let events = RingEvents::new();
            let base = VMM_BASE + 0x1_0000 * u64::try_from(ring).unwrap();
            let addresses = VringConfigData {
                queue_max_size: 256,
                queue_size: 256,
                flags: 0,
                desc_table_addr: base,
                used_ring_addr: base + 0x8000,
                avail_ring_addr: base + 0x4000,
                log_addr: None,
            };
            frontend.set_vring_num(ring, 256).unwrap();
            frontend.set_vring_addr(ring, &addresses).unwrap();
            frontend.set_vring_base(ring, 0).unwrap();
            frontend.set_vring_call(ring, &events.call).unwrap();
            frontend.set_vring_kick(ring, &events.kick).unwrap();
            frontend.set_vring_enable(ring, true).unwrap();
        }
        bed.worker.look(|state| {
            assert!(state.rings.values().all(|ring| ring.enabled));
            assert_eq!(state.rings.len(), 2);
            state.next_avail = 1234;
        });
        assert_eq!(frontend.get_vring_base(0).unwrap(), 1234);
        drop(frontend);
        bed.wait_idle();
        assert!(bed.status().refusals.is_empty());
    }
}
