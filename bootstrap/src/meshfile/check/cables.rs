//! Cables between machines that are there, at ports that are free, from the seed to everybody.

use std::collections::{BTreeMap, BTreeSet};

use hardware::topology::{self, Cable, End, MachineNumber};

use super::super::given::Given;
use super::super::mistake::Place;
use super::super::written::{CableEnds, CableWritten};
use super::{Checker, Member, unknown};

/// One end of a cable, as it is written: a machine, and a port if one is named.
#[derive(Clone, Copy)]
struct Socket {
    machine: MachineNumber,
    port: Option<u8>,
    place: Place,
}

/// The ports that cables are in, and where that was said.
type Taken = BTreeMap<End, Place>;

impl Checker<'_> {
    /// The cables, each with its near end towards the seed, and numbered in that order.
    pub(super) fn cables(&mut self, members: &[Member<'_>]) -> Vec<Cable> {
        if let Some((list, place)) = self.written.cables.pair() {
            if let Some((_, other)) = self.written.topology.pair() {
                self.note(other, format!("topology: the cables are given one by one: {place}"));
            }
            let read: Vec<_> = list.iter().filter_map(Given::pair).collect();
            let sockets: Vec<_> =
                read.iter().filter_map(|(cable, place)| self.sockets(cable, *place, members)).collect();
            let are_whole = sockets.len() == list.len() && self.machines_are_known;
            let laid = self.laid(&sockets, members);
            if are_whole && laid.len() == sockets.len() {
                self.check_reach(&laid, members);
            }
            return in_order(&laid);
        }
        let nodes = u16::try_from(members.len().saturating_sub(1)).unwrap_or_default();
        let cables = topology::cables(self.settings.libvirt.topology, nodes);
        self.check_shape(&cables, members);
        cables
    }

    /// The two ends of a cable, if both are machines' and not the same one's.
    fn sockets(&mut self, cable: &CableWritten, place: Place, members: &[Member<'_>]) -> Option<[Socket; 2]> {
        let (from, to) = match cable {
            CableWritten::Words(words) => match words.split_once(" - ") {
                Some((from, to)) => ((from.trim(), place), (to.trim(), place)),
                None => {
                    self.note(place, format!("`{words}` is no cable, as `seed:0 - node1:0` is one"));
                    return None;
                }
            },
            CableWritten::Ends(CableEnds { from, to }) => {
                for (end, name) in [(from, "from"), (to, "to")] {
                    if end.is_absent() {
                        self.note(place, format!("the cable has no `{name}`"));
                    }
                }
                let text = |end: &'_ Given<String>| {
                    end.pair().map(|(text, place)| (text.as_str().to_owned(), place))
                };
                let (from, to) = (text(from)?, text(to)?);
                return self.both((&from.0, from.1), (&to.0, to.1), members);
            }
        };
        self.both(from, to, members)
    }

    fn both(
        &mut self,
        from: (&str, Place),
        to: (&str, Place),
        members: &[Member<'_>],
    ) -> Option<[Socket; 2]> {
        let (from, to) = (self.socket(from, members), self.socket(to, members));
        let (from, to) = (from?, to?);
        if from.machine == to.machine {
            let name = members.get(usize::from(from.machine.0)).map_or("it", |member| member.name.as_str());
            self.note(to.place, format!("the cable joins `{name}` to itself"));
            return None;
        }
        Some([from, to])
    }

    /// `NAME` or `NAME:PORT`.
    fn socket(&mut self, (text, place): (&str, Place), members: &[Member<'_>]) -> Option<Socket> {
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        let Some(at) = members.iter().position(|member| member.name == name) else {
            self.note(place, unknown(name, members));
            return None;
        };
        let machine = MachineNumber(u16::try_from(at).ok()?);
        let Some(port) = port else { return Some(Socket { machine, port: None, place }) };
        let ports = members.get(at).map_or(0, |member| member.ports);
        match port.parse().ok().filter(|port| *port < ports) {
            Some(port) => Some(Socket { machine, port: Some(port), place }),
            None => {
                self.note(place, format!("`{name}` has no port `{port}`: its ports are {}", range(ports)));
                None
            }
        }
    }

    /// Cables at ports: those that are named first, then each other end at the lowest that is free.
    fn laid(&mut self, sockets: &[[Socket; 2]], members: &[Member<'_>]) -> Vec<Cable> {
        let mut taken = Taken::new();
        let mut doubled = BTreeSet::new();
        for (at, socket) in
            sockets.iter().enumerate().flat_map(|(at, ends)| ends.iter().map(move |end| (at, end)))
        {
            let Some(port) = socket.port else { continue };
            let end = End { machine: socket.machine, port };
            if let Some(first) = taken.get(&end) {
                let name = members.get(usize::from(end.machine.0)).map_or("", |member| member.name.as_str());
                self.note(socket.place, format!("`{name}:{port}` has a cable already: {first}"));
                doubled.insert(at);
            } else {
                taken.insert(end, socket.place);
            }
        }
        let mut cables = Vec::new();
        for (number, [from, to]) in (1..).zip(sockets) {
            let ends = [from, to].map(|socket| self.end(socket, &mut taken, members));
            if let [Some(near), Some(far)] = ends
                && !doubled.contains(&(usize::from(number) - 1))
            {
                cables.push(Cable { number, near, far });
            }
        }
        cables
    }

    /// The port that a cable's end is put into.
    fn end(&mut self, socket: &Socket, taken: &mut Taken, members: &[Member<'_>]) -> Option<End> {
        let machine = socket.machine;
        if let Some(port) = socket.port {
            return Some(End { machine, port });
        }
        let member = members.get(usize::from(machine.0))?;
        let free = (0..member.ports).map(|port| End { machine, port }).find(|end| !taken.contains_key(end));
        match free {
            Some(end) => {
                taken.insert(end, socket.place);
                Some(end)
            }
            None => {
                self.note(
                    socket.place,
                    format!("`{}` has no port left: it has {}", member.name, member.ports),
                );
                None
            }
        }
    }

    fn check_reach(&mut self, laid: &[Cable], members: &[Member<'_>]) {
        let reached = topology::reached(laid);
        let lost = (0..).map(MachineNumber).zip(members).filter(|(number, _)| !reached.contains(number));
        for (_, member) in lost {
            self.note(member.place, format!("no chain of cables joins `{}` to the seed", member.name));
        }
    }

    /// A usual shape takes so many ports of each machine.
    fn check_shape(&mut self, cables: &[Cable], members: &[Member<'_>]) {
        let shape = self.settings.libvirt.topology;
        for (number, member) in (0..).map(MachineNumber).zip(members) {
            let used = cables.iter().flat_map(Cable::ends).filter(|end| end.machine == number);
            let wanted = used.map(|end| end.port + 1).max().unwrap_or_default();
            if wanted > member.ports {
                let (name, ports) = (&member.name, counted(member.ports));
                self.note(member.place, format!("`{name}` has {ports}, and in a {shape} it takes {wanted}"));
            }
        }
    }
}

/// From the seed outwards, and numbered in that order.
fn in_order(laid: &[Cable]) -> Vec<Cable> {
    (1..).zip(topology::from_seed(laid)).map(|(number, cable)| Cable { number, ..cable }).collect()
}

fn counted(ports: u8) -> String {
    if ports == 1 { "1 port".to_owned() } else { format!("{ports} ports") }
}

fn range(ports: u8) -> String {
    if ports == 1 { "0 alone".to_owned() } else { format!("0 to {}", ports.saturating_sub(1)) }
}
