//! The Debian packages that the tests need beside those that `meshboot` itself installs.

use std::process::Command;

/// A package, and a file by which it is known to be there.
struct Package {
    name: &'static str,
    proof: &'static str,
}

const fn package(name: &'static str, proof: &'static str) -> Package {
    Package { name, proof }
}

/// Real clients, servers and checkers.
const PACKAGES: [Package; 19] = [
    package("isc-dhcp-client", "/sbin/dhclient"),
    package("dnsmasq-base", "/usr/sbin/dnsmasq"),
    package("curl", "/usr/bin/curl"),
    package("tftp-hpa", "/usr/bin/tftp"),
    package("ndisc6", "/usr/bin/rdisc6"),
    package("tcpdump", "/usr/bin/tcpdump"),
    package("iproute2", "/usr/bin/ip"),
    package("iputils-ping", "/usr/bin/ping"),
    package("ethtool", "/usr/sbin/ethtool"),
    package("nftables", "/usr/sbin/nft"),
    package("mmdebstrap", "/usr/bin/mmdebstrap"),
    package("containerd", "/usr/bin/containerd"),
    package("skopeo", "/usr/bin/skopeo"),
    package("podman", "/usr/bin/podman"),
    package("ignition", "/usr/bin/ignition-validate"),
    package("busybox-static", "/usr/share/doc/busybox-static"),
    package("shellcheck", "/usr/bin/shellcheck"),
    package("squashfs-tools", "/usr/bin/mksquashfs"),
    package("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
];

/// Sees to it that the packages are there.
pub(crate) fn ready(install: bool) -> Result<(), String> {
    nextest(install)?;
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|one| !std::path::Path::new(one.proof).exists()).map(|one| one.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !install {
        return Err(format!(
            "missing packages: {}; install them, or say --install-deps (as root)",
            missing.join(" ")
        ));
    }
    super::step("package lists", Command::new("apt-get").args(["update", "-q"]))?;
    let mut command = Command::new("apt-get");
    command.args(["install", "-q", "-y", "--no-install-recommends"]).args(&missing);
    super::step("packages", command.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The test runner: a cargo subcommand that has to be built where it is absent.
fn nextest(install: bool) -> Result<(), String> {
    let there =
        super::cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success());
    match (there, install) {
        (true, _) => Ok(()),
        (false, true) => {
            super::step("test runner", super::cargo().args(["install", "--locked", "cargo-nextest"]))
        }
        (false, false) => Err("cargo-nextest is missing: cargo install --locked cargo-nextest".to_owned()),
    }
}
