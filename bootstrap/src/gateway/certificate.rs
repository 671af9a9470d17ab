//! The certificate that this node shows to firmware: made when there is none, kept between boots, renewed in time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use mesh::{Block, NodeName};
use netboot_server::{HttpBoot, Https, ServerCertificate};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::api::Api;
use super::seed;
use super::settings::GatewaySettings;
use crate::pki::boot::{self, BootSigner};
use crate::private_file;

/// How often the certificate is compared with the clock, which may jump.
const CHECK: Duration = Duration::from_hours(1);
/// Time between two tries, where the one before came to nothing; it doubles each time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The file, beside the ledger.
const FILE: &str = "boot-server.json";

/// Keeps the certificate.
#[derive(Debug)]
pub struct Keeper {
    file: PathBuf,
    node: NodeName,
    block: Block,
    /// Whose certificates firmware trusts, in PEM.
    authority: String,
    signer: Signer,
    shown: watch::Sender<Option<ServerCertificate>>,
}

/// Who signs.
#[derive(Debug)]
enum Signer {
    /// A seed does it itself.
    Own(BootSigner),
    /// A seed, by way of the API server.
    Seed(Api),
}

/// What is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    certificate_pem: String,
    key_pem: String,
}

/// How firmware that boots by HTTP is to do it on a machine with these settings, by what is kept there.
#[must_use]
pub fn http_boot(settings: &GatewaySettings) -> HttpBoot {
    let Some(authority) = &settings.boot_authority else { return HttpBoot::Plain };
    let kept = settings.block().ok().zip(Kept::read(&path(settings)).ok().flatten());
    let is_good = |(block, kept): (Block, Kept)| boot::renewed_at(&kept.certificate_pem, authority, block);
    if kept.and_then(is_good).is_some() { HttpBoot::Secure } else { HttpBoot::Uncertified }
}

fn path(settings: &GatewaySettings) -> PathBuf {
    settings.ledger.with_file_name(FILE)
}

// === impl Keeper ===

impl Keeper {
    /// Knows of no certificate yet; none if firmware boots by HTTP.
    ///
    /// # Errors
    ///
    /// This is a seed, and its authority cannot sign.
    pub fn new(settings: &GatewaySettings, api: Api) -> Result<Option<(Self, Https)>> {
        let Some(authority) = settings.boot_authority.clone() else { return Ok(None) };
        let signer = seed::boot_signer(settings)?.map_or(Signer::Seed(api), Signer::Own);
        let (shown, seen) = watch::channel(None);
        let node = settings.machine.name.clone();
        let keeper = Self { file: path(settings), node, block: settings.block()?, authority, signer, shown };
        Ok(Some((keeper, Https::On(seen))))
    }

    /// Sees to it that there is a good certificate, for ever.
    pub async fn run(self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.look().await {
                Ok(()) => {
                    pause = SHORTEST_PAUSE;
                    tokio::time::sleep(CHECK).await;
                }
                Err(error) => {
                    let (shown, again_s) = (self.shown.borrow().is_some(), pause.as_secs());
                    tracing::warn!(shown, again_s, "no new certificate for HTTPS: {error:#}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn look(&self) -> Result<()> {
        let kept = Kept::read(&self.file).unwrap_or_else(|error| {
            tracing::warn!("the certificate for HTTPS is made anew: {error:#}");
            None
        });
        let renewed_at = kept
            .as_ref()
            .and_then(|kept| boot::renewed_at(&kept.certificate_pem, &self.authority, self.block));
        if let (Some(kept), Some(renewed_at)) = (kept, renewed_at) {
            // It is good for some time also when it is to be renewed.
            if self.shown.borrow().is_none() {
                self.show(&kept)?;
            }
            if SystemTime::now() < renewed_at {
                return Ok(());
            }
        }
        let kept = self.obtain().await?;
        private_file::replace(&self.file, &serde_json::to_vec(&kept).context("cannot write it as JSON")?)?;
        self.show(&kept)
    }

    async fn obtain(&self) -> Result<Kept> {
        let node = self.node.clone();
        let request = tokio::task::spawn_blocking(move || boot::request(&node)).await;
        let request = request.context("the task that makes the key ended")??;
        let certificate_pem = match &self.signer {
            Signer::Own(signer) => {
                signer.sign(&request.request_pem, &self.node, self.block, SystemTime::now())?
            }
            Signer::Seed(api) => {
                let cluster = api.ready().await.context("nobody looks for the API server any more")?;
                cluster.certify(&self.node, &request.request_pem).await?
            }
        };
        Ok(Kept { certificate_pem, key_pem: request.key_pem.expose().clone() })
    }

    fn show(&self, kept: &Kept) -> Result<()> {
        let certificate = ServerCertificate::new(&kept.certificate_pem, &kept.key_pem)?;
        self.shown.send_replace(Some(certificate));
        tracing::info!("firmware is shown a certificate");
        Ok(())
    }
}

// === impl Kept ===

impl Kept {
    fn read(path: &Path) -> Result<Option<Self>> {
        let what = || format!("cannot read {}", path.display());
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).with_context(what),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(what),
        }
    }
}

#[cfg(test)]
mod tests;
