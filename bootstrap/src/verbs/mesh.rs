//! A mesh out of a file or of flags, and the file that a deployment amounts to.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hardware::virsh::DomainState;
use hardware::{Libvirt, Shape};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Context, DEFAULT_SETTINGS, cache, directory_of, given, image_flags, read_settings, variables};
use crate::cli::mesh::Specs;
use crate::cli::{Cli, DeployLibvirt};
use crate::deployment::Directory;
use crate::exit::{Code, Failure, OrFail as _};
use crate::meshfile::{Change, Draft, MeshPlan, changes_from_nothing};
use crate::node::apply;
use crate::progress::Reporter;
use crate::settings::Raw;

/// What standard input is called.
const STDIN: &str = "<stdin>";

/// What will be made or changed, or would be.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Told<'a> {
    /// Whether it is only told.
    dry_run: bool,
    /// What, in the order in which it is done.
    changes: &'a [Change],
}

/// The file that a deployment amounts to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    /// Its text.
    file: String,
}

/// `deploy libvirt` and `deploy -f`.
pub(super) async fn deploy(cli: &Cli, options: &DeployLibvirt, reporter: &Reporter) -> Result<(), Failure> {
    let common = &options.common;
    let (context, plan) = planned(cli, options)?;
    let is_file = common.mesh.file.is_some();
    if is_file && is_running(&context.directory).await? {
        let how = apply::How { dry_run: common.mesh.dry_run, yes: common.images.yes };
        return apply::run(&context, &plan, how, reporter).await;
    }
    if common.mesh.dry_run {
        crate::deploy::check::resources(&context, &plan.wanted)?;
        tell(&changes_from_nothing(&plan), true, reporter);
        return Ok(());
    }
    crate::deploy::libvirt(&context, plan, common.images.install_deps, reporter).await
}

/// `config show`.
pub(super) fn show(directory: &Directory, reporter: &Reporter) -> Result<(), Failure> {
    let deployment = directory.require()?;
    if deployment.stick.is_some() {
        let message = format!(
            "the machines of {} are real ones, and a mesh's file makes virtual ones",
            directory.text()
        );
        return Err(Failure::new(Code::Unavailable, message));
    }
    let text = MeshPlan::of(&deployment, read_settings(&directory.settings())?).to_yaml();
    reporter.result(&Shown { file: text.clone() }, &text);
    Ok(())
}

/// Says what will be done, or would be.
pub(crate) fn tell(changes: &[Change], dry_run: bool, reporter: &Reporter) {
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let text = if lines.is_empty() { "nothing differs".to_owned() } else { lines.join("\n") };
    reporter.result(&Told { dry_run, changes }, &text);
}

/// A deployment all of whose machines are made is changed; any other is for `deploy` to judge.
async fn is_running(directory: &Directory) -> Result<bool, Failure> {
    let Some(known) = directory.load().or_fail(Code::Data)?.filter(|known| known.stick.is_none()) else {
        return Ok(false);
    };
    if known.complete {
        return Ok(true);
    }
    let virsh = Libvirt::default().virsh;
    for machine in &known.machines {
        // libvirt that does not answer has no machine that runs.
        if !virsh.state(&known.domain(machine)).await.is_ok_and(|state| state != DomainState::Missing) {
            return Ok(false);
        }
    }
    Ok(!known.machines.is_empty())
}

/// The mesh that is wanted, and the settings that hold for it.
fn planned(cli: &Cli, options: &DeployLibvirt) -> Result<(Context, MeshPlan), Failure> {
    let (specs, common) = (&options.specs, &options.common);
    let is_file = common.mesh.file.is_some();
    let draft = draft(options)?;
    let named = if is_file { draft.name() } else { None };
    let profile = cli.profile.clone().or(named);
    // A file says all of it: settings that merely lie about are another mesh's.
    let raw = if is_file {
        let under = cli.settings.as_deref().map(read_settings).transpose()?;
        draft.settings_over(under.unwrap_or_default()).with_variables(variables())
    } else {
        draft.settings_over(given(cli)?)
    };
    let raw = flags(raw, options);
    let raw = profile.iter().fold(raw, |raw, profile| profile.settings_under(raw));
    let (mut plan, settings) = draft.plan(raw).or_fail(Code::Config).map_err(|failure| {
        failure.next(if is_file {
            "`meshboot config schema` says what may stand in a mesh's file"
        } else {
            "`meshboot config example` shows every setting with its default"
        })
    })?;
    plan.name.clone_from(&profile);
    let nodes = plan.wanted.machines.len().saturating_sub(1);
    if let (Some(file), Some(wanted)) = (topology_file(specs), options.machines)
        && usize::from(wanted) != nodes
    {
        let message =
            format!("{} has {nodes} machines besides the seed, and {wanted} are asked for", file.display());
        return Err(Failure::new(Code::Usage, message).next("leave the number away"));
    }
    let directory = directory_of(cli, profile.as_ref())?;
    let context = Context { raw: plan.settings.clone(), settings, profile, directory, cache: cache(cli)? };
    Ok((context, plan))
}

fn draft(options: &DeployLibvirt) -> Result<Draft, Failure> {
    let specs = &options.specs;
    if let Some(path) = &options.common.mesh.file {
        if Path::new(DEFAULT_SETTINGS).exists() {
            tracing::info!("{DEFAULT_SETTINGS} is not read: the mesh's file has its settings");
        }
        return read(path);
    }
    if let Some(path) = topology_file(specs) {
        return Ok(read(&path)?.machines_alone().with_specs(specs));
    }
    let missing = || Failure::new(Code::Usage, "how many machines? `deploy libvirt N`, besides the seed");
    Ok(Draft::of_machines(options.machines.ok_or_else(missing)?).with_specs(specs))
}

/// The file that `--topology` names, if it names none of the usual shapes.
fn topology_file(specs: &Specs) -> Option<PathBuf> {
    let text = specs.topology.as_deref().filter(|text| text.parse::<Shape>().is_err())?;
    let path = PathBuf::from(text);
    (path.exists() || text.contains(['/', '.'])).then_some(path)
}

fn flags(raw: Raw, options: &DeployLibvirt) -> Raw {
    let specs = &options.specs;
    let shape = specs.topology.as_deref().filter(|_| topology_file(specs).is_none());
    image_flags(raw, &options.common.images)
        .with_flag("libvirt.seed-memory", "--seed-memory", specs.seed_memory.as_deref())
        .with_flag("libvirt.topology", "--topology", shape)
        .with_flag("libvirt.timeout", "--timeout", options.common.timeout.as_deref())
}

fn read(path: &Path) -> Result<Draft, Failure> {
    let what = || format!("cannot read the mesh in {}", path.display());
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).with_context(what).or_fail(Code::Config)?;
        return Ok(Draft::parse(STDIN, &text));
    }
    let text = std::fs::read_to_string(path).with_context(what).or_fail(Code::Config)?;
    Ok(Draft::parse(&path.display().to_string(), &text))
}
