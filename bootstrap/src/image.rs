//! `meshboot image`, and what `deploy` needs of images: the room `images` with this site's settings.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use ignition::Secret;
use images::build::{self, Options};
use images::catalog::Catalog;
use images::disk::SeedDisk;
use images::disk::target::Target as Inspected;
use images::kubernetes::Source;
use images::mirror::Mirror;
use images::progress::Progress;
use images::seed_store::seed_store;
use images::store::Reference;
use indicatif::HumanBytes;
use schemars::JsonSchema;
use serde::Serialize;

use crate::cli::ImageOptions;
use crate::deps;
use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;
use crate::settings::Settings;
use crate::verbs::Context;

mod bring;
mod containers;
pub(crate) mod kubelets;
mod outside;
pub(crate) mod own;

pub(crate) use containers::{List, Loaded, Removed, Saved, Verified};
pub use containers::{list, load, remove, save, verify};
use containers::{loaded, preload};
pub use kubelets::name as kubelet_name;
pub(crate) use outside::{AllMissing, AllPulled, Sbom};
pub use outside::{missing, need_nothing, pull, sbom};

/// Images that were made, or were up to date.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Built {
    catalog: Catalog,
}

/// Where a seed's disk is written to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A file of this path, and of so many octets if that is said.
    File(&'a Path, Option<u64>),
    /// A device, all of it.
    Device(&'a Path),
}

impl Progress for Reporter {
    fn stage(&self, name: &str) {
        Self::stage(self, name);
    }

    fn advance(&self, done: u64, total: Option<u64>) {
        self.bytes(done, total);
    }

    fn line(&self, text: &str) {
        self.detail(text);
    }
}

/// `meshboot image build`.
///
/// # Errors
///
/// What failed, at which stage.
pub async fn build(context: &Context, options: &ImageOptions, reporter: &Reporter) -> Result<(), Failure> {
    deps::provide(&missing_tools(&context.settings), options.install_deps, reporter).await?;
    let catalog = obtain(context, reporter).await?;
    reporter.finish();
    let text = describe(&catalog);
    reporter.result(&Built { catalog }, &text);
    Ok(())
}

/// What making this site's images lacks on this computer.
#[must_use]
pub fn missing_tools(settings: &Settings) -> Vec<deps::Missing> {
    let from_source = match settings.image.kubernetes {
        Source::Auto | Source::Debian => true,
        Source::Dir(_) | Source::Upstream(_) => false,
    };
    deps::missing_for_images(from_source)
}

/// Makes the images of this site, or finds those that are up to date, and loads the archives that lie beside it.
///
/// # Errors
///
/// What failed; the cache holds what was finished.
pub async fn obtain(context: &Context, reporter: &Reporter) -> Result<Catalog, Failure> {
    let settings = &context.settings;
    let binary = std::env::current_exe().context("cannot tell where this program is")?;
    let options = Options {
        suite: settings.image.suite.clone(),
        mirror: settings.image.mirror.as_ref().map(|main| Mirror { main: main.clone(), security: None }),
        kubernetes: settings.image.kubernetes.clone(),
        upstream: settings.image.kubernetes_server.clone(),
        extra_packages: settings.image.packages.clone(),
        extra_cmdline: settings.image.kernel_arguments.clone(),
        ..Options::new(&context.cache, binary, settings.addresses.boot)
    };
    reporter.stage("images");
    let built = build::build(&options, reporter).await.context("cannot make the images");
    let catalog = built.or_fail(Code::Unavailable).map_err(|failure| {
        let log = context.cache.join("logs/images.log");
        failure.next(format!("the tools' own words are in {}", log.display()))
    })?;
    if catalog.kubernetes_source == "debian" {
        reporter.warn(&format!(
            "Kubernetes {} of Debian's source package: for test meshes only, it is years behind (--kubernetes)",
            catalog.kubernetes
        ));
    }
    preload(context, reporter)?;
    Ok(catalog)
}

/// Writes a seed's disk: what it serves, and images of the cache's store besides.
///
/// # Errors
///
/// The store could not be packed or the disk not written.
pub async fn write_disk(
    context: &Context,
    catalog: &Catalog,
    besides: &[Reference],
    config: &Secret<String>,
    target: &Target<'_>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let mut further = loaded(&context.cache)?;
    further.extend(besides.iter().cloned());
    let further: Vec<Reference> = further.into_iter().filter(|name| !catalog.images.contains(name)).collect();
    let store = seed_store(&context.cache, catalog, &further, reporter).await;
    let disk = SeedDisk {
        uki: catalog.seed_uki.path.clone(),
        root: catalog.root.path.clone(),
        layer: catalog.layer.path.clone(),
        config: config.expose().clone().into_bytes(),
        artefacts: store.context("cannot pack the seed's store").or_fail(Code::Io)?,
    };
    let written = match target {
        Target::File(path, size) => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("cannot make {}", parent.display()))
                    .or_fail(Code::CannotCreate)?;
            }
            disk.write_file(path, *size, reporter)
        }
        Target::Device(path) => disk.write_device(path, reporter),
    };
    written.map(drop).context("cannot write the seed's disk").or_fail(Code::Io)
}

/// Refuses a device that is in use, and tells what is on it.
///
/// # Errors
///
/// It cannot be looked at, or must not be written to.
pub fn inspect(path: &Path) -> Result<Inspected, Failure> {
    let target = Inspected::inspect(path).or_fail(Code::Data)?;
    target.check().or_fail(Code::CannotCreate)?;
    Ok(target)
}

fn describe(catalog: &Catalog) -> String {
    let artefacts = catalog.artefacts();
    let sizes = artefacts.iter().map(|(name, artefact)| format!("{name} {}", HumanBytes(artefact.size)));
    let sizes: Vec<String> = sizes.collect();
    let mut text = format!(
        "{}: Debian {}, Linux {}, Kubernetes {} ({}); {}\n",
        catalog.id,
        catalog.suite,
        catalog.kernel,
        catalog.kubernetes,
        catalog.kubernetes_source,
        sizes.join(", ")
    );
    for image in &catalog.missing_images {
        text.push_str(&format!("  not to be had: {image}\n"));
    }
    text
}
