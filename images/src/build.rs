//! Makes all images of a mesh, or as much of them as is not there already.

use std::{
    fs, io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use crate::{
    cache::{Cache, CacheError, Recipe},
    catalog::{self, Artefact, Catalog, CatalogError},
    cmdline::{Cmdline, Role},
    command::{CommandError, Runner},
    control_plane::{self, ImagesError},
    kubernetes::{
        self, ObtainError, Source,
        upstream::{BASE_URL, Upstream},
    },
    layer::{self, LayerImageError},
    mirror::Mirror,
    progress::Progress,
    root::{
        self, DEFAULT_SUITE, RootImageError,
        finish::{Programs, RootImage},
    },
    sbom::{self, Package, SbomError},
    store::{Store, StoreError},
    uki::{self, Parts, UkiError},
};

#[cfg(test)]
mod tests;

/// What is to be made, and of what.
#[derive(Debug, Clone)]
pub struct Options {
    /// The user's cache; what is in it can be thrown away.
    pub cache: PathBuf,
    /// The static `meshboot` binary that machines run.
    pub binary: PathBuf,
    /// Where a neighbour answers.
    pub boot: Ipv6Addr,
    /// Debian's release.
    pub suite: String,
    /// Debian's mirror; `None` for the one that this machine's apt uses.
    pub mirror: Option<Mirror>,
    /// Which Kubernetes.
    pub kubernetes: Source,
    /// The root of a server with the layout of dl.k8s.io.
    pub upstream: String,
    /// PEM certificates of further authorities to trust when Kubernetes is fetched.
    pub authorities: Option<PathBuf>,
    /// Debian packages to install besides those that are needed.
    pub extra_packages: Vec<String>,
    /// Further words for the kernel's command line.
    pub extra_cmdline: Vec<String>,
    /// Installs Debian's packages anew even if there are some in the cache: for security updates.
    pub refresh: bool,
}

/// Why images were not made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The log cannot be written.
    #[error("writing the log {}", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// apt cannot be asked for its mirror.
    #[error("looking for Debian's mirror")]
    Mirror(#[source] CommandError),
    /// apt uses none of Debian.
    #[error(
        "apt on this computer names no mirror of Debian: name one with --mirror URL, as the root of its archive"
    )]
    NoMirror,
    /// There is no Kubernetes.
    #[error(transparent)]
    Kubernetes(#[from] ObtainError),
    /// There is no root image.
    #[error(transparent)]
    Root(#[from] RootImageError),
    /// There is no layer for the binary.
    #[error(transparent)]
    Layer(#[from] LayerImageError),
    /// There is nothing that firmware could load.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are no images of the control plane.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The packages cannot be listed.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// The catalogue cannot be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

// === impl Options ===

impl Options {
    /// The defaults, for a cache, a binary and an address that have none.
    pub fn new(cache: impl Into<PathBuf>, binary: impl Into<PathBuf>, boot: Ipv6Addr) -> Self {
        Self {
            cache: cache.into(),
            binary: binary.into(),
            boot,
            suite: DEFAULT_SUITE.to_owned(),
            mirror: None,
            kubernetes: Source::Auto,
            upstream: BASE_URL.to_owned(),
            authorities: None,
            extra_packages: Vec::new(),
            extra_cmdline: Vec::new(),
            refresh: false,
        }
    }
}

/// Makes all images. What was made of the same before is used again, so that a second run only looks.
///
/// # Errors
///
/// [`BuildError`]. What was finished before stays, and an interrupted or failed run leaves nothing half made.
pub async fn build(options: &Options, progress: &dyn Progress) -> Result<Catalog, BuildError> {
    let cache = Cache::open(&options.cache, progress).await?;
    let log = cache.path("logs/images.log");
    // Of the last run only.
    let _ = fs::remove_file(&log);
    let runner = Runner::new(&log, progress).map_err(|source| BuildError::Log { path: log, source })?;
    let mirror = match &options.mirror {
        Some(mirror) => mirror.clone(),
        None => Mirror::of_host(&runner).await.map_err(BuildError::Mirror)?.ok_or(BuildError::NoMirror)?,
    };
    let upstream = Upstream {
        base_url: options.upstream.clone(),
        cache: cache.path("downloads"),
        authorities: options.authorities.clone(),
    };

    // The one keeps the processors busy, the other the network and the disk.
    let (kubernetes, debian) = tokio::try_join!(
        async {
            let obtained = kubernetes::obtain(&options.kubernetes, &upstream, &cache, &mirror, &runner).await;
            obtained.map_err(BuildError::from)
        },
        async {
            let (suite, packages) = (&options.suite, &options.extra_packages);
            let installed =
                root::debian::install(&cache, suite, &mirror, packages, options.refresh, &runner).await;
            installed.map_err(BuildError::from)
        }
    )?;
    let programs =
        Programs { kubeadm: &kubernetes.kubeadm, kubelet: &kubernetes.kubelet, kubectl: &kubernetes.kubectl };
    let root = root::finish::finish(&cache, &options.suite, &debian, &programs, &runner).await?;
    let layer = layer::make(&cache, &options.binary, &runner).await?;

    let store_dir = cache.path("store");
    let store = Store::open(&store_dir)?;
    let images = control_plane::provide(&cache, &kubernetes, &debian, &store, progress).await?;
    let packages = sbom::of(&cache, &debian)?;

    let parts = Made { root, layer, kubernetes, images, packages, store: store_dir };
    catalogue(&cache, options, parts)
}

struct Made {
    root: RootImage,
    layer: PathBuf,
    kubernetes: kubernetes::KubernetesBinaries,
    images: control_plane::Provided,
    packages: Vec<Package>,
    store: PathBuf,
}

/// Puts the images that firmware loads together, and writes down what there is.
fn catalogue(cache: &Cache, options: &Options, made: Made) -> Result<Catalog, BuildError> {
    let artefact = |path: &Path| -> Result<Artefact, CacheError> {
        let (sha256, size) = cache.artefact(path)?;
        Ok(Artefact { sha256, size, path: path.to_owned() })
    };
    let root = artefact(&made.root.image)?;
    let layer = artefact(&made.layer)?;
    let cmdline = |role, image: &str| {
        Cmdline {
            role,
            image: image.to_owned(),
            boot: options.boot,
            root: root.sha256,
            layer: layer.sha256,
            extra: options.extra_cmdline.clone(),
        }
        .to_string()
    };
    let id = Recipe::new("catalogue")
        .with(&made.root.key)
        .with(cmdline(Role::Node, ""))
        .with(made.kubernetes.version.to_string())
        .key();

    let dir = cache.begin(catalog::KIND)?;
    let uki = |role| -> Result<PathBuf, BuildError> {
        let name = format!("{role}.efi");
        let parts = Parts {
            stub: &made.root.stub,
            linux: &made.root.linux,
            initrd: &made.root.initrd,
            os_release: &made.root.os_release,
            uname: &made.root.uname,
            cmdline: &cmdline(role, &id),
        };
        uki::write(&parts, &dir.path().join(&name))?;
        Ok(cache.path(catalog::KIND).join(&id).join(name))
    };
    sbom::write(&made.packages, dir.path())?;
    let (node, seed) = (uki(Role::Node)?, uki(Role::Seed)?);
    let dir = cache.finish(dir, catalog::KIND, &id)?;
    let catalog = Catalog {
        boot: options.boot,
        root,
        layer,
        node_uki: artefact(&node)?,
        seed_uki: artefact(&seed)?,
        kubernetes: made.kubernetes.version.to_string(),
        kubernetes_source: made.kubernetes.source.to_string(),
        kubectl: made.kubernetes.kubectl,
        kubeadm: made.kubernetes.kubeadm,
        suite: options.suite.clone(),
        kernel: made.root.uname,
        store: made.store,
        images: made.images.made,
        missing_images: made.images.missing,
        id,
    };
    catalog.write(&dir)?;
    Ok(catalog)
}
