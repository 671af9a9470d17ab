use std::fs;

use super::*;
use crate::catalog::tests::catalog;

fn name() -> Reference {
    "mesh.internal/meshboot/image:0123456789abcdef".parse().unwrap()
}

#[test]
fn what_is_stored_is_read_and_each_file_is_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(dir.path(), "0123456789abcdef");
    let store = Store::open(dir.path().join("store")).unwrap();
    let bundle = Bundle::put(&catalog, &store, &name()).unwrap();
    assert_eq!(Bundle::read(&store, &name()).unwrap(), bundle);
    assert_eq!((bundle.id.as_str(), bundle.kubernetes.as_str()), ("0123456789abcdef", "v1.20.2"));
    for artefact in [&catalog.node_uki, &catalog.root, &catalog.layer] {
        assert_eq!(store.blob(&artefact.sha256).unwrap().unwrap().size, artefact.size);
    }
    assert!(!store.contains(&catalog.seed_uki.sha256), "a node has no use for it");
}

#[test]
fn files_that_changed_have_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(dir.path(), "0123456789abcdef");
    let store = Store::open(dir.path().join("store")).unwrap();
    fs::write(&catalog.root.path, "another").unwrap();
    let error = Bundle::put(&catalog, &store, &name()).unwrap_err();
    assert!(matches!(error, BundleError::Changed { what: "root image", .. }), "{error}");
    assert!(matches!(Bundle::read(&store, &name()), Err(BundleError::Whole(WholeError::Unknown(_)))));
}

#[test]
fn another_object_of_that_name_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let config = store.put(b"{}").unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor::new(CONFIG, config, 2),
        "layers": [],
    });
    let manifest = manifest.to_string().into_bytes();
    let target = Descriptor::new(OCI_MANIFEST, store.put(&manifest).unwrap(), manifest.len() as u64);
    store.set_ref(&name(), &target).unwrap();
    assert!(matches!(Bundle::read(&store, &name()), Err(BundleError::Other(_))));
}
