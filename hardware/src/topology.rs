//! Which cables join the seed and its machines.
//!
//! Machine 0 is the seed. Cables are listed so that each one's near end was reached by a cable before it:
//! taken in order they are the boot order of the mesh, and port 0 of every machine leads towards the seed.
//!
//! [`cables`] lays them in a usual shape. What a person lays himself is put in this order by [`from_seed`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::profile::MESH_PORTS;

/// How many machines one computer may be asked to play.
pub const MAX_MACHINES: u16 = 500;

/// A machine of a deployment: 0 is the seed, the others count from 1. A number is not given twice: Ethernet addresses and
/// the SMBIOS UUID are made of it, and a machine that comes after another is another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineNumber(pub u16);

/// The form in which cables are laid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A grid two wide: kubermesh's. Every machine but a last odd one has two ways to the seed's neighbour.
    #[default]
    Grid,
    /// One machine behind the other: every machine is reached through all before it.
    Line,
    /// A line whose last machine is plugged into the seed: every machine has two ways to it.
    Ring,
}

/// A shape that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shape of cables: `grid`, `line` or `ring`")]
pub struct ParseShapeError(String);

/// One end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct End {
    /// The machine.
    pub machine: MachineNumber,
    /// Its mesh port, from 0.
    pub port: u8,
}

/// One cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cable {
    /// Its number, from 1.
    pub number: u16,
    /// The end nearer to the seed.
    pub near: End,
    /// The other end.
    pub far: End,
}

/// The cables that join the seed and `nodes` machines.
#[must_use]
pub fn cables(shape: Shape, nodes: u16) -> Vec<Cable> {
    let mut used = vec![0_u8; usize::from(nodes) + 1];
    let mut plug = |machine: u16| {
        let port = used.get_mut(usize::from(machine)).expect("a pair names machines up to `nodes`");
        *port += 1;
        debug_assert!(*port <= MESH_PORTS, "no shape needs more ports than a machine has");
        End { machine: MachineNumber(machine), port: *port - 1 }
    };
    let pairs = (1..=nodes).flat_map(|machine| pairs_towards(shape, machine, nodes));
    let mut pairs: Vec<(u16, u16)> = pairs.collect();
    // By the near end, so that the list reads as kubermesh's did, and those that are reached first come first.
    pairs.sort_unstable_by_key(|(near, far)| (distance(shape, *near, nodes), *near, *far));
    (1..).zip(pairs).map(|(number, (near, far))| Cable { number, near: plug(near), far: plug(far) }).collect()
}

/// Cables as somebody laid them, in the order of [`cables`] and each with its near end towards the seed: numbers stay.
/// Those that no chain of cables joins to the seed come last, as they are.
#[must_use]
pub fn from_seed(laid: &[Cable]) -> Vec<Cable> {
    let distances = distances(laid);
    let key = |end: End| (distances.get(&end.machine).copied().unwrap_or(u16::MAX), end);
    let turned = laid.iter().map(|cable| match key(cable.near) <= key(cable.far) {
        true => *cable,
        false => Cable { near: cable.far, far: cable.near, ..*cable },
    });
    let mut all: Vec<Cable> = turned.collect();
    all.sort_by_key(|cable| (key(cable.near), key(cable.far)));
    all
}

/// The machines that a chain of cables joins to the seed, and the seed.
#[must_use]
pub fn reached(laid: &[Cable]) -> BTreeSet<MachineNumber> {
    distances(laid).into_keys().collect()
}

/// How many cables are between the seed and each machine that is reached at all, at least.
#[must_use]
pub fn distances(laid: &[Cable]) -> BTreeMap<MachineNumber, u16> {
    let mut distances = BTreeMap::from([(MachineNumber::SEED, 0_u16)]);
    let mut front = VecDeque::from([MachineNumber::SEED]);
    while let Some(machine) = front.pop_front() {
        let next = distances.get(&machine).map_or(u16::MAX, |distance| distance.saturating_add(1));
        for other in laid.iter().filter_map(|cable| cable.other_end(machine)) {
            distances.entry(other.machine).or_insert_with(|| {
                front.push_back(other.machine);
                next
            });
        }
    }
    distances
}

/// How many cables are between the seed and a machine of a usual shape, at least.
fn distance(shape: Shape, machine: u16, nodes: u16) -> u16 {
    match shape {
        Shape::Line => machine,
        // Down the rows, and once across.
        Shape::Grid => machine / 2 + machine.min(1),
        Shape::Ring if machine == 0 => 0,
        Shape::Ring => machine.min(nodes + 1 - machine),
    }
}

/// The cables whose far end is `machine`, of `nodes`.
fn pairs_towards(shape: Shape, machine: u16, nodes: u16) -> Vec<(u16, u16)> {
    match shape {
        Shape::Ring => {
            let before = machine - 1;
            let behind = if machine == nodes { 0 } else { machine + 1 };
            let nearer = |other: u16| {
                let (theirs, ours) = (distance(shape, other, nodes), distance(shape, machine, nodes));
                // Of two that are equally far the lower one is near.
                theirs < ours || (theirs == ours && other < machine)
            };
            let mut near: Vec<u16> = [before, behind].into_iter().filter(|other| nearer(*other)).collect();
            near.dedup();
            near.into_iter().map(|near| (near, machine)).collect()
        }
        Shape::Line => vec![(machine - 1, machine)],
        Shape::Grid => {
            // Row by row, two in a row: 1 2 / 3 4 / 5 6 …
            let left = machine.is_multiple_of(2).then(|| machine - 1);
            let above = (machine > 2).then(|| machine - 2);
            let seed = (machine == 1).then_some(0);
            seed.into_iter().chain(above).chain(left).map(|near| (near, machine)).collect()
        }
    }
}

// === impl Cable ===

impl Cable {
    /// Both ends, the near one first.
    #[must_use]
    pub fn ends(&self) -> [End; 2] {
        [self.near, self.far]
    }

    /// The end that is not at this machine; none if the cable has no end there.
    #[must_use]
    pub fn other_end(&self, machine: MachineNumber) -> Option<End> {
        match (self.near.machine == machine, self.far.machine == machine) {
            (true, _) => Some(self.far),
            (_, true) => Some(self.near),
            (false, false) => None,
        }
    }
}

// === impl MachineNumber ===

impl MachineNumber {
    /// The seed.
    pub const SEED: Self = Self(0);

    /// What a machine is called unless it is given a name: `seed`, `node1`, `node2`, …
    #[must_use]
    pub fn usual_name(self) -> String {
        if self == Self::SEED { "seed".to_owned() } else { format!("node{}", self.0) }
    }
}

// === impl Shape ===

impl FromStr for Shape {
    type Err = ParseShapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "grid" => Ok(Self::Grid),
            "line" => Ok(Self::Line),
            "ring" => Ok(Self::Ring),
            other => Err(ParseShapeError(other.to_owned())),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grid => "grid",
            Self::Line => "line",
            Self::Ring => "ring",
        })
    }
}

#[cfg(test)]
mod tests;
