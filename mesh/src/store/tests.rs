use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::allocate::{self, promises};
use crate::{
    AddressPlan, AdmitError, BlockNumber, Claim, Far, LinkId, LinkPrefix, Mac, MachineId, NodeName, Role,
    RouterId,
};

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac([2, 0, 0, 0, high, low])
}

fn claim(number: u16) -> Claim {
    Claim {
        uuid: None,
        boot_mac: mac(number),
        ports: vec![(mac(number), String::new()), (mac(number + 0x8000), String::new())],
        role: Role::Node,
        preferred_name: None,
    }
}

/// As few blocks as a test can bear, so that preferred numbers clash.
fn plan(bits: u8) -> AddressPlan {
    let machines = ipnet::Ipv6Net::new("2001:db8::".parse().unwrap(), 119 - bits).unwrap();
    AddressPlan { machines, ..AddressPlan::default() }
}

fn admit(
    store: &dyn Store,
    plan: &AddressPlan,
    claim: &Claim,
) -> Result<crate::Machine, TransactError<AdmitError>> {
    transact(store, |ledger| {
        let admission = allocate::admit(ledger, plan, claim)?;
        Ok((admission.machine, admission.change))
    })
}

#[test]
fn a_stale_writer_is_refused_and_told_by_how_much() {
    let store = MemoryStore::default();
    let change = allocate::admit(&Ledger::default(), &plan(48), &claim(1)).unwrap().change.unwrap();
    assert_eq!(store.append(Revision(0), &change).unwrap(), Revision(1));
    let error = store.append(Revision(0), &change).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { expected: Revision(0), actual: Revision(1) }), "{error}");
    let error = store.append(Revision(1), &change).unwrap_err();
    assert!(matches!(error, StoreError::Refused(ApplyError::Known(_))), "{error}");
    assert_eq!(store.load().unwrap().1, Revision(1));
}

#[test]
fn no_change_writes_nothing_and_an_error_of_the_decision_comes_through() {
    let store = MemoryStore::default();
    assert_eq!(transact(&store, |_| Ok::<_, AdmitError>((7, None))).unwrap(), 7);
    let error = transact(&store, |_| Err::<((), _), _>(AdmitError::NoRouterId)).unwrap_err();
    assert!(matches!(error, TransactError::Decide(AdmitError::NoRouterId)));
    assert_eq!(store.load().unwrap().1, Revision(0));
}

/// Another writer is faster, every time.
#[derive(Default)]
struct AlwaysStale {
    tries: AtomicUsize,
}

impl Store for AlwaysStale {
    fn load(&self) -> Result<(Ledger, Revision), StoreError> {
        Ok(Default::default())
    }

    fn append(&self, expected: Revision, _: &Change) -> Result<Revision, StoreError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Conflict { expected, actual: Revision(expected.0 + 1) })
    }
}

#[test]
fn a_race_that_is_always_lost_ends() {
    let store = AlwaysStale::default();
    let error = admit(&store, &plan(48), &claim(1)).unwrap_err();
    assert!(matches!(error, TransactError::Store(StoreError::Conflict { .. })), "{error}");
    assert_eq!(store.tries.into_inner(), MAX_ATTEMPTS);
}

#[test]
fn racing_writers_never_give_anything_twice() {
    const WRITERS: u16 = 4;
    const EACH: u16 = 24;
    let (store, plan) = (Arc::new(MemoryStore::default()), plan(8));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, plan) = (Arc::clone(&store), plan.clone());
            std::thread::spawn(move || {
                // Every machine is claimed by two writers: it is seen at two links at once.
                let mine = (0..EACH).map(|number| (writer / 2) * EACH + number);
                mine.map(|number| {
                    loop {
                        match admit(&*store, &plan, &claim(number)) {
                            Ok(machine) => break (number, machine),
                            Err(TransactError::Store(StoreError::Conflict { .. })) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
                .collect::<Vec<_>>()
            })
        })
        .collect();
    let given: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    let (ledger, revision) = store.load().unwrap();
    promises::hold_in(&ledger, &plan);
    assert_eq!(ledger.machines().count(), usize::from(WRITERS / 2 * EACH));
    assert_eq!(revision, Revision(u64::from(WRITERS / 2 * EACH)));
    for (number, machine) in given {
        assert_eq!(ledger.machine_with_mac(mac(number)), Some(&machine));
    }
}

/// Lets others write between a writer's load and its append, as often as it is told.
struct Overtaken<'a> {
    store: &'a MemoryStore,
    plan: &'a AddressPlan,
    others: Mutex<Vec<u16>>,
}

impl Store for Overtaken<'_> {
    fn load(&self) -> Result<(Ledger, Revision), StoreError> {
        let loaded = self.store.load();
        let next = self.others.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(number) = next {
            let overtaken = admit(self.store, self.plan, &claim(number));
            assert!(overtaken.is_ok(), "{overtaken:?}");
        }
        loaded
    }

    fn append(&self, expected: Revision, change: &Change) -> Result<Revision, StoreError> {
        self.store.append(expected, change)
    }
}

/// Where a process dies between two effects.
#[derive(Debug, Clone, Copy)]
enum Death {
    BeforeCommit,
    AfterCommit,
    AfterSend,
    Never,
}

