//! Does the steps: by libvirt, by this computer's kernel, or by a node's shell.
//!
//! Each step looks at what there is first, so that doing it twice is harmless. A machine that libvirt does not know any
//! more has nothing left to undo.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hardware::virsh::DomainState;
use hardware::{Libvirt, traffic};

use super::record::Record;
use super::step::Step;
use crate::deployment::Directory;
use crate::ssh::Ssh;

/// The disk of every virtual machine, as its description names it.
const DISK: &str = "vda";
/// What libvirt says of a machine whose processors were stopped.
const PAUSED: &str = "paused";
/// A loaded machine takes seconds to let somebody in, and its systemd some more to stop a service.
const INSIDE_LIMIT: Duration = Duration::from_mins(2);

/// The hands on one deployment.
#[derive(Debug, Clone)]
pub struct Hands {
    libvirt: Libvirt,
    ssh: Ssh,
}

// === impl Hands ===

impl Hands {
    /// The hands on the deployment in this directory.
    #[must_use]
    pub fn new(directory: &Directory) -> Self {
        Self { libvirt: Libvirt::default(), ssh: Ssh::new(directory) }
    }

    /// Does one step.
    ///
    /// # Errors
    ///
    /// What could not be done, and why.
    pub async fn run(&self, step: &Step) -> Result<()> {
        tracing::info!(%step, "fault");
        self.attempt(step).await.with_context(|| format!("cannot {step}"))
    }

    /// Does these steps whatever becomes of each.
    ///
    /// # Errors
    ///
    /// The first one's that failed, and how many others did.
    pub async fn run_all(&self, steps: &[Step]) -> Result<()> {
        let mut failed = Vec::new();
        for step in steps {
            if let Err(error) = self.run(step).await {
                tracing::warn!("{error:#}");
                failed.push(error);
            }
        }
        let others = failed.len().saturating_sub(1);
        match failed.into_iter().next() {
            None => Ok(()),
            Some(first) if others == 0 => Err(first),
            Some(first) => Err(first.context(format!("{} steps failed; the first", others + 1))),
        }
    }

    /// Does again what a machine lost with its tap interfaces when it was off.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub async fn renew(&self, domain: &str, standing: &Record) -> Result<()> {
        let is_lost = |step: &&Step| matches!(step, Step::Shape { domain: of, .. } if of == domain);
        let lost: Vec<Step> = standing.apply.iter().filter(is_lost).cloned().collect();
        self.run_all(&lost).await
    }

    async fn attempt(&self, step: &Step) -> Result<()> {
        let virsh = &self.libvirt.virsh;
        match step {
            Step::Carrier { domain, tap, up } => self.carrier(domain, tap, *up).await?,
            Step::Drop { table, tap, share } => traffic::drop_frames(table, tap, *share).await?,
            Step::Pass { table } => traffic::pass_frames(table).await?,
            Step::Shape { domain, tap, discipline } => {
                // Without power there is no tap; when it comes back, so does this step.
                if self.is_on(domain).await? {
                    traffic::shape(tap, discipline).await?;
                }
            }
            Step::Unshape { tap } => traffic::unshape(tap).await?,
            Step::PowerOff { domain } => self.libvirt.power_off(domain).await?,
            Step::PowerOn { domain } => {
                if virsh.state(domain).await? == DomainState::Off {
                    virsh.start_domain(domain).await?;
                }
            }
            Step::Suspend { domain } => match virsh.state(domain).await? {
                DomainState::Running => virsh.suspend_domain(domain).await?,
                DomainState::Other(word) if word == PAUSED => {}
                state @ (DomainState::Off | DomainState::Missing | DomainState::Other(_)) => {
                    bail!("it is {state}")
                }
            },
            Step::Resume { domain } => {
                if virsh.state(domain).await? == DomainState::Other(PAUSED.to_owned()) {
                    virsh.resume_domain(domain).await?;
                }
            }
            Step::Reset { domain } => match virsh.state(domain).await? {
                DomainState::Running => virsh.reset_domain(domain).await?,
                state @ (DomainState::Off | DomainState::Missing | DomainState::Other(_)) => {
                    bail!("it is {state}")
                }
            },
            Step::Blank { file } => Libvirt::write(file)?,
            Step::ForgetHost { name } => self.ssh.forget(name)?,
            Step::Pace { domain, pace } => {
                let running = self.is_on(domain).await?;
                if running || virsh.state(domain).await? == DomainState::Off {
                    virsh.set_pace(domain, DISK, *pace, running).await?;
                }
            }
            Step::Inside { host, script } => {
                self.ssh.run(host, script, INSIDE_LIMIT).await?;
            }
        }
        Ok(())
    }

    async fn carrier(&self, domain: &str, tap: &str, up: bool) -> Result<()> {
        let virsh = &self.libvirt.virsh;
        match virsh.state(domain).await? {
            DomainState::Missing if up => return Ok(()),
            DomainState::Missing => bail!("libvirt has no {domain}"),
            DomainState::Off => {}
            DomainState::Running | DomainState::Other(_) => virsh.set_link(domain, tap, up).await?,
        }
        // A machine that is switched off and on finds its cables as they are.
        Ok(virsh.set_link_of_next_start(domain, tap, up).await?)
    }

    async fn is_on(&self, domain: &str) -> Result<bool> {
        Ok(match self.libvirt.virsh.state(domain).await? {
            DomainState::Running | DomainState::Other(_) => true,
            DomainState::Off | DomainState::Missing => false,
        })
    }
}
