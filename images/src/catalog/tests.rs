use super::*;

fn artefact(dir: &Path, name: &str) -> Artefact {
    let path = dir.join(name);
    fs::write(&path, name).unwrap();
    let (sha256, size) = Digest::of_file(&path).unwrap();
    Artefact { sha256, size, path }
}

pub(crate) fn catalog(dir: &Path, id: &str) -> Catalog {
    Catalog {
        id: id.to_owned(),
        boot: "fd65:7b9c:569:680::b007".parse().unwrap(),
        root: artefact(dir, "root.squashfs"),
        layer: artefact(dir, "layer.squashfs"),
        node_uki: artefact(dir, "node.efi"),
        seed_uki: artefact(dir, "seed.efi"),
        kubernetes: "v1.20.2".to_owned(),
        kubernetes_source: "debian".to_owned(),
        kubectl: dir.join("kubectl"),
        kubeadm: dir.join("kubeadm"),
        suite: "trixie".to_owned(),
        kernel: "6.12.0".to_owned(),
        store: dir.join("store"),
        images: vec!["registry.k8s.io/pause:3.2".parse().unwrap()],
        missing_images: vec!["registry.k8s.io/coredns:1.7.0".parse().unwrap()],
    }
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog(dir.path(), "one");
    let path = catalog.write(dir.path()).unwrap();
    assert_eq!(Catalog::read(&path).unwrap(), catalog);
    assert!(catalog.is_complete());
    fs::write(&catalog.root.path, "cut").unwrap();
    assert!(!catalog.is_complete());
}

#[test]
fn the_newest_is_listed_first_and_a_damaged_one_not_at_all() {
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(list(cache.path()).unwrap(), []);
    for (id, age) in [("old", 100), ("new", 0)] {
        let dir = cache.path().join(FOLDER).join(id);
        fs::create_dir_all(&dir).unwrap();
        let path = catalog(&dir, id).write(&dir).unwrap();
        let time = SystemTime::now() - std::time::Duration::from_secs(age);
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }
    let damaged = cache.path().join(FOLDER).join("damaged");
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join(FILE), "{").unwrap();
    let ids: Vec<_> = list(cache.path()).unwrap().into_iter().map(|(_, catalog)| catalog.id).collect();
    assert_eq!(ids, ["new", "old"]);
}
