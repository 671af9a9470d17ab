use std::{
    fs,
    io::{BufRead, Write},
    process::{Command, Stdio},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn blobs(dir: &TempDir) -> Vec<String> {
    let mut names = fs::read_dir(dir.path().join("store/blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    names
}

/// Puts a one-layer image into a store.
pub(crate) fn put_image(store: &Store, name: &str, layer: &[u8]) -> Descriptor {
    let config = store.put(b"{}").unwrap();
    let layer_digest = store.put(layer).unwrap();
    let manifest = crate::oci::manifest_json(
        &Descriptor::new(OCI_CONFIG, config, 2),
        &[Descriptor::new(OCI_LAYER, layer_digest, layer.len() as u64)],
    )
    .to_string();
    let digest = store.put(manifest.as_bytes()).unwrap();
    let target = Descriptor::new(OCI_MANIFEST, digest, manifest.len() as u64);
    store.set_ref(&name.parse().unwrap(), &target).unwrap();
    target
}

#[test]
fn a_blob_is_found_by_its_digest() {
    let (_dir, store) = store();
    let digest = store.put(b"hello").unwrap();
    assert_eq!(digest.hex(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert!(store.contains(&digest));
    assert_eq!(store.read(&digest, 5).unwrap().unwrap(), b"hello");
    assert!(matches!(store.read(&digest, 4), Err(StoreError::Damaged { .. })));
    assert!(store.blob(&Digest::of("other")).unwrap().is_none());
}

#[test]
fn an_unfinished_blob_is_not_there() {
    let (dir, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"half").unwrap();
    assert!(!store.contains(&Digest::of("half")));
    let staged = writer.stage();
    assert!(!store.contains(&Digest::of("half")));
    assert_eq!(staged.digest(), Digest::of("half"));
    drop(staged);
    assert!(blobs(&dir).is_empty());
}

#[test]
fn wrong_bytes_do_not_count() {
    let (dir, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"wrong").unwrap();
    let error = writer.finish_as(&Digest::of("right")).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }), "{error}");
    assert!(blobs(&dir).is_empty());
}

#[test]
fn a_damaged_blob_is_removed_or_healed() {
    let (dir, store) = store();
    let digest = store.put(b"content").unwrap();
    let path = dir.path().join("store/blobs/sha256").join(digest.hex());
    fs::write(&path, b"damaged").unwrap();
    store.put(b"content").unwrap();
    assert_eq!(store.verify(&digest).unwrap(), Verdict::Sound);
    fs::write(&path, b"damaged").unwrap();
    assert_eq!(store.verify(&digest).unwrap(), Verdict::Removed);
    assert_eq!(store.verify(&digest).unwrap(), Verdict::Absent);
    assert!(!path.exists());
}

#[test]
fn a_lower_store_is_seen_through() {
    let (dir, lower) = store();
    let below = lower.put(b"below").unwrap();
    let old = put_image(&lower, "busybox", b"old");
    let lower = dir.path().join("store");
    let upper = Store::open(dir.path().join("upper")).unwrap().over(&lower).unwrap();
    assert!(upper.contains(&below));
    assert_eq!(upper.resolve(&"busybox".parse().unwrap()).unwrap().unwrap().digest, old.digest);

    // What the lower one has is not kept twice.
    upper.put(b"below").unwrap();
    assert_eq!(fs::read_dir(dir.path().join("upper/blobs/sha256")).unwrap().count(), 0);

    let new = put_image(&upper, "busybox", b"new");
    let own = put_image(&upper, "quay.io/a/b:1", b"new");
    let refs = upper.refs().unwrap();
    assert_eq!(
        refs.iter().map(|(name, target)| (name.to_string(), target.digest)).collect::<Vec<_>>(),
        [
            ("docker.io/library/busybox:latest".to_owned(), new.digest),
            ("quay.io/a/b:1".to_owned(), own.digest)
        ]
    );
    assert!(upper.remove_ref(&"busybox".parse().unwrap()).unwrap());
    assert!(!upper.remove_ref(&"busybox".parse().unwrap()).unwrap());
    assert_eq!(upper.resolve(&"busybox".parse().unwrap()).unwrap().unwrap().digest, old.digest);

    let read_only = Store::open_read_only(&lower).unwrap();
    assert!(matches!(read_only.put(b"x"), Err(StoreError::ReadOnly)));
    assert!(matches!(read_only.set_ref(&"a".parse().unwrap(), &old), Err(StoreError::ReadOnly)));
    fs::write(lower.join("blobs/sha256").join(below.hex()), b"x").unwrap();
    assert_eq!(read_only.verify(&below).unwrap(), Verdict::Damaged);
    assert!(matches!(Store::open_read_only(dir.path().join("no")), Err(StoreError::NoStore(_))));
}

#[test]
fn a_name_needs_its_manifest() {
    let (_dir, store) = store();
    let target = Descriptor::new(OCI_MANIFEST, Digest::of("absent"), 6);
    let error = store.set_ref(&"busybox".parse().unwrap(), &target).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(store.refs().unwrap().is_empty());
}

#[test]
fn an_image_is_copied_whole_or_not_at_all() {
    let (dir, store) = store();
    let name: Reference = "ghcr.io/a/b:1".parse().unwrap();
    let target = put_image(&store, "ghcr.io/a/b:1", b"layer");
    let other = Store::open(dir.path().join("other")).unwrap();
    store.copy_image(&name, &target, &other).unwrap();
    assert_eq!(other.closure(&target.digest).unwrap().present.len(), 3);
    assert_eq!(other.resolve(&name).unwrap(), Some(target.clone()));

    fs::remove_file(dir.path().join("store/blobs/sha256").join(Digest::of("layer").hex())).unwrap();
    let third = Store::open(dir.path().join("third")).unwrap();
    let error = store.copy_image(&name, &target, &third).unwrap_err();
    assert!(matches!(error, ClosureError::Missing(missing) if missing == Digest::of("layer")), "{error}");
    assert!(third.refs().unwrap().is_empty());
}

#[test]
fn an_index_needs_one_whole_platform() {
    let (_dir, store) = store();
    let here = put_image(&store, "a", b"amd64");
    let elsewhere = Descriptor::new(OCI_MANIFEST, Digest::of("arm64"), 5);
    let index = |manifests: &[&Descriptor]| {
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        store.put(index.to_string().as_bytes()).unwrap()
    };
    let closure = store.closure(&index(&[&here, &elsewhere])).unwrap();
    assert_eq!(closure.absent, std::slice::from_ref(&elsewhere));
    assert_eq!(closure.present.len(), 4);
    assert!(matches!(store.closure(&index(&[&elsewhere])), Err(ClosureError::Empty(_))));
}

#[test]
fn manifests_that_are_two_things_are_none() {
    let config = Descriptor::new(OCI_CONFIG, Digest::of("c"), 1);
    let both = serde_json::json!({
        "schemaVersion": 2, "config": config, "layers": [], "manifests": []
    });
    assert!(matches!(Manifest::parse(both.to_string().as_bytes()), Err(ManifestError::Shape)));
    let lie = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "config": config, "layers": []
    });
    assert!(matches!(Manifest::parse(lie.to_string().as_bytes()), Err(ManifestError::Kind(_))));
    let docker = serde_json::json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": []
    });
    assert_eq!(Manifest::parse(docker.to_string().as_bytes()).unwrap().media_type, DOCKER_MANIFEST);
    assert!(matches!(Manifest::parse(b"<html>"), Err(ManifestError::Json(_))));
}

