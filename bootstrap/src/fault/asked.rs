//! What was asked for: a fault as a value, its names resolved.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hardware::traffic::Impairment;
use hardware::virsh::Pace;
use serde::{Deserialize, Serialize};

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Asked {
    /// A cable is cut.
    LinkCut {
        /// The cable.
        cable: Ends,
        /// Whether its ports keep their carrier.
        silent: bool,
    },
    /// A cable is slow or lossy.
    LinkDegrade {
        /// The cable.
        cable: Ends,
        /// What it does to frames.
        by: Impairment,
    },
    /// A cable is cut and mended again and again.
    LinkFlap {
        /// The cable.
        cable: Ends,
        /// From one cut to the next.
        period: Duration,
        /// How many cuts; none for no end.
        times: Option<u32>,
    },
    /// A machine has no power.
    NodeKill {
        /// The machine.
        machine: String,
    },
    /// A machine's processors stand still.
    NodeFreeze {
        /// The machine.
        machine: String,
    },
    /// A machine is reset.
    NodeReboot {
        /// The machine.
        machine: String,
    },
    /// A machine is given an empty disk.
    NodeWipe {
        /// The machine.
        machine: String,
    },
    /// Every cable between sets of machines is cut.
    Partition {
        /// The sets.
        sides: Vec<Vec<String>>,
        /// The cables between them.
        cables: Vec<Ends>,
        /// Whether their ports keep their carrier.
        silent: bool,
    },
    /// A service of a node does not run.
    Service {
        /// The service.
        service: Service,
        /// The node.
        machine: String,
    },
    /// A node's clock is wrong.
    Clock {
        /// The node.
        machine: String,
        /// By so many seconds.
        by: i64,
    },
    /// A node's disk does not do what disks do.
    Disk {
        /// The node.
        machine: String,
        /// What is the matter with it.
        trouble: DiskTrouble,
    },
}

/// A cable, by what is at its ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ends {
    /// Its number.
    pub cable: u16,
    /// The machine at its near end.
    pub near: String,
    /// The machine at its far end.
    pub far: String,
}

/// A service of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Its Kubernetes API server.
    Apiserver,
    /// Its member of etcd.
    Etcd,
    /// Its kubelet.
    Kubelet,
    /// Its registry mirrors.
    Mirror,
    /// Its meshboot gateway, all of it.
    Gateway,
    /// Its routing daemon.
    Routing,
}

/// What is the matter with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskTrouble {
    /// There is no room on it.
    Full,
    /// Nothing can be written.
    Readonly,
    /// It is slow.
    Slow(Pace),
}

/// A word that names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no service of a node: apiserver, etcd, kubelet, mirror, gateway or routing")]
pub struct ServiceError(String);

// === impl Asked ===

impl Asked {
    /// The words of the command line that name this kind of fault.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::LinkCut { .. } => "link cut".to_owned(),
            Self::LinkDegrade { .. } => "link degrade".to_owned(),
            Self::LinkFlap { .. } => "link flap".to_owned(),
            Self::NodeKill { .. } => "node kill".to_owned(),
            Self::NodeFreeze { .. } => "node freeze".to_owned(),
            Self::NodeReboot { .. } => "node reboot".to_owned(),
            Self::NodeWipe { .. } => "node wipe".to_owned(),
            Self::Partition { .. } => "partition".to_owned(),
            Self::Service { service, .. } => format!("service {service}"),
            Self::Clock { .. } => "clock".to_owned(),
            Self::Disk { trouble, .. } => format!("disk {}", trouble.word()),
        }
    }

    /// The machines that it is done to; both ends of a cable.
    #[must_use]
    pub fn machines(&self) -> Vec<String> {
        match self {
            Self::LinkCut { cable, .. } | Self::LinkDegrade { cable, .. } | Self::LinkFlap { cable, .. } => {
                vec![cable.near.clone(), cable.far.clone()]
            }
            Self::Partition { sides, .. } => sides.concat(),
            Self::NodeKill { machine }
            | Self::NodeFreeze { machine }
            | Self::NodeReboot { machine }
            | Self::NodeWipe { machine }
            | Self::Service { machine, .. }
            | Self::Clock { machine, .. }
            | Self::Disk { machine, .. } => vec![machine.clone()],
        }
    }

    /// The cables that it is done to.
    #[must_use]
    pub fn cables(&self) -> Vec<&Ends> {
        match self {
            Self::LinkCut { cable, .. } | Self::LinkDegrade { cable, .. } | Self::LinkFlap { cable, .. } => {
                vec![cable]
            }
            Self::Partition { cables, .. } => cables.iter().collect(),
            Self::NodeKill { .. }
            | Self::NodeFreeze { .. }
            | Self::NodeReboot { .. }
            | Self::NodeWipe { .. }
            | Self::Service { .. }
            | Self::Clock { .. }
            | Self::Disk { .. } => Vec::new(),
        }
    }

    /// Whether it is over as soon as it is done.
    #[must_use]
    pub fn is_momentary(&self) -> bool {
        matches!(self, Self::NodeReboot { .. } | Self::NodeWipe { .. })
    }

    /// Whether it is done by the node itself, which must answer for it.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        match self {
            Self::Service { .. } | Self::Clock { .. } => true,
            Self::Disk { trouble, .. } => !matches!(trouble, DiskTrouble::Slow(_)),
            Self::LinkCut { .. }
            | Self::LinkDegrade { .. }
            | Self::LinkFlap { .. }
            | Self::NodeKill { .. }
            | Self::NodeFreeze { .. }
            | Self::NodeReboot { .. }
            | Self::NodeWipe { .. }
            | Self::Partition { .. } => false,
        }
    }
}

