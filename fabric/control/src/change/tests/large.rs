//! What a change costs in a house of ten thousand vNICs: printed, not judged.

use super::*;
use crate::change::Rehome;
use std::{fmt::Write as _, time::Instant};

const VNICS: u32 = 10_000;
const SERVERS: u32 = 100;
const UPLINKS: u32 = 40;

fn house() -> String {
    let mut text = String::from(
        "[[pool]]\nname = \"east\"\n[[network]]\nname = \"blue\"\nvni = 1\npool = \"east\"\n\
         [[policy]]\nname = \"gold\"\nup = { reservation = \"50Mbit\" }\n",
    );
    let key = |number: u32| {
        let digits: String =
            format!("{number:08}").chars().map(|c| if c == '0' { 'A' } else { c }).collect();
        format!("{digits}BgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    };
    for at in 0..SERVERS + UPLINKS {
        let (kind, name) = if at < SERVERS { ("server", at) } else { ("gateway", at - SERVERS) };
        let (high, low) = (at / 200, at % 200);
        let _ = write!(
            text,
            "[[{kind}]]\nname = \"{kind}-{name}\"\naddress = \"10.{high}.0.{}\"\nmachine = \
             \"m{name}\"\npublic_key = \"{}\"\n",
            low + 1,
            key(at)
        );
    }
    for at in 0..UPLINKS {
        let _ = write!(
            text,
            "[[uplink]]\nname = \"east-{at}\"\nhost = \"gateway-{at}\"\npool = \"east\"\ndriver = \
             \"packet\"\ninterface = \"eth1\"\nup = \"25Gbit\"\ndown = \"25Gbit\"\n"
        );
    }
    for at in 0..SERVERS {
        let _ = write!(
            text,
            "[[grant]]\npool = \"east\"\nserver = \"server-{at}\"\nup = {{ reservation = \
             \"6Gbit\" }}\n"
        );
    }
    for at in 0..VNICS {
        let policy = if at % 2 == 0 { "policy = \"gold\"\n" } else { "" };
        let _ = write!(
            text,
            "[[vnic]]\nname = \"vm-{at}\"\nhost = \"server-{}\"\nnetwork = \"blue\"\nmac = \
             \"52:54:00:00:{:02x}:{:02x}\"\nsocket = \"/run/vm-{at}.sock\"\n{policy}",
            at % SERVERS,
            at >> 8,
            at & 255
        );
    }
    text
}

#[test]
#[ignore = "a measurement: run it with --run-ignored only --no-capture"]
fn ten_thousand_vnics() {
    let controller = empty();
    let timed = |what: &str, change: &Change| {
        let start = Instant::now();
        controller.change(&admin(), change, false, NOW).unwrap();
        println!("{what}: {} ms", start.elapsed().as_millis());
    };
    let objects = read::toml(&house()).unwrap();
    timed("all of it at once", &Change::put_all(objects));
    let one = "[[vnic]]\nname = \"vm-x\"\nhost = \"server-1\"\nnetwork = \"blue\"\nmac = \
               \"52:54:00:99:00:01\"\nsocket = \"/run/vm-x.sock\"\npolicy = \"gold\"\n";
    timed("a vNIC more", &Change::put_all(read::toml(one).unwrap()));
    let rehome = Rehome { vnic: "vm-7".to_owned(), to: "east-30".to_owned() };
    timed("a move", &Change::one(Edit::Rehome(rehome)));
    let drain = |draining| Change::one(Edit::Drain(Kind::Uplink, "east-3".to_owned(), draining));
    timed("a drain", &drain(true));
    timed("its end", &drain(false));
    timed("bandwidth between servers", &shift("server-1", "server-2", "1Gbit", None));
    let start = Instant::now();
    controller.propose("east", NOW).unwrap();
    println!("a plan: {} ms", start.elapsed().as_millis());
}
