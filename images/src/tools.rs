//! What has to be installed here before images can be made.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A program that is run while images are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Its name, or the path of a file that has to be there.
    pub program: &'static str,
    /// The package of Debian and Ubuntu that has it.
    pub package: &'static str,
}

const IMAGE_TOOLS: [Tool; 5] = [
    Tool { program: "mmdebstrap", package: "mmdebstrap" },
    Tool { program: "mksquashfs", package: "squashfs-tools" },
    Tool { program: "apt-get", package: "apt" },
    Tool { program: "tar", package: "tar" },
    Tool { program: crate::mirror::KEYRING, package: "debian-archive-keyring" },
];

/// Of whoever is not root: mmdebstrap then works in a user namespace.
const UNPRIVILEGED_TOOLS: [Tool; 1] = [Tool { program: "newuidmap", package: "uidmap" }];

const KUBERNETES_TOOLS: [Tool; 4] = [
    Tool { program: "dpkg-source", package: "dpkg-dev" },
    Tool { program: "dpkg-deb", package: "dpkg" },
    Tool { program: "gcc", package: "gcc" },
    Tool { program: "/usr/lib/x86_64-linux-gnu/libc.a", package: "libc6-dev" },
];

/// All that is needed to make images; with `kubernetes_from_source` also what Debian's Kubernetes is built with.
#[must_use]
pub fn required_tools(kubernetes_from_source: bool) -> Vec<Tool> {
    let unprivileged: &[Tool] = if rustix::process::geteuid().is_root() { &[] } else { &UNPRIVILEGED_TOOLS };
    let kubernetes: &[Tool] = if kubernetes_from_source { &KUBERNETES_TOOLS } else { &[] };
    [&IMAGE_TOOLS, unprivileged, kubernetes].concat()
}

/// Those of [`required_tools`] that are not there.
#[must_use]
pub fn missing_tools(kubernetes_from_source: bool) -> Vec<Tool> {
    let path = env::var_os("PATH").unwrap_or_default();
    required_tools(kubernetes_from_source)
        .into_iter()
        .filter(|tool| find(tool.program, &path).is_none())
        .collect()
}

/// The package of a program that may be missing.
pub(crate) fn package_of(program: &str) -> Option<&'static str> {
    [&IMAGE_TOOLS[..], &UNPRIVILEGED_TOOLS, &KUBERNETES_TOOLS]
        .concat()
        .into_iter()
        .find(|tool| tool.program == program)
        .map(|tool| tool.package)
}

fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|file| file.exists());
    }
    // A plain user's PATH on Debian lacks the directories of root's programs.
    env::split_paths(path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_found_missing() {
        assert!(find("sh", OsStr::new("/usr/bin:/bin")).is_some());
        assert_eq!(find("no-such-program", OsStr::new("/usr/bin:/bin")), None);
        assert_eq!(find("/no/such/file", OsStr::new("/usr/bin")), None);
    }

    #[test]
    fn building_kubernetes_needs_more() {
        let without = required_tools(false);
        let with = required_tools(true);
        assert!(with.len() > without.len() && with.starts_with(&without));
    }
}
