//! A blob on its way: fetched once, stored, and handed on while it comes.
//!
//! One task fetches and writes, and whoever wants the blob reads what is written. No reader is waited for, and none ends
//! the fetch by leaving. What the source breaks off is gone on with where it broke off. Before the digest is proved the last
//! byte is held back: no client ever has the whole of something that is wrong.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, Stream, stream};
use reqwest::StatusCode;
use tokio::sync::watch;
use tracing::{info, warn};

use super::reader::Reader;
use super::room::{Claim, Room};
use super::tally::Tally;
use super::{PullError, blocking};
use crate::store::{Digest, Partial, Repository, Store};
use crate::upstream::{Incoming, Upstream, UpstreamError};

/// How often in a row the source may fail without one more byte.
const ATTEMPTS: u32 = 5;
/// How long to wait after the first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// A source that wants to be left alone for longer has refused.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What is written at once, if so much is there.
const BATCH: usize = 1 << 20;

/// A blob on its way.
#[derive(Debug)]
pub struct Flight {
    digest: Digest,
    upstream: Upstream,
    repository: Repository,
    progress: watch::Receiver<Progress>,
}

/// How far it has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Where it is written to, once that is known.
    pub(super) file: Option<Arc<File>>,
    written: u64,
    size: Option<u64>,
    /// The source has answered that the blob is there.
    answered: bool,
    pub(super) end: Option<End>,
}

/// What became of it.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// All of it is there, and is what its digest says.
    Whole,
    Failed(Arc<PullError>),
}

/// The writer's side.
struct Fetch {
    store: Store,
    room: Option<Room>,
    tally: Arc<Tally>,
    digest: Digest,
    upstream: Upstream,
    repository: Repository,
    progress: watch::Sender<Progress>,
}

/// How one answer of the source ended.
enum Ended {
    Whole(Partial),
    Broken(Partial, UpstreamError),
    /// What there was of it was none of it; nothing is there now.
    Wrong(Partial),
}

// === impl Flight ===

impl Flight {
    /// Begins to fetch a blob. `landed` is called when it has come to its end, well or badly.
    pub(super) fn begin(
        store: Store,
        room: Option<Room>,
        tally: Arc<Tally>,
        (upstream, repository): (Upstream, Repository),
        digest: Digest,
        landed: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (progress, seen) = watch::channel(Progress::default());
        let fetch = Fetch {
            store,
            room,
            tally,
            digest,
            upstream: upstream.clone(),
            repository: repository.clone(),
            progress,
        };
        let work = tokio::spawn(async move {
            let end = match fetch.run().await {
                Ok(()) => End::Whole,
                Err(error) => {
                    info!(%digest, error = &error as &dyn std::error::Error, "a blob was not fetched");
                    End::Failed(Arc::new(error))
                }
            };
            fetch.progress.send_modify(|progress| progress.end = Some(end));
        });
        tokio::spawn(async move {
            // Also when it ended in a way that is a fault of this program.
            let _ended = work.await;
            landed();
        });
        Self { digest, upstream, repository, progress: seen }
    }

    /// Whose image it is fetched for: another one's registry may refuse what this one's gives.
    pub(super) fn is_for(&self, upstream: &Upstream, repository: &Repository) -> bool {
        self.upstream.registry() == upstream.registry() && self.repository == *repository
    }

    /// Whether it has come to its end, well or badly.
    pub(super) fn is_over(&self) -> bool {
        self.progress.borrow().end.is_some() || self.progress.has_changed().is_err()
    }

    /// Waits until the source has said that it has the blob, and gives its length if that is known.
    ///
    /// # Errors
    ///
    /// Why it will not come.
    pub async fn head(&self) -> Result<Option<u64>, Arc<PullError>> {
        let mut progress = self.progress.clone();
        let known = progress.wait_for(|progress| progress.answered || progress.end.is_some()).await;
        let known = known.map_err(|_| Arc::new(PullError::Ended))?;
        match &known.end {
            Some(End::Failed(error)) if !error.is_for_room() => Err(Arc::clone(error)),
            Some(End::Whole) => Ok(Some(known.written)),
            Some(End::Failed(_)) | None => Ok(known.size),
        }
    }

