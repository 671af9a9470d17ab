//! squashfs images, by `mksquashfs`, from tar archives: so the owners of files need not exist here, and nobody has
//! to be root.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::command::{CommandError, Runner};

/// How hard the files are pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Press {
    /// Made once, fetched often.
    Hard,
    /// Made again at each change of a program.
    Fast,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsError {
    /// The archive cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The tool failed.
    #[error("making the image {}", path.display())]
    Command {
        /// Which image.
        path: PathBuf,
        /// How.
        #[source]
        source: CommandError,
    },
}

/// Makes an image of what is in an archive. The same archive gives the same bytes.
pub(crate) async fn from_tar(
    archive: &Path,
    image: &Path,
    press: Press,
    runner: &Runner<'_>,
) -> Result<(), SquashfsError> {
    let input =
        File::open(archive).map_err(|source| SquashfsError::Read { path: archive.to_owned(), source })?;
    let level = match press {
        Press::Hard => "9",
        Press::Fast => "3",
    };
    let mut command = mksquashfs("-", image);
    command.args(["-tar", "-comp", "zstd", "-Xcompression-level", level, "-b", "256K"]);
    // The archive need not have an entry for its root.
    command.args(["-root-mode", "0755", "-root-uid", "0", "-root-gid", "0", "-root-time", "0"]);
    command.stdin(Stdio::from(input));
    run(command, image, runner).await
}

/// Makes an image of a folder whose files are compressed already: the kernel reads them as they are.
pub(crate) async fn from_folder(
    folder: &Path,
    image: &Path,
    runner: &Runner<'_>,
) -> Result<(), SquashfsError> {
    let mut command = mksquashfs(folder, image);
    command
        .args(["-all-root", "-noI", "-noD", "-noF", "-noX", "-b", "1M", "-no-xattrs"])
        .stdin(Stdio::null());
    run(command, image, runner).await
}

fn mksquashfs(source: impl AsRef<OsStr>, image: &Path) -> Command {
    let mut command = Command::new("mksquashfs");
    command.arg(source).arg(image).args([
        "-noappend",
        "-no-progress",
        "-quiet",
        "-all-time",
        "0",
        "-mkfs-time",
        "0",
    ]);
    // It would be at odds with the times above.
    command.env_remove("SOURCE_DATE_EPOCH");
    command
}

async fn run(mut command: Command, image: &Path, runner: &Runner<'_>) -> Result<(), SquashfsError> {
    runner
        .run_with_input(&mut command)
        .await
        .map_err(|source| SquashfsError::Command { path: image.to_owned(), source })
}
