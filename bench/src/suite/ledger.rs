//! Rates from the books of our daemons.

use wireonce_qemu_tests::cluster::{Amount, Ledger, Status};
use wireonce_qemu_tests::{Error, Result};

use crate::wire::rate as per_s;

/// Which column of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// What came to the stage.
    Input,
    /// What left it.
    Output,
}

impl Side {
    fn amount(self, row: &Ledger) -> Amount {
        match self {
            Self::Input => row.input,
            Self::Output => row.output,
        }
    }
}

/// Frames per second of one row, by the daemon's own clock; a row that is not there yet is zero.
///
/// # Errors
/// The two looks were at the same moment, or after a restart.
pub(crate) fn rate(looks: [&Status; 2], name: &str, stage: &str, side: Side) -> Result<f64> {
    let [before, after] = looks;
    let frames =
        |status: &Status| status.account(name, stage).map_or(0, |row| side.amount(row).frames);
    let us = after.sampled_at_us.saturating_sub(before.sampled_at_us);
    if us == 0 {
        return Err(Error::Unexpected("the daemon's clock stands still".to_owned()));
    }
    Ok(per_s(frames(before), frames(after), us as f64 / 1e6))
}

/// Frames per second that one row dropped for `reason`.
///
/// # Errors
/// As [`rate`].
pub(crate) fn drop_rate(looks: [&Status; 2], name: &str, stage: &str, reason: &str) -> Result<f64> {
    let [before, after] = looks;
    let frames = |status: &Status| {
        let row = status.account(name, stage);
        row.and_then(|row| row.drops.get(reason)).map_or(0, |amount| amount.frames)
    };
    let us = after.sampled_at_us.saturating_sub(before.sampled_at_us);
    if us == 0 {
        return Err(Error::Unexpected("the daemon's clock stands still".to_owned()));
    }
    Ok(per_s(frames(before), frames(after), us as f64 / 1e6))
}
