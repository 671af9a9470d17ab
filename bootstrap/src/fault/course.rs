//! How a fault is made and undone: the steps, in order.
//!
//! Pure: what is asked, what there is, and what this computer can do come in as values.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use hardware::plan::VolumePlan;
use hardware::traffic::{Impairment, Means, Share};

use super::asked::{Asked, DiskTrouble, Ends};
use super::inside::{self, Scripts};
use super::record::FaultId;
use super::scene::{Line, Scene, Socket};
use super::step::Step;
use crate::ssh::Host;

/// The steps of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// Those that make it.
    pub apply: Vec<Step>,
    /// Those that undo it: what was done last is undone first.
    pub undo: Vec<Step>,
}

/// What has to be found out for a fault, besides the scene.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// What this computer can do to frames; none if nobody looked.
    pub means: Option<Means>,
    /// The addresses of nodes, by name.
    pub addresses: BTreeMap<String, Ipv6Addr>,
    /// The files of a machine that is to be wiped.
    pub files: Vec<VolumePlan>,
}

/// What has to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// What this computer can do to frames.
    pub means: bool,
    /// The addresses of the machines that it is about.
    pub addresses: bool,
    /// Their files.
    pub files: bool,
}

/// Why there are no steps for a fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourseError {
    /// The scene has changed since it was asked.
    #[error("{0} is not there any more")]
    Gone(String),
    /// Neither this computer nor the machines can do it.
    #[error("{what} takes {missing}, which this computer has not got")]
    NoMeans {
        /// What was to be done.
        what: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// A node must answer, and nobody knows where it is.
    #[error("nobody tells the address of {0}, which would have to do it itself")]
    NoAddress(String),
}

/// Collects steps in the order of their making.
struct Steps<'a> {
    tag: &'a str,
    pairs: Vec<(Vec<Step>, Vec<Step>)>,
}

/// What has to be found out before there can be steps.
#[must_use]
pub fn wanted(asked: &Asked) -> Wanted {
    match asked {
        Asked::LinkCut { silent, .. } | Asked::Partition { silent, .. } => {
            Wanted { means: *silent, ..Wanted::default() }
        }
        // A kernel without netem has the machines do it.
        Asked::LinkDegrade { by, .. } => Wanted { means: true, addresses: is_late(by), ..Wanted::default() },
        Asked::NodeWipe { .. } => Wanted { files: true, ..Wanted::default() },
        Asked::LinkFlap { .. }
        | Asked::NodeKill { .. }
        | Asked::NodeFreeze { .. }
        | Asked::NodeReboot { .. }
        | Asked::Service { .. }
        | Asked::Clock { .. }
        | Asked::Disk { .. } => Wanted { addresses: asked.is_inside(), ..Wanted::default() },
    }
}

/// The steps of `asked`.
///
/// # Errors
///
/// [`CourseError`].
pub fn course(
    asked: &Asked,
    scene: &Scene,
    facts: &Facts,
    id: FaultId,
    lasts: Option<Duration>,
) -> Result<Course, CourseError> {
    let mut steps = Steps { tag: &scene.tag, pairs: Vec::new() };
    match asked {
        Asked::LinkCut { cable, silent } => steps.cut(line(scene, cable)?, *silent, facts, id)?,
        Asked::Partition { cables, silent, .. } => {
            for cable in cables {
                steps.cut(line(scene, cable)?, *silent, facts, id)?;
            }
        }
        Asked::LinkFlap { cable, .. } => steps.cut(line(scene, cable)?, false, facts, id)?,
        Asked::LinkDegrade { cable, by } => steps.degrade(line(scene, cable)?, by, facts, id, lasts)?,
        Asked::NodeKill { machine } => {
            let domain = domain(scene, machine)?;
            steps.push(Step::PowerOff { domain: domain.clone() }, Step::PowerOn { domain });
        }
        Asked::NodeFreeze { machine } => {
            let domain = domain(scene, machine)?;
            steps.push(Step::Suspend { domain: domain.clone() }, Step::Resume { domain });
        }
        // If it was cut off in the middle, whoever finds it sees to it that the machine runs.
        Asked::NodeReboot { machine } => {
            let domain = domain(scene, machine)?;
            steps.push(Step::Reset { domain: domain.clone() }, Step::PowerOn { domain });
        }
        Asked::NodeWipe { machine } => {
            let domain = domain(scene, machine)?;
            steps.push(Step::PowerOff { domain: domain.clone() }, Step::PowerOn { domain: domain.clone() });
            let blanks = facts.files.iter().map(|file| Step::Blank { file: file.clone() });
            let forget = Step::ForgetHost { name: machine.clone() };
            let then = blanks.chain([forget, Step::PowerOn { domain }]);
            steps.pairs.push((then.collect(), Vec::new()));
        }
        Asked::Disk { machine, trouble: DiskTrouble::Slow(pace) } => {
            let domain = domain(scene, machine)?;
            let step = |pace| Step::Pace { domain: domain.clone(), pace };
            steps.push(step(*pace), step(hardware::virsh::Pace::default()));
        }
        Asked::Service { machine, .. }
        | Asked::Clock { machine, .. }
        | Asked::Disk { machine, trouble: DiskTrouble::Full | DiskTrouble::Readonly } => {
            let scripts = inside::scripts(asked, &scene.mirror_ports, id, lasts);
            let scripts = scripts.ok_or_else(|| CourseError::Gone(machine.clone()))?;
            steps.inside(machine, scripts, facts)?;
        }
    }
    Ok(steps.into_course())
}

