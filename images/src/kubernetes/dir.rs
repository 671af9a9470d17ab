//! Kubernetes from a folder: programs and image archives that somebody put there.
//!
//! Everything that is wrong with the folder is said at once.

use std::{
    fmt::{self, Write as _},
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    kubeadm::{self, AskError},
    version::Version,
};
use crate::{
    load::{self, LoadError, Loaded},
    store::{Reference, Store},
};

#[cfg(test)]
mod tests;

const PROGRAMS: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];
const ARCHIVES: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.zst"];

/// An ELF file's first bytes: 64 bits, little-endian.
const ELF: [u8; 6] = *b"\x7fELF\x02\x01";
/// Where an ELF file says for which machine it is, and the value for amd64.
const MACHINE: (usize, [u8; 2]) = (18, [62, 0]);

/// A folder that holds all it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The version, as kubeadm says it.
    pub version: Version,
    /// The program of that name.
    pub kubeadm: PathBuf,
    /// The program of that name.
    pub kubelet: PathBuf,
    /// The program of that name.
    pub kubectl: PathBuf,
    /// Image archives, sorted.
    pub archives: Vec<PathBuf>,
    /// Images that kubeadm asks for and no archive has: they have to come from elsewhere.
    pub missing: Vec<Reference>,
}

/// Why a folder will not do.
#[derive(Debug)]
pub struct DirError {
    /// Which.
    pub dir: PathBuf,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a folder.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// A program is not there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A program cannot be read.
    #[error("`{name}` cannot be read")]
    Program {
        /// Which.
        name: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not a file that can be run.
    #[error("`{0}` is not executable (chmod +x)")]
    NotExecutable(&'static str),
    /// Not for our machines.
    #[error("`{0}` is no Linux program for amd64")]
    NotForAmd64(&'static str),
    /// It does not say its version.
    #[error("`{name}` does not work")]
    Ask {
        /// Which.
        name: &'static str,
        /// How it failed.
        #[source]
        source: AskError,
    },
    /// Programs of different versions.
    #[error("kubeadm is {kubeadm} and kubelet {kubelet}: they have to be of one version")]
    Versions {
        /// kubeadm's.
        kubeadm: Version,
        /// The kubelet's.
        kubelet: Version,
    },
    /// A file that is named like an image archive.
    #[error(transparent)]
    Archive(LoadError),
}

// === impl DirError ===

impl fmt::Display for DirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold a Kubernetes:", self.dir.display())?;
        for problem in &self.problems {
            let mut line = problem.to_string();
            let mut cause = std::error::Error::source(problem);
            while let Some(error) = cause {
                write!(line, ": {error}")?;
                cause = error.source();
            }
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// Its causes are in its message, all of them.
impl std::error::Error for DirError {}

// === impl Folder ===

impl Folder {
    /// Looks a folder through.
    ///
    /// # Errors
    ///
    /// [`DirError`], with everything that is wrong.
    pub async fn read(dir: &Path) -> Result<Self, DirError> {
        let mut problems = Vec::new();
        let folder = Self::look(dir, &mut problems).await;
        match folder {
            Some(folder) if problems.is_empty() => Ok(folder),
            _ => Err(DirError { dir: dir.to_owned(), problems }),
        }
    }

    async fn look(dir: &Path, problems: &mut Vec<Problem>) -> Option<Self> {
        let archives = match archives(dir) {
            Ok(archives) => archives,
            Err(error) => {
                problems.push(Problem::Read(error));
                return None;
            }
        };
        let mut sound = PROGRAMS.map(|name| (name, false));
        for (name, sound) in &mut sound {
            match check_program(dir, name) {
                Ok(()) => *sound = true,
                Err(problem) => problems.push(problem),
            }
        }
        let [(_, kubeadm_runs), (_, kubelet_runs), (_, kubectl_runs)] = sound;
        let [kubeadm, kubelet, kubectl] = PROGRAMS.map(|name| dir.join(name));
        let mut note = |name, result: Result<Version, AskError>| {
            result.map_err(|source| problems.push(Problem::Ask { name, source })).ok()
        };
        let mut version = None;
        if kubeadm_runs {
            version = note("kubeadm", kubeadm::kubeadm_version(&kubeadm).await);
        }
        let mut kubelets = None;
        if kubelet_runs {
            kubelets = note("kubelet", kubeadm::kubelet_version(&kubelet).await);
        }
        if kubectl_runs {
            note("kubectl", kubeadm::kubectl_version(&kubectl).await);
        }
        if let (Some(kubeadm), Some(kubelet)) = (&version, &kubelets)
            && kubeadm != kubelet
        {
            problems.push(Problem::Versions { kubeadm: kubeadm.clone(), kubelet: kubelet.clone() });
        }
        let mut provided = Vec::new();
        for archive in &archives {
            match load::names(archive) {
                Ok(names) => provided.extend(names),
                Err(error) => problems.push(Problem::Archive(error)),
            }
        }
        let version = version?;
        let wanted = match kubeadm::images(&kubeadm, &version).await {
            Ok(wanted) => wanted,
            Err(source) => {
                problems.push(Problem::Ask { name: "kubeadm", source });
                return None;
            }
        };
        let missing = wanted.into_iter().filter(|wanted| !provided.contains(wanted)).collect();
        Some(Self { version, kubeadm, kubelet, kubectl, archives, missing })
    }

    /// Loads its images.
    ///
    /// # Errors
    ///
    /// [`LoadError`].
    pub fn load_images(&self, store: &Store) -> Result<Vec<Loaded>, LoadError> {
        let mut loaded = Vec::new();
        for archive in &self.archives {
            loaded.extend(load::load(archive, store)?);
        }
        Ok(loaded)
    }
}

/// The files that are named like image archives, sorted.
fn archives(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if ARCHIVES.iter().any(|suffix| name.ends_with(suffix)) && path.is_file() {
            archives.push(path);
        }
    }
    archives.sort();
    Ok(archives)
}

fn check_program(dir: &Path, name: &'static str) -> Result<(), Problem> {
    let failed = |source: io::Error| {
        let missing = source.kind() == io::ErrorKind::NotFound;
        if missing { Problem::Missing(name) } else { Problem::Program { name, source } }
    };
    let mut file = File::open(dir.join(name)).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(Problem::NotExecutable(name));
    }
    let mut head = [0; 20];
    let (at, machine) = MACHINE;
    match file.read_exact(&mut head) {
        Ok(()) if head.starts_with(&ELF) && head[at..] == machine => Ok(()),
        Ok(()) => Err(Problem::NotForAmd64(name)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Problem::NotForAmd64(name)),
        Err(source) => Err(Problem::Program { name, source }),
    }
}
