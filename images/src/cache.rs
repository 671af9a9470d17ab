//! What was made once and can be used again: folders named after the recipe that made them.
//!
//! A folder appears under its name only when all of it is there. What an interrupted run left behind lies beside it
//! under a name that nobody looks at, and goes when the next run begins.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use tempfile::TempDir;

use crate::{
    progress::Progress,
    store::{Digest, Hasher},
};

/// What unfinished folders are called.
const UNFINISHED: &str = ".unfinished-";

/// How many finished folders of a kind are kept. Each change of a recipe makes another, of up to half a GiB, and who goes
/// back and forth between two of them, or builds for two meshes, wants neither made again.
const KEPT: usize = 3;

/// What a thing is made of: change one word of it, and it is another thing.
#[derive(Debug, Default)]
pub(crate) struct Recipe(Hasher);

/// The cache's folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    /// Unlocked when dropped.
    _lock: File,
}

/// The cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct CacheError {
    /// What was being done.
    doing: &'static str,
    /// On what.
    path: PathBuf,
    /// Why it failed.
    #[source]
    source: io::Error,
}

// === impl Recipe ===

impl Recipe {
    pub(crate) fn new(name: &str) -> Self {
        Self::default().with(name)
    }

    /// Adds an ingredient. Its length counts, too: `ab`, `c` is not `a`, `bc`.
    pub(crate) fn with(mut self, ingredient: impl AsRef<[u8]>) -> Self {
        let bytes = ingredient.as_ref();
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn key(self) -> String {
        self.0.finish().hex()[..16].to_owned()
    }
}

// === impl CacheError ===

impl CacheError {
    pub(crate) fn new(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { doing, path: path.into(), source }
    }
}

// === impl Cache ===

impl Cache {
    /// Opens the cache, once no other process makes images in it.
    pub(crate) async fn open(root: &Path, progress: &dyn Progress) -> Result<Self, CacheError> {
        fs::create_dir_all(root).map_err(|error| CacheError::new("making", root, error))?;
        // Tools are run in folders of their own: a relative path would lead elsewhere there.
        let root = root.canonicalize().map_err(|error| CacheError::new("finding", root, error))?;
        let path = root.join(".lock");
        let failed = |error| CacheError::new("locking", &path, error);
        let file = File::create(&path).map_err(failed)?;
        let lock = match file.try_lock() {
            Ok(()) => file,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                progress.stage("waiting for another run that makes images");
                progress.line(&format!("it holds {}", path.display()));
                tokio::task::spawn_blocking(move || file.lock().map(|()| file))
                    .await
                    .map_err(|error| failed(io::Error::other(error)))?
                    .map_err(failed)?
            }
        };
        Ok(Self { root, _lock: lock })
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The finished folder of this kind and key, if there is one. It counts as used now.
    pub(crate) fn finished(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let path = self.root.join(kind).join(key);
        let dir = File::open(&path).ok().filter(|dir| dir.metadata().is_ok_and(|it| it.is_dir()))?;
        // Where that is refused, as on a disk without room, it only counts as older than it is.
        let _counted = dir.set_modified(SystemTime::now());
        Some(path)
    }

    /// A folder to make something in. It goes when it is dropped, unless it is [finished](Self::finish).
    pub(crate) fn begin(&self, kind: &str) -> Result<TempDir, CacheError> {
        let dir = self.root.join(kind);
        let failed = |error| CacheError::new("making a folder in", &dir, error);
        fs::create_dir_all(&dir).map_err(failed)?;
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                // Nobody else works here: we hold the lock.
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(&dir).map_err(failed)
    }

    /// Gives a folder its name, in place of what had the name before. Of its kind, [those unused for longest](KEPT) go.
    pub(crate) fn finish(&self, made: TempDir, kind: &str, key: &str) -> Result<PathBuf, CacheError> {
        let path = self.root.join(kind).join(key);
        let failed = |error| CacheError::new("finishing", &path, error);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?;
        }
        // A folder that others, too, may look into: what is in it is no secret.
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        fs::rename(made.keep(), &path).map_err(failed)?;
        self.prune(kind, &path)?;
        Ok(path)
    }

