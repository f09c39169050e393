//! What is beyond the budget is asked for, and the network team answers.

use serde_json::Value;
use wireonce_qemu_tests::cluster::Cluster;
use wireonce_qemu_tests::{Error, Result};

use super::{POOL, Story, asked, typed};

const ASKED: &str = "380Mbit";
const CEILING: &str = "300Mbit";
const TIME: &str = "10m";
const LOOK_AT: &str = "`wireonce request list --all` and `wireonce audit` (with --keep), \
                       docs/control.md";

impl Story<'_> {
    /// The virtualisation team asks for more than the budget has, and gets some of it for a time.
    pub(super) fn request(&self) -> Result<()> {
        let (cluster, report) = (&self.cluster, self.report);
        let (grant, rate) = (format!("{POOL}/server-b"), format!("up.reservation={ASKED}"));
        let limit = format!("up.limit={ASKED}");
        let ask = ["grant", "set", &grant, &rate, &limit, "--as", "virtualisation"];
        let number = Self::step(report, "more than the budget is a request", LOOK_AT, || {
            let said = cluster.verb(&[&ask[..], &["--reason", "backup tonight"]].concat())?;
            let number = open_request(cluster)?;
            let why = said.lines().last().unwrap_or_default().to_owned();
            Ok((number, why))
        })?;
        report.note(&typed(&ask));
        let words = ["request", "approve", &number, "--ceiling", CEILING, "--for", TIME];
        let words = [&words[..], &["--as", "network"]].concat();
        Self::step(report, "approved, with a ceiling and an end", LOOK_AT, || {
            cluster.verb(&words)?;
            let object = asked(cluster, &["grant", "show", &grant])?;
            let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("-");
            let (reserved, until) = (text("/object/up/reservation"), text("/object/until"));
            if reserved != CEILING || until == "-" {
                return Err(Error::Unexpected(format!("the grant is now {object}")));
            }
            Ok(((), format!("server-b reserves {reserved} until {until}")))
        })?;
        report.note(&typed(&words));
        Ok(())
    }
}

/// The number of the one request that waits.
fn open_request(cluster: &Cluster) -> Result<String> {
    let requests = asked(cluster, &["request", "list"])?;
    let first = requests.get(0).and_then(|request| request.get("number")).and_then(Value::as_u64);
    let none = || Error::Unexpected("it was not kept as a request".to_owned());
    first.map(|number| number.to_string()).ok_or_else(none)
}
