//! What one network interface offers: carrier, MTU, segmentation.

use super::Finding;
use std::{fs, path::PathBuf, process::Command};

/// The offloads that matter: ethtool's name, and what is lost without.
const OFFLOADS: [(&str, &str); 4] = [
    ("tcp-segmentation-offload", "an uplink segments guests' TCP in software"),
    ("tx-udp-segmentation", "trains are cut into datagrams in software, above the driver"),
    ("generic-receive-offload", "datagrams and segments arrive one by one"),
    ("tx-checksumming", "checksums are computed in software"),
];

/// All about the interface `name`.
pub(super) fn all(name: &str) -> Vec<Finding> {
    let place = PathBuf::from("/sys/class/net").join(name);
    let check = |what: &str| format!("{name} {what}");
    // A name with a slash would look elsewhere.
    if name.contains('/') || !place.exists() {
        let advice = "give an interface that `ip link` shows";
        return vec![Finding::fail(&check("interface"), "does not exist", advice)];
    }
    let read = |file: &str| {
        fs::read_to_string(place.join(file)).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let mut findings = vec![
        match read("carrier").as_str() {
            "1" => Finding::ok(&check("carrier"), "has a link"),
            _ => Finding::warn(
                &check("carrier"),
                "has no link",
                format!("ip link set {name} up, and check the cable"),
            ),
        },
        Finding::ok(&check("mtu"), read("mtu")),
    ];
    findings.extend(offloads(name));
    findings
}

/// What `ethtool -k` says.
fn offloads(name: &str) -> Vec<Finding> {
    let output = match Command::new("ethtool").args(["-k", name]).output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
            return vec![Finding::warn(
                &format!("{name} offloads"),
                format!("unknown: {said}"),
                "",
            )];
        }
        Err(error) => {
            let found = format!("unknown: ethtool: {error}");
            return vec![Finding::warn(&format!("{name} offloads"), found, "apt install ethtool")];
        }
    };
    judge(name, &String::from_utf8_lossy(&output))
}

fn judge(name: &str, features: &str) -> Vec<Finding> {
    OFFLOADS
        .iter()
        .map(|(feature, loss)| {
            let check = format!("{name} {feature}");
            let value = features
                .lines()
                .find_map(|line| line.trim().strip_prefix(feature)?.strip_prefix(':'));
            match value.map(str::trim) {
                Some(value) if value.starts_with("on") => Finding::ok(&check, value),
                Some("off") => Finding::warn(
                    &check,
                    format!("off: {loss}"),
                    format!("ethtool -K {name} {feature} on"),
                ),
                Some(_) => Finding::warn(&check, format!("not offered: {loss}"), ""),
                None => Finding::warn(&check, format!("unknown: {loss}, perhaps"), ""),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn features_are_judged_line_by_line() {
        let features = "Features for eth0:\n\
                        tx-checksumming: on\n\
                        \ttx-checksum-ipv4: on\n\
                        tcp-segmentation-offload: off\n\
                        tx-udp-segmentation: off [fixed]\n";
        let findings = judge("eth0", features);
        let levels: Vec<_> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Warn, Level::Warn, Level::Warn, Level::Ok]);
        assert_eq!(findings[0].advice, "ethtool -K eth0 tcp-segmentation-offload on");
        assert!(findings[1].found.starts_with("not offered"), "{}", findings[1].found);
        assert!(findings[2].found.starts_with("unknown"), "{}", findings[2].found);
    }

    #[test]
    fn an_interface_that_is_not_there_fails() {
        for name in ["wo-none", "../lo", "lo/../lo"] {
            assert_eq!(all(name)[0].level, Level::Fail, "{name}");
        }
    }
}
