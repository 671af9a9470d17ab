use std::{
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    control_plane::{ControlPlaneError, Programs},
    root::{Root, RootError},
    *,
};
use crate::store::{Blob, Content, Manifest};

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
    fn file(&self, path: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn layers(&self, target: &Descriptor) -> (Value, Vec<Descriptor>) {
        let bytes = self.store.read(&target.digest, target.size).unwrap().unwrap();
        let Content::Image { config, layers } = Manifest::parse(&bytes).unwrap().content else {
            panic!("an index")
        };
        let config = self.store.read(&config.digest, config.size).unwrap().unwrap();
        (serde_json::from_slice(&config).unwrap(), layers)
    }

    /// The tar of a layer.
    fn tar(&self, layer: &Descriptor) -> Vec<u8> {
        let Blob { mut file, .. } = self.store.blob(&layer.digest).unwrap().unwrap();
        if layer.media_type == OCI_LAYER_ZSTD {
            return zstd::decode_all(file).unwrap();
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

/// Each entry as `path mode size target`.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        let target = entry.link_name().unwrap().unwrap_or_default().display().to_string();
        format!("{} {:o} {} {target}", entry.path().unwrap().display(), header.mode().unwrap(), entry.size())
    });
    entries.collect()
}

#[test]
fn the_same_files_give_the_same_image() {
    let bench = bench();
    let source = bench.file("a", b"program", 0o700);
    let image = || {
        let mut layer = Layer::default();
        layer.file("/usr/bin/program", &source, 0o755).unwrap();
        layer.symlink("bin", "usr/bin").unwrap();
        layer.bytes("etc/config", "x", 0o644).unwrap();
        layer.directory("tmp", 0o1777).unwrap();
        Image { layers: vec![layer], config: Config { cmd: vec!["program".to_owned()], ..Config::default() } }
    };
    let first = image().assemble(&bench.store, Compression::default()).unwrap();
    fs::remove_file(&source).unwrap();
    bench.file("a", b"program", 0o777);
    let second = image().assemble(&bench.store, Compression::default()).unwrap();
    assert_eq!(first, second);
    let plain = image().assemble(&bench.store, Compression::None).unwrap();
    assert_ne!(first, plain);

    for target in [first, plain] {
        let (config, layers) = bench.layers(&target);
        let tar = bench.tar(&layers[0]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([Digest::of(&tar)]));
        assert_eq!(config["config"], json!({ "Cmd": ["program"] }));
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(
            entries(&tar),
            [
                "bin 777 0 usr/bin",
                "etc/ 755 0 ",
                "etc/config 644 1 ",
                "tmp/ 1777 0 ",
                "usr/ 755 0 ",
                "usr/bin/ 755 0 ",
                "usr/bin/program 755 7 "
            ]
        );
    }
}

#[test]
fn contradictions_are_refused() {
    let mut layer = Layer::default();
    for path in ["", "/", "a/../b", "./a", "a//b", "a/", "..", "a\0"] {
        assert_eq!(layer.bytes(path, "", 0o644), Err(LayerError::Path(path.to_owned())), "{path:?}");
    }
    layer.bytes("a", "x", 0o644).unwrap();
    layer.bytes("/a", "x", 0o644).unwrap();
    assert_eq!(layer.bytes("a", "y", 0o644), Err(LayerError::Clash("a".to_owned())));
    layer.bytes("a/b", "y", 0o644).unwrap();
    let bench = bench();
    let image = Image { layers: vec![layer], ..Image::default() };
    let error = image.assemble(&bench.store, Compression::None).unwrap_err();
    assert!(matches!(error, AssembleError::Layer(LayerError::Parent { .. })), "{error}");

    let mut layer = Layer::default();
    layer.file("a", "/nowhere", 0o644).unwrap();
    let image = Image { layers: vec![layer], ..Image::default() };
    let error = image.assemble(&bench.store, Compression::None).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
    assert!(bench.store.refs().unwrap().is_empty());
}

