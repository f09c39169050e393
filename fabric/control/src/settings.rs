//! The controller's own file: where things are, and who has which role.

use crate::caller::{Caller, Role};
use serde::Deserialize;
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use wireonce_member::token::ADDRESSES_MAX;

/// The socket unless another is given.
pub const SOCKET: &str = "/run/wireonce/control.sock";
/// The store unless another is given.
pub const STORE: &str = "/var/lib/wireonce/control.redb";
/// Longest file that is read, bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

/// The controller's file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where things are.
    #[serde(default)]
    pub control: Places,
    /// Who has which role.
    #[serde(default)]
    pub role: Vec<RoleTable>,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// The store's file.
    #[serde(default = "store")]
    pub store: PathBuf,
    /// The Unix socket of the API.
    #[serde(default = "socket")]
    pub socket: PathBuf,
    /// Where the API is served over TLS; left out: nowhere.
    #[serde(default)]
    pub https: Option<SocketAddr>,
    /// Where hosts find that: `HOST:PORT`, tried in turn; left out: `https` itself.
    #[serde(default)]
    pub https_addresses: Vec<String>,
    /// Where Prometheus asks; left out: nowhere.
    #[serde(default)]
    pub metrics_address: Option<SocketAddr>,
}

impl Places {
    /// Where hosts find the API, which is served at `bound`.
    #[must_use]
    pub fn addresses_for_hosts(&self, bound: SocketAddr) -> Vec<String> {
        match self.https_addresses.as_slice() {
            [] => vec![bound.to_string()],
            addresses => addresses.to_vec(),
        }
    }

    /// What is wrong with where the API is served over TLS.
    fn wrong_https(&self) -> Option<(&'static str, String)> {
        let Self { https, https_addresses: addresses, .. } = self;
        if addresses.len() > ADDRESSES_MAX {
            let problem = format!("there are {}; give at most {ADDRESSES_MAX}", addresses.len());
            return Some(("https_addresses", problem));
        }
        let is_place = |address: &String| {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if let Some(wrong) = addresses.iter().find(|address| !is_place(address)) {
            let problem =
                format!("{wrong:?} is no host with a port; write one such as \"10.0.0.5:7443\"");
            return Some(("https_addresses", problem));
        }
        match https {
            None if !addresses.is_empty() => {
                let problem = "nothing listens there; give `https` too, such as \"0.0.0.0:7443\"";
                Some(("https_addresses", problem.to_owned()))
            }
            Some(https) if https.ip().is_unspecified() && addresses.is_empty() => {
                let problem = format!(
                    "{https} says nothing to hosts; give `https_addresses` where they find it"
                );
                Some(("https", problem))
            }
            _ => None,
        }
    }
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleTable {
    /// The role.
    pub name: Role,
    /// Users, by name or number.
    #[serde(default)]
    pub users: Vec<Account>,
    /// Groups, by name or number.
    #[serde(default)]
    pub groups: Vec<Account>,
}

/// A user or group of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Account {
    /// By number: also one that no file of this machine knows.
    Number(u32),
    /// By the name in `/etc/passwd` or `/etc/group`.
    Name(String),
}

impl Default for Places {
    fn default() -> Self {
        Self {
            store: store(),
            socket: socket(),
            https: None,
            https_addresses: vec![],
            metrics_address: None,
        }
    }
}

fn store() -> PathBuf {
    STORE.into()
}

fn socket() -> PathBuf {
    SOCKET.into()
}

impl Settings {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn load(path: &Path) -> Result<Self, String> {
        let origin = path.display();
        let unreadable = |error: io::Error| {
            format!("{origin}: cannot be read: {error}; give the path of a readable text file")
        };
        if fs::metadata(path).map_err(unreadable)?.len() > FILE_LEN_MAX {
            return Err(format!("{origin}: is larger than 1 MiB; give the controller's file"));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text, &origin.to_string())
    }

    /// Reads `text`; `origin` is what errors call it.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn parse(text: &str, origin: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text.get(..at).map_or(0, |head| head.matches('\n').count());
            let problem = error.message().replace(char::is_control, " ");
            format!("{origin}:{line}: {problem}; docs/control.md has every key")
        })?;
        let own = |table: &&RoleTable| matches!(table.name, Role::Control | Role::Host);
        if let Some(table) = settings.role.iter().find(own) {
            let (name, owner) = match table.name {
                Role::Host => ("host", "hosts'"),
                _ => ("control", "the controller's"),
            };
            return Err(format!(
                "{origin}: [[role]] {name:?}: is {owner} own; give admin, network, virtualisation \
                 or viewer"
            ));
        }
        if let Some((key, problem)) = settings.control.wrong_https() {
            return Err(format!("{origin}: [control]: key `{key}`: {problem}"));
        }
        for (key, path) in
            [("store", &settings.control.store), ("socket", &settings.control.socket)]
        {
            if !path.is_absolute() {
                return Err(format!(
                    "{origin}: [control]: key `{key}`: {path:?} is not an absolute path; write \
                     one that starts with `/`"
                ));
            }
        }
        Ok(settings)
    }

    /// Who the process is that the kernel says has this user and group; `None` for
    /// those who have no role. Root is admin.
    #[must_use]
    pub fn caller(&self, uid: u32, gid: u32) -> Option<Caller> {
        let accounts = Accounts::read();
        let user = accounts.user(uid);
        if uid == 0 {
            return Some(Caller::new(user, Role::Admin));
        }
        let is_user = |account: &Account| match account {
            Account::Number(number) => *number == uid,
            Account::Name(name) => *name == user,
        };
        let is_member = |account: &Account| accounts.is_member(account, &user, gid);
        let table = self
            .role
            .iter()
            .find(|table| table.users.iter().any(is_user) || table.groups.iter().any(is_member))?;
        Some(Caller::new(user, table.name))
    }
}

