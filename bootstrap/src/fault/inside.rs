//! Faults that a node makes in itself: the scripts for it, and for their undoing.
//!
//! A fault that has an end is undone by the node too, should nobody reach it any more: before anything is broken the
//! script for the undoing lies in the node's memory and a timer of its systemd waits to run it. The timer goes by the
//! monotonic clock, so a fault of the clock does not disturb it. It does not outlive a restart of the node; whoever made the
//! fault undoes it then.
//!
//! Both scripts may run twice, and at the same time: the second finds nothing to do.

use std::time::Duration;

use hardware::traffic::Impairment;
use mesh::Mac;

use super::asked::{Asked, DiskTrouble, Service};
use super::record::FaultId;

/// In memory: none of it outlives a restart.
const MEMORY: &str = "/run/meshboot-faults";
/// On the node's disk, beside the manifests that it is about. They outlive a restart, and so does their absence.
const ASIDE: &str = "/etc/kubernetes/meshboot-faults";
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Where the state's file system is mounted.
const STATE: &str = "/run/meshboot/state";
/// By then, in seconds, whoever asked a loaded node for something has heard that it is done.
const ANSWERED: u32 = 3;
/// What `fallocate` takes at a time, down to the last block.
const FILLINGS: &str = "1073741824 67108864 1048576 65536 4096";

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripts {
    /// To make the fault.
    pub make: String,
    /// To undo it.
    pub undo: String,
}

/// What is done, and what is done against it.
struct Deeds {
    make: String,
    undo: String,
}

/// The scripts of a fault that is made inside a node; none if it is not.
#[must_use]
pub fn scripts(asked: &Asked, mirror_ports: &[u16], id: FaultId, lasts: Option<Duration>) -> Option<Scripts> {
    let deeds = match asked {
        Asked::Service { service, machine } => of_service(*service, machine, mirror_ports, id),
        Asked::Clock { by, .. } => of_clock(*by, id),
        Asked::Disk { trouble: DiskTrouble::Full, .. } => of_full_disk(id),
        Asked::Disk { trouble: DiskTrouble::Readonly, .. } => of_readonly_disk(),
        Asked::Disk { trouble: DiskTrouble::Slow(_), .. }
        | Asked::LinkCut { .. }
        | Asked::LinkDegrade { .. }
        | Asked::LinkFlap { .. }
        | Asked::NodeKill { .. }
        | Asked::NodeFreeze { .. }
        | Asked::NodeReboot { .. }
        | Asked::NodeWipe { .. }
        | Asked::Partition { .. } => return None,
    };
    Some(deeds.wrapped(id, lasts))
}

/// The scripts by which a node degrades what it sends from one of its ports.
#[must_use]
pub fn degrade(mac: Mac, by: &Impairment, id: FaultId, lasts: Option<Duration>) -> Scripts {
    let port = format!(
        "port=$(grep -lix '{mac}' /sys/class/net/*/address | head -n 1 | cut -d / -f 5)\n\
         [ -n \"$port\" ] || {{ echo 'no port has the Ethernet address {mac}' >&2; exit 3; }}"
    );
    let make = format!("{port}\ntc qdisc replace dev \"$port\" root {}", by.netem().join(" "));
    // Without netem there is nothing to take away.
    let undo = format!(
        "{port}\nif tc qdisc show dev \"$port\" | grep -q 'qdisc netem'; then tc qdisc del dev \"$port\" root; fi"
    );
    Deeds { make, undo }.wrapped(id, lasts)
}

fn of_service(service: Service, machine: &str, mirror_ports: &[u16], id: FaultId) -> Deeds {
    match service {
        Service::Apiserver => of_static_pod("kube-apiserver", machine, id),
        Service::Etcd => of_static_pod("etcd", machine, id),
        Service::Kubelet => of_unit("kubelet.service"),
        Service::Gateway => of_unit("meshboot-gateway.service"),
        Service::Routing => of_routing(id),
        Service::Mirror => of_mirrors(mirror_ports, id),
    }
}

/// The kubelet stops a static pod whose manifest is gone.
fn of_static_pod(name: &str, machine: &str, id: FaultId) -> Deeds {
    let (aside, manifest) = (format!("{ASIDE}/{id}"), format!("{MANIFESTS}/{name}.yaml"));
    Deeds {
        make: format!(
            "[ -e {manifest} ] || [ -e {aside}/{name}.yaml ] || \
             {{ echo '{machine} is no control plane: it has no {manifest}' >&2; exit 3; }}\n\
             mkdir -p {aside}\n\
             [ ! -e {manifest} ] || mv {manifest} {aside}/{name}.yaml"
        ),
        // What kubeadm has written meanwhile is newer. On a restarted node the folder may not be there.
        undo: format!(
            "if [ -e {aside}/{name}.yaml ]; then\n    \
             [ -e {manifest} ] || mv {aside}/{name}.yaml {manifest}\n    rm -rf {aside}\nfi"
        ),
    }
}

fn of_unit(unit: &str) -> Deeds {
    Deeds { make: format!("systemctl stop {unit}"), undo: format!("systemctl start {unit}") }
}