#[test]
fn long_paths_survive() {
    let bench = bench();
    let mut layer = Layer::default();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    layer.bytes(&long, "x", 0o644).unwrap();
    layer.symlink("l", "t".repeat(150)).unwrap();
    let image = Image { layers: vec![layer], ..Image::default() };
    let target = image.assemble(&bench.store, Compression::None).unwrap();
    let entries = entries(&bench.tar(&bench.layers(&target).1[0]));
    assert!(entries[1].starts_with(&long), "{entries:?}");
    assert!(entries[2].ends_with(&"t".repeat(150)), "{entries:?}");
}

#[test]
fn links_are_followed_within_the_root() {
    let bench = bench();
    bench.file("root/usr/sbin/tool-nft", b"#!/bin/sh\n", 0o700);
    let root = bench.dir.path().join("root");
    fs::create_dir_all(root.join("etc/alternatives")).unwrap();
    symlink("usr/sbin", root.join("sbin")).unwrap();
    symlink("/etc/alternatives/tool", root.join("usr/sbin/tool")).unwrap();
    symlink("/../../usr/./sbin/tool-nft", root.join("etc/alternatives/tool")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/etc/hostname", root.join("outside")).unwrap();
    let root = Root::new(root);
    let mut layer = Layer::default();
    root.take("/sbin/tool", &mut layer).unwrap();
    assert_eq!(
        layer.paths().collect::<Vec<_>>(),
        ["etc/alternatives/tool", "sbin", "usr/sbin/tool", "usr/sbin/tool-nft"]
    );
    assert!(matches!(root.take("loop", &mut layer), Err(RootError::Loop(_))));
    assert!(matches!(root.take("outside", &mut layer), Err(RootError::Missing { .. })));
    assert!(matches!(root.take("sbin/none", &mut layer), Err(RootError::Missing { .. })));
    assert!(matches!(root.take("sbin", &mut layer), Err(RootError::Io { .. })));
    assert!(root.has("sbin/tool") && !root.has("outside"));
}

#[test]
fn a_program_comes_with_its_libraries() {
    // Whatever machine this is, its shell is a program with libraries, or static: both have to work.
    let root = Root::new("/");
    let mut layer = Layer::default();
    root.take("/bin/sh", &mut layer).unwrap();
    let needs = elf::needs(&fs::read("/bin/sh").unwrap()).unwrap().unwrap();
    for library in needs.libraries {
        assert!(layer.paths().any(|path| path.ends_with(&library)), "{library}");
    }
    if let Some(interpreter) = needs.interpreter {
        assert!(layer.contains(&fs::canonicalize(interpreter).unwrap().display().to_string()));
    }
}

#[test]
fn a_missing_library_is_named() {
    let bench = bench();
    let shell = fs::read("/bin/sh").unwrap();
    let Some(library) = elf::needs(&shell).unwrap().unwrap().libraries.pop() else { return };
    bench.file("root/bin/sh", &shell, 0o755);
    let error = Root::new(bench.dir.path().join("root")).take("bin/sh", &mut Layer::default()).unwrap_err();
    assert!(matches!(&error, RootError::Library { library: named, .. } if *named == library), "{error}");
}

proptest! {
    #[test]
    fn no_elf_file_panics(cut in 0_usize..4096, changes in prop::collection::vec((0_usize..1024, any::<u8>()), 0..20)) {
        let mut bytes = fs::read("/bin/sh").unwrap();
        bytes.truncate(cut.max(64) * 32);
        for (at, value) in changes {
            bytes[at] = value;
        }
        let _ = elf::needs(&bytes);
    }
}

/// A root and programs that look as the real ones do from outside.
fn programs(bench: &Bench) -> Programs {
    for tool in [
        "iptables",
        "iptables-save",
        "iptables-restore",
        "ip6tables",
        "ip6tables-save",
        "ip6tables-restore",
        "conntrack",
        "nft",
    ] {
        bench.file(&format!("root/usr/sbin/{tool}"), tool.as_bytes(), 0o755);
    }
    bench.file("root/usr/bin/kmod", b"kmod", 0o755);
    bench.file("root/usr/bin/etcd", b"etcd", 0o755);
    bench.file("root/usr/lib/x86_64-linux-gnu/xtables/libxt_tcp.so", b"so", 0o644);
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "pause"] {
        bench.file(&format!("bin/{name}"), name.as_bytes(), 0o755);
    }
    Programs { dir: bench.dir.path().join("bin"), debian_root: bench.dir.path().join("root") }
}

