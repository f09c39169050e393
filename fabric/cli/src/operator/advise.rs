//! `wireonce advise`: what is out of balance, and the command that cures it.

use super::ask::Ask;
use crate::failure::Failure;
use clap::Parser;
use wireonce_sight::AdviceLine;

/// The command line of `advise`.
#[derive(Debug, Parser)]
pub(crate) struct AdviseArgs {
    #[command(flatten)]
    ask: Ask,
}

/// Asks and shows.
pub(crate) fn advise(args: &AdviseArgs) -> Result<(), Failure> {
    let lines: Vec<AdviceLine> = args.ask.client().get("/v1/advice")?;
    args.ask.show(&lines, || text(&lines))
}

/// Evidence, and below it the command.
fn text(lines: &[AdviceLine]) -> String {
    if lines.is_empty() {
        return "nothing to advise: nobody lacks what another could give\n".to_owned();
    }
    let line = |it: &AdviceLine| match &it.command {
        Some(command) => format!("{}\n    {command}\n", it.evidence),
        None => format!("{}\n", it.evidence),
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_below_their_evidence_and_nothing_is_said_too() {
        let lines = [
            AdviceLine { evidence: "a wants".to_owned(), command: Some("wireonce x".to_owned()) },
            AdviceLine { evidence: "the pool is full".to_owned(), command: None },
        ];
        assert_eq!(text(&lines), "a wants\n    wireonce x\nthe pool is full\n");
        assert!(text(&[]).starts_with("nothing to advise"));
    }
}
