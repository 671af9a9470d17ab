//! The part of the store that goes onto a seed's disk: what nodes boot, and the images that they run, as a squashfs that
//! the seed lays below its own store.

use std::{io, path::PathBuf};

use crate::{
    cache::{Cache, CacheError, Recipe},
    catalog::Catalog,
    command::Runner,
    progress::Progress,
    squashfs::{self, SquashfsError},
    store::{ClosureError, Reference, Store, StoreError},
};

const KIND: &str = "seed-store";
const RECIPE: &str = "1";
const IMAGE: &str = "store.squashfs";

/// Why there is no image of the store.
#[derive(Debug, thiserror::Error)]
pub enum SeedStoreError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has no such image.
    #[error("the image {0} is not in the store: make the images again, or load it")]
    Unknown(Reference),
    /// A part of an image is missing.
    #[error("the image {reference}")]
    Image {
        /// Which.
        reference: Reference,
        /// What is wrong.
        #[source]
        source: ClosureError,
    },
    /// It could not be packed.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// The log cannot be written.
    #[error("writing the log")]
    Log(#[source] io::Error),
    /// The work was interrupted.
    #[error("copying the store")]
    Interrupted(#[source] io::Error),
}

/// Makes the image of the store for a seed's disk, or takes the one that was made of the same: the catalogue's artefacts,
/// its images, and `further` images that were loaded into its store.
///
/// # Errors
///
/// [`SeedStoreError`].
pub async fn seed_store(
    cache: &std::path::Path,
    catalog: &Catalog,
    further: &[Reference],
    progress: &dyn Progress,
) -> Result<PathBuf, SeedStoreError> {
    let cache = Cache::open(cache, progress).await?;
    let from = Store::open(&catalog.store)?;
    let mut images = Vec::new();
    let mut recipe = Recipe::new("seed-store").with(RECIPE);
    for (_, artefact) in catalog.artefacts() {
        recipe = recipe.with(artefact.sha256.as_bytes());
    }
    for reference in catalog.images.iter().chain(further) {
        let target = from.resolve(reference)?.ok_or_else(|| SeedStoreError::Unknown(reference.clone()))?;
        recipe = recipe.with(reference.to_string()).with(target.digest.as_bytes());
        images.push((reference.clone(), target));
    }
    let key = recipe.key();
    if let Some(dir) = cache.finished(KIND, &key) {
        return Ok(dir.join(IMAGE));
    }

    progress.stage("packing the seed's store");
    let made = cache.begin(KIND)?;
    let folder = made.path().join("store");
    let artefacts = catalog.artefacts().map(|(_, artefact)| artefact.path.clone());
    let copy = {
        let folder = folder.clone();
        move || -> Result<(), SeedStoreError> {
            let to = Store::open(&folder)?;
            for path in artefacts {
                to.put_file(&path)?;
            }
            for (reference, target) in images {
                from.copy_image(&reference, &target, &to)
                    .map_err(|source| SeedStoreError::Image { reference, source })?;
            }
            Ok(())
        }
    };
    tokio::task::spawn_blocking(copy)
        .await
        .map_err(|error| SeedStoreError::Interrupted(io::Error::other(error)))??;
    let runner = Runner::new(&cache.path("logs/seed-store.log"), progress).map_err(SeedStoreError::Log)?;
    squashfs::from_folder(&folder, &made.path().join(IMAGE), &runner).await?;
    std::fs::remove_dir_all(&folder).map_err(|error| CacheError::new("clearing", &folder, error))?;
    Ok(cache.finish(made, KIND, &key)?.join(IMAGE))
}
