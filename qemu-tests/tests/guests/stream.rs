//! A gigabyte that never is a file: made outside, through the VM, and back outside; what went out
//! and what came back have the same SHA-256. Large reads and writes in the guest: busybox's own
//! copying takes a kilobyte at a time, which under TCG is 4 MB/s.
//!
//! ```text
//!   outside: urandom -+-> nc 7001        nc 7002 -> sha256
//!                     +-> sha256 |         ^
//!   guest:                       dd ----> dd
//! ```

use std::time::Duration;

use wireonce_qemu_tests::process::wait_until;

use crate::bed::{Bed, LIMIT, two_on_one_server};

/// Under TCG some 50 MB/s.
const TRANSFER_LIMIT: Duration = Duration::from_secs(180);
const MEGABYTES: u32 = 1024;

#[test]
fn a_gigabyte_keeps_its_sum_there_and_back() {
    let bed = Bed::new(two_on_one_server("sum")).unwrap();
    let mut a = bed.boot("vm-a").unwrap();
    bed.must_reach_outside(&mut a).unwrap();

    // `nc -e` gives a program the connection itself; its end closes it.
    let (outside, dir) = (bed.cluster.outside_address(), bed.cluster.dir().display().to_string());
    let servers = format!(
        "cd {dir}; mkfifo copy; (sha256sum <copy >sent) & \
         echo 'dd if=/dev/urandom bs=1M count={MEGABYTES} iflag=fullblock 2>/dev/null | tee copy' >send; \
         echo 'sha256sum >back' >receive; \
         busybox nc -l -p 7001 -e /bin/sh send & busybox nc -l -p 7002 -e /bin/sh receive & sleep 0.5"
    );
    bed.cluster.outside().sh(&format!("({servers}) >/dev/null 2>&1 </dev/null"), LIMIT).unwrap();
    let through = format!(
        "cd /tmp; mkfifo pipe; echo 'dd bs=256k >pipe 2>count' >in; \
         echo 'dd bs=256k <pipe 2>/dev/null' >out; \
         nc {outside} 7001 -e /bin/sh in & nc {outside} 7002 -e /bin/sh out; wait; cat count"
    );
    let counted = a.run(&through, TRANSFER_LIMIT).map_err(|error| bed.explain(&error)).unwrap();
    let read = |name: &str| std::fs::read_to_string(format!("{dir}/{name}")).unwrap_or_default();
    wait_until("both sums", LIMIT, || {
        Ok((!read("sent").is_empty() && !read("back").is_empty()).then_some(()))
    })
    .map_err(|error| bed.explain(&error))
    .unwrap();
    assert_eq!(read("sent"), read("back"), "{counted}");
    let books = ["guest-rx", "guest-tx"].map(|stage| bed.account(0, "vm-a", stage).unwrap());
    for account in books {
        assert!(account.output.bytes > u64::from(MEGABYTES) << 20, "{account:?}");
    }
    bed.must_close().unwrap();
}