/// The accounts of this machine, as its files say. Those of a directory service have to
/// be given by number.
struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// The name of a user, or the number as text.
    fn user(&self, uid: u32) -> String {
        let number = uid.to_string();
        let found = self.passwd.lines().find(|line| line.split(':').nth(2) == Some(&number));
        found.and_then(|line| line.split(':').next()).map_or(number.clone(), str::to_owned)
    }

    /// Whether a group is the primary one of number `gid`, or lists the user.
    fn is_member(&self, group: &Account, user: &str, gid: u32) -> bool {
        let entry = self.group.lines().find(|line| {
            let mut fields = line.split(':');
            match group {
                Account::Name(name) => fields.next() == Some(name),
                Account::Number(number) => fields.nth(2) == Some(&number.to_string()),
            }
        });
        let lists =
            |line: &str| line.split(':').nth(3).is_some_and(|m| m.split(',').any(|m| m == user));
        let is_primary = |line: &str| line.split(':').nth(2) == Some(&gid.to_string());
        *group == Account::Number(gid) || entry.is_some_and(|line| is_primary(line) || lists(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[control]\nstore = \"/s\"\n[[role]]\nname = \"network\"\nusers = [\"nina\", \
         7]\n[[role]]\nname = \"viewer\"\ngroups = [12]\n";

    #[test]
    fn roles_are_found_by_user_and_group_and_strangers_have_none() {
        let settings = Settings::parse(TEXT, "c").unwrap();
        let role = |uid, gid| settings.caller(uid, gid).map(|caller| caller.role);
        assert_eq!(role(0, 0), Some(Role::Admin));
        assert_eq!(role(7, 9_999_999), Some(Role::Network));
        assert_eq!(role(9_999_999, 12), Some(Role::Viewer));
        assert_eq!(role(9_999_999, 9_999_999), None);
    }

    #[test]
    fn the_example_is_valid() {
        let text = include_str!("../../../docs/examples/control/control.toml");
        let settings = Settings::parse(text, "control.toml").unwrap();
        assert_eq!(settings.control, Places::default(), "it shows the defaults");
        assert_eq!(settings.role.len(), 3);
    }

    #[test]
    fn members_are_found_by_the_group_files_lines() {
        let accounts = Accounts {
            passwd: "root:x:0:0::/:/sh\nnina:x:1000:1000::/:/sh\n".to_owned(),
            group: "netops:x:500:olga,nina\nnina:x:1000:\n".to_owned(),
        };
        assert_eq!(accounts.user(1000), "nina");
        assert_eq!(accounts.user(1001), "1001");
        let netops = Account::Name("netops".to_owned());
        assert!(accounts.is_member(&netops, "nina", 1000));
        assert!(accounts.is_member(&netops, "other", 500));
        assert!(!accounts.is_member(&netops, "nin", 1000));
    }

    #[test]
    fn hosts_are_told_where_they_find_the_controller() {
        let said = |text: &str| Settings::parse(text, "c").unwrap_err();
        let places = |text: &str| Settings::parse(text, "c").unwrap().control;
        let bound = "127.0.0.1:7443".parse().unwrap();
        let alone = places("[control]\nhttps = \"127.0.0.1:7443\"\n");
        assert_eq!(alone.addresses_for_hosts(bound), ["127.0.0.1:7443"]);
        let named =
            "[control]\nhttps = \"[::]:7443\"\nhttps_addresses = [\"control.example:7443\"]\n";
        assert_eq!(places(named).addresses_for_hosts(bound), ["control.example:7443"]);
        let nowhere = said("[control]\nhttps = \"0.0.0.0:7443\"\n");
        assert!(nowhere.contains("key `https`: 0.0.0.0:7443 says nothing to hosts"), "{nowhere}");
        for wrong in ["10.0.0.5", ":7443", "a:0", "a:x"] {
            let text = format!("[control]\nhttps = \"[::]:1\"\nhttps_addresses = [{wrong:?}]\n");
            let said = said(&text);
            assert!(said.contains("is no host with a port"), "{said}");
        }
        let unserved = said("[control]\nhttps_addresses = [\"a:7443\"]\n");
        assert!(unserved.contains("nothing listens there"), "{unserved}");
    }

    #[test]
    fn a_wrong_file_is_one_line_with_its_place() {
        let said = |text| Settings::parse(text, "c.toml").unwrap_err();
        assert!(
            said("[control]\nstor = 1\n").starts_with("c.toml:2: "),
            "{}",
            said("[control]\nstor = 1\n")
        );
        assert!(said("[[role]]\nname = \"control\"\n").contains("is the controller's own"));
        assert!(said("[[role]]\nname = \"boss\"\n").contains("c.toml:2"));
        assert!(said("[control]\nsocket = \"x\"\n").contains("is not an absolute path"));
        assert!(said("[[role]]\nname = \"host\"\n").contains("is hosts' own"));
        assert!(!said("[control\n").contains('\n'));
    }
}
