use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use mesh::{Claim, Far, LinkId, Mac, MachineId, Role, allocate};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::runtime::Builder;

use self::fake::FakeApi;
use super::*;
use crate::store::crds::{MachineObject, MachineSpec};

mod fake;

/// So few blocks that preferred numbers clash.
fn plan() -> AddressPlan {
    AddressPlan { machines: "2001:db8::/114".parse().unwrap(), ..AddressPlan::default() }
}

fn store() -> KubernetesStore {
    KubernetesStore::new("not-used", plan(), Handle::current())
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

/// What a writer wants; what it does depends on the ledger that it reads.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Admit(u8),
    Attach(Index, u8),
    Remove(Index),
}

fn decide(ledger: &Ledger, wish: Wish) -> Option<Change> {
    let ids: Vec<MachineId> = ledger.machines().map(|machine| machine.id).collect();
    let pick = |index: Index| (!ids.is_empty()).then(|| *index.get(&ids));
    match wish {
        Wish::Admit(number) => {
            let ports = [number, number / 2 + 100].map(|number| (mac(number), "eth".to_owned()));
            let claim = Claim {
                uuid: None,
                boot_mac: mac(number),
                ports: ports.into(),
                role: Role::Node,
                preferred_name: None,
            };
            allocate::admit(ledger, &plan(), &claim).ok()?.change
        }
        Wish::Attach(near, far) => {
            let near = ledger.machine(pick(near)?)?;
            let id = LinkId { near: near.id, port: near.ports[0].index };
            let machine = ledger.machine_with_mac(mac(far)).map(|machine| machine.id);
            allocate::attach(ledger, &plan(), id, Far { mac: mac(far), machine }).ok()?
        }
        Wish::Remove(index) => pick(index).map(Change::Remove),
    }
}

