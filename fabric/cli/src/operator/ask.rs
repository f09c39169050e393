//! How all verbs ask: where, as whom, and how they show the answer.

use crate::{failure::Failure, output};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use wireonce_control::{change::Answer, client::Client, settings::SOCKET};
use wireonce_member::Directory;

/// What every verb can be told.
#[derive(Debug, Parser)]
pub(crate) struct Ask {
    /// The controller's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Ask over the network instead, as the holder of this directory: `wireonce user make` makes one
    #[arg(long, value_name = "DIR", conflicts_with = "socket")]
    identity: Option<PathBuf>,
    /// The controller to ask so, such as https://10.0.0.5:7443; left out, those that the directory
    /// names
    #[arg(long, value_name = "URL", requires = "identity")]
    controller: Option<String>,
    /// Act in this role: network, virtualisation, viewer. Only an admin can
    #[arg(long = "as", value_name = "ROLE")]
    role: Option<String>,
    /// Print one JSON document, for scripts; also of what goes wrong, on standard error
    #[arg(long)]
    pub(super) json: bool,
}

impl Ask {
    /// The way to the controller.
    pub(super) fn client(&self) -> Client {
        let Some(directory) = &self.identity else {
            return Client::unix(&self.socket, self.role.clone());
        };
        let membership = Directory::new(directory).membership().map_err(|error| error.to_string());
        let client = membership.and_then(|mut membership| {
            if let Some(url) = &self.controller {
                membership.addresses = vec![address(url)?];
            }
            Client::https(&membership, self.role.clone()).map_err(|error| error.to_string())
        });
        client.unwrap_or_else(Client::none)
    }

    /// Prints JSON if that was asked for, or else what `text` makes of it.
    pub(super) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if !self.json {
            return output::print(&text());
        }
        let line = serde_json::to_string(value)
            .map_err(|error| Failure::Runtime(format!("the answer as JSON: {error}")))?;
        output::print(&format!("{line}\n"))
    }

    /// Sends a change, and shows what came of it.
    pub(super) fn change(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, Failure> {
        let answer = self.send(method, path, headers, body)?;
        self.show_answer(&answer)?;
        Ok(answer)
    }

    /// Sends a change.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, Failure> {
        let method = method
            .parse()
            .map_err(|_| Failure::Runtime("this method does not exist".to_owned()))?;
        Ok(self.client().change(method, path, headers, body)?)
    }

    /// Says on standard error what people want to know meanwhile. Scripts find nothing there but a
    /// failure.
    pub(super) fn complain(&self, text: &str) {
        if !self.json {
            output::complain(text);
        }
    }

    /// Shows what came of a change.
    pub(super) fn show_answer(&self, answer: &Answer) -> Result<(), Failure> {
        self.show(answer, || text_of(answer))
    }
}

/// The address of a URL.
fn address(url: &str) -> Result<String, String> {
    let address = url.strip_prefix("https://").unwrap_or(url).trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(_) if !address.contains("://") => Ok(address.to_owned()),
        _ => Err(format!("--controller {url:?}: is no address; write https://HOST:PORT")),
    }
}

/// What came of a change, for people.
fn text_of(answer: &Answer) -> String {
    match answer {
        Answer::Unchanged { notes } => {
            format!("{}unchanged: everything is like that already\n", lines(notes))
        }
        Answer::Applied { revision: 0, difference, notes } => {
            format!("{difference}{}this is a trial, nothing was changed\n", lines(notes))
        }
        Answer::Applied { revision, difference, notes } => {
            format!("{difference}{}applied, revision {revision}\n", lines(notes))
        }
        Answer::Requested { request: 0, difference, why } => format!(
            "{difference}this is a trial, nothing was changed. It would be a request to the \
             network team: {why}\n"
        ),
        Answer::Requested { request, difference, why } => format!(
            "{difference}not applied: it is request {request} to the network team, because {why}\n"
        ),
    }
}

/// Notes, each on its line.
pub(super) fn lines(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {note}\n")).collect()
}

/// A path with what would not stand in one as it is.
pub(super) fn query(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let given = pairs.iter().filter_map(|(key, value)| value.map(|value| (key, value)));
    let pairs: Vec<String> = given.map(|(key, value)| format!("{key}={}", escape(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Percent-encoded, but for letters, digits and `-._~/`.
pub(super) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A field of an answer as one cell of a table.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| format!("{key}={}", cell(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// `--for`: `90s`, `30m`, `2h`, `7d`, as seconds. The controller counts them: its clock ends them.
pub(super) fn for_seconds(text: Option<&str>) -> Result<Option<String>, Failure> {
    let seconds = text.map(|text| seconds_of("--for", text)).transpose()?;
    Ok(seconds.map(|seconds| seconds.to_string()))
}

/// The seconds of a time that was given with a flag.
pub(super) fn seconds_of(flag: &str, text: &str) -> Result<u64, Failure> {
    seconds(text).ok_or_else(|| {
        Failure::Input(format!("{flag} {text:?}: is no time; write one such as 90s, 30m, 2h or 7d"))
    })
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_have_a_unit_and_are_not_nothing() {
        assert_eq!(seconds("2h"), Some(7_200));
        assert_eq!(seconds("7d"), Some(604_800));
        for text in ["", "h", "2", "0s", "-1h", "2w", "99999999999999999999s", "2ö"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_url_has_a_host_and_a_port() {
        assert_eq!(address("https://10.0.0.5:7443/"), Ok("10.0.0.5:7443".to_owned()));
        assert_eq!(address("[::1]:7443"), Ok("[::1]:7443".to_owned()));
        for wrong in ["https://10.0.0.5", "http://10.0.0.5:1", "x", "a:70000"] {
            assert!(address(wrong).unwrap_err().contains("write https://HOST:PORT"), "{wrong}");
        }
    }

    #[test]
    fn queries_carry_any_text() {
        let path = query("/v1/x", &[("reason", Some("a b&c")), ("limit", None)]);
        assert_eq!(path, "/v1/x?reason=a%20b%26c");
        assert_eq!(query("/v1/x", &[("limit", None)]), "/v1/x");
    }

    #[test]
    fn cells_are_one_line() {
        assert_eq!(cell(&json!({"up": {"limit": "1Gbit"}})), "up=limit=1Gbit");
        assert_eq!(cell(&json!(["a", 7])), "a,7");
        assert_eq!(cell(&json!([])), "-");
    }
}
