//! Routing between nodes: FRR in network namespaces, through cuts, heals, reboots and anycast moves.
//!
//! After each step every kernel's routes must be those that the cables call for, no more and no less, and stay so;
//! and every address must be answered by one of the machines that may, under the right addresses.

mod alone;
mod board;
mod chaos;
mod compare;
mod events;
pub(crate) mod identity;
mod networkd;
pub(crate) mod protocol;
mod redirect;
pub(crate) mod ring;
mod scenario;
mod transit;
pub(crate) mod truth;

use std::time::{Duration, Instant};

use anyhow::Result;
use chaos::{Dice, chaos, mend};
use identity::Identity;
use protocol::Protocol;
use ring::{Cut, Ring};
use scenario::{ANYCAST, SIZE, boot, cold_start, must};
use tests::frr;

/// A lost carrier, an address that comes or goes: three hops of 50 ms each, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A neighbour that says nothing any more: the hold time of 3 s.
const BY_SILENCE: Duration = Duration::from_secs(6);
/// A neighbour is found: an advertisement every 3 s, and tries a second apart.
const BY_MEETING: Duration = Duration::from_secs(15);

fn ring() -> Result<Ring> {
    let (ring, outcome) = cold_start(Protocol::Bgp)?;
    assert!(outcome.wrong.is_empty(), "{outcome:#?}\n{}", ring.describe());
    Ok(ring)
}

#[test]
fn cut_cables_are_routed_around() -> Result<()> {
    let mut ring = ring()?;
    must(&mut ring, "cut at both ends", AT_ONCE, |ring| ring.cut(0, Cut::BothEnds))?;
    must(&mut ring, "healed", BY_MEETING, |ring| ring.heal(0))?;
    must(&mut ring, "cut at one end", BY_SILENCE, |ring| ring.cut(0, Cut::OneEnd))?;
    must(&mut ring, "healed", BY_MEETING, |ring| ring.heal(0))?;
    must(&mut ring, "cut unseen", BY_SILENCE, |ring| ring.cut(0, Cut::Silent))?;
    must(&mut ring, "healed", BY_MEETING, |ring| ring.heal(0))
}

#[test]
fn halves_find_together_again() -> Result<()> {
    let mut ring = ring()?;
    must(&mut ring, "first cut", AT_ONCE, |ring| ring.cut(0, Cut::BothEnds))?;
    must(&mut ring, "second cut: two halves", BY_SILENCE, |ring| ring.cut(2, Cut::Silent))?;
    must(&mut ring, "first healed", BY_MEETING, |ring| ring.heal(0))?;
    must(&mut ring, "second healed", BY_MEETING, |ring| ring.heal(2))
}

/// The ways of the first cut end at the next, whose other end has lost its own.
#[test]
fn cuts_side_by_side_heal_in_any_order() -> Result<()> {
    let mut ring = ring()?;
    for [first, next] in [[0, 1], [1, 0], [3, 0]] {
        must(&mut ring, "first cut", AT_ONCE, |ring| ring.cut(first, Cut::BothEnds))?;
        must(&mut ring, "the one beside it: a machine alone", BY_SILENCE, |ring| {
            ring.cut(next, Cut::BothEnds)
        })?;
        must(&mut ring, "first healed first", BY_MEETING, |ring| ring.heal(first))?;
        must(&mut ring, "the other healed", BY_MEETING, |ring| ring.heal(next))?;
    }
    Ok(())
}

#[test]
fn a_node_reboots() -> Result<()> {
    let mut ring = ring()?;
    must(&mut ring, "power lost", BY_SILENCE, |ring| ring.power_off(1))?;
    must(&mut ring, "booted", BY_MEETING, |ring| boot(ring, 1, Identity(2)))?;
    must(&mut ring, "FRR killed and started", BY_MEETING, |ring| {
        let at = Instant::now();
        ring.crash_frr(1)?;
        ring.start_frr(1)?;
        Ok(at)
    })
}

#[test]
fn a_node_leaves_and_another_takes_its_place() -> Result<()> {
    let mut ring = ring()?;
    must(&mut ring, "a node leaves", BY_SILENCE, |ring| ring.power_off(2))?;
    must(&mut ring, "another comes", BY_MEETING, |ring| boot(ring, 2, Identity(5)))
}

