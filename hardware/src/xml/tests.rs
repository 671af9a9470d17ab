use std::path::PathBuf;

use crate::accel::Accel;
use crate::plan::tests::spec;
use crate::plan::{Object, Plan};
use crate::xml;

fn rendered(name: &str, accel: Accel) -> String {
    let plan = Plan::new(&crate::plan::Spec { accel, ..spec(2) });
    let found = plan.objects.iter().find_map(|object| match object {
        Object::Network(network) if network.name.ends_with(name) => Some(xml::network(network, &plan.owner)),
        Object::Domain(domain) if domain.name.ends_with(name) => Some(xml::domain(domain, &plan.owner)),
        Object::Network(_) | Object::Domain(_) | Object::Volume(_) => None,
    });
    found.unwrap()
}

#[test]
fn a_cable() {
    insta::assert_snapshot!(rendered("-c1-seed-node1", Accel::Tcg));
}

#[test]
fn the_way_to_the_seed() {
    insta::assert_snapshot!(rendered("-uplink", Accel::Tcg));
}

#[test]
fn a_seed_with_kvm() {
    insta::assert_snapshot!(rendered("-seed", Accel::Kvm));
}

#[test]
fn a_node_in_software() {
    insta::assert_snapshot!(rendered("3fa2-node1", Accel::Tcg));
}

#[test]
fn texts_are_escaped_and_the_owner_is_read_back() {
    let mut spec = spec(1);
    spec.owner.directory = "/home/o'brien & \"co\" <x>/cluster".to_owned();
    spec.firmware.code = PathBuf::from("/a&b.fd");
    let plan = Plan::new(&spec);
    for object in &plan.objects {
        let text = match object {
            Object::Network(network) => xml::network(network, &plan.owner),
            Object::Domain(domain) => xml::domain(domain, &plan.owner),
            Object::Volume(_) => continue,
        };
        assert_eq!(crate::Owner::read(&text).unwrap().as_ref(), Some(&spec.owner));
    }
}

#[test]
fn what_a_network_occupies_is_read_back() {
    let text = rendered("-uplink", Accel::Tcg);
    let nets: Vec<String> = xml::occupied(&text).iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["172.30.0.0/30", "2001:db8:a001::/64", "fd65:7b9c:569:680::/64", "2001:db8::/71"]);
    assert!(xml::occupied(&rendered("-loose", Accel::Tcg)).is_empty());
    assert!(xml::occupied("<network><ip address='x' prefix='1'/><ip address='::1'/></net").is_empty());
}
