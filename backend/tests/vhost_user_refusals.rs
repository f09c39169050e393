//! Mistakes of an operator rather than attacks: the log names the cause and the cure.

#[cfg(test)]
#[path = "vhost_user_support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::os::fd::AsRawFd;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};
    use wireonce_backend::vhost_user::{DeviceConfig, SocketMode, Supervisor};

    use super::support::*;

    /// More than any limit on the first message.
    const LONG: Duration = Duration::from_millis(1300);
    const ANOTHER: &str = "another VMM is attached; one VMM at a time";

    /// The messages of the process's log.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        /// Lines that tell of a second VMM at the vNIC of this name.
        fn count(&self, vnic: &str) -> usize {
            let lines = self.0.lock().unwrap();
            lines.iter().filter(|line| line.contains(ANOTHER) && line.contains(vnic)).count()
        }
    }

    /// One line: all fields.
    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0 += &format!("{field}={value:?} ");
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    fn last_error(bed: &Bed) -> String {
        bed.status().last_error.unwrap()
    }

    #[track_caller]
    fn names_the_cure(text: &str) {
        assert!(text.contains("shared no guest memory"), "{text}");
        assert!(text.contains("-object memory-backend-memfd,id=mem,share=on"), "{text}");
        assert!(text.contains("-machine memory-backend=mem"), "{text}");
    }

    /// QEMU without `share=on` has no region to send, and sets up its rings.
    #[test]
    fn ring_without_shared_memory_is_told_how_to_share_it() {
        let (bed, vmm) = Bed::negotiated();
        vmm.done(SET_VRING_NUM, &state(0, 256), &[]);
        vmm.done(SET_VRING_BASE, &state(0, 0), &[]);
        assert_eq!(vmm.status_of(SET_VRING_ADDR, &ring_addresses(0), &[]), 1);
        bed.expect_closed(&vmm);
        assert_eq!(bed.refusals("no-shared-memory"), 1);
        let text = last_error(&bed);
        assert!(text.contains("the VMM set up ring 0 (SET_VRING_ADDR), but has"), "{text}");
        names_the_cure(&text);
    }

    #[test]
    fn memory_that_was_taken_back_is_no_shared_memory() {
        let (bed, vmm) = Bed::negotiated();
        let memory = memory();
        vmm.done(ADD_MEM_REG, &slot(&whole()), &[memory.as_raw_fd()]);
        vmm.done(REM_MEM_REG, &slot(&whole()), &[]);
        vmm.send(SET_VRING_ADDR, PLAIN, &ring_addresses(0), &[]);
        bed.expect_closed(&vmm);
        names_the_cure(&last_error(&bed));
    }

    #[test]
    fn empty_memory_table_is_told_how_to_share_memory() {
        let (bed, vmm) = Bed::negotiated();
        vmm.send(SET_MEM_TABLE, PLAIN, &table(&[]), &[]);
        bed.expect_closed(&vmm);
        assert_eq!(bed.refusals("no-shared-memory"), 1);
        names_the_cure(&last_error(&bed));
    }

    #[test]
    fn ring_outside_shared_memory_is_named() {
        let (bed, vmm) = Bed::negotiated();
        vmm.map(&memory());
        let outside = ring_addresses_at(1, VMM_BASE + MEMORY_SIZE, 0);
        vmm.send(SET_VRING_ADDR, PLAIN, &outside, &[]);
        bed.expect_closed(&vmm);
        assert_eq!(bed.refusals("ring-outside-memory"), 1);
        let text = last_error(&bed);
        assert!(text.contains("ring 1 (SET_VRING_ADDR) at its address 0x7f0000100000"), "{text}");
    }

    /// What only the daemon can judge: its own words come along.
    #[test]
    fn refusal_of_the_daemon_names_the_message_and_why() {
        let (bed, vmm) = Bed::negotiated();
        let (first, second) = (memory(), memory());
        let whole = slot(&whole());
        vmm.done(ADD_MEM_REG, &whole, &[first.as_raw_fd()]);
        vmm.send(ADD_MEM_REG, PLAIN, &whole, &[second.as_raw_fd()]);
        bed.expect_closed(&vmm);
        assert_eq!(bed.refusals("daemon-refused"), 1);
        let text = last_error(&bed);
        assert!(text.contains("the protocol daemon refused ADD_MEM_REG: "), "{text}");
        assert!(text.contains("regions intersect"), "{text}");
    }

    /// The silent one is closed, the one behind it is served.
    #[test]
    fn client_that_says_nothing_does_not_keep_the_socket() {
        let bed = Bed::new();
        let silent = bed.vmm();
        let next = bed.vmm();
        next.negotiate();
        assert!(silent.is_closed());
        assert_eq!(bed.refusals("silent"), 1);
        let status = bed.status();
        assert_eq!((status.sessions, status.connected), (2, true));
        let lines = bed.worker.take_lines();
        assert_eq!(lines[..3], ["connected", "disconnected", "connected"]);
    }

    #[test]
    fn client_that_stops_inside_its_first_message_is_closed_too() {
        let bed = Bed::new();
        let message = [SET_FEATURES, PLAIN, 8, 0].map(u32::to_ne_bytes).concat();
        for bytes in [1, 12, 16] {
            let vmm = bed.vmm();
            vmm.write_raw(&message[..bytes]);
            bed.expect_closed(&vmm);
        }
        assert_eq!(bed.refusals("silent"), 3);
    }

    #[test]
    fn vmm_that_has_spoken_may_be_silent() {
        let bed = Bed::new();
        let vmm = bed.vmm();
        vmm.negotiate();
        std::thread::sleep(LONG);
        vmm.ask_number(GET_FEATURES);
        assert_eq!(bed.refusals("silent"), 0);
    }

    /// A VMM that listens takes the connection when it gets round to it.
    #[test]
    fn vmm_that_listens_may_take_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmm.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let supervisor = Supervisor::spawn().unwrap();
        let worker = Arc::new(Worker::default());
        let config = DeviceConfig::new("vnic", &path, SocketMode::Connect, MAC);
        supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        worker.wait_for("the connection", |state| state.connected);
        std::thread::sleep(LONG);
        Vmm::over(listener.accept().unwrap().0).negotiate();
        assert_eq!(supervisor.status()[0].sessions, 1);
    }

    #[test]
    fn vmm_that_finds_another_is_told_once_in_the_log() {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        let bed = Bed::with(|config| config.name = "desired".to_owned());
        let first = bed.vmm();
        first.negotiate();
        assert_eq!(log.count("desired"), 0);
        let mut queue = Vec::new();
        for waiting in 1..=3 {
            queue.push(bed.vmm());
            eventually("the line", || log.count("desired") == waiting);
            assert!(last_error(&bed).contains(ANOTHER));
        }
        // Not again while they wait.
        first.ask_number(GET_FEATURES);
        assert_eq!(log.count("desired"), 3);
        // The first in the queue is next.
        drop(first);
        queue.remove(0).negotiate();
    }
}
