use kube::CustomResourceExt as _;
use mesh::{Claim, Mac, allocate};
use serde_json::Value;

use super::*;

fn ledger(plan: &AddressPlan) -> Ledger {
    let mut ledger = Ledger::default();
    for number in 1..=3 {
        let boot_mac = Mac([2, 0, 0, 0, 0, number]);
        let ports = vec![(boot_mac, "enp1s0".to_owned())];
        let claim = Claim { uuid: None, boot_mac, ports, role: Role::Node, preferred_name: None };
        let change = allocate::admit(&ledger, plan, &claim).unwrap().change.unwrap();
        ledger.apply(&change).unwrap();
    }
    let ids: Vec<_> = ledger.machines().map(|machine| (machine.id, machine.ports[0].clone())).collect();
    for (near, far) in [(0, Some(1)), (1, None)] {
        let id = LinkId { near: ids[near].0, port: ids[near].1.index };
        let far = Far { mac: Mac([2, 0, 0, 0, 0, 9]), machine: far.map(|far: usize| ids[far].0) };
        let change = allocate::attach(&ledger, plan, id, far).unwrap().unwrap();
        ledger.apply(&change).unwrap();
    }
    ledger
}

#[test]
fn a_ledger_comes_back_from_its_objects() {
    let plan = AddressPlan::default();
    let ledger = ledger(&plan);
    let machines = ledger.machines().map(|machine| {
        let spec = MachineSpec::new(machine, &plan, Revision(7));
        let object: MachineObject =
            serde_json::from_value(serde_json::to_value(MachineObject::new("any", spec)).unwrap()).unwrap();
        object.spec.machine(machine.name.as_str()).unwrap()
    });
    let links = ledger.links().map(|link| {
        let spec = LinkSpec::new(link, &ledger, Revision(7)).unwrap();
        let object: LinkObject =
            serde_json::from_value(serde_json::to_value(LinkObject::new("any", spec)).unwrap()).unwrap();
        object.spec.link().unwrap()
    });
    assert_eq!(Ledger::restore(machines, links), Ok(ledger.clone()));
}

#[test]
fn specs_have_this_form() {
    let plan = AddressPlan::default();
    let ledger = ledger(&plan);
    let machine = ledger.machines().next().unwrap();
    let spec = serde_json::json!({
        "id": "6d657368-0000-8000-8000-020000000001",
        "role": "node",
        "block": "2001:db8::4:0:0:200/119",
        "blockNumber": 2_199_023_255_553_i64,
        "routerId": "0.0.0.1",
        "ports": [{ "index": 0, "mac": "02:00:00:00:00:01", "name": "enp1s0" }],
        "revision": 7,
    });
    assert_eq!(serde_json::to_value(MachineSpec::new(machine, &plan, Revision(7))).unwrap(), spec);
    let link = ledger.links().next().unwrap();
    let spec = serde_json::json!({
        "near": { "machine": "6d657368-0000-8000-8000-020000000001", "node": "node1", "port": 0 },
        "prefix": "2001:db8::4:0:0:210/126",
        "far": {
            "mac": "02:00:00:00:00:09",
            "machine": "6d657368-0000-8000-8000-020000000002",
            "node": "node2",
        },
        "revision": 7,
    });
    assert_eq!(serde_json::to_value(LinkSpec::new(link, &ledger, Revision(7)).unwrap()).unwrap(), spec);
    assert_eq!(LinkSpec::name(&ledger, link.id).unwrap(), "node1-p0");
}

#[test]
fn what_somebody_edited_is_named() {
    let plan = AddressPlan::default();
    let ledger = ledger(&plan);
    let good = MachineSpec::new(ledger.machines().next().unwrap(), &plan, Revision(7));
    type Edit = (&'static str, fn(&mut MachineSpec));
    let edits: [Edit; 5] = [
        ("spec.id", |spec| spec.id.clear()),
        ("spec.role", |spec| spec.role = "boss".to_owned()),
        ("spec.blockNumber", |spec| spec.block_number = -1),
        ("spec.routerId", |spec| spec.router_id = "0.0.0.0".to_owned()),
        ("spec.ports.mac", |spec| spec.ports[0].mac = "x".to_owned()),
    ];
    for (field, edit) in edits {
        let mut spec = good.clone();
        edit(&mut spec);
        let error = spec.machine("node1").unwrap_err();
        assert!(error.starts_with(field), "{error}");
    }
    assert!(good.machine("Node 1").unwrap_err().starts_with("metadata.name"));
}

#[test]
fn a_report_comes_back_from_a_status() {
    let ledger = ledger(&AddressPlan::default());
    let link = ledger.links().next().unwrap();
    let report = LinkStatus {
        reason: Some("the kubelet is not ready".to_owned()),
        far_mac: Some(link.far.mac),
        far_machine: link.far.machine,
        far_node: Some("node2".parse().unwrap()),
        bytes: 1 << 33,
        ..LinkStatus::new(link.id, "enp1s0", link.prefix.near(), Stage::Joining, 1_800_000_000)
    };
    let status = BootStatus::new(&report, "node1-p0");
    assert_eq!(status.since.as_deref(), Some("2027-01-15T08:00:00Z"));
    let spec = LinkSpec::new(link, &ledger, Revision(7)).unwrap();
    assert_eq!(status.report(link, &spec), Some(report));
    assert_eq!(BootStatus::default().report(link, &spec), None);
}

#[test]
fn every_stage_is_read_as_it_is_written() {
    for stage in Stage::ALL {
        assert_eq!(stage_named(&stage.to_string()), Some(stage));
    }
}

/// What Kubernetes 1.20 wants of a schema, and what it does not know yet.
#[test]
fn the_definitions_are_structural_and_old_enough() {
    fn walk(schema: &Value, path: &str) {
        let object = schema.as_object().unwrap();
        let known = [
            "description",
            "type",
            "properties",
            "required",
            "items",
            "pattern",
            "minimum",
            "maximum",
            "format",
            "nullable",
            "additionalProperties",
            "enum",
            "title",
            "x-kubernetes-map-type",
        ];
        for key in object.keys() {
            assert!(known.contains(&key.as_str()), "{path} has {key}");
        }
        assert!(object.contains_key("type"), "{path} has no type: {schema}");
        for inner in ["items", "additionalProperties"] {
            if let Some(schema) = object.get(inner) {
                walk(schema, &format!("{path}[]"));
            }
        }
        for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(property, &format!("{path}.{name}"));
        }
    }
    let status = serde_json::json!({ "status": {} });
    for (crd, subresources) in [
        (MachineObject::crd(), &status),
        (LinkObject::crd(), &status),
        (ReservationObject::crd(), &Value::Null),
    ] {
        let crd = serde_json::to_value(crd).unwrap();
        assert_eq!(crd["apiVersion"], "apiextensions.k8s.io/v1");
        assert_eq!(crd["spec"]["scope"], "Cluster");
        assert_eq!(crd["spec"]["group"], GROUP);
        let version = &crd["spec"]["versions"][0];
        assert_eq!(version["name"], "v1alpha1");
        assert_eq!(&version["subresources"], subresources);
        assert!(version.get("selectableFields").is_none(), "these are from 1.30");
        walk(&version["schema"]["openAPIV3Schema"], "");
    }
}
