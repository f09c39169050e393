//! A gigabyte that never is a file: made outside, through the VM, and back; each end sums what
//! passes.
//!
//! ```text
//!   outside: urandom -> sha256 -> nc 7001        nc 7002 -> sha256
//!                                  |               ^
//!   guest:                        nc -> sha256 -> nc
//! ```

use std::time::Duration;

use crate::bed::{Bed, LIMIT, two_on_one_server};

/// Under TCG the guest sums some 30-60 MB/s.
const TRANSFER_LIMIT: Duration = Duration::from_secs(180);
const MEGABYTES: u32 = 1024;

#[test]
fn a_gigabyte_keeps_its_sum_there_and_back() {
    let bed = Bed::new(two_on_one_server("sum")).unwrap();
    let mut a = bed.boot("vm-a").unwrap();
    bed.must_reach_outside(&mut a).unwrap();

    let (outside, dir) = (bed.cluster.outside_address(), bed.cluster.dir().display().to_string());
    // A FIFO to the sum beside the pipe, as the guest's shell has nothing else.
    let there = format!(
        "cd {dir}; mkfifo copy; (sha256sum <copy >sent) & (dd if=/dev/urandom bs=1M count={MEGABYTES} \
         iflag=fullblock 2>/dev/null | tee copy | busybox nc -l -p 7001 >/dev/null) & \
         (busybox nc -l -p 7002 </dev/null | sha256sum >back) & sleep 0.5"
    );
    bed.cluster.outside().sh(&format!("({there}) >/dev/null 2>&1"), LIMIT).unwrap();
    // nc ends when its peer has said all; its own input must not end before.
    let through = format!(
        "cd /tmp; mkfifo copy hold; exec 9<>hold; sha256sum <copy >sum & \
         nc {outside} 7001 <&9 | tee copy | nc {outside} 7002; wait; cat sum"
    );
    let inside = a.run(&through, TRANSFER_LIMIT).map_err(|error| bed.explain(&error)).unwrap();
    let read = |name: &str| std::fs::read_to_string(format!("{dir}/{name}")).unwrap();
    wireonce_qemu_tests::process::wait_until("both sums", LIMIT, || {
        Ok((!read("sent").is_empty() && !read("back").is_empty()).then_some(()))
    })
    .unwrap();
    assert_eq!(read("sent"), inside);
    assert_eq!(read("sent"), read("back"));
    let seen = bed.account(0, "vm-a", "guest-rx").unwrap().output.bytes;
    assert!(seen > u64::from(MEGABYTES) << 20, "only {seen} bytes went in");
    bed.must_close().unwrap();
}
