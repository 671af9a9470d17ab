//! `meshboot force-link`: the operator's word that a port is to be served whatever is wrong with its link.
//!
//! It stands in the gateway's settings on the machine itself, and a running gateway reads it there again when it is
//! told to. It is the machine's own: no neighbour inherits it. A machine's settings are made anew when it boots, so it
//! lasts until then; what a seed shall do after every boot is `usb.forced-links` of the site's settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use netboot_server::GatewayHandle;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::settings::GatewaySettings;
use crate::exit::{Code, Failure, OrFail as _};
use crate::private_file;
use crate::progress::Reporter;

/// The service that reads the settings again.
const UNIT: &str = "meshboot-gateway.service";

/// What is forced on this machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Forced {
    /// The ports that are served whatever is wrong, by name or Ethernet address.
    forced_links: BTreeSet<String>,
}

/// Writes down that `ports` are forced, or no longer are, and has the running gateway obey.
///
/// # Errors
///
/// This is no machine of a mesh, or its gateway does not hear.
pub fn run(settings: &Path, ports: &[String], undo: bool, reporter: &Reporter) -> Result<(), Failure> {
    let known = GatewaySettings::read(settings).or_fail(Code::Unavailable).map_err(|failure| {
        failure.next("force-link is for the machine that the port belongs to: log in there, as root")
    })?;
    let mut forced = known.forced_links.clone();
    if undo {
        forced.retain(|port| !ports.contains(port));
    } else {
        forced.extend(ports.iter().cloned());
    }
    let changed = GatewaySettings { forced_links: forced.clone(), ..known };
    write(settings, &changed).or_fail(Code::Io)?;
    tell_gateway().or_fail(Code::Unavailable).map_err(|failure| {
        failure.next(format!("the settings are changed: restart {UNIT}, or send its process SIGHUP"))
    })?;
    let text = match forced.len() {
        0 => "no link is forced: each is served as it is judged".to_owned(),
        _ => format!("served whatever is wrong: {}", forced.iter().cloned().collect::<Vec<_>>().join(", ")),
    };
    reporter.result(&Forced { forced_links: forced }, &text);
    Ok(())
}

/// They hold secrets.
fn write(path: &Path, settings: &GatewaySettings) -> Result<()> {
    let text = serde_json::to_vec_pretty(settings).context("cannot write the settings as JSON")?;
    private_file::replace(path, &text)
}

fn tell_gateway() -> Result<()> {
    let mut command = Command::new("systemctl");
    let output =
        command.args(["reload", UNIT]).stdin(Stdio::null()).output().context("cannot start systemctl")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    anyhow::ensure!(output.status.success(), "systemctl reload {UNIT}: {said}");
    Ok(())
}

/// Obeys what the settings say of forced links, whenever this process is told to read them again. The ports in `always`
/// are forced in any case.
///
/// # Errors
///
/// The signal cannot be listened for.
pub fn follow(
    path: PathBuf,
    always: Vec<String>,
    netboot: GatewayHandle,
) -> Result<impl Future<Output = ()>> {
    let mut told = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    Ok(async move {
        while told.recv().await.is_some() {
            match GatewaySettings::read(&path) {
                Ok(GatewaySettings { mut forced_links, .. }) => {
                    forced_links.extend(always.iter().cloned());
                    tracing::info!(?forced_links, "the settings were read again");
                    netboot.force(forced_links).await;
                }
                Err(error) => tracing::warn!("the settings stay as they were: {error:#}"),
            }
        }
    })
}
