use std::{
    fs,
    io::{Cursor, Write},
};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::store::{Content, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST};

const LAYER: &[u8] = b"not really a tar, and nobody looks";

/// A tar from (path, bytes).
fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in entries {
        raw_entry(&mut tar, path, tar::EntryType::Regular, bytes);
    }
    tar.into_inner().unwrap()
}

/// Writes any path: the library's own writer refuses the tricky ones.
fn raw_entry(tar: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.append(&header, bytes).unwrap();
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string()
        .into_bytes()
}

/// As docker before 25 and the Kubernetes releases write it: the index comes last.
fn docker_save(tags: &[&str]) -> Vec<u8> {
    let config = config(&[Digest::of(LAYER)]);
    let name = format!("{}.json", Digest::of(&config).hex());
    let index = json!([{ "Config": name, "RepoTags": tags, "Layers": ["abc/layer.tar"] }]).to_string();
    tar(&[
        ("abc/VERSION", b"1.0"),
        ("abc/layer.tar", LAYER),
        (&name, &config),
        ("manifest.json", index.as_bytes()),
    ])
}

struct Layout {
    entries: Vec<(String, Vec<u8>)>,
    manifest: Descriptor,
}

fn layout() -> Layout {
    let config = config(&[Digest::of(LAYER)]);
    let manifest = json!({
        "schemaVersion": 2,
        "config": Descriptor::new(OCI_CONFIG, Digest::of(&config), config.len() as u64),
        "layers": [Descriptor::new(OCI_LAYER, Digest::of(LAYER), LAYER.len() as u64)],
    })
    .to_string()
    .into_bytes();
    let target = Descriptor::new(OCI_MANIFEST, Digest::of(&manifest), manifest.len() as u64);
    let mut layout = Layout {
        entries: vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())],
        manifest: target,
    };
    for blob in [LAYER.to_vec(), config, manifest] {
        layout.add_blob(blob);
    }
    layout
}

impl Layout {
    fn add_blob(&mut self, bytes: Vec<u8>) {
        self.entries.push((format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes));
    }

    fn tar(&self, index: &Value) -> Vec<u8> {
        let index = index.to_string();
        let mut entries =
            self.entries.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect::<Vec<_>>();
        entries.push(("index.json", index.as_bytes()));
        tar(&entries)
    }

    fn named(&self, annotations: Value) -> Value {
        let mut descriptor = json!(self.manifest);
        descriptor["annotations"] = annotations;
        json!({ "schemaVersion": 2, "manifests": [descriptor] })
    }
}

struct Bench {
    dir: TempDir,
    store: Store,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    Bench { dir, store }
}

impl Bench {
    fn load(&self, archive: &[u8]) -> Result<Vec<Loaded>, LoadErrorKind> {
        let path = self.write(archive);
        let loaded = load(&path, &self.store);
        if let Ok(loaded) = &loaded {
            let named = |name: &Reference| loaded.iter().any(|loaded| loaded.reference == *name);
            assert!(names(&path).is_ok_and(|names| !names.is_empty() && names.iter().all(named)));
        }
        loaded.map_err(|error| {
            assert!(error.to_string().contains("archive"), "{error}");
            assert!(self.store.refs().is_ok_and(|refs| refs.is_empty()));
            error.source
        })
    }

    fn write(&self, archive: &[u8]) -> PathBuf {
        let path = self.dir.path().join("archive");
        fs::write(&path, archive).unwrap();
        path
    }
}

fn shown(loaded: &[Loaded]) -> Vec<String> {
    loaded.iter().map(|loaded| loaded.reference.to_string()).collect()
}

#[test]
fn a_docker_save_is_loaded() {
    let bench = bench();
    let loaded = bench.load(&docker_save(&["busybox:1.36", "quay.io/a/b:c"])).unwrap();
    assert_eq!(shown(&loaded), ["docker.io/library/busybox:1.36", "quay.io/a/b:c"]);
    let manifest = bench.store.read(&loaded[0].target.digest, 10_000).unwrap().unwrap();
    let manifest = Manifest::parse(&manifest).unwrap();
    let Content::Image { layers, .. } = manifest.content else { panic!("an index") };
    assert_eq!(layers, [Descriptor::new(OCI_LAYER, Digest::of(LAYER), LAYER.len() as u64)]);
    // What the index does not reach was dropped.
    assert!(!bench.store.contains(&Digest::of("1.0")));
    let listed = list(&bench.store).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].digest, loaded[0].target.digest);
    assert!(listed[0].size.unwrap() > LAYER.len() as u64);
    // Again gives the same.
    assert_eq!(bench.load(&docker_save(&["busybox:1.36", "quay.io/a/b:c"])).unwrap(), loaded);
}

#[test]
fn the_names_of_kubernetes_releases_are_those_that_kubeadm_asks_for() {
    let loaded = bench().load(&docker_save(&["k8s.gcr.io/kube-proxy-amd64:v1.20.2"])).unwrap();
    assert_eq!(
        shown(&loaded),
        ["registry.k8s.io/kube-proxy:v1.20.2", "registry.k8s.io/kube-proxy-amd64:v1.20.2"]
    );
    let loaded = bench().load(&docker_save(&["quay.io/a/b-amd64:1"])).unwrap();
    assert_eq!(shown(&loaded), ["quay.io/a/b-amd64:1"]);
}

