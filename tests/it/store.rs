//! The ledger in a real Kubernetes API server.
//!
//! `MESHBOOT_TEST_KUBERNETES` names a folder with `kube-apiserver`, and `etcd` and `kubectl` where these are not
//! installed. Any version from 1.20 on will do.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it stands, and says how long it took"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bootstrap::store::kubernetes::Import;
use bootstrap::store::{Authority, KubernetesStore, MeshStore, RedbStore};
use mesh::store::{TransactError, transact};
use mesh::{
    AddressPlan, AdmitError, Change, Claim, Far, Ledger, LinkId, LinkStatus, Mac, Machine, MachineId,
    Revision, Role, Stage, Store, StoreError, allocate,
};
use tokio::runtime::{Handle, Runtime};

pub(crate) use self::cluster::Cluster;

pub(crate) mod cluster;
mod reserved;

/// The child of the crash test appends by this kubeconfig.
const CRASH: &str = "MESHBOOT_TEST_CRASH_KUBECONFIG";

/// So few blocks that preferred numbers clash.
fn plan() -> AddressPlan {
    AddressPlan { machines: "2001:db8::/110".parse().unwrap(), ..AddressPlan::default() }
}

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

fn claim(number: u16) -> Claim {
    Claim {
        uuid: None,
        boot_mac: mac(number),
        ports: vec![(mac(number), "enp1s0".to_owned()), (mac(number + 0x8000), "enp2s0".to_owned())],
        role: Role::Node,
        preferred_name: None,
    }
}

fn admit(store: &dyn Store, number: u16) -> Result<Machine, TransactError<AdmitError>> {
    transact(store, |ledger| {
        let admission = allocate::admit(ledger, &plan(), &claim(number))?;
        Ok((admission.machine, admission.change))
    })
}

/// Admits, however many others do at the same time.
fn admit_among_others(store: &dyn Store, number: u16) -> Machine {
    loop {
        match admit(store, number) {
            Ok(machine) => return machine,
            Err(TransactError::Store(StoreError::Conflict { .. })) => {}
            Err(error) => panic!("{number}: {error}"),
        }
    }
}

fn attach(store: &dyn Store, near: MachineId, far: u16) -> LinkId {
    let id = LinkId { near, port: 1.try_into().unwrap() };
    transact(store, |ledger| {
        let machine = ledger.machine_with_mac(mac(far)).map(|machine| machine.id);
        let change = allocate::attach(ledger, &plan(), id, Far { mac: mac(far), machine }).unwrap();
        Ok::<_, AdmitError>((id, change))
    })
    .unwrap()
}

fn remove(store: &dyn Store, id: MachineId) {
    transact(store, |_| Ok::<_, AdmitError>(((), Some(Change::Remove(id))))).unwrap();
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    let error = result.unwrap_err();
    let StoreError::Unavailable { reason } = error else { panic!("{error}") };
    reason
}

/// Every block, name, router id and Ethernet address once: a ledger refuses to be restored otherwise.
fn check(ledger: &Ledger) {
    Ledger::restore(ledger.machines().cloned(), ledger.links().cloned()).unwrap();
}

struct Bench {
    cluster: Cluster,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Bench {
    fn store(&self, user: &str) -> Arc<KubernetesStore> {
        store(&self.cluster.kubeconfig(user), self.runtime.handle().clone())
    }

    fn file(&self, name: &str) -> RedbStore {
        RedbStore::open(self.folder.path().join(name)).unwrap()
    }
}

fn store(kubeconfig: &Path, runtime: Handle) -> Arc<KubernetesStore> {
    Arc::new(KubernetesStore::new(kubeconfig, plan(), runtime))
}

#[test]
#[ignore = "needs a Kubernetes API server: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn store_kubernetes() {
    let mut bench = Bench {
        cluster: Cluster::start(),
        runtime: Runtime::new().unwrap(),
        folder: tempfile::tempdir().unwrap(),
    };
    installs_twice(&bench);
    imports_once(&bench);
    a_node_may_do_what_a_relay_does_and_no_more(&bench);
    racing_writers_give_nothing_twice(&bench);
    a_crash_after_the_commit_loses_nothing(&bench);
    killed_writers_lose_nothing_they_acknowledged(&bench);
    a_relay_removes_and_a_seed_sweeps(&bench);
    a_machine_deleted_by_hand_is_removed(&bench);
    statuses_are_shown_and_make_no_revision(&bench);
    a_watch_keeps_the_copy_fresh(&bench);
    a_lost_head_is_made_again_from_the_objects(&bench);
    an_api_that_is_away_is_said_and_found_again(&mut bench);
}