#[test]
fn a_living_writer_is_not_swept() {
    let (dir, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"slow").unwrap();
    let again = Store::open(dir.path().join("store")).unwrap();
    writer.write_all(b" but sure").unwrap();
    writer.finish().unwrap();
    assert!(again.contains(&Digest::of("slow but sure")));
}

/// Run by [`a_killed_writer_leaves_no_wrong_blob`] in a process of its own: writes blobs until it is killed.
#[test]
#[ignore = "the victim of another test"]
fn victim() {
    let Ok(dir) = std::env::var("STORE_TEST_VICTIM") else { return };
    let store = Store::open(dir).unwrap();
    println!("writing");
    for round in 0_u64.. {
        let block = round.to_le_bytes().repeat(100_000);
        let mut writer = store.writer().unwrap();
        for part in block.chunks(1000) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap();
        put_image(&store, "busybox", &block[..1000]);
    }
}

#[test]
fn a_killed_writer_leaves_no_wrong_blob() {
    let (dir, store) = store();
    let mut stored = 0;
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::victim", "--ignored", "--nocapture"])
            .env("STORE_TEST_VICTIM", dir.path().join("store"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("writing")));
        // An instant that differs from round to round; whatever it hits has to be right.
        std::thread::sleep(std::time::Duration::from_millis(20 + 13 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let names = blobs(&dir);
        for name in &names {
            assert_eq!(store.verify(&Digest::from_hex(name).unwrap()).unwrap(), Verdict::Sound, "{name}");
        }
        assert!(names.len() >= stored);
        stored = names.len();
        for (_, target) in store.refs().unwrap() {
            store.closure(&target.digest).unwrap();
        }
    }
    assert!(stored > 0, "the victims have written nothing");
    Store::open(dir.path().join("store")).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("store/tmp")).unwrap().count(), 0, "not swept");
}

