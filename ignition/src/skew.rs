//! Which kubelets go with a Kubernetes: the project's policy of versions, as far as its kubeadm goes along with it.

use crate::KubernetesVersion;

/// How many minor versions older than kubeadm a kubelet may be (`MinimumKubeletVersion` in kubeadm's constants): below that
/// neither its checks pass nor are the arguments that it writes for the kubelet meant for one so old.
///
/// The [policy](https://kubernetes.io/releases/version-skew-policy/#kubelet) grants three, and two to kubelets before 1.25;
/// kubeadm has followed it since 1.29 (kubernetes/kubernetes#120825), and took one before. So none before 1.25 is ever
/// more than one older.
const KUBEADM_TAKES: u16 = 3;
const KUBEADM_TOOK: u16 = 1;
const KUBEADM_FOLLOWS_THE_POLICY: u16 = 29;

/// A kubelet that does not go with a mesh's Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkewError {
    /// It is newer.
    #[error(
        "a kubelet {kubelet} is newer than the mesh's Kubernetes {mesh}, whose kubelets may be of {oldest} to {mesh}",
        oldest = mesh.oldest_kubelet()
    )]
    Newer {
        /// The kubelet's version.
        kubelet: KubernetesVersion,
        /// The mesh's.
        mesh: KubernetesVersion,
    },
    /// It is too old.
    #[error(
        "a kubelet {kubelet} is too old for the mesh's Kubernetes {mesh}, whose kubelets may be of {oldest} to {mesh}",
        oldest = mesh.oldest_kubelet()
    )]
    Older {
        /// The kubelet's version.
        kubelet: KubernetesVersion,
        /// The mesh's.
        mesh: KubernetesVersion,
    },
}

// === impl KubernetesVersion ===

impl KubernetesVersion {
    /// The oldest kubelet that a node of this Kubernetes may have.
    #[must_use]
    pub fn oldest_kubelet(self) -> Self {
        let older = if self.at_least(KUBEADM_FOLLOWS_THE_POLICY) { KUBEADM_TAKES } else { KUBEADM_TOOK };
        Self::new(self.major, self.minor.saturating_sub(older), 0)
    }

    /// Whether a node of this Kubernetes may have this kubelet.
    ///
    /// # Errors
    ///
    /// [`SkewError`], which names those that it may have.
    pub fn takes_kubelet(self, kubelet: Self) -> Result<(), SkewError> {
        if kubelet > self {
            Err(SkewError::Newer { kubelet, mesh: self })
        } else if kubelet < self.oldest_kubelet() {
            Err(SkewError::Older { kubelet, mesh: self })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> KubernetesVersion {
        text.parse().unwrap()
    }

    #[test]
    fn the_policy_holds_as_far_as_kubeadm_goes_along() {
        // Kubernetes, the oldest kubelet, the newest that is too old, and the oldest that is too new.
        for (mesh, oldest, older, newer) in [
            ("v1.20.2", "v1.19.0", "v1.18.99", "v1.20.3"),
            ("v1.25.4", "v1.24.0", "v1.23.17", "v1.26.0"),
            ("v1.27.0", "v1.26.0", "v1.25.16", "v1.27.1"),
            ("v1.28.9", "v1.27.0", "v1.26.15", "v1.28.10"),
            ("v1.29.0", "v1.26.0", "v1.25.16", "v1.29.1"),
            ("v1.34.2", "v1.31.0", "v1.30.14", "v1.34.3"),
            ("v1.2.0", "v1.1.0", "v1.0.9", "v2.0.0"),
        ] {
            let (mesh, oldest) = (version(mesh), version(oldest));
            assert_eq!(mesh.oldest_kubelet(), oldest, "{mesh}");
            assert_eq!((mesh.takes_kubelet(mesh), mesh.takes_kubelet(oldest)), (Ok(()), Ok(())), "{mesh}");
            let (older, newer) = (version(older), version(newer));
            let too_old = SkewError::Older { kubelet: older, mesh };
            assert_eq!(mesh.takes_kubelet(older), Err(too_old), "{mesh}");
            let too_new = SkewError::Newer { kubelet: newer, mesh };
            assert_eq!(mesh.takes_kubelet(newer), Err(too_new), "{mesh}");
        }
        assert_eq!(version("v1.0.3").oldest_kubelet(), version("v1.0.0"));
    }

    #[test]
    fn a_refusal_says_what_is_allowed() {
        let said =
            |kubelet: &str| version("v1.34.2").takes_kubelet(version(kubelet)).unwrap_err().to_string();
        for kubelet in ["v1.35.0", "v1.30.0"] {
            let said = said(kubelet);
            assert!(said.contains(kubelet) && said.contains("v1.31.0 to v1.34.2"), "{said}");
        }
        assert!(said("v1.35.0").contains("newer") && said("v1.30.0").contains("too old"));
    }
}
