//! `meshboot weigh`, which a node runs: its types.

use std::path::PathBuf;

use clap::Args;

/// Where a node's pods are.
#[derive(Debug, Args)]
pub struct WeighOptions {
    /// The cgroup of all pods.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup/kubepods.slice")]
    pub pods: PathBuf,
    /// Where the kubelet has a folder of logs for each pod.
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods")]
    pub logs: PathBuf,
    /// The node's name.
    #[arg(long, value_name = "NODE")]
    pub node: mesh::NodeName,
}
