//! Makes the objects of a plan, finds them again, and removes them: these and no others.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::{Instant, sleep};

use crate::nvram::{NvramError, boot_entries};
use crate::owned::{DeploymentId, Owner};
use crate::plan::{Object, Plan, PortPlan, VolumePlan};
use crate::process::{Invocation, RunError};
use crate::virsh::{DomainState, Virsh};
use crate::xml;

/// How long a QEMU that hangs in the kernel is given to end.
const DESTROY_LIMIT: Duration = Duration::from_secs(60);
const DESTROY_INTERVAL: Duration = Duration::from_secs(1);
/// The kernel removes an interface at once, unless others keep its lock.
const SWEEP_LIMIT: Duration = Duration::from_secs(30);

/// The libvirt of this computer.
#[derive(Debug, Clone, Default)]
pub struct Libvirt {
    /// How to speak to it.
    pub virsh: Virsh,
}

/// A kind of libvirt object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A machine.
    Domain,
    /// A cable, or the way to the seed.
    Network,
}

/// An object that some meshboot deployment made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Its name in libvirt.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
}

/// Why an object was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// libvirt did not do it.
    #[error("cannot make {what}")]
    Libvirt {
        /// The object.
        what: String,
        /// Why.
        #[source]
        source: RunError,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The firmware's variables are of an unknown kind.
    #[error("cannot write boot entries into a copy of {}", template.display())]
    Nvram {
        /// The template.
        template: PathBuf,
        /// Why.
        #[source]
        source: NvramError,
    },
}

/// Why an object was not found or not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// libvirt did not answer.
    #[error("cannot ask libvirt for its domains and networks")]
    Survey(#[source] RunError),
    /// libvirt did not remove it.
    #[error("cannot remove {kind} {name}")]
    Libvirt {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: RunError,
    },
}

// === impl Libvirt ===