#[test]
fn names_are_understood_as_docker_does() {
    for (text, whole) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("grafana/loki", "docker.io/grafana/loki:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("registry-1.docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("k8s.gcr.io/pause:3.2", "registry.k8s.io/pause:3.2"),
        ("registry.k8s.io/coredns/coredns:v1.8.0", "registry.k8s.io/coredns/coredns:v1.8.0"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a:b", "localhost:5000/a:b"),
        ("[fd00::1]:5000/a/b-c__d.e:X", "[fd00::1]:5000/a/b-c__d.e:X"),
        ("Quay.IO/a/b", "quay.io/a/b:latest"),
    ] {
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole, "{text}");
    }
    for text in [
        "",
        ":",
        "a:",
        "/a",
        "a//b",
        "A",
        "a/../b",
        "../a",
        "a/..",
        "quay.io/",
        "quay.io/a:..",
        "a/_tags/b",
        "_tags",
        "a/_b",
        "a__",
        "a..b",
        "a._b",
        "a___b",
        "-a",
        "quay.io:x/a",
        "quay.io:99999/a",
        "a\0b",
        "a b",
        "[::1/a",
        "[x]/a",
        "quay..io/a",
        "-quay.io/a",
        "busybox@sha256:2cf2",
    ] {
        assert!(text.parse::<Reference>().is_err(), "{text:?}");
    }
    let by_digest = format!("busybox@{}", Digest::of(""));
    assert!(matches!(by_digest.parse::<Reference>(), Err(ParseNameError::ByDigest(_))));
}

#[test]
fn digests_are_strict() {
    let good = Digest::of("").to_string();
    assert_eq!(good.parse::<Digest>().unwrap(), Digest::of(""));
    for bad in [
        good.to_uppercase(),
        good.replace("sha256:", "sha512:"),
        good.replace("sha256:", ""),
        good[..70].to_owned(),
        format!("{good}0"),
        format!("sha256:{}", "../".repeat(22)),
        "sha256:".to_owned(),
    ] {
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever parses is a path that stays where it is put, and parses again to the same.
    #[test]
    fn names_that_parse_are_safe(text in "[a-z0-9._/:@A-Z\\-]{0,40}|\\PC{0,20}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference.clone());
            let path = refs::tag_path(Path::new("/s"), &reference);
            let names = path.components().map(|part| part.as_os_str().to_str().unwrap());
            for name in names.skip(1) {
                prop_assert!(name != ".." && name != "." && !name.is_empty());
            }
            prop_assert!(path.starts_with("/s/refs"));
        }
    }

    #[test]
    fn names_of_the_grammar_parse(
        text in "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,3}(/[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}){0,3}",
        tag in "[a-zA-Z0-9_][a-zA-Z0-9._\\-]{0,127}",
    ) {
        prop_assert!(text.parse::<Repository>().is_ok());
        prop_assert!(tag.parse::<Tag>().is_ok());
        let reference: Reference = format!("quay.io/{text}:{tag}").parse().unwrap();
        prop_assert_eq!(reference.repository.as_str(), text);
    }

}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However the bytes come, the digest is that of all of them.
    #[test]
    fn blobs_are_what_was_written(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let (_dir, store) = store();
        let mut writer = store.writer().unwrap();
        for part in &parts {
            writer.write_all(part).unwrap();
        }
        let all = parts.concat();
        let (digest, size) = writer.finish().unwrap();
        prop_assert_eq!((digest, size), (Digest::of(&all), all.len() as u64));
        prop_assert_eq!(store.read(&digest, size).unwrap().unwrap(), all);
    }
}
