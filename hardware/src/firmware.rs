//! OVMF: the UEFI firmware of virtual machines, where distributions put it.

use std::path::{Path, PathBuf};

/// A firmware image and the variables that a new machine starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// The code, read-only.
    pub code: PathBuf,
    /// The template of the variables.
    pub variables: PathBuf,
}

/// Code and variables without Secure Boot, the newest layout first: Debian and Ubuntu, Fedora, Arch, openSUSE.
const PLACES: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "/usr/share/edk2-ovmf/x64/OVMF_VARS.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
];

// === impl Firmware ===

impl Firmware {
    /// The firmware of this computer; none if it is not installed.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::find_below(Path::new("/"))
    }

    fn find_below(root: &Path) -> Option<Self> {
        let below = |path: &str| root.join(path.trim_start_matches('/'));
        let mut places = PLACES.into_iter().map(|(code, variables)| (below(code), below(variables)));
        let (code, variables) = places.find(|(code, variables)| code.is_file() && variables.is_file())?;
        Some(Self { code, variables })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_layout_is_taken_and_half_an_installation_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Firmware::find_below(root.path()), None);
        let directory = root.path().join("usr/share/OVMF");
        std::fs::create_dir_all(&directory).unwrap();
        for name in ["OVMF_CODE.fd", "OVMF_VARS.fd", "OVMF_CODE_4M.fd"] {
            std::fs::write(directory.join(name), "").unwrap();
        }
        assert_eq!(Firmware::find_below(root.path()).unwrap().code, directory.join("OVMF_CODE.fd"));
        std::fs::write(directory.join("OVMF_VARS_4M.fd"), "").unwrap();
        assert_eq!(Firmware::find_below(root.path()).unwrap().code, directory.join("OVMF_CODE_4M.fd"));
    }
}
