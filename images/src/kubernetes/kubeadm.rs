//! Asks Kubernetes' own programs what they are and what they need. Nothing here reaches for the network.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::{process::Command, time::timeout};

use super::version::{ParseVersionError, Version};
use crate::store::{ParseNameError, Reference};

/// Where kubeadm's images are, for all its versions (old ones say `k8s.gcr.io`).
pub const IMAGE_REPOSITORY: &str = "registry.k8s.io";

/// How long a program may take to say what it is.
const LIMIT: Duration = Duration::from_secs(60);

/// Why a program did not say.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It does not run.
    #[error("running {}", program.display())]
    Run {
        /// Which.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It does not end.
    #[error("{} {arguments} did not end within {limit:?}", program.display())]
    Timeout {
        /// Which.
        program: PathBuf,
        /// What it was asked.
        arguments: String,
        /// How long it had.
        limit: Duration,
    },
    /// It failed.
    #[error("{} {arguments} failed: {stderr}", program.display())]
    Failed {
        /// Which.
        program: PathBuf,
        /// What it was asked.
        arguments: String,
        /// What it said.
        stderr: String,
    },
    /// It named no version.
    #[error("{} did not say its version", program.display())]
    Version {
        /// Which.
        program: PathBuf,
        /// What it said instead.
        #[source]
        source: ParseVersionError,
    },
    /// It named something that is no image.
    #[error("{} did not name its images", program.display())]
    Image {
        /// Which.
        program: PathBuf,
        /// What it said instead.
        #[source]
        source: ParseNameError,
    },
}

/// kubeadm's version.
///
/// # Errors
///
/// [`AskError`].
pub async fn kubeadm_version(kubeadm: &Path) -> Result<Version, AskError> {
    let text = ask(kubeadm, &["version", "-o", "short"]).await?;
    text.trim().parse().map_err(|source| AskError::Version { program: kubeadm.to_owned(), source })
}

/// The kubelet's version.
///
/// # Errors
///
/// [`AskError`].
pub async fn kubelet_version(kubelet: &Path) -> Result<Version, AskError> {
    let text = ask(kubelet, &["--version"]).await?;
    let version = text.trim().rsplit(' ').next().unwrap_or_default();
    version.parse().map_err(|source| AskError::Version { program: kubelet.to_owned(), source })
}

/// kubectl's version.
///
/// # Errors
///
/// [`AskError`].
pub async fn kubectl_version(kubectl: &Path) -> Result<Version, AskError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Answer {
        client_version: Client,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Client {
        git_version: String,
    }
    let text = ask(kubectl, &["version", "--client", "-o", "json"]).await?;
    let answer: Answer = serde_json::from_str(&text).unwrap_or_default();
    let version = answer.client_version.git_version;
    version.parse().map_err(|source| AskError::Version { program: kubectl.to_owned(), source })
}

/// The images that this kubeadm's clusters are made of.
///
/// # Errors
///
/// [`AskError`].
pub async fn images(kubeadm: &Path, version: &Version) -> Result<Vec<Reference>, AskError> {
    let version = version.to_string();
    // With a version given it asks nobody which one is the newest.
    let arguments = [
        "config",
        "images",
        "list",
        "--kubernetes-version",
        &version,
        "--image-repository",
        IMAGE_REPOSITORY,
    ];
    let text = ask(kubeadm, &arguments).await?;
    let parse =
        |line: &str| line.parse().map_err(|source| AskError::Image { program: kubeadm.to_owned(), source });
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse).collect()
}

async fn ask(program: &Path, arguments: &[&str]) -> Result<String, AskError> {
    let run =
        Command::new(program).args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true).output();
    let arguments = arguments.join(" ");
    let output = match timeout(LIMIT, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(AskError::Run { program: program.to_owned(), source }),
        Err(_) => return Err(AskError::Timeout { program: program.to_owned(), arguments, limit: LIMIT }),
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(AskError::Failed { program: program.to_owned(), arguments, stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
