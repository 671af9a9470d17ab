use mesh::{MachineId, PortIndex};

use super::*;

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

fn port(index: u8) -> PortIndex {
    index.try_into().unwrap()
}

/// A site whose seed has two ports, and what `asks` is told there.
struct Site {
    plan: AddressPlan,
    ledger: Ledger,
    seed: Machine,
}

impl Site {
    fn new() -> Self {
        let mut site = Self { plan: AddressPlan::default(), ledger: Ledger::default(), seed: seed() };
        site.ledger.apply(&Change::Admit(site.seed.clone())).unwrap();
        site
    }

    fn link(&self, index: u8) -> LinkId {
        LinkId { near: self.seed.id, port: port(index) }
    }

    fn request(&self, index: u8, macs: &[u8]) -> Request {
        let block = self.plan.block(self.seed.block).unwrap();
        Request {
            image: None,
            link: self.link(index),
            peer: block.link(port(index)).far(),
            far_mac: mac(macs[0]),
            uuid: Some(Uuid::from_u128(macs.first().map_or(1, |last| u128::from(*last) + 1))),
            ports: macs.iter().map(|last| (mac(*last), format!("enp{last}s0"))).collect(),
        }
    }

    fn admit(&mut self, request: &Request) -> Machine {
        let claim = claim(&self.plan, &self.ledger, request, None).unwrap();
        let admission = allocate::admit(&self.ledger, &self.plan, &claim).unwrap();
        admission.change.iter().for_each(|change| self.ledger.apply(change).unwrap());
        let tied = tie(&self.plan, &self.ledger, &admission.machine, &claim, request.link).unwrap();
        tied.iter().for_each(|change| self.ledger.apply(change).unwrap());
        admission.machine
    }
}

fn seed() -> Machine {
    let plan = AddressPlan::default();
    let ports = vec![(mac(1), "enp1s0".to_owned()), (mac(2), "enp2s0".to_owned())];
    let claim = Claim {
        uuid: Some(Uuid::from_u128(7)),
        boot_mac: mac(1),
        ports,
        role: Role::Seed,
        preferred_name: "seed".parse().ok(),
    };
    allocate::admit(&Ledger::default(), &plan, &claim).unwrap().machine
}

fn alive() -> NodeState {
    NodeState { ready: true, ..NodeState::default() }
}

#[test]
fn the_far_end_of_the_link_is_admitted_once_and_stays_the_same() {
    let mut site = Site::new();
    let request = site.request(0, &[10, 11]);
    let first = site.admit(&request);
    assert_eq!(first.name.as_str(), "node1");
    assert_eq!(site.admit(&request), first);
    assert_eq!(site.ledger.link(site.link(0)).unwrap().far.machine, Some(first.id));
}

#[test]
fn a_request_that_was_routed_here_is_refused() {
    let site = Site::new();
    let request = Request { peer: "2001:db8::1234".parse().unwrap(), ..site.request(0, &[10]) };
    assert!(matches!(claim(&site.plan, &site.ledger, &request, None), Err(Refusal::NotTheFarEnd { .. })));
}

#[test]
fn a_request_that_names_other_ports_than_the_one_it_comes_from_is_refused() {
    let site = Site::new();
    let request = Request { far_mac: mac(99), ..site.request(0, &[10]) };
    assert_eq!(claim(&site.plan, &site.ledger, &request, None), Err(Refusal::NotItsPort { mac: mac(99) }));
    let request = Request { ports: Vec::new(), ..request };
    assert_eq!(claim(&site.plan, &site.ledger, &request, None), Err(Refusal::NotItsPort { mac: mac(99) }));
}

#[test]
fn nobody_is_served_as_the_seed() {
    let site = Site::new();
    let request = site.request(1, &[10, 1]);
    assert!(matches!(claim(&site.plan, &site.ledger, &request, None), Err(Refusal::Seed { .. })));
}

#[test]
fn a_machine_that_lives_behind_one_link_is_refused_on_another_until_it_is_gone() {
    let mut site = Site::new();
    let machine = site.admit(&site.request(0, &[10, 11]));
    let check = |link, node: Option<&NodeState>| check_alive(&site.ledger, &machine, link, node);
    assert_eq!(check(site.link(0), Some(&alive())), Ok(()));
    assert!(matches!(check(site.link(1), Some(&alive())), Err(Refusal::Alive { .. })));
    assert_eq!(check(site.link(1), Some(&NodeState::default())), Ok(()));
    assert_eq!(check(site.link(1), None), Ok(()));
    assert_eq!(MachineId(Uuid::from_u128(11)), machine.id);
}

#[test]
fn one_that_was_started_from_other_images_than_it_should_be_starts_over() {
    let site = Site::new();
    let [one, other] = ["0123456789abcdef", "fedcba9876543210"].map(|id| id.parse::<ImageId>().unwrap());
    let booted =
        |image: Option<&ImageId>| Request { image: image.map(ToString::to_string), ..site.request(0, &[10]) };
    for (image, wanted) in [(Some(&one), Some(&one)), (Some(&one), None), (None, Some(&one))] {
        assert_eq!(check_images(&booted(image), wanted), Ok(()));
    }
    let refused = check_images(&booted(Some(&other)), Some(&one)).unwrap_err();
    assert_eq!(refused, Refusal::OtherImages { booted: other.to_string(), wanted: one });
}
