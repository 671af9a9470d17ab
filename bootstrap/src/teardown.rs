//! `meshboot teardown`: removes what this deployment made, says what it removed, and touches nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hardware::daemon::{self, Ensured};
use hardware::libvirt::{Found, RemoveError};
use hardware::process::RunError;
use hardware::{DeploymentId, Libvirt};
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::{Deployment, Directory};
use crate::exit::{Code, Failure, OrFail as _};
use crate::fault::{self, record};
use crate::progress::Reporter;
use crate::timeline::journal;

/// What was removed.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Removed {
    /// Domains, by name.
    pub domains: Vec<String>,
    /// Networks, by name.
    pub networks: Vec<String>,
    /// Interfaces that libvirt knew nothing of, by name.
    pub interfaces: Vec<String>,
    /// Files and directories.
    pub files: Vec<String>,
    /// What was undone that had been done to this computer for the deployment.
    pub undone: Vec<String>,
}

/// Removes the deployment whose files are in `directory`. It is harmless where there is none.
///
/// # Errors
///
/// Somebody else is changing it, or something of it could not be removed; its files are then kept, so that another try can
/// know it.
pub async fn run(directory: &Directory, reporter: &Reporter) -> Result<Removed, Failure> {
    let _lock = directory.path().exists().then(|| directory.lock()).transpose()?;
    remove(directory, reporter).await
}

/// Removes a deployment for whoever has its lock.
///
/// # Errors
///
/// As [`run`].
pub(crate) async fn remove(directory: &Directory, reporter: &Reporter) -> Result<Removed, Failure> {
    // A record that cannot be read hinders nothing: the objects say themselves whose they are.
    let deployment = directory.load().unwrap_or_else(|error| {
        reporter.warn(&format!("{error:#}; going by the marks on libvirt's objects"));
        None
    });
    if let Some(Deployment { stick: Some(stick), complete: true, .. }) = &deployment {
        let place = directory.text();
        let kept = format!("{place} has the keys of the seed on {}: it is left alone", stick.display());
        reporter.result(&Removed::default(), &kept);
        return Ok(Removed::default());
    }
    // So that nobody switches a machine on again while it is removed.
    fault::abandon(directory).await?;
    let mut removed = Removed::default();
    remove_objects(directory, deployment.as_ref(), &mut removed, reporter).await?;
    if is_ours(directory.path()) {
        reporter.stage("files");
        let what = format!("cannot remove {}", directory.path().display());
        fs::remove_dir_all(directory.path())
            .map_err(|error| anyhow::Error::new(error).context(what))
            .or_fail(Code::Io)?;
        removed.files.push(directory.text().to_owned());
    }
    reporter.finish();
    reporter.result(&removed, &removed.text());
    Ok(removed)
}

