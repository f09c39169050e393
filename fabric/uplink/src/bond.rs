//! What of a kernel bond is alive, from the text of sysfs. Pure, but for [`read`].
//!
//! A bond is one uplink. What the operator wrote as its `up` and `down` is what all its members carry
//! together; while some have no link, the others carry their part of it. A member counts by its speed. A port
//! without a link does not say one, so what it has said before is remembered.

use std::{fs, path::Path};

/// Most members that are looked at.
pub const MEMBERS_MAX: usize = 64;

/// One port of a bond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The interface.
    pub name: String,
    /// It has a link.
    pub carrier: bool,
    /// In Mbit/s, if the port says so.
    pub speed_mbps: Option<u64>,
    /// The highest speed that it has ever said.
    pub full_mbps: Option<u64>,
}

/// A bond as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bond {
    /// In the kernel's order.
    pub members: Vec<Member>,
    /// Only one of them carries at a time (active-backup), or each carries everything (broadcast):
    /// one is as good as all.
    pub redundant: bool,
}

/// Which part of an uplink's capacity is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// So much (in Mbit/s of ports, or any other measure) of
    pub live: u64,
    /// so much; not zero.
    pub all: u64,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { live: 1, all: 1 };

    /// This part of `bps`, rounded down.
    #[must_use]
    pub fn of(self, bps: u64) -> u64 {
        let part =
            u128::from(bps) * u128::from(self.live.min(self.all)) / u128::from(self.all.max(1));
        u64::try_from(part).unwrap_or(bps)
    }
}

impl Bond {
    /// From what the kernel says: the files `bonding/slaves` and `bonding/mode` of the bond, and
    /// `read(member, file)` for files of its members.
    #[must_use]
    pub fn parse(slaves: &str, mode: &str, read: impl Fn(&str, &str) -> Option<String>) -> Self {
        let member = |name: &str| {
            let number = |file| read(name, file).and_then(|text| text.trim().parse::<i64>().ok());
            // A port without a link says -1, or nothing at all while it is down.
            let speed_mbps = number("speed").and_then(|mbps| u64::try_from(mbps).ok());
            let speed_mbps = speed_mbps.filter(|mbps| *mbps > 0 && *mbps < u64::from(u32::MAX));
            let carrier = number("carrier") == Some(1);
            Member { name: name.to_owned(), carrier, speed_mbps, full_mbps: speed_mbps }
        };
        let word = mode.split_whitespace().next();
        Self {
            members: slaves.split_whitespace().take(MEMBERS_MAX).map(member).collect(),
            redundant: matches!(word, Some("active-backup" | "broadcast")),
        }
    }

    /// What its members have said `before` is known of them still.
    pub fn remember(&mut self, before: &Self) {
        for member in &mut self.members {
            let known = before.members.iter().find(|it| it.name == member.name);
            member.full_mbps = member.full_mbps.max(known.and_then(|it| it.full_mbps));
        }
    }

    /// What of its capacity is there, by the speeds of its members; one whose speed nobody knows counts as
    /// the fastest that is known. If nothing is, the bond has no carrier, which is another
    /// matter: what is promised then makes no difference.
    #[must_use]
    pub fn part(&self) -> Part {
        let fastest_mbps = self.members.iter().filter_map(|it| it.full_mbps).max().unwrap_or(1);
        let full_mbps = |member: &Member| member.full_mbps.unwrap_or(fastest_mbps);
        let live = self.members.iter().filter(|member| member.carrier);
        let live = live.map(|it| it.speed_mbps.unwrap_or_else(|| full_mbps(it))).sum();
        let all = self.members.iter().map(full_mbps).sum();
        if live == 0 || self.redundant { Part::WHOLE } else { Part { live, all } }
    }
}

