//! What the routes must be, computed from the cables and machines that are really there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use tests::netlink::{NextHop, Route, Routes};

use super::identity::{Identity, PORTS};

/// A place in the ring, where a machine may stand.
pub(crate) type Place = usize;

/// The cables and machines of a ring, and which anycast address is on which.
///
/// Cable `i` joins the first port at place `i` with the second port at the next place.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) machines: BTreeMap<Place, Identity>,
    pub(crate) cut: BTreeSet<usize>,
    pub(crate) anycast: BTreeMap<Ipv6Addr, BTreeSet<Place>>,
    /// What is announced besides.
    pub(crate) outside: BTreeMap<Ipv6Net, BTreeSet<Place>>,
    pub(crate) size: usize,
    pub(crate) announces_vip: bool,
}

impl World {
    /// The routes by way of neighbours that each machine must have, and no others.
    pub(crate) fn routes(&self) -> BTreeMap<Place, Routes> {
        let mut all: BTreeMap<Place, Routes> =
            self.machines.keys().map(|place| (*place, Routes::new())).collect();
        for (place, machine) in &self.machines {
            self.add(&mut all, machine.block(), &BTreeSet::from([*place]));
            if self.announces_vip {
                self.add(&mut all, Ipv6Net::from(machine.vip()), &BTreeSet::from([*place]));
            }
        }
        for (address, owners) in &self.anycast {
            self.add(&mut all, Ipv6Net::from(*address), owners);
        }
        for (prefix, owners) in &self.outside {
            self.add(&mut all, *prefix, owners);
        }
        all
    }

    /// The addresses that a machine must reach, with the machines that may answer; an empty set means none may.
    pub(crate) fn reachable(&self, from: Place) -> BTreeMap<Ipv6Addr, BTreeSet<Place>> {
        let near = self.distances(&BTreeSet::from([from]));
        let mut all = BTreeMap::new();
        for (place, machine) in self.machines.iter().filter(|(place, _)| **place != from) {
            let owner = near.contains_key(place).then_some(*place);
            all.insert(machine.vip(), owner.into_iter().collect());
        }
        for (address, owners) in self.anycast.iter().filter(|(_, owners)| !owners.contains(&from)) {
            let best = owners.iter().filter_map(|owner| near.get(owner)).min();
            let nearest = |owner: &&Place| near.get(*owner).is_some_and(|distance| Some(distance) == best);
            all.insert(*address, owners.iter().filter(nearest).copied().collect());
        }
        all
    }

    fn add(&self, all: &mut BTreeMap<Place, Routes>, destination: Ipv6Net, owners: &BTreeSet<Place>) {
        let distances = self.distances(owners);
        for place in self.machines.keys() {
            let Some(distance) = distances.get(place).filter(|distance| **distance > 0) else { continue };
            let next_hops = self.neighbours(*place).into_iter().filter_map(|(port, neighbour, its_port)| {
                let nearer = distances.get(&neighbour).is_some_and(|its| its + 1 == *distance);
                let via = self.machines[&neighbour].link_local(its_port);
                nearer.then(|| NextHop { port: PORTS[port].to_owned(), via })
            });
            let route = Route { next_hops: next_hops.collect() };
            all.entry(*place).or_default().insert(destination, route);
        }
    }

    fn distances(&self, owners: &BTreeSet<Place>) -> BTreeMap<Place, usize> {
        let mut distances: BTreeMap<Place, usize> = BTreeMap::new();
        let mut queue: VecDeque<(Place, usize)> = owners.iter().map(|owner| (*owner, 0)).collect();
        while let Some((place, distance)) = queue.pop_front() {
            if !self.machines.contains_key(&place) || distances.contains_key(&place) {
                continue;
            }
            distances.insert(place, distance);
            queue.extend(
                self.neighbours(place).into_iter().map(|(_, neighbour, _)| (neighbour, distance + 1)),
            );
        }
        distances
    }

    /// This place's port, the neighbour there, and the neighbour's port.
    fn neighbours(&self, place: Place) -> Vec<(usize, Place, usize)> {
        let before = (place + self.size - 1) % self.size;
        let next = (place + 1) % self.size;
        [(0, place, next, 1), (1, before, before, 0)]
            .into_iter()
            .filter(|(_, cable, neighbour, _)| {
                !self.cut.contains(cable) && self.machines.contains_key(neighbour)
            })
            .map(|(port, _, neighbour, its_port)| (port, neighbour, its_port))
            .collect()
    }
}

/// Where two tables differ, in words.
///
/// Routes that do not lead over the mesh are left out, and those to a port's own address: OSPF announces it, which is
/// in the way of nobody.
pub(crate) fn difference(place: Place, expected: &Routes, seen: &Routes) -> Vec<String> {
    let mut words = Vec::new();
    for (destination, route) in expected {
        match seen.get(destination) {
            None => words.push(format!("place {place}: {destination} is missing")),
            Some(other) if other != route => {
                words.push(format!("place {place}: {destination} is {other:?} instead of {route:?}"));
            }
            Some(_) => {}
        }
    }
    for (destination, route) in seen {
        let port = destination.prefix_len() == 128
            && expected.keys().any(|block| block.prefix_len() == 119 && block.contains(destination));
        let mesh = route.next_hops.iter().any(|hop| PORTS.contains(&hop.port.as_str()));
        if !expected.contains_key(destination) && mesh && !port {
            words.push(format!("place {place}: {destination} must not be there: {route:?}"));
        }
    }
    words
}
