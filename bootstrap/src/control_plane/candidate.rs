//! A node's own part: it says what is on its disk, and becomes a control plane when it is given what it takes.
//!
//! The gateway may write nothing but its own state. So it leaves the keys in memory, and a unit of systemd's that waits for
//! them does the rest ([`ignition::cluster::PROMOTION`]).

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use futures::TryStreamExt as _;
use ignition::cluster::{CONTROL_PLANE_MARK, PROMOTION};
use ignition::kubeadm::control_plane_config;
use ignition::{ControlPlaneSpec, SitePlan};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api as Objects;
use kube::runtime::watcher;
use mesh::{Block, NodeName};
use serde::{Deserialize, Serialize};

use super::decide::Found;
use super::etcd::MemberId;
use super::ticket::Ticket;
use super::{REPORT, TICKET};
use crate::gateway::api::Api;
use crate::gateway::approver::{Right, keep};
use crate::join::{Cluster, WATCH};
use crate::private_file;

/// Where the kernel says which boot this is, as the kubelet does.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How often the disk is looked at while a unit works on it.
const LOOK: Duration = Duration::from_secs(2);

/// What a node says of its own disk, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The boot in which it says so: what it said in another one is no news.
    pub boot: String,
    /// The member of etcd whose data and keys are there, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// Why it does not become one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The node.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name.
    name: NodeName,
    block: Block,
    site: SitePlan,
    wanted: ControlPlaneSpec,
    mark: PathBuf,
    folder: PathBuf,
}

/// What Kubernetes says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    ticket: Option<MemberId>,
    report: Option<String>,
}

// === impl Report ===

impl Report {
    /// What a Node says of itself in the boot that Kubernetes speaks of; none if it has not said anything in it.
    #[must_use]
    pub fn of(node: &Node) -> Option<Found> {
        let text = node.metadata.annotations.as_ref()?.get(REPORT)?;
        let report: Self = serde_json::from_str(text).ok()?;
        let info = node.status.as_ref()?.node_info.as_ref()?;
        (report.boot == info.boot_id).then_some(Found { member: report.member, trouble: report.trouble })
    }
}

// === impl Candidate ===

impl Candidate {
    /// The node that this gateway runs on.
    #[must_use]
    pub fn new(name: NodeName, block: Block, site: SitePlan, wanted: ControlPlaneSpec) -> Self {
        Self { name, block, site, wanted, mark: CONTROL_PLANE_MARK.into(), folder: PROMOTION.into() }
    }

    /// Attends to what is wanted of the node, until the API server's watcher ends.
    pub async fn run(self, api: Api) {
        let lack = "this node cannot become a control plane";
        keep(&api, Right::Node, lack, |cluster| self.attend(cluster)).await;
    }

