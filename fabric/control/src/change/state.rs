//! All that decides about changes, as it was at one revision of the store.

use super::{Allowed, Request};
use crate::{
    caller::Caller,
    pki::{Credentials, Identity, Invitation},
    refusal::{Gate, Refusal},
    store::{Entry, Event, Range, Revision, Store, StoreError},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use wireonce_desired::{Grant, House, Kind, Moment, Object, read};

/// The key that every change rewrites.
pub(crate) const HOUSE: &str = "house";

/// The key that every change of an object rewrites: its version is the revision of the last one.
pub(crate) const CHANGED: &str = "changed";

/// Numbers that are never given twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Of the next line of the audit trail.
    pub audit: u64,
    /// Of the next request.
    pub request: u64,
    /// Where to look for the next free vNIC id.
    pub vnic: u64,
    /// Where to look for the next free uplink id.
    pub uplink: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { audit: 1, request: 1, vnic: 1, uplink: 1 }
    }
}

/// A grant that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When.
    pub until: Moment,
    /// What was before; `None`: there was no grant.
    pub before: Option<Grant>,
    /// Who made it.
    pub by: Caller,
    /// By which request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
}

/// The house and what surrounds it.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The revision of the store that it was read at.
    pub revision: Revision,
    /// The version of the key `house`: the same house has the same.
    pub house_version: Revision,
    /// The version of the key `changed`; 0 in a store of a version that did not know it.
    pub(crate) changed: Revision,
    /// The counters.
    pub counters: Counters,
    /// The objects.
    pub house: House,
    /// Their versions.
    pub versions: BTreeMap<(Kind, String), Revision>,
    /// Timed changes, by the name of their grant.
    pub timers: BTreeMap<String, Timer>,
    /// Requests, by number.
    pub requests: BTreeMap<u64, Request>,
    /// Tokens, by the hash of their secret.
    pub invitations: BTreeMap<String, Invitation>,
    /// Who was given certificates.
    pub members: BTreeMap<Identity, Credentials>,
    /// When vNICs last got another home, as far as that still counts.
    pub moved: BTreeMap<String, Vec<Moment>>,
    /// Ids that vNICs have or had.
    pub vnic_ids: BTreeSet<u64>,
    /// Ids that uplinks have or had.
    pub uplink_ids: BTreeSet<u64>,
}

impl State {
    /// Reads it.
    ///
    /// # Errors
    /// The store cannot be read, or holds what this version does not understand.
    pub fn read(store: &dyn Store) -> Allowed<Self> {
        let prefixes = [
            HOUSE, CHANGED, "object/", "timer/", "request/", "token/", "member/", "moved/", "used/",
        ];
        let (revision, found) = store.ranges(&prefixes.map(Range::all))?;
        let mut state = Self { revision, ..Self::default() };
        for entry in found.into_iter().flatten() {
            state.take(&entry)?;
        }
        Ok(state)
    }

    /// The same with what changed since: parsing what is new costs less than everything.
    ///
    /// # Errors
    /// The store cannot be read, or holds what this version does not understand.
    pub fn followed(&self, store: &dyn Store) -> Allowed<Self> {
        let events = match store.events("", self.revision) {
            Ok(events) => events,
            // Too much has changed for that.
            Err(StoreError::Forgotten { .. }) => return Self::read(store),
            Err(error) => return Err(error.into()),
        };
        let mut state = self.clone();
        for Event { revision, key, value } in events {
            state.revision = revision;
            match value {
                Some(value) => state.take(&Entry { key, value, version: revision })?,
                None if state.forget(&key) => {}
                None => return Self::read(store),
            }
        }
        Ok(state)
    }

    /// Removes what a key kept, if the key says all of it.
    fn forget(&mut self, key: &str) -> bool {
        if let Some((kind, name)) = key.strip_prefix("object/").and_then(|it| it.split_once('/')) {
            let Ok(kind) = kind.parse::<Kind>() else { return false };
            self.versions.remove(&(kind, name.to_owned()));
            self.house.remove(kind, name);
        } else if let Some(grant) = key.strip_prefix("timer/") {
            self.timers.remove(grant);
        } else if let Some(vnic) = key.strip_prefix("moved/") {
            self.moved.remove(vnic);
        } else if let Some(hash) = key.strip_prefix("token/") {
            self.invitations.remove(hash);
        } else if let Some(number) = key.strip_prefix("request/") {
            let Ok(number) = number.parse::<u64>() else { return false };
            self.requests.remove(&number);
        } else {
            return false;
        }
        true
    }

