//! A computer with real firmware at the far end of a cable: QEMU, whose network port is a tap in the near machine.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::debian::unpacked;
use crate::netns::Namespace;

/// The Ethernet address of its port.
pub const MAC: &str = "02:00:00:00:00:02";

/// Where authorities are enrolled: an EFI_SIGNATURE_LIST `[UEFI 2.10 § 32.4.1]`, as EDK2 for virtual machines is given it.
const AUTHORITIES: &str = "authorities";
/// Says that a list is one of X.509 certificates: a5c059a1-94e4-4aa7-87b5-ab155c2bf072.
const EFI_CERT_X509_GUID: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// Who enrolled it; of no meaning.
const OWNER: [u8; 16] = [0; 16];

/// Whose firmware it is, and what processor it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Board {
    /// EDK2 for x86-64, of a Debian release.
    X64 {
        /// The release's name.
        suite: &'static str,
    },
    /// EDK2 for arm64, of a Debian release.
    Arm64 {
        /// The release's name.
        suite: &'static str,
    },
}

/// A computer that runs. It ends with this value.
#[derive(Debug)]
pub struct Computer {
    emulator: Child,
    console: PathBuf,
}

impl Computer {
    /// Puts a computer at the far end of the tap `port` of a machine, and presses its button. Its files are in `folder`,
    /// with the authorities that are enrolled in it, if there are any ([`enrol`]). If `pxe` is not wanted it boots by HTTP.
    ///
    /// # Errors
    ///
    /// The firmware is not to be had, or the emulator does not start.
    pub fn start(machine: &Namespace, port: &str, board: Board, pxe: bool, folder: &Path) -> Result<Self> {
        let (code, vars) = board.firmware()?;
        let (code, vars) = (copied(&code, folder, "code.fd")?, copied(&vars, folder, "vars.fd")?);
        let console = folder.join("console");
        let mut command = board.emulator()?;
        command.args(["-accel", "tcg", "-smp", "1", "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        let flash = |path: &Path, mode| format!("if=pflash,format=raw,{mode}file={}", path.display());
        command.arg("-drive").arg(flash(&code, "readonly=on,"));
        command.arg("-drive").arg(flash(&vars, ""));
        command.arg("-netdev").arg(format!("tap,id=mesh,ifname={port},script=no,downscript=no"));
        // The adapter's own ROM is no part of what is looked at. Newer firmware has no network without random numbers.
        command.arg("-device").arg(format!("virtio-net-pci,netdev=mesh,mac={MAC},romfile="));
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n"]);
        let authorities = folder.join(AUTHORITIES);
        if authorities.exists() {
            command.arg("-fw_cfg").arg(format!("name=etc/edk2/https/cacerts,file={}", authorities.display()));
        }
        if !pxe {
            command.args(["-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
        }
        let said = File::create(folder.join("emulator"))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).process_group(0);
        let emulator = machine.network()?.enter(move || command.spawn())?.context("starting the emulator")?;
        Ok(Self { emulator, console })
    }

    /// What it has written to its serial console.
    ///
    /// # Errors
    ///
    /// It runs no more.
    pub fn console(&mut self) -> Result<String> {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let ended = self.emulator.try_wait()?;
        ensure!(ended.is_none(), "the computer is off: {ended:?}\n{text}");
        Ok(text)
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        // Fails only when it is already gone.
        let _gone = self.emulator.kill().and_then(|()| self.emulator.wait());
    }
}

// === impl Board ===

impl Board {
    /// The firmware, and its variables as they were made.
    fn firmware(self) -> Result<(PathBuf, PathBuf)> {
        let (folder, code, vars) = match self {
            Self::X64 { suite } => {
                (unpacked(suite, "ovmf")?.join("usr/share/OVMF"), "OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd")
            }
            Self::Arm64 { suite } => (
                unpacked(suite, "qemu-efi-aarch64")?.join("usr/share/AAVMF"),
                "AAVMF_CODE.fd",
                "AAVMF_VARS.fd",
            ),
        };
        Ok((folder.join(code), folder.join(vars)))
    }

    fn emulator(self) -> Result<Command> {
        let mut command;
        match self {
            Self::X64 { .. } => {
                command = Command::new("qemu-system-x86_64");
                command.args(["-machine", "q35", "-cpu", "max", "-m", "256"]);
            }
            Self::Arm64 { .. } => {
                let folder = unpacked("bookworm", "qemu-system-arm")?;
                command = Command::new(folder.join("usr/bin/qemu-system-aarch64"));
                command.args(["-machine", "virt", "-cpu", "cortex-a72", "-m", "512"]);
            }
        }
        Ok(command)
    }
}

/// Has computers whose files are in `folder` trust an authority, whose certificate is given in DER: as people do in their
/// firmware's menu.
///
/// # Errors
///
/// The folder cannot be written to.
pub fn enrol(folder: &Path, authority: &[u8]) -> Result<()> {
    let size = |octets: usize| u32::try_from(octets).map(u32::to_le_bytes);
    let signature = size(OWNER.len() + authority.len())?;
    let list = size(EFI_CERT_X509_GUID.len() + 12 + OWNER.len() + authority.len())?;
    let parts = [&EFI_CERT_X509_GUID, &list[..], &[0; 4], &signature, &OWNER, authority];
    Ok(fs::write(folder.join(AUTHORITIES), parts.concat())?)
}

/// A copy of a firmware's file.
fn copied(from: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let to = folder.join(name);
    fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
    Ok(to)
}
