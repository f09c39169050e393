//! What a controller says of itself and of its hosts.

use crate::writer::{Labels, Writer, flag, label, page_of};
use prometheus_client::registry::Unit;
use std::fmt;
use wireonce_ledger::control::{ControlStatus, HostStanding};

/// The metrics of a controller, in the text format of OpenMetrics 1.0.
#[must_use]
pub fn render_control(status: &ControlStatus) -> String {
    page_of(status, |page, status| {
        controller(page, status)?;
        hosts(page, status)?;
        certificates(page, status)
    })
}

fn controller(page: &mut Writer<'_, '_>, status: &ControlStatus) -> fmt::Result {
    let labels = vec![label("role", "control"), label("version", &status.version)];
    page.gauges("daemon_info", "What this daemon is; always 1", None, [(labels, 1.0)])?;
    let uptime_s = status.uptime_s as f64;
    page.gauges("uptime", "Time since the start", Some(&Unit::Seconds), [(vec![], uptime_s)])?;
    let one = |count: u64| [(Labels::new(), count as f64)];
    page.gauges("control_revision", "The newest revision", None, one(status.revision))?;
    let help = "Lines of the audit trail";
    page.counters("control_audit_lines", help, None, [(vec![], status.audit_lines)])?;
    let help = "Requests that wait for an answer";
    page.gauges("control_requests_open", help, None, one(status.requests_open))?;
    let help = "Grants that end by themselves";
    page.gauges("control_timed_grants", help, None, one(status.timed_grants))?;
    let objects = status.objects.iter();
    let objects = objects.map(|(kind, count)| (vec![label("kind", kind)], *count as f64));
    page.gauges("control_objects", "Objects of the desired state", None, objects)
}

fn hosts(page: &mut Writer<'_, '_>, status: &ControlStatus) -> fmt::Result {
    let labels = |it: &HostStanding| vec![label("host", &it.name), label("kind", &it.kind)];
    let heard = status.hosts.iter().map(|it| (labels(it), flag(it.is_heard)));
    let help = "0 while the host says nothing of itself";
    page.gauges("control_host_heard", help, None, heard)?;
    let silent = status.hosts.iter();
    let silent = silent.filter_map(|it| Some((labels(it), it.silent_us? as f64 / 1e6)));
    let help = "Time since the host was heard; absent: it was not since the controller started";
    page.gauges("control_host_silent", help, Some(&Unit::Seconds), silent)?;
    let refused = status.hosts.iter().map(|it| (labels(it), flag(it.has_refused)));
    let help = "1 while the host refuses its newest text, and serves the one before it";
    page.gauges("control_host_text_refused", help, None, refused)
}

fn certificates(page: &mut Writer<'_, '_>, status: &ControlStatus) -> fmt::Result {
    let ends = status
        .certificates
        .iter()
        .map(|it| (vec![label("holder", &it.holder), label("name", &it.name)], it.until_s as f64));
    let help = "When the certificate of a host or person ends, in seconds since 1970";
    page.gauges("control_certificate_end_timestamp", help, Some(&Unit::Seconds), ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use wireonce_ledger::control::CertificateEnd;

    #[test]
    fn a_controller_is_said_in_metrics_with_units_and_labels() {
        let host = |name: &str, is_heard, silent_us, has_refused| HostStanding {
            name: name.to_owned(),
            kind: "server".to_owned(),
            is_heard,
            silent_us,
            has_refused,
        };
        let page = render_control(&ControlStatus {
            version: "0.1.0".to_owned(),
            uptime_s: 7,
            revision: 12,
            audit_lines: 40,
            requests_open: 2,
            timed_grants: 1,
            objects: BTreeMap::from([("vnic".to_owned(), 3)]),
            hosts: vec![host("a", true, Some(1_500_000), true), host("b", false, None, false)],
            certificates: vec![CertificateEnd {
                holder: "user".to_owned(),
                name: "nina".to_owned(),
                until_s: 1_772_388_000,
            }],
        });
        for line in [
            "wireonce_daemon_info{role=\"control\",version=\"0.1.0\"} 1.0",
            "wireonce_uptime_seconds 7.0",
            "wireonce_control_revision 12.0",
            "wireonce_control_audit_lines_total 40",
            "wireonce_control_requests_open 2.0",
            "wireonce_control_timed_grants 1.0",
            "wireonce_control_objects{kind=\"vnic\"} 3.0",
            "wireonce_control_host_heard{host=\"a\",kind=\"server\"} 1.0",
            "wireonce_control_host_heard{host=\"b\",kind=\"server\"} 0.0",
            "wireonce_control_host_silent_seconds{host=\"a\",kind=\"server\"} 1.5",
            "wireonce_control_host_text_refused{host=\"a\",kind=\"server\"} 1.0",
            "wireonce_control_certificate_end_timestamp_seconds{holder=\"user\",name=\"nina\"} \
             1772388000.0",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\nis not in\n{page}");
        }
        assert!(!page.contains("silent_seconds{host=\"b\""), "who was never heard has no age");
        assert!(page.ends_with("# EOF\n"));
    }
}