/// One life of a writer: reads, decides, commits, writes the objects, and reads what it did.
async fn live(api: FakeApi, writer: usize, wishes: Vec<Wish>) {
    let client = api.client(writer, writer % 2 == 1);
    let store = store();
    for wish in wishes {
        let read = store.read(&client).await;
        let (ledger, head) = read.expect("no writer starves here");
        assert_eq!(*ledger, api.model()[usize::try_from(head.revision.0).unwrap()], "at {:?}", head.revision);
        let Some(change) = decide(&ledger, wish) else { continue };
        api.attempt(writer, &change);
        match store.commit(&client, head.revision, &change).await {
            Ok((head, ledger)) => {
                let at = usize::try_from(head.revision.0).unwrap();
                assert_eq!(api.committed()[at - 1], change);
                assert_eq!(*ledger, api.model()[at]);
                objects::materialise(&client, &head).await.expect("it may write");
                store.materialised.fetch_max(head.revision.0, Ordering::AcqRel);
            }
            Err(StoreError::Conflict { expected, actual }) => assert!(actual > expected),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn import_nothing(api: &FakeApi) {
    let imported = store().try_import(&api.client(99, false), &Ledger::default(), Revision(0), "seed").await;
    assert_eq!(imported.unwrap(), Some(Import::Done));
}

/// Lets each writer take steps as the schedule says; whoever is killed lives again with its next wishes.
async fn play(api: &FakeApi, lives: Vec<Vec<Wish>>, schedule: &[(u8, bool, u8)]) {
    let start = |writer: usize, wishes: Vec<Wish>| Some(Box::pin(live(api.clone(), writer, wishes)));
    let mut next = lives.len();
    let wishes = lives.clone();
    let mut writers: Vec<Option<Pin<Box<_>>>> =
        lives.into_iter().enumerate().map(|(at, wishes)| start(at, wishes)).collect();
    let endless = (0..).map(|step: usize| (u8::try_from(step % 251).unwrap(), false, 1));
    for (which, killed, steps) in schedule.iter().copied().chain(endless) {
        if writers.iter().all(Option::is_none) {
            return;
        }
        let at = usize::from(which) % writers.len();
        if killed {
            // A new process of the same machine: whether it may delete stays the same.
            next += 2;
            let id = next - next % 2 + at % 2;
            let rest = wishes[at][wishes[at].len() / 2..].to_vec();
            writers[at] = start(id, rest);
        }
        for _ in 0..steps {
            let Some(writer) = &mut writers[at] else { break };
            if let Poll::Ready(()) = writer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                writers[at] = None;
            }
            // The connections' own tasks.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => (1_u8..12).prop_map(Wish::Admit),
        4 => (any::<Index>(), 1_u8..40).prop_map(|(near, far)| Wish::Attach(near, far)),
        2 => any::<Index>().prop_map(Wish::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whoever runs when and whoever dies where: every reader sees the state after some number of commits, and
    /// every commit that was acknowledged is one of them.
    #[test]
    fn writers_and_deaths_in_any_order_make_one_history(
        lives in prop::collection::vec(prop::collection::vec(any_wish(), 1..8), 2..5),
        // Long bursts let the others sleep long: between their commit and its objects, too.
        schedule in prop::collection::vec((any::<u8>(), prop::bool::weighted(0.02), 1_u8..120), 0..120),
    ) {
        run(async {
            let api = FakeApi::default();
            import_nothing(&api).await;
            play(&api, lives, &schedule).await;
            let client = api.client(1000, false);
            let (ledger, head) = store().read(&client).await.unwrap();
            let history = api.model();
            assert_eq!(head.revision.0, u64::try_from(history.len() - 1).unwrap());
            assert_eq!(*ledger, history[history.len() - 1]);

            // Once the last change is written and the removed are swept, the objects alone are the ledger.
            objects::materialise(&client, &head).await.unwrap();
            objects::sweep_all(&client, &head).await.unwrap();
            let listed = objects::list(&client).await.unwrap();
            assert_eq!(listed.machines.len(), ledger.machines().count());
            assert_eq!(listed.links.len(), ledger.links().count());
            assert_eq!(listed.restore(&plan()).unwrap(), *ledger);
        });
    }
}

#[test]
fn an_import_that_dies_anywhere_is_finished_by_the_next() {
    let mut ledger = Ledger::default();
    for number in 1..4 {
        ledger.apply(&decide(&ledger, Wish::Admit(number * 10)).unwrap()).unwrap();
    }
    for steps in 0..200 {
        let finished = run(async {
            let api = FakeApi::default();
            let (client, first) = (api.client(0, false), store());
            let mut import = Box::pin(first.try_import(&client, &ledger, Revision(3), "seed"));
            let mut finished = false;
            for _ in 0..steps {
                finished |= import.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                if finished {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(import);
            if !finished {
                let other = store().try_import(&client, &Ledger::default(), Revision(0), "other").await;
                if api.names("configmaps").is_empty() {
                    unreachable!("the other has made one");
                } else if matches!(other, Ok(Some(Import::Done))) {
                    // The first had not begun.
                    return false;
                }
                let read = store().read(&client).await;
                assert!(finished || read.is_err() || other.is_ok(), "a half import was read");
            }
            while store().try_import(&client, &ledger, Revision(3), "seed").await.unwrap().is_none() {}
            let (read, head) = store().read(&client).await.unwrap();
            assert_eq!(*read, ledger);
            assert!(head.revision >= Revision(3));
            finished
        });
        if finished {
            return;
        }
    }
    panic!("it never came to an end");
}

#[test]
fn what_an_operator_deletes_is_removed_with_its_links() {
    run(async {
        let api = FakeApi::default();
        import_nothing(&api).await;
        let (client, store) = (api.client(0, false), store());
        for wish in [Wish::Admit(10), Wish::Admit(20)] {
            commit(&api, &store, wish).await;
        }
        let (ledger, _) = store.read(&client).await.unwrap();
        let mut machines = ledger.machines();
        let (near, far) = (machines.next().unwrap().clone(), machines.next().unwrap().clone());
        for (one, other) in [(&near, &far), (&far, &near)] {
            let id = LinkId { near: one.id, port: one.ports[0].index };
            let far = Far { mac: other.ports[0].mac, machine: Some(other.id) };
            let (ledger, head) = store.read(&client).await.unwrap();
            let change = allocate::attach(&ledger, &plan(), id, far).unwrap().unwrap();
            let (head, _) = store.commit(&client, head.revision, &change).await.unwrap();
            objects::materialise(&client, &head).await.unwrap();
        }
        api.delete("machines", near.name.as_str());
        // A stale link is the newest change as well: it may not come back out of the head.
        let (ledger, _) = self::store().read(&client).await.unwrap();
        assert_eq!(ledger.machine(near.id), None);
        let links: Vec<_> = ledger.links().collect();
        assert_eq!(links.len(), 1);
        assert_eq!((links[0].id.near, links[0].far.machine), (far.id, None));
        // Whoever admits it anew finds its place free.
        commit(&api, &self::store(), Wish::Admit(10)).await;
        let (ledger, _) = self::store().read(&client).await.unwrap();
        assert_eq!(ledger.machine(near.id).map(|machine| machine.block), Some(near.block));
    });
}

#[test]
fn somebody_elses_object_is_named() {
    run(async {
        let api = FakeApi::default();
        import_nothing(&api).await;
        let client = api.client(0, false);
        let bad =
            kube::core::DynamicObject::new("bad", &kube::core::ApiResource::erase::<MachineObject>(&()));
        let bad = bad.data(serde_json::json!({ "spec": { "id": "x" } }));
        objects::api::<MachineSpec>(&client).create(&kube::api::PostParams::default(), &bad).await.unwrap();
        let error = store().read(&client).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("Machine bad"), "{error}");
    });
}

#[test]
fn a_lost_head_takes_nothing_away_even_if_the_copy_is_old() {
    run(async {
        let api = FakeApi::default();
        import_nothing(&api).await;
        let (client, store) = (api.client(0, false), store());
        commit(&api, &store, Wish::Admit(10)).await;
        let (copy, at) = store.read(&client).await.map(|(ledger, head)| (ledger, head.revision)).unwrap();
        for number in [20, 30, 40] {
            commit(&api, &store, Wish::Admit(number)).await;
        }
        let (before, newest) =
            store.read(&client).await.map(|(ledger, head)| (ledger, head.revision)).unwrap();
        api.delete("configmaps", HEAD);
        let imported = self::store().try_import(&client, &copy, at, "seed").await.unwrap();
        assert_eq!(imported, Some(Import::Done));
        let store = self::store();
        let (ledger, head) = store.read(&client).await.unwrap();
        assert_eq!(ledger, before);
        assert!(head.revision > newest);
        // What comes next is not mistaken for something old.
        let near = ledger.machines().next().unwrap();
        let id = LinkId { near: near.id, port: near.ports[0].index };
        for far in 50..54 {
            let (ledger, head) = store.read(&client).await.unwrap();
            let change = allocate::attach(&ledger, &plan(), id, Far { mac: mac(far), machine: None });
            let (head, next) = store.commit(&client, head.revision, &change.unwrap().unwrap()).await.unwrap();
            objects::materialise(&client, &head).await.unwrap();
            let listed = objects::list(&client).await.unwrap();
            assert_eq!(listed.restore(&plan()).unwrap(), *next);
        }
    });
}

async fn commit(api: &FakeApi, store: &KubernetesStore, wish: Wish) {
    let client = api.client(0, false);
    let (ledger, head) = store.read(&client).await.unwrap();
    let change = decide(&ledger, wish).unwrap();
    let (head, _) = store.commit(&client, head.revision, &change).await.unwrap();
    objects::materialise(&client, &head).await.unwrap();
}
