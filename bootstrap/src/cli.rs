//! The command line: its types, and nothing that acts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use hardware::topology::MAX_MACHINES;
use images::store::Reference;

use crate::profile::ProfileName;
use crate::progress::Output;

pub mod experiment;
pub mod fault;
pub mod kubelet;
pub mod mesh;
pub mod node;
pub mod snapshot;
pub mod timeline;
pub mod weigh;

use mesh::{MeshFile, Specs};

/// Kubernetes on machines joined by cables: boot one from USB, plug the next one into it, go on.
#[derive(Debug, Parser)]
#[command(name = "meshboot", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Settings of the site; without it the defaults, and ./meshboot.toml if it is there.
    #[arg(long, global = true, value_name = "FILE", env = "MESHBOOT_SETTINGS")]
    pub settings: Option<PathBuf>,
    /// Which mesh of several on this computer: it has a directory and addresses of its own.
    #[arg(short, long, global = true, value_name = "NAME", env = "MESHBOOT_PROFILE")]
    pub profile: Option<ProfileName>,
    /// Where the files of the deployment are; those of a profile are in DIR-NAME.
    #[arg(long, global = true, value_name = "DIR", env = "MESHBOOT_CLUSTER", default_value = "cluster")]
    pub cluster: PathBuf,
    /// Where what was fetched and built is kept; by default in the user's cache directory.
    #[arg(long, global = true, value_name = "DIR", env = "MESHBOOT_CACHE")]
    pub cache: Option<PathBuf>,
    /// The form of what is said.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Output,
    /// Say more; again for still more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a seed: with virtual machines around it, or on a USB stick. With a file of a mesh, make that, or change a
    /// running one so that it is as the file says.
    Deploy(Box<Deploy>),
    /// Remove what `deploy libvirt` made, and nothing else.
    Teardown(Teardown),
    /// Show every mesh of this computer.
    List,
    /// Show every machine: its stage, its block, its link, and what it waits for.
    Status,
    /// Show the last boot on a link step by step, where it hangs, and what to try next.
    Why {
        /// A port (enp2s0, node1/enp2s0, node1/2) or the machine at its far end (node3).
        #[arg(value_name = "PORT|MACHINE")]
        target: String,
    },
    /// Show what happened: faults, cables, routes, nodes and pods, in one order.
    Timeline(timeline::Timeline),
    /// Break things on purpose, and mend them.
    #[command(subcommand)]
    Fault(fault::Fault),
    /// Break things by a file, measure what comes of it, and compare that with what is expected.
    #[command(subcommand)]
    Experiment(experiment::Experiment),
    /// Say what is answered on a port of this machine, or to recorded packets, and why.
    Explain(Explain),
    /// Machines one by one: list, add, start, stop, delete, log in.
    #[command(subcommand)]
    Node(node::Node),
    /// Keep a whole simulated mesh, and put it back.
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Make, show and load images.
    #[command(subcommand)]
    Image(Image),
    /// Show and check settings.
    #[command(subcommand)]
    Config(Config),
    /// Make the settings of a new site.
    #[command(subcommand)]
    Site(Site),
    /// Say what this computer lacks for a mesh of virtual machines, or install it.
    Deps {
        /// Install what is missing (Debian and Ubuntu, as root).
        #[arg(long)]
        install_deps: bool,
    },
    /// Print the JSON Schema of what a verb answers with `-o json`, or of a file; without a name, which there are.
    Schema {
        /// The verb's words, as node list; events, for what any verb may say before; mesh or experiment, for the files.
        #[arg(value_name = "NAME")]
        words: Vec<String>,
    },
    /// Write pages for man(1), one for each verb.
    Man {
        /// Where to.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the script by which a shell completes this program's words.
    Completions {
        /// The shell.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Serve the machine's links: the service of every seed and node, with settings of its own form.
    #[command(hide = true)]
    Gateway {
        /// Serve this port whatever is wrong with its link; by name or Ethernet address, again for another.
        #[arg(long, value_name = "PORT", value_parser = crate::settings::port)]
        force_link: Vec<String>,
    },
    /// On a seed or node: serve ports whatever is wrong with their links, until the machine boots again.
    ForceLink {
        /// The ports, by name or Ethernet address.
        #[arg(value_name = "PORT", required = true, value_parser = crate::settings::port)]
        ports: Vec<String>,
        /// Serve them again as their links are judged.
        #[arg(long)]
        undo: bool,
    },
    /// Mount the machine's state: a service of every seed and node.
    #[command(hide = true)]
    State {
        /// The site whose state it is.
        #[arg(long, value_name = "SITE")]
        site: String,
    },
    /// Get a kubelet of another version than the mesh's: a service of every node that is to have one.
    #[command(hide = true)]
    Kubelet(kubelet::KubeletOptions),
    /// Have the pods of a control plane come before others: a service of every seed and node.
    #[command(hide = true)]
    Weigh(weigh::WeighOptions),
}

/// What to deploy: what a file describes, or what is said word by word.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Deploy {
    /// What a file describes.
    #[command(flatten)]
    pub of_file: DeployFile,
    /// What is said word by word.
    #[command(subcommand)]
    pub target: Option<DeployTarget>,
}

