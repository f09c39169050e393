//! Whatever is asked: what was admitted survives every single loss, by a check that walks through
//! everybody and has nothing of placement's arithmetic.

use super::{
    placing::{house_of_three, vnic_text},
    *,
};
use crate::change::{Base, Rehome};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wireonce_desired::{House, Uplink, Vnic};

/// What is lost.
#[derive(Debug, Clone, Copy)]
enum Lost<'h> {
    Nothing,
    Uplink(&'h str),
    Gateway(&'h str),
}

impl Lost<'_> {
    fn takes(self, uplink: &Uplink) -> bool {
        match self {
            Self::Nothing => false,
            Self::Uplink(name) => uplink.name == name,
            Self::Gateway(name) => uplink.host == name,
        }
    }
}

/// Everything that would not hold, in words.
fn broken_promises(house: &House) -> Vec<String> {
    let uplinks = house.uplinks().map(|uplink| Lost::Uplink(&uplink.name));
    let gateways = house.names(Kind::Gateway).map(Lost::Gateway);
    let mut broken = Vec::new();
    for lost in uplinks.chain(gateways).chain([Lost::Nothing]) {
        for direction in Direction::BOTH {
            broken.extend(over(house, lost, direction));
        }
    }
    broken
}

fn over(house: &House, lost: Lost<'_>, direction: Direction) -> Vec<String> {
    let mut loads: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut broken = Vec::new();
    for vnic in house.vnics() {
        let policy = vnic.policy.as_deref().and_then(|policy| house.policy(policy));
        let needs = policy.map_or(0, |policy| policy.reservation(direction).bps());
        if needs == 0 {
            continue;
        }
        let places = vnic.home.iter().chain(&vnic.standbys).filter_map(|name| house.uplink(name));
        let Some(place) = places.into_iter().find(|uplink| !lost.takes(uplink)) else {
            broken.push(format!("{} is nowhere after {lost:?}", vnic.name));
            continue;
        };
        *loads.entry(("uplink", &place.name)).or_default() += needs;
        if machine(house, &vnic.host) != machine(house, &place.host) {
            *loads.entry(("port", &vnic.host)).or_default() += needs;
            *loads.entry(("port", &place.host)).or_default() += needs;
        }
    }
    for ((kind, name), load) in loads {
        if load > carries(house, kind, name, direction) {
            broken.push(format!("{kind} {name} has {load} {direction:?} after {lost:?}"));
        }
    }
    broken
}

fn machine<'h>(house: &'h House, host: &'h str) -> &'h str {
    let found = house.hosts().find(|(_, it)| it.name == host);
    found.and_then(|(_, it)| it.machine.as_deref()).unwrap_or(host)
}

fn carries(house: &House, kind: &str, name: &str, direction: Direction) -> u64 {
    if kind == "uplink" {
        let percent = if direction == Direction::Up { 99 } else { 96 };
        let capacity = house.uplink(name).and_then(|uplink| uplink.capacity(direction));
        return capacity.map_or(u64::MAX, |rate| rate.bps() / 100 * percent);
    }
    let (kind, host) = house.hosts().find(|(_, host)| host.name == name).unwrap();
    let sends = (kind == Kind::Server) == (direction == Direction::Up);
    let port = if sends { host.port_up } else { host.port_down };
    port.map_or(u64::MAX, Rate::bps)
}

/// A fourth uplink on the first gateway, a server apart with a small port, promises both ways.
fn larger_house() -> String {
    let both = "down = { reservation = \"150Mbit\" }\n[[policy]]\nname = \"p300\"";
    house_of_three().replace("[[policy]]\nname = \"p300\"", both)
        + "[[uplink]]\nname = \"east-4\"\nhost = \"gateway-1\"\npool = \"east\"\ndriver = \
           \"packet\"\ninterface = \"eth4\"\nup = \"500Mbit\"\ndown = \"1Gbit\"\nswitch = \
           \"s1\"\n[[server]]\nname = \"server-b\"\naddress = \"10.77.0.2\"\npublic_key = \
           \"0ykBmAB+fcgF0v6ZqI+My3ySWqvm2z5tVETPM5gZ8pw=\"\nport_up = \"700Mbit\"\n[[grant]]\npool \
           = \"east\"\nserver = \"server-b\"\nup = { reservation = \"1Gbit\" }\ndown = { reservation \
           = \"1Gbit\" }\n[[grant]]\npool = \"east\"\nserver = \"server-a\"\nup = { reservation = \
           \"1400Mbit\" }\ndown = { reservation = \"1Gbit\" }\n"
}

