//! libvirt, by its own command `virsh`: nothing to link, and whatever it can do an operator can do again.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{Invocation, RunError};

/// The libvirt of this computer, with its networks.
pub const SYSTEM_URI: &str = "qemu:///system";
/// A description is stored or read at once.
const QUICK: Duration = Duration::from_secs(30);
/// QEMU is started or stopped: libvirt itself waits for some of that.
const SLOW: Duration = Duration::from_secs(120);
/// A machine's memory is written or read.
const MEMORY: Duration = Duration::from_mins(10);

/// A connection to libvirt.
#[derive(Debug, Clone)]
pub struct Virsh {
    uri: String,
}

/// What libvirt says of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainState {
    /// It has processors that run.
    Running,
    /// It is off.
    Off,
    /// It is not defined.
    Missing,
    /// Something in between, in libvirt's words.
    Other(String),
}

/// How fast a disk may be; 0 is as fast as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pace {
    /// Octets a second, read and written.
    pub octets: u64,
    /// Operations a second, reads and writes.
    pub operations: u64,
}

// === impl Virsh ===

impl Default for Virsh {
    fn default() -> Self {
        Self { uri: SYSTEM_URI.to_owned() }
    }
}

impl Virsh {
    /// Whether libvirt answers, and what it says of itself.
    ///
    /// # Errors
    ///
    /// [`RunError`] if it does not.
    pub async fn version(&self) -> Result<String, RunError> {
        self.quick(["version"]).await
    }

