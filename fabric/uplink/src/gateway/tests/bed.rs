//! Where the stories play: outside -- gateway -- server, each in a namespace.

use super::server::Server;
use crate::{
    gateway::Gateway,
    testbed::{Namespace, Raw},
};
use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use wireonce_config::Config;
use wireonce_host::{Applied, ApplyError, Daemon};
use wireonce_ledger::{Amount, DropReason, Stage, Status, status::LedgerRow};
use wireonce_link::StaticKey;

/// One network on VLAN 20, with one vNIC at the server. Each host takes for its own
/// what is on it: the uplink's port, the vNIC's socket.
const COMMON: &str = r#"
[[network]]
name = "green"
vni = 200
pool = "outside"
vlan = 20

[[vnic]]
id = 1
name = "a1"
host = "server"
network = "green"
mac = "52:54:00:00:00:01"
addresses = ["192.0.2.1"]
home = "up"
socket = "/run/a1.sock"

[[uplink]]
id = 7
name = "up"
host = "gateway"
pool = "outside"
driver = "packet"
interface = "up0"
"#;

/// A second vNIC in the network, at home at a second uplink of the pool.
pub(super) const POOL: &str = r#"
[[uplink]]
id = 8
name = "up-b"
host = "gateway"
pool = "outside"
driver = "packet"
interface = "up1"

[[vnic]]
id = 2
name = "a2"
host = "server"
network = "green"
mac = "52:54:00:00:00:02"
home = "up-b"
socket = "/run/a2.sock"
"#;

/// Three namespaces, and what the configurations of the two hosts say.
pub(super) struct Bed {
    pub(super) outside: Namespace,
    /// The stranger's interface outside.
    stranger: &'static str,
    gateway: Namespace,
    pub(super) server: Namespace,
    /// Of the gateway.
    pub(super) workers: u16,
    /// Of the gateway and of the server.
    pub(super) encryption: [&'static str; 2],
    /// More keys of the uplink `up`.
    pub(super) uplink_keys: &'static str,
    /// More tables.
    pub(super) more: &'static str,
    /// The home of the first vNIC.
    pub(super) home: &'static str,
    keys: [StaticKey; 2],
    dir: tempfile::TempDir,
}

/// Who is there while a story plays. The server is up.
pub(super) struct Scene<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) server: Server,
    /// The stranger's port outside.
    pub(super) outside: Raw,
}

impl Bed {
    /// The stranger sits at the other end of the uplink's cable.
    pub(super) fn new() -> Option<Self> {
        let (outside, gateway) = (Namespace::new()?, Namespace::new()?);
        let server = Namespace::new()?;
        gateway.veth("up0", &outside, "out0");
        gateway.veth("fab0", &server, "fab0");
        gateway.ip("addr add 10.9.0.1/24 dev fab0");
        server.ip("addr add 10.9.0.2/24 dev fab0");
        Some(Self {
            outside,
            stranger: "out0",
            gateway,
            server,
            workers: 1,
            encryption: ["aes-256-gcm"; 2],
            uplink_keys: "",
            more: "",
            home: "up",
            keys: [StaticKey::generate().unwrap(), StaticKey::generate().unwrap()],
            dir: tempfile::tempdir().unwrap(),
        })
    }

    /// Outside is a switch with two uplinks of one pool, and the stranger at a port.
    pub(super) fn pool() -> Option<Self> {
        let bed = Self::new()?;
        bed.gateway.veth("up1", &bed.outside, "out1");
        bed.outside.veth("stranger", &bed.outside, "port");
        bed.outside.ip("link add switch type bridge mcast_snooping 0");
        for port in ["out0", "out1", "port"] {
            bed.outside.ip(&format!("link set {port} master switch"));
        }
        bed.outside.ip("link set switch up");
        Some(Self { stranger: "stranger", more: POOL, ..bed })
    }

