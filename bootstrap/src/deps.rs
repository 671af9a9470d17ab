//! What has to be installed on this computer: found out, said, and installed on demand.
//!
//! Debian and Ubuntu only: elsewhere the names of programs are told, which any package manager can look up.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use hardware::accel::{self, FIRST_SOUND_SMP};
use hardware::firmware::Firmware;
use hardware::plan::Size;
use hardware::process::{Invocation, find};
use hardware::{Accel, host};

use crate::exit::{Code, Failure, OrFail as _};
use crate::progress::Reporter;

/// Downloading and unpacking some hundred MB of packages.
const INSTALL_LIMIT: Duration = Duration::from_mins(30);
const OS_RELEASE: &str = "/etc/os-release";
/// The file that backports are named in, if no other file names them.
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/meshboot-backports.sources";

/// Something that is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// What it is, for people: a program or a file.
    pub what: String,
    /// The package of Debian and Ubuntu that has it.
    pub package: String,
    /// Whether the package has to come from Debian's backports.
    pub from_backports: bool,
}

/// The distribution of this computer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Its name, as `debian`.
    pub id: String,
    /// The names of those that it is like.
    pub like: Vec<String>,
    /// The name of its release, as `bookworm`.
    pub codename: String,
}

/// Programs that virtual machines need, and their packages.
const LIBVIRT_PROGRAMS: [(&str, &str); 5] = [
    ("virsh", "libvirt-clients"),
    ("libvirtd", "libvirt-daemon-system"),
    ("virtlogd", "libvirt-daemon-system"),
    ("ssh-keygen", "openssh-client"),
    (accel::EMULATOR, "qemu-system-x86"),
];

/// What virtual machines lack here.
pub async fn missing_for_libvirt(cpus: Option<u16>) -> Vec<Missing> {
    let missing = |what: &str, package: &str| Missing {
        what: what.to_owned(),
        package: package.to_owned(),
        from_backports: false,
    };
    let distribution = Distribution::of_this_computer();
    let programs = LIBVIRT_PROGRAMS.iter().filter(|(program, _)| find(program).is_none());
    let mut all: Vec<Missing> = programs.map(|(program, package)| missing(program, package)).collect();
    if Firmware::find().is_none() {
        all.push(missing("OVMF, the UEFI firmware of virtual machines", "ovmf"));
    }
    let old_suite = distribution.codename == "bookworm";
    match unsound_emulator(cpus.unwrap_or(Size::USUAL_CPUS)).await {
        Some(what) => all.push(Missing { from_backports: old_suite, ..missing(&what, "qemu-system-x86") }),
        None => {
            // What Debian 12 itself would install cannot emulate two processors.
            let emulator = all.iter_mut().find(|missing| missing.what == accel::EMULATOR);
            if let Some(emulator) = emulator.filter(|_| old_suite) {
                emulator.from_backports = true;
            }
        }
    }
    all
}

/// Why the emulator that is installed will not do, if it will not.
async fn unsound_emulator(cpus: u16) -> Option<String> {
    let version = accel::qemu_version().await.ok()?;
    if cpus < 2 || version >= FIRST_SOUND_SMP {
        return None;
    }
    // Without firmware KVM cannot be tried; a newer QEMU is right with and without it.
    let accel = match Firmware::find() {
        Some(firmware) => accel::probe(&firmware).await.ok()?.accel,
        None => Accel::Tcg,
    };
    (accel == Accel::Tcg).then(|| {
        format!(
            "QEMU {FIRST_SOUND_SMP} or later (QEMU {version} is installed, which cannot emulate {cpus} processors \
             soundly, and there is no KVM here)"
        )
    })
}

/// What making images lacks here.
#[must_use]
pub fn missing_for_images(from_source: bool) -> Vec<Missing> {
    let tools = images::tools::missing_tools(from_source).into_iter();
    tools
        .map(|tool| Missing {
            what: tool.program.to_owned(),
            package: tool.package.to_owned(),
            from_backports: false,
        })
        .collect()
}

/// Makes sure that nothing is missing: installs it if `install` says so, and else says what to install.
///
/// # Errors
///
/// Something is missing, or could not be installed.
pub async fn provide(missing: &[Missing], install: bool, reporter: &Reporter) -> Result<(), Failure> {
    if missing.is_empty() {
        return Ok(());
    }
    let distribution = Distribution::of_this_computer();
    let names: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
    let lacks = format!("this computer lacks {}", names.join(", "));
    if !distribution.has_apt() {
        let packages = "install them with this system's package manager";
        return Err(Failure::new(Code::Unavailable, lacks).next(packages));
    }
    let mut commands = commands(missing, &distribution);
    let needs_source = missing.iter().any(|missing| missing.from_backports);
    if needs_source && !backports_are_known(&distribution).await {
        let archive = archive().await.unwrap_or_else(|| "ARCHIVE".to_owned());
        let source = format!("deb {archive} {}-backports main", distribution.codename);
        commands.insert(0, format!("echo '{source}' >/etc/apt/sources.list.d/backports.list"));
    }
    if !install {
        let next = format!("run again with --install-deps, or: {}", commands.join(" && "));
        return Err(Failure::new(Code::Unavailable, lacks).next(next));
    }
    if !host::is_root() {
        let reason = format!("{lacks}, and only root can install it");
        return Err(
            Failure::new(Code::NoPermission, reason).next(format!("as root: {}", commands.join(" && ")))
        );
    }
    reporter.stage("packages");
    install_all(missing, &distribution, reporter).await.or_fail(Code::Unavailable)
}

