use std::collections::BTreeSet;

use super::*;
use crate::topology::{MAX_MACHINES, Shape, cables};

const ID: DeploymentId = DeploymentId(Uuid::from_u128(0x3fa2_b1c4_0000_4000_8000_0000_dead_beef));

#[test]
fn the_owner_is_read_whatever_prefix_libvirt_gives_the_namespace() {
    let id = ID.0;
    let xml = format!(
        "<domain type='qemu'><name>a</name><metadata><x:owner xmlns:x='{NAMESPACE}' deployment='{id}' \
         directory='/home/a &amp; b/cluster'/></metadata></domain>"
    );
    let owner = Owner::read(&xml).unwrap().unwrap();
    assert_eq!(owner, Owner { deployment: ID, directory: "/home/a & b/cluster".to_owned() });
}

#[test]
fn an_object_of_somebody_else_has_no_owner() {
    let foreign = [
        "<network><name>default</name></network>",
        "<network><metadata><o:owner xmlns:o='urn:other' deployment='1' directory='/'/></metadata></network>",
        "<network><metadata><owner deployment='1' directory='/'/></metadata></network>",
    ];
    for xml in foreign {
        assert_eq!(Owner::read(xml).unwrap(), None, "{xml}");
    }
}

#[test]
fn a_damaged_owner_is_an_error_and_not_ours() {
    let xml = format!("<network><m:owner xmlns:m='{NAMESPACE}' deployment='no' directory='/'/></network>");
    assert!(matches!(Owner::read(&xml), Err(ReadOwnerError::Attribute { attribute: "deployment" })));
    assert!(matches!(Owner::read("<a></b>"), Err(ReadOwnerError::NotXml { .. })));
}

#[test]
fn another_directory_and_another_id_is_not_owned() {
    let mine = Owner { deployment: ID, directory: "/a".to_owned() };
    let other = Owner { deployment: DeploymentId(Uuid::nil()), directory: "/b".to_owned() };
    assert!(!mine.owns(&other));
    assert!(mine.owns(&Owner { directory: "/a".to_owned(), ..other.clone() }));
    assert!(mine.owns(&Owner { deployment: ID, ..other }));
}

#[test]
fn names_fit_and_addresses_are_unique() {
    let mut macs = BTreeSet::from([ID.uplink_mac()]);
    let mut names = BTreeSet::from([ID.uplink_bridge(), ID.loose_bridge(), ID.uplink_tap()]);
    for cable in cables(Shape::Grid, MAX_MACHINES) {
        assert!(names.insert(ID.cable_bridge(&cable)));
    }
    let mut uuids = BTreeSet::new();
    for machine in (0..=MAX_MACHINES).map(MachineNumber) {
        assert!(uuids.insert(ID.machine_uuid(machine)));
        for port in 0..4 {
            let mac = ID.mac(End { machine, port });
            assert!(mac.is_unicast() && mac.0[0] & 2 == 2 && macs.insert(mac));
            assert!(names.insert(ID.tap(End { machine, port })));
        }
    }
    assert!(names.iter().all(|name| name.len() <= 15));
    assert!(!uuids.contains(&ID.0));
}
