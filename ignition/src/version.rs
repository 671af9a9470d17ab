//! What differs between versions of Kubernetes, in one place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version of Kubernetes, written `v1.20.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KubernetesVersion {
    /// 1, for as long as anybody remembers.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
    /// The patch level.
    pub patch: u16,
}

/// A text that is not a version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version of Kubernetes: expected vMAJOR.MINOR.PATCH, as v1.33.1")]
pub struct ParseVersionError(String);

/// The version of kubeadm's configuration API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KubeadmApi {
    /// Up to 1.21.
    V1Beta2,
    /// 1.22 to 1.30.
    V1Beta3,
    /// From 1.31: arguments are lists, and limits of time have a place of their own.
    V1Beta4,
}

// === impl KubernetesVersion ===

impl KubernetesVersion {
    /// The oldest that is rendered for.
    pub const OLDEST: Self = Self::new(1, 20, 0);

    /// The version of these numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The configuration API of its kubeadm.
    #[must_use]
    pub fn kubeadm_api(self) -> KubeadmApi {
        match (self.major, self.minor) {
            (1, ..=21) => KubeadmApi::V1Beta2,
            (1, 22..=30) => KubeadmApi::V1Beta3,
            _ => KubeadmApi::V1Beta4,
        }
    }

    /// The tag of the pause image that its kubeadm names.
    #[must_use]
    pub fn pause_tag(self) -> &'static str {
        match (self.major, self.minor) {
            (1, ..=20) => "3.2",
            (1, 21) => "3.4.1",
            (1, 22) => "3.5",
            (1, 23) => "3.6",
            (1, 24) => "3.7",
            (1, 25) => "3.8",
            (1, 26..=30) => "3.9",
            (1, 31..=33) => "3.10",
            _ => "3.10.1",
        }
    }

    /// containerd's socket as kubeadm and the kubelet want it named.
    #[must_use]
    pub fn cri_socket(self) -> &'static str {
        if self.at_least(24) {
            "unix:///run/containerd/containerd.sock"
        } else {
            "/run/containerd/containerd.sock"
        }
    }

    /// Whether its kubeadm asks containerd itself. Before, it ran `crictl`, which Debian does not have, and its
    /// preflight checks cannot pass without.
    #[must_use]
    pub fn kubeadm_speaks_cri(self) -> bool {
        self.at_least(31)
    }

    /// Whether the kubelet takes the runtime's socket from its config file.
    #[must_use]
    pub fn kubelet_config_names_runtime(self) -> bool {
        self.at_least(27)
    }

    /// Whether it is 1.`minor` or newer.
    #[must_use]
    pub fn at_least(self, minor: u16) -> bool {
        (self.major, self.minor) >= (1, minor)
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for KubernetesVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVersionError(text.to_owned());
        let mut numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        });
        let mut next = || numbers.next().flatten().ok_or_else(error);
        let version = Self::new(next()?, next()?, next()?);
        if numbers.next().is_some() { Err(error()) } else { Ok(version) }
    }
}

impl TryFrom<String> for KubernetesVersion {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KubernetesVersion> for String {
    fn from(version: KubernetesVersion) -> Self {
        version.to_string()
    }
}

// === impl KubeadmApi ===

impl fmt::Display for KubeadmApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1Beta2 => "kubeadm.k8s.io/v1beta2",
            Self::V1Beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1Beta4 => "kubeadm.k8s.io/v1beta4",
        })
    }
}

#[cfg(test)]
mod tests;
