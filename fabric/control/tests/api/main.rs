//! The API over a real Unix socket: what is asked, what is refused, and what stands.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is one as a whole"
)]

mod changes;
mod placing;
mod refusals;
mod reports;
mod texts;
mod watching;

use serde_json::Value;
use std::{path::Path, sync::Arc};
use tempfile::TempDir;
use wireonce_control::{
    Controller, Settings, api,
    client::{Client, ClientError},
    refusal::Refusal,
    store::{RedbStore, Store},
};

/// The house that all tests begin with.
const HOUSE: &str = include_str!("../../../../docs/examples/control/house.toml");

/// A controller on its own socket.
struct Bed {
    directory: TempDir,
    _running: api::Running,
}

impl Bed {
    fn new() -> Self {
        Self::on(Arc::new(RedbStore::in_memory().unwrap()))
    }

    fn on(store: Arc<dyn Store>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.control.socket = directory.path().join("control.sock");
        let running = api::start(Controller::new(store).unwrap(), settings).unwrap();
        Self { directory, _running: running }
    }

    /// The same with the house in it.
    fn furnished() -> Self {
        let bed = Self::new();
        let answer = bed.apply("admin", HOUSE).unwrap();
        assert_eq!(answer["answer"], "applied");
        bed
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("control.sock")
    }

    /// Tests run as root, who is admin and acts as anybody.
    fn client(&self, role: &str) -> Client {
        client(&self.socket(), role)
    }

    fn apply(&self, role: &str, text: &str) -> Result<Value, ClientError> {
        let headers = [("content-type", "application/toml")];
        self.client(role).change("POST".parse().unwrap(), "/v1/apply", &headers, text.to_owned())
    }

    fn put(
        &self,
        role: &str,
        path: &str,
        body: &Value,
        base: &[(&str, &str)],
    ) -> Result<Value, ClientError> {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(base);
        self.client(role).change("PUT".parse().unwrap(), path, &headers, body.to_string())
    }

    fn post(&self, role: &str, path: &str, body: &Value) -> Result<Value, ClientError> {
        let headers = [("content-type", "application/json")];
        self.client(role).change("POST".parse().unwrap(), path, &headers, body.to_string())
    }

    fn get(&self, path: &str) -> Value {
        self.client("viewer").get(path).unwrap()
    }

    /// What a server has of the pool.
    fn reserved(&self, server: &str) -> String {
        let grant = self.get(&format!("/v1/grants/east/{server}"));
        grant["object"]["up"]["reservation"].as_str().unwrap_or("0bit").to_owned()
    }
}

fn client(socket: &Path, role: &str) -> Client {
    Client::unix(socket, Some(role.to_owned()))
}

/// What a refusal says.
fn refusal(done: Result<Value, ClientError>) -> Refusal {
    match done {
        Err(ClientError::Refused(refusal)) => *refusal,
        other => panic!("{other:?}"),
    }
}

fn grant(reservation: &str) -> Value {
    serde_json::json!({ "up": { "reservation": reservation } })
}
