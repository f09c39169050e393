//! Single values: from TOML to the types of the configuration.

use crate::{error::Fault, reader::kind};
use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};
use toml::de::DeValue;
use wireonce_frame::MacAddr;
use wireonce_shares::{Rate, RateError};

/// Longest name of a host, network, vNIC, uplink or pool, in bytes.
const NAME_LEN_MAX: usize = 63;
/// Longest interface name: IFNAMSIZ without its closing zero.
const INTERFACE_LEN_MAX: usize = 15;
/// Longest socket path: `sun_path` has 108 bytes, one closes it, and `.new` is
/// appended while the control socket is replaced.
const SOCKET_LEN_MAX: usize = 103;

/// A whole number in `range`.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Fault>
where
    T: Copy + PartialOrd + std::fmt::Display + TryFrom<i128>,
{
    move |value| {
        let remedy = || format!("write a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value else {
            return Err(Fault::new(format!("is {}", kind(value)), remedy()));
        };
        i128::from_str_radix(number.as_str(), number.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| Fault::new(format!("{number} is out of range"), remedy()))
    }
}

/// A rate of at least `least`, as people write it.
pub(crate) fn rate(least: Rate) -> impl Fn(&DeValue<'_>) -> Result<Rate, Fault> {
    move |value| {
        let range = || format!("write a rate from {least} to {}, such as \"500Mbit\"", Rate::MAX);
        let text = text(value, &range())?;
        let shown = || quoted(text);
        let problem = match text.parse::<Rate>() {
            Ok(rate) if rate >= least => return Ok(rate),
            Ok(_) => format!("{} is less than {least}", shown()),
            Err(RateError::TooLarge) => format!("{} is more than {}", shown(), Rate::MAX),
            Err(RateError::Fraction) => {
                let remedy = "write fewer digits behind the point, or a smaller unit";
                return Err(Fault::new(format!("{} is no whole bits a second", shown()), remedy));
            }
            Err(RateError::Form) => {
                let remedy =
                    "write a number and bit, kbit, Mbit, Gbit or Tbit, such as \"500Mbit\"";
                return Err(Fault::new(format!("{} is not a rate", shown()), remedy));
            }
        };
        Err(Fault::new(problem, range()))
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Fault> {
    value
        .as_bool()
        .ok_or_else(|| Fault::new(format!("is {}", kind(value)), "write true or false, unquoted"))
}

/// One of `words`, each with what it stands for.
pub(crate) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, Fault> {
    move |value| {
        let remedy = || {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("write {}", words.join(" or "))
        };
        let text = text(value, &remedy())?;
        let found = words.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| Fault::new(format!("{} is not known", quoted(text)), remedy()))
    }
}

/// A name: letters, digits, `-`, `_` and `.`, a letter or digit first.
pub(crate) fn name(value: &DeValue<'_>) -> Result<String, Fault> {
    let remedy = format!(
        "write 1 to {NAME_LEN_MAX} letters, digits, `-`, `_` or `.`, a letter or digit first"
    );
    let text = text(value, &remedy)?;
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = text.len() <= NAME_LEN_MAX
        && text.chars().all(letter)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        Ok(text.to_owned())
    } else {
        Err(Fault::new(format!("{} is not a name", quoted(text)), remedy))
    }
}

/// A MAC address that one NIC can have.
pub(crate) fn mac(value: &DeValue<'_>) -> Result<MacAddr, Fault> {
    let remedy = "write six hexadecimal bytes like \"52:54:00:12:34:56\"";
    let text = text(value, remedy)?;
    let mac: MacAddr = text
        .parse()
        .map_err(|_| Fault::new(format!("{} is not a MAC address", quoted(text)), remedy))?;
    if mac.is_unicast() {
        return Ok(mac);
    }
    let what = if mac.is_group() { "is a group address" } else { "is all zero" };
    let remedy = "give one NIC's address: an even first byte, such as 52, and not all zero";
    Err(Fault::new(format!("{mac} {what}"), remedy))
}

/// The IP address of one host.
pub(crate) fn host_address(value: &DeValue<'_>) -> Result<IpAddr, Fault> {
    let remedy = "write one IPv4 or IPv6 address like \"10.77.0.1\" or \"fd00::1\"";
    let text = text(value, remedy)?;
    let address: IpAddr = text
        .parse()
        .map_err(|_| Fault::new(format!("{} is not an IP address", quoted(text)), remedy))?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        let problem = format!("{address} is not the address of one host");
        return Err(Fault::new(problem, "give the address that the host has on the fabric"));
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        let problem = format!("{address} is a link-local address, which needs an interface");
        return Err(Fault::new(problem, "give a global or unique local address"));
    }
    Ok(address)
}