#[test]
fn anycast_addresses_follow_their_services() -> Result<()> {
    let mut ring = ring()?;
    must(&mut ring, "one owner", AT_ONCE, |ring| ring.add_anycast(1, ANYCAST))?;
    must(&mut ring, "two owners, two paths", AT_ONCE, |ring| ring.add_anycast(3, ANYCAST))?;
    must(&mut ring, "the first stops", AT_ONCE, |ring| ring.remove_anycast(1, ANYCAST))?;
    must(&mut ring, "the second stops", AT_ONCE, |ring| ring.remove_anycast(3, ANYCAST))?;
    must(&mut ring, "one owner again", AT_ONCE, |ring| ring.add_anycast(2, ANYCAST))?;
    must(&mut ring, "the owner dies", BY_SILENCE, |ring| ring.power_off(2))
}

#[test]
fn many_things_at_once_end_well() -> Result<()> {
    let mut ring = ring()?;
    let mut dice = Dice(2);
    must(&mut ring, "many things at once", BY_MEETING, |ring| {
        chaos(ring, &mut dice, 12).map(|(at, _story)| at)
    })?;
    must(&mut ring, "and all mended", BY_MEETING, mend)
}

#[test]
fn the_way_out_is_announced_while_there_is_one() -> Result<()> {
    let mut ring = Ring::new(Protocol::Bgp, SIZE)?;
    let seed = Identity(1);
    let mut plan = seed.plan();
    plan.redistribute = vec!["2001:db8:a001::/64".parse()?];
    plan.default_route = true;
    ring.power_on_with(0, seed, &plan)?;
    ring.power_on(1, Identity(2))?;
    ring.power_on(2, Identity(3))?;
    let ip = |ring: &Ring, args: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        ring.namespace(0)?.run("/usr/sbin/ip", &args).map(|_nothing| Instant::now())
    };
    ip(&ring, "link add up0 type veth peer name up1")?;
    ip(&ring, "link set up1 up")?;
    ip(&ring, "link set up0 up")?;
    (0..3).try_for_each(|place| ring.start_frr(place))?;
    must(&mut ring, "no uplink", BY_MEETING, |_| Ok(Instant::now()))?;
    must(&mut ring, "an uplink", AT_ONCE, |ring| {
        ring.world.outside.insert("2001:db8:a001::/64".parse()?, [0].into());
        ip(ring, "address add 2001:db8:a001::2/64 dev up0")
    })?;
    must(&mut ring, "a default route", AT_ONCE, |ring| {
        ring.world.outside.insert("::/0".parse()?, [0].into());
        ip(ring, "route add default via 2001:db8:a001::1 dev up0 proto static")
    })?;
    must(&mut ring, "no default route", AT_ONCE, |ring| {
        ring.world.outside.remove(&"::/0".parse()?);
        ip(ring, "route del default via 2001:db8:a001::1 dev up0 proto static")
    })?;
    must(&mut ring, "one from an advertisement", AT_ONCE, |ring| {
        ring.world.outside.insert("::/0".parse()?, [0].into());
        ip(ring, "route add default via fe80::1 dev up0 proto ra")
    })?;
    must(&mut ring, "no uplink any more", AT_ONCE, |ring| {
        ring.world.outside.clear();
        ip(ring, "link set up0 down")
    })
}

#[test]
fn a_port_may_come_later() -> Result<()> {
    let mut ring = Ring::new(Protocol::Bgp, SIZE)?;
    for (place, identity) in [Identity(1), Identity(2), Identity(3)].into_iter().enumerate() {
        let mut plan = identity.plan();
        // Between the first two is a cable that the second does not know of yet.
        plan.ports.retain(|port| place != 1 || port == "lan0");
        ring.power_on_with(place, identity, &plan)?;
        ring.start_frr(place)?;
    }
    ring.world.cut.insert(0);
    must(&mut ring, "a port is not known", BY_MEETING, |_| Ok(Instant::now()))?;
    must(&mut ring, "now it is", BY_MEETING, |ring| {
        ring.world.cut.remove(&0);
        // Once would do; twice must not hurt.
        let told = ignition::frr::frr_port(Identity(2).plan().asn, "lan1");
        for _ in 0..2 {
            let args: Vec<&str> = told.lines().flat_map(|line| ["-c", line]).collect();
            ring.namespace(1)?.run("/usr/bin/vtysh", &args)?;
        }
        Ok(Instant::now())
    })?;
    let running = frr::vtysh(ring.namespace(1)?, "show running-config")?;
    assert_eq!(running.matches("neighbor lan1 interface remote-as external").count(), 1, "{running}");
    Ok(())
}