fn step(name: &str, started: Instant) {
    println!("{name}: {} ms", started.elapsed().as_millis());
}

fn installs_twice(bench: &Bench) {
    let started = Instant::now();
    let admin = bench.store("admin");
    assert!(unavailable(admin.load()).contains("no seed has imported"), "{:?}", admin.load());
    admin.install().unwrap();
    step("install", started);
    let started = Instant::now();
    admin.install().unwrap();
    step("install again", started);
    let reason = unavailable(bench.store("system:node:node1").load());
    assert!(reason.contains("no seed has imported"), "{reason}");
}

fn imports_once(bench: &Bench) {
    let admin = bench.store("admin");
    let seed = MeshStore::seed(bench.file("seed.redb")).unwrap();
    assert_eq!(seed.authority(), Authority::Own);
    let first = admit(&seed, 1).unwrap();
    admit(&seed, 2).unwrap();
    attach(&seed, first.id, 2);
    let before = seed.load().unwrap();
    let started = Instant::now();
    seed.connect(Arc::clone(&admin), Some("node1")).unwrap();
    step("import", started);
    assert_eq!(seed.authority(), Authority::Kubernetes);
    assert_eq!(seed.load().unwrap(), before);
    assert_eq!(*seed.cached(), before.0);

    // Again by the same, after a restart; and by somebody with another ledger.
    drop(seed);
    let seed = MeshStore::seed(bench.file("seed.redb")).unwrap();
    assert!(matches!(seed.authority(), Authority::Away { .. }));
    assert_eq!(seed.load().unwrap(), before);
    assert!(matches!(admit(&seed, 3), Err(TransactError::Store(StoreError::Unavailable { .. }))));
    seed.connect(Arc::clone(&admin), Some("node1")).unwrap();
    let known = Import::Known { from: "node1".to_owned() };
    assert_eq!(admin.import(&Ledger::default(), Revision(9), "other").unwrap(), known);
    assert_eq!(seed.load().unwrap(), before);

    let view = bench.cluster.admin(&["get", "machines,links"]);
    println!("{view}");
    for text in ["ROUTERID", "node1", "0.0.0.2", "2001:db8::200/119", "node1-p1", "2001:db8::214/126"] {
        assert!(view.contains(text), "{text} is not in\n{view}");
    }
}

fn a_node_may_do_what_a_relay_does_and_no_more(bench: &Bench) {
    let relay = MeshStore::relay(None).unwrap();
    assert!(matches!(relay.load(), Err(StoreError::Unavailable { .. })));
    relay.connect(bench.store("system:node:node2"), None).unwrap();
    let machine = admit(&relay, 3).unwrap();
    attach(&relay, machine.id, 1);
    assert_eq!(admit(&*bench.store("admin"), 3).unwrap(), machine);

    let node = "system:node:node2";
    let head = "configmaps/meshboot-ledger";
    let may: [&[&str]; 6] = [
        &["update", "links.meshboot.io/any"],
        &["patch", "links.meshboot.io", "--subresource=status"],
        &["update", head, "-n", "meshboot"],
        &["create", "secrets", "-n", "kube-system"],
        &["get", "nodes/node9"],
        // What a token may do is asked before it is minted.
        &["create", "subjectaccessreviews.authorization.k8s.io"],
    ];
    for verb in may {
        assert!(bench.cluster.may(node, verb), "a node may not {verb:?}");
    }
    let may_not: [&[&str]; 12] = [
        &["delete", "machines.meshboot.io"],
        &["delete", head, "-n", "meshboot"],
        &["create", "configmaps", "-n", "meshboot"],
        &["update", "configmaps/other", "-n", "meshboot"],
        &["update", "configmaps/kubeadm-config", "-n", "kube-system"],
        &["get", "secrets", "-n", "kube-system"],
        &["list", "secrets", "-n", "kube-system"],
        &["update", "secrets", "-n", "kube-system"],
        &["delete", "secrets", "-n", "kube-system"],
        &["create", "secrets", "-n", "default"],
        &["delete", "nodes/node9"],
        &["update", "customresourcedefinitions"],
    ];
    for verb in may_not {
        assert!(!bench.cluster.may(node, verb), "a node may {verb:?}");
    }
}