/// The address of the router behind an uplink; in IPv6 it may be a link-local one.
pub(crate) fn next_hop_address(value: &DeValue<'_>) -> Result<IpAddr, Fault> {
    let remedy = "write the router's IPv4 or IPv6 address like \"192.0.2.1\" or \"fe80::1\"";
    let text = text(value, remedy)?;
    let address: IpAddr = text
        .parse()
        .map_err(|_| Fault::new(format!("{} is not an IP address", quoted(text)), remedy))?;
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let nobody = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    if nobody || broadcast {
        return Err(Fault::new(format!("{address} is not the address of a router"), remedy));
    }
    Ok(address)
}

/// An address and a port to listen at.
pub(crate) fn listen_address(value: &DeValue<'_>) -> Result<SocketAddr, Fault> {
    let remedy = "write an address and a port like \"127.0.0.1:9464\" or \"[::1]:9464\"";
    let text = text(value, remedy)?;
    let address: SocketAddr = text.parse().map_err(|_| {
        Fault::new(format!("{} is not an address and a port", quoted(text)), remedy)
    })?;
    if address.port() == 0 {
        return Err(Fault::new("port 0 is not a port that can be asked", remedy));
    }
    Ok(address)
}

/// An address, or a prefix without host bits.
pub(crate) fn address_or_prefix(value: &DeValue<'_>) -> Result<IpNet, Fault> {
    let remedy = "write an address like \"10.0.0.5\" or a prefix like \"10.0.0.0/24\"";
    let text = text(value, remedy)?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| {
        Fault::new(format!("{} is neither an address nor a prefix", quoted(text)), remedy)
    })?;
    if net.trunc() == net {
        return Ok(net);
    }
    // Silently cutting it would allow 256 addresses where one was meant.
    Err(Fault::new(
        format!("{text} has bits set beyond its prefix length"),
        format!(
            "write \"{}\" for the one address or \"{}\" for the prefix",
            net.addr(),
            net.trunc()
        ),
    ))
}

/// A public key: 32 bytes in base64.
pub(crate) fn public_key(value: &DeValue<'_>) -> Result<[u8; 32], Fault> {
    let remedy = "write the line that `wireonce pubkey FILE` prints on that host, 44 characters";
    let text = text(value, remedy)?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Fault::new(format!("{} is not base64", quoted(text)), remedy))?;
    let key: [u8; 32] = bytes.try_into().map_err(|bytes: Vec<u8>| {
        Fault::new(format!("holds {} bytes, not 32", bytes.len()), remedy)
    })?;
    if key == [0; 32] {
        return Err(Fault::new("is all zero, which is no key", remedy));
    }
    Ok(key)
}

/// A path from the root.
pub(crate) fn absolute_path(value: &DeValue<'_>) -> Result<PathBuf, Fault> {
    let remedy = "write a path that starts with `/`";
    let text = text(value, remedy)?;
    if !Path::new(text).is_absolute() || text.contains('\0') {
        return Err(Fault::new(format!("{} is not an absolute path", quoted(text)), remedy));
    }
    Ok(PathBuf::from(text))
}

/// The path of a Unix socket.
pub(crate) fn socket_path(value: &DeValue<'_>) -> Result<PathBuf, Fault> {
    let path = absolute_path(value)?;
    let len = path.as_os_str().len();
    if len > SOCKET_LEN_MAX {
        let problem = format!("the path has {len} bytes, more than a Unix socket can have");
        return Err(Fault::new(problem, format!("give one of at most {SOCKET_LEN_MAX} bytes")));
    }
    Ok(path)
}

/// The name of a network interface.
pub(crate) fn interface(value: &DeValue<'_>) -> Result<String, Fault> {
    let remedy = format!(
        "write 1 to {INTERFACE_LEN_MAX} characters without spaces, `/` or `:`, like \"eth0\""
    );
    let text = text(value, &remedy)?;
    let good = (1..=INTERFACE_LEN_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'))
        && !matches!(text, "." | "..");
    if good {
        Ok(text.to_owned())
    } else {
        Err(Fault::new(format!("{} is not an interface name", quoted(text)), remedy))
    }
}

fn text<'v>(value: &'v DeValue<'_>, remedy: &str) -> Result<&'v str, Fault> {
    value.as_str().ok_or_else(|| Fault::new(format!("is {}", kind(value)), remedy))
}

/// `text` in quotes, escaped and cut to what fits on a line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let shown: String = text.chars().take(SHOWN).collect();
    format!("{shown:?}..")
}
