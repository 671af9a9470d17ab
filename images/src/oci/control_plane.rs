//! The control plane's images, assembled from programs.
//!
//! kubeadm says which names it expects ([`kubeadm`](crate::kubernetes::kubeadm)); each is made from the program of
//! that name, and what cannot be made is said. A name's tag is kubeadm's, also where the program is of
//! another version: Debian's etcd is newer than the one that an old kubeadm names.

use std::path::{Path, PathBuf};

use crate::store::{Descriptor, Reference, Store};

use super::{
    AssembleError, Compression, Config, Image, Layer, LayerError, PATH,
    root::{Root, RootError},
};

/// Where the shared extensions of iptables are.
const XTABLES: &str = "usr/lib/x86_64-linux-gnu/xtables";

/// What kube-proxy runs. `iptables` is a link of Debian's alternatives: it comes with what it leads to, so that
/// the image and the node use the same back end.
const PROXY_TOOLS: [&str; 8] = [
    "usr/sbin/iptables",
    "usr/sbin/iptables-save",
    "usr/sbin/iptables-restore",
    "usr/sbin/ip6tables",
    "usr/sbin/ip6tables-save",
    "usr/sbin/ip6tables-restore",
    "usr/sbin/conntrack",
    "usr/bin/kmod",
];

/// What it runs in other modes, or what people look for in it; taken if it is there.
const PROXY_EXTRAS: [&str; 17] = [
    "usr/sbin/iptables-nft",
    "usr/sbin/iptables-nft-save",
    "usr/sbin/iptables-nft-restore",
    "usr/sbin/ip6tables-nft",
    "usr/sbin/ip6tables-nft-save",
    "usr/sbin/ip6tables-nft-restore",
    "usr/sbin/iptables-legacy",
    "usr/sbin/iptables-legacy-save",
    "usr/sbin/iptables-legacy-restore",
    "usr/sbin/ip6tables-legacy",
    "usr/sbin/ip6tables-legacy-save",
    "usr/sbin/ip6tables-legacy-restore",
    "usr/sbin/modprobe",
    "usr/bin/lsmod",
    "usr/sbin/ipset",
    "usr/sbin/ipvsadm",
    "usr/sbin/nft",
];

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Folder of `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kube-proxy` and `pause`, statically linked.
    pub dir: PathBuf,
    /// A Debian root with `iptables`, `conntrack`, `kmod` and `etcd-server`.
    pub debian_root: PathBuf,
}

/// What was made, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Images, and their manifests.
    pub made: Vec<(Reference, Descriptor)>,
    /// Images that there is no program for, such as CoreDNS.
    pub missing: Vec<Reference>,
}

/// Why an image of the control plane was not made.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A program of it cannot be taken from the Debian root.
    #[error("the image {image}")]
    Root {
        /// Which image.
        image: Reference,
        /// What is wrong.
        #[source]
        source: Box<RootError>,
    },
    /// It cannot be put together.
    #[error("the image {image}")]
    Assemble {
        /// Which image.
        image: Reference,
        /// What is wrong.
        #[source]
        source: Box<AssembleError>,
    },
}

/// Makes those of the wanted images that there are programs for.
///
/// # Errors
///
/// [`ControlPlaneError`].
pub fn assemble(
    wanted: &[Reference],
    programs: &Programs,
    store: &Store,
    compression: Compression,
) -> Result<Assembled, ControlPlaneError> {
    let mut assembled = Assembled::default();
    for reference in wanted {
        let of_root = |error| ControlPlaneError::Root { image: reference.clone(), source: Box::new(error) };
        let of_image =
            |error| ControlPlaneError::Assemble { image: reference.clone(), source: Box::new(error) };
        let name = reference.repository.as_str().rsplit('/').next().unwrap_or_default();
        let image = match name {
            "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" => {
                program_image(&programs.dir, name).map_err(|error| of_image(error.into()))?
            }
            "kube-proxy" => proxy_image(programs).map_err(of_root)?,
            "etcd" => etcd_image(&programs.debian_root).map_err(of_root)?,
            "pause" => pause_image(&programs.dir).map_err(|error| of_image(error.into()))?,
            _ => {
                assembled.missing.push(reference.clone());
                continue;
            }
        };
        let target = image.assemble_as(reference, store, compression).map_err(of_image)?;
        assembled.made.push((reference.clone(), target));
    }
    Ok(assembled)
}

fn program_image(dir: &Path, name: &str) -> Result<Image, LayerError> {
    let mut layer = Layer::default();
    base_files(&mut layer)?;
    layer.file(&format!("usr/local/bin/{name}"), dir.join(name), 0o755)?;
    Ok(Image { layers: vec![layer], config: config(format!("/usr/local/bin/{name}")) })
}

/// Two layers: a rebuilt kube-proxy does not change the tools below it.
fn proxy_image(programs: &Programs) -> Result<Image, RootError> {
    let root = Root::new(&programs.debian_root);
    let mut tools = Layer::default();
    for path in PROXY_TOOLS {
        root.take(path, &mut tools)?;
    }
    for path in PROXY_EXTRAS.into_iter().filter(|path| root.has(path)) {
        root.take(path, &mut tools)?;
    }
    root.take_all(XTABLES, ".so", &mut tools)?;
    base_files(&mut tools)?;
    let mut program = Layer::default();
    program.file("usr/local/bin/kube-proxy", programs.dir.join("kube-proxy"), 0o755)?;
    Ok(Image { layers: vec![tools, program], config: config("/usr/local/bin/kube-proxy".to_owned()) })
}

fn etcd_image(debian_root: &Path) -> Result<Image, RootError> {
    let root = Root::new(debian_root);
    let mut layer = Layer::default();
    base_files(&mut layer)?;
    root.take("usr/bin/etcd", &mut layer)?;
    if root.has("usr/bin/etcdctl") {
        root.take("usr/bin/etcdctl", &mut layer)?;
    }
    Ok(Image { layers: vec![layer], config: config("/usr/bin/etcd".to_owned()) })
}

/// Every pod has one: nothing but the program.
fn pause_image(dir: &Path) -> Result<Image, LayerError> {
    let mut layer = Layer::default();
    layer.file("pause", dir.join("pause"), 0o755)?;
    Ok(Image { layers: vec![layer], config: config("/pause".to_owned()) })
}

fn config(entrypoint: String) -> Config {
    Config { entrypoint: vec![entrypoint], env: vec![format!("PATH={PATH}")], ..Config::default() }
}

/// What programs look for in every root. Go before 1.16 asks DNS before /etc/hosts where there is no
/// nsswitch.conf.
pub(super) fn base_files(layer: &mut Layer) -> Result<(), LayerError> {
    layer.bytes(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        0o644,
    )?;
    layer.bytes("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)?;
    layer.bytes("etc/nsswitch.conf", "hosts: files dns\n", 0o644)?;
    layer.directory("tmp", 0o1777)
}