    /// The names of all domains, running or not, ours or not.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn domains(&self) -> Result<BTreeSet<String>, RunError> {
        Ok(names(&self.quick(["list", "--all", "--name"]).await?))
    }

    /// The names of all domains that have power, also of those that are paused.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn active_domains(&self) -> Result<BTreeSet<String>, RunError> {
        Ok(names(&self.quick(["list", "--name"]).await?))
    }

    /// The names of all domains whose processors run.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn running_domains(&self) -> Result<BTreeSet<String>, RunError> {
        Ok(names(&self.quick(["list", "--state-running", "--name"]).await?))
    }

    /// The names of all networks.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn networks(&self) -> Result<BTreeSet<String>, RunError> {
        Ok(names(&self.quick(["net-list", "--all", "--name"]).await?))
    }

    /// The names of the networks that are up.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn running_networks(&self) -> Result<BTreeSet<String>, RunError> {
        Ok(names(&self.quick(["net-list", "--name"]).await?))
    }

    /// libvirt's description of a domain.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn domain_xml(&self, name: &str) -> Result<String, RunError> {
        self.quick(["dumpxml", "--inactive", "--domain", name]).await
    }

    /// libvirt's description of a network.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn network_xml(&self, name: &str) -> Result<String, RunError> {
        self.quick(["net-dumpxml", "--inactive", "--network", name]).await
    }

    /// Makes or changes a domain's description.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn define_domain(&self, xml: &str) -> Result<(), RunError> {
        self.command(QUICK, ["define", "/dev/stdin"]).stdin(xml).run().await.map(drop)
    }

    /// Makes or changes a network's description.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn define_network(&self, xml: &str) -> Result<(), RunError> {
        self.command(QUICK, ["net-define", "/dev/stdin"]).stdin(xml).run().await.map(drop)
    }

    /// Powers a domain on.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn start_domain(&self, name: &str) -> Result<(), RunError> {
        self.slow(["start", "--domain", name]).await.map(drop)
    }

    /// Presses a domain's power button: its system shuts down, if it listens.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn shutdown_domain(&self, name: &str) -> Result<(), RunError> {
        self.quick(["shutdown", "--domain", name, "--mode", "acpi"]).await.map(drop)
    }

    /// Changes a device of a domain to what this description says: now if the domain has power, and for good.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn update_device(&self, domain: &str, xml: &str) -> Result<(), RunError> {
        // Off, on or paused: without a word on when, libvirt would forget it with the next power-off.
        let arguments = ["update-device", "--domain", domain, "--file", "/dev/stdin", "--persistent"];
        self.command(QUICK, arguments).stdin(xml).run().await.map(drop)
    }

    /// Stops a domain's processors where they are.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn suspend_domain(&self, name: &str) -> Result<(), RunError> {
        self.slow(["suspend", "--domain", name]).await.map(drop)
    }

    /// Lets a domain's processors go on.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn resume_domain(&self, name: &str) -> Result<(), RunError> {
        self.slow(["resume", "--domain", name]).await.map(drop)
    }

    /// Writes a domain's memory to a file, and cuts its power.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn save_domain(&self, name: &str, file: &Path) -> Result<(), RunError> {
        let save = self.command(MEMORY, ["save", "--domain", name, "--file"]).args([file]);
        save.args(["--paused"]).run().await.map(drop)
    }

    /// Gives a domain its memory back as a file has it; its processors stand still.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn restore_domain(&self, file: &Path) -> Result<(), RunError> {
        self.command(MEMORY, ["restore", "--file"]).args([file]).args(["--paused"]).run().await.map(drop)
    }

    /// Cuts a domain's power.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn destroy_domain(&self, name: &str) -> Result<(), RunError> {
        self.slow(["destroy", "--domain", name]).await.map(drop)
    }

    /// Removes a domain's description, and what libvirt itself keeps for it.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn undefine_domain(&self, name: &str) -> Result<(), RunError> {
        let arguments =
            ["undefine", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram"];
        self.command(QUICK, arguments).args(["--domain", name]).run().await.map(drop)
    }

    /// Makes a network's bridge.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn start_network(&self, name: &str) -> Result<(), RunError> {
        self.quick(["net-start", "--network", name]).await.map(drop)
    }

    /// Removes a network's bridge.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn destroy_network(&self, name: &str) -> Result<(), RunError> {
        self.quick(["net-destroy", "--network", name]).await.map(drop)
    }

    /// Removes a network's description.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn undefine_network(&self, name: &str) -> Result<(), RunError> {
        self.quick(["net-undefine", "--network", name]).await.map(drop)
    }

    /// Plugs a cable in at one end, or pulls it out: `interface` is a tap or an Ethernet address.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn set_link(&self, domain: &str, interface: &str, up: bool) -> Result<(), RunError> {
        let state = if up { "up" } else { "down" };
        let arguments = ["domif-setlink", "--domain", domain, "--interface", interface, "--state", state];
        self.quick(arguments).await.map(drop)
    }

    /// The same from the domain's next start on.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn set_link_of_next_start(
        &self,
        domain: &str,
        interface: &str,
        up: bool,
    ) -> Result<(), RunError> {
        let state = if up { "up" } else { "down" };
        let arguments =
            ["domif-setlink", "--config", "--domain", domain, "--interface", interface, "--state", state];
        self.quick(arguments).await.map(drop)
    }

    /// Presses a domain's reset button.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn reset_domain(&self, name: &str) -> Result<(), RunError> {
        self.quick(["reset", "--domain", name]).await.map(drop)
    }

    /// Says how fast a disk of a domain may be, from its next start on and, if it is `running`, at once.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn set_pace(
        &self,
        domain: &str,
        disk: &str,
        pace: Pace,
        running: bool,
    ) -> Result<(), RunError> {
        let (octets, operations) = (pace.octets.to_string(), pace.operations.to_string());
        let arguments = ["blkdeviotune", "--domain", domain, "--device", disk, "--config"];
        let limits = ["--total-bytes-sec", &octets, "--total-iops-sec", &operations];
        let command = self.command(QUICK, arguments).args(limits);
        let command = if running { command.args(["--live"]) } else { command };
        command.run().await.map(drop)
    }

    /// What a domain does.
    ///
    /// # Errors
    ///
    /// [`RunError`]; that there is no such domain is an answer.
    pub async fn state(&self, name: &str) -> Result<DomainState, RunError> {
        let outcome = self.command(QUICK, ["domstate", "--domain", name]).outcome().await?;
        let says = outcome.stdout.trim();
        match (outcome.code, says) {
            (Some(0), "running") => Ok(DomainState::Running),
            (Some(0), "shut off") => Ok(DomainState::Off),
            (Some(0), other) => Ok(DomainState::Other(other.to_owned())),
            _ if outcome.stderr.contains("failed to get domain") => Ok(DomainState::Missing),
            (code, _) => Err(RunError::Failed {
                command: format!("virsh domstate {name}"),
                code,
                stderr: outcome.stderr,
            }),
        }
    }

    async fn quick<const N: usize>(&self, arguments: [&str; N]) -> Result<String, RunError> {
        self.command(QUICK, arguments).run().await
    }

    async fn slow<const N: usize>(&self, arguments: [&str; N]) -> Result<String, RunError> {
        self.command(SLOW, arguments).run().await
    }

    fn command<const N: usize>(&self, limit: Duration, arguments: [&str; N]) -> Invocation {
        Invocation::new("virsh", limit).apart().args(["-q", "-c", &self.uri]).args(arguments)
    }
}

// === impl DomainState ===

impl fmt::Display for DomainState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Off => "off",
            Self::Missing => "not defined",
            Self::Other(words) => words,
        })
    }
}

fn names(list: &str) -> BTreeSet<String> {
    list.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
