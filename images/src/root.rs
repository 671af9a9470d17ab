//! The root image of seeds and nodes, and what boots it: Debian's packages, Kubernetes' programs and files of our own.
//!
//! It is made in two steps, each cached under its recipe: Debian's packages, which take minutes, and
//! what is ours, which takes one. The `meshboot` binary is in neither: it is a [layer](crate::layer) over the
//! image, so that a change of it costs seconds.

use std::{io, path::PathBuf};

use crate::{cache::CacheError, command::CommandError, squashfs::SquashfsError};

pub(crate) mod debian;
pub(crate) mod files;
pub(crate) mod finish;

/// The release of Debian, unless the settings say otherwise.
pub const DEFAULT_SUITE: &str = "trixie";

/// The largest root image: a machine holds it in memory.
pub const MAX_IMAGE: u64 = 450 * 1024 * 1024;

/// Why there is no root image.
#[derive(Debug, thiserror::Error)]
pub enum RootImageError {
    /// A tool failed.
    #[error("making the root image")]
    Command(#[from] CommandError),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The image could not be packed.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// A file cannot be read or written.
    #[error("making the root image: {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A machine with little memory could not hold it.
    #[error(
        "the root image has {size} bytes, and at most {MAX_IMAGE} are allowed: name fewer extra packages"
    )]
    TooLarge {
        /// Its size.
        size: u64,
    },
}
