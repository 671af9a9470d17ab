use rtnetlink::packet_route::route::{RouteFlags, RouteNextHop};

use super::*;

fn net(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn scope() -> RouteScope {
    RouteScope {
        machines: net("2001:db8::/71"),
        own: Block::new(net("2001:db8::/119")).unwrap(),
        anycasts: ["fd00::1".parse().unwrap()].into(),
    }
}

fn gateway(last: u16) -> RouteAttribute {
    RouteAttribute::Gateway(RouteAddress::Inet6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)))
}

fn message(to: &str, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let to = net(to);
    let mut message = RouteMessage::default();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.address_family = AddressFamily::Inet6;
    message.header.kind = RouteType::Unicast;
    message.header.destination_prefix_length = to.prefix_len();
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet6(to.addr()))];
    message.attributes.extend(attributes);
    message
}

fn path(port: u32, last: u16, flags: RouteNextHopFlags) -> RouteNextHop {
    let mut path = RouteNextHop::default();
    path.interface_index = port;
    path.flags = flags;
    path.attributes = vec![gateway(last)];
    path
}

fn told(before: &[RouteMessage], now: &[RouteMessage]) -> Vec<Happening> {
    let (before, now) = (table_of(before, &scope()), table_of(now, &scope()));
    changes(&before, &now, |port| format!("eth{port}"))
}

fn route(to: &str, paths: u16, before: u16) -> Happening {
    Happening::Route { to: net(to), paths, before }
}

fn neighbour(port: &str, routes: bool) -> Happening {
    Happening::Neighbour { port: port.to_owned(), routes }
}

#[test]
fn blocks_of_others_and_anycast_addresses_are_watched_and_nothing_else() {
    let scope = scope();
    for (to, covered) in [
        ("2001:db8::200/119", true),
        ("2001:db8::/119", false),
        ("2001:db8::210/126", false),
        ("2001:db8:ffff::/119", false),
        ("fd00::1/128", true),
        ("fd00::2/128", false),
        ("::/0", false),
    ] {
        assert_eq!(scope.covers(net(to)), covered, "{to}");
    }
}

#[test]
fn a_route_is_gone_with_its_last_living_path() {
    let (dead, none) = (RouteNextHopFlags::Dead, RouteNextHopFlags::empty());
    let two = |flags| {
        let paths = vec![path(1, 1, none), path(2, 2, flags)];
        vec![message("2001:db8::200/119", vec![RouteAttribute::MultiPath(paths)])]
    };
    let one = vec![message("2001:db8::200/119", vec![RouteAttribute::Oif(1), gateway(1)])];
    let mut dying = one.clone();
    dying[0].header.flags = RouteFlags::from_bits_retain(u32::from(dead.bits()));
    let to = "2001:db8::200/119";
    assert_eq!(told(&[], &two(none)), [neighbour("eth1", true), neighbour("eth2", true), route(to, 2, 0)]);
    assert_eq!(told(&two(none), &two(dead)), [neighbour("eth2", false), route(to, 1, 2)]);
    assert_eq!(told(&two(dead), &one), []);
    assert_eq!(told(&one, &dying), [neighbour("eth1", false), route(to, 0, 1)]);
}

#[test]
fn a_neighbour_is_there_as_long_as_any_route_leads_by_it() {
    let by_one = || vec![RouteAttribute::Oif(1), gateway(1)];
    let both = [message("2001:db8::200/119", by_one()), message("fd00::1/128", by_one())];
    assert_eq!(told(&both, &both[..1]), [route("fd00::1/128", 0, 1)]);
    assert_eq!(told(&both[..1], &[]), [neighbour("eth1", false), route("2001:db8::200/119", 0, 1)]);
}

#[test]
fn two_messages_of_one_route_are_one_route() {
    let by = |port: u32| vec![RouteAttribute::Oif(port), gateway(9)];
    let pieces = [message("fd00::1/128", by(1)), message("fd00::1/128", by(2))];
    let Some(Happening::Route { paths, .. }) = told(&[], &pieces).pop() else { panic!("a route") };
    assert_eq!(paths, 2);
}

#[test]
fn other_tables_and_kinds_of_routes_are_not_looked_at() {
    let mut local = message("2001:db8::200/119", vec![RouteAttribute::Oif(1), gateway(1)]);
    let mut unreachable = local.clone();
    local.header.table = 255;
    unreachable.header.kind = RouteType::Unreachable;
    assert_eq!(told(&[], &[local, unreachable]), []);
}