/// Removes every libvirt object of the deployment, and gives libvirt back as it was found.
async fn remove_objects(
    directory: &Directory,
    deployment: Option<&Deployment>,
    removed: &mut Removed,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let libvirt = Libvirt::default();
    let found = match libvirt.survey().await {
        Ok(found) => found,
        // Without libvirt there are no objects. But a deployment that had them must not be forgotten.
        Err(RemoveError::Survey(error)) if deployment.is_none_or(|known| known.libvirt.is_none()) => {
            tracing::debug!(%error, "libvirt does not answer");
            return Ok(());
        }
        Err(RemoveError::Survey(RunError::Missing { .. })) => return Ok(()),
        Err(error) => {
            let failure = Err(error).or_fail(Code::Unavailable);
            return failure.map_err(|failure| failure.next("start libvirt, then run teardown again"));
        }
    };
    let id = deployment.map_or(DeploymentId(uuid::Uuid::nil()), |deployment| deployment.id);
    let owner = directory.owner(id);
    let ours: Vec<&Found> = found.iter().filter(|object| owner.owns(&object.owner)).collect();
    if !ours.is_empty() {
        reporter.stage("domains and networks");
    }
    for object in ours {
        reporter.line(&format!("{} {}", object.kind, object.name));
        libvirt.remove(object).await.or_fail(Code::Unavailable)?;
        match object.kind {
            hardware::libvirt::Kind::Domain => removed.domains.push(object.name.clone()),
            hardware::libvirt::Kind::Network => removed.networks.push(object.name.clone()),
        }
    }
    let mut ids: BTreeSet<DeploymentId> = found
        .iter()
        .filter(|object| owner.owns(&object.owner))
        .map(|object| object.owner.deployment)
        .collect();
    ids.extend(deployment.map(|deployment| deployment.id));
    for id in ids {
        removed.interfaces.extend(libvirt.sweep(id).await.or_fail(Code::Unavailable)?);
    }
    if let Some(ensured) = deployment.and_then(|deployment| deployment.libvirt.as_ref()) {
        // Off or not: libvirt is asked what there is of it when it is removed in its turn.
        let mut others = found.iter().filter(|object| !owner.owns(&object.owner));
        match others.next().map(|object| object.owner.directory.as_str()) {
            None => removed.undone = daemon::stop_if_unused(&libvirt.virsh, ensured).await,
            // What is still used is undone with the mesh that uses it.
            Some(other) => hand_over(Path::new(other), ensured)
                .unwrap_or_else(|reason| tracing::info!(other, reason, "libvirt stays as it is")),
        }
    }
    Ok(())
}

/// Enters what was done to this computer in another mesh's record.
fn hand_over(other: &Path, ensured: &Ensured) -> Result<(), String> {
    let directory = Directory::new(other).map_err(|error| format!("{error:#}"))?;
    let _lock = directory.lock().map_err(|failure| failure.message())?;
    let deployment = directory.load().map_err(|error| format!("{error:#}"))?;
    let mut deployment = deployment.ok_or_else(|| "its files are lost".to_owned())?;
    match &mut deployment.libvirt {
        Some(known) => known.take_over(ensured),
        None => deployment.libvirt = Some(ensured.clone()),
    }
    directory.save(&deployment).map_err(|error| format!("{error:#}"))
}

/// Whether the directory is one that `deploy` made, and not somebody's whose path was given by mistake.
fn is_ours(directory: &Path) -> bool {
    const OURS: &[&str] = &[
        "auth",
        "bin",
        "console",
        "deployment.json",
        "disks",
        record::FOLDER,
        journal::BEFORE,
        journal::FILE,
        "pki",
        "settings.toml",
        "snapshots",
    ];
    let Ok(entries) = fs::read_dir(directory) else { return false };
    let names: BTreeSet<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.iter().all(|name| OURS.contains(&name.as_str()) || name == "deployment.new")
}

// === impl Removed ===

impl Removed {
    fn is_empty(&self) -> bool {
        self.parts().into_iter().all(|(_, names)| names.is_empty())
    }

    fn text(&self) -> String {
        if self.is_empty() {
            return "there is nothing to remove".to_owned();
        }
        let lines = self.parts().into_iter().filter(|(_, names)| !names.is_empty());
        lines.map(|(what, names)| format!("removed {what}: {}\n", names.join(", "))).collect()
    }

    fn parts(&self) -> [(&'static str, &[String]); 5] {
        [
            ("domains", &self.domains),
            ("networks", &self.networks),
            ("interfaces", &self.interfaces),
            ("files", &self.files),
            ("undone", &self.undone),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_with_nothing_else_in_it_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_ours(directory.path()));
        fs::write(directory.path().join("deployment.json"), "").unwrap();
        fs::create_dir(directory.path().join("disks")).unwrap();
        assert!(is_ours(directory.path()));
        fs::write(directory.path().join("thesis.tex"), "").unwrap();
        assert!(!is_ours(directory.path()));
        assert!(!is_ours(&directory.path().join("absent")));
    }
}
