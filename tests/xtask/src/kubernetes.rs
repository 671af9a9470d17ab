//! The servers of Kubernetes that tests start by themselves: those that `deploy` made for machines.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where `deploy` keeps what it made, and which of that a test starts.
const MADE: [(&str, &str, &[&str]); 2] = [
    ("kubernetes", "bin", &["kube-apiserver", "kube-controller-manager", "kubeadm", "kubectl"]),
    ("debian", "root/usr/bin", &["etcd"]),
];

/// A folder of them all, made anew.
pub(crate) fn binaries() -> Result<PathBuf, String> {
    let folder = super::target().join("kubernetes");
    let told = |error: std::io::Error| format!("cannot make {}: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(told)?;
    }
    fs::create_dir_all(&folder).map_err(told)?;
    for (kind, inside, names) in MADE {
        let from = newest(&cache()?.join(kind), inside, names)?;
        for name in names {
            symlink(from.join(name), folder.join(name)).map_err(told)?;
        }
    }
    Ok(folder)
}

/// The youngest of the folders in which all these are.
fn newest(kind: &Path, inside: &str, names: &[&str]) -> Result<PathBuf, String> {
    let made = fs::read_dir(kind).into_iter().flatten().flatten().map(|entry| entry.path().join(inside));
    let whole = made.filter(|folder| names.iter().all(|name| folder.join(name).is_file()));
    whole.max_by_key(|folder| folder.metadata().and_then(|data| data.modified()).ok()).ok_or_else(|| {
        format!("no {} in {}: `cargo xtask vm` makes them, or `./deploy`", names.join(", "), kind.display())
    })
}

/// As the product finds it.
fn cache() -> Result<PathBuf, String> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || variable("HOME").map(|home| home.join(".cache"));
    let users = variable("XDG_CACHE_HOME").or_else(home);
    Ok(users.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("meshboot"))
}
