//! The artefacts that this node hands on: found in its folders, or fetched from who has them.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::settings::Artefact;

/// A source that sends nothing for this long is given up.
const STALL: Duration = Duration::from_secs(20);
/// How long to wait after every source failed: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Folders of files named by their sha256.
#[derive(Debug, Clone)]
pub struct Artefacts {
    folders: Vec<PathBuf>,
    sources: Vec<Ipv6Addr>,
}

// === impl Artefacts ===

impl Artefacts {
    /// Artefacts in these folders, and these neighbours to ask for missing ones.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>, sources: Vec<Ipv6Addr>) -> Self {
        Self { folders, sources }
    }

    /// The file of this digest, if a folder has it; on a seed it may be a partition of the stick. Anything that is
    /// no digest has no file.
    #[must_use]
    pub fn find(&self, sha256: &str) -> Option<PathBuf> {
        let digits = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
        if sha256.len() != 64 || !sha256.bytes().all(digits) {
            return None;
        }
        self.folders.iter().map(|folder| folder.join(sha256)).find(|path| path.exists())
    }

    /// Fetches an artefact until it is here. Ends with the task that calls it.
    pub async fn obtain(&self, name: &str, artefact: &Artefact) {
        let mut pause = BACKOFF.0;
        while self.find(&artefact.sha256).is_none() {
            match self.fetch(artefact).await {
                Ok(source) => tracing::info!(name, sha256 = artefact.sha256, %source, "artefact fetched"),
                Err(error) => {
                    tracing::warn!(name, sha256 = artefact.sha256, again_in = ?pause, "artefact not fetched: {error:#}");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
        }
    }

    async fn fetch(&self, artefact: &Artefact) -> Result<Ipv6Addr> {
        let mut reasons = Vec::new();
        for source in &self.sources {
            match self.fetch_from(*source, artefact).await {
                Ok(()) => return Ok(*source),
                Err(error) => reasons.push(format!("{error:#}")),
            }
        }
        bail!(
            "no source has it: {}",
            if reasons.is_empty() { "none is known".into() } else { reasons.join("; ") }
        )
    }

    /// Stored under another name until its digest is proved; a crash leaves only that.
    async fn fetch_from(&self, source: Ipv6Addr, artefact: &Artefact) -> Result<()> {
        let folder = self.folders.first().context("no folder to store it in")?;
        tokio::fs::create_dir_all(folder)
            .await
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let url = format!("http://[{source}]/artefacts/{}", artefact.sha256);
        let partial = folder.join(format!(".{}.partial", artefact.sha256));
        download(&url, &partial, artefact).await.with_context(|| format!("cannot fetch {url}"))?;
        let place = folder.join(&artefact.sha256);
        tokio::fs::rename(&partial, &place).await.with_context(|| format!("cannot name {}", place.display()))
    }
}

async fn download(url: &str, partial: &Path, artefact: &Artefact) -> Result<()> {
    let client =
        reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).read_timeout(STALL);
    let answer =
        client.build().context("cannot build an HTTP client")?.get(url).send().await?.error_for_status()?;
    let mut file = tokio::fs::File::create(partial)
        .await
        .with_context(|| format!("cannot write {}", partial.display()))?;
    let mut stream = answer.bytes_stream();
    let mut digest = Sha256::new();
    let mut size = 0_u64;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.with_context(|| format!("broken off after {size} of {} octets", artefact.size))?;
        size += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        ensure!(size <= artefact.size, "longer than the {} octets it should have", artefact.size);
        digest.update(&chunk);
        file.write_all(&chunk).await.with_context(|| format!("cannot write {}", partial.display()))?;
    }
    file.sync_all().await.with_context(|| format!("cannot write {}", partial.display()))?;
    let found = hex::encode(digest.finalize());
    ensure!(found == artefact.sha256, "its sha256 is {found}, after {size} of {} octets", artefact.size);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_names_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let digest = "ab".repeat(32);
        std::fs::write(folder.path().join(&digest), b"x").unwrap();
        std::fs::write(folder.path().join("passwd"), b"x").unwrap();
        let artefacts = Artefacts::new(vec![folder.path().to_owned()], Vec::new());
        assert!(artefacts.find(&digest).is_some());
        for name in ["passwd", "../passwd", "", &digest.to_uppercase(), &"cd".repeat(32)] {
            assert_eq!(artefacts.find(name), None, "{name}");
        }
    }
}
