//! A store that fetches what it has not got.
//!
//! What is named by a digest is fetched once. What is named by a tag is looked up again as often as the [`Revalidate`]
//! says, and served as it was last seen if its registry is away, or has it no more: a mesh goes on without the Internet.
//! A tag that was given here, and did not come from a registry, is nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::task::JoinError;

use crate::store::{Blob, Digest, Reference, RegistryName, Repository, Store};
use crate::upstream::{Trail, Upstream};

mod error;
mod flight;
mod given;
mod manifest;
mod reader;
mod room;
mod tally;
#[cfg(test)]
mod tests;
mod upstreams;
mod whole;

pub use error::PullError;
pub use flight::Flight;
pub use given::{Given, GivenError};
pub use manifest::Held;
pub use room::Limit;
use room::Room;
pub use tally::Count;
use tally::Tally;
pub use upstreams::Upstreams;
pub use whole::WholeError;

/// Where a tag's manifest came from, among its descriptor's annotations.
const ORIGIN: &str = "io.meshboot.origin";
const FROM_UPSTREAM: &str = "upstream";

/// How often a tag is looked up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revalidate {
    /// Once it is here, never.
    Never,
    /// When it was looked up so long ago.
    After(Duration),
    /// Whenever it is asked for.
    Always,
}

/// A store that fetches what it has not got. Clones share it.
#[derive(Debug, Clone)]
pub struct Puller {
    inner: Arc<Inner>,
    /// Who asked, if it was not somebody on this machine.
    trail: Trail,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    /// None if there is no limit.
    room: Option<Room>,
    upstreams: Upstreams,
    revalidate: Revalidate,
    flights: Mutex<HashMap<Digest, Arc<Flight>>>,
    /// Held by whoever fetches a manifest, by its name.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// When tags were looked up.
    seen: Mutex<HashMap<Reference, Instant>>,
    tally: Arc<Tally>,
}

/// A blob that can be read.
#[derive(Debug)]
pub enum Found {
    /// It is here.
    Stored(Blob),
    /// It comes, and this many bytes will be there, if that is known.
    Coming(Arc<Flight>, Option<u64>),
}

// === impl Puller ===

impl Puller {
    /// A store that may grow up to a limit, and those who are asked for what is missing in it.
    ///
    /// # Errors
    ///
    /// [`PullError::Store`]: what is there cannot be read.
    pub fn new(
        store: Store,
        limit: impl Into<Limit>,
        upstreams: Upstreams,
        revalidate: Revalidate,
    ) -> Result<Self, PullError> {
        let room = Room::new(store.clone(), limit.into())?;
        Ok(Self::with(store, Some(room), upstreams, revalidate))
    }

    /// A store that may grow as far as its disk has room: whoever uses it sees to that.
    #[must_use]
    pub fn unlimited(store: Store, upstreams: Upstreams, revalidate: Revalidate) -> Self {
        Self::with(store, None, upstreams, revalidate)
    }

    /// A store that is all there is.
    #[must_use]
    pub fn offline(store: Store) -> Self {
        Self::with(store, None, Upstreams::none(), Revalidate::Never)
    }

    fn with(store: Store, room: Option<Room>, upstreams: Upstreams, revalidate: Revalidate) -> Self {
        let (flights, turns, seen) = (Mutex::default(), Mutex::default(), Mutex::default());
        let tally = Arc::default();
        let inner = Inner { store, room, upstreams, revalidate, flights, turns, seen, tally };
        Self { inner: Arc::new(inner), trail: Trail::default() }
    }

    /// The same for a request that others have passed on until it came here.
    #[must_use]
    pub fn on_behalf_of(&self, trail: Trail) -> Self {
        Self { inner: Arc::clone(&self.inner), trail }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Where blobs came from so far.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        self.inner.tally.counts()
    }

    /// A repository's listing as its registry gives it, with its `Link` to more; none if nobody is asked for it.
    ///
    /// # Errors
    ///
    /// [`PullError`].
    pub async fn listing(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<(HeaderMap, Bytes)>, PullError> {
        let what = || format!("{registry}/{repository}/{}", path.join("/"));
        match self.whom_to_ask(registry, what) {
            Ok(upstream) => Ok(Some(upstream.listing(repository, path, query).await?)),
            Err(PullError::Absent(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A blob of a repository.
    ///
    /// # Errors
    ///
    /// [`PullError`].
    pub async fn blob(
        &self,
        registry: &RegistryName,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Found, PullError> {
        let alone = self.inner.upstreams.of(registry)?.is_none();
        let (store, wanted) = (self.inner.store.clone(), *digest);
        // Where nobody is asked, a repository has what its images have.
        let names = (registry.clone(), repository.clone());
        let stored = blocking(move || match alone && !store.knows(&names.0, &names.1) {
            true => Ok(None),
            false => store.blob(&wanted),
        });
        if let Some(blob) = stored.await? {
            self.use_blob(digest).await;
            self.inner.tally.count(tally::STORE, blob.size);
            return Ok(Found::Stored(blob));
        }
        let upstream = self.whom_to_ask(registry, || format!("{registry}/{repository}@{digest}"))?;
        loop {
            let flight = self.flight(&upstream, repository, digest);
            match flight.head().await {
                Ok(size) => return Ok(Found::Coming(flight, size)),
                // It was fetched in another name.
                Err(_) if !flight.is_for(&upstream, repository) => self.landed(digest, &flight),
                Err(error) => return Err(PullError::Shared(error)),
            }
        }
    }

    /// Who is asked for something that is not here.
    fn whom_to_ask(&self, registry: &RegistryName, what: impl Fn() -> String) -> Result<Upstream, PullError> {
        let upstreams = &self.inner.upstreams;
        let upstream = upstreams.of(registry)?.ok_or_else(|| PullError::Absent(what()))?;
        if upstreams.name().is_some_and(|name| self.trail.comes_back_to(name)) {
            return Err(PullError::Circle { what: what(), trail: self.trail.to_string() });
        }
        Ok(upstream.on_behalf_of(&self.trail))
    }

    fn flight(&self, upstream: &Upstream, repository: &Repository, digest: &Digest) -> Arc<Flight> {
        let mut flights = self.flights();
        if let Some(flight) = flights.get(digest) {
            return Arc::clone(flight);
        }
        let (puller, wanted) = (Arc::downgrade(&self.inner), *digest);
        let landed = move || {
            let Some(inner) = puller.upgrade() else { return };
            let mut flights = inner.flights.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one may have begun since.
            if flights.get(&wanted).is_some_and(|flight| flight.is_over()) {
                flights.remove(&wanted);
            }
        };
        let (store, room) = (self.inner.store.clone(), self.inner.room.clone());
        let source = (upstream.clone(), repository.clone());
        let tally = Arc::clone(&self.inner.tally);
        let flight = Flight::begin(store, room, tally, source, *digest, landed);
        let flight = Arc::new(flight);
        flights.insert(*digest, Arc::clone(&flight));
        flight
    }

    async fn use_blob(&self, digest: &Digest) {
        if let Some(room) = self.inner.room.clone() {
            let digest = *digest;
            blocking(move || room.note(&digest)).await;
        }
    }

    /// Forgets a flight that is over.
    fn landed(&self, digest: &Digest, flight: &Arc<Flight>) {
        let mut flights = self.flights();
        if flights.get(digest).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            flights.remove(digest);
        }
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Flight>>> {
        self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work on a disk, on a thread that may wait for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is about to end, and this task with it.
        Err(Err(_)) => std::future::pending().await,
    }
}
