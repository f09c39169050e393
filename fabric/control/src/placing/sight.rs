//! What reports say that placing looks at. Without any, it works with reservations alone.

use std::collections::{BTreeMap, BTreeSet};
use wireonce_placement::Rates;

/// What is seen of the house, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Uplinks that their gateway says carry nothing now.
    pub dead: BTreeSet<String>,
    /// What vNICs would use.
    pub wants: BTreeMap<String, Rates>,
    /// Servers from which there is no fresh report.
    pub silent: BTreeSet<String>,
}
