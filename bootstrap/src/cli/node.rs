//! `meshboot node`: its types.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use mesh::{Mac, NodeName};
use uuid::Uuid;

/// What to do with machines.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Show every machine: what it is given, its power, its node, and where its cables lead.
    List,
    /// Make a machine, plug it into a running one, and wait until it is Ready.
    Add(Box<AddNode>),
    /// Give machines power. Each is the node that it was before.
    Start(StartNodes),
    /// Shut machines down, or pull their plugs. Nothing is drained: they come back as the same nodes.
    Stop(StopNodes),
    /// Drain a machine and remove it: its node, its addresses, its disk.
    Delete(DeleteNode),
    /// Give a machine an empty disk and boot it anew.
    Reinstall {
        /// The machine.
        #[arg(value_name = "NAME")]
        name: String,
        /// How long to wait until it is Ready.
        #[arg(long, value_name = "TIME")]
        timeout: Option<String>,
    },
    /// Show how far machines are, and what they wait for.
    Status {
        /// The machine; all of them without it.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Show the address of a node.
    Ip {
        /// The machine.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Log in to a node as root, or run a command there.
    Ssh {
        /// The machine.
        #[arg(value_name = "NAME")]
        name: String,
        /// The command.
        #[arg(value_name = "COMMAND", last = true)]
        command: Vec<String>,
    },
    /// Copy files to a node or from it: one of the two is NAME:PATH.
    Cp {
        /// What to copy.
        #[arg(value_name = "FROM")]
        from: String,
        /// Where to.
        #[arg(value_name = "TO")]
        to: String,
    },
    /// Open a machine's serial console.
    Console {
        /// The machine.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show what nodes logged; what a machine wrote on its console, where the node does not answer.
    Logs(NodeLogs),
}

/// Options of `node add`.
#[derive(Debug, Args)]
pub struct AddNode {
    /// Its name; by default the next number.
    #[arg(value_name = "NAME")]
    pub name: Option<NodeName>,
    /// A running machine, and its port, to plug the new one into; again for another cable. By default whoever has
    /// fewest cables.
    #[arg(long, value_name = "NODE[:PORT]")]
    pub plug_into: Vec<String>,
    /// Its memory, as 2GiB.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Its processors.
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Size of its disk, which takes up no room until it is written.
    #[arg(long, value_name = "SIZE")]
    pub disk_size: Option<String>,
    /// How many mesh ports it has.
    #[arg(long, value_name = "N")]
    pub ports: Option<u8>,
    /// What is wanted of its node.
    #[command(flatten)]
    pub wanted: NodeSpecOptions,
    /// On metal: an Ethernet address of the machine that the name is for.
    #[arg(long, value_name = "MAC", conflicts_with = "uuid")]
    pub mac: Option<Mac>,
    /// On metal: the SMBIOS UUID of the machine that the name is for.
    #[arg(long, value_name = "UUID")]
    pub uuid: Option<Uuid>,
    /// How long to wait until it is Ready.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Do not wait until it is Ready.
    #[arg(long)]
    pub no_wait: bool,
}

/// What a machine is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Role {
    /// A node like any other.
    #[default]
    Worker,
    /// A control plane. It is made one once its node is Ready.
    ControlPlane,
}

/// What is wanted of a node.
#[derive(Debug, Clone, Default, Args)]
pub struct NodeSpecOptions {
    /// What it is to be: a worker, or one more control plane.
    #[arg(long, value_name = "ROLE", value_enum, default_value_t)]
    pub role: Role,
    /// The images that it boots, as `meshboot image list` shows them; by default the mesh's.
    #[arg(long, value_name = "IMAGES")]
    pub image: Option<String>,
    /// Version of its kubelet, as v1.33.7: not newer than the mesh's Kubernetes, nor older than its policy of versions
    /// allows.
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<String>,
    /// A label of its node; again for another.
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// A taint of its node, as kubectl writes it; again for another.
    #[arg(long, value_name = "KEY[=VALUE]:EFFECT")]
    pub taint: Vec<String>,
    /// Feature gates of its kubelet.
    #[arg(long, value_name = "GATE=BOOL", value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// A further argument of its kubelet, as kubelet.max-pods=30; again for another.
    #[arg(long, value_name = "kubelet.KEY=VALUE")]
    pub extra_config: Vec<String>,
}

/// Options of `node start`.
#[derive(Debug, Args)]
pub struct StartNodes {
    /// The machines.
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
    /// How long to wait until they are Ready.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Do not wait until they are Ready.
    #[arg(long)]
    pub no_wait: bool,
}

/// Options of `node stop`.
#[derive(Debug, Args)]
pub struct StopNodes {
    /// The machines.
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
    /// Pull the plug instead of shutting down.
    #[arg(long)]
    pub hard: bool,
    /// How long to wait until they are off.
    #[arg(long, value_name = "TIME", default_value = "3m")]
    pub timeout: String,
}

/// Options of `node delete`.
#[derive(Debug, Args)]
pub struct DeleteNode {
    /// The machine.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Also if machines are cut off from the seed by it, pods do not leave it, it is the last control plane, or Kubernetes
    /// does not answer.
    #[arg(long)]
    pub force: bool,
    /// How long to wait until its pods have left.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub drain_timeout: String,
}

/// Options of `node logs`.
#[derive(Debug, Args)]
pub struct NodeLogs {
    /// The machine; all of them without it.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Go on with what is logged from now on.
    #[arg(short, long, requires = "name")]
    pub follow: bool,
    /// How many lines of each.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 60)]
    pub lines: u32,
    /// Only warnings and errors.
    #[arg(long)]
    pub problems: bool,
    /// What the machine wrote on its serial console instead, firmware and kernel included.
    #[arg(long, conflicts_with_all = ["follow", "problems"])]
    pub console: bool,
    /// Write to this file instead of standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    pub file: Option<PathBuf>,
}
