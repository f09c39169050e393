//! IEEE 802 MAC addresses.

use std::{fmt, str::FromStr};

/// A 48-bit MAC address in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The broadcast address, `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The address in the first six bytes of `bytes`, if there are six.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk::<6>().copied().map(Self)
    }

    /// True for group addresses (broadcast included): the I/G bit is set.
    #[must_use]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// True for a unicast address that is not all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }
}

/// The text is not six two-digit hexadecimal numbers with colons between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address; write six hexadecimal bytes like 52:54:00:12:34:56")]
pub struct ParseMacError(String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut fields = text.split(':');
        for byte in &mut bytes {
            let field = fields.next().filter(|f| f.len() == 2).ok_or_else(error)?;
            // `from_str_radix` alone would take a sign.
            if !field.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(error());
            }
            *byte = u8::from_str_radix(field, 16).map_err(|_| error())?;
        }
        if fields.next().is_some() { Err(error()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let mac: MacAddr = "52:54:00:0a:Bc:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:0a:bc:ff");
        assert!(mac.is_unicast());
        assert!(MacAddr::BROADCAST.is_group());
    }

    #[test]
    fn bad_text_is_refused() {
        for bad in ["", "52:54:00:0a:bc", "52:54:00:0a:bc:ff:00", "+5:54:00:0a:bc:ff", "x"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
