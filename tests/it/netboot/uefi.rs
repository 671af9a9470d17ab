//! Computers with real firmware, from their button to a boot file that runs: EDK2 as Debian has it, by PXE and by HTTP
//! boot, and what people put in between, iPXE and GRUB.
//!
//! Each says how long it took: `cargo xtask firmware`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh::Stage;
use tests::debian::unpacked;
use tests::uefi::{Board, Computer, enrol};

use super::lab::{Lab, NEAR};
use super::served::digest;

const BOOKWORM: Board = Board::X64 { suite: "bookworm" };
const TRIXIE: Board = Board::X64 { suite: "trixie" };
/// An emulated processor is slow, and firmware tries HTTP over IPv4 first.
const LIMIT: Duration = Duration::from_secs(280);
/// What iPXE says first.
const IPXE: &str = "iPXE initialising devices";

/// A computer that has loaded its boot file.
struct Booted {
    lab: Lab,
    computer: Computer,
    /// When its firmware had the whole file.
    loaded: Instant,
}

impl Booted {
    /// Boots a computer from a file.
    fn from(name: &str, board: Board, pxe: bool, file: &Path) -> Result<Self> {
        Self::in_lab(Lab::without_cable(name)?, name, board, pxe, file)
    }

    fn in_lab(lab: Lab, name: &str, board: Board, pxe: bool, file: &Path) -> Result<Self> {
        fs::write(lab.path("level"), "debug")?;
        let boot_file = match board {
            Board::X64 { .. } => "node.efi",
            Board::Arm64 { .. } => "node-arm64.efi",
        };
        fs::copy(file, lab.path(boot_file)).with_context(|| format!("copying {}", file.display()))?;
        let size = fs::metadata(file)?.len();
        lab.tap()?;
        lab.serve()?;
        let begun = Instant::now();
        let mut computer = Computer::start(&lab.near, "near0", board, pxe, Path::new(&lab.path("")))?;
        lab.wait_for("carrier", |lab| Ok(lab.status()?.stage != Stage::Dark))?;
        let carrier = begun.elapsed();
        lab.wait_within(LIMIT, "the first question", |lab| {
            computer.console()?;
            Ok(lab.status()?.stage > Stage::Carrier)
        })?;
        let asked = Instant::now();
        lab.wait_within(LIMIT, "the boot file", |lab| {
            computer.console()?;
            Ok(lab.status()?.bytes >= size)
        })?;
        let loaded = Instant::now();
        let (link, dhcp) = (begun.elapsed().saturating_sub(carrier), asked.elapsed());
        eprintln!(
            "{name}: {board:?}, {}: link-up to file loaded {link:.1?}, of it from its first DHCPv6 question {dhcp:.1?}",
            if pxe { "PXE" } else { "HTTP boot" }
        );
        Ok(Self { lab, computer, loaded })
    }

    /// Waits until its console has some words; says how long after the file was loaded.
    fn says(&mut self, words: &str) -> Result<Duration> {
        let Self { lab, computer, loaded } = self;
        lab.wait_within(LIMIT, words, |_| Ok(computer.console()?.contains(words)))
            .with_context(|| format!("the console says: {}", computer.console().unwrap_or_default()))?;
        Ok(loaded.elapsed())
    }
}

/// iPXE for EFI, a small boot file that says something when it runs.
fn ipxe(suite: &str) -> Result<std::path::PathBuf> {
    Ok(unpacked(suite, "ipxe")?.join("usr/lib/ipxe/snponly.efi"))
}

/// PXE to iPXE, and by that to a file.
fn pxe_and_then_ipxe(name: &str, suite: &'static str) -> Result<()> {
    let mut booted = Booted::from(name, Board::X64 { suite }, true, &ipxe(suite)?)?;
    let begun = booted.says(IPXE)?;
    let loaded = booted.says("/boot/node.efi... ok")?;
    eprintln!("iPXE of {suite}: {:.1?} from its first word to its file", loaded.saturating_sub(begun));
    Ok(())
}

#[test]
#[ignore = "an emulated computer takes a minute"]
fn pxe_of_bookworm_and_then_ipxe() -> Result<()> {
    pxe_and_then_ipxe("uepxe12", "bookworm")
}