#[test]
fn compression_is_recognised_by_its_bytes() {
    let plain = docker_save(&["busybox"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let expected = bench().load(&plain).unwrap();
    assert_eq!(bench().load(&gzip).unwrap(), expected);
    assert_eq!(bench().load(&zstd).unwrap(), expected);

    for bytes in [&gzip, &zstd] {
        let error = bench().load(&bytes[..bytes.len() / 2]).unwrap_err();
        assert!(matches!(error, LoadErrorKind::Truncated(..)), "{error:?}");
    }
}

#[test]
fn layers_may_be_links_and_compressed() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(LAYER).unwrap();
    let gzip = gzip.finish().unwrap();
    let config = config(&[Digest::of(LAYER), Digest::of(LAYER)]);
    let bench = bench();
    let mut tar = tar::Builder::new(Vec::new());
    raw_entry(&mut tar, "1/layer.tar", tar::EntryType::Regular, &gzip);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "2/layer.tar", "../1/layer.tar").unwrap();
    raw_entry(&mut tar, "c.json", tar::EntryType::Regular, &config);
    let index = json!([{ "Config": "c.json", "RepoTags": ["a"], "Layers": ["1/layer.tar", "2/layer.tar"] }]);
    raw_entry(&mut tar, "manifest.json", tar::EntryType::Regular, index.to_string().as_bytes());
    let loaded = bench.load(&tar.into_inner().unwrap()).unwrap();
    let manifest = bench.store.read(&loaded[0].target.digest, 10_000).unwrap().unwrap();
    let Content::Image { layers, .. } = Manifest::parse(&manifest).unwrap().content else {
        panic!("an index")
    };
    assert_eq!(layers[0].media_type, OCI_LAYER_GZIP);
    assert_eq!(layers[0], layers[1]);
}

#[test]
fn an_oci_layout_is_loaded_byte_by_byte() {
    let layout = layout();
    for (annotations, name) in [
        (
            json!({ "io.containerd.image.name": "quay.io/a/b:1", "org.opencontainers.image.ref.name": "1" }),
            "quay.io/a/b:1",
        ),
        (json!({ "org.opencontainers.image.ref.name": "ghcr.io/a/b:1" }), "ghcr.io/a/b:1"),
        (
            json!({ "org.opencontainers.image.ref.name": "busybox:latest" }),
            "docker.io/library/busybox:latest",
        ),
    ] {
        let bench = bench();
        let loaded = bench.load(&layout.tar(&layout.named(annotations))).unwrap();
        assert_eq!(shown(&loaded), [name]);
        assert_eq!(loaded[0].target, layout.manifest);
    }
    for annotations in [json!({}), json!({ "org.opencontainers.image.ref.name": "latest" })] {
        let error = bench().load(&layout.tar(&layout.named(annotations))).unwrap_err();
        assert!(matches!(error, LoadErrorKind::Unnamed(_)), "{error:?}");
    }
}

#[test]
fn an_index_may_lack_platforms() {
    let mut layout = layout();
    let elsewhere = Descriptor::new(OCI_MANIFEST, Digest::of("arm64"), 5);
    let index = json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [layout.manifest, elsewhere]
    })
    .to_string()
    .into_bytes();
    layout.manifest = Descriptor::new(OCI_INDEX, Digest::of(&index), index.len() as u64);
    layout.add_blob(index);
    let name = json!({ "io.containerd.image.name": "docker.io/library/busybox:1" });
    let bench = bench();
    let loaded = bench.load(&layout.tar(&layout.named(name))).unwrap();
    assert_eq!(loaded[0].absent, [elsewhere]);
    assert_eq!(loaded[0].target.digest, layout.manifest.digest);
}

