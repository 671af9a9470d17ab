use mesh::{LinkId, NodeName, Port, Role};
use uuid::Uuid;

use super::*;

fn machine(number: u16, id: hardware::DeploymentId) -> Machine {
    let mac = id.mac(End { machine: MachineNumber(number), port: 0 });
    Machine {
        id: MachineId(id.machine_uuid(MachineNumber(number))),
        name: MachineNumber(number).usual_name().parse::<NodeName>().unwrap(),
        role: if number == 0 { Role::Seed } else { Role::Node },
        block: AddressPlan::default().preferred_number(mac),
        router_id: u32::from(number + 1).try_into().unwrap(),
        ports: vec![Port { index: 0.try_into().unwrap(), mac, name: "enp0s16".to_owned() }],
    }
}

fn link(near: &Machine, port: u8, far: &Machine, stage: Stage, bytes: u64) -> LinkStatus {
    let id = LinkId { near: near.id, port: port.try_into().unwrap() };
    let name = format!("enp0s{}", 16 + port);
    LinkStatus {
        far_mac: Some(far.ports[0].mac),
        far_machine: Some(far.id),
        far_node: Some(far.name.clone()),
        bytes,
        ..LinkStatus::new(id, name, "2001:db8::11".parse().unwrap(), stage, 1_800_000_000)
    }
}

fn observer(machines: u16) -> Observer {
    let id = hardware::DeploymentId(Uuid::from_u128(0x3fa2_b1c4_0000_4000_8000_0000_dead_beef));
    let mut deployment = Deployment::new(
        id,
        "5eed0000-0000-4000-8000-000000000001".parse().unwrap(),
        AddressPlan::default(),
        machine(0, id),
    );
    deployment.machines = crate::deployment::records(machines);
    deployment.cables = hardware::topology::cables(hardware::Shape::Grid, machines);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Observer { deployment, pages: reqwest::Client::builder().no_proxy().build().unwrap(), kubernetes: None }
}

fn record(observer: &Observer, number: u16) -> &MachineRecord {
    observer.deployment.machine(MachineNumber(number)).unwrap()
}

#[test]
fn who_sent_most_is_who_served() {
    let observer = observer(4);
    let id = observer.deployment.id;
    let all: Vec<Machine> = (0..=4).map(|number| machine(number, id)).collect();
    let pages = Pages {
        links: vec![
            link(&all[2], 1, &all[4], Stage::Configured, 90_000_000),
            link(&all[3], 1, &all[4], Stage::Addressed, 0),
        ],
        answered: BTreeMap::from([(all[4].id, None)]),
        machines: all.clone(),
    };
    let nodes =
        BTreeMap::from([("node4".to_owned(), Readiness { ready: true, reason: String::new(), boot: None })]);
    let running = [id.domain("node4")];
    let view = observer.view(record(&observer, 4), &pages, &nodes, Some(&running));
    assert_eq!(view.served_by.as_deref(), Some("node2 port 1"));
    assert_eq!((view.stage, view.ready), (Some(Stage::Ready), Some(true)));
    assert_eq!(view.power.as_deref(), Some("running"));
    assert!(view.serves && view.block.is_some() && view.reason.is_none());
}

#[test]
fn a_machine_that_nobody_serves_yet_says_whom_it_waits_for() {
    let observer = observer(4);
    let running = [observer.deployment.id.domain("node4")];
    let view = observer.view(record(&observer, 4), &Pages::default(), &BTreeMap::new(), Some(&running));
    assert_eq!(view.reason.as_deref(), Some("waits for node2 or node3 to serve it"));
    let view = observer.view(record(&observer, 3), &Pages::default(), &BTreeMap::new(), Some(&running));
    assert_eq!(view.reason.as_deref(), Some("it is off"));
    let pages = Pages { machines: vec![machine(4, observer.deployment.id)], ..Pages::default() };
    let view = observer.view(record(&observer, 4), &pages, &BTreeMap::new(), Some(&running));
    assert_eq!(view.reason.as_deref(), Some("node2 or node3, who serves it, does not answer"));
}

#[test]
fn a_link_that_is_not_served_is_named_though_nobody_is_there() {
    let observer = observer(1);
    let machines: Vec<Machine> = (0..=1).map(|number| machine(number, observer.deployment.id)).collect();
    let mut looped = link(&machines[1], 2, &machines[0], Stage::Carrier, 0);
    (looped.far_mac, looped.far_machine, looped.far_node) = (None, None, None);
    looped.faults = vec![LinkFault::Looped { port: "enp0s17".to_owned() }];
    let good = link(&machines[0], 0, &machines[1], Stage::Ready, 9);
    let pages = Pages { links: vec![looped, good], machines, ..Pages::default() };
    let observation = Observation { links: pages.faulty(), ..Observation::default() };
    assert_eq!(observation.links.len(), 1);
    let table = observation.table();
    let line =
        "node1 port 2 (enp0s18) is not served: what port enp0s17 of this machine sends comes back here";
    assert!(table.contains(line), "{table}");
    let json = serde_json::to_value(&observation).unwrap();
    assert_eq!(json["links"][0]["faults"][0]["kind"], "looped");
}

#[tokio::test]
async fn silent_witnesses_leave_gaps_and_no_error() {
    let mut observer = observer(2);
    // Nobody answers on this computer's own address.
    observer.deployment.addresses.machines = "::/71".parse().unwrap();
    let observation = observer.observe().await;
    assert_eq!(observation.machines.len(), 3);
    assert!(!observation.is_ready());
    let table = observation.table();
    assert!(table.contains("MACHINE") && table.contains("node2") && table.contains("kubeconfig"), "{table}");
}