/// The bond `interface` below `sys` (`/sys/class/net`); `None` if it is none.
#[must_use]
pub fn read(sys: &Path, interface: &str) -> Option<Bond> {
    let file = |of: &str, name: &str| fs::read_to_string(sys.join(of).join(name)).ok();
    let slaves = file(interface, "bonding/slaves")?;
    let mode = file(interface, "bonding/mode").unwrap_or_default();
    Some(Bond::parse(&slaves, &mode, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The files of three ports: one alive, one without a link, one that is down.
    fn port(name: &str, file: &str) -> Option<String> {
        let text = match (name, file) {
            ("eth1" | "eth4", "carrier") => "1\n",
            ("eth1" | "eth4", "speed") => "10000\n",
            ("eth2", "carrier") => "0\n",
            ("eth2", "speed") => "-1\n",
            // The kernel refuses to read these of a port that is down.
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn capacity_follows_the_members_that_have_a_link() {
        let bond = Bond::parse("eth1 eth2 eth3 eth4\n", "802.3ad 4\n", port);
        let alive: Vec<_> = bond.members.iter().map(|it| (it.carrier, it.speed_mbps)).collect();
        let ten = Some(10_000);
        assert_eq!(alive, [(true, ten), (false, None), (false, None), (true, ten)]);
        // Of the others nobody knows the speed.
        assert_eq!(bond.part(), Part { live: 20_000, all: 40_000 });
        assert_eq!(bond.part().of(40_000_000_000), 20_000_000_000);
    }

    #[test]
    fn members_count_by_their_speeds_and_one_without_a_link_by_the_speed_that_it_had() {
        let port = |carriers: [bool; 2]| {
            move |name: &str, file: &str| {
                let (at, mbps) = if name == "eth1" { (0, "1000") } else { (1, "10000") };
                let text = match (file, carriers[at]) {
                    ("carrier", carrier) => {
                        if carrier {
                            "1"
                        } else {
                            "0"
                        }
                    }
                    (_, true) => mbps,
                    (_, false) => "-1",
                };
                Some(text.to_owned())
            }
        };
        let bond = |carriers| Bond::parse("eth1 eth2", "802.3ad 4", port(carriers));
        let both = bond([true, true]);
        assert_eq!(both.part().of(11_000), 11_000);
        for (carriers, mbps) in [([true, false], 1_000), ([false, true], 10_000)] {
            let mut now = bond(carriers);
            now.remember(&both);
            assert_eq!(now.part().of(11_000), mbps);
            // And that is remembered for as long as it takes.
            let mut later = bond(carriers);
            later.remember(&now);
            assert_eq!((later.part(), later.members.clone()), (now.part(), now.members));
            assert!(later.members.iter().all(|it| it.carrier == it.speed_mbps.is_some()));
        }
        let mut slower = bond([true, true]);
        slower.members[1].speed_mbps = Some(1_000);
        assert_eq!(slower.part().of(11_000), 2_000, "a link that came up at a lower speed");
    }

    #[test]
    fn a_bond_of_which_one_port_carries_at_a_time_loses_nothing() {
        let bond = Bond::parse("eth1 eth2\n", "active-backup 1\n", port);
        assert_eq!(bond.part(), Part::WHOLE);
    }

    #[test]
    fn a_bond_without_a_live_member_is_not_a_part_of_nothing() {
        assert_eq!(Bond::parse("eth2 eth3", "802.3ad 4", port).part(), Part::WHOLE);
        assert_eq!(Bond::parse("\n", "802.3ad 4", port).part(), Part::WHOLE);
    }

    #[test]
    fn files_are_read_where_the_kernel_has_them() {
        let sys = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = sys.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("bond0/bonding/slaves", "eth1 eth2\n");
        write("bond0/bonding/mode", "balance-xor 2\n");
        write("eth1/carrier", "1\n");
        write("eth2/carrier", "0\n");
        assert_eq!(read(sys.path(), "bond0").unwrap().part(), Part { live: 1, all: 2 });
        write("eth1/speed", "10000\n");
        assert_eq!(read(sys.path(), "bond0").unwrap().part().of(20_000), 10_000);
        assert_eq!(read(sys.path(), "eth1"), None, "no bond");
    }

    proptest! {
        #[test]
        fn a_part_is_never_more_than_the_whole(
            live: u64, all: u64, bps: u64, slaves in ".{0,80}", mode in ".{0,20}", text in ".{0,9}",
        ) {
            let part = Part { live, all };
            prop_assert!(part.of(bps) <= bps);
            let part = Bond::parse(&slaves, &mode, |_, _| Some(text.clone())).part();
            prop_assert!(part.of(bps) <= bps);
        }
    }
}
