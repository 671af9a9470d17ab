//! Who wants a blob that is on its way: by way of the store, or past it if that has no room.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::flight::{End, Progress};
use super::{PullError, blocking};
use crate::store::{Digest, Hasher, Repository, StoreError};
use crate::upstream::{Incoming, Upstream};

/// What a reader reads at once.
const CHUNK: u64 = 128 * 1024;

/// Who reads it.
pub(super) struct Reader {
    digest: Digest,
    at: u64,
    to: Option<u64>,
    progress: watch::Receiver<Progress>,
    past: Option<Past>,
    source: (Upstream, Repository),
}

/// The blob past the store, for one reader.
struct Past {
    incoming: Incoming,
    skip: u64,
    /// Of a reader from the first byte on.
    proof: Option<Hasher>,
    digest: Digest,
    held: Option<Bytes>,
}

// === impl Reader ===

impl Reader {
    /// Of a blob's bytes from one up to another, or up to its end.
    pub(super) fn new(
        digest: Digest,
        source: (Upstream, Repository),
        progress: watch::Receiver<Progress>,
        at: u64,
        to: Option<u64>,
    ) -> Self {
        Self { digest, at, to, progress, past: None, source }
    }

    /// The next bytes, when they are there; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Arc<PullError>> {
        while self.to.is_none_or(|to| self.at < to) {
            if let Some(past) = &mut self.past {
                return past.next(&mut self.at, self.to).await.map_err(Arc::new);
            }
            let now = self.progress.borrow_and_update().clone();
            let safe = now.safe();
            match (now.file, now.end) {
                (Some(file), _) if self.at < safe => {
                    let (at, len) = (self.at, (self.to.unwrap_or(u64::MAX).min(safe) - self.at).min(CHUNK));
                    let chunk = blocking(move || read_at(&file, at, len)).await;
                    let chunk = chunk.map_err(|error| Arc::new(PullError::Read(error)))?;
                    self.at += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                (_, Some(End::Whole)) => return Ok(None),
                (_, Some(End::Failed(error))) if error.is_for_room() => {
                    let (upstream, repository) = &self.source;
                    let past = Past::open(upstream, repository, self.digest, self.at).await;
                    self.past = Some(past.map_err(Arc::new)?);
                }
                (_, Some(End::Failed(error))) => return Err(error),
                (_, None) => {
                    let changed = self.progress.changed().await;
                    changed.map_err(|_| Arc::new(PullError::Ended))?;
                }
            }
        }
        Ok(None)
    }
}

// === impl Past ===

impl Past {
    async fn open(
        upstream: &Upstream,
        repository: &Repository,
        digest: Digest,
        at: u64,
    ) -> Result<Self, PullError> {
        let incoming = upstream.blob(repository, &digest, at).await?;
        let skip = at.saturating_sub(incoming.start);
        let proof = (at == 0).then(Hasher::default);
        Ok(Self { incoming, skip, proof, digest, held: None })
    }

    /// The chunk before the one that came last.
    async fn next(&mut self, at: &mut u64, to: Option<u64>) -> Result<Option<Bytes>, PullError> {
        loop {
            let Some(mut chunk) = self.incoming.chunk().await? else {
                let Some(last) = self.held.take() else { return Ok(None) };
                if let Some(actual) = self.proof.take().map(Hasher::finish)
                    && actual != self.digest
                {
                    return Err(StoreError::Mismatch { expected: self.digest, actual }.into());
                }
                *at += last.len() as u64;
                return Ok(Some(last));
            };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
            drop(chunk.split_to(skipped));
            self.skip -= skipped as u64;
            if let Some(proof) = &mut self.proof {
                proof.update(&chunk);
            }
            let left = to.map_or(usize::MAX, |to| {
                let held = self.held.as_ref().map_or(0, Bytes::len) as u64;
                usize::try_from(to.saturating_sub(*at + held)).unwrap_or(usize::MAX)
            });
            chunk.truncate(left);
            if let Some(before) = self.held.replace(chunk) {
                *at += before.len() as u64;
                return Ok(Some(before));
            }
        }
    }
}

fn read_at(file: &File, at: u64, len: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}
