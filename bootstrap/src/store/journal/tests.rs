use std::time::Instant;

use mesh::{AddressPlan, Claim, Mac, Role, allocate};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;

fn file(folder: &TempDir) -> RedbStore {
    RedbStore::open(folder.path().join("ledger.redb")).unwrap()
}

fn next(ledger: &Ledger, number: u8) -> Change {
    let boot_mac = Mac([2, 0, 0, 0, 0, number]);
    let claim = Claim { uuid: None, boot_mac, ports: Vec::new(), role: Role::Node, preferred_name: None };
    allocate::admit(ledger, &AddressPlan::default(), &claim).unwrap().change.unwrap()
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    let error = result.unwrap_err();
    let StoreError::Unavailable { reason } = error else { panic!("{error}") };
    reason
}

/// A Kubernetes that nobody runs.
fn nobody(folder: &TempDir, runtime: &Runtime) -> Arc<KubernetesStore> {
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": "https://[::1]:1" } }],
        "users": [{ "name": "it", "user": { "token": "none" } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    let path = folder.path().join("nobody.conf");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    Arc::new(KubernetesStore::new(path, AddressPlan::default(), runtime.handle().clone()))
}

#[test]
fn a_seed_has_the_say_until_it_hands_it_over() {
    let folder = tempfile::tempdir().unwrap();
    let seed = MeshStore::seed(file(&folder)).unwrap();
    assert_eq!(seed.authority(), Authority::Own);
    let (ledger, revision) = seed.load().unwrap();
    assert_eq!(seed.append(revision, &next(&ledger, 1)).unwrap(), Revision(1));
    assert_eq!(seed.cached().machines().count(), 1);
    let stale = seed.append(revision, &next(&ledger, 2));
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    drop(seed);
    let seed = MeshStore::seed(file(&folder)).unwrap();
    assert_eq!(seed.cached().machines().count(), 1);
    assert_eq!(seed.load().unwrap().1, Revision(1));
}

#[test]
fn a_handover_that_was_begun_is_never_taken_back_by_a_restart() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let seed = MeshStore::seed(file(&folder)).unwrap();
    seed.append(Revision(0), &next(&Ledger::default(), 1)).unwrap();
    let reason = unavailable(seed.connect(nobody(&folder, &runtime), Some("seed1")));
    assert!(reason.contains("https://[::1]:1"), "{reason}");
    // Whether Kubernetes heard of it is not known, so nobody writes the file any more.
    let (ledger, revision) = seed.load().unwrap();
    assert_eq!(unavailable(seed.append(revision, &next(&ledger, 2))), reason);
    assert_eq!(seed.authority(), Authority::Away { reason });
    drop(seed);
    let seed = MeshStore::seed(file(&folder)).unwrap();
    assert!(matches!(seed.authority(), Authority::Away { .. }));
    let (ledger, revision) = seed.load().unwrap();
    assert_eq!((ledger.machines().count(), revision), (1, Revision(1)));
    assert!(unavailable(seed.append(revision, &next(&ledger, 2))).contains("has not answered"));
}

#[test]
fn a_relay_knows_nothing_until_it_has_read_something() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for relay in [MeshStore::relay(None).unwrap(), MeshStore::relay(Some(file(&folder))).unwrap()] {
        assert!(unavailable(relay.load()).contains("has not answered"));
        assert!(
            unavailable(relay.append(Revision(0), &next(&Ledger::default(), 1))).contains("has not answered")
        );
        let reason = unavailable(relay.connect(nobody(&folder, &runtime), None));
        assert_eq!(unavailable(relay.load()), reason);
        assert_eq!(relay.cached().machines().count(), 0);
    }
}

#[test]
fn a_relay_with_a_copy_goes_on_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    ledger.apply(&next(&ledger, 1)).unwrap();
    let copy = file(&folder);
    copy.copy(&ledger, Revision(40)).unwrap();
    let relay = MeshStore::relay(Some(copy)).unwrap();
    assert_eq!(relay.load().unwrap(), (ledger.clone(), Revision(40)));
    unavailable(relay.append(Revision(40), &next(&ledger, 2)));
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named_at_once() {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubelet.conf");
    let kubernetes = KubernetesStore::new(&path, AddressPlan::default(), runtime.handle().clone());
    let relay = MeshStore::relay(None).unwrap();
    let started = Instant::now();
    let reason = unavailable(relay.connect(Arc::new(kubernetes), None));
    assert!(reason.contains(&path.display().to_string()), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(1));
}
