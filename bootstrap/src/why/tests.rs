use mesh::{Block, BlockNumber, LinkId, Mac, MachineId, Port, Role, Sound};

use super::*;
use crate::gateway::status::ApiStatus;

fn machine(number: u8) -> Machine {
    let mac = Mac([2, 0, 0, 0, 0, number]);
    Machine {
        id: MachineId::from_mac(mac),
        name: format!("node{number}").parse().unwrap(),
        role: Role::Node,
        block: BlockNumber(number.into()),
        router_id: u32::from(number).try_into().unwrap(),
        ports: vec![Port { index: 0.try_into().unwrap(), mac, name: "enp1s0".to_owned() }],
    }
}

/// Node 1 serves somebody at port 2.
fn witness(far: Option<Mac>) -> Witness {
    let near = machine(1);
    let link = LinkId { near: near.id, port: 2.try_into().unwrap() };
    let address = Block::new("2001:db8::/119".parse().unwrap()).unwrap().link(link.port).near();
    let status = LinkStatus { far_mac: far, ..LinkStatus::new(link, "enp3s0", address, Stage::Loading, 100) };
    let mut timeline = Timeline::new(link, status.port.clone(), Stage::Dark, 90_000);
    timeline.restart(Stage::Carrier, 95_000);
    timeline.hear(Sound::Dhcp);
    timeline.hear(Sound::BootFile);
    timeline.restart(Stage::Addressed, 99_500);
    timeline.enter(Stage::Loading, 100_000);
    timeline.count(50 * 1024 * 1024, 110_000);
    timeline.note("the firmware stopped loading node-x64.efi: out of resources", 110_000);
    let page = NodeStatus {
        machine: near.clone(),
        version: String::new(),
        api: ApiStatus { available: true, reason: None },
        anycasts: Vec::new(),
        links: vec![status],
        machines: vec![near, machine(2)],
    };
    Witness { page, timelines: vec![timeline] }
}

#[test]
fn a_link_is_named_by_its_port_or_by_who_is_there() {
    let witnesses = [witness(Some(Mac([2, 0, 0, 0, 0, 2])))];
    for target in ["enp3s0", "node1/enp3s0", "node1/2", "node2"] {
        assert_eq!(accounts(&witnesses, target, 110_000).len(), 1, "{target}");
    }
    for target in ["node1", "2", "enp1s0", "node2/2", "node3", ""] {
        assert_eq!(accounts(&witnesses, target, 110_000).len(), 0, "{target}");
    }
    let strange = [witness(Some(Mac([2, 9, 9, 9, 9, 9])))];
    assert_eq!(accounts(&strange, "02:09:09:09:09:09", 110_000).len(), 1);
}

#[test]
fn an_account_says_where_it_hangs_and_what_to_try() {
    let witnesses = [witness(Some(Mac([2, 0, 0, 0, 0, 2])))];
    let text = |now| accounts(&witnesses, "node2", now).pop().unwrap().text(now);
    let goes_on = text(120_000);
    for line in [
        "node1 port 2 (enp3s0): node2",
        "  since 1970-01-01T00:01:30Z, 0 earlier remembered",
        "  +5.0 s        carrier     4.5 s        ",
        "  +10.0 s       loading     20.0 s         50.0 MiB at 5.0 MiB/s",
        "   +20.0 s        the firmware stopped loading node-x64.efi: out of resources",
        "  heard: 0 router solicitations, 1 DHCPv6 messages, 1 of them for a boot file",
        "  goes on: in loading",
    ] {
        assert!(goes_on.lines().any(|told| told == line), "no `{line}` in\n{goes_on}");
    }
    let stuck = text(310_000);
    assert!(!goes_on.contains("  try: "), "{goes_on}");
    assert!(stuck.contains("  HANGS in loading for 3 min 20 s\n"), "{stuck}");
    assert!(stuck.contains("  try: firmware that stops a transfer is mostly out of memory"), "{stuck}");
}

#[test]
fn times_and_sizes_are_for_people() {
    let spans = [0, 4200, 190_000, 18_060_000].map(|millis| span(Duration::from_millis(millis)));
    assert_eq!(spans, ["0.0 s", "4.2 s", "3 min 10 s", "5 h 1 min"]);
    assert_eq!([0, 1023, 1024, 5 << 30].map(size), ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]);
}