fn wanted() -> Vec<Reference> {
    [
        "kube-apiserver:v1.20.2",
        "kube-controller-manager:v1.20.2",
        "kube-scheduler:v1.20.2",
        "kube-proxy:v1.20.2",
        "pause:3.2",
        "etcd:3.4.13-0",
        "coredns/coredns:1.7.0",
    ]
    .map(|name| format!("registry.k8s.io/{name}").parse().unwrap())
    .to_vec()
}

#[test]
fn a_control_plane_is_assembled() {
    let bench = bench();
    let programs = programs(&bench);
    let assembled =
        control_plane::assemble(&wanted(), &programs, &bench.store, Compression::default()).unwrap();
    assert_eq!(assembled.missing, wanted()[6..]);
    assert_eq!(assembled.made.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), wanted()[..6]);
    for (name, target) in &assembled.made {
        assert_eq!(bench.store.resolve(name).unwrap().as_ref(), Some(target));
        bench.store.closure(&target.digest).unwrap();
    }
    let (config, layers) = bench.layers(&assembled.made[0].1);
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/kube-apiserver"]));
    assert!(entries(&bench.tar(&layers[0])).iter().any(|entry| entry.starts_with("etc/nsswitch.conf")));
    let (_, layers) = bench.layers(&assembled.made[3].1);
    let tools = entries(&bench.tar(&layers[0]));
    for path in [
        "usr/sbin/nft 755",
        "usr/sbin/ip6tables-restore 755",
        "usr/lib/x86_64-linux-gnu/xtables/libxt_tcp.so 644",
    ] {
        assert!(tools.iter().any(|entry| entry.starts_with(path)), "{path}");
    }
    assert!(entries(&bench.tar(&layers[1])).contains(&"usr/local/bin/kube-proxy 755 10 ".to_owned()));
    let (config, layers) = bench.layers(&assembled.made[4].1);
    assert_eq!(config["config"]["Entrypoint"], json!(["/pause"]));
    assert_eq!(entries(&bench.tar(&layers[0])), ["pause 755 5 "]);

    fs::remove_file(programs.debian_root.join("usr/sbin/conntrack")).unwrap();
    let error =
        control_plane::assemble(&wanted(), &programs, &bench.store, Compression::default()).unwrap_err();
    assert!(
        matches!(&error, ControlPlaneError::Root { image, .. } if image.to_string().contains("kube-proxy"))
    );
}

#[test]
fn busybox_names_its_commands() {
    let bench = bench();
    let script = "#!/bin/sh\n[ \"$1\" = --list ] && printf 'busybox\\nsh\\nhttpd\\nnc\\nwget\\n[\\n'\n";
    let fake = bench.file("busybox", script.as_bytes(), 0o755);
    let image = busybox::image(&fake).unwrap();
    let target =
        image.assemble_as(&busybox::NAME.parse().unwrap(), &bench.store, Compression::default()).unwrap();
    let (config, layers) = bench.layers(&target);
    assert_eq!(config["config"]["Cmd"], json!(["sh"]));
    let entries = entries(&bench.tar(&layers[0]));
    for entry in ["bin/sh 777 0 busybox", "bin/httpd 777 0 busybox", "bin/[ 777 0 busybox", "tmp/ 1777 0 "] {
        assert!(entries.contains(&entry.to_owned()), "{entry}");
    }
    assert!(busybox::image(Path::new("/bin/true")).is_err());
    assert!(busybox::image(Path::new("/nowhere")).is_err());
}