/// Options of `deploy -f`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct DeployFile {
    /// The file.
    #[command(flatten)]
    pub mesh: MeshFile,
    /// How long to wait for all machines to be Ready, as 60m.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<String>,
    /// How images are made.
    #[command(flatten)]
    pub images: ImageOptions,
}

/// Where to make a seed.
#[derive(Debug, Subcommand)]
pub enum DeployTarget {
    /// A seed and machines on this computer, one libvirt network per cable.
    Libvirt(Box<DeployLibvirt>),
    /// A disk image that a real seed boots.
    Usb(Box<DeployUsb>),
}

/// Options of `deploy libvirt`.
#[derive(Debug, Args)]
pub struct DeployLibvirt {
    /// How many machines besides the seed.
    #[arg(
        value_name = "N",
        value_parser = machines,
        allow_negative_numbers = true,
        required_unless_present_any = ["file", "topology"],
        conflicts_with = "file"
    )]
    pub machines: Option<u16>,
    /// What machines are given.
    #[command(flatten)]
    pub specs: Specs,
    /// What holds with a file as well.
    #[command(flatten)]
    pub common: DeployFile,
}

/// Options of everything that makes images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ImageOptions {
    /// Where Kubernetes comes from: auto, debian, dir:PATH, or a version as v1.34.2.
    #[arg(long, value_name = "SOURCE")]
    pub kubernetes: Option<String>,
    /// How pods get their addresses: routed, none, or the path of a CNI configuration.
    #[arg(long, value_name = "CNI")]
    pub cni: Option<String>,
    /// Debian's suite.
    #[arg(long, value_name = "SUITE")]
    pub suite: Option<String>,
    /// Mirror of Debian's packages; by default the one that this computer's apt uses.
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// A package of Debian that machines have besides; again for another.
    #[arg(long, value_name = "NAME")]
    pub package: Vec<String>,
    /// A further word of the kernel's command line; again for another.
    #[arg(long, value_name = "WORD")]
    pub kernel_argument: Vec<String>,
    /// Install what is missing on this computer (Debian and Ubuntu).
    #[arg(long)]
    pub install_deps: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// Options of `deploy usb`.
#[derive(Debug, Args)]
pub struct DeployUsb {
    /// A block device, all of which is overwritten, or a file.
    #[arg(value_name = "FILE|DEVICE")]
    pub target: PathBuf,
    /// Ethernet address of the seed's port to the world outside, if it has one.
    #[arg(long, value_name = "MAC")]
    pub uplink: Option<String>,
    /// Size of the image, where it is written to a file; by default what it carries and 12GiB.
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// Refuse to write a seed that would need something from outside; it asks nobody for anything.
    #[arg(long)]
    pub offline: bool,
    /// How images are made.
    #[command(flatten)]
    pub images: ImageOptions,
}

/// Options of `teardown`.
#[derive(Debug, Args)]
pub struct Teardown {
    /// Accepted and without effect: teardown never asks.
    #[arg(short, long, hide = true)]
    pub yes: bool,
}