/// What was done, in a few words: a fault's label wherever it is shown.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let silently = |silent: bool| if silent { " silently" } else { "" };
        match self {
            Self::LinkCut { cable, silent } => write!(f, "cut the cable {cable}{}", silently(*silent)),
            Self::LinkDegrade { cable, by } => write!(f, "degrade the cable {cable}: {by}"),
            Self::LinkFlap { cable, period, times: None } => {
                write!(f, "cut the cable {cable} every {}", Span(*period))
            }
            Self::LinkFlap { cable, period, times: Some(times) } => {
                write!(f, "cut the cable {cable} {times} times, every {}", Span(*period))
            }
            Self::NodeKill { machine } => write!(f, "pull the plug of {machine}"),
            Self::NodeFreeze { machine } => write!(f, "freeze {machine}"),
            Self::NodeReboot { machine } => write!(f, "reset {machine}"),
            Self::NodeWipe { machine } => write!(f, "wipe {machine}"),
            Self::Partition { sides, silent, .. } => {
                let sides: Vec<String> = sides.iter().map(|side| side.join(",")).collect();
                write!(f, "part {}{}", sides.join(" | "), silently(*silent))
            }
            Self::Service { service, machine } => write!(f, "stop {service} on {machine}"),
            Self::Clock { machine, by } => write!(f, "set the clock of {machine} off by {by:+} s"),
            Self::Disk { machine, trouble: DiskTrouble::Full } => write!(f, "fill the disk of {machine}"),
            Self::Disk { machine, trouble: DiskTrouble::Readonly } => {
                write!(f, "make the disk of {machine} read-only")
            }
            Self::Disk { machine, trouble: DiskTrouble::Slow(pace) } => {
                let limits = [(pace.octets, "octets/s"), (pace.operations, "operations/s")];
                let limits = limits.into_iter().filter(|(limit, _)| *limit > 0);
                let limits: Vec<String> = limits.map(|(limit, unit)| format!("{limit} {unit}")).collect();
                write!(f, "slow the disk of {machine} down to {}", limits.join(" and "))
            }
        }
    }
}

// === impl Ends ===

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.near, self.far)
    }
}

// === impl Service ===

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "apiserver" => Ok(Self::Apiserver),
            "etcd" => Ok(Self::Etcd),
            "kubelet" => Ok(Self::Kubelet),
            "mirror" => Ok(Self::Mirror),
            "gateway" => Ok(Self::Gateway),
            "routing" => Ok(Self::Routing),
            other => Err(ServiceError(other.to_owned())),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apiserver => "apiserver",
            Self::Etcd => "etcd",
            Self::Kubelet => "kubelet",
            Self::Mirror => "mirror",
            Self::Gateway => "gateway",
            Self::Routing => "routing",
        })
    }
}

// === impl DiskTrouble ===

impl DiskTrouble {
    fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Readonly => "readonly",
            Self::Slow(_) => "slow",
        }
    }
}

/// A time, as it is written on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 != 0 && millis < 10_000 => write!(f, "{millis}ms"),
            millis => match millis.div_ceil(1000) {
                seconds @ 0..120 => write!(f, "{seconds}s"),
                seconds @ 120..7200 if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
                seconds @ 120..7200 => write!(f, "{}m{}s", seconds / 60, seconds % 60),
                seconds => write!(f, "{}h{}m", seconds / 3600, seconds / 60 % 60),
            },
        }
    }
}