async fn install_all(missing: &[Missing], distribution: &Distribution, reporter: &Reporter) -> Result<()> {
    if missing.iter().any(|missing| missing.from_backports) && !backports_are_known(distribution).await {
        reporter.line(&format!("naming {}-backports in {BACKPORTS_FILE}", distribution.codename));
        let archive = archive().await.context("apt knows no archive of Debian: name one in its sources")?;
        std::fs::write(BACKPORTS_FILE, backports_source(distribution, &archive))
            .with_context(|| format!("cannot write {BACKPORTS_FILE}"))?;
    }
    reporter.line("apt-get update");
    apt(["update"]).await?;
    for (target, packages) in by_target(missing, distribution) {
        reporter.line(&format!("apt-get install {}", packages.join(" ")));
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        if let Some(target) = &target {
            arguments.extend(["--target-release", target]);
        }
        arguments.extend(packages.iter().map(String::as_str));
        apt(arguments).await?;
    }
    Ok(())
}

async fn apt<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    // `env` hands on what apt asks for instead of asking a person.
    Invocation::new("env", INSTALL_LIMIT)
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .run()
        .await
        .map(drop)
        .context("cannot install packages")
}

/// The commands that a person would give.
fn commands(missing: &[Missing], distribution: &Distribution) -> Vec<String> {
    let installs = by_target(missing, distribution).into_iter().map(|(target, packages)| {
        let target = target.map(|target| format!("-t {target} ")).unwrap_or_default();
        format!("apt-get install --no-install-recommends {target}{}", packages.join(" "))
    });
    std::iter::once("apt-get update".to_owned()).chain(installs).collect()
}

/// Packages by the release that they have to come from: none is the computer's own.
fn by_target(missing: &[Missing], distribution: &Distribution) -> Vec<(Option<String>, Vec<String>)> {
    let packages = |from_backports: bool| -> Vec<String> {
        let wanted = missing.iter().filter(|missing| missing.from_backports == from_backports);
        let names: BTreeSet<&String> = wanted.map(|missing| &missing.package).collect();
        names.into_iter().cloned().collect()
    };
    let backports = format!("{}-backports", distribution.codename);
    let groups = [(None, packages(false)), (Some(backports), packages(true))];
    groups.into_iter().filter(|(_, packages)| !packages.is_empty()).collect()
}

async fn backports_are_known(distribution: &Distribution) -> bool {
    let wanted = format!("{}-backports", distribution.codename);
    let ask = ["indextargets", "--format", "$(CODENAME) $(SUITE) $(RELEASE)", "Created-By: Packages"];
    let answer = Invocation::new("apt-get", INSTALL_LIMIT).args(ask).run().await.unwrap_or_default();
    answer.split_whitespace().any(|word| word == wanted)
}

/// The archive that apt already uses for Debian itself; none if it uses none.
async fn archive() -> Option<String> {
    let ask = ["indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages"];
    let answer = Invocation::new("apt-get", INSTALL_LIMIT).args(ask).run().await.unwrap_or_default();
    answer.lines().filter_map(|line| line.strip_prefix("Debian|")).find_map(|line| {
        let (codename, uri) = line.split_once('|')?;
        (!codename.contains('-')).then(|| uri.trim_end_matches('/').to_owned())
    })
}

fn backports_source(distribution: &Distribution, archive: &str) -> String {
    format!(
        "Types: deb\nURIs: {archive}\nSuites: {}-backports\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
        distribution.codename
    )
}

// === impl Distribution ===

impl Distribution {
    /// The one of this computer; nothing is known of it if it does not say.
    #[must_use]
    pub fn of_this_computer() -> Self {
        Self::parse(&std::fs::read_to_string(OS_RELEASE).unwrap_or_default())
    }

    fn parse(os_release: &str) -> Self {
        let field = |name: &str| {
            let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
        };
        let like = field("ID_LIKE").split_whitespace().map(str::to_owned).collect();
        Self { id: field("ID"), like, codename: field("VERSION_CODENAME") }
    }

    fn has_apt(&self) -> bool {
        let family = |name: &str| self.id == name || self.like.iter().any(|like| like == name);
        (family("debian") || family("ubuntu")) && find("apt-get").is_some()
    }
}

#[cfg(test)]
mod tests;
