//! What control planes are made of: members of a real etcd, and rights in a real Kubernetes.
//!
//! `MESHBOOT_TEST_KUBERNETES` names a folder with `etcd` (where it is not installed), and for the rights `kube-apiserver` and
//! `kubectl`.

use std::time::{Duration, Instant};

use bootstrap::control_plane::etcd::MemberId;
use bootstrap::control_plane::lease::Lease;
use bootstrap::control_plane::ticket::{self, Ticket};
use bootstrap::control_plane::{LEAVE, REPORT, TICKET};
use bootstrap::join::Cluster as Join;
use bootstrap::store::KubernetesStore;
use mesh::{AddressPlan, NodeName};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::etcd::{Site, refusal};
use crate::store::cluster::Cluster;

mod asking;
mod etcd;
mod renewal;
mod ring;
mod site;

/// How long what is certain to come may take, on a slow machine that has other work.
const LIMIT: Duration = Duration::from_secs(120);

async fn wait<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(done) = done().await {
            return done;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[test]
#[ignore = "needs etcd: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn members_of_etcd_come_and_go_one_by_one() {
    let mut site = Site::new();
    site.start("seed", &["seed"], "new");
    Runtime::new().unwrap().block_on(async {
        let here = site.client("seed");
        let first = wait("the first member leads", async || here.answers(Site::AT).await).await;
        let alone = here.members(Site::AT).await.unwrap();
        assert_eq!(
            (alone.len(), alone[0].id, alone[0].name.as_str(), alone[0].learner),
            (1, first, "seed", false)
        );
        assert!(alone[0].is_at(&site.peer("seed")));

        // The server may not take itself for whole in its first seconds.
        let (learner, all) =
            wait("a learner is entered", async || here.add_learner(Site::AT, &site.peer("node1")).await.ok())
                .await;
        assert!(learner.learner && learner.name.is_empty() && all.len() == 2);
        let again = refusal(here.add_learner(Site::AT, &site.peer("node1")).await);
        assert!(again.contains("exist") || again.contains("too many learner"), "{again}");
        let second = refusal(here.add_learner(Site::AT, &site.peer("node2")).await);
        assert!(second.contains("too many learner"), "{second}");
        let early = refusal(here.promote(Site::AT, learner.id).await);
        assert!(early.contains("in sync") || early.contains("not enough started"), "{early}");

        let there = site.client("node1");
        assert_eq!(there.answers(Site::AT).await, None, "it does not run yet");
        site.start("node1", &["seed", "node1"], "existing");
        wait("the learner runs", async || there.answers(Site::AT).await.filter(|id| *id == learner.id)).await;
        wait("the learner has caught up", async || here.promote(Site::AT, learner.id).await.ok()).await;
        let both = here.members(Site::AT).await.unwrap();
        assert!(both.len() == 2 && both.iter().all(|member| !member.learner), "{both:?}");
        let twice = refusal(here.promote(Site::AT, learner.id).await);
        assert!(twice.contains("learner"), "{twice}");

        // Each is asked itself: which one answers at an address is known by its number.
        assert_eq!(
            (here.answers(Site::AT).await, there.answers(Site::AT).await),
            (Some(first), Some(learner.id))
        );
        // A member goes only while all of them have heard each other for five seconds.
        wait("a member is removed", async || here.remove(Site::AT, learner.id).await.ok()).await;
        here.remove(Site::AT, learner.id).await.unwrap();
        wait("the other one has stopped", async || there.answers(Site::AT).await.is_none().then_some(()))
            .await;
        let last = here.members(Site::AT).await.unwrap();
        assert_eq!(last.iter().map(|member| member.id).collect::<Vec<_>>(), [first]);
        let gone = refusal(here.promote(Site::AT, MemberId(7)).await);
        assert!(gone.contains("not found"), "{gone}");
    });
}

struct Bench {
    cluster: Cluster,
    join: Join,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let cluster = Cluster::start();
        let (runtime, admin) = (Runtime::new().unwrap(), cluster.kubeconfig("admin"));
        KubernetesStore::new(&admin, AddressPlan::default(), runtime.handle().clone()).install().unwrap();
        let join = runtime.block_on(Join::open(&admin)).unwrap();
        Self { cluster, join, runtime, folder: tempfile::tempdir().unwrap() }
    }

    fn as_node(&self, name: &str) -> Join {
        let kubeconfig = self.cluster.kubeconfig(&format!("system:node:{name}"));
        self.runtime.block_on(Join::open(&kubeconfig)).unwrap()
    }

    fn create(&self, user: &str, object: &Value) {
        let path = self.folder.path().join("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        let made = self.cluster.kubectl(user, &["create", "-f", path.to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn annotation(&self, node: &str, key: &str) -> Value {
        let object = self.cluster.admin(&["get", "node", node, "-o", "json"]);
        serde_json::from_str::<Value>(&object).unwrap()["metadata"]["annotations"][key].take()
    }
}

fn a_ticket(member: u64) -> Ticket {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etcd")).unwrap();
    let names = ["ca", "sa", "front-proxy-ca", "etcd/ca"];
    for (name, ending) in names.iter().flat_map(|name| ["crt", "key", "pub"].map(|ending| (name, ending))) {
        std::fs::write(folder.path().join(format!("{name}.{ending}")), "secret").unwrap();
    }
    let members =
        vec!["seed=https://[2001:db8::1]:2380".to_owned(), "node1=https://[2001:db8::2]:2380".to_owned()];
    Ticket { member: MemberId(member), members, keys: ticket::keys(folder.path()).unwrap() }
}

