//! What a store holds, looked through: is it sound, and is it wanted?

use std::collections::BTreeSet;

use serde::Serialize;

use crate::progress::Progress;
use crate::store::{Digest, Reference, Store, StoreError, Verdict};

/// What a look through the store found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checked {
    /// How many blobs there are.
    pub blobs: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// What is not as it should be.
    pub wrong: Vec<Wrong>,
}

/// What is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Wrong {
    /// An image's name, or a blob's digest.
    pub what: String,
    /// What is wrong, and what was done.
    pub problem: String,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// How many blobs that nothing else is made of.
    pub blobs: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

/// Reads every blob of the writable store again, and looks whether images are whole. A blob that is another than its name
/// says is removed.
///
/// # Errors
///
/// [`StoreError`]: the store itself cannot be read.
pub fn verify(store: &Store, progress: &dyn Progress) -> Result<Checked, StoreError> {
    let all = store.blobs()?;
    let all: Vec<(Digest, u64)> = all
        .into_iter()
        .filter(|(digest, ..)| store.contains(digest))
        .map(|(digest, size, _)| (digest, size))
        .collect();
    let total = all.iter().map(|(_, size)| size).sum();
    let mut checked = Checked { blobs: all.len() as u64, bytes: total, wrong: Vec::new() };
    let mut done = 0;
    progress.stage("reading blobs");
    for (digest, size) in all {
        let problem = match store.verify(&digest)? {
            // It may have been removed meanwhile.
            Verdict::Sound | Verdict::Absent => None,
            Verdict::Removed => Some("its bytes are others than its name says; it was removed"),
            Verdict::Damaged => Some("its bytes are others than its name says"),
        };
        let wrong = problem.map(|problem| Wrong { what: digest.to_string(), problem: problem.to_owned() });
        checked.wrong.extend(wrong);
        done += size;
        progress.advance(done, Some(total));
    }
    for (reference, target) in store.refs()? {
        if let Err(error) = store.closure(&target.digest) {
            checked.wrong.push(Wrong { what: reference.to_string(), problem: error.to_string() });
        }
    }
    Ok(checked)
}

/// Removes images by their names, and the blobs that no other image is made of. Whoever loads images at the same time may
/// have to load them again: an image is whole or has no name. A name that is not there is as it shall be.
///
/// # Errors
///
/// [`StoreError`].
pub fn remove(store: &Store, names: &[Reference]) -> Result<Removed, StoreError> {
    let refs = store.refs()?;
    let (gone, stay): (Vec<_>, Vec<_>) =
        refs.into_iter().partition(|(reference, _)| names.contains(reference));
    let mut wanted = BTreeSet::new();
    for (_, target) in &stay {
        store.reach(&target.digest, &mut wanted)?;
    }
    let mut unwanted = BTreeSet::new();
    for (reference, target) in &gone {
        store.reach(&target.digest, &mut unwanted)?;
        store.remove_ref(reference)?;
    }
    let mut removed = Removed::default();
    for digest in unwanted.difference(&wanted) {
        let Some(blob) = store.blob(digest)? else { continue };
        store.remove_blob(digest)?;
        removed = Removed { blobs: removed.blobs + 1, bytes: removed.bytes + blob.size };
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::put_image;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn what_images_have_in_common_stays_as_long_as_one_of_them() {
        let (_dir, store) = store();
        let names: [Reference; 2] =
            ["docker.io/library/a:v1", "docker.io/library/b:v1"].map(|name| name.parse().unwrap());
        let first = put_image(&store, "docker.io/library/a:v1", b"layer");
        let second = put_image(&store, "docker.io/library/b:v1", b"layer");
        let unknown: Reference = "docker.io/library/c:v1".parse().unwrap();
        assert_eq!(remove(&store, &[unknown]).unwrap(), Removed::default());
        assert!(store.contains(&first.digest));
        remove(&store, &names[..1]).unwrap();
        assert!(store.resolve(&names[0]).unwrap().is_none());
        assert!(store.closure(&second.digest).is_ok());
        let removed = remove(&store, &names[1..]).unwrap();
        assert!(removed.blobs > 0 && removed.bytes > 0);
        assert_eq!(store.blobs().unwrap(), []);
    }

    #[test]
    fn damage_is_found_and_said() {
        let (dir, store) = store();
        let target = put_image(&store, "docker.io/library/a:v1", b"layer");
        assert_eq!(verify(&store, &()).unwrap().wrong, []);
        let layer = Digest::of(b"layer");
        let path = dir.path().join("blobs/sha256").join(layer.hex());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "damag").unwrap();
        let checked = verify(&store, &()).unwrap();
        let what: Vec<&str> = checked.wrong.iter().map(|wrong| wrong.what.as_str()).collect();
        assert_eq!(what, [layer.to_string().as_str(), "docker.io/library/a:v1"]);
        assert!(checked.wrong[1].problem.contains("missing") && store.contains(&target.digest));
    }
}
