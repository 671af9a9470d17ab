//! Takes programs out of an unpacked Debian root, with the libraries and links they need.
//!
//! Paths are resolved within the root, as a chroot would: an absolute link never leads out of it. Nothing of the
//! root is run.

use std::{
    collections::{BTreeSet, VecDeque},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    elf,
    layer::{Layer, LayerError, plain_mode},
};

/// What the kernel allows, too.
const MAX_LINKS: usize = 40;
/// Where glibc's dynamic linker looks on Debian's amd64, without a cache.
const LIBRARY_DIRS: [&str; 6] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib", "lib64", "usr/lib64"];

/// An unpacked Debian root.
#[derive(Debug, Clone)]
pub struct Root {
    dir: PathBuf,
}

/// Why a program cannot be taken out.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is not there.
    #[error("/{path} is not in the root {}", root.display())]
    Missing {
        /// What was looked for.
        path: String,
        /// Where.
        root: PathBuf,
    },
    /// A library is not there.
    #[error("/{program} needs {library}, which is not in the root {}", root.display())]
    Library {
        /// Who needs it.
        program: String,
        /// What.
        library: String,
        /// Where it was looked for.
        root: PathBuf,
    },
    /// Links that lead in a circle.
    #[error("/{0} is a link that leads to itself")]
    Loop(String),
    /// Not readable.
    #[error("reading {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An ELF file that is broken.
    #[error("/{path} is no sound program")]
    Elf {
        /// Which.
        path: String,
        /// What is wrong with it.
        #[source]
        source: object::Error,
    },
    /// It does not fit into the layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

// === impl Root ===

impl Root {
    /// A root at this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Whether a path leads to something.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.resolve(path).is_ok()
    }

    /// Puts a file into a layer at the same path, with the links on the way to it; a program with its libraries.
    ///
    /// # Errors
    ///
    /// [`RootError`].
    pub fn take(&self, path: &str, layer: &mut Layer) -> Result<(), RootError> {
        let mut open = vec![path.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(path) = open.pop() {
            let resolved = self.resolve(&path)?;
            for (link, target) in &resolved.links {
                layer.symlink(link, target)?;
            }
            if !seen.insert(resolved.path.clone()) {
                continue;
            }
            let file = self.dir.join(&resolved.path);
            let failed = |source| RootError::Io { path: file.clone(), source };
            let metadata = fs::metadata(&file).map_err(failed)?;
            if !metadata.is_file() {
                return Err(failed(io::Error::other("not a regular file")));
            }
            layer.file(&resolved.path, &file, plain_mode(&metadata))?;
            open.extend(self.needs(&resolved.path, &file)?);
        }
        Ok(())
    }

    /// Puts all files of a folder with this suffix into a layer.
    ///
    /// # Errors
    ///
    /// [`RootError`].
    pub fn take_all(&self, dir: &str, suffix: &str, layer: &mut Layer) -> Result<(), RootError> {
        let path = self.dir.join(self.resolve(dir)?.path);
        let failed = |source| RootError::Io { path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            match name.to_str() {
                Some(name) if name.ends_with(suffix) => self.take(&format!("{dir}/{name}"), layer)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The paths of the libraries that a file needs; none if it is no program.
    fn needs(&self, path: &str, file: &Path) -> Result<Vec<String>, RootError> {
        let data = fs::read(file).map_err(|source| RootError::Io { path: file.to_owned(), source })?;
        if !data.starts_with(elf::MAGIC) {
            return Ok(Vec::new());
        }
        let needs = elf::needs(&data)
            .map_err(|source| RootError::Elf { path: path.to_owned(), source })?
            .unwrap_or_default();
        let origin = path.rsplit_once('/').map_or("", |(origin, _)| origin);
        let own = needs.search.iter().map(|dir| dir.replace("${ORIGIN}", origin).replace("$ORIGIN", origin));
        let dirs = own.chain(LIBRARY_DIRS.map(str::to_owned)).collect::<Vec<_>>();
        let mut found = Vec::from_iter(needs.interpreter);
        for library in needs.libraries {
            let at = dirs.iter().map(|dir| format!("{dir}/{library}")).find(|path| self.has(path));
            let Some(at) = at else {
                let (program, root) = (path.to_owned(), self.dir.clone());
                return Err(RootError::Library { program, library, root });
            };
            found.push(at);
        }
        Ok(found)
    }

    /// Follows a path within the root.
    fn resolve(&self, path: &str) -> Result<Resolved, RootError> {
        let mut pending: VecDeque<String> = path.split('/').map(str::to_owned).collect();
        let mut at: Vec<String> = Vec::new();
        let mut links = Vec::new();
        while let Some(part) = pending.pop_front() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            let here = at.join("/");
            let file = self.dir.join(&here);
            let failed = |source: io::Error| {
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    let path = path.trim_start_matches('/').to_owned();
                    RootError::Missing { path, root: self.dir.clone() }
                } else {
                    RootError::Io { path: file.clone(), source }
                }
            };
            if !fs::symlink_metadata(&file).map_err(failed)?.is_symlink() {
                continue;
            }
            if links.len() == MAX_LINKS {
                return Err(RootError::Loop(path.to_owned()));
            }
            let target = fs::read_link(&file).map_err(failed)?.to_string_lossy().into_owned();
            at.pop();
            if target.starts_with('/') {
                at.clear();
            }
            for part in target.rsplit('/') {
                pending.push_front(part.to_owned());
            }
            links.push((here, target));
        }
        Ok(Resolved { path: at.join("/"), links })
    }
}

struct Resolved {
    /// The file itself, with no link on the way.
    path: String,
    /// The links that lead to it.
    links: Vec<(String, String)>,
}
