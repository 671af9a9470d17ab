//! The cluster's keys and certificate authorities, made before any machine starts.
//!
//! ECDSA P-256, but for what firmware is to trust ([`boot`]): an RSA key costs a slow machine seconds to minutes. The
//! certificates that authorities sign are left to kubeadm, which knows each component's names; only the operator's own is
//! made here, because the operator's kubeconfig is written before there is a cluster.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use ignition::{PkiFile, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use sha2::{Digest as _, Sha256};

pub mod boot;
pub mod server;

/// How long an authority is valid.
const AUTHORITY_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// How long the operator's certificate is valid.
const ADMIN_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// A machine without a battery wakes in the past.
const CLOCK_ERROR: Duration = Duration::from_hours(24);

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// What the files of the authority that firmware trusts are called, without their endings.
const BOOT_AUTHORITY: &str = "boot-ca";
/// Where [`Pki::files`] belong on a control plane.
pub const FOLDER: &str = "/etc/kubernetes/pki";

/// All of a cluster's keys and certificates.
#[derive(Debug)]
pub struct Pki {
    /// Kubernetes' authority: what nodes and users trust.
    pub kubernetes: Authority,
    /// Of the API server's aggregated servers.
    pub front_proxy: Authority,
    /// etcd's own.
    pub etcd: Authority,
    /// What service account tokens are signed with.
    pub service_account: ServiceAccountKey,
    /// The operator's certificate, of the group that may do everything.
    pub admin: ClientCertificate,
    /// What firmware trusts, if it is to boot by HTTPS.
    pub boot: Option<Authority>,
}

/// A certificate authority.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its certificate.
    pub certificate_pem: String,
    /// The same in DER.
    pub certificate_der: Vec<u8>,
    /// Its private key.
    pub key_pem: Secret<String>,
    /// SHA-256 of the DER of its SubjectPublicKeyInfo, in lower-case hexadecimal.
    pub spki_sha256: String,
}

/// The key pair that service account tokens are signed with.
#[derive(Debug, Clone)]
pub struct ServiceAccountKey {
    /// Its public half.
    pub public_pem: String,
    /// Its private half.
    pub key_pem: Secret<String>,
}

/// A client's certificate and key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: Secret<String>,
}

// === impl Pki ===

impl Pki {
    /// Makes everything anew; `now` is when it begins to be valid, less a day. With `https` there is an authority for
    /// firmware as well.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate(now: SystemTime, https: bool) -> Result<Self> {
        let (kubernetes, issuer) = authority("kubernetes", now)?;
        let (front_proxy, _) = authority("front-proxy-ca", now)?;
        let (etcd, _) = authority("etcd-ca", now)?;
        let service_account = key_pair()?;
        Ok(Self {
            admin: admin(&issuer, now)?,
            boot: https.then(|| boot::authority(now)).transpose()?,
            kubernetes,
            front_proxy,
            etcd,
            service_account: ServiceAccountKey {
                public_pem: service_account.public_key_pem(),
                key_pem: Secret::new(service_account.serialize_pem()),
            },
        })
    }

    /// The files under `/etc/kubernetes/pki`: those that kubeadm expects there, and firmware's authority.
    #[must_use]
    pub fn files(&self) -> Vec<PkiFile> {
        let file = |path: &str, mode: u32, contents: Secret<String>| PkiFile {
            path: path.to_owned(),
            mode,
            contents,
        };
        let authorities =
            [("ca", &self.kubernetes), ("front-proxy-ca", &self.front_proxy), ("etcd/ca", &self.etcd)];
        let boot = self.boot.iter().map(|boot| (BOOT_AUTHORITY, boot));
        let authorities = authorities.into_iter().chain(boot).flat_map(|(path, authority)| {
            let certificate = Secret::new(authority.certificate_pem.clone());
            [
                file(&format!("{path}.crt"), PUBLIC, certificate),
                file(&format!("{path}.key"), PRIVATE, authority.key_pem.clone()),
            ]
        });
        let account = &self.service_account;
        authorities
            .chain([
                file("sa.key", PRIVATE, account.key_pem.clone()),
                file("sa.pub", PUBLIC, Secret::new(account.public_pem.clone())),
            ])
            .collect()
    }

    /// Where a seed has the key of Kubernetes' authority.
    #[must_use]
    pub fn authority_key_file() -> PathBuf {
        PathBuf::from(format!("{FOLDER}/ca.key"))
    }

    /// Where a seed has the key of firmware's authority, if there is one.
    #[must_use]
    pub fn boot_key_file(&self) -> Option<PathBuf> {
        self.boot.as_ref().map(|_| boot_key_file())
    }

    /// The operator's kubeconfig for the API server at `server`, as `https://[::1]:6443`. It is JSON, which is
    /// YAML.
    ///
    /// # Errors
    ///
    /// None in practice: these values always have a JSON form.
    pub fn kubeconfig(&self, server: &str) -> Result<Secret<String>> {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "meshboot",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": encode(&self.kubernetes.certificate_pem),
                },
            }],
            "users": [{
                "name": "admin",
                "user": {
                    "client-certificate-data": encode(&self.admin.certificate_pem),
                    "client-key-data": encode(self.admin.key_pem.expose()),
                },
            }],
            "contexts": [{ "name": "admin@meshboot", "context": { "cluster": "meshboot", "user": "admin" } }],
            "current-context": "admin@meshboot",
        });
        Ok(Secret::new(serde_json::to_string_pretty(&config).context("cannot write the kubeconfig")? + "\n"))
    }
}

/// Where a control plane has the key of firmware's authority, if there is one.
#[must_use]
pub fn boot_key_file() -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{BOOT_AUTHORITY}.key"))
}

fn key_pair() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

fn authority(name: &str, now: SystemTime) -> Result<(Authority, Issuer<'static, KeyPair>)> {
    self_signed(parameters(name, now, AUTHORITY_LIFE), key_pair()?)
}

fn self_signed(mut params: CertificateParams, key: KeyPair) -> Result<(Authority, Issuer<'static, KeyPair>)> {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    let certificate = params.self_signed(&key).context("cannot make an authority")?;
    let authority = Authority {
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        key_pem: Secret::new(key.serialize_pem()),
        spki_sha256: hex::encode(Sha256::digest(key.subject_public_key_info())),
    };
    Ok((authority, Issuer::new(params, key)))
}

fn admin(issuer: &Issuer<'_, KeyPair>, now: SystemTime) -> Result<ClientCertificate> {
    let key = key_pair()?;
    let mut params = parameters("meshboot-admin", now, ADMIN_LIFE);
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).context("cannot make the operator's certificate")?;
    Ok(ClientCertificate { certificate_pem: certificate.pem(), key_pem: Secret::new(key.serialize_pem()) })
}

fn parameters(name: &str, now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - CLOCK_ERROR).into();
    params.not_after = (now + life).into();
    params
}

#[cfg(test)]
mod tests;
