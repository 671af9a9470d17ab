//! Kubernetes as its project publishes it: programs and image archives, each beside its checksum.
//!
//! What was fetched stays in the cache, is checked again each time, and is then used without the network. A
//! download that broke off goes on where it ended.

use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt, stream};

use super::version::Version;
use crate::{
    client::{ClientError, client},
    load::{self, LoadError, Loaded},
    store::Store,
};

mod download;
#[cfg(test)]
mod tests;

use download::Download;
pub use download::FetchError;

/// Where releases are, unless the settings say otherwise.
pub const BASE_URL: &str = "https://dl.k8s.io";

/// How many files are fetched at once.
const PARALLEL: usize = 4;

/// How often the newest version is asked for: who has no way out to the server is to know it soon.
const PROBES: u32 = 2;

/// Where the newest release's version is.
const STABLE: &str = "release/stable.txt";

const KUBEADM: &str = "kubeadm";
const KUBELET: &str = "kubelet";
const KUBECTL: &str = "kubectl";
/// The images that a release has archives of. etcd, pause and CoreDNS are published in registries only.
const ARCHIVES: [&str; 4] =
    ["kube-apiserver.tar", "kube-controller-manager.tar", "kube-scheduler.tar", "kube-proxy.tar"];

/// Where to fetch from and to.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The root of a server with the layout of [`BASE_URL`].
    pub base_url: String,
    /// The folder of what was fetched.
    pub cache: PathBuf,
    /// PEM certificates of further authorities to trust, such as that of a proxy that looks into TLS.
    pub authorities: Option<PathBuf>,
}

/// A release, fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which.
    pub version: Version,
    /// The program of that name.
    pub kubeadm: PathBuf,
    /// The program of that name.
    pub kubelet: PathBuf,
    /// The program of that name.
    pub kubectl: PathBuf,
    /// Archives of the control plane's images.
    pub archives: Vec<PathBuf>,
}

/// How far a file's download has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which file.
    pub file: String,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that there will be, if the server says.
    pub total: Option<u64>,
}

// === impl Upstream ===

impl Upstream {
    /// The newest release's version.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: among other things, that the server cannot be reached.
    pub async fn latest(&self) -> Result<Version, FetchError> {
        let url = self.url(STABLE);
        let text = download::small_text(&self.client()?, &url, PROBES).await?;
        text.trim().parse().map_err(|source| FetchError::NotAVersion { url, source })
    }

    /// Fetches a release, or what of it is not in the cache.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn fetch(
        &self,
        version: &Version,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Release, FetchError> {
        let client = self.client()?;
        // The first file asked for tells an unknown version from a release without one of the others.
        self.first(self.download(&client, version, KUBEADM, progress), version).await?;
        let others = [KUBELET, KUBECTL].into_iter().chain(ARCHIVES);
        let downloads = others.map(|name| self.download(&client, version, name, progress));
        stream::iter(downloads)
            .map(|download| async move { download.run().await })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        let dir = self.dir(version);
        Ok(Release {
            version: version.clone(),
            kubeadm: dir.join(KUBEADM),
            kubelet: dir.join(KUBELET),
            kubectl: dir.join(KUBECTL),
            archives: ARCHIVES.iter().map(|name| dir.join(name)).collect(),
        })
    }

    /// Fetches nothing but a release's kubelet, or finds it in the cache.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn fetch_kubelet(
        &self,
        version: &Version,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<PathBuf, FetchError> {
        let client = self.client()?;
        self.first(self.download(&client, version, KUBELET, progress), version).await?;
        Ok(self.dir(version).join(KUBELET))
    }

    /// Fetches a file that every release has.
    async fn first<P: Fn(u64, Option<u64>)>(
        &self,
        download: Download<'_, P>,
        version: &Version,
    ) -> Result<(), FetchError> {
        match download.run().await {
            Err(FetchError::NotFound { url }) => {
                let (version, base_url) = (version.clone(), self.base_url.clone());
                Err(FetchError::UnknownVersion { version, base_url, url })
            }
            ended => ended,
        }
    }

    fn download<'a>(
        &self,
        client: &'a reqwest::Client,
        version: &Version,
        name: &'static str,
        progress: &'a (dyn Fn(Progress) + Send + Sync),
    ) -> Download<'a, impl Fn(u64, Option<u64>) + use<'a>> {
        Download {
            client,
            url: self.url(&format!("release/{version}/bin/linux/amd64/{name}")),
            path: self.dir(version).join(name),
            progress: move |done, total| progress(Progress { file: name.to_owned(), done, total }),
        }
    }

    fn dir(&self, version: &Version) -> PathBuf {
        self.cache.join(version.to_string()).join("linux-amd64")
    }

    fn client(&self) -> Result<reqwest::Client, ClientError> {
        client(self.authorities.as_deref())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base_url.trim_end_matches('/'))
    }
}

// === impl Release ===

impl Release {
    /// Loads its images. Compare with [`kubeadm::images`](super::kubeadm::images) for what is missing: etcd, pause and
    /// CoreDNS always are.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn load_images(&self, store: &Store) -> Result<Vec<Loaded>, LoadError> {
        let mut loaded = Vec::new();
        for archive in &self.archives {
            loaded.extend(load::load(archive, store)?);
        }
        Ok(loaded)
    }
}