/// Whether only `netem` can do it.
fn is_late(by: &Impairment) -> bool {
    by.latency.is_some() || by.jitter.is_some()
}

fn line<'a>(scene: &'a Scene, ends: &Ends) -> Result<&'a Line, CourseError> {
    let found = scene.cable(ends.cable).filter(|line| line.ends == *ends);
    found.ok_or_else(|| CourseError::Gone(format!("the cable {ends}")))
}

fn domain(scene: &Scene, machine: &str) -> Result<String, CourseError> {
    let domain = scene.machine(machine).and_then(|place| place.domain.clone());
    domain.ok_or_else(|| CourseError::Gone(machine.to_owned()))
}

// === impl Steps ===

impl Steps<'_> {
    fn push(&mut self, apply: Step, undo: Step) {
        self.pairs.push((vec![apply], vec![undo]));
    }

    fn cut(&mut self, line: &Line, silent: bool, facts: &Facts, id: FaultId) -> Result<(), CourseError> {
        if silent {
            return self.drop(line, Share::ALL, "to cut a cable silently", facts, id);
        }
        for Socket { domain, tap, .. } in [&line.near, &line.far] {
            let carrier = |up| Step::Carrier { domain: domain.clone(), tap: tap.clone(), up };
            self.push(carrier(false), carrier(true));
        }
        Ok(())
    }

    /// Frames of both directions pass the near end.
    fn drop(
        &mut self,
        line: &Line,
        share: Share,
        what: &'static str,
        facts: &Facts,
        id: FaultId,
    ) -> Result<(), CourseError> {
        if !facts.means.is_some_and(|means| means.frames) {
            let missing = "nftables for bridges (`nft`, and nf_tables_bridge in the kernel)";
            return Err(CourseError::NoMeans { what, missing });
        }
        // One for each cable, since a step knows of no other; and this computer may have several deployments.
        let table = format!("meshboot-{}-{id}-c{}", self.tag, line.ends.cable);
        let tap = line.near.tap.clone();
        self.push(Step::Drop { table: table.clone(), tap, share }, Step::Pass { table });
        Ok(())
    }

    /// By the kernel of this computer where it can, which no machine notices; else by the machines at both ends.
    fn degrade(
        &mut self,
        line: &Line,
        by: &Impairment,
        facts: &Facts,
        id: FaultId,
        lasts: Option<Duration>,
    ) -> Result<(), CourseError> {
        let means = facts.means.unwrap_or_default();
        if means.netem {
            self.shape(line, &by.netem());
            return Ok(());
        }
        if is_late(by) {
            for (machine, socket) in [(&line.ends.near, &line.near), (&line.ends.far, &line.far)] {
                self.inside(machine, inside::degrade(socket.mac, by, id, lasts), facts)?;
            }
            return Ok(());
        }
        if let Some(rate) = by.rate {
            if !means.tbf {
                let missing =
                    "the queueing discipline netem or tbf (`tc`, and sch_netem or sch_tbf in the kernel)";
                return Err(CourseError::NoMeans { what: "to pace a cable", missing });
            }
            self.shape(line, &Impairment::tbf(rate));
        }
        if let Some(loss) = by.loss {
            self.drop(line, loss, "to lose frames of a cable", facts, id)?;
        }
        Ok(())
    }

    fn shape(&mut self, line: &Line, discipline: &[String]) {
        for Socket { domain, tap, .. } in [&line.near, &line.far] {
            let (domain, tap) = (domain.clone(), tap.clone());
            let shape = Step::Shape { domain, tap: tap.clone(), discipline: discipline.to_vec() };
            self.push(shape, Step::Unshape { tap });
        }
    }

    fn inside(&mut self, machine: &str, scripts: Scripts, facts: &Facts) -> Result<(), CourseError> {
        let address = facts.addresses.get(machine);
        let address = *address.ok_or_else(|| CourseError::NoAddress(machine.to_owned()))?;
        let host = Host { name: machine.to_owned(), address };
        let Scripts { make, undo } = scripts;
        self.push(Step::Inside { host: host.clone(), script: make }, Step::Inside { host, script: undo });
        Ok(())
    }

    fn into_course(self) -> Course {
        let undo = self.pairs.iter().rev().flat_map(|(_, undo)| undo.clone()).collect();
        Course { apply: self.pairs.into_iter().flat_map(|(apply, _)| apply).collect(), undo }
    }
}
