//! The certificate authority of an installation: made when it is first needed, kept in the store.
//!
//! It signs two things: certificates of clients, which name one holder and cannot pose as a server,
//! and the controller's own.

use super::{Identity, Issued};
use crate::{
    change::Allowed,
    refusal::{Gate, Refusal},
    store::{Compare, Op, Outcome, Range, Store},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};
use time::OffsetDateTime;
use wireonce_desired::Moment;
use wireonce_member::{certificate::pem, tls::CONTROLLER, token::hex};

/// The key that keeps the authority.
const KEY: &str = "pki/authority";
const DAY_S: u64 = 86_400;
/// How long the authority lives, seconds.
const AUTHORITY_S: u64 = 3650 * DAY_S;
/// How long a certificate lives, seconds.
pub(super) const CERTIFICATE_S: u64 = 30 * DAY_S;
/// How much earlier a certificate is valid than it was given, seconds: clocks differ.
const EARLIER_S: u64 = 3600;
/// Bytes of an uncompressed point on P-256, and its first one (SEC 1, 2.3.3).
const POINT_LEN: usize = 65;
const POINT_TAG: u8 = 4;

/// The authority.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What the controller shows and proves who it is with.
#[derive(Debug)]
pub struct ControllerKey {
    /// Its certificate, and the authority's, for those who have only a fingerprint.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// When it is time for another.
    pub renew_at: Moment,
}

/// How it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: String,
    certificate: String,
    key: String,
}

impl Authority {
    /// The one that `store` has, or a new one.
    ///
    /// # Errors
    /// The store cannot be read or written, or there are no random bytes.
    pub fn open(store: &dyn Store, now: Moment) -> Allowed<Self> {
        if let Some(kept) = read(store)? {
            return Self::from_kept(&kept);
        }
        let kept = make(now)?;
        let value = crate::change::json(&kept)?;
        let compare = Compare { key: KEY.to_owned(), version: 0 };
        match store.txn(&[compare], &[Op::put(KEY, value)])? {
            Outcome::Done(_) => Self::from_kept(&kept),
            // Another controller on the same store was faster.
            Outcome::Conflict => {
                let kept = read(store)?.ok_or_else(|| failed("it is not in the store"))?;
                Self::from_kept(&kept)
            }
        }
    }

    fn from_kept(kept: &Kept) -> Allowed<Self> {
        let bytes = |text: &str| BASE64.decode(text).map_err(failed);
        let key = PrivatePkcs8KeyDer::from(bytes(&kept.key)?);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256);
        let issuer = Issuer::new(params(&kept.name), key.map_err(failed)?);
        Ok(Self { certificate: bytes(&kept.certificate)?.into(), issuer })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate as it stands in files.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut fingerprint = [0; 32];
        for (to, from) in fingerprint.iter_mut().zip(digest(&SHA256, &self.certificate).as_ref()) {
            *to = *from;
        }
        fingerprint
    }

    /// A certificate for the owner of a key, PEM, and its number.
    ///
    /// # Errors
    /// The key is none, or there are no random bytes.
    pub fn give(
        &self,
        identity: &Identity,
        tls_key: &str,
        now: Moment,
    ) -> Allowed<(String, Issued)> {
        let key = Point::read(tls_key)?;
        let (number, until) = (serial()?, Moment(now.0.saturating_add(CERTIFICATE_S)));
        let mut params = params(&identity.to_string());
        params.not_before = time_of(now.0.saturating_sub(EARLIER_S))?;
        params.not_after = time_of(until.0)?;
        params.serial_number = Some(SerialNumber::from_slice(&number));
        let uri = identity.uri().as_str().try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((pem("CERTIFICATE", made.der()), Issued { serial: hex(&number), until }))
    }

    /// What the controller shows: a new key each time. `places` are hosts' names and addresses for
    /// those who look at them, such as `curl`; members look at [`CONTROLLER`] only.
    ///
    /// # Errors
    /// There are no random bytes.
    pub fn controller_key(&self, places: &[String], now: Moment) -> Allowed<ControllerKey> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("wireonce control");
        params.not_before = time_of(now.0.saturating_sub(EARLIER_S))?;
        params.not_after = time_of(now.0.saturating_add(CERTIFICATE_S))?;
        params.serial_number = Some(SerialNumber::from_slice(&serial()?));
        params.subject_alt_names = vec![SanType::DnsName(CONTROLLER.try_into().map_err(failed)?)];
        for place in places {
            let name = match place.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(place.as_str().try_into().map_err(failed)?),
            };
            params.subject_alt_names.push(name);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(ControllerKey {
            chain: vec![made.der().clone(), self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            renew_at: Moment(now.0.saturating_add(CERTIFICATE_S / 3 * 2)),
        })
    }
}

fn read(store: &dyn Store) -> Allowed<Option<Kept>> {
    let (_, found) = store.ranges(&[Range::all(KEY)])?;
    let entry = found.into_iter().flatten().find(|entry| entry.key == KEY);
    entry.map(|entry| serde_json::from_slice(&entry.value).map_err(failed)).transpose()
}

fn make(now: Moment) -> Allowed<Kept> {
    let key = KeyPair::generate().map_err(failed)?;
    let number = serial()?;
    // So that certificates of two installations are told apart by their issuers' names.
    let name = format!("wireonce {}", hex(number.get(..4).unwrap_or_default()));
    let mut params = params(&name);
    params.not_before = time_of(now.0.saturating_sub(EARLIER_S))?;
    params.not_after = time_of(now.0.saturating_add(AUTHORITY_S))?;
    params.serial_number = Some(SerialNumber::from_slice(&number));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let made = params.self_signed(&key).map_err(failed)?;
    Ok(Kept {
        name,
        certificate: BASE64.encode(made.der()),
        key: BASE64.encode(key.serialized_der()),
    })
}

/// The parameters that all certificates share, with a name.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

/// A random number, positive, without leading zeros.
fn serial() -> Allowed<[u8; 16]> {
    let mut number = [0; 16];
    let filled = SystemRandom::new().fill(&mut number);
    filled.map_err(|_| failed("the operating system gave no random bytes"))?;
    if let Some(first) = number.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(number)
}

fn time_of(seconds: u64) -> Allowed<OffsetDateTime> {
    let seconds = i64::try_from(seconds).map_err(failed)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(failed)
}

fn failed(error: impl fmt::Display) -> Refusal {
    let problem = format!("cannot give certificates: {error}");
    let remedy = "see that the clock is right; a backup has the authority, too";
    Refusal::new(Gate::Store, "the certificate authority", problem, remedy)
}

/// A public key on P-256.
struct Point(Vec<u8>);

impl Point {
    fn read(text: &str) -> Allowed<Self> {
        let point = BASE64.decode(text).ok();
        let point = point.filter(|p| p.len() == POINT_LEN && p.first() == Some(&POINT_TAG));
        point.map(Self).ok_or_else(|| {
            let problem = "is no uncompressed point on P-256 in base64";
            let remedy = "let `wireonce join` make it";
            Refusal::new(Gate::Text, "the key for TLS", problem, remedy)
        })
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