/// A moment later: the words came by way of it, and that they were heard has to be said the same way. If it was undone before
/// that moment nothing is stopped.
fn of_routing(id: FaultId) -> Deeds {
    let (unit, script, mark) = (unit(id), format!("{MEMORY}/{id}.soon"), format!("{MEMORY}/{id}.stands"));
    Deeds {
        make: format!(
            ": >{mark}\ncat >{script} <<'MESHBOOT'\nexec 9>{MEMORY}/lock\nflock 9\n\
             [ ! -e {mark} ] || systemctl stop frr.service\nMESHBOOT\n\
             systemctl stop {unit}-soon.timer 2>/dev/null || :\n\
             systemd-run --quiet --collect --unit={unit}-soon --on-active={ANSWERED}s --timer-property=AccuracySec=100ms \
             /bin/sh {script}"
        ),
        undo: format!("rm -f {mark}\nsystemctl start frr.service"),
    }
}

/// Connections are refused, those that stand are reset. The gateway's own question is refused as well, so the addresses of
/// the mirrors are withdrawn, and who asks for them is answered by the next node.
fn of_mirrors(ports: &[u16], id: FaultId) -> Deeds {
    let table = unit(id);
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    Deeds {
        make: format!(
            "nft -f - <<'END'\ntable inet {table}\ndelete table inet {table}\ntable inet {table} {{\n    chain input {{\n        \
             type filter hook input priority filter - 1; policy accept;\n        \
             tcp dport {{ {} }} counter reject with tcp reset\n    }}\n}}\nEND",
            ports.join(", ")
        ),
        undo: format!("nft -f - <<'END'\ntable inet {table}\ndelete table inet {table}\nEND"),
    }
}

/// The mark is in memory: a restart sets the clock right, and takes the mark away.
fn of_clock(by: i64, id: FaultId) -> Deeds {
    let mark = format!("{MEMORY}/{id}.set");
    let set = |by: i64| format!("date -s '{by:+} seconds' >/dev/null");
    Deeds {
        make: format!("[ -e {mark} ] || {{ : >{mark}; {} || {{ rm -f {mark}; exit 3; }}; }}", set(by)),
        undo: format!("if rm {mark} 2>/dev/null; then {}; fi", set(-by)),
    }
}

/// The super-user's reserve is taken as well: what runs on a node is the super-user's.
fn of_full_disk(id: FaultId) -> Deeds {
    let file = format!("{STATE}/meshboot-fault-{id}");
    Deeds {
        make: format!(
            "mountpoint -q {STATE} || {{ echo 'nothing is mounted at {STATE}' >&2; exit 3; }}\n\
             : >>{file}\n\
             for piece in {FILLINGS}; do\n    \
             while fallocate -o \"$(stat -c %s {file})\" -l \"$piece\" {file} 2>/dev/null; do :; done\ndone"
        ),
        undo: format!("rm -f {file}"),
    }
}

/// As the kernel does it in an emergency, since files are open for writing. It is done by a thread of the kernel.
fn of_readonly_disk() -> Deeds {
    let state = format!("findmnt -no FS-OPTIONS {STATE} | tr , '\\n' | grep -qx ro");
    Deeds {
        make: format!(
            "mountpoint -q {STATE} || {{ echo 'nothing is mounted at {STATE}' >&2; exit 3; }}\n\
             echo u >/proc/sysrq-trigger\n\
             for try in 1 2 3 4 5 6 7 8 9 10; do\n    if {state}; then exit 0; fi\n    sleep 0.5\ndone\n\
             echo 'the kernel did not make it read-only' >&2\nexit 4"
        ),
        undo: format!("if mountpoint -q {STATE}; then mount -o remount,rw {STATE}; fi"),
    }
}

/// What is a fault's own in a node is called this.
fn unit(id: FaultId) -> String {
    format!("meshboot-fault-{id}")
}

// === impl Deeds ===

impl Deeds {
    /// Each in a shell of its own, one at a time, and the undoing armed before anything is broken.
    fn wrapped(self, id: FaultId, lasts: Option<Duration>) -> Scripts {
        let unit = unit(id);
        let script = format!("{MEMORY}/{id}.undo");
        let arm = lasts.map(|lasts| {
            let seconds = lasts.as_secs_f64();
            format!(
                "cat >{script} <<'MESHBOOT'\nexec 9>{MEMORY}/lock\nflock 9\n{}\nMESHBOOT\n\
                 systemctl stop {unit}.timer 2>/dev/null || :\n\
                 systemd-run --quiet --collect --unit={unit} --on-active={seconds}s --timer-property=AccuracySec=100ms \
                 /bin/sh {script}\n",
                self.undo
            )
        });
        let begin = format!("set -eu\nmkdir -p {MEMORY}\nexec 9>{MEMORY}/lock\nflock 9\n");
        Scripts {
            make: format!("{begin}{}{}\n", arm.unwrap_or_default(), self.make),
            undo: format!(
                "{begin}{}\nrm -f {script}\nsystemctl stop {unit}.timer 2>/dev/null || :\n",
                self.undo
            ),
        }
    }
}
