//! Files that are their owner's alone.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a whole file, mode 0600 from the start: whoever reads it sees the old octets or the new ones, also after a
/// loss of power.
///
/// # Errors
///
/// Its folder is not there, or cannot be written to.
pub fn replace(path: &Path, octets: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(what)?;
    file.write_all(octets).and_then(|()| file.as_file().sync_all()).with_context(what)?;
    file.persist(path).with_context(what)?;
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for text in ["a long secret", "short"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
        let error = replace(&folder.path().join("no/secret"), b"").unwrap_err();
        assert!(error.to_string().contains("no/secret"), "{error}");
    }
}
