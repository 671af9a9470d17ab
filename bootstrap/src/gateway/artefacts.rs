//! The artefacts that this node hands on: found in its folders, or fetched from who has them into the store that its images
//! are in.
//!
//! What breaks off is gone on with, at whichever source comes next, and also by the next process.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use images::client::{client_to_neighbours, content_range};
use images::store::{Digest, Partial, Store};
use reqwest::header::RANGE;
use reqwest::{Client, StatusCode};

use super::settings::{Artefact, GatewaySettings};

/// A source that sends nothing for this long is given up.
const STALL: Duration = Duration::from_secs(20);
/// How long to wait after every source failed: first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// For how long an artefact is fetched that one machine alone wants.
const WANTED_FOR: Duration = Duration::from_mins(30);
/// Chunks that are written together, if so many are there.
const TOGETHER: usize = 64;

/// Files named by their sha256.
#[derive(Debug, Clone)]
pub struct Artefacts {
    folders: Vec<PathBuf>,
    /// Where new ones go; none if there is no place.
    store: Option<Store>,
    sources: Vec<Ipv6Addr>,
    /// Those that somebody wanted, by digest.
    wanted: Arc<Mutex<BTreeSet<String>>>,
}

// === impl Artefacts ===

impl Artefacts {
    /// Artefacts in these folders and in the store, and these neighbours to ask for missing ones.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>, store: Option<Store>, sources: Vec<Ipv6Addr>) -> Self {
        Self { folders, store, sources, wanted: Arc::default() }
    }

    /// Those of a machine with these settings. Without a place it hands on what it has.
    #[must_use]
    pub fn open(settings: &GatewaySettings) -> Self {
        let stores = settings.seed.iter().filter_map(|seed| seed.image_stores.first());
        let folder = stores.chain(settings.relay.iter().map(|relay| &relay.images)).next();
        let store = folder.and_then(|folder| {
            let opened = Store::open(folder).inspect_err(|error| {
                tracing::warn!(folder = %folder.display(), %error, "artefacts that are missing are not fetched");
            });
            opened.ok()
        });
        Self::new(settings.artefact_folders.clone(), store, settings.sources.clone())
    }

    /// The file of this digest, if it is here; on a seed it may be a partition of the stick. Anything that is no digest has
    /// no file.
    #[must_use]
    pub fn find(&self, sha256: &str) -> Option<PathBuf> {
        let digest = Digest::from_hex(sha256).ok().filter(|digest| digest.hex() == sha256)?;
        let found = self.folders.iter().map(|folder| folder.join(sha256)).find(|path| path.exists());
        found.or_else(|| Some(self.store.as_ref()?.blob(&digest).ok()??.path))
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

    /// Begins to fetch an artefact that somebody asked for, unless that was begun. Who still wants it after
    /// half an hour asks again.
    pub fn want(&self, name: &str, artefact: &Artefact) {
        let wanted = || self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted().insert(artefact.sha256.clone()) {
            return;
        }
        tracing::info!(name, sha256 = artefact.sha256, "artefact wanted that is not here");
        let (this, name, artefact) = (self.clone(), name.to_owned(), artefact.clone());
        tokio::spawn(async move {
            let in_time = tokio::time::timeout(WANTED_FOR, this.obtain(&name, &artefact)).await;
            if in_time.is_err() {
                tracing::warn!(name, sha256 = artefact.sha256, "artefact given up until it is wanted again");
            }
            this.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&artefact.sha256);
        });
    }

    async fn fetch(&self, artefact: &Artefact) -> Result<Ipv6Addr> {
        let client = client_to_neighbours().context("cannot ask neighbours")?;
        let mut reasons = BTreeSet::new();
        for source in &self.sources {
            match self.fetch_from(&client, *source, artefact).await {
                Ok(()) => return Ok(*source),
                Err(error) => reasons.insert(format!("{error:#}")),
            };
        }
        let reasons: Vec<String> = reasons.into_iter().collect();
        bail!(
            "no source has it: {}",
            if reasons.is_empty() { "none is known".into() } else { reasons.join("; ") }
        )
    }

    async fn fetch_from(&self, client: &Client, source: Ipv6Addr, artefact: &Artefact) -> Result<()> {
        let store = self.store.clone().context("there is no place for it")?;
        let digest = Digest::from_hex(&artefact.sha256).context("a digest")?;
        let url = format!("http://[{source}]/artefacts/{}", artefact.sha256);
        let partial = blocking(move || Ok(store.partial(&digest)?)).await?;
        download(client, &url, partial, artefact).await.with_context(|| format!("cannot fetch {url}"))
    }
}

async fn download(client: &Client, url: &str, mut partial: Partial, artefact: &Artefact) -> Result<()> {
    let there = partial.size();
    if there < artefact.size {
        let answer = client.get(url).header(RANGE, format!("bytes={there}-")).send();
        let answer = tokio::time::timeout(STALL, answer).await.context("it does not answer")??;
        let answer = answer.error_for_status()?;
        let from = content_range(&answer).map(|(from, _)| from);
        ensure!(
            answer.status() == StatusCode::PARTIAL_CONTENT && from == Some(there),
            "it does not go on at octet {there}"
        );
        let mut stream = answer.bytes_stream().ready_chunks(TOGETHER);
        while let Some(chunks) =
            tokio::time::timeout(STALL, stream.next()).await.context("it says nothing more")?
        {
            let size = artefact.size;
            partial = blocking(move || {
                for chunk in chunks {
                    let chunk = chunk
                        .with_context(|| format!("broken off after {} of {size} octets", partial.size()))?;
                    let after = partial.size() + chunk.len() as u64;
                    ensure!(after <= size, "longer than the {size} octets it should have");
                    partial.append(&chunk)?;
                }
                Ok(partial)
            })
            .await?;
        }
    }
    let size = artefact.size;
    blocking(move || {
        ensure!(partial.size() >= size, "broken off after {} of {size} octets", partial.size());
        match partial.prove() {
            Ok(()) => Ok(partial.commit()?),
            // Whose fault it was nobody knows; all of it is fetched again.
            Err(error) => partial.discard().map_err(anyhow::Error::from).and(Err(error.into())),
        }
    })
    .await
}

/// Work on a disk, on a thread that may wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
