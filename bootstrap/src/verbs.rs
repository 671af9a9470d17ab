//! From the parsed command line to the module that does it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::answers::{self, Good};
use crate::cli::experiment::Experiment;
use crate::cli::fault::Fault;
use crate::cli::mesh::Specs;
use crate::cli::snapshot::Snapshot;
use crate::cli::{
    Cli, Config, DeployFile, DeployLibvirt, DeployTarget, DeployUsb, Image, ImageOptions, Site, Verb,
};
use crate::deployment::Directory;
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::force;
use crate::profile::{self, LocalPrefix, ProfileName};
use crate::progress::{self, Output, Reporter};
use crate::settings::{self, Raw, Settings};
use crate::signals::{Signals, interrupted};
use crate::{
    deploy, deps, experiment, explain, fault, image, list, meshfile, node, snapshot, status, teardown,
    timeline, why,
};

mod mesh;

pub(crate) use mesh::{Shown, Told, tell};

/// Settings that are read if they are there and no others are named.
const DEFAULT_SETTINGS: &str = "meshboot.toml";

/// What every verb may need.
#[derive(Debug)]
pub struct Context {
    /// Settings, as they were given.
    pub raw: Raw,
    /// Settings, checked.
    pub settings: Settings,
    /// Which mesh of several it is.
    pub profile: Option<ProfileName>,
    /// The deployment's files.
    pub directory: Directory,
    /// What was fetched and built.
    pub cache: PathBuf,
}

/// Settings that were written for a new site.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NewSite {
    /// Where they are.
    file: PathBuf,
    /// The site.
    #[schemars(with = "String", extend("format" = "uuid"))]
    id: Uuid,
    /// The site's range of addresses.
    prefix: String,
}

/// Does what the command line says.
///
/// # Errors
///
/// What failed, with its exit code.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match &cli.verb {
        Verb::Gateway { force_link } => {
            let missing = || Failure::new(Code::Usage, "the service needs its settings: --settings FILE");
            return Ok(crate::gateway::run(cli.settings.as_deref().ok_or_else(missing)?, force_link)?);
        }
        Verb::State { site } => return Ok(crate::state::run(site)?),
        Verb::Kubelet(options) => {
            let path = cli.settings.as_deref().unwrap_or_else(|| Path::new(ignition::gateway::SETTINGS));
            return Ok(crate::kubelet::run(path, options)?);
        }
        Verb::Weigh(options) => return Ok(crate::weigh::run(options)?),
        Verb::Deploy(_)
        | Verb::Teardown(_)
        | Verb::List
        | Verb::Status
        | Verb::Node(_)
        | Verb::Snapshot(_)
        | Verb::Why { .. }
        | Verb::Timeline(_)
        | Verb::Fault(_)
        | Verb::Experiment(_)
        | Verb::Explain(_)
        | Verb::Image(_)
        | Verb::Config(_)
        | Verb::Site(_)
        | Verb::Deps { .. }
        | Verb::Schema { .. }
        | Verb::Man { .. }
        | Verb::Completions { .. }
        | Verb::ForceLink { .. } => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the async runtime")?;
    // An experiment puts right what it did, and a mesh that is kept goes on, whoever interrupts it.
    let sees_to_it =
        matches!(cli.verb, Verb::Experiment(Experiment::Run(_)) | Verb::Snapshot(Snapshot::Save { .. }));
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = operate(cli) => ended,
            signal = interruption(), if !sees_to_it => Err(interrupted(signal)
                .next("./teardown removes what a deployment has made so far; the cache is kept")),
        }
    });
    // Whoever interrupts does not wait for a file to be copied to its end.
    runtime.shutdown_background();
    ended
}

/// Waits for a signal that asks this process to end.
async fn interruption() -> &'static str {
    match Signals::new() {
        Ok(mut signals) => signals.next().await,
        Err(_) => std::future::pending().await,
    }
}

