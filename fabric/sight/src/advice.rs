//! What is out of balance, and the command that cures it: `wireonce_placement::advise`, fed. Before it
//! stands what no command mends, after it what is not known.

use crate::{
    look::{Both, Look},
    notes::{self, Note},
    sight::Sight,
    view::View,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wireonce_desired::{Direction, Grant, Kind, Vnic, bandwidth};
use wireonce_placement::{GrantUse, House, Limits, Rates, advise};

/// One thing that is out of balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdviceLine {
    /// What is seen, in figures.
    pub evidence: String,
    /// What cures it, as it can be typed; `None` if no command does, as the evidence says.
    #[serde(default)]
    pub command: Option<String>,
}

/// Looks for imbalances in the house by number, which has the demand of `sight`.
#[must_use]
pub fn advice(view: &View<'_>, sight: &Sight, placed: &House) -> Vec<AdviceLine> {
    let placed = at_home(placed);
    let found = advise(&placed, &grant_uses(view, sight), &Limits::default());
    let found = found.into_iter().map(|it| (it.evidence, it.command));
    let said = |note: Note| (format!("{} ({})", note.what, note.who.word()), None);
    let faults = notes::faults(view).into_iter().map(said);
    let unknown = notes::policy_limits(view).into_iter().chain(notes::silent(view)).map(said);
    let lines = faults.chain(found).chain(unknown);
    lines.map(|(evidence, command)| AdviceLine { evidence, command }).collect()
}

/// Without the demand of those who have lost their home: they are at a standby, and nobody knows what
/// they get there.
fn at_home(placed: &House) -> House {
    let mut house = placed.clone();
    for at in 0..house.vnics.len() {
        let is_lost = house.vnics[at].home.is_some_and(|home| !house.uplink(home).alive);
        if is_lost {
            house.vnics[at].wants = Rates::default();
        }
    }
    house
}

/// What each server may use of each pool, and would. Demand of silent servers is not known: what
/// is reserved for them counts as wanted, so that nobody is told to take it.
#[must_use]
pub fn grant_uses(view: &View<'_>, sight: &Sight) -> Vec<GrantUse> {
    let mut sums: BTreeMap<(&str, &str), Sums> = BTreeMap::new();
    for vnic in view.house.vnics() {
        let Some(pool) = view.pool_of(vnic) else { continue };
        let sum = sums.entry((pool, &vnic.host)).or_default();
        let wants = sight.wants.get(&vnic.name).copied().unwrap_or_default();
        sum.wants = sum.wants.plus(wants);
        if is_here(view, vnic) {
            sum.here = sum.here.plus(wants);
        }
        let policy = vnic.policy.as_deref().and_then(|name| view.house.policy(name));
        let reserves = |way| policy.map_or(0, |policy| policy.reservation(way).bps());
        sum.promised = sum.promised.plus(both(&reserves));
    }
    for grant in view.house.grants() {
        sums.entry((&grant.pool, &grant.server)).or_default();
    }
    let limit = |pool: &str, server: &str| {
        both(&|way| view.grant_limit(pool, server, way).unwrap_or(u64::MAX))
    };
    let ports = Ports::of(view);
    let grant_use = |(&(pool, server), sum): (&(&str, &str), &Sums)| {
        let reservation = both(&|way| view.granted(pool, server, way));
        let grant = view.house.grant(&Grant::name_of(pool, server));
        let is_silent = sight.silent.contains(server);
        let others = sums.iter().filter(|((of, at), _)| *at == server && *of != pool);
        let crosses = others.map(|((of, at), sum)| sum.crosses().min(limit(of, at)));
        let crosses = crosses.fold(Rates::default(), Rates::plus);
        GrantUse {
            pool: pool.to_owned(),
            pool_usable: both(&|way| bandwidth::usable(view.house, pool, way).bps()),
            server: server.to_owned(),
            reservation,
            limit: limit(pool, server),
            until: grant.and_then(|grant| Some(grant.until?.to_string())),
            wants: if is_silent { sum.wants.max(reservation) } else { sum.wants },
            wants_here: sum.here,
            port_left: ports.left(pool, server, crosses),
            promised: sum.promised,
        }
    };
    sums.iter().map(grant_use).collect()
}

/// Of the vNICs of a server in a pool.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    /// What they would use.
    wants: Rates,
    /// What of that does not cross the fabric.
    here: Rates,
    /// What their policies reserve.
    promised: Rates,
}

