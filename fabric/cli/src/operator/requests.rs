//! `wireonce request`: what waits for the network team.

use super::{
    ask::{Ask, cell, query, seconds_of},
    grants::pools_table,
};
use crate::{
    failure::Failure,
    output::{Table, duration, one_line, scaled},
};
use clap::Subcommand;
use serde_json::{Value, json};
use wireonce_control::change::{Request, ServerUse};
use wireonce_desired::Rate;

/// What can be done with requests.
#[derive(Debug, Subcommand)]
pub(crate) enum RequestVerb {
    /// Show those that wait, or all
    List {
        /// Those with an answer, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        ask: Ask,
    },
    /// Show one, with what would change and how the pools stood
    Show {
        /// Its number
        number: u64,
        #[command(flatten)]
        ask: Ask,
    },
    /// Say yes: it is carried out at once
    Approve {
        /// Its number
        number: u64,
        /// No grant that it raises may reserve more than this, or have a higher limit
        #[arg(long, value_name = "RATE")]
        ceiling: Option<String>,
        /// Its grants end after this time, such as 2h
        #[arg(long = "for", value_name = "TIME")]
        duration: Option<String>,
        /// What to say to it
        #[arg(long, value_name = "TEXT")]
        word: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Take back one of your own
    Withdraw {
        /// Its number
        number: u64,
        /// Why, for the audit trail
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Say no, and why
    Deny {
        /// Its number
        number: u64,
        /// Why
        #[arg(long, value_name = "TEXT")]
        word: String,
        #[command(flatten)]
        ask: Ask,
    },
}

/// Does it.
pub(crate) fn run(verb: &RequestVerb) -> Result<(), Failure> {
    match verb {
        RequestVerb::List { all, ask } => list(*all, ask),
        RequestVerb::Show { number, ask } => {
            let path = format!("/v1/requests/{number}");
            let request: Request = ask.client().get(&path)?;
            ask.show(&request, || text(&request))
        }
        RequestVerb::Approve { number, ceiling, duration, word, ask } => {
            let for_s = duration.as_deref().map(|text| seconds_of("--for", text)).transpose()?;
            let verdict =
                json!({"approve": true, "ceiling": ceiling, "for_s": for_s, "word": word});
            answer(*number, &verdict, ask)
        }
        RequestVerb::Withdraw { number, reason, ask } => {
            let path = format!("/v1/requests/{number}/withdraw");
            let path = query(&path, &[("reason", reason.as_deref())]);
            ask.change("POST", &path, &[], String::new())?;
            Ok(())
        }
        RequestVerb::Deny { number, word, ask } => {
            answer(*number, &json!({"approve": false, "word": word}), ask)
        }
    }
}

fn answer(number: u64, verdict: &Value, ask: &Ask) -> Result<(), Failure> {
    let headers = [("content-type", "application/json")];
    ask.change("POST", &format!("/v1/requests/{number}"), &headers, verdict.to_string())?;
    Ok(())
}

fn list(all: bool, ask: &Ask) -> Result<(), Failure> {
    let mut requests: Vec<Request> = ask.client().get("/v1/requests")?;
    requests.retain(|request| all || request.is_open());
    ask.show(&requests, || {
        let mut table = Table::new(["NUMBER", "STATE", "AT", "BY", "WHY", "REASON"]);
        for request in &requests {
            table.row([
                request.number.to_string(),
                state(request),
                request.at.to_string(),
                request.by.user.clone(),
                request.why.clone(),
                request.reason.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        if requests.is_empty() { "no requests\n".to_owned() } else { table.render() }
    })
}

fn state(request: &Request) -> String {
    serde_json::to_value(&request.state).map_or_else(|_| "-".to_owned(), |s| cell(&s["state"]))
}

fn text(request: &Request) -> String {
    let evidence = serde_json::to_value(&request.evidence).unwrap_or_default();
    let lasts = match request.change.for_s {
        Some(seconds) => format!("for {} from the approval on\n", duration(seconds)),
        None => String::new(),
    };
    format!(
        "request {} ({}) by {} at {}\nreason: {}\nwhy it is a request: {}\n{lasts}\n{}\nthe pools \
         when it was asked:\n{}{}",
        request.number,
        state(request),
        request.by,
        request.at,
        one_line(request.reason.as_deref().unwrap_or("-")),
        request.why,
        request.difference,
        pools_table(&evidence),
        measured(&request.measured),
    )
}

/// What servers used and wanted when it was asked.
fn measured(servers: &[ServerUse]) -> String {
    let mut table = Table::new(["POOL", "WAY", "SERVER", "RESERVED", "USED", "WANTED", "HEARD"]);
    let rate = |rate: Option<Rate>| rate.map_or("-".to_owned(), |rate| scaled(rate.bps(), "b/s"));
    for it in servers {
        table.row([
            it.pool.clone(),
            it.direction.word().to_owned(),
            it.server.clone(),
            it.reserved.to_string(),
            rate(it.used),
            rate(it.wanted) + if it.more { " or more" } else { "" },
            it.heard_s.map_or("never".to_owned(), |s| format!("{} before", duration(s))),
        ]);
    }
    let text = table.render();
    if text.is_empty() { text } else { format!("\nwhat servers did with them then:\n{text}") }
}
