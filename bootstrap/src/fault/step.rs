//! The smallest things that are done to make a fault, and to undo it.
//!
//! Each may be done twice, and is done again after a crash: whoever did not see it end cannot know whether it did.

use std::fmt;

use hardware::plan::VolumePlan;
use hardware::traffic::Share;
use hardware::virsh::Pace;
use serde::{Deserialize, Serialize};

use crate::ssh::Host;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Step {
    /// Give a port its carrier, or take it; also for the machine's next start.
    Carrier {
        /// The machine in libvirt.
        domain: String,
        /// The port's tap interface.
        tap: String,
        /// Whether it has it.
        up: bool,
    },
    /// Drop a share of the frames of a cable.
    Drop {
        /// The table of nftables that does it.
        table: String,
        /// The tap interface of one of the cable's ends.
        tap: String,
        /// How many.
        share: Share,
    },
    /// Drop none any more.
    Pass {
        /// The table.
        table: String,
    },
    /// Make what is sent to a port wait.
    Shape {
        /// The machine in libvirt: while it is off there is no tap.
        domain: String,
        /// The port's tap interface.
        tap: String,
        /// The queueing discipline.
        discipline: Vec<String>,
    },
    /// Let it through.
    Unshape {
        /// The port's tap interface.
        tap: String,
    },
    /// Pull a machine's plug.
    PowerOff {
        /// The machine in libvirt.
        domain: String,
    },
    /// Switch a machine on.
    PowerOn {
        /// The machine in libvirt.
        domain: String,
    },
    /// Stop its processors.
    Suspend {
        /// The machine in libvirt.
        domain: String,
    },
    /// Let them go on.
    Resume {
        /// The machine in libvirt.
        domain: String,
    },
    /// Press its reset button.
    Reset {
        /// The machine in libvirt.
        domain: String,
    },
    /// Make a file of a machine anew.
    Blank {
        /// The file.
        file: VolumePlan,
    },
    /// Forget a node's host key: it makes another on an empty disk.
    ForgetHost {
        /// The node.
        name: String,
    },
    /// Say how fast a machine's disk may be.
    Pace {
        /// The machine in libvirt.
        domain: String,
        /// Its pace.
        pace: Pace,
    },
    /// Have a node run a script.
    Inside {
        /// The node.
        host: Host,
        /// The script.
        script: String,
    },
}

// === impl Step ===

impl Step {
    /// The port that it is done at, if it is done at one.
    #[must_use]
    pub fn tap(&self) -> Option<&String> {
        match self {
            Self::Carrier { tap, .. }
            | Self::Drop { tap, .. }
            | Self::Shape { tap, .. }
            | Self::Unshape { tap } => Some(tap),
            Self::Pass { .. }
            | Self::PowerOff { .. }
            | Self::PowerOn { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Reset { .. }
            | Self::Blank { .. }
            | Self::ForgetHost { .. }
            | Self::Pace { .. }
            | Self::Inside { .. } => None,
        }
    }

    /// What lets the frames pass again that this step drops, if it drops some.
    #[must_use]
    pub fn passing(&self) -> Option<Self> {
        if let Self::Drop { table, .. } = self { Some(Self::Pass { table: table.clone() }) } else { None }
    }
}

/// What is attempted, for errors: `cannot …`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Carrier { domain, tap, up: true } => write!(f, "give port {tap} of {domain} its carrier"),
            Self::Carrier { domain, tap, up: false } => write!(f, "take port {tap} of {domain} its carrier"),
            Self::Drop { tap, share, .. } => write!(f, "drop {share} of the frames at {tap}"),
            Self::Pass { table } => write!(f, "remove the table {table} of nftables"),
            Self::Shape { tap, .. } => write!(f, "put a queueing discipline on {tap}"),
            Self::Unshape { tap } => write!(f, "take the queueing discipline from {tap}"),
            Self::PowerOff { domain } => write!(f, "pull the plug of {domain}"),
            Self::PowerOn { domain } => write!(f, "switch {domain} on"),
            Self::Suspend { domain } => write!(f, "stop the processors of {domain}"),
            Self::Resume { domain } => write!(f, "let the processors of {domain} go on"),
            Self::Reset { domain } => write!(f, "reset {domain}"),
            Self::Blank { file } => write!(f, "make {} anew", file.path().display()),
            Self::ForgetHost { name } => write!(f, "forget the host key of {name}"),
            Self::Pace { domain, .. } => write!(f, "set the pace of the disk of {domain}"),
            Self::Inside { host, .. } => write!(f, "have it done on {host}"),
        }
    }
}
