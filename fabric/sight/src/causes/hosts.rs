//! What the hosts' own state is the cause of, or hides.

use super::{Found, Who};
use crate::{explain::Case, text, view::Text};
use wireonce_desired::Kind;
use wireonce_placement::Command;

/// Its server or the gateway of its home does not serve what it should.
pub(super) fn behind(case: &Case<'_>) -> Option<Found> {
    let hosts = concerned(case);
    // The gateway's first: it concerns more than this vNIC.
    hosts.into_iter().rev().find_map(|(kind, host)| {
        let (text, why) = case.view.text(host);
        let what = match text {
            Text::Refused => {
                format!("refused its newest configuration: {}", why.unwrap_or_default())
            }
            Text::Behind => "serves an older configuration than the house has".to_owned(),
            Text::Unknown | Text::UpToDate => return None,
        };
        Some(Found::proved(host, what, owner(kind)))
    })
}

/// Something would have to be heard to say more.
pub(super) fn not_heard(case: &Case<'_>) -> Option<Found> {
    let mut missing = Vec::new();
    let mut who = Who::Virtualisation;
    for (kind, host) in concerned(case) {
        let look = match kind {
            Kind::Gateway => case.gateways.get(host),
            _ => case.server.as_ref(),
        };
        let what = match (case.view.silent_us(host), look) {
            (None, _) => format!("{host} has not reported since the controller started"),
            (Some(us), None) => format!("{host} was last heard {} ago", text::seconds(us)),
            (_, Some(look)) if look.elapsed_us() == 0 => {
                format!("{host} has reported once since it or the controller started")
            }
            _ => continue,
        };
        who = owner(kind);
        missing.push(what);
    }
    let what = format!("{}: what happened there is not known", missing.join(", "));
    let status = Command::Status;
    let test = format!("`{status}` on that host, or ask again when it has reported twice");
    (!missing.is_empty()).then(|| Found::unknown("reports", what, who, &test))
}

/// The hosts that the vNIC's frames cross.
fn concerned<'c>(case: &Case<'c>) -> Vec<(Kind, &'c str)> {
    let gateway = case.home.map(|home| (Kind::Gateway, home.host.as_str()));
    [(Kind::Server, case.vnic.host.as_str())].into_iter().chain(gateway).collect()
}

/// Whose host it is.
fn owner(kind: Kind) -> Who {
    if kind == Kind::Gateway { Who::Network } else { Who::Virtualisation }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Sure, found},
        *,
    };
    use crate::sample::{Bed, MBIT};

    fn heard() -> Bed {
        let mut bed = Bed::new();
        bed.tags = ["server-a", "gateway-a"].map(|host| (host.to_owned(), "new".to_owned())).into();
        bed.server_a(|it| it.sends(MBIT).tag("new"));
        bed.gateway_a(|it| it.tag("new"));
        bed
    }

    #[test]
    fn a_host_that_serves_another_text_or_refused_it_is_found() {
        let mut bed = heard();
        bed.server_a(|it| it.tag("old"));
        let it = found(&bed, "vm-a", behind).unwrap();
        assert_eq!((it.place.as_str(), it.who), ("server-a", Who::Virtualisation));
        bed.gateway_a(|it| it.tag("old").refused("no such interface"));
        let it = found(&bed, "vm-a", behind).unwrap();
        assert_eq!(it.what, "refused its newest configuration: no such interface");
        assert_eq!(it.who, Who::Network);
    }

    #[test]
    fn hosts_that_are_up_to_date_or_not_fed_by_the_controller_are_not_behind() {
        assert_eq!(found(&heard(), "vm-a", behind), None);
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT));
        assert_eq!(found(&bed, "vm-a", behind), None);
    }

    #[test]
    fn hosts_that_are_not_heard_are_named() {
        let mut bed = Bed::new();
        bed.server_a(|it| it.sends(MBIT));
        let it = found(&bed, "vm-a", not_heard).unwrap();
        assert_eq!(it.sure, Sure::Unknown);
        assert!(it.what.starts_with("gateway-a has not reported since"), "{}", it.what);
        bed.wait_s(30);
        let it = found(&bed, "vm-a", not_heard).unwrap();
        assert!(it.what.starts_with("server-a was last heard 30.1 s ago"), "{}", it.what);
    }

    #[test]
    fn when_all_are_heard_nothing_is_missing() {
        assert_eq!(found(&heard(), "vm-a", not_heard), None);
    }
}
