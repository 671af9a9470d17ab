//! `meshboot deploy usb`: a seed's disk for a real machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hardware::{DeploymentId, profile};
use ignition::{ControlPlaneSpec, NodeSpec, Uplink};
use indicatif::HumanBytes;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{link_kubectl, seed};
use crate::cli::DeployUsb;
use crate::deployment::Deployment;
use crate::exit::{Code, Failure, OrFail as _};
use crate::image::{self, Target};
use crate::progress::{self, Reporter};
use crate::verbs::Context;
use crate::{deploy, deps};

/// A disk that was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Written {
    /// The file or the device.
    disk: PathBuf,
    /// By which the seed's cluster will be reached.
    kubeconfig: PathBuf,
}

/// Writes the disk, and the operator's files into the deployment's directory.
///
/// # Errors
///
/// The target is refused, or something could not be made.
pub async fn run(context: &Context, options: &DeployUsb, reporter: &Reporter) -> Result<(), Failure> {
    let (settings, directory) = (&context.settings, &context.directory);
    let is_device = options.target.exists() && !options.target.is_file();
    if options.target.exists() {
        confirm(&options.target, options.images.yes, reporter)?;
    }
    deploy::check::no_deployment(directory, &hardware::Libvirt::default()).await?;
    deps::provide(&image::missing_tools(settings), options.images.install_deps, reporter).await?;
    let catalog = image::obtain(context, reporter).await?;
    if options.offline {
        image::need_nothing(&context.cache, &catalog)?;
    }

    reporter.stage("keys and settings");
    directory.create().or_fail(Code::CannotCreate)?;
    let id = DeploymentId(Uuid::new_v4());
    let identity = seed::Identity::of_stick(settings);
    let mut deployment =
        Deployment::new(id, identity.site.clone(), settings.addresses.clone(), identity.machine.clone());
    deployment.stick = std::path::absolute(&options.target).ok();
    deployment.profile.clone_from(&context.profile);
    deployment.kubernetes = catalog.kubernetes.parse().ok();
    directory.save(&deployment).or_fail(Code::CannotCreate)?;
    directory.write("settings.toml", context.raw.to_toml()).or_fail(Code::Io)?;
    link_kubectl(directory, &catalog).or_fail(Code::Io)?;
    let uplink = settings.usb.uplink.map(|mac| Uplink {
        mac,
        addresses: Vec::new(),
        gateways: Vec::new(),
        automatic: true,
    });
    let seed = seed::Seed {
        identity: &identity,
        uplink,
        reservations: BTreeMap::new(),
        spec: NodeSpec::default(),
        control_plane: ControlPlaneSpec::default(),
        catalog: &catalog,
        forced_links: settings.usb.forced_links.iter().cloned().collect(),
    };
    let ignition = seed.write(settings, directory).await?;

    let target = if is_device {
        Target::Device(&options.target)
    } else {
        Target::File(&options.target, settings.usb.size)
    };
    // Whoever wants images or a kubelet of its own for a machine says so when it is to come.
    image::write_disk(context, &catalog, &[], &ignition, &target, reporter).await?;
    deployment.mark_complete();
    directory.save(&deployment).or_fail(Code::Io)?;
    reporter.finish();
    let enrol = settings.https.then(|| {
        let authority = directory.path().join(seed::BOOT_AUTHORITY);
        format!("for HTTPS: enrol {} as the authority of TLS servers", authority.display())
    });
    let lines = profile::NUC.firmware.iter().map(|line| (*line).to_owned()).chain(enrol);
    let firmware: String = lines.map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "{} is a seed's disk. Boot a machine from it, plug the next one into it, and:\n\n  kubectl --kubeconfig {} get \
         nodes\n\nWhat the firmware of a {} wants to be told first:\n\n{firmware}",
        options.target.display(),
        directory.kubeconfig().display(),
        profile::NUC.title,
    );
    reporter.result(&Written { disk: options.target.clone(), kubeconfig: directory.kubeconfig() }, &text);
    Ok(())
}

/// Nothing is overwritten that was not meant.
fn confirm(path: &Path, yes: bool, reporter: &Reporter) -> Result<(), Failure> {
    let target = image::inspect(path)?;
    let kind = match (target.is_device, target.removable) {
        (false, _) => "a file",
        (true, true) => "a removable disk",
        (true, false) => "a fixed disk",
    };
    let model = target.model.as_deref().map(|model| format!(" ({model})")).unwrap_or_default();
    let what = format!("{} is {kind}{model} of {}", path.display(), HumanBytes(target.size));
    if yes {
        reporter.line(&format!("{what}: all on it is overwritten"));
        return Ok(());
    }
    progress::confirm(&format!("{what}. All on it will be lost."), &path.display().to_string())
}
