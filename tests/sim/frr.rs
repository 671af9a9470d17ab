//! FRR as the nodes run it: Debian trixie's packages in a root of their own, started by their own init script.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::debian;
use crate::netns::Namespace;

const SUITE: &str = "trixie";
/// openssl is for the scripts of nodes.
const PACKAGES: &str = "frr,iproute2,nftables,openssl";

/// The folder with the packages unpacked; builds it with mmdebstrap when this machine has none (half a minute).
pub fn root() -> Result<PathBuf> {
    let recipe = Sha256::digest(format!("{SUITE} {PACKAGES}"));
    let name: String = recipe.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let cache = debian::cache()?.join("test-roots");
    let root = cache.join(format!("frr-{name}"));
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    // Tests are processes of their own: the first builds, the others wait for it.
    let lock = File::create(cache.join(format!("frr-{name}.lock")))?;
    lock.lock()?;
    if !root.exists() {
        build(&root)?;
    }
    Ok(root)
}

fn build(root: &Path) -> Result<()> {
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    let output = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=apt"])
        .arg(format!("--include={PACKAGES}"))
        .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .arg(SUITE)
        .arg(&partial)
        .arg(debian::mirror()?)
        .stdin(Stdio::null())
        .output()
        .context("running mmdebstrap (apt-get install mmdebstrap debian-archive-keyring)")?;
    ensure!(output.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
    fs::create_dir_all(partial.join("run/frr"))?;
    fs::rename(&partial, root).with_context(|| format!("renaming {}", partial.display()))
}

/// Writes FRR's configuration below `dir` and says what to mount for it: where it is, where FRR looks for it.
///
/// Its log is `run/frr.log` below `dir`.
pub fn install(root: &Path, dir: &Path, conf: &str, daemons: &str) -> Result<Vec<(PathBuf, PathBuf)>> {
    let (user, group) = owner(root)?;
    let etc = dir.join("etc");
    let run = dir.join("run");
    for folder in [&etc, &run] {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        chown(folder, Some(user), Some(group))?;
    }
    let conf = conf.replace("log syslog informational", "log file /run/frr/frr.log informational");
    for (name, text) in
        [("frr.conf", conf.as_str()), ("daemons", daemons), ("vtysh.conf", ignition::frr::frr_vtysh())]
    {
        let path = etc.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        chown(&path, Some(user), Some(group))?;
    }
    fs::write(etc.join("frr.nft"), ignition::frr::frr_nft())?;
    Ok(vec![(etc, PathBuf::from("/etc/frr")), (run, PathBuf::from("/run/frr"))])
}

fn owner(root: &Path) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string(root.join("etc/passwd"))?;
    let line = passwd.lines().find(|line| line.starts_with("frr:")).context("the root has no user frr")?;
    let mut fields = line.split(':').skip(2);
    let mut number =
        || fields.next().context("a broken passwd file")?.parse().context("a broken passwd file");
    Ok((number()?, number()?))
}

/// Keeps zebra's router advertisements off the ports, as `frr.service` does on a node before FRR starts.
pub fn silence_zebra(node: &Namespace) -> Result<()> {
    node.run("/usr/sbin/nft", &["-f", "/etc/frr/frr.nft"]).map(drop)
}

/// Starts the daemons; when it returns they have read their configuration.
pub fn start(node: &Namespace) -> Result<()> {
    // The daemons keep what they were given as output: a pipe would never end.
    let start = "/usr/lib/frr/frrinit.sh start >/run/frr/start.log 2>&1 </dev/null";
    node.run("/bin/sh", &["-c", start]).map(drop)
}

/// Asks the daemons, as an operator would.
pub fn vtysh(node: &Namespace, command: &str) -> Result<String> {
    node.run("/usr/bin/vtysh", &["-c", command])
}
