//! Kubernetes: where it comes from.

pub mod debian;
pub mod dir;
pub mod kubeadm;
pub mod kubelet;
mod obtain;
mod source;
pub mod upstream;
pub mod version;

pub(crate) use obtain::obtain;
pub use obtain::{ImageSource, KubernetesBinaries, ObtainError};
pub use source::{ParseSourceError, Source};
