//! Everything left running, and how to look around.

use std::path::Path;

use wireonce_qemu_tests::{Error, Result};

use super::Story;

impl Story<'_> {
    /// Tells how to look around and waits for Enter.
    pub(crate) fn keep(&self, binary: &Path) -> Result<()> {
        let (cluster, binary) = (&self.cluster, binary.display());
        let io = |source| Error::Io { what: "standard input".to_owned(), source };
        let this = std::env::current_exe().map_err(io)?;
        let outside = cluster.outside().name();
        self.report.title("Everything keeps running. In another terminal, as root:");
        println!("  a shell in a VM (Ctrl-] leaves):");
        for vm in &cluster.plan().vms {
            let console = cluster.console_socket(&vm.name);
            println!("    {} --console {}", this.display(), console.display());
        }
        println!("  the outside, then try `ping 192.0.2.11` or `iperf3 -s`:");
        println!("    ip netns exec {outside} sh");
        println!("  the controller, with any of the operator's verbs:");
        for verb in ["top", "advise", "explain vm-a", "grant use", "audit", "export"] {
            println!("    {binary} {verb} --socket {}", cluster.house_socket().display());
        }
        println!("  a host, its books and its configuration:");
        for host in cluster.hosts() {
            let (socket, config) = (cluster.control_socket(host), cluster.config_path(host));
            println!("    ip netns exec {} sh", host.netns.name());
            println!("    {binary} status --socket {}", socket.display());
            println!("    less {}", config.display());
        }
        println!("\nEnter or Ctrl-C ends the demo and removes everything.");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(io)?;
        Ok(())
    }
}
