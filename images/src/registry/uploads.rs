//! Blobs that clients push, piece by piece.
//!
//! A piece that breaks off leaves what came of it: the client asks how much that is and goes on. What nobody goes on with
//! for an hour is gone, as is all of it when this program ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use futures::StreamExt as _;
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use super::error::Refusal;
use crate::pull::{Given, GivenError, Puller, blocking};
use crate::store::{Digest, Repository};

/// Uploads at a time; `docker push` has five.
const MAX_UPLOADS: usize = 64;
/// How long an upload waits to be gone on with.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// Pieces that are written together, if so many are there: each way to a thread that may wait costs as much as a write.
const TOGETHER: usize = 64;

/// The uploads of one registry. Copies share them.
#[derive(Debug, Clone)]
pub(super) struct Uploads {
    puller: Puller,
    open: Arc<Mutex<HashMap<Uuid, Upload>>>,
}

#[derive(Debug, Clone)]
struct Upload {
    repository: Repository,
    touched: Instant,
    /// None once it has come to an end.
    given: Arc<AsyncMutex<Option<Given>>>,
}

// === impl Uploads ===

impl Uploads {
    pub(super) fn new(puller: Puller) -> Self {
        Self { puller, open: Arc::default() }
    }

    /// Begins an upload.
    pub(super) async fn begin(&self, repository: &Repository) -> Result<Uuid, Refusal> {
        let puller = self.puller.clone();
        let given = blocking(move || puller.begin_given()).await?;
        let mut open = self.open();
        // One that is being written to may take as long as it takes.
        open.retain(|_, upload| upload.touched.elapsed() < PATIENCE || upload.given.try_lock().is_err());
        if open.len() >= MAX_UPLOADS {
            return Err(Refusal::TooManyUploads(MAX_UPLOADS));
        }
        let id = Uuid::new_v4();
        let given = Arc::new(AsyncMutex::new(Some(given)));
        open.insert(id, Upload { repository: repository.clone(), touched: Instant::now(), given });
        Ok(id)
    }

    /// How much of it is there.
    pub(super) async fn size(&self, repository: &Repository, id: Uuid) -> Result<u64, Refusal> {
        let upload = self.find(repository, id)?;
        let given = upload.given.lock().await;
        given.as_ref().map(Given::size).ok_or_else(|| unknown(id))
    }

    /// Adds a piece, which begins at `from` if the client says where, and gives how much is there then. What came of it
    /// stays, also if the client leaves.
    pub(super) async fn append(
        &self,
        repository: &Repository,
        id: Uuid,
        from: Option<u64>,
        piece: Body,
    ) -> Result<u64, Refusal> {
        let upload = self.find(repository, id)?;
        let uploads = self.clone();
        // A task of its own: that of a request ends with its client.
        let appended = tokio::spawn(async move {
            let mut slot = upload.given.lock().await;
            let given = slot.take().ok_or_else(|| unknown(id))?;
            let there = given.size();
            if let Some(from) = from.filter(|from| *from != there) {
                *slot = Some(given);
                return Err(Refusal::UploadRange { from, there });
            }
            match write(given, piece).await {
                Ok((given, None)) => {
                    let size = given.size();
                    *slot = Some(given);
                    Ok(size)
                }
                Ok((given, Some(broken))) => {
                    *slot = Some(given);
                    Err(broken)
                }
                Err(failed) => {
                    uploads.open().remove(&id);
                    Err(failed.into())
                }
            }
        });
        appended.await.map_err(|error| Refusal::UploadBroken(error.to_string()))?
    }

    /// Ends it: its bytes have to be what the digest says.
    pub(super) async fn finish(
        &self,
        repository: &Repository,
        id: Uuid,
        digest: Digest,
    ) -> Result<u64, Refusal> {
        let upload = self.find(repository, id)?;
        let given = upload.given.lock().await.take().ok_or_else(|| unknown(id))?;
        self.open().remove(&id);
        Ok(blocking(move || given.finish(&digest)).await?)
    }

    /// Gives it up.
    pub(super) fn cancel(&self, repository: &Repository, id: Uuid) -> Result<(), Refusal> {
        self.find(repository, id)?;
        self.open().remove(&id);
        Ok(())
    }

    fn find(&self, repository: &Repository, id: Uuid) -> Result<Upload, Refusal> {
        let mut open = self.open();
        let upload = open.get_mut(&id).filter(|upload| upload.repository == *repository);
        let upload = upload.ok_or_else(|| unknown(id))?;
        upload.touched = Instant::now();
        Ok(upload.clone())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Uuid, Upload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a piece until it ends or breaks off.
async fn write(mut given: Given, piece: Body) -> Result<(Given, Option<Refusal>), GivenError> {
    let mut piece = piece.into_data_stream().ready_chunks(TOGETHER);
    while let Some(chunks) = piece.next().await {
        let written = blocking(move || {
            for chunk in chunks {
                match chunk {
                    Ok(chunk) => given.append(&chunk)?,
                    Err(error) => return Ok((given, Some(Refusal::UploadBroken(error.to_string())))),
                }
            }
            Ok::<_, GivenError>((given, None))
        });
        let broken;
        (given, broken) = written.await?;
        if broken.is_some() {
            return Ok((given, broken));
        }
    }
    Ok((given, None))
}

fn unknown(id: Uuid) -> Refusal {
    Refusal::UploadUnknown(format!("there is no upload {id}, or no longer"))
}
