//! `meshboot weigh`: a node's control plane comes before its other pods where processors are short.
//!
//! A kubelet gives a pod the weight of what it asks for, and kubeadm's etcd asks for a tenth of a processor: in a machine that
//! is busy it is late with its heartbeats and loses its leadership, and the API servers that wait for it are started again,
//! which makes the machine busier. On one or two processors all pods together would also weigh less than the system's
//! services. A pod that asks for two processors weighs 79. [Kubernetes: cgroup v2, conversion of CPU shares to weights]
//!
//! The kubelet names a static pod's cgroup by what is in its manifest, and the folder of its logs by that and its name. While a
//! seed came up all of them were seen to be given their first weights once more; that of all pods is watched for it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cli::weigh::WeighOptions;

/// What the static pods of a control plane weigh at least.
const COMPONENTS: [(&str, u32); 4] =
    [("etcd", 500), ("kube-apiserver", 100), ("kube-controller-manager", 25), ("kube-scheduler", 25)];
/// The group of those pods that ask for something and have no limit, as these do.
const BURSTABLE: &str = "kubepods-burstable.slice";
/// What the groups above them weigh at least: of all pods, where all services of the system are 100, and that one.
const ABOVE: [(&str, u32); 2] = [("", 200), (BURSTABLE, 300)];
/// The file of a group's weight.
const WEIGHT: &str = "cpu.weight";

/// Weighs them, and again whenever a pod comes or the kubelet weighs. It ends with the process.
///
/// # Errors
///
/// Folders cannot be watched or read, or a weight cannot be written.
pub fn run(options: &WeighOptions) -> Result<()> {
    let WeighOptions { pods, logs, node } = options;
    let cannot_watch = |path: &Path| format!("cannot watch {}", path.display());
    fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).context("cannot watch anything")?;
    inotify.add_watch(logs, AddWatchFlags::IN_CREATE).with_context(|| cannot_watch(logs))?;
    loop {
        for (group, _) in ABOVE {
            let path = pods.join(group).join(WEIGHT);
            // Twice is once; and what is not there comes with the first pods.
            match inotify.add_watch(&path, AddWatchFlags::IN_MODIFY) {
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error).with_context(|| cannot_watch(&path)),
            }
        }
        for (group, weight) in weigh(pods, logs, node.as_str())? {
            tracing::info!(group = %group.display(), weight, "the control plane comes first");
        }
        // What happened meanwhile is kept in the kernel.
        match inotify.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for pods"),
        }
    }
}

/// Raises what weighs less than it shall, if a control plane is here; what was raised.
fn weigh(pods: &Path, logs: &Path, node: &str) -> Result<Vec<(PathBuf, u32)>> {
    let mut wanted = Vec::new();
    let folders = fs::read_dir(logs).with_context(|| format!("cannot read {}", logs.display()))?;
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        for (component, least) in COMPONENTS {
            if let Some(uid) = name.strip_prefix(&format!("kube-system_{component}-{node}_")) {
                let group = format!("kubepods-burstable-pod{uid}.slice");
                wanted.push((pods.join(BURSTABLE).join(group), least));
            }
        }
    }
    if !wanted.is_empty() {
        wanted.extend(ABOVE.map(|(group, least)| (pods.join(group), least)));
    }
    let mut raised = Vec::new();
    for (group, least) in wanted {
        let was_less = raise(&group, least)
            .with_context(|| format!("cannot weigh {}: {least} in {WEIGHT}", group.display()))?;
        if was_less {
            raised.push((group, least));
        }
    }
    Ok(raised)
}

