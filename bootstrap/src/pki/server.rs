//! The certificates of the seed's registry: for each address at which clients come to it, made when the first one does.
//!
//! Which addresses a seed has outside the mesh is not known before it is there, and may change. The keys never leave this
//! process.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use images::registry::Identity;
use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{key_pair, parameters};

/// How long a certificate is valid.
const LIFE: Duration = Duration::from_hours(30 * 24);
/// After so long another one is made.
const SHOWN_FOR: Duration = Duration::from_hours(24);
/// A machine has a few addresses; should it ever have had more, they are made anew.
const MAX_ADDRESSES: usize = 64;

/// Signs and keeps them.
pub struct ServerIdentity {
    issuer: Issuer<'static, KeyPair>,
    names: Vec<String>,
    shown: Mutex<HashMap<IpAddr, (Instant, Arc<ServerConfig>)>>,
}

// === impl ServerIdentity ===

impl ServerIdentity {
    /// Of a server that has these names, in the name of an authority whose key is in a file.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn open(authority_pem: &str, key: &Path, names: Vec<String>) -> Result<Self> {
        let key_pem = fs::read_to_string(key).with_context(|| format!("cannot read {}", key.display()))?;
        let pair = KeyPair::from_pem(&key_pem);
        let pair = pair.with_context(|| format!("the key in {} is damaged", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(authority_pem, pair);
        let issuer = issuer.context("the cluster's authority is damaged")?;
        Ok(Self { issuer, names, shown: Mutex::default() })
    }

    fn make(&self, address: IpAddr) -> Result<ServerConfig> {
        let key = key_pair()?;
        let name = self.names.first().map_or("meshboot", String::as_str);
        let mut params = parameters(name, SystemTime::now(), LIFE);
        let names = self.names.iter().map(|name| name.as_str().try_into().map(SanType::DnsName));
        params.subject_alt_names = names.collect::<Result<_, _>>().context("a name is none of DNS")?;
        params.subject_alt_names.push(SanType::IpAddress(address));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).context("cannot sign a certificate")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().context("cannot set TLS up")?;
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        config.context("cannot use a new certificate")
    }
}

impl Identity for ServerIdentity {
    fn at(&self, address: IpAddr) -> io::Result<Arc<ServerConfig>> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = shown.get(&address).filter(|(made, _)| made.elapsed() < SHOWN_FOR) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make(address).map_err(io::Error::other)?);
        if shown.len() >= MAX_ADDRESSES {
            shown.clear();
        }
        shown.insert(address, (Instant::now(), Arc::clone(&config)));
        tracing::info!(%address, "the registry is shown with a new certificate");
        Ok(config)
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").field("names", &self.names).finish_non_exhaustive()
    }
}
