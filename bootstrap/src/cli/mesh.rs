//! Options that describe a mesh: a file of it, or its machines' specs one by one.

use std::path::PathBuf;

use clap::Args;

use crate::meshfile::CONTROL_PLANES;

/// A mesh in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct MeshFile {
    /// A file that describes the mesh, - for standard input; `meshboot config schema` says what may stand there.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Say what would be made or changed, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// What machines are given. Without a name it is for all machines besides the seed, with NAME: for one.
#[derive(Debug, Clone, Default, Args)]
pub struct Specs {
    /// Memory of each machine, as 2GiB, or of one, as node1:4GiB.
    #[arg(long, value_name = "[NAME:]SIZE", conflicts_with = "file")]
    pub memory: Vec<String>,
    /// Memory of the seed, as 3GiB.
    #[arg(long, value_name = "SIZE", conflicts_with = "file")]
    pub seed_memory: Option<String>,
    /// Processors of each machine and of the seed, or of one.
    #[arg(long, value_name = "[NAME:]N", conflicts_with = "file")]
    pub cpus: Vec<String>,
    /// Size of each machine's disk, as 10GiB, or of one's.
    #[arg(long, value_name = "[NAME:]SIZE", conflicts_with = "file")]
    pub disk_size: Vec<String>,
    /// Mesh ports of each machine, or of one.
    #[arg(long, value_name = "[NAME:]N", conflicts_with = "file")]
    pub ports: Vec<String>,
    /// How many control planes there are, the seed being one: 1, 3 or 5. The others are those next to the seed, with as
    /// much memory as the seed is given.
    #[arg(long, value_name = "N", value_parser = control_planes, conflicts_with = "file")]
    pub control_planes: Option<u16>,
    /// What one machine is, as node1:control-plane; by default a worker, or what --control-planes makes of it.
    #[arg(long, value_name = "NAME:ROLE", conflicts_with = "file")]
    pub role: Vec<String>,
    /// A label of each machine's node, or of one's.
    #[arg(long, value_name = "[NAME:]KEY=VALUE", conflicts_with = "file")]
    pub label: Vec<String>,
    /// A taint of each machine's node, or of one's.
    #[arg(long, value_name = "[NAME:]KEY[=VALUE]:EFFECT", conflicts_with = "file")]
    pub taint: Vec<String>,
    /// Feature gates of each machine's kubelet, or of one's.
    #[arg(long, value_name = "[NAME:]GATE=BOOL,...", conflicts_with = "file")]
    pub feature_gates: Vec<String>,
    /// A flag of each machine's kubelet, or of one's, as kubelet.max-pods=30; of the control plane's apiserver,
    /// controller-manager, scheduler or etcd.
    #[arg(long, value_name = "[NAME:]COMPONENT.KEY=VALUE", conflicts_with = "file")]
    pub extra_config: Vec<String>,
    /// The images that each machine boots but for the seed, or one, as `meshboot image list` shows them: node1:IMAGES.
    #[arg(long, value_name = "[NAME:]IMAGES", conflicts_with = "file")]
    pub image: Vec<String>,
    /// Version of each machine's kubelet, or of one's, as node1:v1.33.7: not newer than the mesh's Kubernetes, nor older
    /// than its policy of versions allows.
    #[arg(long, value_name = "[NAME:]VERSION", conflicts_with = "file")]
    pub kubernetes_version: Vec<String>,
    /// How machines are cabled: grid (two wide), line, ring, or as in the file of a mesh.
    #[arg(long, value_name = "SHAPE|FILE", conflicts_with = "file")]
    pub topology: Option<String>,
}

fn control_planes(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| CONTROL_PLANES.contains(number));
    number.ok_or_else(|| {
        "an even number of them bears no more losses than one less: it is 1, 3 or 5".to_owned()
    })
}