    /// Removes what nobody used for longest of a kind, and the artefacts that nothing but their digest names any more.
    fn prune(&self, kind: &str, newest: &Path) -> Result<(), CacheError> {
        let dir = self.root.join(kind);
        let failed = |error| CacheError::new("removing old folders in", &dir, error);
        let mut others = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            let unfinished = entry.file_name().to_string_lossy().starts_with(UNFINISHED);
            if metadata.is_dir() && !unfinished && entry.path() != newest {
                others.push((metadata.modified().map_err(failed)?, entry.path()));
            }
        }
        others.sort_unstable();
        let surplus = others.len().saturating_sub(KEPT - 1);
        for (_, old) in others.drain(..surplus) {
            fs::remove_dir_all(&old).map_err(failed)?;
        }
        if surplus == 0 { Ok(()) } else { self.prune_artefacts() }
    }

    fn prune_artefacts(&self) -> Result<(), CacheError> {
        let dir = self.root.join("artefacts");
        let failed = |error| CacheError::new("removing old files in", &dir, error);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.metadata().map_err(failed)?.nlink() == 1 {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Makes a finished file known by its digest: `artefacts/<hex>` is another name of it. What is known already is not
    /// read again.
    pub(crate) fn artefact(&self, file: &Path) -> Result<(Digest, u64), CacheError> {
        let failed = |error| CacheError::new("storing", file, error);
        let note = note_of(file);
        let dir = self.root.join("artefacts");
        if let Some(digest) = fs::read_to_string(&note).ok().and_then(|hex| Digest::from_hex(&hex).ok()) {
            let size = same_file(file, &dir.join(digest.hex())).map_err(failed)?;
            if let Some(size) = size {
                return Ok((digest, size));
            }
        }
        let (digest, size) = Digest::of_file(file).map_err(failed)?;
        fs::create_dir_all(&dir).map_err(failed)?;
        let name = dir.join(digest.hex());
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => fs::hard_link(file, &name).map_err(failed)?,
        }
        fs::write(&note, digest.hex()).map_err(failed)?;
        Ok((digest, size))
    }
}

/// Where a file's digest is noted.
fn note_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".sha256");
    file.with_file_name(name)
}

/// The size of a file, if both names are names of it.
fn same_file(file: &Path, other: &Path) -> io::Result<Option<u64>> {
    let metadata = fs::metadata(file)?;
    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(other) {
        Ok(other) if id(&other) == id(&metadata) => Ok(Some(metadata.len())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_its_ingredients_in_order() {
        let key =
            |parts: &[&str]| parts.iter().fold(Recipe::new("x"), |recipe, part| recipe.with(part)).key();
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }

    #[tokio::test]
    async fn a_folder_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &()).await.unwrap();
        let made = cache.begin("root").unwrap();
        fs::write(made.path().join("file"), "half").unwrap();
        let unfinished = made.keep();
        assert_eq!(cache.finished("root", "key"), None);

        let made = cache.begin("root").unwrap();
        assert!(!unfinished.exists(), "an interrupted run's folder goes");
        fs::write(made.path().join("file"), "whole").unwrap();
        let path = cache.finish(made, "root", "key").unwrap();
        assert_eq!(cache.finished("root", "key"), Some(path.clone()));
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "whole");
    }

    #[tokio::test]
    async fn what_nobody_used_for_longest_goes_with_its_artefacts() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &()).await.unwrap();
        let mut digests = Vec::new();
        let mut age = |key: &str, seconds: u64| {
            let made = cache.begin("root").unwrap();
            fs::write(made.path().join("file"), key).unwrap();
            let path = cache.finish(made, "root", key).unwrap();
            digests.push(cache.artefact(&path.join("file")).unwrap().0);
            let past = SystemTime::now() - std::time::Duration::from_secs(seconds);
            File::open(&path).unwrap().set_modified(past).unwrap();
        };
        age("a", 400);
        age("b", 300);
        age("c", 200);
        assert!(cache.finished("root", "a").is_some(), "three are kept, and this one is used again");
        age("d", 100);
        let there = ["a", "b", "c", "d"].map(|key| cache.path("root").join(key).exists());
        assert_eq!(there, [true, false, true, true]);
        let artefacts = |digest: &Digest| cache.path("artefacts").join(digest.hex()).exists();
        assert_eq!(digests.iter().map(artefacts).collect::<Vec<_>>(), [true, false, true, true]);
    }

    #[tokio::test]
    async fn an_artefact_is_known_by_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), &()).await.unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "bytes").unwrap();
        let (digest, _) = cache.artefact(&file).unwrap();
        assert_eq!(cache.artefact(&file).unwrap(), (digest, 5));
        assert_eq!(fs::read(dir.path().join("artefacts").join(digest.hex())).unwrap(), b"bytes");
    }
}