    /// Waits until all of it came and, if the disk takes it, is stored, and tells how much of it is there.
    ///
    /// # Errors
    ///
    /// Why it does not come.
    pub async fn whole(&self, tell: impl Fn(u64)) -> Result<(), Arc<PullError>> {
        let mut progress = self.progress.clone();
        loop {
            let (written, end) = {
                let seen = progress.borrow_and_update();
                (seen.written, seen.end.clone())
            };
            tell(written);
            match end {
                // It has its end before it has its name; who fetches it goes when both are done.
                Some(End::Whole) => {
                    while progress.changed().await.is_ok() {}
                    return Ok(());
                }
                Some(End::Failed(error)) => return Err(error),
                None => progress.changed().await.map_err(|_| Arc::new(PullError::Ended))?,
            }
        }
    }

    /// The blob's bytes from one up to another, or up to its end, as they come: by way of the store, or past it if that has
    /// no room.
    pub fn read(&self, from: u64, to: Option<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let source = (self.upstream.clone(), self.repository.clone());
        let reader = Reader::new(self.digest, source, self.progress.clone(), from, to);
        stream::try_unfold(reader, async |mut reader| {
            let chunk = reader.next().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        })
    }
}

// === impl Progress ===

impl Progress {
    /// Up to where it may be read.
    pub(super) fn safe(&self) -> u64 {
        match (&self.end, self.size) {
            (Some(End::Whole), _) => self.written,
            (_, Some(size)) if self.written < size => self.written,
            _ => self.written.saturating_sub(1),
        }
    }
}

// === impl Fetch ===

impl Fetch {
    async fn run(&self) -> Result<(), PullError> {
        if self.is_stored().await? {
            return Ok(());
        }
        let partial = self.open().await?;
        let mut claim = self.claim(partial.size()).await?;
        let fetched = self.fetch(partial, &mut claim).await;
        let (store, digest) = (self.store.clone(), self.digest);
        let left = match &fetched {
            Ok(size) => *size,
            // What has no place leaves nothing behind; what broke off is gone on with by who asks next.
            Err(error) if error.is_for_room() => {
                blocking(move || store.remove_blob(&digest)).await?;
                0
            }
            Err(_) => blocking(move || store.begun(&digest)).await,
        };
        claim.into_iter().filter(|_| left > 0).for_each(|claim| claim.keep(digest, left));
        fetched.map(drop)
    }

