//! `meshboot explain`: what is answered on a port, or to recorded packets, and why.
//!
//! Nothing is written, allocated or sent. The answers are those of the very cores that serve: see [`cores`]. Start with
//! [`port`] for a port of this machine, and with [`replay`] for a recording.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use mesh::Ledger;
use netboot_proto::FileName;
use netboot_server::Arch;

use crate::cli;
use crate::exit::{Code, Failure, OrFail as _};
use crate::gateway::artefacts::Artefacts;
use crate::gateway::content::boot_file_name;
use crate::gateway::netboot_config;
use crate::gateway::settings::GatewaySettings;
use crate::progress::Reporter;

use self::capture::CaptureError;
use self::replay::Player;
use self::scene::Scene;

pub mod ask;
pub mod capture;
pub mod cores;
pub mod port;
pub mod replay;
pub mod scene;
pub mod verdict;

/// Explains what the command line says, with the settings of a gateway: the given ones, or this machine's.
///
/// # Errors
///
/// There are no settings where some are needed, no such port, or the recording cannot be read.
pub async fn run(
    options: &cli::Explain,
    settings: Option<&Path>,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let own = Path::new(ignition::gateway::SETTINGS);
    let name = options.port.as_deref().or(options.of_port.as_deref());
    if let Some(file) = &options.pcap {
        let settings = settings.or_else(|| own.exists().then_some(own));
        let (scene, example) = match (settings, name) {
            (Some(path), name) => (scene_of(path, name)?, false),
            (None, None) => (Scene::example(), true),
            (None, Some(_)) => {
                let message = "a port is one of a machine's: --settings FILE says of which";
                return Err(Failure::new(Code::Usage, message));
            }
        };
        return explain_file(file, scene, example, reporter);
    }
    let name = name.ok_or_else(|| Failure::new(Code::Usage, "name a port, or a recording by --pcap FILE"))?;
    port::run(settings.unwrap_or(own), name, reporter).await
}

/// The link at a port of the machine that has these settings, or at its first one, with every boot file that they name.
fn scene_of(path: &Path, name: Option<&str>) -> Result<Scene, Failure> {
    let settings = GatewaySettings::read(path).or_fail(Code::Unavailable)?;
    let config = netboot_config(&settings, &Ledger::default()).or_fail(Code::Config)?;
    let port = match name {
        Some(name) => scene::port_named(&settings.machine, name, path)?,
        None => settings.machine.ports.first().ok_or_else(|| {
            Failure::new(Code::Config, format!("the machine in {} has no ports", path.display()))
        })?,
    };
    Ok(Scene::of_port(&settings, &config, boot_files(&settings, |_| true), port))
}

/// The boot files of these settings that are there.
fn boot_files(
    settings: &GatewaySettings,
    is_there: impl Fn(&str) -> bool,
) -> BTreeMap<Arch, (FileName, u64)> {
    let file = |arch: Arch| {
        let uki = settings.boot.uki.get(&arch.to_string()).filter(|uki| is_there(&uki.sha256))?;
        Some((arch, (boot_file_name(arch)?, uki.size)))
    };
    Arch::ALL.into_iter().filter_map(file).collect()
}

/// Those that this machine has.
fn boot_files_here(settings: &GatewaySettings) -> BTreeMap<Arch, (FileName, u64)> {
    let artefacts = Artefacts::new(settings.artefact_folders.clone(), None, Vec::new());
    boot_files(settings, |sha256| artefacts.find(sha256).is_some())
}

fn explain_file(path: &Path, scene: Scene, example: bool, reporter: &Reporter) -> Result<(), Failure> {
    let what = || format!("cannot explain {}", path.display());
    let file = File::open(path).with_context(what).or_fail(Code::Data)?;
    let mut player = Player::new(scene, example);
    let read = capture::read(file, |packet| player.hear(&packet));
    if let Err(error) = read {
        let (code, next) = match &error {
            CaptureError::Read(_) => (Code::Io, None),
            CaptureError::LinkType(_) | CaptureError::Foreign => {
                (Code::Data, Some("record it with `tcpdump -i PORT -w FILE`"))
            }
            CaptureError::Truncated(_) => {
                (Code::Data, Some("end tcpdump before the file is copied; -U writes each packet at once"))
            }
            CaptureError::Damaged(_) | CaptureError::Large(_) => (Code::Data, None),
        };
        let failure = Failure { code, error: anyhow::Error::new(error).context(what()), next: None };
        return Err(match next {
            Some(next) => failure.next(next),
            None => failure,
        });
    }
    let replay = player.finish();
    reporter.result(&replay, &replay.text());
    Ok(())
}

#[cfg(test)]
mod tests;
