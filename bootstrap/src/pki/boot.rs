//! The authority that firmware trusts, and the certificates of those who serve boot files by HTTPS.
//!
//! RSA, unlike everything else here: EDK2 knows no elliptic curves. All of it is valid since 2000: firmware compares with
//! its machine's clock, and a clock that lost its battery begins anew years ago.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use ignition::Secret;
use mesh::{Block, NodeName, PortIndex};
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};

use super::{AUTHORITY_LIFE, Authority, parameters, self_signed};

/// How long a server's certificate is valid.
pub const LIFE: Duration = Duration::from_hours(90 * 24);
/// It is renewed when so much of it is left.
const RENEWED_BEFORE: Duration = Duration::from_hours(30 * 24);
/// The first year of validity.
const SINCE: i32 = 2000;

/// Signs the certificates of those who serve boot files.
#[derive(Debug)]
pub struct BootSigner {
    issuer: Issuer<'static, KeyPair>,
}

/// A key of one's own, and the request for its certificate.
#[derive(Debug)]
pub struct BootRequest {
    /// The key, in PEM.
    pub key_pem: Secret<String>,
    /// The PKCS #10 request, in PEM.
    pub request_pem: String,
}

/// What is made of a request.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It is none, or its key did not sign it.
    #[error("the request cannot be read, or is not signed with the key that it is for")]
    Request(#[source] rcgen::Error),
    /// The authority cannot sign it.
    #[error("the authority cannot sign")]
    Sign(#[source] rcgen::Error),
}

/// Makes the authority that is to be enrolled in firmware.
///
/// # Errors
///
/// The system has no randomness to give.
pub fn authority(now: SystemTime) -> Result<Authority> {
    let key = key_pair(RsaKeySize::_3072)?;
    let mut params = parameters("meshboot boot authority", now, AUTHORITY_LIFE);
    params.not_before = rcgen::date_time_ymd(SINCE, 1, 1);
    self_signed(params, key).map(|(authority, _)| authority)
}

/// Makes a key of one's own. It takes a slow machine seconds.
///
/// # Errors
///
/// The system has no randomness to give.
pub fn request(node: &NodeName) -> Result<BootRequest> {
    let key = key_pair(RsaKeySize::_2048)?;
    let params = parameters(node.as_str(), SystemTime::now(), LIFE);
    let request = params.serialize_request(&key).and_then(|request| request.pem());
    Ok(BootRequest {
        request_pem: request.context("cannot write a request for a certificate")?,
        key_pem: Secret::new(key.serialize_pem()),
    })
}

/// When a certificate is to be renewed; none if it is none that this authority signed for the machine that has this
/// block.
#[must_use]
pub fn renewed_at(certificate_pem: &str, authority_pem: &str, block: Block) -> Option<SystemTime> {
    let (_, authority) = parse_x509_pem(authority_pem.as_bytes()).ok()?;
    let authority = Pem::parse_x509(&authority).ok()?;
    let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).ok()?;
    let certificate = Pem::parse_x509(&pem).ok()?;
    certificate.verify_signature(Some(authority.public_key())).ok()?;
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let is_named = |address: [u8; 16]| names.contains(&GeneralName::IPAddress(&address));
    let ends = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    let all = PortIndex::all().all(|port| is_named(block.link(port).near().octets()));
    all.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(ends) - RENEWED_BEFORE)
}

fn key_pair(size: RsaKeySize) -> Result<KeyPair> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).context("cannot make an RSA key")
}

// === impl BootSigner ===

impl BootSigner {
    /// Signs in the name of an authority.
    ///
    /// # Errors
    ///
    /// Its certificate or its key cannot be read.
    pub fn new(authority: &Authority) -> Result<Self> {
        Self::read(&authority.certificate_pem, authority.key_pem.expose())
    }

    /// Signs in the name of an authority whose key is in a file.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn open(certificate_pem: &str, key: &Path) -> Result<Self> {
        let key_pem = fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
        Self::read(certificate_pem, &key_pem)
    }

    fn read(certificate_pem: &str, key_pem: &str) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem).context("the boot authority's key is damaged")?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key);
        Ok(Self { issuer: issuer.context("the boot authority's certificate is damaged")? })
    }

    /// The certificate of a node, in PEM: for the addresses at which it serves its links, and for nothing that the
    /// request says but its key.
    ///
    /// # Errors
    ///
    /// [`SignError`].
    pub fn sign(
        &self,
        request_pem: &str,
        node: &NodeName,
        block: Block,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(SignError::Request)?;
        let near = PortIndex::all().map(|port| SanType::IpAddress(IpAddr::V6(block.link(port).near())));
        let mut params = parameters(node.as_str(), now, LIFE);
        params.subject_alt_names = near.collect();
        params.not_before = rcgen::date_time_ymd(SINCE, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(SignError::Sign)?;
        Ok(signed.pem())
    }
}

#[cfg(test)]
mod tests;