    /// Plays `story` with gateway and server connected. Returns what the gateway says
    /// afterwards, when it has accounted for every frame.
    pub(super) fn play(&self, story: impl FnOnce(&mut Scene<'_>) + Send) -> Status {
        let gateway = self.start_gateway();
        self.server.run(|| {
            let mut server = Server::start(self);
            server.wait_until_up();
            let mut scene = Scene { gateway: &gateway, server, outside: self.listen_outside() };
            story(&mut scene);
            scene.settle();
        });
        let status = gateway.status();
        gateway.stop();
        must_close(&status);
        status
    }

    pub(super) fn start_gateway(&self) -> Gateway {
        let config = self.config(0);
        self.gateway.run(|| Gateway::start(&config, &mpsc::channel().0).unwrap())
    }

    /// The gateway's configuration with these tables more, and this home of the first vNIC.
    pub(super) fn config_with(&mut self, more: &'static str, home: &'static str) -> Arc<Config> {
        (self.more, self.home) = (more, home);
        self.config(0)
    }

    /// The gateway gets another configuration.
    pub(super) fn change(
        &self,
        gateway: &mut Gateway,
        config: &Arc<Config>,
    ) -> Result<Applied, ApplyError> {
        self.gateway.run(|| gateway.apply(config))
    }

    /// The stranger's port.
    pub(super) fn listen_outside(&self) -> Raw {
        self.outside.run(|| Raw::open(self.stranger))
    }

    /// The configuration of the gateway (0) or the server (1).
    pub(super) fn config(&self, own: usize) -> Arc<Config> {
        let hosts = [("gateway", "10.9.0.1"), ("server", "10.9.0.2")];
        let (name, address) = hosts[own];
        let (peer, peer_address) = hosts[1 - own];
        let key_file = self.dir.path().join(name);
        if !key_file.exists() {
            self.keys[own].write_new(&key_file).unwrap();
        }
        let workers = if own == 0 { self.workers } else { 1 };
        let text = [
            &format!("[host]\nname = \"{name}\"\nworkers = {workers}\n"),
            &format!("private_key_file = \"{}\"\n", key_file.display()),
            &format!("[fabric]\naddress = \"{address}\"\nmtu = 1500\n"),
            &format!("encryption = \"{}\"\n", self.encryption[own]),
            &format!("[[peer]]\nname = \"{peer}\"\naddress = \"{peer_address}\"\n"),
            &format!("public_key = \"{}\"\n", self.keys[1 - own].public()),
            &COMMON.replace("home = \"up\"", &format!("home = \"{}\"", self.home)),
            self.uplink_keys,
            self.more,
        ];
        Arc::new(Config::parse(&text.concat(), name).unwrap())
    }
}

impl Scene<'_> {
    /// Lets the server confirm what arrived until the gateway's books close, if they do.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.gateway.status().ledger.iter().all(|row| row.open_frames == 0) {
                return;
            }
            self.server.turn();
        }
    }
}

/// Waits until the gateway's status is `so`.
pub(super) fn wait_for(gateway: &Gateway, what: &str, so: impl Fn(&Status) -> bool) {
    for _ in 0..500 {
        if so(&gateway.status()) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}: {:#?}", gateway.status());
}

/// Every frame in every book came out or has the name of its drop.
pub(super) fn must_close(status: &Status) {
    for row in &status.ledger {
        assert_eq!(row.open_frames, 0, "{row:?}");
    }
}

/// The book of a vNIC or uplink at a stage.
pub(super) fn row<'s>(status: &'s Status, name: &str, stage: Stage) -> &'s LedgerRow {
    let found = status.ledger.iter().find(|row| row.name == name && row.stage == stage);
    found.unwrap_or_else(|| panic!("no row {name} {stage:?}: {:#?}", status.ledger))
}

/// What was dropped for `reason`, at all stages together.
pub(super) fn dropped(status: &Status, name: &str, reason: DropReason) -> Amount {
    let mut sum = Amount::ZERO;
    for row in status.ledger.iter().filter(|row| row.name == name) {
        sum += row.drops.get(reason.name()).copied().unwrap_or_default();
    }
    sum
}
