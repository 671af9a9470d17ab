//! The command line of `meshboot fault`. Words are kept as they were given: what is wrong with them is told all at once.

use clap::{Args, Subcommand};

/// What to break, or to mend.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "\
    Faults are made from this computer wherever that is possible, so that no machine has to answer. Each stands until it is \
    cleared, or for a time (--for), after which it ends whatever has become of this program meanwhile.")]
pub enum Fault {
    /// A cable: cut it, make it worse, or mend it.
    #[command(subcommand)]
    Link(LinkFault),
    /// A machine: its power, its processors, its disk.
    #[command(subcommand)]
    Node(NodeFault),
    /// Cut every cable between sets of machines.
    Partition {
        /// The sets: seed,node1 node2,node3 or '{seed,node1}|{node2,node3}'.
        #[arg(value_name = "SET", required = true)]
        sides: Vec<String>,
        /// Drop frames, and leave the ports their carrier.
        #[arg(long)]
        silent: bool,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Stop a service of a node: apiserver, etcd, kubelet, mirror, gateway, routing.
    Service {
        /// The service.
        #[arg(value_name = "SERVICE")]
        service: String,
        /// The node.
        #[arg(value_name = "NODE")]
        node: String,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Set a node's clock forward or back.
    #[command(allow_negative_numbers = true)]
    Clock {
        /// The node.
        #[arg(value_name = "NODE")]
        node: String,
        /// By how much: +1h, -30s.
        #[arg(value_name = "+TIME|-TIME", allow_hyphen_values = true)]
        by: String,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// A node's disk of state: full, readonly or slow.
    Disk {
        /// The node.
        #[arg(value_name = "NODE")]
        node: String,
        /// full, readonly or slow.
        #[arg(value_name = "full|readonly|slow")]
        trouble: String,
        /// With slow: octets a second, as 1MiB.
        #[arg(long, value_name = "SIZE")]
        rate: Option<String>,
        /// With slow: operations a second.
        #[arg(long, value_name = "N")]
        iops: Option<String>,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Show the faults that stand, and how long each still will.
    List,
    /// Undo faults.
    Clear {
        /// Which, as `fault list` names them.
        #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// Undo nothing, only forget them: for machines that never come back.
        #[arg(long)]
        forget: bool,
    },
    /// Ends the faults of this deployment when their time is over.
    #[command(hide = true)]
    Keep,
}

/// What to do to a cable.
#[derive(Debug, Clone, Subcommand)]
pub enum LinkFault {
    /// Cut it: both ports lose their carrier.
    Cut {
        /// The machines at its ends, as node1-node3; or its number, as #4.
        #[arg(value_name = "A-B")]
        cable: String,
        /// Drop frames, and leave the ports their carrier: nobody is told.
        #[arg(long)]
        silent: bool,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Undo all that was done to it.
    Heal {
        /// The machines at its ends, as node1-node3; or its number, as #4.
        #[arg(value_name = "A-B")]
        cable: String,
    },
    /// Make it slow or lossy, each way.
    Degrade {
        /// The machines at its ends, as node1-node3; or its number, as #4.
        #[arg(value_name = "A-B")]
        cable: String,
        /// How long each frame takes, as 50ms.
        #[arg(long, value_name = "TIME")]
        latency: Option<String>,
        /// By how much more or less than that, as 5ms.
        #[arg(long, value_name = "TIME")]
        jitter: Option<String>,
        /// How many are lost, as 1% or 0.25%.
        #[arg(long, value_name = "SHARE")]
        loss: Option<String>,
        /// How many bits go through in a second, as 10mbit.
        #[arg(long, value_name = "RATE")]
        rate: Option<String>,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Cut it and mend it, again and again.
    Flap {
        /// The machines at its ends, as node1-node3; or its number, as #4.
        #[arg(value_name = "A-B")]
        cable: String,
        /// From one cut to the next, half of it down and half of it up.
        #[arg(long, value_name = "TIME", default_value = "10s")]
        period: String,
        /// How many cuts; without it until the fault ends.
        #[arg(long, value_name = "N")]
        count: Option<String>,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
}

/// What to do to a machine.
#[derive(Debug, Clone, Subcommand)]
pub enum NodeFault {
    /// Pull its plug; undone, it is switched on.
    Kill {
        /// The machine.
        #[arg(value_name = "NODE")]
        node: String,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Stop its processors; undone, they go on where they were.
    Freeze {
        /// The machine.
        #[arg(value_name = "NODE")]
        node: String,
        /// How long.
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Let the processors of a frozen machine go on.
    Thaw {
        /// The machine.
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Press its reset button.
    Reboot {
        /// The machine.
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Give it an empty disk and firmware that remembers nothing, and switch it on again.
    Wipe {
        /// The machine.
        #[arg(value_name = "NODE")]
        node: String,
    },
}

/// How long a fault stands.
#[derive(Debug, Clone, Default, Args)]
pub struct Lasting {
    /// End it after this time, as 30s: also if this program is no more, or this computer was restarted.
    #[arg(long = "for", value_name = "TIME")]
    pub time: Option<String>,
    /// Come back only when it has ended.
    #[arg(long, requires = "time")]
    pub wait: bool,
}
