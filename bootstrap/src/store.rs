//! Where a site's ledger is kept: the backends of [`mesh::Store`].
//!
//! [`redb`] is one file on a machine's own disk, [`kubernetes`] is the site's API with the objects of [`crds`].
//! [`journal`] puts the two together as a gateway needs them; start there.

pub mod crds;
pub mod journal;
pub mod kubernetes;
pub mod redb;

pub use journal::{Authority, MeshStore};
pub use kubernetes::KubernetesStore;
pub use redb::{OpenError, Phase, RedbStore};
