//! The files of one deployment: the directory `cluster/`.
//!
//! `deployment.json` is written before the first object that it speaks of, so whatever is interrupted can be
//! torn down. The directory and all in it are the owner's alone.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hardware::daemon::Ensured;
use hardware::{Accel, Cable, DeploymentId, Owner};
use ignition::{ControlPlaneSpec, KubernetesVersion, SiteId};
use mesh::{AddressPlan, Machine};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::exit::{Code, Failure, OrFail as _};
use crate::private_file;
use crate::profile::ProfileName;

mod machines;
mod objects;
mod wanted;

pub use machines::MachineRecord;
#[cfg(test)]
pub(crate) use machines::tests::{records, sample};
pub use objects::seed_addresses;
pub use wanted::{Wanted, WantedMachine};

/// The file's form; a later one has another number.
const VERSION: u32 = 2;

/// What teardown and status have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployment {
    /// The form that it was written in; a program that does not know it leaves the deployment alone.
    pub version: u32,
    /// What its objects are known by.
    pub id: DeploymentId,
    /// What tells it from others on this computer; none for the one whose files are in `cluster`.
    #[serde(default)]
    pub profile: Option<ProfileName>,
    /// Its site.
    pub site: SiteId,
    /// The virtual machines, the seed first; none on a stick.
    pub machines: Vec<MachineRecord>,
    /// The cables between them.
    pub cables: Vec<Cable>,
    /// The number of the next machine.
    pub next_machine: u16,
    /// The number of the next cable.
    pub next_cable: u16,
    /// How processors are made.
    pub accel: Option<Accel>,
    /// Its addresses.
    pub addresses: AddressPlan,
    /// The seed, as its ledger has it.
    pub seed: Machine,
    /// What was wanted of its control plane when it was made.
    #[serde(default)]
    pub control_plane: ControlPlaneSpec,
    /// Its Kubernetes; none where it was made before that was written down.
    #[serde(default)]
    pub kubernetes: Option<KubernetesVersion>,
    /// What was done so that libvirt answers.
    pub libvirt: Option<Ensured>,
    /// The stick or file that a real seed boots from, if it is such a deployment.
    #[serde(default)]
    pub stick: Option<PathBuf>,
    /// Whether every machine became Ready, or the stick was written.
    #[serde(default)]
    pub complete: bool,
}

/// A record's form, of whatever version the rest is.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

/// The right to change a deployment, for as long as it is held.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] Flock<fs::File>);

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

// === impl Directory ===

