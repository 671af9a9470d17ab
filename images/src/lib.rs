//! Everything that machines boot and run, as verified files: the root image of seeds and nodes, what their firmware loads,
//! the seed's disk, Kubernetes, and the container images of a mesh with the registry that serves them.
//!
//! A file is known by its sha256 and never used, served or kept under a name before all its bytes are there and are the
//! right ones. Nothing here knows of machines, links or sites, and nothing prints: whoever calls says where the cache is
//! and is told of the [progress].
//!
//! Begin at [`build`](mod@build), which makes the images, and at [`disk`], which lays them out for a seed; [`store`] holds
//! the files, [`pull`] fetches what it has not got from registries [`upstream`], and [`registry`] answers for both.

pub mod client;
pub mod kubernetes;
pub mod load;
pub mod oci;
pub mod pull;
pub mod registry;
pub mod store;
pub mod upstream;

mod apt;
pub mod build;
pub mod bundle;
mod cache;
pub mod catalog;
pub mod cmdline;
pub mod command;
mod control_plane;
mod decompress;
pub mod disk;
pub mod layer;
pub mod mirror;
pub mod progress;
pub mod push;
pub mod root;
pub mod save;
pub mod sbom;
#[cfg(feature = "schema")]
mod schema;
pub mod seed_store;
mod squashfs;
pub mod tidy;
pub mod tools;
pub mod uki;
pub mod unpack;
