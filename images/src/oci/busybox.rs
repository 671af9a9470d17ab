//! A small image to try a mesh with: BusyBox, with its web server, client and netcat.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{AssembleError, Compression, Config, Image, Layer, LayerError, PATH, control_plane::base_files};
use crate::store::{ParseNameError, Reference, Store};

/// Under which name a mesh knows it.
pub const NAME: &str = "docker.io/library/busybox:latest";

/// Why BusyBox's image cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum BusyboxError {
    /// The program does not run.
    #[error("running {} --list", program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It ran and named no commands.
    #[error("{} --list named no commands: it is no BusyBox", .0.display())]
    NoBusybox(PathBuf),
    /// Its commands cannot be put into a layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The image cannot be put together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// [`NAME`] is none.
    #[error(transparent)]
    Name(#[from] ParseNameError),
}

/// [`NAME`], as the store takes it.
///
/// # Errors
///
/// [`BusyboxError::Name`].
pub fn name() -> Result<Reference, BusyboxError> {
    Ok(NAME.parse()?)
}

/// Puts BusyBox's image into a store.
///
/// # Errors
///
/// [`BusyboxError`].
pub fn assemble(
    program: &Path,
    reference: &Reference,
    store: &Store,
    compression: Compression,
) -> Result<(), BusyboxError> {
    image(program)?.assemble_as(reference, store, compression)?;
    Ok(())
}

/// Describes the image of a statically linked BusyBox, such as that of Debian's `busybox-static`. It is run once, to
/// name its commands.
///
/// # Errors
///
/// [`BusyboxError`].
pub fn image(program: &Path) -> Result<Image, BusyboxError> {
    let output = Command::new(program)
        .arg("--list")
        .stdin(Stdio::null())
        .env_clear()
        .output()
        .map_err(|source| BusyboxError::Run { program: program.to_owned(), source })?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let commands = listed
        .lines()
        .filter(|name| !name.is_empty() && !name.contains('/') && *name != "busybox")
        .collect::<Vec<_>>();
    if !output.status.success() || !commands.contains(&"sh") {
        return Err(BusyboxError::NoBusybox(program.to_owned()));
    }
    let mut layer = Layer::default();
    base_files(&mut layer)?;
    layer.file("bin/busybox", program, 0o755)?;
    for command in commands {
        layer.symlink(&format!("bin/{command}"), "busybox")?;
    }
    layer.directory("root", 0o700)?;
    layer.directory("var/www", 0o755)?;
    let config =
        Config { cmd: vec!["sh".to_owned()], env: vec![format!("PATH={PATH}")], ..Config::default() };
    Ok(Image { layers: vec![layer], config })
}
