//! `wireonce top`: the view of the controller, each second.
//!
//! Keys switch tables and do nothing else. They are read only if both ends are a terminal, which is
//! given back as it was.

mod keys;
mod text;

use super::ask::Ask;
use crate::{failure::Failure, output};
use clap::Parser;
use keys::{Key, Keys};
use std::time::Duration;
use wireonce_sight::Now;

/// The time between two views.
const INTERVAL: Duration = Duration::from_secs(1);

/// The command line of `top`.
#[derive(Debug, Parser)]
pub(crate) struct TopArgs {
    /// Show one view, and end
    #[arg(long)]
    once: bool,
    /// Only this table
    #[arg(long, value_enum)]
    table: Option<Shown>,
    #[command(flatten)]
    ask: Ask,
}

/// Which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Shown {
    /// All of them
    #[default]
    All,
    /// Servers and gateways
    Servers,
    /// Uplinks
    Uplinks,
    /// vNICs
    Vnics,
    /// Pools, with the starved beside those with a surplus
    Pools,
}

/// Asks and shows, once or until it is ended. `--json` prints one view.
pub(crate) fn top(args: &TopArgs) -> Result<(), Failure> {
    let client = args.ask.client();
    let mut shown = args.table.unwrap_or_default();
    if args.once || args.ask.json {
        let now: Now = client.get("/v1/now")?;
        return args.ask.show(&now, || text::page(&now, shown));
    }
    let mut keys = Keys::begin();
    loop {
        let now: Now = client.get("/v1/now")?;
        loop {
            let page = keys.fit(&(text::page(&now, shown) + text::KEYS));
            // Home, and erase what is below: less flicker than erasing first.
            output::print(&format!("\x1b[H\x1b[J{page}"))?;
            match keys.wait(INTERVAL) {
                Key::None => break,
                Key::Show(table) => shown = table,
                Key::Quit => return output::print("\n"),
            }
        }
    }
}
