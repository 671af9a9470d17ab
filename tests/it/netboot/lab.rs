//! Two machines and a cable.

use std::cell::RefCell;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use bootstrap::pki::boot::{self, BootSigner};
use mesh::{AddressPlan, BlockNumber, LinkStatus, Stage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::netns::Namespace;

use super::served;

/// The near end of the first link.
pub(super) const NEAR: &str = "2001:db8::11";
/// Its far end.
pub(super) const FAR: &str = "2001:db8::12";
/// "My neighbour".
pub(super) const BOOT: &str = "fd65:7b9c:569:680::b007";

/// Nothing here takes longer on a machine that carries several tests at once.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// What dhclient calls its script with, written down; the address is set as a firmware would.
const SCRIPT: &str = r#"#!/bin/sh
case "$reason" in
PREINIT6) ip link set "$interface" up ;;
BOUND6|RENEW6|REBIND6)
    ip -6 addr replace "$new_ip6_address/128" dev "$interface" nodad
    printf '%s\n%s\n%s\n' "$new_ip6_address" "$new_dhcp6_bootfile_url" "$new_dhcp6_boot_class" >"$FOLDER/lease.new"
    mv "$FOLDER/lease.new" "$FOLDER/lease" ;;
esac
exit 0
"#;

/// Two machines joined by a cable, and what the server at the near end serves.
pub(super) struct Lab {
    pub(super) near: Namespace,
    pub(super) far: Namespace,
    folder: TempDir,
    server: RefCell<Option<Child>>,
    far_server: RefCell<Option<Child>>,
}

/// What dhclient was given.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) address: String,
    pub(super) url: String,
    /// Option 16, in hexadecimal octets as dhclient shows it.
    pub(super) vendor_class: String,
}

/// A dhclient that runs.
pub(super) struct Dhclient(JoinHandle<Result<Result<Lease>>>);

impl Lab {
    /// Starts two machines with a cable between `near0` and `far0`.
    pub(super) fn start(name: &str) -> Result<Self> {
        let lab = Self::without_cable(name)?;
        lab.content("node.efi", 1000)?;
        lab.plug()?;
        Ok(lab)
    }

    /// Starts two machines with nothing between them.
    pub(super) fn without_cable(name: &str) -> Result<Self> {
        let near = Namespace::start(&format!("{name}-near"))?;
        // As on every node: a host's neighbour advertisement takes its default route from the far end [RFC 4861 § 7.3.3].
        near.run("sysctl", &["-q", "-w", "net.ipv6.conf.all.forwarding=1"])?;
        Ok(Self {
            near,
            far: Namespace::start(&format!("{name}-far"))?,
            folder: tempfile::tempdir()?,
            server: RefCell::new(None),
            far_server: RefCell::new(None),
        })
    }

    /// Gives the near machine the port `near0` of a cable whose far end is a process of this computer.
    pub(super) fn tap(&self) -> Result<()> {
        let network = self.near.network()?;
        network.ip(&["tuntap", "add", "dev", "near0", "mode", "tap"])?;
        network.ip(&["link", "set", "near0", "address", &served::near_mac(0).to_string()])
    }

    /// Puts the cable in.
    pub(super) fn plug(&self) -> Result<()> {
        self.plug_as("near0", "far0", 0)
    }

    /// Puts a further cable in.
    pub(super) fn plug_as(&self, near: &str, far: &str, port: u8) -> Result<()> {
        let near_mac = served::near_mac(port).to_string();
        let far_mac = served::far_mac(port).to_string();
        let far_pid = self.far.pid().to_string();
        let pair = [
            "link", "add", near, "address", &near_mac, "type", "veth", "peer", "name", far, "address",
            &far_mac,
        ];
        self.near.network()?.ip(&[&pair[..], &["netns", &far_pid]].concat())?;
        // A client that starts at once must not find its own link-local address tentative.
        let setting = format!("/proc/sys/net/ipv6/conf/{far}/accept_dad");
        self.far.network()?.enter(move || fs::write(setting, "0"))??;
        self.far.run("ip", &["link", "set", far, "up"])?;
        Ok(())
    }

