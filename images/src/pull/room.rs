//! How much of the disk belongs to what came from elsewhere, and what gives way to what is wanted now.
//!
//! Whatever came from a registry can come again, so the blob that was used longest ago goes when another one needs its
//! place, or what is left of a fetch that failed. What was given here, and all that it is made of, stays. A file that is
//! being read is read to its end, whether it still has a name or not.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::{FROM_UPSTREAM, ORIGIN, PullError};
use crate::store::{Descriptor, Digest, Store, StoreError};

/// A use is written down if the last one was so long before.
const NOTED: Duration = Duration::from_secs(60 * 60);

/// How far a store may grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limit {
    /// So many bytes.
    pub bytes: u64,
    /// What lies there for another reason: it does not count, and stays.
    pub beside: BTreeSet<Digest>,
}

/// The place that there is. Copies share it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    store: Store,
    limit: u64,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    /// The blobs, whole or not, that may go, how large they are, and when they were used last.
    blobs: HashMap<Digest, (u64, SystemTime)>,
    /// They, what stays, and what is claimed.
    total: u64,
}

/// A place for a blob that comes; it is free again if that does not.
#[derive(Debug)]
pub(super) struct Claim {
    room: Room,
    size: u64,
}

// === impl Limit ===

impl From<u64> for Limit {
    fn from(bytes: u64) -> Self {
        Self { bytes, beside: BTreeSet::new() }
    }
}

// === impl Room ===

impl Room {
    /// The place for a store that may grow up to a limit.
    pub(super) fn new(store: Store, limit: Limit) -> Result<Self, PullError> {
        let stays = pinned(&store)?;
        let mut taken = Taken::default();
        let Limit { bytes: limit, beside } = limit;
        for (digest, size, used) in store.blobs()?.into_iter().filter(|(digest, ..)| !beside.contains(digest))
        {
            taken.total += size;
            if !stays.contains(&digest) {
                taken.blobs.insert(digest, (size, used));
            }
        }
        Ok(Self { store, limit, taken: Arc::new(Mutex::new(taken)) })
    }

    /// Makes place for a blob of which so much is there, and which nobody else may remove from now on.
    pub(super) fn resume(&self, digest: &Digest, size: u64) -> Result<Claim, PullError> {
        let mut taken = self.taken();
        let (before, _) = taken.blobs.remove(digest).unwrap_or((0, SystemTime::UNIX_EPOCH));
        taken.total = taken.total.saturating_sub(before);
        drop(taken);
        self.claim(size)
    }

    /// Makes place for so many bytes.
    pub(super) fn claim(&self, size: u64) -> Result<Claim, PullError> {
        let mut claim = Claim { room: self.clone(), size: 0 };
        claim.grow(size)?;
        Ok(claim)
    }

    /// Changes names, while nobody makes place: what images are made of that were given here stays, and of what the change
    /// gives back whatever is no longer part of one may go.
    pub(super) fn rename<E: From<StoreError>>(
        &self,
        change: impl FnOnce() -> Result<BTreeSet<Digest>, E>,
    ) -> Result<(), E> {
        let mut taken = self.taken();
        let released = change()?;
        let stays = pinned(&self.store)?;
        taken.blobs.retain(|digest, _| !stays.contains(digest));
        for digest in released.difference(&stays) {
            if let Some(size) = self.store.size(digest) {
                taken.blobs.entry(*digest).or_insert_with(|| (size, SystemTime::now()));
            }
        }
        Ok(())
    }

    /// A blob is used.
    pub(super) fn note(&self, digest: &Digest) {
        let now = SystemTime::now();
        let mut taken = self.taken();
        let Some((_, used)) = taken.blobs.get_mut(digest) else { return };
        let is_news = now.duration_since(*used).is_ok_and(|since| since > NOTED);
        *used = now;
        drop(taken);
        if is_news && let Err(error) = self.store.touch(digest, now) {
            warn!(%digest, %error, "a blob's use is not remembered when this program begins again");
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Taken ===

impl Taken {
    fn removable(&self) -> u64 {
        self.blobs.values().map(|(size, _)| size).sum()
    }

    /// The blob that was used longest ago.
    fn oldest(&self) -> Option<Digest> {
        self.blobs.iter().min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest)
    }
}

// === impl Claim ===

impl Claim {
    /// Makes it as large as this, if it is smaller.
    pub(super) fn grow(&mut self, size: u64) -> Result<(), PullError> {
        let more = size.saturating_sub(self.size);
        let (mut taken, limit) = (self.room.taken(), self.room.limit);
        while taken.total.saturating_add(more) > limit {
            // Nothing goes if it would not be enough.
            let enough = taken.total.saturating_sub(taken.removable()).saturating_add(more) <= limit;
            let Some(oldest) = taken.oldest().filter(|_| enough) else {
                return Err(PullError::NoRoom { size, limit });
            };
            let (freed, _) = taken.blobs.remove(&oldest).unwrap_or((0, SystemTime::UNIX_EPOCH));
            self.room.store.remove_blob(&oldest)?;
            taken.total = taken.total.saturating_sub(freed);
            info!(digest = %oldest, freed, "a blob gives way to another");
        }
        taken.total += more;
        self.size += more;
        Ok(())
    }

    /// So much of the blob is there, and may go when it was used longest ago.
    pub(super) fn keep(mut self, digest: Digest, size: u64) {
        let mut taken = self.room.taken();
        taken.total = taken.total.saturating_sub(self.size);
        let before = taken.blobs.insert(digest, (size, SystemTime::now()));
        // Of one that was there before there is still one.
        taken.total += if before.is_some() { 0 } else { size };
        drop(taken);
        self.size = 0;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.total = taken.total.saturating_sub(self.size);
    }
}

/// All that the images are made of that were given here, and what was given to say something of them: their signatures.
fn pinned(store: &Store) -> Result<BTreeSet<Digest>, StoreError> {
    let mut all = BTreeSet::new();
    let mut repositories = BTreeSet::new();
    for (reference, target) in store.refs()? {
        if comes_from_upstream(&target) {
            continue;
        }
        match store.closure(&target.digest) {
            Ok(closure) => all.extend(closure.present.into_keys()),
            Err(error) => {
                warn!(%reference, %error, "an image that was given here is not whole");
                all.insert(target.digest);
            }
        }
        repositories.insert((reference.registry, reference.repository));
    }
    for (registry, repository) in repositories {
        for (target, manifest) in store.parsed_manifests(&registry, &repository)? {
            let subject = manifest.subject.filter(|subject| all.contains(&subject.digest));
            if subject.is_some() && !comes_from_upstream(&target) {
                store.reach(&target.digest, &mut all)?;
            }
        }
    }
    Ok(all)
}

/// Whether it can come again.
fn comes_from_upstream(target: &Descriptor) -> bool {
    target.annotations.get(ORIGIN).is_some_and(|origin| origin == FROM_UPSTREAM)
}
