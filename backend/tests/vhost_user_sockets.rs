//! The supervisor: sockets, sessions, reconnects, and what is left afterwards.

#[cfg(test)]
#[path = "vhost_user_support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use wireonce_backend::vhost_user::{DeviceConfig, DeviceError, SocketMode, Supervisor};

    use super::support::*;

    fn threads() -> usize {
        std::fs::read_dir("/proc/self/task").unwrap().count()
    }

    fn device(name: &str, path: &std::path::Path, mode: SocketMode) -> DeviceConfig {
        DeviceConfig::new(name, path, mode, MAC)
    }

    /// No worker threads of the daemon, so no exit events of theirs to leak.
    #[test]
    fn thousand_connects_keep_descriptors_and_threads_flat() {
        let bed = Bed::new();
        let before = (descriptors(), threads());
        let connect = || {
            let vmm = bed.vmm();
            vmm.negotiate();
            drop(vmm);
        };
        let sessions = |count: u64| {
            (0..count).for_each(|_| connect());
            let all = bed.status().sessions;
            eventually("the last session's end", || !bed.status().connected);
            eventually("the threads' end", || threads() == before.1);
            all
        };
        sessions(10);
        let mapped = mappings();
        assert_eq!(sessions(1000), 1010);
        wait_descriptors(before.0);
        assert!(mappings() <= mapped + 8, "{mapped} -> {}", mappings());
    }

    #[test]
    fn next_vmm_is_served_when_the_first_is_gone() {
        let bed = Bed::new();
        let first = bed.vmm();
        first.negotiate();
        let second = bed.vmm();
        second.send(GET_FEATURES, PLAIN, &[], &[]);
        // The first is served, the second waits.
        first.ask_number(GET_FEATURES);
        assert_eq!(bed.status().sessions, 1);
        drop(first);
        assert!(second.receive(GET_FEATURES).is_some());
        assert_eq!(bed.status().sessions, 2);
        let lines = bed.worker.take_lines();
        let order: Vec<_> = lines.iter().filter(|line| line.contains("connected")).collect();
        assert_eq!(order, ["connected", "disconnected", "connected"]);
    }

    #[test]
    fn shutdown_joins_threads() {
        let threads_before = threads();
        let bed = Bed::new();
        let vmm = bed.vmm();
        let memory = memory();
        vmm.start(&memory, 2);
        assert!(threads() > threads_before);
        let Bed { supervisor, worker, path, .. } = bed;
        supervisor.stop();
        assert_eq!(threads(), threads_before);
        worker.look(|state| assert!(!state.connected && state.rings.is_empty()));
        assert!(!path.exists());
        assert!(vmm.is_closed());
    }

    /// Removed at every moment of a start; the worker is always told the end.
    #[test]
    fn disconnect_during_traffic() {
        let memory = memory();
        for round in 0..40 {
            let bed = Bed::new();
            let path = bed.path.clone();
            let file = memory.try_clone().unwrap();
            let front_end = std::thread::spawn(move || {
                let vmm = Vmm::connect(&path);
                // It is cut off somewhere in here, and may say so.
                let _ = std::panic::catch_unwind(|| vmm.negotiate());
                drop(file);
            });
            for _ in 0..round * 50 {
                std::hint::spin_loop();
            }
            bed.supervisor.remove("vnic").unwrap();
            bed.worker.look(|state| {
                assert!(!state.connected && state.rings.is_empty());
                let ended = state.lines.iter().filter(|line| *line == "disconnected").count();
                let began = state.lines.iter().filter(|line| *line == "connected").count();
                assert_eq!(began, ended);
            });
            let _ = front_end.join();
        }
    }

    #[test]
    fn socket_file_has_mode_0660_and_is_removed() {
        let bed = Bed::new();
        let found = std::fs::metadata(&bed.path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o7777, 0o660);
        bed.supervisor.remove("vnic").unwrap();
        assert!(!bed.path.exists());
    }

    #[test]
    fn stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let supervisor = Supervisor::spawn().unwrap();
        let worker = Arc::new(Worker::default());
        let add = |supervisor: &Supervisor, name: &str| {
            let config = device(name, &path, SocketMode::Listen);
            supervisor.add(config, Arc::clone(&worker) as _)
        };
        add(&supervisor, "a").unwrap();
        Vmm::connect(&path).negotiate();

        let other = Supervisor::spawn().unwrap();
        let error = add(&other, "b").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, DeviceError::InUse { .. }), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        // The loser did not take the file away.
        drop(other);
        Vmm::connect(&path).negotiate();
    }

    #[test]
    fn a_path_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let supervisor = Supervisor::spawn().unwrap();
        let config = device("a", &path, SocketMode::Listen);
        let error = supervisor.add(config, Arc::new(Worker::default())).unwrap_err();
        assert!(matches!(error, DeviceError::NotASocket { .. }));
        assert_eq!(std::fs::read(&path).unwrap(), b"data");
    }

    /// Somebody else's socket at our path is not removed at the end.
    #[test]
    fn socket_file_of_a_successor_is_left_alone() {
        let bed = Bed::new();
        std::fs::remove_file(&bed.path).unwrap();
        let _successor = UnixListener::bind(&bed.path).unwrap();
        bed.supervisor.remove("vnic").unwrap();
        assert!(bed.path.exists());
    }

    #[test]
    fn names_are_unique_and_errors_name_things() {
        let bed = Bed::new();
        let config = device("vnic", &bed.path.with_extension("2"), SocketMode::Listen);
        let error = bed.supervisor.add(config, Arc::new(Worker::default())).unwrap_err();
        assert!(matches!(error, DeviceError::Exists(_)), "{error}");
        let error = bed.supervisor.remove("other").unwrap_err();
        assert!(error.to_string().contains("other"));
        let nowhere = std::path::Path::new("/nonexistent/folder/s");
        let config = device("b", nowhere, SocketMode::Listen);
        let error = bed.supervisor.add(config, Arc::new(Worker::default())).unwrap_err();
        assert!(matches!(error, DeviceError::Io { .. }), "{error}");
    }

    #[test]
    fn removed_vnic_can_be_added_again() {
        let bed = Bed::new();
        for _ in 0..20 {
            bed.vmm().negotiate();
            bed.supervisor.remove("vnic").unwrap();
            let config = device("vnic", &bed.path, SocketMode::Listen);
            bed.supervisor.add(config, Arc::clone(&bed.worker) as _).unwrap();
        }
    }

    /// QEMU's `server=on`: we connect, and again after each loss.
    #[test]
    fn connect_mode_finds_the_vmm_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmm.sock");
        let supervisor = Supervisor::spawn().unwrap();
        let worker = Arc::new(Worker::default());
        let config = device("vnic", &path, SocketMode::Connect);
        supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        eventually("a failed attempt", || supervisor.status()[0].last_error.is_some());
        let memory = memory();
        for round in 1..=3 {
            let listener = UnixListener::bind(&path).unwrap();
            for _ in 0..3 {
                let vmm = Vmm::over(listener.accept().unwrap().0);
                vmm.start(&memory, 2);
                worker.look(|state| assert_eq!(state.rings.len(), 2));
            }
            drop(listener);
            std::fs::remove_file(&path).unwrap();
            worker.wait_for("the end", |state| !state.connected);
            // One more may have been in the listener's queue.
            assert!(supervisor.status()[0].sessions >= round * 3);
        }
        supervisor.stop();
        assert!(!path.exists());
    }

    /// Two hundred vNICs cost one thread until a VMM comes.
    #[test]
    fn idle_vnics_have_no_threads() {
        let folder = tempfile::tempdir().unwrap();
        let before = threads();
        let supervisor = Supervisor::spawn().unwrap();
        let worker = Arc::new(Worker::default());
        for index in 0..200 {
            let path = folder.path().join(index.to_string());
            let config = device(&index.to_string(), &path, SocketMode::Listen);
            supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        }
        assert_eq!(threads(), before + 1);
        assert_eq!(supervisor.status().len(), 200);
        supervisor.stop();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
