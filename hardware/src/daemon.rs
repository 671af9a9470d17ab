//! libvirt's daemons: started where they do not run, by systemd or by hand, and stopped again if nobody else
//! came to use them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Group, Pid};
use serde::{Deserialize, Serialize};

use crate::host;
use crate::process::{Invocation, RunError, find};
use crate::virsh::Virsh;

/// A daemon says that it is ready by leaving the foreground; this is how long it may take.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The daemons that are needed, each with the file of its process id, in the order of their start.
const DAEMONS: [(&str, &str); 2] = [("virtlogd", "/run/virtlogd.pid"), ("libvirtd", "/run/libvirtd.pid")];
/// What systemd may know libvirt by: one daemon for all, or one for each driver.
const UNITS: [&[&str]; 2] =
    [&["libvirtd.service"], &["virtqemud.socket", "virtnetworkd.socket", "virtlogd.socket"]];

/// Where libvirt keeps the state of its networks.
const NETWORK_STATE: &str = "/var/lib/libvirt/dnsmasq";
/// The device of KVM.
const KVM_DEVICE: &str = "/dev/kvm";
/// What udev gives it: read and write for its owner and for the group `kvm`.
const KVM_MODE: u32 = 0o660;

/// What had to be done so that libvirt answers, and answers soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ensured {
    /// Which daemons were started.
    pub started: Started,
    /// Whether libvirt's directory for the state of its networks was made.
    pub made_network_state: bool,
    /// What `/dev/kvm` was before it was given to the group `kvm`; none if it was left alone.
    pub kvm_before: Option<DeviceRights>,
}

/// Whose a device is, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRights {
    /// The group.
    pub gid: u32,
    /// The permission bits.
    pub mode: u32,
}

/// Which daemons were started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Started {
    /// Nothing: it answered.
    Already,
    /// systemd was asked; it keeps it.
    BySystemd,
    /// Daemons were started by hand: these, with their process ids.
    ByHand(Vec<Daemon>),
}

/// A daemon that was started by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its program.
    pub name: String,
    /// Its process id.
    pub pid: i32,
}