    fn take(&mut self, entry: &Entry) -> Allowed<()> {
        let key = entry.key.as_str();
        if key == HOUSE {
            self.house_version = entry.version;
            self.counters = parse(entry)?;
        } else if key == CHANGED {
            self.changed = entry.version;
        } else if let Some(place) = key.strip_prefix("object/") {
            let (word, name) = place.split_once('/').ok_or_else(|| unreadable(key, "no name"))?;
            let kind: Kind = word.parse().map_err(|wrong| unreadable(key, wrong))?;
            let object = read::object(kind, parse(entry)?).map_err(|w| unreadable(key, w))?;
            self.versions.insert((kind, name.to_owned()), entry.version);
            self.house.put(object);
        } else if let Some(grant) = key.strip_prefix("timer/") {
            self.timers.insert(grant.to_owned(), parse(entry)?);
        } else if key.starts_with("request/") {
            let request: Request = parse(entry)?;
            self.requests.insert(request.number, request);
        } else if let Some(hash) = key.strip_prefix("token/") {
            self.invitations.insert(hash.to_owned(), parse(entry)?);
        } else if key.starts_with("member/") {
            let credentials: Credentials = parse(entry)?;
            self.members.insert(credentials.identity(), credentials);
        } else if let Some(vnic) = key.strip_prefix("moved/") {
            self.moved.insert(vnic.to_owned(), parse(entry)?);
        } else if let Some(id) = key.strip_prefix("used/vnic/") {
            self.vnic_ids.insert(id.parse().map_err(|error| unreadable(key, error))?);
        } else if let Some(id) = key.strip_prefix("used/uplink/") {
            self.uplink_ids.insert(id.parse().map_err(|error| unreadable(key, error))?);
        }
        Ok(())
    }

    /// The revision of the last change of an object: requests, tokens and certificates change the
    /// house's version, and no object.
    #[must_use]
    pub fn changed(&self) -> Revision {
        if self.changed == 0 { self.house_version } else { self.changed }
    }

    /// Refuses a change that is based on other objects than those of now.
    pub(super) fn check_based_on(&self, revision: Revision) -> Allowed<()> {
        let (changed, newest) = (self.changed(), self.revision.max(self.house_version));
        if (changed..=newest).contains(&revision) {
            return Ok(());
        }
        let problem = format!(
            "the change is based on revision {revision}, and the house has revision {changed} now"
        );
        let remedy = "look at it with `wireonce export`, and change what is so";
        Err(Refusal::new(Gate::Conflict, "the document", problem, remedy))
    }

    /// The version of an object; 0 if there is none.
    #[must_use]
    pub fn version(&self, kind: Kind, name: &str) -> Revision {
        self.versions.get(&(kind, name.to_owned())).copied().unwrap_or(0)
    }

    /// The key that keeps an object.
    #[must_use]
    pub fn object_key(kind: Kind, name: &str) -> String {
        format!("object/{kind}/{name}")
    }

    /// The object of that name.
    ///
    /// # Errors
    /// There is none; the error says which one was probably meant.
    pub fn find(&self, kind: Kind, name: &str) -> Allowed<&Object> {
        self.house.get(kind, name).ok_or_else(|| {
            let shown: String = name.chars().take(130).collect();
            let meant = wireonce_config::nearest(&shown, self.house.names(kind));
            let remedy = match meant {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("`wireonce {kind} list` shows what there is"),
            };
            Refusal::new(Gate::Missing, kind.title(&shown), "does not exist", remedy)
        })
    }
}

fn parse<T: DeserializeOwned>(entry: &Entry) -> Allowed<T> {
    serde_json::from_slice(&entry.value).map_err(|error| unreadable(&entry.key, error))
}

/// What is in the store was not written by this version.
fn unreadable(key: &str, problem: impl std::fmt::Display) -> Refusal {
    let problem = format!("cannot be understood: {problem}");
    let remedy = "run the version of wireonce that wrote it, or restore a backup";
    Refusal::new(Gate::Store, format!("store: {key}"), problem, remedy)
}