/// Anything that anybody might ask for.
#[derive(Debug, Clone)]
enum Ask {
    Put { vnic: u32, policy: Option<usize>, home: Option<usize>, standby: Option<usize>, far: bool },
    Remove { vnic: u32 },
    Move { vnic: u32, to: usize },
    Drain { uplink: usize, draining: bool },
    DrainGateway { gateway: usize, draining: bool },
    Promise { policy: usize, mbit: u64 },
    Carry { uplink: usize, mbit: u64 },
}

const POLICIES: [&str; 4] = ["p100", "p300", "p400", "p600"];

fn ask() -> impl Strategy<Value = Ask> {
    let uplink = || 1usize..5;
    let vnic = || 1u32..7;
    let put = (
        vnic(),
        prop::option::of(0usize..4),
        prop::option::of(uplink()),
        prop::option::of(uplink()),
        any::<bool>(),
    );
    prop_oneof![
        6 => put.prop_map(|(vnic, policy, home, standby, far)| Ask::Put {
            vnic,
            policy,
            home,
            standby: standby.filter(|standby| Some(*standby) != home && home.is_some()),
            far
        }),
        1 => vnic().prop_map(|vnic| Ask::Remove { vnic }),
        3 => (vnic(), uplink()).prop_map(|(vnic, to)| Ask::Move { vnic, to }),
        2 => (uplink(), any::<bool>())
            .prop_map(|(uplink, draining)| Ask::Drain { uplink, draining }),
        1 => (1usize..4, any::<bool>())
            .prop_map(|(gateway, draining)| Ask::DrainGateway { gateway, draining }),
        1 => (0usize..4, 0u64..700).prop_map(|(policy, mbit)| Ask::Promise { policy, mbit }),
        1 => (uplink(), 300u64..1500).prop_map(|(uplink, mbit)| Ask::Carry { uplink, mbit }),
    ]
}

fn change_of(ask: &Ask, house: &House) -> Change {
    let put = |text: &str| Change::put_all(read::toml(text).unwrap());
    match ask {
        Ask::Put { vnic, policy, home, standby, far } => {
            let mut more = String::new();
            if let Some(policy) = policy {
                more += &format!("policy = {:?}\n", POLICIES[*policy]);
            }
            if let Some(home) = home {
                more += &format!("home = \"east-{home}\"\n");
            }
            if let Some(standby) = standby {
                more += &format!("standbys = [\"east-{standby}\"]\n");
            }
            let text = vnic_text(*vnic, &more);
            put(&if *far { text.replace("server-a", "server-b") } else { text })
        }
        Ask::Remove { vnic } => {
            Change::one(Edit::Delete(Kind::Vnic, format!("vm-{vnic}"), Base::Any))
        }
        Ask::Move { vnic, to } => {
            let (vnic, to) = (format!("vm-{vnic}"), format!("east-{to}"));
            Change::one(Edit::Rehome(Rehome { vnic, to }))
        }
        Ask::Drain { uplink, draining } => {
            Change::one(Edit::Drain(Kind::Uplink, format!("east-{uplink}"), *draining))
        }
        Ask::DrainGateway { gateway, draining } => {
            Change::one(Edit::Drain(Kind::Gateway, format!("gateway-{gateway}"), *draining))
        }
        Ask::Promise { policy, mbit } => put(&format!(
            "[[policy]]\nname = {:?}\nup = {{ reservation = \"{mbit}Mbit\" }}\n",
            POLICIES[*policy]
        )),
        Ask::Carry { uplink, mbit } => {
            let mut uplink = house.uplink(&format!("east-{uplink}")).unwrap().clone();
            uplink.up = Some(Rate::from_bps(mbit * 1_000_000));
            Change::put_all(vec![Object::Uplink(uplink)])
        }
    }
}

fn machines(house: &House) -> usize {
    let open = house.uplinks().filter(|uplink| !house.is_draining(uplink));
    let machines: std::collections::BTreeSet<_> =
        open.map(|uplink| machine(house, &uplink.host)).collect();
    machines.len()
}

