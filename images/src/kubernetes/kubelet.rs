//! A kubelet alone, as an image: what a machine gets whose kubelet is to be of another version than its mesh's.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    kubeadm::{self, AskError},
    upstream::{self, FetchError, Upstream},
    version::Version,
};
use crate::{
    cache::{Cache, CacheError},
    oci::{AssembleError, Compression, Config, Image, Layer, LayerError, PATH},
    progress::Progress,
    store::{Descriptor, Reference, Store, StoreError},
};

/// Where the program is in its image.
pub const PROGRAM: &str = "usr/bin/kubelet";

/// Why there is no image of a kubelet.
#[derive(Debug, thiserror::Error)]
pub enum ProvideKubeletError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// It cannot be fetched.
    #[error("fetching the kubelet {version}")]
    Fetch {
        /// Which.
        version: Version,
        /// Why not.
        #[source]
        source: FetchError,
    },
    /// It does not say what it is.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It is another one.
    #[error("{} is the kubelet {actual}, and not {expected}", program.display())]
    Other {
        /// The program.
        program: PathBuf,
        /// What was asked for.
        expected: Version,
        /// What it says of itself.
        actual: Version,
    },
    /// It cannot be put into an image.
    #[error("the image {reference}")]
    Assemble {
        /// Which.
        reference: Reference,
        /// What is wrong.
        #[source]
        source: AssembleError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was interrupted.
    #[error("making the image of a kubelet")]
    Interrupted(#[source] io::Error),
}

/// Sees to it that the cache's store has the kubelet of a version under a name: fetched from a server of
/// [`BASE_URL`](upstream::BASE_URL)'s layout, unless it is there.
///
/// # Errors
///
/// [`ProvideKubeletError`].
pub async fn provide(
    cache: &Path,
    server: &str,
    version: &Version,
    reference: &Reference,
    progress: &dyn Progress,
) -> Result<Descriptor, ProvideKubeletError> {
    let cache = Cache::open(cache, progress).await?;
    let store = Store::open(cache.path("store"))?;
    // Whoever brought it in an archive means that one.
    if let Some(target) = store.resolve(reference)?.filter(|target| store.closure(&target.digest).is_ok()) {
        return Ok(target);
    }
    progress.stage(&format!("fetching the kubelet {version}"));
    let upstream =
        Upstream { base_url: server.to_owned(), cache: cache.path("downloads"), authorities: None };
    let report = |fetched: upstream::Progress| progress.advance(fetched.done, fetched.total);
    let fetched = upstream.fetch_kubelet(version, &report).await;
    let program =
        fetched.map_err(|source| ProvideKubeletError::Fetch { version: version.clone(), source })?;
    let actual = kubeadm::kubelet_version(&program).await?;
    if actual != *version {
        return Err(ProvideKubeletError::Other { program, expected: version.clone(), actual });
    }
    let wrong = |source| ProvideKubeletError::Assemble { reference: reference.clone(), source };
    let image = image(&program).map_err(|error| wrong(error.into()))?;
    let name = reference.clone();
    let assembled =
        tokio::task::spawn_blocking(move || image.assemble_as(&name, &store, Compression::default())).await;
    assembled.map_err(|error| ProvideKubeletError::Interrupted(io::Error::other(error)))?.map_err(wrong)
}

/// The image that holds this program and nothing else.
fn image(program: &Path) -> Result<Image, LayerError> {
    let mut layer = Layer::default();
    layer.file(PROGRAM, program, 0o755)?;
    let entrypoint = vec![format!("/{PROGRAM}")];
    let config = Config { entrypoint, env: vec![format!("PATH={PATH}")], ..Config::default() };
    Ok(Image { layers: vec![layer], config })
}

#[cfg(test)]
mod tests;
