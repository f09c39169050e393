//! The controller's own file: where things are, and who has which role.

use crate::caller::{Caller, Role};
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

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
        Self { store: store(), socket: socket() }
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
        if settings.role.iter().any(|table| table.name == Role::Control) {
            return Err(format!(
                "{origin}: [[role]] \"control\": is the controller's own; give admin, network, \
                 virtualisation or viewer"
            ));
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
        assert!(!said("[control\n").contains('\n'));
    }
}
