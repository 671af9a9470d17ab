//! How processors of virtual machines are made: by the computer's own (KVM) or in software (TCG).
//!
//! The presence of `/dev/kvm` says nothing: nested virtualisation can offer it and die at the first
//! instructions of any firmware. So a guest of 200 octets is started and must come through.

use std::fmt;
use std::io::{self, Write as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{Invocation, RunError};

/// The emulator of the machines.
pub const EMULATOR: &str = "qemu-system-x86_64";
/// First QEMU that emulates two processors soundly: 7.2 corrupts a guest's flags between them.
pub const FIRST_SOUND_SMP: QemuVersion = QemuVersion { major: 8, minor: 0 };

/// A guest that does not come through in this time never will; a hypervisor that works needs milliseconds.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// What isa-debug-exit makes of the 0x2a that the guest writes.
const PROBE_PASSED: i32 = 0x2a * 2 + 1;
const ROM_SIZE: usize = 0x1_0000;
const RESET_VECTOR: usize = 0xfff0;
/// `jmp _start`, from the reset vector.
const PROBE_RESET: [u8; 3] = [0xe9, 0x0d, 0x00];
/// The guest: see `accel/probe.s`.
const PROBE_CODE: [u8; 214] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbf, 0x00, 0x10, 0x66, 0xc7, 0x05, 0x03, 0x20, 0x00, 0x00, 0x66, 0xc7,
    0x45, 0x04, 0x00, 0x00, 0x00, 0x00, 0xbf, 0x00, 0x20, 0x66, 0xc7, 0x05, 0x03, 0x30, 0x00, 0x00, 0x66,
    0xc7, 0x45, 0x04, 0x00, 0x00, 0x00, 0x00, 0x66, 0xc7, 0x45, 0x18, 0x03, 0x40, 0x00, 0x00, 0x66, 0xc7,
    0x45, 0x1c, 0x00, 0x00, 0x00, 0x00, 0xbf, 0x00, 0x30, 0x66, 0xc7, 0x05, 0x83, 0x00, 0x00, 0x00, 0x66,
    0xc7, 0x45, 0x04, 0x00, 0x00, 0x00, 0x00, 0xbf, 0xf8, 0x4f, 0x66, 0xc7, 0x05, 0x83, 0x00, 0xe0, 0xff,
    0x66, 0xc7, 0x45, 0x04, 0x00, 0x00, 0x00, 0x00, 0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8,
    0x66, 0xb8, 0x20, 0x00, 0x00, 0x00, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32,
    0x66, 0x0d, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x30, 0x2e, 0x66, 0x0f, 0x01, 0x16, 0xd0, 0x00, 0x66, 0xb8,
    0x11, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x97, 0x00, 0xff, 0xff, 0x08, 0x00, 0x31, 0xdb,
    0x48, 0xb8, 0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0xb9, 0xe8, 0x03, 0x00, 0x00, 0x48, 0x01,
    0xc3, 0xe2, 0xfb, 0xb8, 0x2a, 0x00, 0x00, 0x00, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd, 0x90, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9b, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x93, 0x00, 0x00, 0x17, 0x00, 0xb8, 0x00, 0xff, 0xff,
];

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
    /// The guest could not be written.
    #[error("cannot write the guest that probes for KVM")]
    Write(#[source] io::Error),
    /// The answer makes no sense.
    #[error("`{EMULATOR} --version` answers `{answer}`, which names no version")]
    NoVersion {
        /// Its first line.
        answer: String,
    },
}

/// Finds out by starting a guest.
///
/// # Errors
///
/// [`ProbeError`] if no guest could even be started; a guest that dies is an answer.
pub async fn probe() -> Result<Probe, ProbeError> {
    let reason = if std::path::Path::new("/dev/kvm").exists() {
        match start_guest(Accel::Kvm).await {
            Ok(()) => return Ok(Probe { accel: Accel::Kvm, reason: None }),
            Err(GuestError::Died(reason)) => format!("/dev/kvm is there, but a guest died: {reason}"),
            Err(GuestError::NotStarted(error)) => return Err(error),
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

enum GuestError {
    Died(String),
    NotStarted(ProbeError),
}

async fn start_guest(accel: Accel) -> Result<(), GuestError> {
    let rom = rom_file().map_err(|error| GuestError::NotStarted(ProbeError::Write(error)))?;
    let (machine, cpu) = match accel {
        Accel::Kvm => ("q35,accel=kvm", "host"),
        Accel::Tcg => ("q35,accel=tcg", "max"),
    };
    let outcome = Invocation::new(EMULATOR, PROBE_LIMIT)
        .args(["-machine", machine, "-cpu", cpu, "-smp", "2", "-m", "16", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-bios"])
        .args([rom.path()])
        .outcome()
        .await;
    match outcome {
        Ok(outcome) if outcome.code == Some(PROBE_PASSED) => Ok(()),
        Ok(outcome) => Err(GuestError::Died(outcome.stderr.lines().next().unwrap_or("silently").to_owned())),
        Err(RunError::Timeout { limit, .. }) => {
            Err(GuestError::Died(format!("it made no way in {} s", limit.as_secs())))
        }
        Err(error) => Err(GuestError::NotStarted(error.into())),
    }
}

fn rom_file() -> io::Result<tempfile::NamedTempFile> {
    let mut rom = vec![0; ROM_SIZE];
    rom[..PROBE_CODE.len()].copy_from_slice(&PROBE_CODE);
    rom[RESET_VECTOR..RESET_VECTOR + PROBE_RESET.len()].copy_from_slice(&PROBE_RESET);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&rom)?;
    Ok(file)
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