fn racing_writers_give_nothing_twice(bench: &Bench) {
    const EACH: u16 = 12;
    let started = Instant::now();
    let before = bench.store("admin").load().unwrap();
    let users = ["admin", "system:node:node1", "system:node:node2", "admin"];
    let writers: Vec<_> = users
        .into_iter()
        .zip(0_u16..)
        .map(|(user, writer)| {
            let store = bench.store(user);
            std::thread::spawn(move || {
                // Each machine is claimed by two writers.
                let mine = (0..EACH).map(|number| 100 + writer / 2 * EACH + number);
                mine.map(|number| (number, admit_among_others(&*store, number))).collect::<Vec<_>>()
            })
        })
        .collect();
    let given: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    let (ledger, revision) = bench.store("admin").load().unwrap();
    check(&ledger);
    assert_eq!(ledger.machines().count(), before.0.machines().count() + usize::from(2 * EACH));
    assert_eq!(revision.0, before.1.0 + u64::from(2 * EACH));
    for (number, machine) in given {
        assert_eq!(ledger.machine_with_mac(mac(number)), Some(&machine));
    }
    step("48 admissions of 24 machines by 4 racing writers", started);
}

/// Who may write the head and no object commits, and can then do no more: as if it had died there.
fn a_crash_after_the_commit_loses_nothing(bench: &Bench) {
    let cluster = &bench.cluster;
    cluster.admin(&["create", "clusterrole", "crasher", "--verb=get,list", "--resource=machines,links"]);
    cluster.admin(&["create", "clusterrolebinding", "crasher", "--clusterrole=crasher", "--user=crasher"]);
    let head = "--role=meshboot:relay";
    cluster.admin(&["create", "rolebinding", "crasher", "-n", "meshboot", head, "--user=crasher"]);

    let crasher = bench.store("crasher");
    let machine = admit(&*crasher, 200).unwrap();
    let name = machine.name.to_string();
    assert!(
        !cluster.kubectl("admin", &["get", "machine", &name]).status.success(),
        "it was not to be written"
    );
    // It is known to all, and the next writer writes it.
    let relay = bench.store("system:node:node1");
    assert_eq!(relay.load().unwrap().0.machine(machine.id), Some(&machine));
    assert_eq!(admit(&*relay, 200).unwrap(), machine);
    let next = admit(&*relay, 201).unwrap();
    for name in [&name, next.name.as_str()] {
        cluster.admin(&["get", "machine", name]);
    }
    // It cannot finish what another has left, so it cannot go on either.
    admit(&*crasher, 202).unwrap();
    let reason = match admit(&*crasher, 203) {
        Err(TransactError::Store(StoreError::Unavailable { reason })) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("HTTP 403"), "{reason}");
    assert!(admit(&*relay, 203).is_ok());
    check(&relay.load().unwrap().0);
}

/// The child of the test below; alone it does nothing.
#[test]
fn store_crash_child() {
    let Ok(kubeconfig) = std::env::var(CRASH) else { return };
    let runtime = Runtime::new().unwrap();
    let store = store(Path::new(&kubeconfig), runtime.handle().clone());
    let mut out = std::io::stdout();
    for number in 1000.. {
        let (ledger, revision) = store.load().unwrap();
        let claim = claim(number);
        let Some(change) = allocate::admit(&ledger, &plan(), &claim).unwrap().change else { continue };
        let revision = store.append(revision, &change).unwrap();
        writeln!(out, "acknowledged {number} {}", revision.0).unwrap();
        out.flush().unwrap();
    }
}

