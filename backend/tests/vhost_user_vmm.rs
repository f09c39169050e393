//! Real front-ends: QEMU's own network boot ROM, and DPDK's testpmd, start the
//! device's rings. Skipped, with a printed reason, where they are not
//! installed; `WIREONCE_REQUIRE_TOOLS=1` makes that a failure.

#[cfg(test)]
#[path = "vhost_user_support/mod.rs"]
mod support;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;

    use wireonce_backend::vhost_user::{DeviceConfig, SocketMode, Supervisor};

    use super::support::*;

    /// A child that does not outlive its test.
    struct Vm(Child);

    impl Drop for Vm {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn installed(tool: &str) -> bool {
        let found = std::env::var_os("PATH").is_some_and(|paths| {
            std::env::split_paths(&paths).any(|path| path.join(tool).exists())
        });
        let required = std::env::var_os("WIREONCE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(found || !required, "{tool} is not installed and WIREONCE_REQUIRE_TOOLS=1");
        if !found {
            println!("skipped: {tool} is not installed");
        }
        found
    }

    /// The guest is the boot ROM of the virtual NIC: it looks for a DHCP server.
    fn qemu(path: &Path, options: &str) -> Vm {
        let chardev = format!("socket,id=c,path={}{options}", path.display());
        let child = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", "tcg", "-m", "128", "-nodefaults"])
            .args(["-object", "memory-backend-memfd,id=m,size=128M,share=on"])
            .args(["-numa", "node,memdev=m", "-display", "none"])
            .args(["-chardev", &chardev])
            .args(["-netdev", "vhost-user,id=n,chardev=c"])
            .args(["-device", "virtio-net-pci,netdev=n,vectors=0,host_mtu=1400"])
            .stdin(Stdio::null())
            .spawn();
        Vm(child.unwrap())
    }

    fn both_rings_started(worker: &Worker) {
        worker.wait_for("both rings", |state| {
            state.rings.len() == 2
                && state.rings.values().all(|ring| ring.enabled && ring.call.is_some())
        });
        worker.look(|state| {
            for ring in state.rings.values() {
                let features = ring.config.features;
                assert_eq!(features >> 32 & 1, 1, "VERSION_1 in {features:#x}");
            }
        });
    }

    #[test]
    fn qemu_connects_to_us_and_starts_both_rings() {
        if !installed("qemu-system-x86_64") {
            return;
        }
        let bed = Bed::new();
        let vm = qemu(&bed.path, ",reconnect=1");
        both_rings_started(&bed.worker);
        let status = bed.status();
        assert!(status.memory_sealed, "QEMU seals its memfd");
        assert!(status.refusals.is_empty(), "{:?}", status.refusals);

        // The session is cut: QEMU comes back with the same guest, still running.
        bed.supervisor.remove("vnic").unwrap();
        let config = DeviceConfig::new("vnic", &bed.path, SocketMode::Listen, MAC);
        bed.supervisor.add(config, Arc::clone(&bed.worker) as _).unwrap();
        both_rings_started(&bed.worker);
        assert!(bed.status().refusals.is_empty());

        drop(vm);
        bed.wait_idle();
        let lines = bed.worker.take_lines();
        println!("{lines:#?}");
        assert_eq!(lines.last().unwrap(), "disconnected");
    }

    #[test]
    fn we_connect_to_qemu_and_both_rings_start() {
        if !installed("qemu-system-x86_64") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu.sock");
        let supervisor = Supervisor::spawn().unwrap();
        let worker = Arc::new(Worker::default());
        let config = DeviceConfig::new("vnic", &path, SocketMode::Connect, MAC);
        supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        let vm = qemu(&path, ",server=on,wait=off");
        both_rings_started(&worker);
        // Our side goes away and comes back, QEMU listens again.
        supervisor.remove("vnic").unwrap();
        let config = DeviceConfig::new("vnic", &path, SocketMode::Connect, MAC);
        supervisor.add(config, Arc::clone(&worker) as _).unwrap();
        both_rings_started(&worker);
        assert!(supervisor.status()[0].refusals.is_empty());
        drop(vm);
        worker.wait_for("the end", |state| !state.connected);
        println!("{:#?}", worker.take_lines());
    }

    #[test]
    fn testpmd_starts_its_rings() {
        if !installed("dpdk-testpmd") {
            return;
        }
        let bed = Bed::with(|config| config.queue_pairs = 2);
        let device =
            format!("net_virtio_user0,path={},queues=2,mac=02:10:20:30:40:50", bed.path.display());
        let child = Command::new("dpdk-testpmd")
            .args(["--no-huge", "-m", "128", "--no-pci", "--lcores", "0@0,1@0"])
            .args(["--no-shconf", "--no-telemetry", "--file-prefix", "wireonce-test"])
            .args(["--vdev", &device, "--", "--rxq=2", "--txq=2", "--total-num-mbufs=2048"])
            .args(["--forward-mode=rxonly"])
            .stdin(Stdio::piped())
            .spawn();
        let mut vm = Vm(child.unwrap());
        bed.worker.wait_for("four rings", |state| {
            state.rings.len() == 4
                && state.rings.values().all(|ring| ring.enabled && ring.call.is_some())
        });
        let mut input = vm.0.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"\nquit\n").unwrap();
        drop(input);
        bed.wait_idle();
        let status = bed.status();
        println!("{:#?} {status:?}", bed.worker.take_lines());
        assert!(status.refusals.is_empty(), "{:?}", status.refusals);
        drop(vm);
    }
}
