//! The layer over the root image: the `meshboot` binary and nothing else, so that a new one costs seconds and not a
//! new root.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    cache::{Cache, CacheError, Recipe},
    command::Runner,
    root::files::{self, Content, Entry},
    squashfs::{self, Press, SquashfsError},
    store::Digest,
};

/// Where the binary is on a machine.
pub const BINARY: &str = "/usr/bin/meshboot";

const KIND: &str = "layer";
const RECIPE: &str = "1";
const IMAGE: &str = "layer.squashfs";

/// Why there is no layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerImageError {
    /// The binary cannot be read.
    #[error("putting {} into the image", path.display())]
    Binary {
        /// Where it was expected.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The layer could not be packed.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Makes the layer of a binary, or takes the one that was made of it.
pub(crate) async fn make(
    cache: &Cache,
    binary: &Path,
    runner: &Runner<'_>,
) -> Result<PathBuf, LayerImageError> {
    let failed = |source| LayerImageError::Binary { path: binary.to_owned(), source };
    let (digest, _) = Digest::of_file(binary).map_err(failed)?;
    let key = Recipe::new("layer").with(RECIPE).with(digest.as_bytes()).key();
    let dir = match cache.finished(KIND, &key) {
        Some(dir) => dir,
        None => {
            runner.progress().stage("packing the meshboot binary");
            let made = cache.begin(KIND)?;
            let archive = made.path().join("layer.tar");
            let entry = Entry {
                path: BINARY.trim_start_matches('/').to_owned(),
                mode: 0o755,
                content: Content::File(binary.to_owned()),
            };
            files::archive(&[entry], &archive).map_err(failed)?;
            squashfs::from_tar(&archive, &made.path().join(IMAGE), Press::Fast, runner).await?;
            std::fs::remove_file(&archive).map_err(failed)?;
            cache.finish(made, KIND, &key)?
        }
    };
    Ok(dir.join(IMAGE))
}
