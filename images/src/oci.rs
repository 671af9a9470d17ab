//! Container images from files: the same files give the same bytes.
//!
//! Every time stamp is zero, every owner is root, entries are sorted. An [`Image`] is described first, wholly,
//! and then [`assemble`](Image::assemble)d into a [`Store`]; nothing is unpacked and nothing is run.
//! [`control_plane`] and [`busybox`] say what is in the images that a mesh needs; [`root`] takes programs and
//! the libraries they need out of a Debian root.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::PathBuf,
};

use serde_json::{Value, json};

use crate::store::{
    BlobWriter, Descriptor, Digest, Hasher, OCI_CONFIG, OCI_LAYER, OCI_LAYER_ZSTD, OCI_MANIFEST, Platform,
    Reference, Store, StoreError,
};

pub mod busybox;
pub mod control_plane;
mod elf;
pub mod layer;
pub mod root;
#[cfg(test)]
mod tests;

pub use layer::{Layer, LayerError};

/// Where programs are looked for in our images.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The Unix epoch: an image's age says nothing here, and a true one would change its digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// How layers are stored and carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are: nothing to unpack, everything to carry.
    None,
    /// zstd of this level (1 to 19).
    Zstd(i32),
}

/// An image to be made, for amd64.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// How it is run.
    pub config: Config,
}

/// How an image is run.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program where there is no entrypoint.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts; `/` if not said.
    pub working_dir: Option<String>,
    /// Remarks for people.
    pub labels: BTreeMap<String, String>,
}

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// A file of the image cannot be read.
    #[error("putting {} into an image", path.display())]
    Source {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file changed while it was read.
    #[error("{} had {expected} bytes and then {actual}", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// Its size when it was looked at.
        expected: u64,
        /// What was read.
        actual: u64,
    },
    /// The layer cannot be written.
    #[error("writing a layer of an image")]
    Write(#[source] io::Error),
    /// What goes into it is contradictory.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Compression ===

impl Default for Compression {
    /// In the guests of a software emulation, where every instruction costs ten, fewer bytes to hash, carry and
    /// write outweigh the cost of zstd; the level does not matter to the reader.
    fn default() -> Self {
        Self::Zstd(3)
    }
}

// === impl Image ===

impl Image {
    /// Makes the image and stores its blobs; the descriptor is its manifest's.
    ///
    /// # Errors
    ///
    /// [`AssembleError`].
    pub fn assemble(&self, store: &Store, compression: Compression) -> Result<Descriptor, AssembleError> {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in &self.layers {
            let (descriptor, diff_id) = store_layer(layer, store, compression)?;
            layers.push(descriptor);
            diff_ids.push(diff_id);
        }
        let config = self.config.to_json(&diff_ids).to_string().into_bytes();
        let config = Descriptor::new(OCI_CONFIG, store.put(&config)?, config.len() as u64);
        let manifest = manifest_json(&config, &layers).to_string().into_bytes();
        Ok(Descriptor {
            platform: Some(Platform::amd64()),
            ..Descriptor::new(OCI_MANIFEST, store.put(&manifest)?, manifest.len() as u64)
        })
    }

    /// Makes the image and names it.
    ///
    /// # Errors
    ///
    /// [`AssembleError`].
    pub fn assemble_as(
        &self,
        reference: &Reference,
        store: &Store,
        compression: Compression,
    ) -> Result<Descriptor, AssembleError> {
        let target = self.assemble(store, compression)?;
        store.set_ref(reference, &target)?;
        Ok(target)
    }
}

/// The OCI manifest of an image.
pub(crate) fn manifest_json(config: &Descriptor, layers: &[Descriptor]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers })
}

// === impl Config ===

impl Config {
    /// The OCI image configuration.
    fn to_json(&self, diff_ids: &[Digest]) -> Value {
        let mut config = serde_json::Map::new();
        let mut set = |key: &str, value: Value| {
            let empty = match &value {
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::Null => true,
                Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            };
            if !empty {
                config.insert(key.to_owned(), value);
            }
        };
        set("Entrypoint", json!(self.entrypoint));
        set("Cmd", json!(self.cmd));
        set("Env", json!(self.env));
        set("WorkingDir", json!(self.working_dir));
        set("Labels", json!(self.labels));
        json!({
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": diff_ids
                .iter()
                .map(|_| json!({ "created": CREATED, "created_by": "meshboot" }))
                .collect::<Vec<_>>(),
        })
    }
}

/// Writes one layer: tar, hashed, compressed, hashed again, in one pass.
fn store_layer(
    layer: &Layer,
    store: &Store,
    compression: Compression,
) -> Result<(Descriptor, Digest), AssembleError> {
    let blob = store.writer()?;
    let (sink, media_type) = match compression {
        Compression::None => (Sink::Plain(blob), OCI_LAYER),
        Compression::Zstd(level) => {
            let encoder = zstd::stream::write::Encoder::new(blob, level).map_err(AssembleError::Write)?;
            (Sink::Zstd(encoder), OCI_LAYER_ZSTD)
        }
    };
    let mut hashed = Hashed { sink, hasher: Hasher::default() };
    layer.write_tar(&mut hashed)?;
    let diff_id = hashed.hasher.finish();
    let blob = match hashed.sink {
        Sink::Plain(blob) => blob,
        Sink::Zstd(encoder) => encoder.finish().map_err(AssembleError::Write)?,
    };
    let (digest, size) = blob.finish()?;
    Ok((Descriptor::new(media_type, digest, size), diff_id))
}

enum Sink {
    Plain(BlobWriter),
    Zstd(zstd::stream::write::Encoder<'static, BlobWriter>),
}

/// Hashes what passes on the way to the sink.
struct Hashed {
    sink: Sink,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = match &mut self.sink {
            Sink::Plain(blob) => blob.write(buffer)?,
            Sink::Zstd(encoder) => encoder.write(buffer)?,
        };
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
