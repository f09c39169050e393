//! Certificates and keys as they stand in files, and what of a certificate is of interest
//! to its owner: its number and its time.
//!
//! Nothing is trusted because of what is read here; that is for `rustls` to judge.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use std::fmt;
use time::{Date, Month, Time};
use zeroize::Zeroizing;

/// Tag of a SEQUENCE, an INTEGER, a UTCTime, a GeneralizedTime and a tag of context 0 (X.690).
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const CONTEXT_0: u8 = 0xa0;

/// Number and time of a certificate (RFC 5280, 4.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its serial number: hexadecimal, without leading zeros.
    pub serial: String,
    /// From when on it is valid: seconds since 1970.
    pub from_s: u64,
    /// Until when: seconds since 1970.
    pub until_s: u64,
}

impl Facts {
    /// Those of a certificate in DER; `None` if it is none.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let mut outside = der;
        let mut certificate = take(&mut outside, SEQUENCE)?;
        let mut signed = take(&mut certificate, SEQUENCE)?;
        if signed.first() == Some(&CONTEXT_0) {
            take(&mut signed, CONTEXT_0)?;
        }
        let serial = crate::token::hex(take(&mut signed, INTEGER)?);
        take(&mut signed, SEQUENCE)?; // the algorithm
        take(&mut signed, SEQUENCE)?; // the issuer
        let mut validity = take(&mut signed, SEQUENCE)?;
        let from_s = moment(&mut validity)?;
        let until_s = moment(&mut validity)?;
        let serial = serial.trim_start_matches('0').to_owned();
        Some(Self { serial, from_s, until_s })
    }
}

/// The contents of the next element, which must have this tag.
fn take<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let len = match first {
        0..=0x7f => usize::from(first),
        // Three bytes of length are 16 MB: no certificate is longer.
        0x81..=0x83 => {
            let mut len = 0;
            for _ in 0x80..first {
                let (&byte, after) = rest.split_first()?;
                len = (len << 8) | usize::from(byte);
                rest = after;
            }
            len
        }
        _ => return None,
    };
    let (contents, after) = rest.split_at_checked(len)?;
    *input = after;
    (found == tag).then_some(contents)
}

/// The next element as seconds since 1970. Both forms end with `Z` (RFC 5280, 4.1.2.5).
fn moment(input: &mut &[u8]) -> Option<u64> {
    let tag = *input.first()?;
    let text = std::str::from_utf8(take(input, tag)?).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let time = Time::from_hms(two(4)?, two(6)?, two(8)?).ok()?;
    u64::try_from(date.with_time(time).assume_utc().unix_timestamp()).ok()
}

/// A key for TLS: ECDSA on P-256, which every TLS library knows.
#[derive(Clone)]
pub struct TlsKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl TlsKey {
    /// A new one; `None` if the operating system gives no random bytes.
    #[must_use]
    pub fn generate() -> Option<Self> {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(made.ok()?.as_ref())
    }

    /// The key that these bytes are in PKCS #8.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random);
        let public = pair.ok()?.public_key().as_ref().to_vec();
        Some(Self { pkcs8: Zeroizing::new(pkcs8.to_vec()), public })
    }

    /// The private key in PKCS #8.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key as it stands in requests: base64 of the uncompressed point.
    #[must_use]
    pub fn public_text(&self) -> String {
        BASE64.encode(&self.public)
    }

    /// As it stands in a file.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", &self.pkcs8))
    }
}

/// Something in DER as it stands in a file (RFC 7468).
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let encoded = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, character) in encoded.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};

    /// A certificate's beginning: version 3, number 0x00abcd, valid 2026 to 2050.
    fn beginning() -> Vec<u8> {
        let wrap = |tag: u8, inner: &[u8]| {
            let mut bytes = vec![tag, 0x81, u8::try_from(inner.len()).unwrap()];
            bytes.extend_from_slice(inner);
            bytes
        };
        let mut signed = vec![CONTEXT_0, 3, INTEGER, 1, 2, INTEGER, 3, 0, 0xab, 0xcd];
        signed.extend([SEQUENCE, 0, SEQUENCE, 0]);
        let times = [&[UTC_TIME, 13], &b"260301180000Z"[..], &[GENERALIZED_TIME, 15]].concat();
        let times = [times, b"20500101000001Z".to_vec()].concat();
        signed.extend(wrap(SEQUENCE, &times));
        wrap(SEQUENCE, &wrap(SEQUENCE, &signed))
    }

    #[test]
    fn number_and_times_are_read_in_both_forms() {
        let facts = Facts::of(&beginning()).unwrap();
        assert_eq!(facts.serial, "abcd");
        assert_eq!((facts.from_s, facts.until_s), (1_772_388_000, 2_524_608_001));
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let whole = beginning();
        for len in 0..whole.len() {
            assert_eq!(Facts::of(&whole[..len]), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            place in 0..beginning().len(), byte: u8, tail: Vec<u8>,
        ) {
            let mut bytes = beginning();
            bytes[place] = byte;
            bytes.extend(tail);
            let _ = Facts::of(&bytes);
        }
    }

    #[test]
    fn a_key_in_a_file_reads_back() {
        let key = TlsKey::generate().unwrap();
        let text = key.to_pem();
        assert!(text.lines().all(|line| line.len() <= 64), "{}", text.len());
        let read = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).unwrap();
        let again = TlsKey::from_pkcs8(read.secret_pkcs8_der()).unwrap();
        assert_eq!(again.public_text(), key.public_text());
        assert!(!format!("{key:?}").contains("pkcs8"));
        let certificate = pem("CERTIFICATE", &[1, 2, 3]);
        let read = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        assert_eq!(read.as_ref(), [1, 2, 3]);
    }
}