async fn operate(cli: Cli) -> Result<(), Failure> {
    let reporter = Reporter::new(cli.output);
    match &cli.verb {
        // clap can have all options before `libvirt` conflict with it, or none: not those alone that are not for every verb.
        Verb::Deploy(deploy) if deploy.target.is_some() && deploy.of_file != DeployFile::default() => {
            let failure =
                Failure::new(Code::Usage, "options of `deploy -f` cannot be used with `libvirt` or `usb`");
            Err(failure.next("say the options of `libvirt` and `usb` after that word"))
        }
        Verb::Deploy(deploy) => match &deploy.target {
            None if deploy.of_file.mesh.file.is_none() => {
                let failure = Failure::new(Code::Usage, "nothing says what is to be made");
                Err(failure
                    .next("`deploy libvirt 4`, `deploy usb FILE`, or `deploy -f FILE` with a mesh in a file"))
            }
            None => {
                let common = deploy.of_file.clone();
                let options = DeployLibvirt { machines: None, specs: Specs::default(), common };
                mesh::deploy(&cli, &options, &reporter).await
            }
            Some(DeployTarget::Libvirt(options)) => mesh::deploy(&cli, options, &reporter).await,
            Some(DeployTarget::Usb(options)) => disk(&cli, options, &reporter).await,
        },
        Verb::Image(Image::Disk(options)) => disk(&cli, options, &reporter).await,
        Verb::Teardown(_) => teardown::run(&directory(&cli)?, &reporter).await.map(drop),
        Verb::List => list::run(&cli.cluster, &reporter).await,
        Verb::Node(verb) => node::run(&deployed(&cli)?, verb, &reporter).await,
        Verb::Snapshot(verb) => snapshot::run(&deployed(&cli)?, verb, &reporter).await,
        Verb::Status => {
            let directory = directory(&cli)?;
            fault::tend(&directory, &reporter).await;
            status::run(&directory, &reporter).await
        }
        Verb::Fault(Fault::Keep) => Ok(fault::keeper::run(&directory(&cli)?).await?),
        Verb::Fault(words) => fault::run(&deployed(&cli)?, words, &reporter).await,
        Verb::Experiment(verb) => experiment::run(&deployed(&cli)?, verb, &reporter).await,
        Verb::Why { target } => why::run(&directory(&cli)?, target, &reporter).await,
        Verb::Timeline(options) => timeline::run(&directory(&cli)?, options, &reporter).await,
        Verb::Explain(options) => explain::run(options, cli.settings.as_deref(), &reporter).await,
        Verb::Image(Image::Build(options)) => {
            let context = context(&cli, image_flags(given(&cli)?, options))?;
            image::build(&context, options, &reporter).await
        }
        Verb::Image(Image::List) => image::list(&cache(&cli)?, &reporter),
        Verb::Image(Image::Load { files }) => image::load(&cache(&cli)?, files, &reporter),
        Verb::Image(Image::Pull { images }) => {
            image::pull(&context(&cli, given(&cli)?)?, images, &reporter).await
        }
        Verb::Image(Image::Missing) => image::missing(&context(&cli, given(&cli)?)?, &reporter),
        Verb::Image(Image::Sbom { spdx }) => image::sbom(&cache(&cli)?, *spdx, &reporter),
        Verb::Image(Image::Rm { images }) => image::remove(&cache(&cli)?, images, &reporter),
        Verb::Image(Image::Save { images, to }) => {
            image::save(&cache(&cli)?, images, to.as_deref(), &reporter)
        }
        Verb::Image(Image::Verify) => image::verify(&cache(&cli)?, &reporter),
        Verb::Config(Config::Check) => {
            context(&cli, given(&cli)?)?;
            reporter.result(&Good::ANSWER, "the settings are good");
            Ok(())
        }
        Verb::Config(Config::Example) => {
            progress::out(settings::example().trim_end());
            Ok(())
        }
        Verb::Config(Config::Show) => mesh::show(&directory(&cli)?, &reporter),
        Verb::Config(Config::Schema) => {
            progress::out(&meshfile::schema());
            Ok(())
        }
        Verb::Site(Site::New { file }) => new_site(file, &reporter),
        Verb::Deps { install_deps } => {
            let context = context(&cli, given(&cli)?)?;
            let mut missing = deps::missing_for_libvirt(context.settings.libvirt.cpus).await;
            missing.extend(image::missing_tools(&context.settings));
            deps::provide(&missing, *install_deps, &reporter).await?;
            reporter.result(&Good::ANSWER, "nothing is missing");
            Ok(())
        }
        Verb::Schema { words } => answers::run(words, &reporter),
        Verb::Man { directory } => crate::manual::pages(directory, &reporter),
        Verb::Completions { shell } => crate::manual::completions(*shell),
        Verb::ForceLink { ports, undo } => {
            let path = cli.settings.as_deref().unwrap_or_else(|| Path::new(ignition::gateway::SETTINGS));
            force::run(path, ports, *undo, &reporter)
        }
        Verb::Gateway { .. } | Verb::State { .. } | Verb::Kubelet(_) | Verb::Weigh(_) => {
            unreachable!("services have a runtime of their own")
        }
    }
}

async fn disk(cli: &Cli, options: &DeployUsb, reporter: &Reporter) -> Result<(), Failure> {
    let context = context(cli, usb_flags(given(cli)?, options))?;
    deploy::usb::run(&context, options, reporter).await
}

