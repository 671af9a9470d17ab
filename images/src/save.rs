//! Images out of the store: OCI layouts as one tar archive, which containerd, podman, skopeo and docker (from 25 on) read,
//! and [`load`](mod@crate::load) as well.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::store::{Descriptor, Digest, OCI_INDEX, Reference, Store, StoreError, WholeError};

/// The whole name, as containerd and docker write it.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The name as the OCI specification has it: often only the tag.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why images were not written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// There is no such image, or not all of it.
    #[error(transparent)]
    Image(#[from] WholeError),
    /// The archive cannot be written.
    #[error("writing the archive")]
    Write(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes images, what several have in common once. The same images make the same bytes.
///
/// # Errors
///
/// [`SaveError`]; whatever is not there is told before anything is written.
pub fn save(store: &Store, names: &[Reference], out: impl Write) -> Result<(), SaveError> {
    let mut manifests = Vec::new();
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    for reference in names {
        let (target, closure) = store.whole(reference)?;
        blobs.extend(closure.present);
        let annotations = [(IMAGE_NAME, reference.to_string()), (REF_NAME, reference.tag.to_string())];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value)).into();
        manifests.push(Descriptor { annotations, ..target });
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let mut archive = Builder::new(out);
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    for (path, text) in [("oci-layout", version.to_string()), ("index.json", index.to_string())] {
        entry(&mut archive, path, text.len() as u64, text.as_bytes())?;
    }
    for digest in blobs.keys() {
        // It was there a moment ago.
        let blob = store.blob(digest)?.ok_or_else(|| SaveError::Write(io::ErrorKind::NotFound.into()))?;
        entry(&mut archive, &format!("blobs/sha256/{}", digest.hex()), blob.size, blob.file)?;
    }
    archive.into_inner().and_then(|mut out| out.flush()).map_err(SaveError::Write)
}

fn entry(
    archive: &mut Builder<impl Write>,
    path: &str,
    size: u64,
    bytes: impl Read,
) -> Result<(), SaveError> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, bytes).map_err(SaveError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load;
    use crate::store::tests::put_image;

    #[test]
    fn what_is_saved_can_be_loaded_and_is_the_same_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("one")).unwrap();
        let names: Vec<Reference> =
            ["docker.io/library/a:v1", "quay.io/x/b:v2"].map(|name| name.parse().unwrap()).into();
        let targets: Vec<Descriptor> =
            names.iter().map(|name| put_image(&store, &name.to_string(), b"layer")).collect();
        let path = dir.path().join("images.tar");
        save(&store, &names, std::fs::File::create(&path).unwrap()).unwrap();
        let mut again = Vec::new();
        save(&store, &names, &mut again).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), again);

        let other = Store::open(dir.path().join("other")).unwrap();
        let loaded = load(&path, &other).unwrap();
        let loaded: Vec<_> = loaded.into_iter().map(|it| (it.reference, it.target.digest)).collect();
        let expected: Vec<_> =
            names.iter().cloned().zip(targets.iter().map(|target| target.digest)).collect();
        assert_eq!(loaded, expected);
        let unknown = "docker.io/library/none:v1".parse().unwrap();
        let mut out = Vec::new();
        assert!(matches!(save(&store, &[unknown], &mut out), Err(SaveError::Image(WholeError::Unknown(_)))));
        assert!(out.is_empty());
    }
}