impl Sums {
    fn crosses(&self) -> Rates {
        self.wants.minus(self.here)
    }
}

fn both(of: &dyn Fn(Direction) -> u64) -> Rates {
    Rates { up_bps: of(Direction::Up), down_bps: of(Direction::Down) }
}

/// Whether a vNIC's home is on the machine that its VM is on.
fn is_here(view: &View<'_>, vnic: &Vnic) -> bool {
    let home = vnic.home.as_deref().and_then(|home| view.house.uplink(home));
    home.is_some_and(|home| view.on_one_machine(&vnic.host, &home.host))
}

/// The fabric ports of servers of which somebody said what they carry.
struct Ports<'v> {
    view: View<'v>,
    carry: BTreeMap<&'v str, Rates>,
    looks: BTreeMap<&'v str, Look<'v>>,
}

impl<'v> Ports<'v> {
    fn of(view: &View<'v>) -> Self {
        let stated = view.house.hosts().filter(|(kind, host)| {
            *kind == Kind::Server && (host.port_up.is_some() || host.port_down.is_some())
        });
        let bps = |rate: Option<wireonce_desired::Rate>| rate.map_or(u64::MAX, |rate| rate.bps());
        let carry: BTreeMap<&str, Rates> = stated
            .map(|(_, host)| {
                let rates = Rates { up_bps: bps(host.port_up), down_bps: bps(host.port_down) };
                (host.name.as_str(), rates)
            })
            .collect();
        let mut ports = Self { view: *view, carry, looks: BTreeMap::new() };
        if !ports.carry.is_empty() {
            let hosts = view.house.hosts().map(|(_, host)| host.name.as_str());
            ports.looks = hosts.filter_map(|name| Some((name, view.look(name)?))).collect();
        }
        ports
    }

    /// What a server's port can carry to a pool, beside what it would carry to other pools, or, if
    /// that is more, all else that crosses it now.
    fn left(&self, pool: &str, server: &str, other_pools: Rates) -> Rates {
        let Some(carries) = self.carry.get(server) else { return Rates::UNLIMITED };
        let crosses = self.looks.get(server).map(Look::port).unwrap_or_default();
        let to_pool = self.to_pool(pool, server);
        let beside = |all: Option<u64>, part: Option<u64>| {
            all.zip(part).map_or(0, |(all, part)| all.saturating_sub(part))
        };
        let others = Rates {
            up_bps: beside(crosses.up_bps, to_pool.up_bps),
            down_bps: beside(crosses.down_bps, to_pool.down_bps),
        };
        let left = carries.minus(others.max(other_pools));
        let stated = |carries: u64, left: u64| if carries == u64::MAX { carries } else { left };
        Rates {
            up_bps: stated(carries.up_bps, left.up_bps),
            down_bps: stated(carries.down_bps, left.down_bps),
        }
    }

