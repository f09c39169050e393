//! The examples in the documentation are good files, and agree with each other.

use crate::Config;
use std::path::{Path, PathBuf};

fn examples() -> Vec<Config> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    paths.iter().map(|path| Config::load(path).unwrap()).collect()
}

#[test]
fn every_example_is_valid() {
    let names: Vec<_> = examples().into_iter().map(|config| config.host.name).collect();
    assert_eq!(names, ["gateway-a", "server-a", "server-b"]);
}

#[test]
fn the_hosts_of_the_examples_know_each_other() {
    let all = examples();
    for here in &all {
        for there in all.iter().filter(|there| there.host.name != here.host.name) {
            let peer = here.peer(&there.host.name).expect("a peer");
            assert_eq!((peer.address, peer.port), (there.fabric.address, there.fabric.port));
        }
        assert_eq!(here.networks.len(), 2);
        assert_eq!(here.vnics.len(), 3);
    }
}
