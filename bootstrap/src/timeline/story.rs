//! A mesh of five machines on a bad day, for tests: a cable is cut and mended, then a machine loses power.

use mesh::{
    AddressPlan, BlockNumber, Happening, LinkId, LinkStatus, Mac, Machine, MachineId, Port, Role, Stage,
};

use super::Timeline;
use super::entry::{Boot, Entry, Source, What};
use super::journal::{Act, Fault};
use super::kubernetes::{Change, PodFate};
use super::names::Names;
use crate::gateway::status::{ApiStatus, NodeStatus};

pub(crate) const SECOND: u64 = 1_000_000;
/// When the cable is cut: Sunday 2026-11-29 20:02:11.123 UTC.
pub(crate) const CUT: u64 = 1_795_982_531_123_000;
/// When the machine loses power.
pub(crate) const KILL: u64 = CUT + 60 * SECOND;

pub(crate) fn machine(number: u8) -> Machine {
    let mac = Mac([2, 0, 0, 0, 0, number]);
    let name = if number == 0 { "seed".to_owned() } else { format!("node{number}") };
    Machine {
        id: MachineId::from_mac(mac),
        name: name.parse().unwrap(),
        role: if number == 0 { Role::Seed } else { Role::Node },
        block: BlockNumber(number.into()),
        router_id: (u32::from(number) + 1).try_into().unwrap(),
        ports: vec![Port { index: 0.try_into().unwrap(), mac, name: "enp1s0".to_owned() }],
    }
}

pub(crate) fn link(number: u8, port: u8) -> LinkId {
    LinkId { near: machine(number).id, port: port.try_into().unwrap() }
}

/// Node 1 and node 3 are neighbours: by port 2 of the one and port 0 of the other.
pub(crate) fn names() -> Names {
    let plan = AddressPlan::default();
    let page = |number: u8, port: u8, far: u8| {
        let near = plan.block(BlockNumber(number.into())).unwrap().link(port.try_into().unwrap()).near();
        let status = LinkStatus::new(link(number, port), "enp3s0", near, Stage::Ready, 0);
        NodeStatus {
            machine: machine(number),
            version: String::new(),
            api: ApiStatus { available: true, reason: None },
            anycasts: Vec::new(),
            links: vec![LinkStatus { far_machine: Some(machine(far).id), ..status }],
            machines: (0..5).map(machine).collect(),
        }
    };
    Names::new(&plan, &[page(1, 2, 3), page(3, 0, 1)])
}

pub(crate) fn node(at: u64, number: u8, what: Happening) -> Entry {
    Entry {
        at,
        within: 400,
        machines: vec![machine(number).name.to_string()],
        source: Source::Node,
        detail: What::Node(what),
    }
}

pub(crate) fn carrier(at: u64, number: u8, port: u8, carries: bool) -> Entry {
    let name = format!("enp{}s0", port + 1);
    node(at, number, Happening::Carrier { port: name, link: link(number, port), carries })
}

pub(crate) fn route(at: u64, number: u8, to: u8, paths: u16, before: u16) -> Entry {
    let to = AddressPlan::default().block(BlockNumber(to.into())).unwrap().net();
    node(at, number, Happening::Route { to, paths, before })
}

pub(crate) fn kubernetes(at: u64, number: u8, change: Change) -> Entry {
    Entry::of_kubernetes(at, 0, Some(machine(number).name.to_string()), change)
}

pub(crate) fn ready(at: u64, number: u8, ready: bool) -> Entry {
    let reason = (!ready).then(|| "Kubelet stopped posting node status.".to_owned());
    kubernetes(at, number, Change::Ready { ready, reason })
}

pub(crate) fn pod(at: u64, number: u8, pod: &str, fate: PodFate) -> Entry {
    kubernetes(at, number, Change::Pod { pod: format!("default/{pod}"), fate, reason: None })
}

pub(crate) fn fault(at: u64, id: &str, kind: &str, machines: &[u8], text: &str) -> Entry {
    let machines = machines.iter().map(|number| machine(*number).name.to_string()).collect();
    let (id, kind, text) = (id.to_owned(), kind.to_owned(), text.to_owned());
    Entry::of_act(at, Act::FaultInjected(Fault { id, kind, machines, text, until: None }))
}