impl Libvirt {
    /// Makes one object of a plan. A domain is defined and not started.
    ///
    /// # Errors
    ///
    /// [`MakeError`].
    pub async fn make(&self, plan: &Plan, object: &Object) -> Result<(), MakeError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| MakeError::Libvirt { what, source }
        };
        match object {
            Object::Network(network) => {
                // What was interrupted on the way is gone on with; libvirt defines no network twice.
                let known = self.virsh.networks().await.map_err(failed("the networks that there are"))?;
                if !known.contains(&network.name) {
                    let describe = self.virsh.define_network(&xml::network(network, &plan.owner)).await;
                    describe.map_err(failed(&format!("network {}", network.name)))?;
                }
                let running =
                    self.virsh.running_networks().await.map_err(failed("the networks that are up"))?;
                if running.contains(&network.name) {
                    return Ok(());
                }
                let start = self.virsh.start_network(&network.name);
                start.await.map_err(failed(&format!("network {} on bridge {}", network.name, network.bridge)))
            }
            Object::Volume(volume) => Self::write(volume),
            Object::Domain(domain) => {
                let xml = xml::domain(domain, &plan.owner);
                let describe = self.virsh.define_domain(&xml).await;
                describe.map_err(failed(&format!("domain {}", domain.name)))
            }
        }
    }

    /// Plugs a cable into a port of a domain, running or not, or pulls it out: whatever the port's plan says.
    ///
    /// # Errors
    ///
    /// [`MakeError`].
    pub async fn plug(&self, domain: &str, port: &PortPlan) -> Result<(), MakeError> {
        let done = self.virsh.update_device(domain, &xml::port(port)).await;
        done.map_err(|source| MakeError::Libvirt { what: format!("port {} of {domain}", port.tap), source })
    }

    /// Writes a file of a machine anew.
    ///
    /// # Errors
    ///
    /// [`MakeError`].
    pub fn write(volume: &VolumePlan) -> Result<(), MakeError> {
        let path = volume.path();
        let failed = |source| MakeError::Write { path: path.to_owned(), source };
        match volume {
            VolumePlan::Disk { size, .. } => {
                create(path).and_then(|file| file.set_len(*size)).map_err(failed)
            }
            VolumePlan::Console { .. } => create(path).map(drop).map_err(failed),
            VolumePlan::Nvram { template, ports, .. } => {
                let read = |source| MakeError::Write { path: template.clone(), source };
                let mut variables = fs::read(template).map_err(read)?;
                if !ports.is_empty() {
                    variables = boot_entries(&variables, ports)
                        .map_err(|source| MakeError::Nvram { template: template.clone(), source })?;
                }
                create(path).and_then(|mut file| io::Write::write_all(&mut file, &variables)).map_err(failed)
            }
        }
    }

    /// Every object on this computer that a meshboot deployment made, whosesoever: machines first.
    ///
    /// # Errors
    ///
    /// [`RemoveError`].
    pub async fn survey(&self) -> Result<Vec<Found>, RemoveError> {
        let mut found = Vec::new();
        for kind in [Kind::Domain, Kind::Network] {
            for name in self.names(kind).await.map_err(RemoveError::Survey)? {
                let described = match kind {
                    Kind::Domain => self.virsh.domain_xml(&name).await,
                    Kind::Network => self.virsh.network_xml(&name).await,
                };
                match described {
                    Ok(xml) => found.extend(whose(kind, name, &xml)),
                    // An object that is gone since it was listed is no mistake; one that is there would be forgotten.
                    Err(_) if !self.names(kind).await.map_err(RemoveError::Survey)?.contains(&name) => {}
                    Err(error) => return Err(RemoveError::Survey(error)),
                }
            }
        }
        Ok(found)
    }

    /// The networks that this computer is on, or reaches, by a network of libvirt.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn occupied(&self, network: &str) -> Result<Vec<IpNet>, RunError> {
        Ok(xml::occupied(&self.virsh.network_xml(network).await?))
    }

    async fn names(&self, kind: Kind) -> Result<BTreeSet<String>, RunError> {
        match kind {
            Kind::Domain => self.virsh.domains().await,
            Kind::Network => self.virsh.networks().await,
        }
    }

    /// Whether nothing on this computer has a name that a deployment of this id would give.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn is_free(&self, id: DeploymentId) -> Result<bool, RunError> {
        let prefix = id.object_prefix();
        let objects = self.virsh.domains().await?.into_iter().chain(self.virsh.networks().await?);
        let named = objects.into_iter().any(|name| name.starts_with(&prefix));
        Ok(!named && interfaces(id).is_empty())
    }

    /// Removes the interfaces that a deployment still has when its objects are gone, and says which: a libvirt that is
    /// killed while it starts a network knows nothing of the bridge afterwards.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub async fn sweep(&self, id: DeploymentId) -> Result<Vec<String>, RunError> {
        let left = interfaces(id);
        for name in &left {
            let delete = Invocation::new("ip", SWEEP_LIMIT).args(["link", "delete", "dev", name]);
            match delete.run().await {
                // The kernel may have taken it away with another, or libvirt at last.
                Err(_) if !interfaces(id).contains(name) => {}
                done => drop(done?),
            }
        }
        Ok(left)
    }

    /// Stops one object and removes its description.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]; an object that is gone already is no error.
    pub async fn remove(&self, found: &Found) -> Result<(), RemoveError> {
        let failed = |source| RemoveError::Libvirt { kind: found.kind, name: found.name.clone(), source };
        match found.kind {
            Kind::Domain => self.remove_domain(&found.name).await.map_err(failed),
            Kind::Network => self.remove_network(&found.name).await.map_err(failed),
        }
    }

    async fn remove_domain(&self, name: &str) -> Result<(), RunError> {
        self.power_off(name).await?;
        match self.virsh.state(name).await? {
            DomainState::Missing => Ok(()),
            DomainState::Off | DomainState::Running | DomainState::Other(_) => {
                self.virsh.undefine_domain(name).await
            }
        }
    }

    /// Cuts a domain's power and waits until it is off. One that is off, or not there, is no error.
    ///
    /// # Errors
    ///
    /// [`RunError`] after a minute.
    pub async fn power_off(&self, name: &str) -> Result<(), RunError> {
        let start = Instant::now();
        loop {
            match self.virsh.state(name).await? {
                DomainState::Missing | DomainState::Off => return Ok(()),
                DomainState::Running | DomainState::Other(_) => {}
            }
            match self.virsh.destroy_domain(name).await {
                Ok(()) => {}
                // libvirt gives up on a busy QEMU after some seconds; QEMU has its signal nevertheless.
                Err(error) if start.elapsed() < DESTROY_LIMIT => {
                    tracing::debug!(domain = name, %error, "does not end yet");
                    sleep(DESTROY_INTERVAL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn remove_network(&self, name: &str) -> Result<(), RunError> {
        if self.virsh.running_networks().await?.contains(name) {
            self.virsh.destroy_network(name).await?;
        }
        if self.virsh.networks().await?.contains(name) {
            self.virsh.undefine_network(name).await?;
        }
        Ok(())
    }
}

// === impl Kind ===

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Domain => "domain",
            Self::Network => "network",
        })
    }
}

fn whose(kind: Kind, name: String, xml: &str) -> Option<Found> {
    match Owner::read(xml) {
        Ok(owner) => owner.map(|owner| Found { kind, name, owner }),
        Err(error) => {
            // Then it is nobody's that we may remove.
            tracing::warn!(%kind, name, %error, "cannot tell whose it is");
            None
        }
    }
}

/// The interfaces of this computer that are named as a deployment names its own.
fn interfaces(id: DeploymentId) -> Vec<String> {
    let all = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&id.interface_prefix())).collect()
}

/// A new file for its owner alone: QEMU runs as the owner.
fn create(path: &Path) -> io::Result<fs::File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