    /// What crosses it to and from a pool now, where gateways shape that.
    fn to_pool(&self, pool: &str, server: &str) -> Both {
        let uplinks = self.view.house.uplinks().filter(|it| it.pool == pool);
        let remote = uplinks.filter(|it| !self.view.on_one_machine(server, &it.host));
        let rates = remote.filter_map(|uplink| {
            let look = self.looks.get(uplink.host.as_str())?;
            let (_, up_bps) = look.share(&uplink.name, server)?;
            let downs = look.now.down.iter().filter(|it| it.server == server);
            let downs = downs.flat_map(|it| look.down(&it.vnic));
            let downs = downs.filter(|it| it.now.uplink == uplink.name);
            let down_bps = downs.filter_map(|it| {
                look.per_second(it.now.served_bits, it.share_before()?.served_bits)
            });
            Some(Both { up_bps, down_bps: down_bps.reduce(u64::saturating_add) })
        });
        rates.fold(Both::default(), Both::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        numbered::Numbered,
        sample::{Bed, MBIT},
    };
    use wireonce_desired::Moment;
    use wireonce_ledger::status::LinkGrayStatus;

    fn lines(bed: &Bed) -> Vec<AdviceLine> {
        let view = bed.view();
        let sight = Sight::of(&view);
        advice(&view, &sight, &Numbered::of(view.house, &sight).house)
    }

    /// All hosts of which nothing else is said have nothing to say.
    fn heard() -> Bed {
        let mut bed = Bed::new();
        bed.server_a(|it| it);
        bed.server_b(|it| it);
        bed.gateway_a(|it| it);
        bed.gateway_b(|it| it);
        bed
    }

    fn limit(bed: &mut Bed, name: &str, mbit: u64, until: Option<Moment>) {
        bed.grant(name, |grant| {
            let limit = Some(wireonce_desired::Rate::from_bps(mbit * MBIT));
            grant.up = Some(wireonce_desired::Terms { limit, ..Default::default() });
            grant.until = until;
        });
    }

    #[test]
    fn a_balanced_house_needs_no_advice() {
        let mut bed = heard();
        bed.server_a(|it| it.sends(100 * MBIT));
        bed.server_b(|it| it.sends(100 * MBIT));
        assert_eq!(lines(&bed), []);
    }

    #[test]
    fn a_server_whose_own_port_is_full_is_told_that_borrowing_cannot_help() {
        let mut bed = heard();
        limit(&mut bed, "east/server-a", 300, None);
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 0));
        let command = "wireonce grant set east/server-a up.limit=800Mbit";
        assert_eq!(lines(&bed)[0].command.as_deref(), Some(command), "its port has room");
        bed.host("server-a", |host| {
            host.port_up = Some(wireonce_desired::Rate::from_bps(310 * MBIT));
        });
        let told = lines(&bed);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].evidence.contains("borrowing cannot help"), "{told:?}");
        assert_eq!(told[0].command, None);
    }

    #[test]
    fn a_server_that_waits_for_its_own_port_without_any_limit_is_told_so() {
        let mut bed = heard();
        bed.host("server-a", |host| {
            host.port_up = Some(wireonce_desired::Rate::from_bps(100 * MBIT));
        });
        bed.server_a(|it| it.sends(98 * MBIT).at_port(98 * MBIT));
        let told = lines(&bed);
        assert_eq!(told.len(), 1, "{told:?}");
        let said = "server-a wants 800Mbit up of pool east; its own fabric port carries 100Mbit";
        assert!(told[0].evidence.starts_with(said), "{told:?}");
        assert!(told[0].evidence.contains("borrowing cannot help"), "{told:?}");
    }

    #[test]
    fn what_crosses_a_port_to_neighbours_leaves_less_to_borrow() {
        let mut bed = heard();
        limit(&mut bed, "east/server-a", 300, None);
        bed.gateway_a(|it| it.lease("east-1", "server-a", 300 * MBIT, 300 * MBIT));
        // 9.9 of its 10 Gbit/s cross the port, 300 Mbit/s of that to the pool.
        bed.server_a(|it| {
            it.sends(300 * MBIT).held(300 * MBIT, 0).datagrams("gateway-b", 825_000, 0)
        });
        let told = lines(&bed);
        let command = "wireonce grant set east/server-a up.limit=400Mbit";
        assert_eq!(told[0].command.as_deref(), Some(command), "{told:?}");
        assert!(told[0].evidence.ends_with("its own fabric port carries 400Mbit of that"));
    }

    #[test]
    fn a_limit_downwards_that_holds_back_is_told() {
        let mut bed = heard();
        bed.grant("east/server-a", |grant| {
            let limit = Some(wireonce_desired::Rate::from_bps(300 * MBIT));
            grant.down = Some(wireonce_desired::Terms { limit, ..Default::default() });
        });
        bed.gateway_a(|it| it.comes("vm-a", 300 * MBIT, 900));
        let command = "wireonce grant set east/server-a down.limit=800Mbit";
        assert_eq!(lines(&bed)[0].command.as_deref(), Some(command));
    }

    #[test]
    fn a_server_that_starves_under_a_timed_grant_is_told_when_that_ends() {
        let mut bed = heard();
        limit(&mut bed, "east/server-a", 300, Some(Moment(1_800_000_000)));
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 0));
        let told = lines(&bed);
        assert_eq!((told.len(), told[0].command.as_deref()), (1, None), "{told:?}");
        let said = format!("agreed until {} and cannot be changed", Moment(1_800_000_000));
        assert!(told[0].evidence.contains(&said), "{told:?}");
    }

    #[test]
    fn a_vnic_at_the_limit_of_its_policy_and_a_silent_host_are_told_with_who_acts() {
        let mut bed = heard();
        bed.server_a(|it| it.sends(800 * MBIT).held(800 * MBIT, 0));
        bed.reports.remove("gateway-b");
        let told = lines(&bed);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].evidence.starts_with("1 vNIC has all that up.limit of policy \"gold\""));
        assert!(told[0].evidence.ends_with(" (virtualisation)"));
        assert!(told[1].evidence.starts_with("1 of 4 hosts are not heard"), "{told:?}");
        assert!(told.iter().all(|it| it.command.is_none()));
    }

    #[test]
    fn nobody_is_told_to_move_where_it_is_sick_or_away_from_a_home_that_it_has_left() {
        let mut bed = heard();
        let moves = |bed: &Bed| {
            let told = lines(bed).into_iter().filter_map(|it| it.command);
            told.filter(|command| command.contains("vnic move")).collect::<Vec<_>>()
        };
        bed.uplink("east-1", |uplink| {
            uplink.up = Some(wireonce_desired::Rate::from_bps(400 * MBIT));
        });
        bed.server_a(|it| it.sends(300 * MBIT).held(390 * MBIT, 0));
        assert_eq!(moves(&bed), ["wireonce vnic move vm-a --to east-2"]);
        bed.gateway_b(|it| it.health("sick", &["next-hop-silent"]));
        assert_eq!(moves(&bed), Vec::<String>::new());
        bed.gateway_b(|it| it);
        bed.gateway_a(|it| it.health("sick", &["next-hop-silent"]));
        assert_eq!(moves(&bed), Vec::<String>::new(), "it is at its standby");
    }

    #[test]
    fn where_limits_divide_the_pool_a_move_is_told() {
        let mut bed = Bed::new();
        for (name, mbit) in [("east/server-a", 300), ("east/server-b", 1_600)] {
            bed.grant(name, |grant| {
                let rate = Some(wireonce_desired::Rate::from_bps(mbit * MBIT));
                grant.up = Some(wireonce_desired::Terms {
                    reservation: rate,
                    limit: rate,
                    ..Default::default()
                });
            });
        }
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 0));
        bed.server_b(|it| it.sends(10 * MBIT));
        let command = "wireonce grant move --pool east --from server-b --to server-a 500Mbit";
        assert_eq!(lines(&bed)[0].command.as_deref(), Some(command));
    }

    #[test]
    fn a_limit_that_holds_back_beside_what_is_to_spare_is_told() {
        let mut bed = Bed::new();
        bed.grant("east/server-a", |grant| {
            let limit = Some(wireonce_desired::Rate::from_bps(300 * MBIT));
            grant.up = Some(wireonce_desired::Terms { limit, ..Default::default() });
        });
        bed.server_a(|it| it.sends(300 * MBIT).held(300 * MBIT, 0));
        bed.server_b(|it| it.sends(10 * MBIT));
        assert_eq!(
            lines(&bed)[0],
            AdviceLine {
                evidence:
                    "server-a wants 800Mbit up of pool east and may use 300Mbit; the pool has \
                           1669Mbit to spare: server-b reserves 400Mbit and wants 10Mbit"
                        .to_owned(),
                command: Some("wireonce grant set east/server-a up.limit=800Mbit".to_owned()),
            }
        );
    }

    #[test]
    fn a_gray_link_is_told_once_with_who_acts() {
        let mut bed = Bed::new();
        let gray = |to, from| LinkGrayStatus {
            lost_to_percent: to,
            lost_from_percent: from,
            ..LinkGrayStatus::default()
        };
        bed.server_a(|it| it.sends(100 * MBIT).gray("gateway-a", &gray(None, Some(30))));
        bed.server_b(|it| it.sends(100 * MBIT));
        bed.gateway_a(|it| it.gray("server-a", &gray(Some(31), None)));
        bed.gateway_b(|it| it);
        let lines = lines(&bed);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let start = "link gateway-a to server-a: 31 % of the hellos are lost;";
        assert!(lines[0].evidence.starts_with(start), "{lines:?}");
        assert_eq!(lines[0].command, None);
    }

    #[test]
    fn what_is_reserved_for_a_silent_server_is_not_given_away() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(300 * MBIT));
        let view = bed.view();
        let uses = grant_uses(&view, &Sight::of(&view));
        assert_eq!((uses[1].server.as_str(), uses[1].wants.up_bps), ("server-b", 400 * MBIT));
    }
}
