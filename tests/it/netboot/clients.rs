//! Clients of DHCPv6 and TFTP besides those of the other tests: each gets its address and its file from a cold start,
//! and says how long that took from the moment its port was up.

use std::fs;
use std::time::Instant;

use anyhow::{Result, ensure};
use tests::debian::unpacked;
use tests::frr;

use super::MIB;
use super::lab::{FAR, Lab, NEAR};

/// A lab whose far port is down.
fn cold(name: &str) -> Result<(Lab, Vec<u8>)> {
    let lab = Lab::start(name)?;
    let file = lab.content("node.efi", 4 * MIB + 7)?;
    lab.far.run("ip", &["link", "set", "far0", "down"])?;
    lab.serve()?;
    Ok((lab, file))
}

/// Waits for the link's address, and loads the file.
fn load(lab: &Lab, who: &str, begun: Instant, file: &[u8]) -> Result<()> {
    lab.wait_for("the link's address", |lab| {
        Ok(lab.far.run("ip", &["-6", "-o", "addr", "show", "dev", "far0", "-tentative"])?.contains(FAR))
    })?;
    let configured = begun.elapsed();
    lab.wait_for("a default route", |lab| Ok(lab.far.run("ip", &["-6", "route"])?.contains("default")))?;
    lab.far.run("curl", &["-sSf", "-o", &lab.path("got"), &format!("http://[{NEAR}]/boot/node.efi")])?;
    eprintln!("{who}: configured {configured:.1?} after link-up, file loaded {:.1?} after", begun.elapsed());
    ensure!(fs::read(lab.path("got"))? == file, "another file");
    Ok(())
}

#[test]
fn dhcpcd_is_configured_and_loads() -> Result<()> {
    let (lab, file) = cold("cldhcpcd")?;
    let program = unpacked("bookworm", "dhcpcd-base")?.join("usr/sbin/dhcpcd");
    // It keeps its DUID and its leases where a whole machine would.
    lab.far.run("/bin/sh", &["-c", "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib"])?;
    lab.far.run("/bin/sh", &["-c", "mkdir -p /run/dhcpcd /var/lib/dhcpcd"])?;
    fs::write(lab.path("dhcpcd.conf"), "ipv6only\nipv6rs\nia_na 1\noption bootfile_url\nscript /bin/true\n")?;
    let begun = Instant::now();
    lab.far.run("ip", &["link", "set", "far0", "up"])?;
    let words = ["-f", &lab.path("dhcpcd.conf"), "-j", &lab.path("dhcpcd.log"), "-b", "far0"];
    lab.far.run(&program.to_string_lossy(), &words)?;
    let loaded = load(&lab, "dhcpcd", begun, &file);
    loaded.map_err(|error| error.context(fs::read_to_string(lab.path("dhcpcd.log")).unwrap_or_default()))
}

#[test]
fn networkd_is_configured_and_loads() -> Result<()> {
    let (lab, file) = cold("clnetworkd")?;
    let (lower, root) = (frr::root()?, lab.path("root"));
    // Where /sys can be written networkd waits for udev, of which a namespace has none. Who has no machine-id has no
    // DUID either.
    let prepare = format!(
        "set -e; mkdir {root} {root}.upper {root}.work; \
         mount -t overlay -o lowerdir={},upperdir={root}.upper,workdir={root}.work overlay {root}; \
         mount -t proc proc {root}/proc; mount -t sysfs -o ro sysfs {root}/sys; mount -t tmpfs tmpfs {root}/run; \
         mkdir -p {root}/run/systemd/network; echo 0123456789abcdef0123456789abcdef >{root}/etc/machine-id; \
         printf '%s' \"$0\" >{root}/run/systemd/network/10-far.network",
        lower.display()
    );
    let network = "[Match]\nName=far0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=yes\n";
    lab.far.run("/bin/sh", &["-c", &prepare, network])?;
    let begun = Instant::now();
    lab.far.run("ip", &["link", "set", "far0", "up"])?;
    let daemon = format!(
        "chroot {root} /usr/lib/systemd/systemd-networkd >{} 2>&1 </dev/null &",
        lab.path("networkd.log")
    );
    lab.far.run("/bin/sh", &["-c", &daemon])?;
    let loaded = load(&lab, "systemd-networkd", begun, &file);
    loaded.map_err(|error| error.context(fs::read_to_string(lab.path("networkd.log")).unwrap_or_default()))
}

#[test]
fn dhclient_is_configured_and_then_every_loader_loads() -> Result<()> {
    let (lab, file) = cold("cldhclient")?;
    let begun = Instant::now();
    lab.far.run("ip", &["link", "set", "far0", "up"])?;
    lab.configure_far()?;
    load(&lab, "dhclient", begun, &file)?;
    let atftp = unpacked("bookworm", "atftp")?.join("usr/bin/atftp");
    let atftp = format!("{} --option 'blksize 1428' --option 'tsize 0'", atftp.display());
    let got = lab.path("got");
    for (who, line) in [
        ("tftp-hpa", format!("tftp -m binary {NEAR} -c get /node.efi {got}")),
        ("curl, TFTP", format!("curl -gsSf --tftp-blksize 1428 -o {got} tftp://[{NEAR}]/node.efi")),
        ("curl, HTTP", format!("curl -gsSf -o {got} http://[{NEAR}]/boot/node.efi")),
        ("atftp", format!("{atftp} -g -r node.efi -l {got} {NEAR}")),
        ("atftp, a window of 16", format!("{atftp} --option 'windowsize 16' -g -r node.efi -l {got} {NEAR}")),
    ] {
        fs::remove_file(&got)?;
        let begun = Instant::now();
        lab.far.run("/bin/sh", &["-c", &line])?;
        eprintln!("{who}: {:.2?}", begun.elapsed());
        ensure!(fs::read(&got)? == file, "{who} has another file");
    }
    Ok(())
}
