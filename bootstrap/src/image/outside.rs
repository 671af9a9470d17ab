//! What comes from outside, what has to come yet, and where what came has its source.

use std::path::Path;

use anyhow::Context as _;
use images::catalog::{self, Catalog};
use images::load::Listed;
use images::pull::{Puller, Revalidate};
use images::sbom::{self, Package};
use images::store::{Digest, Platform, Reference, Store};
use indicatif::HumanBytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::containers::{STORE, also_loaded, loaded};
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::mirrors;
use crate::progress::{self, Reporter};
use crate::verbs::Context;

/// An image that a deployment would have to get from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
struct Missing {
    /// Which.
    image: Reference,
    /// Why it is wanted.
    wanted: &'static str,
}

/// All images that would have to come.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AllMissing {
    /// The set of images that a mesh would be made of.
    catalog: String,
    missing: Vec<Missing>,
}

/// An image that was fetched.
#[derive(Debug, Serialize, JsonSchema)]
struct Pulled {
    /// Its name.
    reference: Reference,
    /// Its manifest.
    digest: Digest,
    /// All its blobs together, in octets.
    size: u64,
}

/// All images that were fetched.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AllPulled {
    pulled: Vec<Pulled>,
}

/// What the nodes' image is made of.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Sbom {
    /// The set of images.
    catalog: String,
    packages: Vec<Package>,
}

/// `meshboot image pull`.
///
/// # Errors
///
/// An image does not come, or the store cannot be written.
pub async fn pull(context: &Context, names: &[Reference], reporter: &Reporter) -> Result<(), Failure> {
    let settings = &context.settings;
    let upstreams = mirrors::upstreams(&settings.mirrors, &settings.addresses).or_fail(Code::Config)?;
    let Some(upstreams) = upstreams else {
        let failure = Failure::new(Code::Config, "the settings say that no registry is asked");
        return Err(
            failure.next("mirrors.ask = \"mirrored\", or load an archive (`meshboot image load FILE`)")
        );
    };
    let store = Store::open(context.cache.join(STORE)).or_fail(Code::CannotCreate)?;
    let puller = Puller::unlimited(store.clone(), upstreams, Revalidate::Always);
    let mut pulled = Vec::new();
    for name in names {
        reporter.stage(&format!("pulling {name}"));
        let fetched = puller.whole(name, &Platform::amd64(), reporter).await;
        let target = fetched.with_context(|| format!("cannot pull {name}")).or_fail(Code::Unavailable)?;
        let size = store.closure(&target.digest).or_fail(Code::Io)?.present.values().sum::<u64>();
        also_loaded(&context.cache, std::slice::from_ref(name))?;
        pulled.push(Pulled { reference: name.clone(), digest: target.digest, size });
    }
    reporter.finish();
    let line = |Pulled { reference, digest, size }: &Pulled| {
        format!("{reference}  {digest}  {}\n", HumanBytes(*size))
    };
    let text: String = pulled.iter().map(line).collect();
    reporter.result(&AllPulled { pulled }, &text);
    Ok(())
}

/// `meshboot image missing`.
///
/// # Errors
///
/// The cache cannot be read, or nothing was made yet.
pub fn missing(context: &Context, reporter: &Reporter) -> Result<(), Failure> {
    let catalog = newest(&context.cache)?;
    let missing = missing_of(&context.cache, &catalog)?;
    let mut text = String::new();
    for Missing { image, wanted } in &missing {
        text.push_str(&format!("{image}  {wanted}\n"));
    }
    if missing.is_empty() {
        text.push_str(&format!("nothing: all that {} names is here\n", catalog.id));
    }
    reporter.result(&AllMissing { catalog: catalog.id, missing }, &text);
    Ok(())
}

/// The set of images that was made or used last.
fn newest(cache: &Path) -> Result<Catalog, Failure> {
    let catalogs = catalog::list(cache).or_fail(Code::Io)?;
    let newest = catalogs.into_iter().map(|(_, catalog)| catalog).find(Catalog::is_complete);
    newest.ok_or_else(|| {
        let message =
            "the nodes' images were not made yet: Debian's packages, Kubernetes and its images are missing";
        Failure::new(Code::Data, message).next("`meshboot image build`, where there is a way out")
    })
}

/// `meshboot image sbom`.
///
/// # Errors
///
/// Nothing was made yet, or by a version that did not write it down.
pub fn sbom(cache: &Path, spdx: bool, reporter: &Reporter) -> Result<(), Failure> {
    let catalog = newest(cache)?;
    let packages =
        catalog.dir().context("the catalogue is in no folder").and_then(|dir| Ok(sbom::read(dir)?));
    let packages = packages.or_fail(Code::Data).map_err(|failure| failure.next("`meshboot image build`"))?;
    if spdx {
        let text = serde_json::to_string_pretty(&sbom::spdx(&catalog, &packages));
        progress::out(&text.context("cannot write it as JSON").or_fail(Code::Io)?);
        return Ok(());
    }
    let mut text = String::new();
    for package in &packages {
        let licences: Vec<&str> = package.licences.iter().map(String::as_str).collect();
        let licences =
            if licences.is_empty() { "see its file copyright".to_owned() } else { licences.join(", ") };
        let Package { name, version, .. } = package;
        text.push_str(&format!("{name} {version}  {}  {licences}\n", package.source_url()));
    }
    reporter.result(&Sbom { catalog: catalog.id, packages }, &text);
    Ok(())
}

/// Refuses to make a seed that would need something from outside.
///
/// # Errors
///
/// What is missing, and how to get it.
pub fn need_nothing(cache: &Path, catalog: &Catalog) -> Result<(), Failure> {
    let missing = missing_of(cache, catalog)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|missing| missing.image.to_string()).collect();
    let message = format!("a seed without a way out needs what is not here: {}", names.join(", "));
    let next = format!(
        "`meshboot image pull {}`, or `meshboot image load` of an archive that has it",
        names.join(" ")
    );
    Err(Failure::new(Code::Data, message).next(next))
}

/// The images that a mesh of this catalogue is made of and that are not here, or not whole.
fn missing_of(cache: &Path, catalog: &Catalog) -> Result<Vec<Missing>, Failure> {
    let store = Store::open_read_only(cache.join(STORE)).or_fail(Code::Data)?;
    let there = images::load::list(&store).or_fail(Code::Io)?;
    let is_whole = |image: &Reference| {
        there.iter().any(|Listed { reference, size, .. }| reference == image && size.is_some())
    };
    let loaded = loaded(cache)?;
    let cluster = catalog.images.iter().chain(&catalog.missing_images);
    let cluster = cluster.map(|image| (image, "a part of Kubernetes"));
    let all = cluster.chain(loaded.iter().map(|image| (image, "it was loaded, and is not whole")));
    let missing = all.filter(|(image, _)| !is_whole(image));
    Ok(missing.map(|(image, wanted)| Missing { image: image.clone(), wanted }).collect())
}
