//! The static key of a host: an X25519 pair that names it to its peers.
//!
//! The private key is one line of base64 in a file that only its owner may read.
//! The public key is the same form, and stands in the configuration of the peers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// Bytes of a private or public key.
pub const KEY_LEN: usize = 32;

/// A key file is one line; nothing longer is read.
const FILE_LEN_MAX: u64 = 256;

/// What is wrong with a key or its file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read the private key.
    #[error("key file {path}: mode {mode:04o} lets group or others in; run `chmod 600 {path}`")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("key file {path}: not a key; expected one line of base64 that holds 32 bytes")]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// A text is not a key.
    #[error("not a key: expected 44 characters of base64 that hold 32 bytes")]
    Text,
    /// The operating system gave no random bytes, or the curve is not built in.
    #[error("no key could be made: the operating system gave no random bytes")]
    Unavailable,
}

/// The public half: 32 bytes, shown and configured as base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// The key whose bytes these are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

/// The private half with its public key. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct StaticKey {
    private: Zeroizing<[u8; KEY_LEN]>,
    public: PublicKey,
}

impl StaticKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`] when the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut private = Zeroizing::new([0; KEY_LEN]);
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, private.as_mut())
            .map_err(|_| KeyError::Unavailable)?;
        Self::from_private(private)
    }

    /// The key in the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or it holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Mode { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(FILE_LEN_MAX).read_to_string(&mut text).map_err(failed)?;
        let private =
            decode(text.trim()).map_err(|_| KeyError::Content { path: path.to_owned() })?;
        Self::from_private(private)
    }

    /// Writes the key to a new file with mode 0600. An existing file is left alone.
    ///
    /// # Errors
    /// The file exists already or cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let mut text = Zeroizing::new(BASE64.encode(self.private.as_ref()));
        text.push('\n');
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The private half, for the handshake.
    pub(crate) fn private(&self) -> &[u8; KEY_LEN] {
        &self.private
    }

    fn from_private(private: Zeroizing<[u8; KEY_LEN]>) -> Result<Self, KeyError> {
        let mut curve =
            DefaultResolver.resolve_dh(&DHChoice::Curve25519).ok_or(KeyError::Unavailable)?;
        curve.set(private.as_ref());
        let public = curve.pubkey().try_into().map_err(|_| KeyError::Unavailable)?;
        Ok(Self { private, public: PublicKey(public) })
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").field("public", &self.public).finish_non_exhaustive()
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let bytes = Zeroizing::new(BASE64.decode(text).map_err(|_| KeyError::Text)?);
    let key = <[u8; KEY_LEN]>::try_from(bytes.as_slice()).map_err(|_| KeyError::Text)?;
    Ok(Zeroizing::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_survives_its_file_and_the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = StaticKey::generate().unwrap();
        key.write_new(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let loaded = StaticKey::load(&path).unwrap();
        assert_eq!(loaded.private(), key.private());
        assert_eq!(loaded.public(), key.public());
        assert_ne!(StaticKey::generate().unwrap().public(), key.public());
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first = StaticKey::generate().unwrap();
        first.write_new(&path).unwrap();
        StaticKey::generate().unwrap().write_new(&path).unwrap_err();
        assert_eq!(StaticKey::load(&path).unwrap().public(), first.public());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        StaticKey::generate().unwrap().write_new(&path).unwrap();
        for mode in [0o640, 0o604, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = StaticKey::load(&path).unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn files_without_a_key_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let missing = StaticKey::load(&path).unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()), "{missing}");
        for content in ["", "hello", "AAAA", &"A".repeat(10_000)] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(StaticKey::load(&path), Err(KeyError::Content { .. })), "{content}");
        }
    }

    #[test]
    fn a_public_key_reads_what_it_shows() {
        let key = StaticKey::generate().unwrap().public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert_eq!(key.to_string().len(), 44);
        "AAAA".parse::<PublicKey>().unwrap_err();
        "*".repeat(44).parse::<PublicKey>().unwrap_err();
    }

    #[test]
    fn the_public_key_is_that_of_rfc_7748() {
        // RFC 7748, section 6.1: Alice's pair.
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2,
            0x66, 0x45, 0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5,
            0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = [
            0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e,
            0xf7, 0x5a, 0x0d, 0xbf, 0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e,
            0xaa, 0x9b, 0x4e, 0x6a,
        ];
        let key = StaticKey::from_private(Zeroizing::new(private)).unwrap();
        assert_eq!(key.public().as_bytes(), &public);
    }

    #[test]
    fn debug_output_hides_the_private_key() {
        let key = StaticKey::generate().unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&BASE64.encode(key.private())), "{shown}");
        assert!(shown.contains(&key.public().to_string()), "{shown}");
    }
}
