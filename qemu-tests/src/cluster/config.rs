//! The configuration file of each host of a cluster. Written from plain tables, not with the
//! product's own types: a test bed that shared them could not notice a changed key.

use toml::{Table, Value};

use super::metrics::METRICS_ADDRESS;
use super::{Cluster, Host, Role, UPLINK_INTERFACE, UplinkDriver};
use crate::error::{Error, Result};

/// The pool and the network that all is in.
const POOL: &str = "outside";
const NETWORK: &str = "blue";
const VNI: i64 = 100;

/// The file of `host`: all of it, or what is the host's own if a controller has the rest.
pub(super) fn render(cluster: &Cluster, host: &Host) -> Result<String> {
    let mut file = Table::new();
    file.insert("host".to_owned(), host_table(cluster, host));
    file.insert("fabric".to_owned(), fabric_table(cluster, host));
    if cluster.plan.controlled {
        let directory = path(&cluster.member_dir(&host.name));
        file.insert("control".to_owned(), table([("directory", directory)]));
        return text(&file);
    }
    if host.role == Role::Backend {
        let port = fabric_port(cluster);
        file.extend(port.map(|port| ("fabric_port".to_owned(), port)));
    }
    let others = cluster.hosts.iter().filter(|other| other.name != host.name);
    file.insert("peer".to_owned(), Value::Array(others.map(peer).collect()));
    add_objects(cluster, Some(host), &mut file)?;
    text(&file)
}

/// All objects, as `wireonce apply` takes them.
pub(super) fn house(cluster: &Cluster) -> Result<String> {
    let mut file = Table::new();
    for (kind, role) in [("server", Role::Backend), ("gateway", Role::Gateway)] {
        let port = fabric_port(cluster).filter(|_| role == Role::Backend);
        let with_port = |host: Value| match (host, port.clone()) {
            (Value::Table(host), Some(Value::Table(port))) => {
                Value::Table(host.into_iter().chain(port).collect())
            }
            (host, _) => host,
        };
        let hosts = cluster.hosts.iter().filter(|host| host.role == role);
        let hosts = hosts.map(|host| with_port(peer(host)));
        file.insert(kind.to_owned(), Value::Array(hosts.collect()));
    }
    file.insert("pool".to_owned(), Value::Array(vec![table([("name", POOL.into())])]));
    add_objects(cluster, None, &mut file)?;
    text(&file)
}

/// What is the same for all hosts, but for what a rogue is not told.
fn add_objects(cluster: &Cluster, host: Option<&Host>, file: &mut Table) -> Result<()> {
    let vlans = cluster.plan.vlans.iter().map(|vlan| vlan_network(*vlan));
    let networks = std::iter::once(network(cluster)).chain(vlans);
    file.insert("network".to_owned(), Value::Array(networks.collect()));
    let gateways = cluster.hosts.iter().filter(|other| other.role == Role::Gateway);
    let uplinks = (1..).zip(gateways).map(|(id, gateway)| uplink(cluster, host, id, gateway));
    file.insert("uplink".to_owned(), Value::Array(uplinks.collect()));
    let idle = cluster.plan.idle_vnics;
    let vms = (usize::from(idle) + 1..).zip(&cluster.plan.vms);
    let vnics = (1..=idle).map(|id| idle_vnic(cluster, id));
    let vnics = vnics.chain(vms.map(|(id, vm)| vnic(cluster, id, vm)));
    file.insert("vnic".to_owned(), Value::Array(vnics.collect::<Result<_>>()?));
    let limited = cluster.plan.vms.iter().filter_map(policy);
    file.insert("policy".to_owned(), Value::Array(limited.collect()));
    let grants = cluster.plan.shares.iter().enumerate();
    let grants = grants.map(|(server, shares)| grant(cluster, server, *shares));
    file.insert("grant".to_owned(), Value::Array(grants.collect::<Result<_>>()?));
    Ok(())
}

fn text(file: &Table) -> Result<String> {
    toml::to_string(file).map_err(|error| Error::Unexpected(format!("configuration: {error}")))
}

fn host_table(cluster: &Cluster, host: &Host) -> Value {
    let mut entries = vec![
        ("name", host.name.as_str().into()),
        ("private_key_file", path(&cluster.key_path(&host.name))),
        ("workers", i64::from(cluster.plan.workers).into()),
        ("control_socket", path(&cluster.control_socket(host))),
        ("state_directory", path(cluster.dir())),
    ];
    if cluster.plan.metrics {
        entries.push(("metrics_address", METRICS_ADDRESS.into()));
    }
    table(entries)
}

fn fabric_table(cluster: &Cluster, host: &Host) -> Value {
    let encryption = if cluster.plan.encrypted { "aes-256-gcm" } else { "off" };
    table([
        ("address", host.address.to_string().into()),
        ("paths", i64::from(cluster.plan.paths).into()),
        ("encryption", encryption.into()),
        ("failover", cluster.plan.failover.into()),
    ])
}

/// What a server's fabric port carries, if the plan says so.
fn fabric_port(cluster: &Cluster) -> Option<Value> {
    let keys = [("port_up", cluster.plan.port_up), ("port_down", cluster.plan.port_down)];
    let keys = keys.into_iter().filter_map(|(key, rate)| Some((key, rate?.into())));
    let keys: Vec<(&str, Value)> = keys.collect();
    (!keys.is_empty()).then(|| table(keys))
}

