//! What Kubernetes tells of nodes and pods, from a real API server: watched while it happens, and asked for afterwards.
//!
//! `MESHBOOT_TEST_KUBERNETES` names a folder of binaries, as for `store`.

use std::time::Duration;

use bootstrap::deployment::Directory;
use bootstrap::status;
use bootstrap::timeline::entry::{Entry, What};
use bootstrap::timeline::kubernetes::live::{Recorder, Recording};
use bootstrap::timeline::kubernetes::past::Objects;
use bootstrap::timeline::kubernetes::{Change, PodFate};
use bootstrap::timeline::merge;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::store::cluster::Cluster;

/// A change is told in no time by an API server that is there, and by one that comes back once it is up.
const LIMIT: Duration = Duration::from_secs(60);

struct Bench {
    cluster: Cluster,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let cluster = Cluster::start();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("auth")).unwrap();
        std::fs::copy(cluster.kubeconfig("admin"), folder.path().join("auth/kubeconfig")).unwrap();
        Self { cluster, runtime: Runtime::new().unwrap(), folder }
    }

    fn file(&self, object: &Value) -> String {
        let path = self.folder.path().join("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        path.display().to_string()
    }

    fn create(&self, object: &Value) {
        self.cluster.admin(&["create", "-f", &self.file(object)]);
    }

    /// Changes an object, at its path of the API.
    fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object: Value = serde_json::from_str(&self.cluster.admin(&["get", "--raw", path])).unwrap();
        change(&mut object);
        self.cluster.admin(&["replace", "--raw", path, "-f", &self.file(&object)]);
    }

    fn set_ready(&self, node: &str, ready: &str) {
        self.change(&format!("/api/v1/nodes/{node}/status"), |node| {
            // As kubelets and the controller write it.
            let condition = json!({
                "type": "Ready", "status": ready, "reason": "Test", "message": "as the test wants it",
                "lastTransitionTime": "2026-11-29T20:02:52Z", "lastHeartbeatTime": "2026-11-29T20:02:52Z",
            });
            node["status"]["conditions"] = json!([condition]);
        });
    }

    fn wait(&self, recorder: &Recorder, count: usize) -> Vec<(Option<String>, Change)> {
        let mut recording = recorder.watch();
        let enough = async {
            // That a pod is being deleted may be seen or not.
            let lasting = |recording: &Recording| {
                changes(recording).iter().filter(|(_, change)| !is_deleting(change)).count()
            };
            let seen = recording.wait_for(|recording| lasting(recording) >= count).await;
            seen.map(|seen| changes(&seen)).unwrap_or_default()
        };
        let waited = self.runtime.block_on(async { tokio::time::timeout(LIMIT, enough).await });
        waited.unwrap_or_else(|_| panic!("not {count} changes: {:#?}", changes(&recorder.watch().borrow())))
    }
}

/// What was recorded, but for taints that the API server's own admission puts on new nodes.
fn changes(recording: &Recording) -> Vec<(Option<String>, Change)> {
    let entries = recording.entries.iter().filter_map(of_kubernetes);
    entries.filter(|(_, change)| !matches!(change, Change::Taint { key, .. } if key != "broken")).collect()
}

fn of_kubernetes(entry: &Entry) -> Option<(Option<String>, Change)> {
    let What::Kubernetes(change) = &entry.detail else { return None };
    Some((entry.machines.first().cloned(), change.clone()))
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "nodeName": "node1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "c", "image": "none" }],
        },
    })
}

fn on(machine: &str, change: Change) -> (Option<String>, Change) {
    (Some(machine.to_owned()), change)
}

fn fate(name: &str, fate: PodFate) -> (Option<String>, Change) {
    on("node1", Change::Pod { pod: format!("default/{name}"), fate, reason: None })
}

