//! `meshboot kubelet`, which a node runs: its types.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ignition::{KubernetesVersion, kubelet};

use crate::settings;

/// A node's own kubelet.
#[derive(Debug, Args)]
pub struct KubeletOptions {
    /// Its version.
    #[arg(value_name = "VERSION")]
    pub version: KubernetesVersion,
    /// Where it is kept.
    #[arg(long, value_name = "DIR", default_value = kubelet::FOLDER)]
    pub folder: PathBuf,
    /// How long to try. Then whoever started it knows, and may start it again.
    #[arg(long, value_name = "TIME", value_parser = settings::duration, default_value = "10m")]
    pub limit: Duration,
    /// The program that it is laid over.
    #[arg(long, value_name = "FILE", default_value = kubelet::PROGRAM)]
    pub program: PathBuf,
}