fn peer(host: &Host) -> Value {
    table([
        ("name", host.name.as_str().into()),
        ("address", host.address.to_string().into()),
        ("public_key", host.public_key.as_str().into()),
    ])
}

fn network(cluster: &Cluster) -> Value {
    let mut entries = vec![
        ("name", NETWORK.into()),
        ("vni", VNI.into()),
        ("mtu", i64::from(cluster.plan.network_mtu).into()),
    ];
    if cluster.plan.gateways > 0 {
        entries.push(("pool", POOL.into()));
    }
    table(entries)
}

fn vlan_network(vlan: u16) -> Value {
    let vlan = i64::from(vlan);
    let vni = VNI + vlan;
    let name = format!("vlan-{vlan}");
    table([
        ("name", name.into()),
        ("vni", vni.into()),
        ("pool", POOL.into()),
        ("vlan", vlan.into()),
    ])
}

fn uplink(cluster: &Cluster, host: Option<&Host>, id: usize, gateway: &Host) -> Value {
    let driver = match cluster.plan.driver {
        UplinkDriver::Packet => "packet",
        UplinkDriver::Tap => "tap",
    };
    let mut entries = vec![
        ("id", number(id)),
        ("name", uplink_name(id).into()),
        ("host", gateway.name.as_str().into()),
        ("pool", POOL.into()),
        ("driver", driver.into()),
        ("interface", UPLINK_INTERFACE.into()),
    ];
    let rogue = cluster.plan.rogue.and_then(|rogue| cluster.hosts.get(rogue));
    let is_rogue = rogue.zip(host).is_some_and(|(rogue, host)| rogue.name == host.name);
    if let (Some(up), false) = (cluster.plan.up, is_rogue) {
        entries.push(("up", up.into()));
    }
    if let Some(down) = cluster.plan.down {
        entries.push(("down", down.into()));
    }
    table(entries)
}

fn vnic(cluster: &Cluster, id: usize, vm: &super::VmPlan) -> Result<Value> {
    let host = cluster.host(vm.server)?;
    let mode = if cluster.plan.backend_listens { "listen" } else { "connect" };
    let addresses = Value::Array(vec![vm.address().to_string().into()]);
    let mut entries = vec![
        ("id", number(id)),
        ("name", vm.name.as_str().into()),
        ("host", host.name.as_str().into()),
        ("network", NETWORK.into()),
        ("mac", vm.mac().into()),
        ("addresses", addresses),
        ("socket", path(&cluster.vnic_socket(&vm.name))),
        ("socket_mode", mode.into()),
        ("queue_pairs", i64::from(vm.queue_pairs).into()),
    ];
    entries.extend(homes(cluster, vm));
    if policy(vm).is_some() {
        entries.push(("policy", vm.name.as_str().into()));
    }
    Ok(table(entries))
}

/// A vNIC whose VM does not run.
fn idle_vnic(cluster: &Cluster, id: u16) -> Result<Value> {
    let host = cluster.host(0)?;
    let name = format!("idle-{id}");
    let [high, low] = id.to_be_bytes();
    let mut entries = vec![
        ("id", i64::from(id).into()),
        ("name", name.as_str().into()),
        ("host", host.name.as_str().into()),
        ("network", NETWORK.into()),
        ("mac", format!("52:54:00:78:{high:02x}:{low:02x}").into()),
        ("addresses", Value::Array(vec![format!("10.78.{high}.{low}").into()])),
        ("socket", path(&cluster.vnic_socket(&name))),
        ("socket_mode", "listen".into()),
    ];
    entries.extend(cluster.plan.vms.first().into_iter().flat_map(|vm| homes(cluster, vm)));
    Ok(table(entries))
}

/// A VM's home and standbys, if there are gateways.
fn homes(cluster: &Cluster, vm: &super::VmPlan) -> Vec<(&'static str, Value)> {
    if cluster.plan.gateways == 0 {
        return Vec::new();
    }
    let standbys = vm.standbys.iter().map(|gateway| uplink_name(gateway + 1).into());
    vec![("home", uplink_name(vm.home + 1).into()), ("standbys", Value::Array(standbys.collect()))]
}

/// The policy of a VM that has limits; it has the VM's name.
fn policy(vm: &super::VmPlan) -> Option<Value> {
    let limits = [("up", vm.limit, vm.packet_limit), ("down", vm.down_limit, vm.down_packet_limit)];
    let terms = limits.into_iter().filter_map(|(way, limit, packets)| {
        let limit = limit.map(|limit| ("limit", Value::from(limit)));
        let packets = packets.map(|n| ("limit_packets_per_s", Value::from(i64::from(n))));
        let entries: Vec<_> = limit.into_iter().chain(packets).collect();
        (!entries.is_empty()).then(|| (way, table(entries)))
    });
    let terms: Vec<(&str, Value)> = terms.collect();
    (!terms.is_empty()).then(|| table([("name", vm.name.as_str().into())].into_iter().chain(terms)))
}

fn grant(cluster: &Cluster, server: usize, shares: i64) -> Result<Value> {
    let server = cluster.host(server)?;
    let terms = table([("shares", shares.into())]);
    Ok(table([
        ("pool", POOL.into()),
        ("server", server.name.as_str().into()),
        ("up", terms.clone()),
        ("down", terms),
    ]))
}

fn uplink_name(id: usize) -> String {
    format!("uplink-{id}")
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn number(value: usize) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

fn path(path: &std::path::Path) -> Value {
    path.to_string_lossy().into_owned().into()
}
