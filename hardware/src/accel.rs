//! How processors of virtual machines are made: by the computer's own (KVM) or in software (TCG).
//!
//! The presence of `/dev/kvm` says nothing: nested virtualisation can offer it, run simple guests, and die of an
//! instruction of the firmware. So the firmware itself is started and must come as far as its console.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::firmware::Firmware;
use crate::process::{First, Invocation, RunError};

/// The emulator of the machines.
pub const EMULATOR: &str = "qemu-system-x86_64";
/// First QEMU that emulates two processors soundly: 7.2 corrupts a guest's flags between them.
pub const FIRST_SOUND_SMP: QemuVersion = QemuVersion { major: 8, minor: 0 };

/// Firmware that has not come this far in this time is slower than in software, which takes some ten seconds.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// How QEMU begins to say that KVM gave a guest up; it goes on to wait for somebody who looks at it.
const GAVE_UP: &str = "KVM internal error";

/// How processors are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the computer's own.
    Kvm,
    /// In software: about ten times slower, but everywhere.
    Tcg,
}

/// What was found out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What to use.
    pub accel: Accel,
    /// Why it is not KVM.
    pub reason: Option<String>,
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QemuVersion {
    /// Its first number.
    pub major: u16,
    /// Its second number.
    pub minor: u16,
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// QEMU could not be asked.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The answer makes no sense.
    #[error("`{EMULATOR} --version` answers `{answer}`, which names no version")]
    NoVersion {
        /// Its first line.
        answer: String,
    },
}

/// Finds out by starting the firmware.
///
/// # Errors
///
/// [`ProbeError`] if no guest could even be started; a guest that dies is an answer.
pub async fn probe(firmware: &Firmware) -> Result<Probe, ProbeError> {
    let reason = if std::path::Path::new("/dev/kvm").exists() {
        match start_firmware(Accel::Kvm, firmware).await? {
            None => return Ok(Probe { accel: Accel::Kvm, reason: None }),
            Some(reason) => format!("/dev/kvm is there, but the firmware does not start with it: {reason}"),
        }
    } else {
        "there is no /dev/kvm".to_owned()
    };
    Ok(Probe { accel: Accel::Tcg, reason: Some(reason) })
}

/// The version of QEMU on this computer.
///
/// # Errors
///
/// [`ProbeError`].
pub async fn qemu_version() -> Result<QemuVersion, ProbeError> {
    let answer = Invocation::new(EMULATOR, VERSION_LIMIT).args(["--version"]).run().await?;
    QemuVersion::parse(&answer)
        .ok_or_else(|| ProbeError::NoVersion { answer: answer.lines().next().unwrap_or_default().to_owned() })
}

/// Why the firmware does not come as far as its console; none if it does.
async fn start_firmware(accel: Accel, firmware: &Firmware) -> Result<Option<String>, RunError> {
    let (machine, cpu) = match accel {
        Accel::Kvm => ("q35,accel=kvm", "host"),
        Accel::Tcg => ("q35,accel=tcg", "max"),
    };
    let flash = |path: &std::path::Path, mode| format!("if=pflash,format=raw,{mode},file={}", path.display());
    let first = Invocation::new(EMULATOR, PROBE_LIMIT)
        .args(["-machine", machine, "-cpu", cpu, "-smp", "2", "-m", "64", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio"])
        .args(["-drive".to_owned(), flash(&firmware.code, "readonly=on")])
        .args(["-drive".to_owned(), flash(&firmware.variables, "snapshot=on")])
        .first(|line| line.starts_with(GAVE_UP))
        .await;
    match first {
        Ok(First::Output) => Ok(None),
        Ok(First::Complaint(line)) => Ok(Some(line)),
        Ok(First::End { stderr }) => {
            Ok(Some(stderr.lines().next().unwrap_or("it ended silently").to_owned()))
        }
        Err(RunError::Timeout { limit, .. }) => Ok(Some(format!("it was silent for {} s", limit.as_secs()))),
        Err(error) => Err(error),
    }
}

// === impl Accel ===

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "software emulation (TCG)",
        })
    }
}

// === impl QemuVersion ===

impl QemuVersion {
    fn parse(answer: &str) -> Option<Self> {
        let (_, rest) = answer.split_once("version ")?;
        let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for QemuVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests;
