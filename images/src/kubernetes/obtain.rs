//! Gets the Kubernetes that is wanted, from wherever it comes.

use std::path::{Path, PathBuf};

use super::{
    debian::{self, BuildDebianError},
    dir::{DirError, Folder},
    source::Source,
    upstream::{self, FetchError, Upstream},
    version::Version,
};
use crate::{cache::Cache, command::Runner, mirror::Mirror};

/// Kubernetes, on this machine.
#[derive(Debug, Clone)]
pub struct KubernetesBinaries {
    /// Which.
    pub version: Version,
    /// Where it really came from: never [`Source::Auto`].
    pub source: Source,
    /// The program of that name.
    pub kubeadm: PathBuf,
    /// The program of that name.
    pub kubelet: PathBuf,
    /// The program of that name.
    pub kubectl: PathBuf,
    /// Its images.
    pub images: ImageSource,
}

/// Where the images of a Kubernetes' control plane come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// They are assembled from the programs in this folder.
    Programs(PathBuf),
    /// They are in these archives.
    Archives(Vec<PathBuf>),
}

/// Why there is no Kubernetes.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The folder will not do.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The release cannot be fetched.
    #[error("fetching Kubernetes")]
    Fetch(#[from] FetchError),
    /// Debian's cannot be built.
    #[error(transparent)]
    Debian(#[from] BuildDebianError),
}

/// Gets a Kubernetes.
pub(crate) async fn obtain(
    source: &Source,
    upstream: &Upstream,
    cache: &Cache,
    mirror: &Mirror,
    runner: &Runner<'_>,
) -> Result<KubernetesBinaries, ObtainError> {
    let progress = runner.progress();
    match source {
        Source::Auto => {
            progress.stage("asking for the newest Kubernetes");
            match upstream.latest().await {
                Ok(version) => release(upstream, &version, runner).await,
                Err(error) => {
                    tracing::info!(%error, url = upstream.base_url, "no release of Kubernetes can be fetched");
                    progress
                        .line(&format!("{} does not answer: Debian's Kubernetes instead", upstream.base_url));
                    from_debian(cache, mirror, runner).await
                }
            }
        }
        Source::Upstream(version) => release(upstream, version, runner).await,
        Source::Debian => from_debian(cache, mirror, runner).await,
        Source::Dir(dir) => {
            let folder = Folder::read(dir).await?;
            Ok(KubernetesBinaries {
                version: folder.version,
                source: source.clone(),
                kubeadm: folder.kubeadm,
                kubelet: folder.kubelet,
                kubectl: folder.kubectl,
                images: ImageSource::Archives(folder.archives),
            })
        }
    }
}

async fn release(
    upstream: &Upstream,
    version: &Version,
    runner: &Runner<'_>,
) -> Result<KubernetesBinaries, ObtainError> {
    let progress = runner.progress();
    progress.stage(&format!("fetching Kubernetes {version}"));
    let report = |fetched: upstream::Progress| progress.advance(fetched.done, fetched.total);
    let release = upstream.fetch(version, &report).await?;
    Ok(KubernetesBinaries {
        source: Source::Upstream(release.version.clone()),
        version: release.version,
        kubeadm: release.kubeadm,
        kubelet: release.kubelet,
        kubectl: release.kubectl,
        images: ImageSource::Archives(release.archives),
    })
}

async fn from_debian(
    cache: &Cache,
    mirror: &Mirror,
    runner: &Runner<'_>,
) -> Result<KubernetesBinaries, ObtainError> {
    let built = debian::build(cache, mirror, runner).await?;
    let program = |name: &str| Path::new(&built.programs).join(name);
    tracing::warn!(version = %built.version, "Kubernetes from Debian's source: too old for anything but a test mesh");
    Ok(KubernetesBinaries {
        source: Source::Debian,
        kubeadm: program("kubeadm"),
        kubelet: program("kubelet"),
        kubectl: program("kubectl"),
        version: built.version,
        images: ImageSource::Programs(built.programs),
    })
}
