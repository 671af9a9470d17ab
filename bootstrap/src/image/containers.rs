//! The container images that the operator gives to seeds: kept in the cache, and put onto each seed's disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use images::catalog::{self, Catalog};
use images::load::Listed;
use images::save::SaveError;
use images::store::{Reference, Store, WholeError};
use images::tidy::{self, Checked, Wrong};
use indicatif::HumanBytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::describe;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;
use crate::verbs::Context;

/// Archives in this folder are loaded before each build, as kubermesh had it.
const PRELOAD: &str = ".images";
/// The names of images that the operator loaded; they go onto each seed's disk.
const LOADED: &str = "loaded.json";
/// The store, in the cache.
pub(super) const STORE: &str = "store";
/// Standard input in place of a file.
const STDIN: &str = "-";

/// What is in the cache.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct List {
    /// The sets of images that nodes boot, the one that was made or used last first.
    catalogs: Vec<Catalog>,
    /// The container images.
    images: Vec<Listed>,
}

/// Images that were stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Loaded {
    loaded: Vec<Reference>,
}

/// Images that are no more.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Removed {
    removed: Vec<Reference>,
    /// How many octets that gave back.
    bytes: u64,
}

/// Images that were written to an archive.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Saved {
    saved: Vec<Reference>,
    /// The archive.
    to: PathBuf,
}

/// A store in which all is as it should be.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Verified {
    checked: Checked,
}

/// `meshboot image list`.
///
/// # Errors
///
/// The cache cannot be read.
pub fn list(cache: &Path, reporter: &Reporter) -> Result<(), Failure> {
    let catalogs = catalog::list(cache).or_fail(Code::Io)?;
    let images = match Store::open_read_only(cache.join(STORE)) {
        Ok(store) => images::load::list(&store).or_fail(Code::Io)?,
        Err(_) => Vec::new(),
    };
    let mut text = String::new();
    for (_, catalog) in &catalogs {
        text.push_str(&describe(catalog));
    }
    for image in &images {
        let size = image.size.map_or_else(|| "incomplete".to_owned(), |size| HumanBytes(size).to_string());
        text.push_str(&format!("{}  {size}\n", image.reference));
    }
    if text.is_empty() {
        text.push_str("there are no images: `meshboot image build`");
    }
    let catalogs = catalogs.into_iter().map(|(_, catalog)| catalog).collect();
    reporter.result(&List { catalogs, images }, &text);
    Ok(())
}

/// `meshboot image load`.
///
/// # Errors
///
/// An archive holds no image, or the store cannot be written.
pub fn load(cache: &Path, files: &[PathBuf], reporter: &Reporter) -> Result<(), Failure> {
    let loaded = load_all(cache, files)?;
    let text = format!("loaded {}", joined(&loaded));
    reporter.result(&Loaded { loaded }, &text);
    Ok(())
}

/// `meshboot image rm`: of what was loaded. What belongs to the nodes' images is another's.
///
/// # Errors
///
/// An image was not loaded, or the store cannot be written.
pub fn remove(cache: &Path, names: &[Reference], reporter: &Reporter) -> Result<(), Failure> {
    let mut known = loaded(cache)?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let failure = Failure::new(Code::Data, format!("the image {unknown} was not loaded"));
        return Err(failure.next("`meshboot image list` tells what is there; what `image build` made stays"));
    }
    let store = Store::open(cache.join(STORE)).or_fail(Code::CannotCreate)?;
    known.retain(|name| !names.contains(name));
    remember(cache, &known)?;
    let bytes = tidy::remove(&store, names).or_fail(Code::Io)?.bytes;
    let text = format!("removed {}: {}", joined(names), HumanBytes(bytes));
    reporter.result(&Removed { removed: names.to_owned(), bytes }, &text);
    Ok(())
}

/// `meshboot image save`.
///
/// # Errors
///
/// An image is not there or not whole, or the archive cannot be written.
pub fn save(
    cache: &Path,
    names: &[Reference],
    to: Option<&Path>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let store = Store::open_read_only(cache.join(STORE)).or_fail(Code::Data)?;
    let Some(path) = to else { return told(images::save::save(&store, names, io::stdout().lock())) };
    // Under another name until all of it is there.
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let what = || format!("cannot write {}", path.display());
    let file = tempfile::NamedTempFile::new_in(folder).with_context(what).or_fail(Code::CannotCreate)?;
    told(images::save::save(&store, names, BufWriter::new(file.as_file())))?;
    // The file is one that others may read, as any that a program writes.
    let open = fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(open).with_context(what).or_fail(Code::Io)?;
    file.as_file().sync_all().with_context(what).or_fail(Code::Io)?;
    file.persist(path).with_context(what).or_fail(Code::CannotCreate)?;
    let text = format!("saved {} to {}", joined(names), path.display());
    reporter.result(&Saved { saved: names.to_owned(), to: path.to_owned() }, &text);
    Ok(())
}