/// What packets told; who was told believes it.
#[derive(Debug, Default)]
struct Spoken {
    machines: BTreeMap<Mac, (MachineId, NodeName, BlockNumber, RouterId)>,
    links: BTreeMap<LinkId, LinkPrefix>,
}

/// One life of a gateway: it decides on its memory, and the memory dies with it.
struct Life<'a> {
    store: &'a MemoryStore,
    memory: (Ledger, Revision),
}

impl<'a> Life<'a> {
    fn start(store: &'a MemoryStore) -> Self {
        Self { store, memory: store.load().unwrap() }
    }

    /// Commit, then send, or die in between. Nothing comes back from the dead.
    fn handle<T>(
        &mut self,
        death: Death,
        decide: impl Fn(&Ledger) -> (T, Option<Change>),
        send: impl FnOnce(T),
    ) -> Option<()> {
        let decision = loop {
            let (decision, change) = decide(&self.memory.0);
            let Some(change) = change else { break decision };
            if matches!(death, Death::BeforeCommit) {
                return None;
            }
            match self.store.append(self.memory.1, &change) {
                Ok(revision) => {
                    self.memory.0.apply(&change).unwrap();
                    self.memory.1 = revision;
                    break decision;
                }
                Err(StoreError::Conflict { .. }) => self.memory = self.store.load().unwrap(),
                Err(error) => panic!("{error}"),
            }
        };
        if matches!(death, Death::AfterCommit) {
            return None;
        }
        send(decision);
        if matches!(death, Death::AfterSend) { None } else { Some(()) }
    }
}

fn any_death() -> impl Strategy<Value = Death> {
    prop_oneof![
        1 => Just(Death::BeforeCommit),
        1 => Just(Death::AfterCommit),
        1 => Just(Death::AfterSend),
        3 => Just(Death::Never),
    ]
}

proptest! {
    #[test]
    fn a_writer_that_is_overtaken_decides_again(
        mine in 1_u16..60,
        others in prop::collection::vec(1_u16..60, 0..MAX_ATTEMPTS - 1),
        bits in 6_u8..10,
    ) {
        let (store, plan) = (MemoryStore::default(), plan(bits));
        let overtaken = Overtaken { store: &store, plan: &plan, others: Mutex::new(others.clone()) };
        let machine = admit(&overtaken, &plan, &claim(mine)).unwrap();
        let (ledger, _) = store.load().unwrap();
        promises::hold_in(&ledger, &plan);
        prop_assert_eq!(ledger.machine_with_mac(mac(mine)), Some(&machine));
    }

    /// Two gateways on one store, each of which may die at any point and start again.
    #[test]
    fn a_crash_between_any_two_effects_loses_nothing_that_was_spoken_of(
        steps in prop::collection::vec((any::<bool>(), 1_u16..12, any::<bool>(), any_death()), 1..60),
        bits in 4_u8..8,
    ) {
        let (store, plan) = (MemoryStore::default(), plan(bits));
        let mut spoken = Spoken::default();
        let mut lives = [Life::start(&store), Life::start(&store)];
        for (which, number, is_claim, death) in steps {
            let life = &mut lives[usize::from(which)];
            let survived = if is_claim {
                let decide = |ledger: &Ledger| {
                    let admission = allocate::admit(ledger, &plan, &claim(number)).unwrap();
                    (admission.machine, admission.change)
                };
                life.handle(death, decide, |machine| {
                    let told = (machine.id, machine.name, machine.block, machine.router_id);
                    let before = spoken.machines.insert(mac(number), told.clone());
                    assert!(before.is_none_or(|before| before == told), "{number} was told another thing");
                })
            } else {
                // The near end knows itself by what it was told, not by what the store may hold.
                let Some((near, ..)) = spoken.machines.get(&mac(number)) else { continue };
                let id = LinkId { near: *near, port: 0.try_into().unwrap() };
                let far = Far { mac: mac(number + 1), machine: None };
                let decide = |ledger: &Ledger| {
                    let change = allocate::attach(ledger, &plan, id, far).unwrap_or_default();
                    let number = ledger.machine(id.near).map(|near| near.block);
                    (number.and_then(|number| Some(plan.block(number)?.link(id.port))), change)
                };
                let links = &mut spoken.links;
                life.handle(death, decide, |prefix| {
                    let Some(prefix) = prefix else { return };
                    let before = links.insert(id, prefix);
                    assert!(before.is_none_or(|before| before == prefix), "{id} was told another prefix");
                })
            };
            if survived.is_none() {
                lives[usize::from(which)] = Life::start(&store);
            }
            let (ledger, _) = store.load().unwrap();
            promises::hold_in(&ledger, &plan);
            for (mac, told) in &spoken.machines {
                let held = ledger.machine_with_mac(*mac).expect("a machine that was spoken of is known");
                prop_assert_eq!(&(held.id, held.name.clone(), held.block, held.router_id), told);
            }
            for (id, prefix) in &spoken.links {
                prop_assert_eq!(&ledger.link(*id).expect("a link that was spoken of is known").prefix, prefix);
            }
        }
    }
}
