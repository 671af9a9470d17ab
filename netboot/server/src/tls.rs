//! HTTPS, for firmware that is to know whose boot file it runs.
//!
//! EDK2 offers TLS 1.2 with key exchange by RSA or DHE and no elliptic curves, so the key is an RSA key and the library
//! is not rustls, which has ECDHE only. A key exchange by RSA keeps no secret for later, and needs none here: a boot
//! file is the same for everybody, and what counts is that it is ours.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use netboot_proto::HttpBoot;
use netboot_proto::rate::Bucket;
use s2n_tls::config::{Builder, Config};
use s2n_tls::security::Policy;
use s2n_tls_tokio::{TlsAcceptor, TlsStream};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::http::HEAD_TIMEOUT;

/// TLS 1.2 alone: ECDHE for whoever has it, RSA for firmware.
const POLICY: &str = "ELBSecurityPolicy-TLS-1-2-Ext-2018-06";
/// Handshakes cost a processor a millisecond each, and a port has one machine at its end: so many at once, and then one
/// every so often.
const HANDSHAKES: (u32, Duration) = (32, Duration::from_millis(100));

/// A certificate that firmware trusts, with its key.
#[derive(Clone)]
pub struct ServerCertificate(Config);

/// What cannot be served with.
#[derive(Debug, thiserror::Error)]
#[error("a certificate and its key cannot be used for HTTPS")]
pub struct CertificateError(#[from] s2n_tls::error::Error);

/// Whether firmware that boots by HTTP is to do it by HTTPS.
#[derive(Debug, Clone, Default)]
pub enum Https {
    /// No: by HTTP.
    #[default]
    Off,
    /// By HTTPS, with this certificate as soon as there is one.
    On(watch::Receiver<Option<ServerCertificate>>),
}

/// Makes TLS connections of those of one port.
#[derive(Debug)]
pub(crate) struct PortAcceptor {
    certificate: watch::Receiver<Option<ServerCertificate>>,
    handshakes: Mutex<Bucket>,
}

/// Why a connection is none of TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("there is no certificate yet")]
    NoCertificate,
    #[error("there are too many handshakes")]
    TooMany,
    #[error("the client was too slow")]
    Slow,
    #[error(transparent)]
    Handshake(#[from] s2n_tls::error::Error),
}

// === impl ServerCertificate ===

impl ServerCertificate {
    /// A certificate, the authorities between it and what is enrolled behind it, and its RSA key, in PEM.
    ///
    /// # Errors
    ///
    /// They cannot be read, or do not belong to each other.
    pub fn new(chain_pem: &str, key_pem: &str) -> Result<Self, CertificateError> {
        let mut config = Builder::new();
        config.set_security_policy(&Policy::from_version(POLICY)?)?;
        config.load_pem(chain_pem.as_bytes(), key_pem.as_bytes())?;
        Ok(Self(config.build()?))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").finish_non_exhaustive()
    }
}

// === impl Https ===

impl Https {
    /// How firmware is told to fetch at this moment.
    pub(crate) fn http_boot(&self) -> HttpBoot {
        match self {
            Self::Off => HttpBoot::Plain,
            Self::On(certificate) if certificate.borrow().is_some() => HttpBoot::Secure,
            Self::On(_) => HttpBoot::Uncertified,
        }
    }

    /// What accepts HTTPS on one port, if it is to be served there.
    pub(crate) fn acceptor(&self) -> Option<PortAcceptor> {
        match self {
            Self::Off => None,
            Self::On(certificate) => Some(PortAcceptor {
                certificate: certificate.clone(),
                handshakes: Mutex::new(Bucket::new(HANDSHAKES.0, HANDSHAKES.1)),
            }),
        }
    }
}

// === impl PortAcceptor ===

impl PortAcceptor {
    /// Does the handshake, for which a client has as long as for a request's head.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        let certificate = self.certificate.borrow().clone().ok_or(TlsError::NoCertificate)?;
        if !self.handshakes.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(TlsError::TooMany);
        }
        let acceptor = TlsAcceptor::new(certificate.0);
        let accepting = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream));
        Ok(accepting.await.map_err(|_| TlsError::Slow)??)
    }
}

// === impl TlsError ===

impl TlsError {
    /// Its name among the refusals.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::TooMany => "tls-too-many",
            Self::Slow => "tls-slow",
            Self::Handshake(_) => "tls-handshake",
        }
    }
}