    /// Fetches what is missing, as often as it takes, and gives how much of the blob is stored then.
    async fn fetch(&self, mut partial: Partial, claim: &mut Option<Claim>) -> Result<u64, PullError> {
        let begun = partial.size() > 0;
        let mut failures = 0;
        loop {
            let before = partial.size();
            let error = match self.attempt(partial, claim).await? {
                Ended::Whole(whole) => return self.land(whole, begun).await,
                Ended::Wrong(nothing) => {
                    partial = nothing;
                    continue;
                }
                Ended::Broken(left, error) => {
                    partial = left;
                    error
                }
            };
            failures = if partial.size() > before { 1 } else { failures + 1 };
            let wait = error.wait().map(|wait| wait.max(FIRST_WAIT * 2_u32.pow(failures - 1)));
            let Some(wait) = wait.filter(|wait| failures < ATTEMPTS && *wait <= MAX_WAIT) else {
                return Err(error.into());
            };
            let (digest, done) = (self.digest, partial.size());
            info!(%digest, done, %error, ?wait, "a blob broke off and will be gone on with");
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether it was stored just before this began; then it is read from there.
    async fn is_stored(&self) -> Result<bool, PullError> {
        let (store, digest) = (self.store.clone(), self.digest);
        let Some(blob) = blocking(move || store.blob(&digest)).await? else { return Ok(false) };
        self.progress.send_modify(|progress| {
            progress.file = Some(Arc::new(blob.file));
            progress.written = blob.size;
        });
        Ok(true)
    }

    /// What is there of the blob.
    async fn open(&self) -> Result<Partial, PullError> {
        let (store, digest) = (self.store.clone(), self.digest);
        let partial = blocking(move || store.partial(&digest)).await?;
        self.progress.send_modify(|progress| {
            progress.file = Some(partial.file());
            progress.written = partial.size();
        });
        Ok(partial)
    }

    async fn claim(&self, size: u64) -> Result<Option<Claim>, PullError> {
        let Some(room) = self.room.clone() else { return Ok(None) };
        let digest = self.digest;
        blocking(move || room.resume(&digest, size)).await.map(Some)
    }

    async fn attempt(&self, mut partial: Partial, claim: &mut Option<Claim>) -> Result<Ended, PullError> {
        let from = partial.size();
        let mut incoming = match self.upstream.blob(&self.repository, &self.digest, from).await {
            Ok(incoming) => incoming,
            Err(error) if from > 0 && is_beyond(&error) => return self.beyond(partial, error).await,
            Err(error) => return Ok(Ended::Broken(partial, error)),
        };
        let (size, source) = (incoming.size, incoming.source());
        self.progress.send_modify(|progress| {
            progress.answered = true;
            progress.size = size.or(progress.size);
        });
        if let (Some(claim), Some(size)) = (claim.as_mut(), size) {
            claim.grow(size)?;
        }
        // A source that knows no ranges begins at the first byte again.
        let mut skip = from.saturating_sub(incoming.start);
        loop {
            let batch = match batch(&mut incoming, &mut skip).await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => return Ok(Ended::Broken(partial, error)),
            };
            let before = partial.size();
            let (left, written) = blocking(move || {
                let written = batch.iter().try_for_each(|chunk| partial.append(chunk));
                (partial, written)
            })
            .await;
            partial = left;
            let there = partial.size();
            self.tally.add(&source, there - before);
            self.progress.send_modify(|progress| progress.written = there);
            written?;
            if let Some(claim) = claim {
                claim.grow(there)?;
            }
        }
        self.tally.count(&source, 0);
        match size {
            Some(size) if partial.size() != size => {
                let url = format!("the blob {} of {}", self.digest, self.repository.as_str());
                let error = UpstreamError::Short { url, size, got: partial.size() };
                Ok(Ended::Broken(partial, error))
            }
            _ => Ok(Ended::Whole(partial)),
        }
    }

    /// The source has no more of it. Somebody may have been killed who had all of it; or it is longer than the blob, and
    /// none of it.
    async fn beyond(&self, partial: Partial, error: UpstreamError) -> Result<Ended, PullError> {
        if partial.prove().is_ok() {
            return Ok(Ended::Whole(partial));
        }
        self.forget(partial).await?;
        // Who has read some of what was wrong must not be given the end of what is right.
        if self.progress.borrow().answered {
            return Err(error.into());
        }
        Ok(Ended::Wrong(self.open().await?))
    }

    /// Proves it, lets readers have its end, and makes it durable.
    async fn land(&self, partial: Partial, begun: bool) -> Result<u64, PullError> {
        if let Err(error) = partial.prove() {
            warn!(digest = %self.digest, begun, %error, "a blob came that is another");
            self.forget(partial).await?;
            return Err(error.into());
        }
        self.progress.send_modify(|progress| progress.end = Some(End::Whole));
        let (digest, size) = (self.digest, partial.size());
        match blocking(move || partial.commit()).await {
            Ok(()) => Ok(size),
            // Who waits for it has it; the next one has to fetch its end again.
            Err(error) => {
                warn!(%digest, error = &error as &dyn std::error::Error, "a blob was fetched and not stored");
                Ok(self.store.begun(&digest))
            }
        }
    }

    async fn forget(&self, partial: Partial) -> Result<(), PullError> {
        Ok(blocking(move || partial.discard()).await?)
    }
}

/// All that is there already, and at least one chunk; none at the end.
async fn batch(incoming: &mut Incoming, skip: &mut u64) -> Result<Option<Vec<Bytes>>, UpstreamError> {
    let mut batch = Vec::new();
    let mut len = 0;
    let mut next = incoming.chunk().await?;
    while let Some(mut chunk) = next {
        let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
        drop(chunk.split_to(skipped));
        *skip -= skipped as u64;
        len += chunk.len();
        batch.push(chunk);
        if len >= BATCH {
            return Ok(Some(batch));
        }
        next = match incoming.chunk().now_or_never() {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => {
                incoming.put_back(error);
                None
            }
            None => None,
        };
        if next.is_none() {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

/// The registry has no such part of the blob.
fn is_beyond(error: &UpstreamError) -> bool {
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    matches!(error, UpstreamError::WrongPart { .. })
        || matches!(error, UpstreamError::Status { status: said, .. } if *said == status)
}