/// What the settings file and the environment say.
fn given(cli: &Cli) -> Result<Raw, Failure> {
    let raw = match &cli.settings {
        Some(path) => read_settings(path)?,
        None if Path::new(DEFAULT_SETTINGS).exists() => read_settings(Path::new(DEFAULT_SETTINGS))?,
        None => Raw::default(),
    };
    Ok(raw.with_variables(variables()))
}

/// What the environment says. A variable that is not text is none of ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A deployment that is there, with the settings that it was made by.
fn deployed(cli: &Cli) -> Result<Context, Failure> {
    let path = directory(cli)?.settings();
    let raw = if path.exists() { read_settings(&path)? } else { Raw::default() };
    context(cli, raw)
}

fn read_settings(path: &Path) -> Result<Raw, Failure> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings in {}", path.display()))
        .or_fail(Code::Config)?;
    Ok(Raw::from_toml(&text, path))
}

fn context(cli: &Cli, raw: Raw) -> Result<Context, Failure> {
    let profile = cli.profile.clone();
    let raw = profile.iter().fold(raw, |raw, profile| profile.settings_under(raw));
    let settings = Settings::from_raw(raw.clone())
        .or_fail(Code::Config)
        .map_err(|failure| failure.next("`meshboot config example` shows every setting with its default"))?;
    Ok(Context { raw, settings, profile, directory: directory(cli)?, cache: cache(cli)? })
}

fn directory(cli: &Cli) -> Result<Directory, Failure> {
    directory_of(cli, cli.profile.as_ref())
}

/// Where the files of a profile are.
fn directory_of(cli: &Cli, profile: Option<&ProfileName>) -> Result<Directory, Failure> {
    Directory::new(&profile::directory(&cli.cluster, profile)).or_fail(Code::Data)
}

/// `$XDG_CACHE_HOME/meshboot`, else `~/.cache/meshboot`; root without a home keeps it with the system's.
fn cache(cli: &Cli) -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || variable("HOME").map(|home| home.join(".cache"));
    let users = variable("XDG_CACHE_HOME").or_else(home).unwrap_or_else(|| PathBuf::from("/var/cache"));
    let path = cli.cache.clone().unwrap_or_else(|| users.join("meshboot"));
    std::path::absolute(&path)
        .with_context(|| format!("cannot tell where the cache {} is", path.display()))
        .or_fail(Code::Data)
}

fn image_flags(raw: Raw, options: &ImageOptions) -> Raw {
    raw.with_flag("kubernetes.source", "--kubernetes", options.kubernetes.as_deref())
        .with_flag("kubernetes.cni", "--cni", options.cni.as_deref())
        .with_flag("image.suite", "--suite", options.suite.as_deref())
        .with_flag("image.mirror", "--mirror", options.mirror.as_deref())
        .with_flags("image.packages", "--package", &options.package)
        .with_flags("image.kernel-arguments", "--kernel-argument", &options.kernel_argument)
}

fn usb_flags(raw: Raw, options: &DeployUsb) -> Raw {
    image_flags(raw, &options.images)
        .with_flag("usb.uplink", "--uplink", options.uplink.as_deref())
        .with_flag("usb.size", "--size", options.size.as_deref())
        .with_flag("mirrors.ask", "--offline", options.offline.then_some("nobody"))
}

/// Settings of a site with addresses of its own: a random 40-bit global id `[RFC 4193 § 3.2.2]`. Its first /64 is
/// the anycast prefix, its second half is for machines.
fn new_site(file: &Path, reporter: &Reporter) -> Result<(), Failure> {
    let [_, a, b, c, d, e, ..] = *Uuid::new_v4().as_bytes();
    let prefix = LocalPrefix([a, b, c, d, e]);
    let id = Uuid::new_v4();
    let text = format!(
        "# The settings of one meshboot site; `meshboot config example` shows every other.\n\n\
         [site]\nid = \"{id}\"\n\n\
         [addresses]\nanycast = \"{}\"\nmachines = \"{}\"\n",
        prefix.anycast(),
        prefix.machines()
    );
    if file == Path::new("-") {
        progress::out(text.trim_end());
        return Ok(());
    }
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(file);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display())).or_fail(Code::CannotCreate)?;
    let made = NewSite { file: file.to_owned(), id, prefix: prefix.to_string() };
    reporter.result(&made, &format!("{} has the site {id} with {prefix}", file.display()));
    Ok(())
}

/// Tells a failure and gives its exit code.
#[must_use]
pub fn report(output: Output, failure: &Failure) -> std::process::ExitCode {
    progress::report_failure(output, failure);
    failure.code.into()
}
