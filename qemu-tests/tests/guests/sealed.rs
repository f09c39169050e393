//! A vNIC that takes no VMM whose memory could shrink.

use wireonce_qemu_tests::cluster::{Plan, VmPlan};

use crate::bed::Bed;

#[test]
fn qemus_memory_is_sealed_and_accepted_where_that_is_required() {
    let plan = Plan::new("sealed", 1).vm(VmPlan::new("vm-a", 0, 11));
    let bed = Bed::with_config(plan, |text| {
        text.replace("socket_mode =", "require_sealed_memory = true\nsocket_mode =")
    })
    .unwrap();
    assert_eq!(bed.vnic_field(0, "vm-a", "memory_sealed").unwrap(), false, "there is none yet");
    let mut a = bed.boot("vm-a").unwrap();
    bed.must_reach_outside(&mut a).unwrap();
    assert_eq!(bed.vnic_field(0, "vm-a", "memory_sealed").unwrap(), true);
    bed.must_close().unwrap();
}