#[test]
#[ignore = "needs Kubernetes: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn only_the_node_that_it_is_for_reads_a_ticket() {
    let bench = Bench::start();
    let (node1, node2): (NodeName, NodeName) = ("node1".parse().unwrap(), "node2".parse().unwrap());
    for node in ["node1", "node2"] {
        let object = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } });
        bench.create(&format!("system:node:{node}"), &object);
    }
    let run = |work: &mut dyn FnMut() -> bool| work();
    let (one, two) = (bench.as_node("node1"), bench.as_node("node2"));
    let reads = |who: &Join, of: &NodeName| bench.runtime.block_on(who.ticket(of));
    assert!(reads(&one, &node1).is_err(), "there is none");

    bench.runtime.block_on(bench.join.give_ticket(&node1, &a_ticket(42))).unwrap();
    assert_eq!(bench.annotation("node1", TICKET), "2a");
    // What the API server's authorizer knows of a new right comes a moment later.
    let begun = Instant::now();
    let mut read = None;
    while read.is_none() && begun.elapsed() < LIMIT {
        run(&mut || {
            read = reads(&one, &node1).ok();
            read.is_some()
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    let read = read.expect("the node reads its own ticket");
    assert_eq!((read.member, read.members.len(), read.keys.len()), (MemberId(42), 2, 8));
    let refused = format!("{:#}", reads(&two, &node1).unwrap_err());
    assert!(refused.contains("forbidden"), "{refused}");

    let secret = format!("secrets/{}", ticket::name(&node1));
    let system = ["-n", "kube-system"];
    let may =
        |user: &str, verb: &str, what: &str| bench.cluster.may(user, &[verb, what, system[0], system[1]]);
    assert!(may("system:node:node1", "get", &secret));
    for user in ["system:node:node2", "crasher"] {
        assert!(!may(user, "get", &secret), "{user} may read {secret}");
    }
    for user in ["system:node:node1", "system:node:node2"] {
        for (verb, what) in [
            ("list", "secrets"),
            ("watch", "secrets"),
            ("get", "secrets"),
            ("get", "secrets/other"),
            ("update", secret.as_str()),
            ("delete", secret.as_str()),
            ("create", "roles"),
            ("create", "rolebindings"),
        ] {
            assert!(!may(user, verb, what), "{user} may {verb} {what}");
        }
        for verb in ["get", "update", "create"] {
            let leases = [verb, "leases.coordination.k8s.io", "-n", "meshboot"];
            assert!(!bench.cluster.may(user, &leases), "{user} may {verb} the promoters' lease");
        }
        for verb in ["create", "update", "patch", "delete"] {
            assert!(
                !bench.cluster.may(user, &[verb, "reservations.meshboot.io"]),
                "{user} may {verb} reservations"
            );
        }
    }

    // Another one for the same node, and none any more. Twice is harmless.
    bench.runtime.block_on(bench.join.give_ticket(&node1, &a_ticket(43))).unwrap();
    assert_eq!(reads(&one, &node1).unwrap().member, MemberId(43));
    for _ in 0..2 {
        bench.runtime.block_on(bench.join.take_ticket(&node1)).unwrap();
    }
    assert_eq!(bench.annotation("node1", TICKET), Value::Null);
    assert!(!bench.cluster.kubectl("admin", &["get", &secret, system[0], system[1]]).status.success());
    assert!(
        !bench
            .cluster
            .admin(&["get", "roles,rolebindings", system[0], system[1], "-o", "name"])
            .contains("meshboot-control-plane")
    );

    a_node_reports_of_itself_and_of_nobody_else(&bench, &one, &node1, &node2);
    one_holds_the_lease(&bench);
}

fn a_node_reports_of_itself_and_of_nobody_else(
    bench: &Bench,
    one: &Join,
    node1: &NodeName,
    node2: &NodeName,
) {
    bench.runtime.block_on(one.annotate(node1, REPORT, Some("{\"boot\":\"a\"}"))).unwrap();
    assert_eq!(bench.annotation("node1", REPORT), "{\"boot\":\"a\"}");
    let error = bench.runtime.block_on(one.annotate(node2, REPORT, Some("{}"))).unwrap_err();
    assert!(error.to_string().contains("not allowed to modify node"), "{error}");
    // It may say of itself that it leaves, which takes nothing from anybody; it may not mark itself.
    bench.runtime.block_on(one.annotate(node1, LEAVE, Some("asked"))).unwrap();
    let label = ["label", "node", "node1", "node-role.kubernetes.io/control-plane="];
    assert!(!bench.cluster.kubectl("system:node:node1", &label).status.success());
}

fn one_holds_the_lease(bench: &Bench) {
    let [seed, node1] = ["seed", "node1"].map(|name| name.parse::<NodeName>().unwrap());
    let hold = |lease: &Lease, me: &NodeName| {
        bench.runtime.block_on(bench.join.hold_promoters_lease(lease, me)).unwrap()
    };
    let read = || bench.runtime.block_on(bench.join.promoters_lease()).unwrap();
    assert!(read().is_none());
    let first = hold(&Lease::default(), &seed).expect("there is none yet");
    assert!(hold(&Lease::default(), &node1).is_none(), "it was made meanwhile");
    let begun = Lease { begun: Some(node1.clone()), ..first.clone() };
    let second = hold(&begun, &seed).expect("nobody wrote it meanwhile");
    assert!(hold(&first, &node1).is_none(), "who saw an older one is late");
    let taken = hold(&second, &node1).expect("who saw the last one takes it");
    assert_eq!((taken.holder.as_deref(), taken.begun), (Some("node1"), Some(node1)));
    assert_eq!(read().unwrap().holder.as_deref(), Some("node1"));
}