fn killed_writers_lose_nothing_they_acknowledged(bench: &Bench) {
    let started = Instant::now();
    let mut acknowledged: Vec<(u16, u64)> = Vec::new();
    for life in 0..8_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::store_crash_child"])
            .env(CRASH, bench.cluster.kubeconfig("system:node:node1"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let read = |line: Result<String, std::io::Error>| {
            let line = line.unwrap();
            let (_, text) = line.split_once("acknowledged ")?;
            let (number, revision) = text.split_once(' ')?;
            Some((number.parse().unwrap(), revision.parse().unwrap()))
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().filter_map(read);
        acknowledged.extend(lines.by_ref().take(2));
        // Somewhere in the next append, which takes some milliseconds.
        std::thread::sleep(Duration::from_millis(u64::from(life) * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines);

        let (ledger, revision) = bench.store("admin").load().unwrap();
        check(&ledger);
        for (number, at) in &acknowledged {
            assert!(ledger.machine_with_mac(mac(*number)).is_some(), "{number} was acknowledged");
            assert!(Revision(*at) <= revision);
        }
    }
    step("8 writers killed", started);
}

fn a_relay_removes_and_a_seed_sweeps(bench: &Bench) {
    let (relay, admin) = (bench.store("system:node:node1"), bench.store("admin"));
    let gone = admit(&*relay, 300).unwrap();
    attach(&*relay, gone.id, 301);
    remove(&*relay, gone.id);
    let name = gone.name.to_string();
    bench.cluster.admin(&["get", "machine", &name]);
    for store in [&relay, &admin] {
        let (ledger, _) = store.load().unwrap();
        assert_eq!((ledger.machine(gone.id), ledger.machine_named(&name)), (None, None));
        assert!(!ledger.links().any(|link| link.id.near == gone.id));
    }
    // Its name is free: the object becomes another's.
    let preferred_name = name.parse().ok();
    let other = transact(&*relay, |ledger| {
        let admission = allocate::admit(
            ledger,
            &plan(),
            &Claim { preferred_name: preferred_name.clone(), ..claim(302) },
        )?;
        Ok::<_, AdmitError>((admission.machine, admission.change))
    })
    .unwrap();
    assert_eq!(other.name, gone.name);
    let seed = MeshStore::seed(bench.file("seed.redb")).unwrap();
    seed.connect(admin, Some("node1")).unwrap();
    bench.cluster.admin(&["get", "machine", &name]);
    let link = format!("{name}-p1");
    assert!(!bench.cluster.kubectl("admin", &["get", "link", &link]).status.success(), "it was to be swept");
    assert_eq!(relay.load().unwrap().0.machine(other.id), Some(&other));
}

fn a_machine_deleted_by_hand_is_removed(bench: &Bench) {
    let relay = bench.store("system:node:node1");
    let machine = admit(&*relay, 310).unwrap();
    attach(&*relay, machine.id, 311);
    bench.cluster.admin(&["delete", "machine", machine.name.as_str()]);
    let (ledger, _) = relay.load().unwrap();
    assert_eq!(ledger.machine(machine.id), None);
    assert!(!ledger.links().any(|link| link.id.near == machine.id));
    // It comes again, and its link with it.
    let again = admit(&*relay, 310).unwrap();
    attach(&*relay, again.id, 312);
    assert_eq!(relay.load().unwrap().0.machine(again.id), Some(&again));
}

fn statuses_are_shown_and_make_no_revision(bench: &Bench) {
    let relay = bench.store("system:node:node1");
    let (ledger, revision) = relay.load().unwrap();
    let link = ledger.links().find(|link| link.far.machine.is_some()).unwrap();
    let far = ledger.machine(link.far.machine.unwrap()).unwrap();
    let mut report = LinkStatus {
        reason: Some("the kubelet is not ready".to_owned()),
        far_mac: Some(link.far.mac),
        far_machine: Some(far.id),
        far_node: Some(far.name.clone()),
        bytes: 1 << 33,
        ..LinkStatus::new(link.id, "enp2s0", link.prefix.near(), Stage::Joining, 1_800_000_000)
    };
    assert!(relay.update_link_status(&report).unwrap());
    assert!(relay.link_statuses().unwrap().contains(&report));
    let view = bench.cluster.admin(&["get", "machines,links"]);
    assert_eq!(view.matches("joining").count(), 2, "{view}");
    assert!(view.contains("the kubelet is not ready"), "{view}");
    (report.stage, report.reason) = (Stage::Ready, None);
    assert!(relay.update_link_status(&report).unwrap());
    assert_eq!(relay.link_statuses().unwrap(), [report.clone()]);
    // A change of the ledger leaves it as it is.
    attach(&*relay, link.id.near, 320);
    assert_eq!(relay.link_statuses().unwrap().len(), 1);
    assert_eq!(relay.load().unwrap().1, Revision(revision.0 + 1));
    report.link.port = 59.try_into().unwrap();
    assert!(!relay.update_link_status(&report).unwrap());
}

fn a_watch_keeps_the_copy_fresh(bench: &Bench) {
    let relay = Arc::new(MeshStore::relay(Some(bench.file("relay.redb"))).unwrap());
    let changes = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&changes);
    let follower = bench.runtime.spawn(Arc::clone(&relay).follow(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    relay.connect(bench.store("system:node:node2"), None).unwrap();
    wait(|| changes.load(Ordering::Relaxed) > 0);
    let machine = admit(&*bench.store("admin"), 400).unwrap();
    let started = Instant::now();
    wait(|| relay.cached().machine(machine.id).is_some());
    step("a change reached a relay's copy", started);
    let deleted = admit(&*bench.store("admin"), 401).unwrap();
    wait(|| relay.cached().machine(deleted.id).is_some());
    // The head's own change is another one; it stays as it is.
    let last = admit(&*bench.store("admin"), 402).unwrap();
    wait(|| relay.cached().machine(last.id).is_some());
    bench.cluster.admin(&["delete", "machine", deleted.name.as_str()]);
    wait(|| relay.cached().machine(deleted.id).is_none());
    follower.abort();
    // A read that it has begun ends by itself.
    wait(|| Arc::strong_count(&relay) == 1);
    drop(relay);
    let (ledger, _) = bench.file("relay.redb").load().unwrap();
    assert_eq!((ledger.machine(machine.id), ledger.machine(deleted.id)), (Some(&machine), None));
}

fn a_lost_head_is_made_again_from_the_objects(bench: &Bench) {
    let (relay, admin) = (bench.store("system:node:node1"), bench.store("admin"));
    let before = relay.load().unwrap();
    // The seed's copy is older than what the objects say.
    bench.cluster.admin(&["delete", "configmap", "-n", "meshboot", "meshboot-ledger"]);
    assert!(unavailable(relay.load()).contains("no seed has imported"));
    let seed = MeshStore::seed(bench.file("seed.redb")).unwrap();
    assert!(seed.load().unwrap().1 < before.1);
    seed.connect(admin, Some("node1")).unwrap();
    let (ledger, revision) = relay.load().unwrap();
    check(&ledger);
    assert!(revision > before.1);
    for machine in before.0.machines() {
        assert_eq!(ledger.machine(machine.id), Some(machine));
    }
    admit(&*relay, 410).unwrap();
}

fn an_api_that_is_away_is_said_and_found_again(bench: &mut Bench) {
    let seed = MeshStore::seed(bench.file("seed.redb")).unwrap();
    seed.connect(bench.store("admin"), Some("node1")).unwrap();
    let relay = MeshStore::relay(None).unwrap();
    relay.connect(bench.store("system:node:node2"), None).unwrap();
    let machine = admit(&seed, 500).unwrap();
    relay.load().unwrap();

    let away = |store: &MeshStore, limit| {
        let started = Instant::now();
        // What is known goes on; what is new waits, and says why.
        assert_eq!(admit(store, 500).unwrap(), machine);
        let reason = match admit(store, 501) {
            Err(TransactError::Store(StoreError::Unavailable { reason })) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason.contains("https://127.0.0.1"), "{reason}");
        assert!(matches!(store.authority(), Authority::Away { .. }));
        assert!(started.elapsed() < limit, "it took {:?}", started.elapsed());
        println!("refused after {:?}: {reason}", started.elapsed());
    };
    bench.cluster.stop_api();
    away(&relay, Duration::from_secs(4));
    away(&seed, Duration::from_secs(4));
    drop(seed);
    let seed = MeshStore::seed(bench.file("seed.redb")).unwrap();
    assert_eq!(admit(&seed, 500).unwrap(), machine);
    let reason = unavailable(seed.connect(bench.store("admin"), Some("node1")));
    assert!(reason.contains("Connection refused"), "{reason}");
    assert_eq!(seed.authority(), Authority::Away { reason });

    bench.cluster.start_api();
    assert_eq!(admit(&relay, 501).unwrap(), admit(&relay, 501).unwrap());
    assert_eq!(relay.authority(), Authority::Kubernetes);
    seed.connect(bench.store("admin"), Some("node1")).unwrap();
    assert!(seed.cached().machine_with_mac(mac(501)).is_some());

    // It takes the connection and says nothing: three calls of ten seconds.
    bench.cluster.freeze_api(true);
    let machine = admit(&relay, 500).unwrap();
    let started = Instant::now();
    let refused = admit(&relay, 502);
    assert!(matches!(refused, Err(TransactError::Store(StoreError::Unavailable { .. }))), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(25), "it took {:?}", started.elapsed());
    bench.cluster.freeze_api(false);
    assert_eq!(admit_among_others(&relay, 500), machine);
    admit_among_others(&relay, 502);
    check(&relay.load().unwrap().0);
}

fn wait(until: impl Fn() -> bool) {
    let started = Instant::now();
    while !until() {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
