//! Whom a member believes, and how it shows who it is.
//!
//! Every controller of one authority has a certificate for the name [`CONTROLLER`], whatever its
//! address: the authority is the installation's own and signs for nobody else, so the address
//! says nothing that the certificate does not. Hosts' certificates are for clients only, so no host
//! can pose as the controller.

use crate::directory::Membership;
use ring::digest::{SHA256, digest};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};
use std::sync::Arc;

/// The name in every controller's certificate.
pub const CONTROLLER: &str = "control.wireonce.internal";

/// How a member speaks TLS.
///
/// # Errors
/// Certificate and key do not belong together.
pub fn member_config(membership: &Membership, clock: Clock) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(membership.ca.clone())?;
    let key = PrivatePkcs8KeyDer::from(membership.key.pkcs8().to_vec());
    let chain = vec![membership.certificate.clone()];
    let config = ClientConfig::builder_with_details(crypto(), Arc::new(clock))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key))?;
    Ok(without_resumption(config))
}

/// How a host speaks TLS that has nothing but a token: it believes the authority whose
/// certificate has this SHA-256.
///
/// # Errors
/// Never with this provider.
pub fn joining_config(ca: [u8; 32], clock: Clock) -> Result<ClientConfig, Error> {
    let algorithms = crypto().signature_verification_algorithms;
    let config = ClientConfig::builder_with_details(crypto(), Arc::new(clock))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Fingerprint { ca, algorithms }))
        .with_no_client_auth();
    Ok(without_resumption(config))
}

/// A session that is resumed skips the certificates: each one is judged anew.
fn without_resumption(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

/// All cryptography comes from `ring`.
#[must_use]
pub fn crypto() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

/// The wall clock that certificates are judged by: seconds since 1970.
#[derive(Clone, Copy)]
pub struct Clock(pub fn() -> u64);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn of_the_machine() -> Self {
        Self(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |since| since.as_secs())
        })
    }

    /// What it says.
    #[must_use]
    pub fn now_s(self) -> u64 {
        (self.0)()
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.now_s())))
    }
}

/// Believes one authority, known by its fingerprint; its certificate is in the chain.
#[derive(Debug)]
struct Fingerprint {
    ca: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Fingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_ours = |found: &&CertificateDer<'_>| digest(&SHA256, found).as_ref() == self.ca;
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = intermediates.iter().find(is_ours).ok_or(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto());
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