pub(crate) fn undone(at: u64, id: &str, why: &str) -> Entry {
    Entry::of_act(at, Act::FaultUndone { id: id.to_owned(), why: why.to_owned() })
}

/// All of it, in no order.
pub(crate) fn entries() -> Vec<Entry> {
    let mut all = Vec::new();
    all.extend((0..5).map(|number| {
        let made = Entry { within: SECOND, ..ready(CUT - 3000 * SECOND, number, true) };
        Entry { at: made.at / SECOND * SECOND, ..made }
    }));
    all.push(fault(CUT, "f1", "link cut", &[1, 3], "cut the cable node1-node3"));
    all.push(carrier(CUT + 2_000, 1, 2, false));
    all.push(carrier(CUT + 3_000, 3, 0, false));
    all.push(node(CUT + 110_000, 1, Happening::Neighbour { port: "enp3s0".to_owned(), routes: false }));
    for (at, number, to, paths) in
        [(160_000, 1, 3, 0), (161_000, 1, 4, 0), (171_000, 3, 1, 0), (171_000, 3, 0, 1), (171_200, 3, 2, 0)]
    {
        all.push(route(CUT + at, number, to, paths, 2));
    }
    for (at, number, to) in [(1_900_000, 1, 3), (1_900_000, 1, 4), (1_920_000, 3, 1), (1_990_000, 3, 2)] {
        all.push(route(CUT + at, number, to, 1, 0));
    }
    all.push(undone(CUT + 30 * SECOND, "f1", "its time was over"));
    all.push(carrier(CUT + 30 * SECOND + 1_500, 1, 2, true));
    all.push(carrier(CUT + 30 * SECOND + 1_600, 3, 0, true));
    all.push(fault(KILL, "f2", "node kill", &[3], "pull the plug of node3"));
    all.push(carrier(KILL + 4_000, 1, 2, false));
    all.push(route(KILL + 2_700_000, 1, 3, 0, 1));
    all.push(route(KILL + 2_710_000, 0, 3, 0, 1));
    all.push(route(KILL + 2_720_000, 4, 3, 0, 1));
    all.push(ready(KILL + 41_200_000, 3, false));
    let taint = |at, present| {
        let key = "node.kubernetes.io/unreachable".to_owned();
        kubernetes(at, 3, Change::Taint { key, effect: "NoExecute".to_owned(), present })
    };
    all.push(taint(KILL + 41_300_000, true));
    for (number, name) in [(4, "web-7b5d-x2kqz"), (2, "web-7b5d-m9wlt")] {
        let late = u64::from(number) * 300_000;
        all.push(pod(KILL + 71_000_000 + late, number, name, PodFate::Scheduled));
        all.push(pod(KILL + 76_000_000 + late, number, name, PodFate::Ready));
    }
    for name in ["web-7b5d-8hfj2", "web-7b5d-c4tt9"] {
        all.push(pod(KILL + 71_000_000, 3, name, PodFate::NotReady));
        all.push(pod(KILL + 71_000_500, 3, name, PodFate::Deleting));
    }
    all.push(undone(KILL + 90 * SECOND, "f2", "asked to"));
    let boot = What::Boot(Boot::Booted { boot_id: "0b7a".to_owned() });
    all.push(Entry { detail: boot, ..node(KILL + 100 * SECOND, 3, Happening::Stopping) });
    all.push(node(KILL + 120 * SECOND, 3, Happening::Started { version: "0.0.0".to_owned() }));
    all.push(carrier(KILL + 121 * SECOND, 1, 2, true));
    for number in [0, 1, 4] {
        all.push(route(KILL + 124 * SECOND, number, 3, 1, 0));
    }
    all.push(ready(KILL + 131 * SECOND, 3, true));
    all.push(taint(KILL + 131 * SECOND + 90_000, false));
    all
}

/// The whole day.
pub(crate) fn timeline() -> Timeline {
    let machines = (0..5).map(|number| machine(number).name.to_string()).collect();
    Timeline::new(machines, entries(), names())
}