/// Whether a group weighed less. One that has ended meanwhile did not.
fn raise(group: &Path, least: u32) -> io::Result<bool> {
    let path = group.join(WEIGHT);
    let raised = || {
        let text = fs::read_to_string(&path)?;
        if text.trim().parse::<u32>().is_ok_and(|weight| weight < least) {
            // It is never made: a group has it or has ended.
            let mut file = OpenOptions::new().write(true).truncate(true).open(&path)?;
            return file.write_all(format!("{least}\n").as_bytes()).map(|()| true);
        }
        Ok(false)
    };
    match raised() {
        Err(error)
            if [Some(Errno::ENOENT as i32), Some(Errno::ENODEV as i32)].contains(&error.raw_os_error()) =>
        {
            Ok(false)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use super::*;

    /// Folders that play a machine's.
    struct Machine(TempDir);

    impl Machine {
        fn new(pods: u32, burstable: u32) -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.logs()).unwrap();
            machine.group("", pods);
            machine.group(BURSTABLE, burstable);
            machine
        }

        fn pods(&self) -> PathBuf {
            self.0.path().join("kubepods.slice")
        }

        fn logs(&self) -> PathBuf {
            self.0.path().join("pods")
        }

        fn group(&self, group: &str, weight: u32) {
            let group = self.pods().join(group);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join(WEIGHT), format!("{weight}\n")).unwrap();
        }

        /// As the kubelet makes one: its group, then its folder of logs.
        fn pod(&self, name: &str, uid: &str, weight: u32) {
            self.group(&Self::of(uid), weight);
            fs::create_dir(self.logs().join(format!("{name}_{uid}"))).unwrap();
        }

        fn of(uid: &str) -> String {
            format!("{BURSTABLE}/kubepods-burstable-pod{uid}.slice")
        }

        fn weight(&self, group: &str) -> u32 {
            fs::read_to_string(self.pods().join(group).join(WEIGHT)).unwrap().trim().parse().unwrap()
        }

        fn weigh(&self) -> usize {
            weigh(&self.pods(), &self.logs(), "node-2").unwrap().len()
        }
    }

    #[test]
    fn a_control_plane_comes_before_other_pods() {
        let machine = Machine::new(39, 26);
        machine.pod("kube-system_etcd-node-2", "e1", 4);
        machine.pod("kube-system_kube-apiserver-node-2", "a1", 10);
        machine.pod("kube-system_kube-scheduler-node-2", "c1", 4);
        // Of other names, other machines, other namespaces: they weigh what they ask for.
        let others = ["kube-system_web", "kube-system_etcd-node-21", "default_etcd-node-2"];
        for (uid, name) in ["o0", "o1", "o2"].into_iter().zip(others) {
            machine.pod(name, uid, 4);
        }
        assert_eq!(machine.weigh(), 5);
        assert_eq!(["e1", "a1", "c1"].map(|uid| machine.weight(&Machine::of(uid))), [500, 100, 25]);
        assert_eq!(["o0", "o1", "o2"].map(|uid| machine.weight(&Machine::of(uid))), [4; 3]);
        assert_eq!(["", BURSTABLE].map(|group| machine.weight(group)), [200, 300]);
        assert_eq!(machine.weigh(), 0, "once is enough");
    }

    #[test]
    fn what_weighs_more_is_left_as_it_is() {
        // On a machine of 32 processors.
        let machine = Machine::new(1250, 400);
        machine.pod("kube-system_etcd-node-2", "e1", 800);
        assert_eq!(machine.weigh(), 0);
        assert_eq!(["", BURSTABLE].map(|group| machine.weight(group)), [1250, 400]);
    }

    #[test]
    fn a_node_that_is_no_control_plane_weighs_as_its_kubelet_does() {
        let machine = Machine::new(79, 2);
        machine.pod("kube-system_kube-proxy-7gk2f", "p1", 1);
        assert_eq!(machine.weigh(), 0);
        assert_eq!(["", BURSTABLE].map(|group| machine.weight(group)), [79, 2]);
    }

    #[test]
    fn a_pod_that_has_just_ended_is_no_failure() {
        let machine = Machine::new(200, 300);
        fs::create_dir(machine.logs().join("kube-system_etcd-node-2_gone")).unwrap();
        assert_eq!(machine.weigh(), 0);
        assert!(!machine.pods().join(Machine::of("gone")).exists());
    }

    #[test]
    fn a_pod_that_comes_and_a_kubelet_that_weighs_are_seen() {
        let machine = Machine::new(39, 26);
        let options =
            WeighOptions { pods: machine.pods(), logs: machine.logs(), node: "node-2".parse().unwrap() };
        let (failed, failure) = mpsc::channel();
        // It ends with the test's process.
        std::thread::spawn(move || failed.send(run(&options)));
        let wait = |what: &str, groups: &[(&str, u32)]| {
            let begun = Instant::now();
            while !groups.iter().all(|(group, weight)| machine.weight(group) == *weight) {
                assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", failure.try_recv());
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        machine.pod("kube-system_etcd-node-2", "e1", 4);
        wait("a pod comes", &[(&Machine::of("e1"), 500), ("", 200), (BURSTABLE, 300)]);
        machine.pod("kube-system_kube-apiserver-node-2", "a1", 10);
        wait("another comes", &[(&Machine::of("a1"), 100)]);
        machine.group("", 39);
        wait("a kubelet starts", &[("", 200)]);
    }
}