fn told(saved: Result<(), SaveError>) -> Result<(), Failure> {
    let code = match &saved {
        Err(SaveError::Image(WholeError::Unknown(_) | WholeError::Closure { .. })) => Code::Data,
        Err(SaveError::Image(WholeError::Store(_)) | SaveError::Write(_) | SaveError::Store(_)) | Ok(()) => {
            Code::Io
        }
    };
    saved.or_fail(code)
}

/// `meshboot image verify`.
///
/// # Errors
///
/// Something is not as it should be, or the store cannot be read.
pub fn verify(cache: &Path, reporter: &Reporter) -> Result<(), Failure> {
    let store = Store::open(cache.join(STORE)).or_fail(Code::CannotCreate)?;
    let checked = tidy::verify(&store, reporter).or_fail(Code::Io)?;
    reporter.finish();
    let sizes = format!("{} blobs, {}", checked.blobs, HumanBytes(checked.bytes));
    if checked.wrong.is_empty() {
        let text = format!("{sizes}: all as they should be");
        reporter.result(&Verified { checked }, &text);
        return Ok(());
    }
    let tell = |Wrong { what, problem }: &Wrong| format!("{what}: {problem}");
    let wrong: Vec<String> = checked.wrong.iter().map(tell).collect();
    let message = format!("of {sizes} not all are as they should be: {}", wrong.join("; "));
    let next = "load the images again, or `meshboot image build` if they are the nodes'";
    Err(Failure::new(Code::Data, message).next(next))
}

fn joined(names: &[Reference]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn load_all(cache: &Path, files: &[PathBuf]) -> Result<Vec<Reference>, Failure> {
    let store = Store::open(cache.join(STORE)).or_fail(Code::CannotCreate)?;
    let mut news = Vec::new();
    for file in files {
        let images = if file.as_os_str() == STDIN {
            let spooled = spool().context("cannot keep what comes by standard input").or_fail(Code::Io)?;
            images::load::load(spooled.path(), &store).or_fail(Code::Data)?
        } else {
            images::load::load(file, &store).or_fail(Code::Data)?
        };
        news.extend(images.into_iter().map(|image| image.reference));
    }
    also_loaded(cache, &news)?;
    Ok(news)
}

/// Remembers that these too go onto each seed's disk.
pub(super) fn also_loaded(cache: &Path, names: &[Reference]) -> Result<(), Failure> {
    let mut known = loaded(cache)?;
    known.extend(names.iter().cloned());
    remember(cache, &known)
}

/// What comes by standard input, as a file: an archive is read from its beginning more than once.
fn spool() -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    io::copy(&mut io::stdin().lock(), &mut file)?;
    Ok(file)
}

fn remember(cache: &Path, known: &BTreeSet<Reference>) -> Result<(), Failure> {
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    let path = cache.join(LOADED);
    let text =
        serde_json::to_string_pretty(&names).context("cannot write names as JSON").or_fail(Code::Io)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display())).or_fail(Code::Io)
}

/// Loads the archives of `.images`, if there is such a folder here.
pub(super) fn preload(context: &Context, reporter: &Reporter) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(PRELOAD) else { return Ok(()) };
    let paths = entries.flatten().map(|entry| entry.path());
    let archives: BTreeSet<PathBuf> = paths.filter(|path| is_archive(path)).collect();
    if archives.is_empty() {
        return Ok(());
    }
    reporter.stage("loading container images");
    let names = load_all(&context.cache, &archives.into_iter().collect::<Vec<_>>())?;
    for name in names {
        reporter.line(&name.to_string());
    }
    Ok(())
}

fn is_archive(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end))
}

/// Names that are in the store still.
pub(super) fn loaded(cache: &Path) -> Result<BTreeSet<Reference>, Failure> {
    let path = cache.join(LOADED);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(BTreeSet::new()) };
    let names: Vec<String> = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged: remove it, and load the images again", path.display()))
        .or_fail(Code::Data)?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