/// Why libvirt does not answer.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is not installed.
    #[error("libvirt is not installed: there is no `{program}`")]
    Missing {
        /// The program.
        program: &'static str,
    },
    /// It runs, but not for this user.
    #[error("libvirt does not let this user in: be root, or a member of the group `libvirt`")]
    NotAllowed(#[source] RunError),
    /// It does not run, and only the administrator can start it.
    #[error("libvirt does not run, and only root can start it")]
    NotRoot(#[source] RunError),
    /// It has no directory for the state of its networks.
    #[error("libvirt lacks {NETWORK_STATE}, and this user cannot make it: do so as root")]
    NetworkState(#[source] std::io::Error),
    /// It could not be started.
    #[error("libvirt could not be started")]
    Run(#[from] RunError),
}

// === impl Ensured ===

impl Ensured {
    /// Takes over what somebody else did, so that it is undone by whoever is last. What this one did itself is newer.
    pub fn take_over(&mut self, other: &Self) {
        if self.started == Started::Already {
            self.started = other.started.clone();
        }
        self.made_network_state |= other.made_network_state;
        self.kvm_before = other.kvm_before.or(self.kvm_before);
    }
}

/// Makes sure that libvirt answers.
///
/// # Errors
///
/// [`StartError`].
pub async fn ensure(virsh: &Virsh) -> Result<Ensured, StartError> {
    if find("virsh").is_none() {
        return Err(StartError::Missing { program: "virsh" });
    }
    let kvm_before = open_kvm_device();
    let started = start(virsh).await?;
    Ok(Ensured { started, made_network_state: make_network_state()?, kvm_before })
}

async fn start(virsh: &Virsh) -> Result<Started, StartError> {
    let Err(silence) = virsh.version().await else { return Ok(Started::Already) };
    if silence.to_string().contains("Permission denied") || silence.to_string().contains("authentication") {
        return Err(StartError::NotAllowed(silence));
    }
    if !host::is_root() {
        return Err(StartError::NotRoot(silence));
    }
    let started = if has_systemd() {
        start_by_systemd().await?;
        Started::BySystemd
    } else {
        Started::ByHand(start_by_hand().await?)
    };
    virsh.version().await?;
    Ok(started)
}

async fn start_by_systemd() -> Result<(), RunError> {
    let [whole, modular] = UNITS
        .map(|units| Invocation::new("systemctl", START_LIMIT).args(["start"]).args(units.iter().copied()));
    match whole.run().await {
        Ok(_) => Ok(()),
        Err(first) => modular.run().await.map(drop).map_err(|_| first),
    }
}

async fn start_by_hand() -> Result<Vec<Daemon>, StartError> {
    let mut started = Vec::new();
    for (name, pid_file) in DAEMONS {
        if find(name).is_none() {
            return Err(StartError::Missing { program: name });
        }
        if running(name, pid_file).is_some() {
            continue;
        }
        Invocation::new(name, START_LIMIT).args(["--daemon"]).run().await?;
        if let Some(pid) = running(name, pid_file) {
            started.push(Daemon { name: name.to_owned(), pid });
        }
    }
    Ok(started)
}

/// libvirt makes the directory when it first starts a network with a DNS server, and needs it for every network.
fn make_network_state() -> Result<bool, StartError> {
    let directory = Path::new(NETWORK_STATE);
    // Above it, others may not look into everything: then libvirt has been at work.
    if !matches!(directory.try_exists(), Ok(false)) {
        return Ok(false);
    }
    fs::create_dir_all(directory).map(|()| true).map_err(StartError::NetworkState)
}

/// Gives `/dev/kvm` to the group `kvm` where no udev did it.
///
/// While the device is root's alone, libvirt finds at each call that QEMU knows KVM but libvirt's own user may
/// not use it, forgets what it knows of QEMU, and finds it out again: half a minute for each machine.
fn open_kvm_device() -> Option<DeviceRights> {
    let group = Group::from_name("kvm").ok().flatten()?;
    let metadata = fs::metadata(KVM_DEVICE).ok()?;
    if has_systemd() || !host::is_root() || metadata.mode() & 0o060 == 0o060 {
        return None;
    }
    let before = DeviceRights { gid: metadata.gid(), mode: metadata.mode() & 0o777 };
    set_kvm_rights(DeviceRights { gid: group.gid.as_raw(), mode: KVM_MODE }).ok()?;
    Some(before)
}

fn set_kvm_rights(rights: DeviceRights) -> std::io::Result<()> {
    chown(KVM_DEVICE, None, Some(rights.gid))?;
    fs::set_permissions(KVM_DEVICE, fs::Permissions::from_mode(rights.mode))
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Undoes what [`ensure`] did, unless some domain runs or some network is up.
///
/// Returns what was undone, in words.
pub async fn stop_if_unused(virsh: &Virsh, ensured: &Ensured) -> Vec<String> {
    let domains = virsh.active_domains().await;
    let networks = virsh.running_networks().await;
    let unused = domains.is_ok_and(|names| names.is_empty()) && networks.is_ok_and(|names| names.is_empty());
    if !unused {
        return Vec::new();
    }
    let mut undone = stop(&ensured.started);
    if ensured.made_network_state && fs::remove_dir(NETWORK_STATE).is_ok() {
        undone.push(format!("directory {NETWORK_STATE}"));
    }
    if let Some(rights) = ensured.kvm_before
        && set_kvm_rights(rights).is_ok()
    {
        undone.push(format!("rights of {KVM_DEVICE}"));
    }
    undone
}

fn stop(started: &Started) -> Vec<String> {
    let Started::ByHand(daemons) = started else { return Vec::new() };
    let ours = daemons.iter().rev().filter(|daemon| is_process(&daemon.name, daemon.pid));
    let stopped = ours.filter(|daemon| kill(Pid::from_raw(daemon.pid), Signal::SIGTERM).is_ok());
    stopped.map(|daemon| format!("daemon {}", daemon.name)).collect()
}

fn running(name: &str, pid_file: &str) -> Option<i32> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    is_process(name, pid).then_some(pid)
}

/// Whether this process is that program: process ids are used again.
fn is_process(name: &str, pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_last_undoes_what_the_first_did() {
        let nothing = Ensured { started: Started::Already, made_network_state: false, kvm_before: None };
        let by_hand = |pid| Started::ByHand(vec![Daemon { name: "libvirtd".to_owned(), pid }]);
        let rights = |mode| Some(DeviceRights { gid: 0, mode });
        let first = Ensured { started: by_hand(1), made_network_state: true, kvm_before: rights(0o600) };
        let mut last = nothing.clone();
        last.take_over(&first);
        assert_eq!(last, first);
        last.take_over(&nothing);
        assert_eq!(last, first);
        // The first one's daemons ended before the last one started his; what the device was at first is what it was.
        let mut last = Ensured { started: by_hand(2), kvm_before: rights(0o660), ..nothing };
        last.take_over(&first);
        assert_eq!((last.started, last.kvm_before), (by_hand(2), rights(0o600)));
    }
}