#[test]
fn what_is_wrong_is_said() {
    let good = docker_save(&["busybox"]);
    let config = config(&[Digest::of(LAYER)]);
    let index = |name: &str, tags: Value, layers: Value| {
        json!([{ "Config": name, "RepoTags": tags, "Layers": layers }]).to_string()
    };
    let docker = |index: &str, config: &[u8], layer: &[u8]| {
        tar(&[("c.json", config), ("l", layer), ("manifest.json", index.as_bytes())])
    };
    let whole = index("c.json", json!(["a"]), json!(["l"]));
    type Check = fn(&LoadErrorKind) -> bool;
    let cases: Vec<(&str, Vec<u8>, Check)> = vec![
        ("text", b"hello, world\n".repeat(100), |e| matches!(e, LoadErrorKind::NoTar)),
        ("empty", Vec::new(), |e| matches!(e, LoadErrorKind::NoTar)),
        ("short", b"x".to_vec(), |e| matches!(e, LoadErrorKind::NoTar)),
        ("other tar", tar(&[("a", b"b")]), |e| matches!(e, LoadErrorKind::NoImage)),
        ("cut in an entry", good[..1200].to_vec(), |e| matches!(e, LoadErrorKind::Truncated(..))),
        ("cut in a header", good[..1100].to_vec(), |e| matches!(e, LoadErrorKind::Truncated(..))),
        ("no tags", docker(&index("c.json", Value::Null, json!(["l"])), &config, LAYER), |e| {
            matches!(e, LoadErrorKind::Unnamed(_))
        }),
        ("bad tag", docker(&index("c.json", json!(["a/../b"]), json!(["l"])), &config, LAYER), |e| {
            matches!(e, LoadErrorKind::Name(_))
        }),
        (
            "no such layer",
            docker(&index("c.json", json!(["a"]), json!(["m"])), &config, LAYER),
            |e| matches!(e, LoadErrorKind::Missing(path) if path == "m"),
        ),
        (
            "layer from outside",
            docker(&index("c.json", json!(["a"]), json!(["/etc/passwd"])), &config, LAYER),
            |e| matches!(e, LoadErrorKind::Missing(_)),
        ),
        ("two layers", docker(&index("c.json", json!(["a"]), json!(["l", "l"])), &config, LAYER), |e| {
            matches!(e, LoadErrorKind::LayerCount { layers: 2, diff_ids: 1, .. })
        }),
        ("another layer", docker(&whole, &config, b"other"), |e| matches!(e, LoadErrorKind::Digest { .. })),
        ("broken config", docker(&whole, b"{", LAYER), |e| matches!(e, LoadErrorKind::Json { .. })),
        ("broken index", docker("[{]", &config, LAYER), |e| matches!(e, LoadErrorKind::Json { .. })),
        ("twice", tar(&[("a", b"b"), ("./a", b"c")]), |e| matches!(e, LoadErrorKind::Twice(_))),
        (
            "wrong name",
            {
                let name = format!("{}.json", Digest::of("other").hex());
                let index = index(&name, json!(["a"]), json!(["l"]));
                tar(&[(&name, &config), ("l", LAYER), ("manifest.json", index.as_bytes())])
            },
            |e| matches!(e, LoadErrorKind::Digest { .. }),
        ),
    ];
    for (what, archive, check) in cases {
        let error = bench().load(&archive).expect_err(what);
        assert!(check(&error), "{what}: {error:?}");
    }
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["../x", "/etc/passwd", "a/../../x", "..", "a/../..", "./../x"] {
        let error = bench().load(&tar(&[(path, b"x")])).unwrap_err();
        assert!(matches!(error, LoadErrorKind::Path(_)), "{path}: {error:?}");
    }
    for (kind, target) in [(tar::EntryType::Symlink, "../../x"), (tar::EntryType::Link, "/etc/passwd")] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_path("a/l").unwrap();
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.append(&header, Cursor::new([])).unwrap();
        let error = bench().load(&tar.into_inner().unwrap()).unwrap_err();
        assert!(matches!(error, LoadErrorKind::Path(_)), "{error:?}");
    }
    for (kind, name) in [
        (tar::EntryType::Char, "device"),
        (tar::EntryType::Block, "device"),
        (tar::EntryType::Fifo, "pipe"),
        (tar::EntryType::new(b'Z'), "thing of an unknown kind"),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        raw_entry(&mut tar, "x", kind, b"");
        let error = bench().load(&tar.into_inner().unwrap()).unwrap_err();
        assert!(matches!(&error, LoadErrorKind::Kind { kind, .. } if *kind == name), "{error:?}");
    }
}

#[test]
fn a_circle_of_links_ends() {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, target) in [("manifest.json", "b"), ("b", "manifest.json")] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, path, target).unwrap();
    }
    let error = bench().load(&tar.into_inner().unwrap()).unwrap_err();
    assert!(matches!(error, LoadErrorKind::NoImage), "{error:?}");
}

#[test]
fn a_layout_that_is_not_whole_gets_no_name() {
    let name = json!({ "io.containerd.image.name": "a:1" });
    for missing in 1..=3 {
        let mut layout = layout();
        layout.entries.remove(missing);
        let error = bench().load(&layout.tar(&layout.named(name.clone()))).unwrap_err();
        assert!(matches!(error, LoadErrorKind::Closure { .. }), "{missing}: {error:?}");
    }
    let mut layout = layout();
    layout.entries[1].1 = b"damaged".to_vec();
    let error = bench().load(&layout.tar(&layout.named(name))).unwrap_err();
    assert!(matches!(error, LoadErrorKind::Digest { .. }), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever an archive is cut or a byte of it changed: an error or the same image, never another one.
    #[test]
    fn damage_is_never_loaded(cut in 0_usize..5000, at in 0_usize..5000, byte: u8) {
        let good = docker_save(&["busybox"]);
        let expected = bench().load(&good).unwrap();
        let mut bad = good.clone();
        bad.truncate(cut.max(1));
        if let Some(there) = bad.get_mut(at) {
            *there = byte;
        }
        let bench = bench();
        if let Ok(loaded) = bench.load(&bad) {
            for loaded in loaded {
                let closure = bench.store.closure(&loaded.target.digest).unwrap();
                prop_assert!(closure.present.contains_key(&Digest::of(LAYER)));
            }
            prop_assert_eq!(expected.len(), 1);
        }
    }
}