impl Directory {
    /// The directory, by its absolute path.
    ///
    /// # Errors
    ///
    /// The current directory is not known, or the path is not UTF-8: libvirt's XML could not hold it.
    pub fn new(path: &Path) -> Result<Self> {
        let absolute =
            std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))?;
        // Symbolic links above are resolved, so that a deployment is known by one path.
        let whole = match (absolute.parent().map(fs::canonicalize), absolute.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            _ => absolute,
        };
        anyhow::ensure!(whole.to_str().is_some(), "the path {} is not UTF-8", whole.display());
        Ok(Self(whole))
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path as a text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Whose the deployment's objects are.
    #[must_use]
    pub fn owner(&self, id: DeploymentId) -> Owner {
        Owner { deployment: id, directory: self.text().to_owned() }
    }

    /// `deployment.json`.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.0.join("deployment.json")
    }

    /// The operator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("auth/kubeconfig")
    }

    /// The operator's SSH key.
    #[must_use]
    pub fn ssh_key(&self) -> PathBuf {
        self.0.join("auth/ssh")
    }

    /// The resolved settings.
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.0.join("settings.toml")
    }

    /// The cluster's keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    /// What the deployment is; none if there is none.
    ///
    /// # Errors
    ///
    /// The record is there and cannot be read.
    pub fn load(&self) -> Result<Option<Deployment>> {
        let path = self.record();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let damaged = || format!("{} is damaged", path.display());
        // Another version's record need not have the fields of this one.
        let Form { version } = serde_json::from_str(&text).with_context(damaged)?;
        anyhow::ensure!(
            version == VERSION,
            "{} is of version {version}, and this is meshboot for version {VERSION}",
            path.display()
        );
        serde_json::from_str(&text).map(Some).with_context(damaged)
    }

    /// What the deployment is, for whoever can do nothing without one.
    ///
    /// # Errors
    ///
    /// There is none, or its record cannot be read.
    pub fn require(&self) -> Result<Deployment, Failure> {
        self.load().or_fail(Code::Data)?.ok_or_else(|| {
            let message = format!("there is no deployment in {}", self.text());
            Failure::new(Code::Unavailable, message).next("./deploy libvirt 4")
        })
    }

    /// Keeps others from changing the deployment until the lock is dropped.
    ///
    /// # Errors
    ///
    /// Somebody else is changing it, or there is no such directory.
    pub fn lock(&self) -> Result<Lock, Failure> {
        let open = fs::File::open(&self.0).with_context(|| format!("cannot open {}", self.text()));
        // The directory itself: nothing has to be made or removed for it.
        match Flock::lock(open.or_fail(Code::Unavailable)?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let message = format!("another meshboot is changing the deployment in {}", self.text());
                Err(Failure::new(Code::TryAgain, message).next("wait until it has ended"))
            }
            Err((_, error)) => {
                let what = format!("cannot lock {}", self.text());
                Err(error).context(what).or_fail(Code::Io)
            }
        }
    }

    /// Writes the record, whole or not at all.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to.
    pub fn save(&self, deployment: &Deployment) -> Result<()> {
        let text = serde_json::to_string_pretty(deployment).context("cannot write the deployment as JSON")?;
        self.write("deployment.json", format!("{text}\n"))
    }

    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn create(&self) -> Result<()> {
        make_private(&self.0)
    }

    /// Writes a file of the deployment, mode 0600, whole or not at all.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            make_private(parent)?;
        }
        private_file::replace(&path, contents.as_ref())
    }
}

// === impl Deployment ===

impl Deployment {
    /// Takes note that it has come to its end: every machine was Ready, or the stick was written.
    pub fn mark_complete(&mut self) {
        self.complete = true;
        for machine in &mut self.machines {
            machine.pending = false;
        }
    }

    /// A deployment that nothing was made of yet.
    #[must_use]
    pub fn new(id: DeploymentId, site: SiteId, addresses: AddressPlan, seed: Machine) -> Self {
        Self {
            version: VERSION,
            id,
            profile: None,
            site,
            machines: Vec::new(),
            cables: Vec::new(),
            next_machine: 0,
            next_cable: 1,
            accel: None,
            addresses,
            seed,
            control_plane: ControlPlaneSpec::default(),
            kubernetes: None,
            libvirt: None,
            stick: None,
            complete: false,
        }
    }
}

fn make_private(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_a_record_that_is_not_there_is_none() {
        use std::os::unix::fs::PermissionsExt as _;
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(&temporary.path().join("cluster")).unwrap();
        assert!(directory.load().unwrap().is_none());
        directory.write("auth/kubeconfig", "secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.kubeconfig()), 0o600);
        assert_eq!(mode(directory.path()), 0o700);
        fs::write(directory.record(), "{").unwrap();
        assert!(directory.load().unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_record_of_another_version_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(temporary.path()).unwrap();
        for version in [1, 3] {
            fs::write(directory.record(), format!("{{\"version\":{version},\"machines\":4}}")).unwrap();
            let said = format!("{:#}", directory.load().unwrap_err());
            assert!(said.contains(&format!("of version {version}")), "{said}");
        }
    }

    #[test]
    fn one_at_a_time_changes_a_deployment() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(&temporary.path().join("cluster")).unwrap();
        assert_eq!(directory.lock().unwrap_err().code, Code::Unavailable);
        directory.create().unwrap();
        let lock = directory.lock().unwrap();
        assert_eq!(directory.lock().unwrap_err().code, Code::TryAgain);
        drop(lock);
        assert!(directory.lock().is_ok());
    }

    #[test]
    fn a_deployment_has_one_path() {
        let temporary = tempfile::tempdir().unwrap();
        let real = temporary.path().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, temporary.path().join("link")).unwrap();
        let one = Directory::new(&real.join("cluster")).unwrap();
        let other = Directory::new(&temporary.path().join("link/cluster")).unwrap();
        assert_eq!(one, other);
    }
}