    /// Makes a file of the folder, with octets that tell where they belong.
    pub(super) fn content(&self, name: &str, len: usize) -> Result<Vec<u8>> {
        let octets: Vec<u8> = (0..len).map(|at| (at / 251 + at % 251).to_le_bytes()[0]).collect();
        fs::write(self.path(name), &octets)?;
        Ok(octets)
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// The near port's link-local address.
    pub(super) fn near_link_local(&self) -> String {
        served::near_mac(0).link_local().to_string()
    }

    /// Starts the server at the near end, and waits until it serves the cable.
    pub(super) fn serve(&self) -> Result<()> {
        self.serve_with(&[])
    }

    /// The same by way of another program.
    pub(super) fn serve_with(&self, wrapper: &[&str]) -> Result<()> {
        let server = start_server(&self.near, self.folder.path(), wrapper, &[])?;
        *self.server.borrow_mut() = Some(server);
        self.wait_for("the server", |lab| Ok(lab.statuses().is_ok_and(|links| !links.is_empty())))
    }

    /// Starts the server at the far end as well: a node of the same mesh.
    pub(super) fn serve_far(&self) -> Result<()> {
        let folder = self.folder.path().join("far");
        fs::create_dir_all(&folder)?;
        let server = start_server(&self.far, &folder, &[], &[(served::SIDE, "1")])?;
        *self.far_server.borrow_mut() = Some(server);
        self.wait_for("the far server", |lab| Ok(lab.far_statuses().is_ok_and(|links| !links.is_empty())))
    }

    /// What the far server says of its links.
    pub(super) fn far_statuses(&self) -> Result<Vec<LinkStatus>> {
        Ok(serde_json::from_slice(&fs::read(self.path("far/status"))?)?)
    }

    /// Has the server read again which links are forced.
    pub(super) fn force(&self, ports: &str) -> Result<()> {
        fs::write(self.path("forced"), ports)?;
        self.read_again()
    }

    fn read_again(&self) -> Result<()> {
        let pid = self.server.borrow().as_ref().context("no server runs")?.id();
        Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGHUP)?)
    }

    /// Has firmware boot by HTTPS, as soon as there is a certificate.
    pub(super) fn want_https(&self) -> Result<()> {
        Ok(fs::write(self.path("https"), "")?)
    }

    /// Gives the near end a certificate, as its seed would, of an authority in `ca.crt` and `ca.der`.
    pub(super) fn certify(&self) -> Result<()> {
        let now = SystemTime::now();
        let authority = boot::authority(now)?;
        fs::write(self.path("ca.crt"), &authority.certificate_pem)?;
        fs::write(self.path("ca.der"), &authority.certificate_der)?;
        let signer = BootSigner::new(&authority)?;
        let node = "seed".parse()?;
        let request = boot::request(&node)?;
        let block = AddressPlan::default().block(BlockNumber(0)).context("no block")?;
        let certificate = signer.sign(&request.request_pem, &node, block, now)?;
        fs::write(self.path("server.key"), request.key_pem.expose())?;
        fs::write(self.path("server.crt"), certificate)?;
        if self.server.borrow().is_some() { self.read_again() } else { Ok(()) }
    }

    /// Kills the server in the middle of whatever it does, and starts it again.
    pub(super) fn restart(&self) -> Result<()> {
        self.end(Signal::SIGKILL)?;
        self.serve()
    }

    /// Has the server stop.
    pub(super) fn stop(&self) -> Result<()> {
        self.end(Signal::SIGTERM)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        let mut server = self.server.borrow_mut().take().context("no server runs")?;
        kill(Pid::from_raw(i32::try_from(server.id())?), signal)?;
        server.wait()?;
        Ok(())
    }

    /// How many HTTP connections the near end has.
    pub(super) fn connections(&self) -> Result<usize> {
        let filter = ["-H", "-n", "-t", "state", "established", "sport = :80"];
        Ok(self.near.run("ss", &filter)?.lines().count())
    }

    /// How many sockets of UDP the near end has: each TFTP transfer is one.
    pub(super) fn datagram_sockets(&self) -> Result<usize> {
        Ok(self.near.run("ss", &["-H", "-n", "-u", "-a"])?.lines().count())
    }

    /// The most memory that the server ever had.
    pub(super) fn resident_kib(&self) -> Result<u64> {
        let pid = self.server.borrow().as_ref().context("no server runs")?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// What the server says of its links.
    pub(super) fn statuses(&self) -> Result<Vec<LinkStatus>> {
        Ok(serde_json::from_slice(&fs::read(self.path("status"))?)?)
    }

    /// What it says of the first one.
    pub(super) fn status(&self) -> Result<LinkStatus> {
        self.statuses()?.into_iter().next().context("no link")
    }

    /// The ledger's lines.
    pub(super) fn ledger(&self) -> Result<Vec<String>> {
        let path = self.path("ledger");
        if !Path::new(&path).exists() {
            return Ok(Vec::new());
        }
        Ok(fs::read_to_string(path)?.lines().map(str::to_owned).collect())
    }

    /// Waits until something is so.
    pub(super) fn wait_for(&self, what: &str, so: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        self.wait_within(PATIENCE, what, so)
    }

    /// Waits until something is so that may take long.
    pub(super) fn wait_within(
        &self,
        patience: Duration,
        what: &str,
        mut so: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let begun = Instant::now();
        while !so(self)? {
            if begun.elapsed() > patience {
                bail!("{what} did not come within {patience:?}: {:?}\n{}", self.statuses(), self.log());
            }
            if let Some(server) = self.server.borrow_mut().as_mut()
                && let Some(status) = server.try_wait()?
            {
                bail!("the server ended ({status}) before {what} came\n{}", self.log());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits for a stage of the first link.
    pub(super) fn wait_for_stage(&self, stage: Stage) -> Result<()> {
        self.wait_for(&format!("stage {stage}"), |lab| {
            Ok(lab.statuses()?.first().is_some_and(|status| status.stage == stage))
        })
    }

    fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}{}", read("output"), read("log"))
    }

    /// Gives the far end its address by DHCPv6.
    pub(super) fn configure_far(&self) -> Result<()> {
        let lease = self.dhclient("configure", &[])?;
        ensure!(lease.address == FAR, "{lease:?}");
        // The kernel at the far end learns its routes from the advertisements.
        self.wait_for("a default route", |lab| {
            Ok(lab.far.run("ip", &["-6", "route"])?.contains("default via fe80::"))
        })
    }

    /// Runs a DHCPv6 client with a DUID of its own and gives its lease. The words are the architecture's number
    /// and the vendor class.
    pub(super) fn dhclient(&self, name: &str, boot: &[&str]) -> Result<Lease> {
        self.start_dhclient(name, boot)?.lease()
    }

    /// Starts one.
    pub(super) fn start_dhclient(&self, name: &str, boot: &[&str]) -> Result<Dhclient> {
        // The carrier comes when the near end is up, and dhclient gives up at once if it has no address to ask from.
        self.wait_for("the far end's link-local address", |lab| {
            let usable = ["-6", "-o", "addr", "show", "dev", "far0", "scope", "link", "-tentative"];
            Ok(!lab.far.run("ip", &usable)?.is_empty())
        })?;
        let folder = self.folder.path().join(name);
        fs::create_dir(&folder)?;
        let mut config = String::from("timeout 35;\n");
        if let [number, class] = boot {
            let len = class.len();
            let data: Vec<String> = class.bytes().map(|octet| format!("{octet:02x}")).collect();
            config += "option dhcp6.boot-class code 16 = string;\n";
            config += "also request dhcp6.bootfile-url, dhcp6.boot-class;\n";
            config += &format!("send dhcp6.client-arch-type {number};\n");
            config += &format!("send dhcp6.boot-class 00:00:01:57:00:{len:02x}:{};\n", data.join(":"));
        }
        fs::write(folder.join("config"), config)?;
        let script = folder.join("script");
        fs::write(&script, SCRIPT)?;
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let run = move || {
            let path = |name: &str| folder.join(name);
            let mut command = Command::new("dhclient");
            command.args(["-6", "-1", "-v", "-d", "-D", "LLT"]).arg("-cf").arg(path("config"));
            command.arg("-lf").arg(path("leases")).arg("-pf").arg(path("pid")).arg("-sf").arg(path("script"));
            command.arg("-e").arg(format!("FOLDER={}", folder.display())).arg("far0");
            let mut client =
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
            let begun = Instant::now();
            while !path("lease").exists() && client.try_wait()?.is_none() && begun.elapsed() < PATIENCE {
                thread::sleep(POLL);
            }
            // It would go on to renew its lease.
            client.kill()?;
            let output = client.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let lease = fs::read_to_string(path("lease")).with_context(|| format!("no lease: {said}"))?;
            let mut lines = lease.lines().map(str::to_owned);
            let mut next = || lines.next().unwrap_or_default();
            Ok(Lease { address: next(), url: next(), vendor_class: next() })
        };
        Ok(Dhclient(self.far.network()?.spawn("dhclient", run)?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for server in [&self.server, &self.far_server] {
            if let Some(mut server) = server.borrow_mut().take() {
                // Fails only when it is already gone.
                let _gone = server.kill().and_then(|()| server.wait());
            }
        }
    }
}

/// Starts a server that serves what is in a folder.
fn start_server(
    machine: &Namespace,
    folder: &Path,
    wrapper: &[&str],
    variables: &[(&'static str, &'static str)],
) -> Result<Child> {
    let myself = std::env::current_exe()?.to_string_lossy().into_owned();
    let test = [&myself, "--exact", served::NAME, "--ignored", "--nocapture"];
    let line: Vec<String> = wrapper.iter().chain(&test).map(|word| (*word).to_owned()).collect();
    let output = fs::File::options().append(true).create(true).open(folder.join("output"))?;
    let _stale = fs::remove_file(folder.join("status"));
    let (folder, variables) = (folder.to_owned(), variables.to_vec());
    machine.network()?.enter(move || {
        let (program, args) = line.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(args).env(served::FOLDER, folder).envs(variables).stdin(Stdio::null());
        // As its unit has it.
        command.env("MALLOC_ARENA_MAX", "2");
        command.stdout(output.try_clone()?).stderr(output);
        Ok::<_, anyhow::Error>(command.process_group(0).spawn()?)
    })?
}

impl Dhclient {
    /// Waits for the lease.
    pub(super) fn lease(self) -> Result<Lease> {
        self.0.join().ok().context("the client's thread panicked")??
    }
}
