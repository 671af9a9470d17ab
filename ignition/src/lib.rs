//! The middle floor's writer: a node plan in, an Ignition config out.
//!
//! [`render()`] turns a [`NodePlan`] into everything that one machine is told at boot: networkd files, FRR's files,
//! containerd and its mirrors, the CNI config, kubeadm's config in the API version of its Kubernetes, the units that
//! run all this and the settings of the machine's own meshboot gateway. Start with [`node`] (what is known of a
//! machine), then [`render`](mod@render) (who writes what).
//!
//! *Architecture invariant:* nothing here does I/O, reads a clock or draws a random number; equal plans give equal
//! bytes. Only [`spec`] names the crate `ignition-config`; every other module writes into a [`tree::Tree`].

pub mod cluster;
pub mod cni;
pub mod containerd;
pub mod control_plane;
#[cfg(test)]
mod fixture;
pub mod frr;
pub mod gateway;
pub mod image;
pub mod kubeadm;
pub mod kubelet;
pub mod member;
pub mod network;
pub mod node;
pub mod render;
pub mod routing;
pub mod secret;
pub mod skew;
pub mod spec;
pub mod system;
mod template;
pub mod token;
pub mod tree;
pub mod version;

pub use control_plane::ControlPlaneSpec;
pub use image::{ImageId, ImageIdError};
pub use member::{NodeSpec, Taint};
pub use node::{BootLink, Cni, KubernetesSource, NodePlan, PkiFile, RoleDetail, SiteId, SitePlan, Uplink};
pub use render::{JOIN_LIMIT, RenderError, render};
pub use secret::Secret;
pub use skew::SkewError;
pub use spec::Config;
pub use token::BootstrapToken;
pub use version::KubernetesVersion;
