//! Hostile and broken front-ends: the session ends by name, the daemon and its
//! other vNICs go on, and nothing leaks.

#[cfg(test)]
#[path = "vhost_user_support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use wireonce_backend::vhost_user::{DeviceConfig, SocketMode};

    use super::support::*;

    /// The next VMM is served as if nothing had happened.
    fn still_serves(bed: &Bed) {
        let vmm = bed.vmm();
        vmm.start(&memory(), 2);
        assert_eq!(bed.rings(), 2);
        drop(vmm);
        bed.wait_idle();
    }

    /// A test with a file for the VMM to send, after which no descriptor is left.
    fn leaks_no_descriptor(test: impl FnOnce(&Bed, RawFd)) {
        let bed = Bed::new();
        let before = descriptors();
        let file = memory();
        test(&bed, file.as_raw_fd());
        drop(file);
        wait_descriptors(before);
    }

    /// A fresh session that is ready for anything; ended by one message.
    fn ended_by(bed: &Bed, request: u32, payload: &[u8], fds: &[RawFd]) {
        let vmm = bed.vmm();
        vmm.negotiate();
        // A refusal may arrive before all of the message is written.
        let _ = vmm.try_send(request, PLAIN, payload, fds);
        assert!(vmm.is_closed(), "request {request}");
        drop(vmm);
        bed.wait_idle();
    }

    /// Messages that each end a session, all by the same name.
    fn all_refused(bed: &Bed, name: &str, messages: &[(u32, Vec<u8>, &[RawFd])]) {
        for (request, payload, fds) in messages {
            ended_by(bed, *request, payload, fds);
        }
        assert_eq!(bed.refusals(name), u64::try_from(messages.len()).unwrap(), "{name}");
    }

    /// Every request id, with no payload, a full one, and one too long, and
    /// with 0 to 8 descriptors, before and after negotiation. Nearly all of it
    /// is nonsense. The daemon survives, nothing leaks.
    #[test]
    fn malformed_messages_of_every_kind_leave_the_daemon_alive() {
        leaks_no_descriptor(|bed, file| {
            for request in 0..=64 {
                for size in [0, 8, 40, 4096, 4097] {
                    for count in [0, 1, 8] {
                        let vmm = bed.vmm();
                        if request % 2 == 0 {
                            vmm.negotiate();
                        }
                        let fds = vec![file; count];
                        let _ = vmm.try_send(request, NEED_REPLY, &vec![0xff; size], &fds);
                    }
                }
            }
            still_serves(bed);
            for name in ["unknown-message", "not-negotiated", "payload-size", "file-descriptors"] {
                assert!(bed.refusals(name) > 10, "{name}: {:?}", bed.status().refusals);
            }
        });
    }

    /// CVE-2019-14818, CVE-2022-0669: descriptors nobody expects are closed,
    /// for every message there is.
    #[test]
    fn surplus_fds_are_closed_for_every_message() {
        leaks_no_descriptor(|bed, file| {
            for request in 1..=45 {
                let size = match request {
                    SET_VRING_ADDR | ADD_MEM_REG | REM_MEM_REG => 40,
                    SET_MEM_TABLE => 8,
                    GET_FEATURES | SET_OWNER | RESET_OWNER | GET_QUEUE_NUM => 0,
                    GET_PROTOCOL_FEATURES | GET_MAX_MEM_SLOTS => 0,
                    GET_CONFIG | SET_CONFIG => 13,
                    _ => 8,
                };
                // Ring events and single regions may carry one.
                let may_carry_one = matches!(request, 12..=14 | ADD_MEM_REG | REM_MEM_REG);
                for count in 1 + usize::from(may_carry_one)..=8 {
                    ended_by(bed, request, &vec![0; size], &vec![file; count]);
                }
            }
            assert!(bed.refusals("file-descriptors") > 100);
        });
    }

    /// More than one read can take: the kernel closes what does not fit.
    #[test]
    fn two_hundred_descriptors_are_closed() {
        leaks_no_descriptor(|bed, file| {
            ended_by(bed, SET_MEM_TABLE, &table(&[]), &vec![file; 200]);
        });
    }

    /// Descriptors on the payload instead of the header.
    #[test]
    fn descriptors_sent_with_the_payload_are_dropped() {
        use vmm_sys_util::sock_ctrl_msg::ScmSocket;
        let (bed, vmm) = Bed::negotiated();
        let file = memory();
        let before = descriptors();
        let header = [SET_VRING_KICK, PLAIN, 8].map(u32::to_ne_bytes).concat();
        vmm.write_raw(&header);
        let payload = number(0);
        vmm.stream.send_with_fds(&[payload.as_slice()], &[file.as_raw_fd()]).unwrap();
        bed.expect_closed(&vmm);
        assert_eq!(bed.refusals("file-descriptors"), 1);
        eventually("the session's descriptors to go", || descriptors() < before);
        still_serves(&bed);
    }

    /// CVE-2020-10726: refused here, and so nothing can leak.
    #[test]
    fn thousand_get_inflight_fd_keeps_fd_count() {
        let bed = Bed::new();
        let before = descriptors();
        for _ in 0..1000 {
            let vmm = bed.vmm();
            vmm.send(GET_INFLIGHT_FD, PLAIN, &[0; 24], &[]);
            assert!(vmm.is_closed());
        }
        bed.wait_idle();
        wait_descriptors(before);
        assert_eq!(bed.refusals("not-negotiated"), 1000);
    }

    /// CVE-2021-3839.
    #[test]
    fn inflight_num_queues_65535() {
        let bed = Bed::new();
        let file = memory();
        let payload = [words(&[0x1000, 0]), [0xffffu16; 2].map(u16::to_ne_bytes).concat()].concat();
        let message = (SET_INFLIGHT_FD, [payload, vec![0; 4]].concat(), &[file.as_raw_fd()][..]);
        all_refused(&bed, "not-negotiated", &[message]);
        still_serves(&bed);
    }

    /// CVE-2020-10722: dirty logging is not offered, so its log is refused.
    #[test]
    fn log_base_offset_plus_size_overflows() {
        let bed = Bed::new();
        let file = memory();
        let message = (SET_LOG_BASE, words(&[u64::MAX, 0x1000]), &[file.as_raw_fd()][..]);
        all_refused(&bed, "not-negotiated", &[message]);
    }

    #[test]
    fn memory_sums_that_overflow_end_the_session() {
        let bed = Bed::new();
        let file = memory();
        let fds = &[file.as_raw_fd()][..];
        let high = u64::MAX - 0xfff;
        let spoiled = [
            region(high, 0x2000, 0, 0),
            region(0, 0x2000, high, 0),
            region(0, 0x2000, 0, high),
            region(0, 0, 0, 0),
        ];
        let in_table = |it: &Vec<u8>| (SET_MEM_TABLE, table(std::slice::from_ref(it)), fds);
        let in_slot = |it: &Vec<u8>| (ADD_MEM_REG, slot(it), fds);
        let messages = spoiled.iter().flat_map(|it| [in_table(it), in_slot(it)]);
        all_refused(&bed, "region-range", &messages.collect::<Vec<_>>());
        still_serves(&bed);
    }

    /// Without this check the first touch beyond the file's end is a SIGBUS.
    #[test]
    fn file_shorter_than_its_region_is_refused() {
        let bed = Bed::new();
        let file = memory();
        let fds = &[file.as_raw_fd()][..];
        let too_long = region(0, MEMORY_SIZE + 0x1000, VMM_BASE, 0);
        let too_late = region(0, MEMORY_SIZE, VMM_BASE, 0x1000);
        let messages =
            [(ADD_MEM_REG, slot(&too_long), fds), (SET_MEM_TABLE, table(&[too_late]), fds)];
        all_refused(&bed, "region-file-short", &messages);
        let device = std::fs::File::open("/dev/zero").unwrap();
        let message = (ADD_MEM_REG, slot(&whole()), &[device.as_raw_fd()][..]);
        all_refused(&bed, "region-not-a-file", &[message]);
        still_serves(&bed);
    }

    #[test]
    fn unsealed_memory_is_refused_if_the_vnic_says_so() {
        let bed = Bed::with(|config| config.require_sealed_memory = true);
        let file = memory();
        let message = (ADD_MEM_REG, slot(&whole()), &[file.as_raw_fd()][..]);
        all_refused(&bed, "region-unsealed", &[message]);
    }

    /// Overlapping regions: the daemon refuses, the VMM hears it.
    #[test]
    fn overlapping_regions_are_refused() {
        let (bed, vmm) = Bed::negotiated();
        let file = memory();
        let whole = slot(&whole());
        vmm.done(ADD_MEM_REG, &whole, &[file.as_raw_fd()]);
        let other = memory();
        assert_eq!(vmm.status_of(ADD_MEM_REG, &whole, &[other.as_raw_fd()]), 1);
        bed.expect_closed(&vmm);
        assert_eq!(bed.refusals("daemon-refused"), 1);
        still_serves(&bed);
    }

    /// CVE-2020-10723 for each message that carries an index.
    #[test]
    fn vring_index_0x10000_is_refused() {
        let bed = Bed::new();
        let event = RingEvents::new();
        let (none, kick) = (&[][..], &[event.kick.as_raw_fd()][..]);
        let mut messages = Vec::new();
        for index in [2, 0x100, 0x1_0000, u32::MAX] {
            for request in [SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE] {
                messages.push((request, state(index, 1), none));
            }
            messages.push((SET_VRING_ADDR, ring_addresses(index), none));
        }
        for index in [2u64, 0x200, 0x1_0000, 1 << 32] {
            for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
                messages.push((request, words(&[index]), kick));
            }
        }
        all_refused(&bed, "ring-index", &messages);
        still_serves(&bed);
    }

    /// CVE-2019-14818, the other half: each one used to allocate.
    #[test]
    fn repeated_set_vring_num_is_flat() {
        let (_bed, vmm) = Bed::negotiated();
        vmm.done(SET_VRING_NUM, &state(0, 256), &[]);
        let before = (descriptors(), mappings());
        for _ in 0..2000 {
            vmm.send(SET_VRING_NUM, PLAIN, &state(0, 256), &[]);
        }
        let event = RingEvents::new();
        for request in [SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK] {
            for _ in 0..300 {
                vmm.send(request, PLAIN, &number(1), &[event.kick.as_raw_fd()]);
            }
        }
        vmm.ask_number(GET_FEATURES);
        // One call, one error, one kick (twice: the daemon keeps one too), and
        // the two eventfds of the test itself.
        assert_eq!(descriptors(), before.0 + 4 + 2);
        assert!(mappings() <= before.1 + 8, "the heap may have grown by a few arenas");
    }

    /// CVE-2026-5747.
    #[test]
    fn set_vring_num_addr_base_while_running_is_refused() {
        let bed = Bed::new();
        let memory = memory();
        for (request, payload) in [
            (SET_VRING_NUM, state(0, 128)),
            (SET_VRING_NUM, state(0, 256)),
            (SET_VRING_BASE, state(0, 9)),
            (SET_VRING_ADDR, ring_addresses(1).split_at(4).1.to_vec()),
        ] {
            let payload = match request {
                SET_VRING_ADDR => [0u32.to_ne_bytes().to_vec(), payload].concat(),
                _ => payload,
            };
            let vmm = bed.vmm();
            vmm.start(&memory, 2);
            vmm.send(request, PLAIN, &payload, &[]);
            bed.expect_closed(&vmm);
        }
        assert_eq!(bed.refusals("ring-runs"), 4);
        let vmm = bed.vmm();
        vmm.start(&memory, 2);
        let again = ring_addresses_at(0, VMM_BASE, 1);
        vmm.done(SET_VRING_ADDR, &again, &[]);
        assert_eq!(bed.rings(), 2);
    }

    #[test]
    fn ring_sizes_that_are_no_power_of_two_are_refused() {
        let bed = Bed::new();
        let sizes = [0, 3, 1000, 2048, 0x1_0100];
        all_refused(&bed, "ring-size", &sizes.map(|size| (SET_VRING_NUM, state(0, size), &[][..])));
    }

    /// A pipe or a file in an event's place could make the worker block.
    #[test]
    fn ring_events_must_be_eventfds() {
        let bed = Bed::new();
        let file = memory();
        let (socket, _other) = UnixStream::pair().unwrap();
        let (file, socket) = (&[file.as_raw_fd()][..], &[socket.as_raw_fd()][..]);
        let requests = [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR];
        let messages = requests
            .iter()
            .flat_map(|request| [file, socket].map(|fds| (*request, number(0), fds)))
            .collect::<Vec<_>>();
        all_refused(&bed, "not-an-eventfd", &messages);
        all_refused(&bed, "kick-without-fd", &[(SET_VRING_KICK, words(&[0x100]), &[])]);
    }

    /// The VMM cuts its memory off after it was mapped. The protocol threads
    /// never touch guest memory, so there is no SIGBUS here; the stock daemon
    /// would read the used index at SET_VRING_ADDR.
    #[test]
    fn memory_cut_off_after_mapping_is_not_touched_by_the_protocol() {
        let (bed, vmm) = Bed::negotiated();
        let memory = memory();
        vmm.map(&memory);
        memory.set_len(0).unwrap();
        vmm.start_ring(0);
        vmm.get_base(0);
        assert!(!bed.status().memory_sealed);
        drop(vmm);
        bed.wait_idle();
        still_serves(&bed);
    }

    /// Addresses outside of all memory: the session ends, the worker hears nothing.
    #[test]
    fn ring_addresses_outside_memory_are_refused() {
        let (bed, vmm) = Bed::negotiated();
        vmm.map(&memory());
        vmm.done(SET_VRING_NUM, &state(0, 256), &[]);
        let outside = ring_addresses_at(0, VMM_BASE + MEMORY_SIZE, 0);
        assert_eq!(vmm.status_of(SET_VRING_ADDR, &outside, &[]), 1);
        bed.expect_closed(&vmm);
        assert_eq!(bed.worker.take_lines()[2..], ["disconnected"]);
    }

    #[test]
    fn connection_that_ends_inside_a_message_is_counted() {
        let bed = Bed::new();
        for bytes in [1, 11, 12, 15] {
            let vmm = bed.vmm();
            let message = [SET_FEATURES, PLAIN, 8, 0, 0].map(u32::to_ne_bytes).concat();
            vmm.write_raw(&message[..bytes]);
            vmm.stream.shutdown(std::net::Shutdown::Write).unwrap();
            bed.expect_closed(&vmm);
        }
        assert_eq!(bed.refusals("truncated"), 4);
        still_serves(&bed);
    }

    /// A header claiming 4 GB allocates nothing.
    #[test]
    fn huge_sizes_are_refused_from_the_header_alone() {
        let bed = Bed::new();
        for request in [SET_FEATURES, SET_MEM_TABLE, GET_CONFIG] {
            let vmm = bed.vmm();
            vmm.negotiate();
            vmm.write_raw(&[request, PLAIN, u32::MAX - 3].map(u32::to_ne_bytes).concat());
            bed.expect_closed(&vmm);
        }
        assert_eq!(bed.refusals("payload-size"), 3);
    }

    /// A VMM that stops in the middle of a message stalls only itself, and can
    /// be thrown out.
    #[test]
    fn stalled_vmm_does_not_stall_its_neighbour() {
        let (bed, stalled) = Bed::negotiated();
        (&stalled.stream).write_all(&[1, 0, 0]).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.sock");
        let worker = Arc::new(Worker::default());
        let config = DeviceConfig::new("neighbour", &path, SocketMode::Listen, MAC);
        bed.supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        let vmm = Vmm::connect(&path);
        let memory = memory();
        vmm.start(&memory, 2);
        worker.look(|state| assert_eq!(state.rings.len(), 2));

        bed.supervisor.remove("vnic").unwrap();
        assert!(stalled.is_closed());
        bed.worker.look(|state| assert!(!state.connected));
        vmm.ask_number(GET_FEATURES);
    }

    /// Plausible messages with plausible values in any order: rings start, stop
    /// and change under each other. The worker checks that no ring starts twice
    /// or stops without having run, and nothing leaks.
    #[test]
    fn random_sessions_leave_the_daemon_alive() {
        let bed = Bed::new();
        let before = descriptors();
        let files = [memory(), memory()];
        let events = RingEvents::new();
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = |limit: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % limit
        };
        let mut starts = 0;
        for _ in 0..400 {
            let vmm = bed.vmm();
            match below(8) {
                0 => {}
                1..=3 => vmm.negotiate(),
                _ => drop(vmm.start(&files[0], 2)),
            }
            for _ in 0..60 {
                let ring = u32::try_from(below(65) / 32).unwrap();
                let value = u32::try_from(below(3)).unwrap();
                let kick = events.kick.as_raw_fd();
                let file = files[usize::try_from(below(2)).unwrap()].as_raw_fd();
                let place = below(2) * 0x1000_0000;
                let memory = region(place, MEMORY_SIZE, VMM_BASE + place, 0);
                let (request, payload, fds) = match below(16) {
                    0 => (SET_FEATURES, words(&[DRIVER_FEATURES]), vec![]),
                    1 => (SET_MEM_TABLE, table(&[memory]), vec![file]),
                    2 => (ADD_MEM_REG, slot(&memory), vec![file]),
                    3 => (REM_MEM_REG, slot(&memory), vec![]),
                    4 | 5 => (SET_VRING_NUM, state(ring, 128 << value), vec![]),
                    6 => (SET_VRING_BASE, state(ring, value), vec![]),
                    7..=9 => (SET_VRING_ADDR, ring_addresses(ring), vec![]),
                    10 | 11 => (SET_VRING_KICK, number(ring), vec![kick]),
                    12 => (SET_VRING_CALL, number(ring), vec![kick]),
                    13 => (SET_VRING_CALL, number(ring | 0x100), vec![]),
                    14 => (SET_VRING_ENABLE, state(ring, value % 2), vec![]),
                    _ => (GET_VRING_BASE, state(ring, 0), vec![]),
                };
                if vmm.try_send(request, PLAIN, &payload, &fds).is_err() {
                    break;
                }
            }
            // All of it is read, whatever becomes of it.
            vmm.stream.shutdown(std::net::Shutdown::Write).unwrap();
            bed.expect_closed(&vmm);
            let lines = bed.worker.take_lines();
            starts += lines.iter().filter(|line| line.starts_with("start")).count();
        }
        assert!(starts > 400, "only {starts} rings started: the test is too wild");
        drop((files, events));
        wait_descriptors(before);
        still_serves(&bed);
    }

    /// A VMM that never reads its answers.
    #[test]
    fn vmm_that_reads_no_answers_can_be_removed() {
        let bed = Bed::new();
        let vmm = bed.vmm();
        vmm.stream.set_nonblocking(true).unwrap();
        let question = [GET_FEATURES, PLAIN, 0].map(u32::to_ne_bytes).concat();
        let mut sent = 0;
        // Until its socket is full, which happens only when ours is.
        while sent < 10_000_000 && (&vmm.stream).write_all(&question).is_ok() {
            sent += question.len();
        }
        assert!(sent < 10_000_000);
        bed.supervisor.remove("vnic").unwrap();
        bed.worker.look(|state| assert!(!state.connected));
    }
}
