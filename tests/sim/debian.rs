//! Programs and firmware out of Debian's packages, unpacked and not installed: several releases beside each other, and
//! packages that exclude one another.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Names the mirror that packages come from; without it, it is the one that apt on this machine uses for Debian.
const MIRROR_VARIABLE: &str = "MESHBOOT_DEB_MIRROR";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder with what a package of a release has, as if it were installed there. It is fetched once, from the mirror
/// that this machine uses, and kept in the user's cache.
///
/// # Errors
///
/// The package cannot be fetched or unpacked.
pub fn unpacked(suite: &str, package: &str) -> Result<PathBuf> {
    let cache = cache()?.join("test-packages").join(suite);
    fs::create_dir_all(&cache)?;
    let folder = cache.join(package);
    // Tests run side by side and want the same ones.
    let lock = File::create(cache.join("lock"))?;
    lock.lock()?;
    if !folder.exists() {
        let work = tempfile::tempdir_in(&cache)?;
        fetch(suite, package, work.path())
            .with_context(|| format!("fetching {package} of {suite} into {}", cache.display()))?;
        fs::rename(work.path().join("root"), &folder)?;
    }
    Ok(folder)
}

fn fetch(suite: &str, package: &str, work: &Path) -> Result<()> {
    for folder in ["lists/partial", "cache/archives/partial", "parts", "root"] {
        fs::create_dir_all(work.join(folder))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
    fs::write(work.join("sources.list"), source)?;
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        for (option, path) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "parts"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(format!("{option}={}", work.join(path).display()));
        }
        // Its other user would have no right to this folder.
        command.args(["-q", "-o", "APT::Sandbox::User=root"]).args(words).current_dir(work);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&["download", package])?;
    let entries = fs::read_dir(work)?.collect::<Result<Vec<_>, _>>()?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let archive =
        entries.iter().map(fs::DirEntry::path).find(is_package).context("nothing was downloaded")?;
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(work.join("root"))).map(drop)
}

/// The archive that this machine's packages come from.
///
/// # Errors
///
/// It is no Debian, and [`MIRROR_VARIABLE`] does not say either.
pub(crate) fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var(MIRROR_VARIABLE) {
        return Ok(mirror);
    }
    let format = "$(SITE) $(ORIGIN)";
    let mut command = Command::new("apt-get");
    let sites =
        run(command.args(["indextargets", "--format", format, "Created-By: Packages", "Component: main"]))?;
    let site = sites.lines().find_map(|line| {
        let site = line.strip_suffix(" Debian")?;
        (site.contains("://") && !site.ends_with("-security")).then_some(site)
    });
    match site {
        Some(site) => Ok(site.to_owned()),
        None => bail!("apt on this machine knows no Debian mirror: set {MIRROR_VARIABLE}"),
    }
}

/// The folder of the user's cache that is ours.
///
/// # Errors
///
/// There is no telling where that is.
pub(crate) fn cache() -> Result<PathBuf> {
    let given = env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let own = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(given
        .or_else(own)
        .context("no cache folder: neither XDG_CACHE_HOME nor HOME is set")?
        .join("meshboot"))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output.stderr));
    Ok(text(&output.stdout))
}