    /// Until something goes wrong; returns what.
    async fn attend(&self, cluster: Cluster) -> Error {
        let nodes: Objects<Node> = Objects::all(cluster.client().clone());
        let config =
            watcher::Config::default().timeout(WATCH).fields(&format!("metadata.name={}", self.name));
        let mut events = pin!(watcher(nodes, config));
        let mut looks = tokio::time::interval(LOOK);
        let (mut told, mut busy) = (None, false);
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(watcher::Event::InitApply(node) | watcher::Event::Apply(node))) => {
                        told = Some(Told::of(&node));
                    }
                    Ok(Some(watcher::Event::Delete(_))) => told = None,
                    Ok(Some(watcher::Event::Init | watcher::Event::InitDone)) => continue,
                    Ok(None) => return anyhow!("the watch on this node ended"),
                    Err(error) => return Error::new(error).context("cannot watch this node"),
                },
                _ = looks.tick(), if busy => {}
            }
            let Some(told) = &mut told else { continue };
            match self.step(&cluster, told).await {
                Ok(is_busy) => busy = is_busy,
                Err(error) => return error,
            }
        }
    }

    /// Says what is on the disk, if that is news, and takes a ticket that was not carried out. Whether one is being
    /// carried out.
    async fn step(&self, cluster: &Cluster, told: &mut Told) -> Result<bool> {
        let report = self.report()?;
        let text = serde_json::to_string(&report).context("cannot write what is on the disk as JSON")?;
        if told.report.as_ref() != Some(&text) {
            let said = cluster.annotate(&self.name, REPORT, Some(&text)).await;
            said.context("cannot say what is on this node's disk")?;
            tracing::info!(
                member = report.member.map(|id| id.to_string()),
                trouble = report.trouble,
                "Kubernetes knows what is on this node's disk"
            );
            told.report = Some(text);
        }
        let Some(id) = told.ticket.filter(|id| report.member != Some(*id)) else {
            remove_folder(&self.folder)?;
            return Ok(false);
        };
        if !self.has_taken(id) {
            let ticket = cluster.ticket(&self.name).await?;
            ensure!(ticket.member == id, "the ticket is for {}, and {id} was announced", ticket.member);
            self.take(&ticket)?;
            tracing::info!(member = %id, "this node becomes a control plane");
        }
        Ok(true)
    }

    fn report(&self) -> Result<Report> {
        let boot = fs::read_to_string(BOOT_ID).with_context(|| format!("cannot read {BOOT_ID}"))?;
        let read = |path: &Path| match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let member = read(&self.mark)?.map(|text| text.parse());
        let member =
            member.transpose().with_context(|| format!("{} names no member", self.mark.display()))?;
        Ok(Report { boot: boot.trim().to_owned(), member, trouble: read(&self.folder.join("trouble"))? })
    }

    /// Whether the unit has it already.
    fn has_taken(&self, id: MemberId) -> bool {
        let taken = fs::read_to_string(self.folder.join("ticket"));
        self.folder.join("ready").exists() && taken.is_ok_and(|text| text.trim().parse() == Ok(id))
    }

    /// Leaves what the unit needs; the last file starts it.
    fn take(&self, ticket: &Ticket) -> Result<()> {
        remove_folder(&self.folder)?;
        let keys = self.folder.join("pki");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(keys.join("etcd"));
        made.with_context(|| format!("cannot make {}", keys.display()))?;
        for (path, text) in &ticket.keys {
            let file = keys.join(path);
            private_file::replace(&file, text.expose().as_bytes())?;
            if !path.ends_with(".key") {
                let set = fs::set_permissions(&file, Permissions::from_mode(0o644));
                set.with_context(|| format!("cannot set the mode of {}", file.display()))?;
            }
        }
        let config = control_plane_config(&self.site, &self.name, self.block, &self.wanted, &ticket.members);
        private_file::replace(&self.folder.join("kubeadm.yaml"), config.as_bytes())?;
        private_file::replace(&self.folder.join("ticket"), format!("{}\n", ticket.member).as_bytes())?;
        private_file::replace(&self.folder.join("ready"), b"")
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

// === impl Told ===

impl Told {
    fn of(node: &Node) -> Self {
        let annotation = |key: &str| node.metadata.annotations.as_ref()?.get(key).cloned();
        Self { ticket: annotation(TICKET).and_then(|id| id.parse().ok()), report: annotation(REPORT) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ignition::Secret;
    use mesh::{AddressPlan, BlockNumber};
    use serde_json::json;

    use super::*;

    fn node(boot: &str, report: &str) -> Node {
        let value = json!({
            "metadata": { "name": "node1", "annotations": { REPORT: report, TICKET: "2a" } },
            "status": { "nodeInfo": {
                "bootID": boot, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                "systemUUID": "",
            } },
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_was_said_in_another_boot_is_no_news() {
        let report = r#"{"boot":"a","member":"2a"}"#;
        let found = Found { member: Some(MemberId(42)), trouble: None };
        assert_eq!(Report::of(&node("a", report)), Some(found));
        assert_eq!(Report::of(&node("b", report)), None);
        assert_eq!(Report::of(&node("a", r#"{"boot":"a"}"#)), Some(Found::default()));
        assert_eq!(Report::of(&node("a", "none")), None);
        assert_eq!(Told::of(&node("a", report)).ticket, Some(MemberId(42)));
    }

    fn candidate(root: &Path) -> Candidate {
        let site = SitePlan {
            id: "5eed0000-0000-4000-8000-000000000001".parse().unwrap(),
            plan: AddressPlan::default(),
            kubernetes: "v1.33.1".parse().unwrap(),
            kubernetes_source: ignition::KubernetesSource::Upstream,
            cni: ignition::Cni::Routed,
            ssh_keys: Vec::new(),
            ca_cert_pem: String::new(),
            ca_spki_sha256: String::new(),
            nameservers: Vec::new(),
        };
        let block = site.plan.block(BlockNumber(2)).unwrap();
        let candidate = Candidate::new("node1".parse().unwrap(), block, site, ControlPlaneSpec::default());
        Candidate { mark: root.join("mark"), folder: root.join("promotion"), ..candidate }
    }

    #[test]
    fn the_unit_finds_all_that_it_needs_and_the_file_that_starts_it_last() {
        let root = tempfile::tempdir().unwrap();
        let candidate = candidate(root.path());
        let key = |path: &'static str| (path, Secret::new(format!("the {path}")));
        let keys = BTreeMap::from([key("ca.crt"), key("etcd/ca.key")]);
        let members = vec!["seed=https://[::1]:2380".to_owned(), "node1=https://[::2]:2380".to_owned()];
        let ticket = Ticket { member: MemberId(42), members, keys };
        assert!(!candidate.has_taken(ticket.member));
        // What an earlier one left is gone.
        fs::create_dir(&candidate.folder).unwrap();
        fs::write(candidate.folder.join("trouble"), "kubeadm init phase etcd local: no\n").unwrap();
        assert!(candidate.report().unwrap().trouble.unwrap().ends_with(": no"));
        candidate.take(&ticket).unwrap();
        assert!(candidate.has_taken(ticket.member) && !candidate.has_taken(MemberId(43)));
        assert_eq!(candidate.report().unwrap().trouble, None);
        let mode = |path: &str| candidate.folder.join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("pki/etcd/ca.key"), mode("pki/ca.crt")), (0o700, 0o600, 0o644));
        let read = |path: &str| fs::read_to_string(candidate.folder.join(path)).unwrap();
        assert_eq!((read("ticket").as_str(), read("pki/etcd/ca.key").as_str()), ("2a\n", "the etcd/ca.key"));
        assert!(read("kubeadm.yaml").contains("seed=https://[::1]:2380,node1=https://[::2]:2380"));
    }

    #[test]
    fn the_disk_says_which_member_it_is() {
        let root = tempfile::tempdir().unwrap();
        let candidate = candidate(root.path());
        assert_eq!(candidate.report().unwrap().member, None);
        fs::write(&candidate.mark, "2a\n").unwrap();
        assert_eq!(candidate.report().unwrap().member, Some(MemberId(42)));
        fs::write(&candidate.mark, "damaged\n").unwrap();
        assert!(candidate.report().is_err(), "it is not said that there is nothing");
    }
}
