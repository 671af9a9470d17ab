use super::*;

fn plan() -> RoutingPlan {
    RoutingPlan {
        hostname: "node-2".to_owned(),
        router_id: 0x0a00_0002,
        asn: FIRST_PRIVATE_ASN + 2,
        block: "2001:db8::400/119".parse().unwrap(),
        vip: "2001:db8::400".parse().unwrap(),
        ports: vec!["lan0".to_owned(), "lan1".to_owned()],
        anycast: "fd65:7b9c:569:680::/64".parse().unwrap(),
        redistribute: Vec::new(),
        default_route: false,
    }
}

fn seed() -> RoutingPlan {
    RoutingPlan {
        hostname: "seed".to_owned(),
        redistribute: vec!["2001:db8:a001::/64".parse().unwrap(), "2001:db8:a002::/64".parse().unwrap()],
        default_route: true,
        ..plan()
    }
}

fn lines(conf: &str) -> Vec<&str> {
    conf.lines().map(str::trim).collect()
}

#[test]
fn nothing_of_the_template_is_left() {
    for conf in [frr_conf(&plan()), frr_conf(&seed())] {
        assert!(!conf.contains(['{', '}']), "{conf}");
    }
}

#[test]
fn every_port_is_a_neighbour() {
    let conf = frr_conf(&plan());
    for port in ["lan0", "lan1"] {
        for line in [
            format!("interface {port}"),
            format!("neighbor {port} interface remote-as external"),
            format!("neighbor {port} activate"),
        ] {
            assert!(lines(&conf).contains(&line.as_str()), "{line} is missing in\n{conf}");
        }
    }
}

#[test]
fn a_node_announces_its_block_and_its_anycast_addresses_only() {
    let conf = frr_conf(&plan());
    assert!(lines(&conf).contains(&"network 2001:db8::400/119"));
    assert!(lines(&conf).contains(&"ipv6 prefix-list anycast seq 5 permit fd65:7b9c:569:680::/64 ge 128"));
    assert!(!conf.contains("redistribute static"));
    assert!(!conf.contains("uplink"));
    assert!(!conf.contains("redistribute kernel"));
}

#[test]
fn the_seed_announces_its_uplinks_and_a_default_route() {
    let conf = frr_conf(&seed());
    assert!(lines(&conf).contains(&"ipv6 prefix-list uplink permit 2001:db8:a001::/64"));
    assert!(lines(&conf).contains(&"ipv6 prefix-list uplink permit 2001:db8:a002::/64"));
    assert!(lines(&conf).contains(&"route-map connected permit 20"));
    assert!(lines(&conf).contains(&"redistribute kernel route-map kernel"));
}

#[test]
fn the_router_id_is_written_as_four_octets() {
    let conf = frr_conf(&RoutingPlan { router_id: u32::MAX, ..plan() });
    assert!(lines(&conf).contains(&"bgp router-id 255.255.255.255"));
}

#[test]
fn what_a_plan_holds_is_not_read_as_a_placeholder() {
    let conf = frr_conf(&RoutingPlan { hostname: "{asn}".to_owned(), ..plan() });
    assert!(lines(&conf).contains(&"hostname {asn}"));
}

#[test]
fn a_port_that_comes_later_is_told_the_same() {
    let conf = frr_conf(&plan());
    let told = frr_port(plan().asn, "lan1");
    let mut words = told.lines();
    assert_eq!(words.next(), Some("configure terminal"));
    for line in words {
        assert!(lines(&conf).contains(&line), "{line} is not in\n{conf}");
    }
    for line in ["interface lan1", "neighbor lan1 interface remote-as external", "neighbor lan1 activate"] {
        assert!(told.lines().any(|told| told == line), "{line} is missing in\n{told}");
    }
}