/// What to explain.
#[derive(Debug, Args)]
#[command(after_help = "\
    On a seed or node the settings are those of its gateway, and --settings FILE takes others of that form. Without \
    any, recorded packets are explained as on an example link: 2001:db8::10/126, near 2001:db8::11, far 2001:db8::12, \
    with a boot file for every architecture.")]
pub struct Explain {
    /// A port of this machine: its name, Ethernet address or number.
    #[arg(value_name = "PORT", required_unless_present = "pcap", conflicts_with = "pcap")]
    pub port: Option<String>,
    /// Packets that were recorded, by `tcpdump -w` for one: pcap or pcapng.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// The port that they came to; by default the machine's first.
    #[arg(long = "port", value_name = "PORT", requires = "pcap", conflicts_with = "port")]
    pub of_port: Option<String>,
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Make the node's images and artefacts, or find those that are up to date.
    Build(ImageOptions),
    /// Write the seed's disk image, as `deploy usb` does.
    Disk(DeployUsb),
    /// Show the container images that are stored.
    List,
    /// Store container images: archives of `docker save`, OCI layouts; plain, gzip or zstd.
    Load {
        /// The archives; - for standard input.
        #[arg(value_name = "FILE|-", required = true)]
        files: Vec<PathBuf>,
    },
    /// Fetch container images from their registries, as `load` would store them; `mirrors` in the settings says how.
    Pull {
        /// Their names.
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<Reference>,
    },
    /// Show what a mesh would have to get from outside: what is not stored of all that it is made of.
    Missing,
    /// Show what the nodes' image is made of: packages, their licences, and where their source is.
    Sbom {
        /// As a document of SPDX 2.3.
        #[arg(long)]
        spdx: bool,
    },
    /// Remove container images that were loaded.
    Rm {
        /// Their names.
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<Reference>,
    },
    /// Write container images to one archive, an OCI layout.
    Save {
        /// Their names.
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<Reference>,
        /// The archive; by default standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Read all that is stored again: is it what its digest says, and are images whole?
    Verify,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Find every mistake in the settings.
    Check,
    /// Write a settings file with every default to standard output.
    Example,
    /// Write the file that a deployment amounts to: `deploy -f` makes the same again.
    Show,
    /// Write the JSON Schema of a mesh's file.
    Schema,
}

/// What to do with sites.
#[derive(Debug, Subcommand)]
pub enum Site {
    /// Write settings with an address range of the site's own (RFC 4193) and a name.
    New {
        /// Where to; standard output if it is `-`.
        #[arg(value_name = "FILE", default_value = "meshboot.toml")]
        file: PathBuf,
    },
}

// === impl Verb ===

impl Verb {
    /// Whether it is a service of a machine, that logs to the journal.
    #[must_use]
    pub fn is_service(&self) -> bool {
        match self {
            Self::Gateway { .. } | Self::State { .. } | Self::Kubelet(_) | Self::Weigh(_) => true,
            Self::Deploy(_)
            | Self::Teardown(_)
            | Self::List
            | Self::Status
            | Self::Node(_)
            | Self::Snapshot(_)
            | Self::Why { .. }
            | Self::Timeline(_)
            | Self::Fault(_)
            | Self::Experiment(_)
            | Self::Explain(_)
            | Self::Image(_)
            | Self::Config(_)
            | Self::Site(_)
            | Self::Deps { .. }
            | Self::Schema { .. }
            | Self::Man { .. }
            | Self::Completions { .. }
            | Self::ForceLink { .. } => false,
        }
    }
}

fn machines(text: &str) -> Result<u16, String> {
    let number: Option<u16> = text.parse().ok();
    number
        .filter(|number| (1..=MAX_MACHINES).contains(number))
        .ok_or_else(|| format!("the number of machines besides the seed is 1 to {MAX_MACHINES}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_of_machines() {
        assert_eq!(machines("1"), Ok(1));
        assert_eq!(machines("500"), Ok(500));
        for text in ["0", "-1", "x", "10000", "", "1.5", "501"] {
            assert!(machines(text).is_err(), "{text}");
        }
    }
}
