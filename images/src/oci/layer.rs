//! What is in a layer, and its tar.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tar::{EntryType, Header};

use super::AssembleError;

/// What is copied at once.
const CHUNK: usize = 256 * 1024;
/// Of folders that nobody described.
const DIRECTORY_MODE: u32 = 0o755;

/// Files by their paths in the image. Folders above them come by themselves.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { source: PathBuf, mode: u32 },
    Bytes { bytes: Vec<u8>, mode: u32 },
    Symlink { target: String },
}

/// Why something cannot be put into a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// Not a path in an image.
    #[error("`{0}` is no path in an image: it has to name something below / without `.` or `..`")]
    Path(String),
    /// Two different things at one path.
    #[error("two different things were put at /{0} of an image")]
    Clash(String),
    /// Something below what is no folder.
    #[error("/{child} of an image lies below /{parent}, which is no folder")]
    Parent {
        /// What was put there.
        child: String,
        /// What is above it.
        parent: String,
    },
}

// === impl Layer ===

impl Layer {
    /// Puts a copy of a file there.
    ///
    /// # Errors
    ///
    /// [`LayerError`].
    pub fn file(&mut self, path: &str, source: impl Into<PathBuf>, mode: u32) -> Result<(), LayerError> {
        self.add(path, Node::File { source: source.into(), mode })
    }

    /// Puts a small file there.
    ///
    /// # Errors
    ///
    /// [`LayerError`].
    pub fn bytes(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Result<(), LayerError> {
        self.add(path, Node::Bytes { bytes: bytes.into(), mode })
    }

    /// Makes a folder there.
    ///
    /// # Errors
    ///
    /// [`LayerError`].
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<(), LayerError> {
        self.add(path, Node::Directory { mode })
    }

    /// Puts a symbolic link there.
    ///
    /// # Errors
    ///
    /// [`LayerError`].
    pub fn symlink(&mut self, path: &str, target: impl Into<String>) -> Result<(), LayerError> {
        self.add(path, Node::Symlink { target: target.into() })
    }

    /// Whether something was put at this path.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_start_matches('/'))
    }

    /// The paths, sorted, without a leading slash.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// The same thing twice at one path is once.
    fn add(&mut self, path: &str, node: Node) -> Result<(), LayerError> {
        let name = path.strip_prefix('/').unwrap_or(path);
        let good = name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains('\0');
        if !good {
            return Err(LayerError::Path(path.to_owned()));
        }
        match self.nodes.get(name) {
            Some(there) if *there == node => Ok(()),
            Some(_) => Err(LayerError::Clash(name.to_owned())),
            None => {
                self.nodes.insert(name.to_owned(), node);
                Ok(())
            }
        }
    }

    /// Everything, with the folders above it; a folder sorts before what is in it.
    fn complete(&self) -> Result<BTreeMap<&str, Node>, LayerError> {
        let mut all: BTreeMap<&str, Node> =
            self.nodes.iter().map(|(path, node)| (path.as_str(), node.clone())).collect();
        for path in self.nodes.keys() {
            for (end, _) in path.match_indices('/') {
                let parent = &path[..end];
                let node = all.entry(parent).or_insert(Node::Directory { mode: DIRECTORY_MODE });
                if !matches!(node, Node::Directory { .. }) {
                    return Err(LayerError::Parent { child: path.clone(), parent: parent.to_owned() });
                }
            }
        }
        Ok(all)
    }

    /// Writes the tar.
    pub(super) fn write_tar(&self, sink: impl Write) -> Result<(), AssembleError> {
        let mut tar = tar::Builder::new(io::BufWriter::with_capacity(CHUNK, sink));
        for (path, node) in self.complete()? {
            match node {
                Node::Directory { mode } => {
                    let mut header = header(EntryType::Directory, mode, 0);
                    tar.append_data(&mut header, format!("{path}/"), io::empty())
                        .map_err(AssembleError::Write)?;
                }
                Node::Bytes { bytes, mode } => {
                    let mut header = header(EntryType::Regular, mode, bytes.len() as u64);
                    tar.append_data(&mut header, path, bytes.as_slice()).map_err(AssembleError::Write)?;
                }
                Node::Symlink { target } => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    tar.append_link(&mut header, path, target).map_err(AssembleError::Write)?;
                }
                Node::File { source, mode } => append_file(&mut tar, path, &source, mode)?,
            }
        }
        let buffer = tar.into_inner().map_err(AssembleError::Write)?;
        buffer.into_inner().map_err(|error| AssembleError::Write(error.into_error()))?;
        Ok(())
    }
}

fn append_file(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    source: &Path,
    mode: u32,
) -> Result<(), AssembleError> {
    let failed = |error| AssembleError::Source { path: source.to_owned(), source: error };
    let file = File::open(source).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let expected = metadata.len();
    let mut counted = Counted { inner: file.take(expected), count: 0 };
    let mut header = header(EntryType::Regular, mode, expected);
    tar.append_data(&mut header, path, &mut counted).map_err(failed)?;
    if counted.count != expected {
        return Err(AssembleError::Changed { path: source.to_owned(), expected, actual: counted.count });
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A file's mode for an image: who may run it, nothing else.
pub(super) fn plain_mode(metadata: &fs::Metadata) -> u32 {
    if metadata.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 }
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}