fn is_there(vnic: &Vnic, uplink: &str) -> bool {
    vnic.home.iter().chain(&vnic.standbys).any(|name| name == uplink)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is admitted survives every single loss; what drains is empty, or the drain changed
    /// nothing; and nobody moves whom the change is not about.
    #[test]
    fn what_is_admitted_survives_every_single_loss(asks in prop::collection::vec(ask(), 1..40)) {
        let controller = empty();
        let objects = read::toml(&larger_house().replacen(
            "[[grant]]\npool = \"east\"\nserver = \"server-a\"\nup = { reservation = \"2Gbit\" }\n",
            "",
            1,
        ));
        controller.change(&admin(), &Change::put_all(objects.unwrap()), false, NOW).unwrap();
        let mut now = NOW;
        let mut taken = 0;
        for ask in &asks {
            now = Moment(now.0 + 61);
            let before = controller.state().unwrap();
            let change = change_of(ask, &before.house);
            // A pool on one machine is protected against nothing, and says so: not looked at here.
            let tried = controller.change(&admin(), &change, true, now);
            let drains = matches!(
                ask,
                Ask::Drain { draining: true, .. } | Ask::DrainGateway { draining: true, .. }
            );
            if drains {
                let mut after = before.house.clone();
                drained(&mut after, ask);
                if machines(&after) < 2 {
                    continue;
                }
            }
            let done = controller.change(&admin(), &change, false, now);
            prop_assert_eq!(tried.is_ok(), done.is_ok(), "{:?}", ask);
            let after = controller.state().unwrap();
            if done.is_err() {
                prop_assert_eq!(&before.house, &after.house);
                continue;
            }
            taken += 1;
            // What was followed is what is there.
            let read = crate::change::State::read(&**controller.store()).unwrap();
            prop_assert_eq!(format!("{after:?}"), format!("{read:?}"));
            let broken = broken_promises(&after.house);
            prop_assert!(broken.is_empty(), "{broken:?} after {ask:?}");
            for uplink in after.house.uplinks().filter(|uplink| after.house.is_draining(uplink)) {
                let left = after.house.vnics().find(|vnic| is_there(vnic, &uplink.name));
                prop_assert!(left.is_none(), "{left:?} after {ask:?}");
            }
            if drains {
                let is_closed = |name: &String| {
                    after.house.uplink(name).is_some_and(|uplink| after.house.is_draining(uplink))
                };
                for old in before.house.vnics() {
                    let concerned = old.home.iter().chain(&old.standbys).any(is_closed);
                    let new = after.house.vnic(&old.name).unwrap();
                    prop_assert!(concerned || old == new, "{old:?} {new:?} after {ask:?}");
                }
            }
        }
        prop_assert!(taken > 0 || asks.len() < 8, "nothing at all was taken");
    }
}

/// The house with only the flag changed.
fn drained(house: &mut House, ask: &Ask) {
    match ask {
        Ask::Drain { uplink, .. } => {
            let mut uplink = house.uplink(&format!("east-{uplink}")).unwrap().clone();
            uplink.draining = true;
            house.put(Object::Uplink(uplink));
        }
        Ask::DrainGateway { gateway, .. } => {
            let name = format!("gateway-{gateway}");
            let Some(Object::Gateway(host)) = house.get(Kind::Gateway, &name).cloned() else {
                return;
            };
            house.put(Object::Gateway(wireonce_desired::Host { draining: true, ..host }));
        }
        _ => {}
    }
}

#[test]
fn the_slow_check_finds_what_is_broken() {
    let mut house: House = read::toml(&house_of_three()).unwrap().into_iter().collect();
    let text = vnic_text(1, "policy = \"p600\"\nhome = \"east-1\"\nstandbys = [\"east-2\"]")
        + &vnic_text(2, "policy = \"p600\"\nhome = \"east-2\"");
    read::toml(&text).unwrap().into_iter().for_each(|object| drop(house.put(object)));
    let broken = broken_promises(&house);
    let has = |text: &str| broken.iter().any(|it| it.contains(text));
    assert!(has("uplink east-2 has 1200000000 Up after Uplink(\"east-1\")"), "{broken:?}");
    assert!(has("vm-2 is nowhere after Gateway(\"gateway-2\")"), "{broken:?}");
    assert!(!has("Nothing"), "{broken:?}");
}
