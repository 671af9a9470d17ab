//! What an operator reserves while a mesh runs, as those hear of it who serve machines.

use std::collections::BTreeMap;

use bootstrap::gateway::choice::Choice;
use bootstrap::gateway::settings::{Artefact, BootArtefacts, Reservation};
use bootstrap::join::Cluster as Join;
use bootstrap::store::crds::Which;
use ignition::NodeSpec;
use netboot_server::Client;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);
/// Longer than a request may be silent.
const QUIET: Duration = Duration::from_secs(20);

fn reserved(digit: &str) -> Reservation {
    let file = |digit: &str| Artefact { sha256: digit.repeat(64), size: 1 };
    let boot =
        BootArtefacts { uki: [("x64".to_owned(), file(digit))].into(), root: file("b"), layer: file("c") };
    let spec = NodeSpec { image: Some("0123456789abcdef".parse().unwrap()), ..NodeSpec::default() };
    Reservation { name: "trial".parse().unwrap(), spec, boot: Some(boot) }
}

/// Waits until whoever chooses gives this to the machine.
fn wait(choice: &Choice, wanted: Option<&BootArtefacts>) {
    let begun = Instant::now();
    let client = Client { mac: Some(mac(9)), uuid: None };
    while choice.of(&client).as_ref() != wanted {
        assert!(begun.elapsed() < LIMIT, "{:?}, and {wanted:?} is wanted", choice.of(&client));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs Kubernetes: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn a_relay_hears_which_machines_boot_images_of_their_own() {
    let mut cluster = Cluster::start();
    let runtime = Runtime::new().unwrap();
    let admin = cluster.kubeconfig("admin");
    KubernetesStore::new(&admin, plan(), runtime.handle().clone()).install().unwrap();
    let open = |path: &Path| runtime.block_on(Join::open(path)).unwrap();
    let (operator, relay) = (open(&admin), open(&cluster.kubeconfig("system:node:node1")));
    let reserve = |wanted: &Reservation| {
        runtime.block_on(operator.reserve(Which::Mac(mac(9)), wanted)).unwrap();
    };

    let store = Arc::new(MeshStore::relay(None).unwrap());
    let (choice, reserved_later) = Choice::new(BTreeMap::new(), store);
    let (one, other) = (reserved("1"), reserved("2"));
    reserve(&one);
    let attending = runtime.spawn(async move { reserved_later.attend(relay).await });
    wait(&choice, one.boot.as_ref());
    assert_eq!(choice.all(), [one.boot.clone().unwrap()]);
    reserve(&other);
    wait(&choice, other.boot.as_ref());
    // A watch on which nothing happens goes on: nobody is told late because nothing was to be told before.
    std::thread::sleep(QUIET);
    assert!(!attending.is_finished(), "the watch ended");
    let labelled = NodeSpec {
        labels: [("rack".to_owned(), "a1".to_owned())].into(),
        feature_gates: [("A".to_owned(), true)].into(),
        kubelet: [("max-pods".to_owned(), "9".to_owned())].into(),
        ..other.spec.clone()
    };
    reserve(&Reservation { spec: labelled.clone(), ..other.clone() });
    let wanted = || runtime.block_on(operator.reservations_by_name()).unwrap()[&other.name].clone();
    assert_eq!(wanted().labels, labelled.labels);
    // What all machines boot, and nothing of their own.
    reserve(&Reservation { boot: None, spec: NodeSpec::default(), ..other.clone() });
    wait(&choice, None);
    assert_eq!(wanted(), NodeSpec::default());
    reserve(&one);
    wait(&choice, one.boot.as_ref());
    runtime.block_on(operator.release(&one.name)).unwrap();
    wait(&choice, None);

    // Who heard of it knows it also while there is nobody to ask.
    reserve(&one);
    wait(&choice, one.boot.as_ref());
    cluster.stop_api();
    wait(&choice, one.boot.as_ref());
}
