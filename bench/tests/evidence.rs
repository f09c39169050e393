//! A server starves beside one that idles: both teams see it, the advised command cures it, and the
//! next look says so. Daemons, controller and traffic are real; the test carries the controller's
//! texts to the daemons' files, and their reports to the controller.
#![expect(clippy::tests_outside_test_module, reason = "an integration test is one as a whole")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;
use std::{fs, io::Write, os::unix::net::UnixStream};

use serde_json::{Value, json};
use wireonce_bench::suite::wait_links;
use wireonce_bench::tapend::TapEnd;
use wireonce_bench::vm_end::vm_end;
use wireonce_qemu_tests::cluster::{Cluster, Plan, Profile, VmPlan, daemon_binary};
use wireonce_qemu_tests::iperf::wait_served;
use wireonce_qemu_tests::netns::Netns;
use wireonce_qemu_tests::process::{Process, run, wait_until};
use wireonce_qemu_tests::{Error, Result};

const LIMIT: Duration = Duration::from_secs(30);
const MBIT: u64 = 1_000_000;
const SERVERS: usize = 2;

/// A cluster whose hosts' files are made by a controller.
struct Bed {
    // Before what they use.
    reporter: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    loads: Vec<Process>,
    ends: Vec<(TapEnd, Netns)>,
    cluster: Cluster,
    control: Process,
    binary: PathBuf,
    heads: Vec<String>,
}

impl Bed {
    fn start(tag: &str) -> Result<Self> {
        let plan = Plan { up: Some("200Mbit"), ..Plan::new(tag, SERVERS) }
            .vm(VmPlan::new("vm-a", 0, 11))
            .vm(VmPlan::new("vm-b", 1, 12));
        let binary = daemon_binary(Profile::Dev)?;
        let cluster = Cluster::build(plan, &binary)?;
        let dir = cluster.dir().to_owned();
        let socket = dir.join("control.sock");
        let settings = dir.join("control.toml");
        let text = format!("[control]\nstore = {:?}\nsocket = {socket:?}\n", dir.join("store"));
        fs::write(&settings, text).map_err(|error| Error::Unexpected(error.to_string()))?;
        let mut command = Command::new(&binary);
        command.arg("control").arg("--config").arg(&settings);
        let control = Process::start("control", &dir, &mut command)?;
        let mut bed = Self {
            reporter: None,
            loads: Vec::new(),
            ends: Vec::new(),
            cluster,
            control,
            binary,
            heads: Vec::new(),
        };
        wait_until("the controller", LIMIT, || Ok(bed.verb(&["export"]).ok().map(drop)))?;
        bed.adopt()?;
        bed.verb(&["grant", "set", "outside/server-a", "up.reservation=120Mbit"])?;
        bed.verb(&["grant", "set", "outside/server-b", "up.limit=40Mbit"])?;
        bed.serve()?;
        bed.cluster.start()?;
        bed.attach()?;
        bed.report();
        Ok(bed)
    }

    /// Has the controller take what stands below `[host]` and `[fabric]` in the hosts' files.
    fn adopt(&mut self) -> Result<()> {
        let mut files = Vec::new();
        for host in self.cluster.hosts() {
            let text = fs::read_to_string(self.cluster.config_path(host))
                .map_err(|error| Error::Unexpected(error.to_string()))?;
            let table: toml::Table = text
                .parse()
                .map_err(|error: toml::de::Error| Error::Unexpected(error.to_string()))?;
            files.push(table);
        }
        let mut house = files.first().cloned().unwrap_or_default();
        let others = files.get(1).and_then(|file| file.get("peer")).and_then(toml::Value::as_array);
        let others = others.cloned().unwrap_or_default();
        // Each file lists all others: two of them together list all.
        if let Some(peers) = house.get_mut("peer").and_then(toml::Value::as_array_mut) {
            for peer in others {
                if !peers.contains(&peer) {
                    peers.push(peer);
                }
            }
        }
        house.remove("host");
        house.remove("fabric");
        for mut file in files {
            file.retain(|key, _| key == "host" || key == "fabric");
            self.heads.push(file.to_string());
        }
        let path = self.cluster.dir().join("house.toml");
        fs::write(&path, house.to_string())
            .map_err(|error| Error::Unexpected(error.to_string()))?;
        self.verb(&["apply", "-f", &path.to_string_lossy()]).map(drop)
    }