#[test]
#[ignore = "an emulated computer takes a minute"]
fn pxe_of_trixie_and_then_ipxe() -> Result<()> {
    pxe_and_then_ipxe("uepxe13", "trixie")
}

#[test]
#[ignore = "an emulated computer takes two minutes"]
fn http_boot_of_bookworm() -> Result<()> {
    Booted::from("uehttp12", BOOKWORM, false, &ipxe("bookworm")?)?.says(IPXE).map(drop)
}

#[test]
#[ignore = "an emulated computer takes two minutes"]
fn http_boot_of_trixie() -> Result<()> {
    Booted::from("uehttp13", TRIXIE, false, &ipxe("trixie")?)?.says(IPXE).map(drop)
}

/// By HTTPS, which firmware is told nothing else of, and with a certificate that it was made to trust.
fn https_boot(name: &str, suite: &'static str) -> Result<()> {
    let lab = Lab::without_cable(name)?;
    lab.want_https()?;
    lab.certify()?;
    enrol(Path::new(&lab.path("")), &fs::read(lab.path("ca.der"))?)?;
    let mut booted = Booted::in_lab(lab, name, Board::X64 { suite }, false, &ipxe(suite)?)?;
    booted.says(&format!("https://[{NEAR}]/boot/node.efi"))?;
    booted.says(IPXE).map(drop)
}

#[test]
#[ignore = "an emulated computer takes two minutes"]
fn https_boot_of_bookworm() -> Result<()> {
    https_boot("uehttps12", "bookworm")
}

#[test]
#[ignore = "an emulated computer takes two minutes"]
fn https_boot_of_trixie() -> Result<()> {
    https_boot("uehttps13", "trixie")
}

#[test]
#[ignore = "an emulated computer takes two minutes"]
fn pxe_of_arm64_loads_its_own_file() -> Result<()> {
    let file = unpacked("trixie", "ipxe")?.join("usr/lib/ipxe/ipxe-arm64.efi");
    Booted::from("uearm64", Board::Arm64 { suite: "trixie" }, true, &file)?.says(IPXE).map(drop)
}

#[test]
#[ignore = "an emulated computer takes two minutes"]
fn http_boot_of_arm64_loads_its_own_file() -> Result<()> {
    let file = unpacked("trixie", "ipxe")?.join("usr/lib/ipxe/ipxe-arm64.efi");
    Booted::from("uehttparm64", Board::Arm64 { suite: "trixie" }, false, &file)?.says(IPXE).map(drop)
}

#[test]
#[ignore = "an emulated computer takes a minute"]
fn grub_loads_by_tftp_and_http() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let script = format!(
        "net_bootp6\nnet_ls_addr\nnet_ls_routes\ntestspeed (tftp,[{NEAR}])/node.efi\n\
         testspeed (http,[{NEAR}])/artefacts/{}\necho grub is done\nsleep 1000\n",
        digest("node.efi")
    );
    fs::write(folder.path().join("script"), script)?;
    let image = folder.path().join("grub.efi");
    let output = Command::new(unpacked("bookworm", "grub-common")?.join("usr/bin/grub-mkimage"))
        .arg("-d")
        .arg(unpacked("bookworm", "grub-efi-amd64-bin")?.join("usr/lib/grub/x86_64-efi"))
        .args(["-O", "x86_64-efi", "-p", "/", "-c"])
        .arg(folder.path().join("script"))
        .arg("-o")
        .arg(&image)
        .args(["efinet", "net", "tftp", "http", "echo", "testspeed", "sleep"])
        .output()?;
    ensure!(output.status.success(), "grub-mkimage: {}", String::from_utf8_lossy(&output.stderr));
    let mut booted = Booted::from("uegrub", BOOKWORM, true, &image)?;
    booted.says("grub is done")?;
    let console = booted.computer.console()?;
    eprintln!("{}", console.lines().filter(|line| line.contains("Speed: ")).collect::<Vec<_>>().join("\n"));
    ensure!(console.matches("Speed: ").count() == 2 && !console.contains("error"), "{console}");
    Ok(())
}
