//! Finds out what a fault can be done to, and with: asks the deployment, its seed, and this computer's kernel.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use anyhow::Context as _;
use hardware::Plan;
use hardware::firmware::Firmware;
use hardware::plan::VolumePlan;
use hardware::traffic::Means;

use super::asked::Asked;
use super::course::{Facts, wanted};
use super::scene::Scene;
use crate::deployment::{Deployment, Directory};
use crate::exit::{Code, Failure, OrFail as _};
use crate::status::Observer;
use crate::verbs::Context;

/// What faults of this deployment can be done to.
///
/// # Errors
///
/// Its machines are real, and the seed, which knows them, does not answer.
pub(super) async fn scene(deployment: &Deployment, directory: &Directory) -> Result<Scene, Failure> {
    if deployment.stick.is_none() {
        return Ok(Scene::of(deployment));
    }
    let addresses = addresses(deployment, directory).await?;
    if addresses.is_empty() {
        let message = "the seed does not answer, and it alone knows which machines there are";
        return Err(Failure::new(Code::TryAgain, message).next("`meshboot status` says what it waits for"));
    }
    Ok(Scene::of_hardware(deployment, addresses.into_keys()))
}

/// What `asked` cannot do without.
///
/// # Errors
///
/// What could not be found out.
pub(super) async fn facts(
    asked: &Asked,
    deployment: &Deployment,
    context: &Context,
) -> Result<Facts, Failure> {
    let wanted = wanted(asked);
    let mut facts = Facts::default();
    if wanted.means {
        let means = Means::probe().await.or_fail(Code::Unavailable);
        let next = "be root: what happens to frames is the kernel's";
        facts.means = Some(means.map_err(|failure| failure.next(next))?);
    }
    let by_kernel = facts.means.is_some_and(|means| means.netem);
    if wanted.addresses && !by_kernel {
        facts.addresses = addresses(deployment, &context.directory).await?;
    }
    if wanted.files {
        facts.files = files(asked, deployment, context)?;
    }
    Ok(facts)
}

/// The addresses of all nodes, by name: as the seed has them, else as Kubernetes has.
async fn addresses(
    deployment: &Deployment,
    directory: &Directory,
) -> Result<BTreeMap<String, Ipv6Addr>, Failure> {
    Ok(Observer::new(deployment, directory).await?.addresses().await)
}

/// What a wipe makes anew, as the plan of the machine has it: not the log of its console.
fn files(asked: &Asked, deployment: &Deployment, context: &Context) -> Result<Vec<VolumePlan>, Failure> {
    let firmware = Firmware::find().context("there is no OVMF").or_fail(Code::Unavailable)?;
    let spec = deployment.spec(&context.directory, &context.settings.libvirt, firmware);
    let mut files = Vec::new();
    for name in asked.machines() {
        let plan = Plan::of_machine(&spec, deployment.find(&name)?.number);
        let volumes = plan.volumes().filter(|volume| !matches!(volume, VolumePlan::Console { .. }));
        files.extend(volumes.cloned());
    }
    Ok(files)
}