#[test]
#[ignore = "needs a Kubernetes API server: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn timeline_kubernetes() {
    let mut bench = Bench::start();
    let node = |name: &str| json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
    bench.create(&node("node1"));
    bench.set_ready("node1", "True");
    bench.create(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": "default" } }));
    bench.create(&pod("old"));

    let directory = Directory::new(bench.folder.path()).unwrap();
    let client = bench.runtime.block_on(status::client(&directory)).expect("a client");
    let recorder = {
        let _inside = bench.runtime.enter();
        Recorder::start(&client)
    };
    assert!(bench.runtime.block_on(recorder.ready(LIMIT)));
    // How things stand is no change.
    assert_eq!(changes(&recorder.watch().borrow()), []);

    bench.set_ready("node1", "Unknown");
    bench.change("/api/v1/nodes/node1", |node| {
        node["spec"]["taints"] =
            json!([{ "key": "broken", "effect": "NoExecute", "timeAdded": "2026-11-29T20:02:53Z" }]);
    });
    bench.create(&pod("new"));
    bench.change("/api/v1/namespaces/default/pods/new/status", |pod| {
        let made = &pod["metadata"]["creationTimestamp"];
        let condition = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": made });
        pod["status"]["conditions"] = json!([condition]);
    });
    bench.create(&json!({
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "FailedMount", "message": "no disk",
        "metadata": { "name": "new.1", "namespace": "default" },
        "involvedObject": { "kind": "Pod", "namespace": "default", "name": "new" },
        "lastTimestamp": "2026-11-29T20:02:55Z",
    }));
    bench.cluster.admin(&["delete", "pod", "old", "--grace-period=0", "--force"]);
    let silent = Some("as the test wants it".to_owned());
    let taint = |present| Change::Taint { key: "broken".to_owned(), effect: "NoExecute".to_owned(), present };
    let mut expected = vec![
        on("node1", Change::Ready { ready: false, reason: silent }),
        on("node1", taint(true)),
        fate("new", PodFate::Scheduled),
        fate("old", PodFate::Gone),
    ];
    // Pods and nodes are watched each for itself.
    let sorted = |mut changes: Vec<(Option<String>, Change)>| {
        changes.sort_by_key(|change| format!("{change:?}"));
        changes
    };
    let told = bench.wait(&recorder, expected.len());
    let told = told.into_iter().filter(|(_, change)| !is_deleting(change)).collect();
    assert_eq!(sorted(told), sorted(expected.clone()));

    // What happens while nobody can watch is told when somebody can again.
    bench.cluster.stop_api();
    bench.cluster.start_api();
    bench.set_ready("node1", "True");
    expected.push(on("node1", Change::Ready { ready: true, reason: None }));
    let told = bench.wait(&recorder, expected.len());
    let told = told.into_iter().filter(|(_, change)| !is_deleting(change)).collect();
    assert_eq!(sorted(told), sorted(expected));

    // Afterwards the API knows the last of it, to the second; what was watched is not told again.
    let recording = bench.runtime.block_on(recorder.finish());
    let objects = bench.runtime.block_on(Objects::read(&client)).unwrap();
    let past: Vec<_> = objects.entries().iter().filter_map(of_kubernetes).collect();
    assert!(past.contains(&on("node1", Change::Ready { ready: true, reason: None })), "{past:#?}");
    assert!(past.contains(&on("node1", taint(true))), "{past:#?}");
    assert!(past.contains(&fate("new", PodFate::Scheduled)), "{past:#?}");
    let warned = |(machine, change): &(Option<String>, Change)| {
        let Change::Told { about, reason, .. } = change else { return false };
        machine.as_deref() == Some("node1") && about == "Pod default/new" && reason == "FailedMount"
    };
    assert!(past.iter().any(warned), "{past:#?}");
    let both: Vec<Entry> = recording.entries.into_iter().chain(objects.entries()).collect();
    let merged = merge(both);
    let scheduled =
        merged.iter().filter_map(of_kubernetes).filter(|told| *told == fate("new", PodFate::Scheduled));
    assert_eq!(scheduled.count(), 1);
}

/// Whether the API server shows a deletion before it is done depends on its version.
fn is_deleting(change: &Change) -> bool {
    matches!(change, Change::Pod { fate: PodFate::Deleting, .. })
}
