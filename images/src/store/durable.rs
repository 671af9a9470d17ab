//! Small steps on disk that hold after a power cut.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// What is stored is public: it is served to whoever asks.
pub(super) fn file_mode() -> Permissions {
    Permissions::from_mode(0o644)
}

/// Makes the names in a folder durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a folder and those above it, and makes their names durable.
pub(super) fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return create_dir(dir);
    };
    create_dirs(parent)?;
    create_dir(dir)?;
    sync_dir(parent)
}

/// Another process may be as quick.
fn create_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        result => result,
    }
}

/// Writes a whole small file: readers see the old bytes or the new ones, also after a power cut.
pub(super) fn replace_file(temp_dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temp = tempfile::Builder::new().permissions(file_mode()).tempfile_in(temp_dir)?;
    temp.write_all(bytes)?;
    temp.as_file().sync_all()?;
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_dirs(parent)?;
    temp.persist(path).map_err(|error| error.error)?;
    sync_dir(parent)
}
