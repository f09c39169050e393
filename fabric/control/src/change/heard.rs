//! What hosts said, as far as it belongs beside a change.
//!
//! A change is applied when it is in the store, and hosts take it a moment later. One that refused the
//! text that it was sent last does not, until what it refuses is mended: whoever changes something
//! for it has to hear that with the answer.

use wireonce_desired::{House, render};
use wireonce_sight::{View, view::Text};

/// Most hosts that are named; of the rest it is said that there are more.
const NAMED_MAX: usize = 8;
/// Most hosts whose texts are compared: each costs two looks at the whole house.
const LOOKED_AT_MAX: usize = 64;
/// Longest reason of a host that is shown, characters.
const WHY_LEN_MAX: usize = 300;

/// A note for each host that a change concerns, and that will not take it: it refused its newest text.
pub(super) fn unserved(view: &View<'_>, before: &House, after: &House) -> Vec<String> {
    let refusing = view.reports.keys().filter_map(|host| match view.text(host) {
        (Text::Refused, why) => Some((host.as_str(), why.unwrap_or_default())),
        _ => None,
    });
    let is_concerned = |host: &str| render(before, host) != render(after, host);
    let concerned = refusing.take(LOOKED_AT_MAX).filter(|(host, _)| is_concerned(host));
    let mut notes: Vec<String> =
        concerned.take(NAMED_MAX + 1).map(|(host, why)| note(host, &why)).collect();
    if notes.len() > NAMED_MAX {
        notes.truncate(NAMED_MAX);
        notes.push("more hosts refused their newest texts: `wireonce top` shows them".to_owned());
    }
    notes
}

fn note(host: &str, why: &str) -> String {
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown: String = why.chars().take(WHY_LEN_MAX).collect();
    let cut = if shown.len() < why.len() { ".." } else { "" };
    format!(
        "{host} refused the text that it was sent last and serves the one before ({shown}{cut}); \
         what is changed here reaches it when it takes a text again: `wireonce top` shows that"
    )
}
