//! A host's text, as the controller gives it and as the disk keeps it.
//!
//! ```text
//! # wireonce state 1, tag 9f86d081884c7d65..
//! [[peer]]
//! ..
//! ```
//! The tag is the SHA-256 of the text, so it is also what tells a file that was cut short.

use crate::token::hex;
use ring::digest::{SHA256, digest};

/// What the first line of the file begins with.
const HEAD: &str = "# wireonce state 1, tag ";

/// The tables that stand below a host's own, with their tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    tag: String,
}

impl Text {
    /// A text; its tag is worked out.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let tag = tag_of(&text);
        Self { text, tag }
    }

    /// The tables.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the controller knows it by.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// As it stands in the file.
    #[must_use]
    pub fn to_file(&self) -> String {
        format!("{HEAD}{}\n{}", self.tag, self.text)
    }

    /// From a file; `None` if it is not whole, or something else.
    #[must_use]
    pub fn from_file(file: &str) -> Option<Self> {
        let (head, text) = file.split_once('\n')?;
        let tag = head.strip_prefix(HEAD)?;
        let read = Self::new(text);
        (read.tag == tag).then_some(read)
    }
}

/// The SHA-256 of a text, hexadecimal.
#[must_use]
pub fn tag_of(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_reads_back_and_no_part_of_it_does() {
        for tables in ["", "[[peer]]\nname = \"b\"\n"] {
            let text = Text::new(tables);
            let file = text.to_file();
            assert_eq!(Text::from_file(&file), Some(text.clone()));
            for end in 0..file.len() {
                assert_eq!(Text::from_file(&file[..end]), None, "{end}");
            }
            assert_eq!(Text::from_file(&format!("{file}#")), None);
        }
    }
}