    /// Writes each host's file as the controller has it.
    fn serve(&self) -> Result<()> {
        for (host, head) in self.cluster.hosts().iter().zip(&self.heads) {
            let text = self.get(&format!("/v1/hosts/{}/text", host.name))?;
            fs::write(self.cluster.config_path(host), format!("{head}\n{text}"))
                .map_err(|error| Error::Unexpected(error.to_string()))?;
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<()> {
        for vm in &self.cluster.plan().vms {
            self.ends.push(vm_end(&self.cluster, vm, None)?);
        }
        (0..SERVERS).try_for_each(|server| wait_links(&self.cluster, server))
    }

    /// From now on the daemons' statuses go to the controller, each second.
    fn report(&mut self) {
        let stop = Arc::new(AtomicBool::new(false));
        let (binary, socket) = (self.binary.clone(), self.cluster.dir().join("control.sock"));
        let hosts = self.cluster.hosts().iter();
        let hosts: Vec<_> =
            hosts.map(|host| (host.name.clone(), self.cluster.control_socket(host))).collect();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (name, path) in &hosts {
                    let mut status = Command::new(&binary);
                    status.args(["status", "--json", "--socket"]).arg(path);
                    let Ok(text) = run(&mut status, LIMIT) else { continue };
                    let Ok(status) = serde_json::from_str::<Value>(&text) else { continue };
                    let body = json!({ "status": status }).to_string();
                    // A report that does not arrive is followed by another.
                    let _ = ask(&socket, "PUT", &format!("/v1/hosts/{name}/report"), &body);
                }
                sleep(Duration::from_secs(1));
            }
        });
        self.reporter = Some((stop, thread));
    }

    /// What one of the operator's verbs prints.
    fn verb(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.args(args).arg("--socket").arg(self.cluster.dir().join("control.sock"));
        run(&mut command, LIMIT)
    }

    fn get(&self, path: &str) -> Result<String> {
        ask(&self.cluster.dir().join("control.sock"), "GET", path, "")
    }

    /// An end sends to the outside until the bed is dropped.
    fn send(&mut self, end: usize, rate: &str) -> Result<()> {
        let port = 5_301 + u16::try_from(end).unwrap_or(0);
        let dir = self.cluster.dir().to_owned();
        let mut outside = self.cluster.outside();
        let mut server = outside.command("iperf3");
        server.args(["-s", "-p", &port.to_string()]);
        self.loads.push(Process::start(&format!("iperf-server-{end}"), &dir, &mut server)?);
        wait_served(&mut outside, port)?;
        let (_, netns) = self.ends.get(end).ok_or_else(|| Error::Unexpected("no end".into()))?;
        let to = self.cluster.outside_address().to_string();
        let mut client = netns.command("iperf3");
        client.args(["-c", &to, "-p", &port.to_string(), "-t", "90", "-C", "cubic"]);
        // Paced by the kernel: who was held back does not make up for it later.
        client.args(["--fq-rate", rate]);
        self.loads.push(Process::start(&format!("iperf-client-{end}"), &dir, &mut client)?);
        Ok(())
    }

    /// Waits until the view says something of vm-b.
    fn wait_vm_b(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        wait_until(what, LIMIT, || {
            let now: Value = serde_json::from_str(&self.verb(&["top", "--once", "--json"])?)
                .map_err(|error| Error::Unexpected(error.to_string()))?;
            let rows = now["vnics"].as_array().cloned().unwrap_or_default();
            Ok(rows.iter().find(|row| row["name"] == "vm-b").filter(|row| is_so(row)).map(drop))
        })
        .map_err(|error| Error::Unexpected(format!("{error}\n{}", self.cluster.all_logs())))
    }

    /// Prints what a verb says, as an operator sees it.
    fn show(&self, args: &[&str]) -> Result<String> {
        let said = self.verb(args)?;
        println!("$ wireonce {}\n{said}", args.join(" "));
        Ok(said)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.reporter.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        let _ = self.control.terminate(LIMIT);
    }
}

/// One question over the controller's socket, without a library.
fn ask(socket: &std::path::Path, method: &str, path: &str, body: &str) -> Result<String> {
    let failed = |error: std::io::Error| Error::Unexpected(format!("{path}: {error}"));
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let answer = std::io::read_to_string(stream).map_err(failed)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(Error::Unexpected(format!("{path}: {answer}"))),
    }
}

#[test]
fn a_starved_server_is_seen_explained_and_cured_by_the_command_that_is_advised() {
    let test = || -> Result<()> {
        let mut bed = Bed::start("evid")?;
        bed.send(0, "20M")?;
        bed.send(1, "100M")?;
        bed.wait_vm_b("vm-b to starve", |row| row["held_percent"].as_u64() >= Some(80))?;
        let top = bed.show(&["top", "--once"])?;
        assert!(top.contains("starved in outside: server-b"), "{top}");
        assert!(top.contains("surplus in outside: server-a"), "{top}");

        let explained = bed.show(&["explain", "vm-b", "--for", "2s"])?;
        assert!(explained.contains("PROVED grant-limit, at shaper on server-b"), "{explained}");
        assert!(!explained.contains("UNKNOWN"), "{explained}");
        let idle = bed.show(&["explain", "vm-a", "--for", "2s"])?;
        assert!(idle.contains("nothing-wrong-here"), "{idle}");

        let advice = bed.show(&["advise"])?;
        let command = advice.lines().find_map(|line| line.strip_prefix("    wireonce "));
        let command = command.ok_or_else(|| Error::Unexpected(advice.clone()))?;
        let command: Vec<&str> = command.split_whitespace().collect();
        bed.show(
            &[&command[..], &["--as", "virtualisation", "--reason", "vm-b starves"]].concat(),
        )?;
        bed.serve()?;
        for host in 0..=SERVERS {
            bed.cluster.reload(host)?;
        }
        let cured =
            |row: &Value| row["held"] == false && row["rate"]["up_bps"].as_u64() >= Some(80 * MBIT);
        bed.wait_vm_b("vm-b to have more than twice as much, and enough", cured)?;
        bed.show(&["top", "--once", "--table", "pools"])?;
        let explained = bed.show(&["explain", "vm-b", "--for", "2s"])?;
        assert!(!explained.contains("grant-limit"), "{explained}");
        bed.show(&["audit", "--limit", "1"])?;
        Ok(())
    };
    test().unwrap();
}
