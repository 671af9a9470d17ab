//! One file out of an image that the store has.

use std::io::{self, Read as _, Write};

use crate::decompress::decompress;
use crate::store::{Blob, Content, Digest, MAX_MANIFEST, Manifest, ManifestError, Store, StoreError};

/// No program is larger, by far.
const MAX_FILE: u64 = 1 << 30;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A part of the image is not there.
    #[error("the blob {0} is missing")]
    Missing(Digest),
    /// Its manifest is none.
    #[error("the manifest {digest}")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// It is several images.
    #[error("{0} is an index of several images, and one is wanted")]
    Index(Digest),
    /// A layer cannot be read.
    #[error("the layer {digest} cannot be read")]
    Layer {
        /// Which.
        digest: Digest,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No layer has it.
    #[error("the image {image} has no file {path}")]
    NoFile {
        /// The image's manifest.
        image: Digest,
        /// The file.
        path: String,
    },
    /// It is of an absurd size.
    #[error("{path} of the image has {size} bytes, and may have {MAX_FILE}")]
    TooLarge {
        /// The file.
        path: String,
        /// How large it is.
        size: u64,
    },
    /// It cannot be written.
    #[error("writing {path}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Copies a file, known by its path without a leading slash, out of the image of this manifest; its size is returned. It is
/// the one of the highest layer that has it: what a layer removes of those below it is not heeded.
///
/// # Errors
///
/// [`UnpackError`]; then what was written is not the file.
pub fn file(store: &Store, image: &Digest, path: &str, out: &mut impl Write) -> Result<u64, UnpackError> {
    let bytes = store.read(image, MAX_MANIFEST)?.ok_or(UnpackError::Missing(*image))?;
    let wrong = |source| UnpackError::Manifest { digest: *image, source };
    let Content::Image { layers, .. } = Manifest::parse(&bytes).map_err(wrong)?.content else {
        return Err(UnpackError::Index(*image));
    };
    for layer in layers.iter().rev() {
        let blob = store.blob(&layer.digest)?.ok_or(UnpackError::Missing(layer.digest))?;
        if let Some(size) = of_layer(blob, &layer.digest, path, out)? {
            return Ok(size);
        }
    }
    Err(UnpackError::NoFile { image: *image, path: path.to_owned() })
}

fn of_layer(
    blob: Blob,
    digest: &Digest,
    path: &str,
    out: &mut impl Write,
) -> Result<Option<u64>, UnpackError> {
    let broken = |source| UnpackError::Layer { digest: *digest, source };
    let mut tar = tar::Archive::new(decompress(blob.file).map_err(broken)?);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let is_it = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./") == path;
        if !is_it || !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        if size > MAX_FILE {
            return Err(UnpackError::TooLarge { path: path.to_owned(), size });
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut copied = 0;
        loop {
            let count = entry.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            let written = out.write_all(&buffer[..count]);
            written.map_err(|source| UnpackError::Write { path: path.to_owned(), source })?;
            copied += count as u64;
        }
        if copied != size {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        return Ok(Some(size));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Compression, Image, Layer};

    fn layer(files: &[(&str, &str)]) -> Layer {
        let mut layer = Layer::default();
        for (path, text) in files {
            layer.bytes(path, *text, 0o755).unwrap();
        }
        layer
    }

    #[test]
    fn a_file_is_the_one_of_the_highest_layer_however_that_is_packed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let layers =
            vec![layer(&[("a/x", "low"), ("a/y", "only")]), layer(&[("a/x", "high"), ("b/a/y", "other")])];
        let image = Image { layers, ..Image::default() };
        for compression in [Compression::None, Compression::Zstd(3)] {
            let target = image.assemble(&store, compression).unwrap();
            let read = |path: &str| {
                let mut out = Vec::new();
                let size = file(&store, &target.digest, path, &mut out)?;
                assert_eq!(size, out.len() as u64);
                Ok::<_, UnpackError>(String::from_utf8(out).unwrap())
            };
            assert_eq!((read("a/x").unwrap().as_str(), read("a/y").unwrap().as_str()), ("high", "only"));
            for path in ["a", "x", "a/z", "/a/x"] {
                assert!(matches!(read(path), Err(UnpackError::NoFile { .. })), "{path}");
            }
        }
    }

    #[test]
    fn what_is_not_whole_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let image = Image { layers: vec![layer(&[("x", &"x".repeat(100_000))])], ..Image::default() };
        let target = image.assemble(&store, Compression::None).unwrap();
        let manifest = Manifest::parse(&store.read(&target.digest, MAX_MANIFEST).unwrap().unwrap()).unwrap();
        let Content::Image { layers, .. } = manifest.content else { unreachable!() };
        let path = store.blob(&layers[0].digest).unwrap().unwrap().path;
        std::fs::File::options().write(true).open(&path).unwrap().set_len(50_000).unwrap();
        let error = file(&store, &target.digest, "x", &mut Vec::new()).unwrap_err();
        assert!(matches!(error, UnpackError::Layer { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = file(&store, &target.digest, "x", &mut Vec::new()).unwrap_err();
        assert!(matches!(error, UnpackError::Missing(_)), "{error}");
        let error = file(&store, &Digest::of(b"none"), "x", &mut Vec::new()).unwrap_err();
        assert!(matches!(error, UnpackError::Missing(_)), "{error}");
    }
}
