//! The daemons need no root: as `nobody`, with the capabilities that the documents name and no
//! others, they carry a VM's frames.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::fs;

use wireonce_qemu_tests::cluster::{
    Cluster, NOBODY, Plan, Profile, UplinkDriver, VmPlan, daemon_binary,
};
use wireonce_qemu_tests::{Error, Result};

/// The number of CAP_NET_RAW (capabilities(7)) as a bit.
const NET_RAW: u64 = 1 << 13;

/// A VM reaches the outside over a server and a gateway without privileges, whose books close.
/// Returns what the kernel says about the two daemons (proc(5)), the server's first.
fn carry(plan: Plan) -> Result<[String; 2]> {
    let plan = Plan { unprivileged: true, ..plan }.vm(VmPlan::new("vm-a", 0, 11));
    let mut cluster = Cluster::build(plan, &daemon_binary(Profile::Dev)?)?;
    let guest = cluster.start_with_guests()?.pop();
    let mut guest = guest.ok_or_else(|| Error::Unexpected("the plan has a VM".to_owned()))?;
    cluster.must_reach(&mut guest, cluster.outside_address())?;
    cluster.must_close()?;
    let about = |index| {
        let pid = cluster.daemon_pid(index);
        let pid = pid.ok_or_else(|| Error::Unexpected("a daemon has ended".to_owned()))?;
        let path = format!("/proc/{pid}/status");
        fs::read_to_string(&path).map_err(|source| Error::Io { what: path, source })
    };
    Ok([about(0)?, about(1)?])
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim).unwrap_or_default()
}

/// The process is the daemon itself, as `nobody`, with these capabilities in every set.
fn assert_is_nobody_with(status: &str, capabilities: u64) {
    assert_eq!(field(status, "Name"), "wireonce");
    for ids in ["Uid", "Gid"] {
        let of_all_kinds = [NOBODY; 4].map(|id| id.to_string()).join("\t");
        assert_eq!(field(status, ids), of_all_kinds, "{ids}");
    }
    assert_eq!(field(status, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(field(status, set), 16), Ok(capabilities), "{set}");
    }
}

#[test]
fn a_backend_without_capabilities_and_a_gateway_with_net_raw_carry_a_vm() {
    let [backend, gateway] = carry(Plan::new("nobody", 1)).unwrap();
    assert_is_nobody_with(&backend, 0);
    assert_is_nobody_with(&gateway, NET_RAW);
}

#[test]
fn a_gateway_without_capabilities_serves_a_tap_made_for_its_user() {
    let plan = Plan { driver: UplinkDriver::Tap, ..Plan::new("nobtap", 1) };
    let [_, gateway] = carry(plan).unwrap();
    assert_is_nobody_with(&gateway, 0);
}
