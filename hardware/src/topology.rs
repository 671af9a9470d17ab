//! Which cables join the seed and its machines.
//!
//! Machine 0 is the seed. Cables are listed so that each one's near end was reached by a cable before it:
//! taken in order they are the boot order of the mesh, and port 0 of every machine leads towards the seed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::profile::MESH_PORTS;

/// How many machines one computer may be asked to play.
pub const MAX_MACHINES: u16 = 500;

/// A machine of a deployment: 0 is the seed, the others count from 1.
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
}

/// A shape that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no shape of cables: `grid` or `line`")]
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
    let pairs = (1..=nodes).flat_map(|machine| pairs_towards(shape, machine));
    let mut pairs: Vec<(u16, u16)> = pairs.collect();
    // By the near end, so that the list reads as kubermesh's did.
    pairs.sort_unstable();
    (1..).zip(pairs).map(|(number, (near, far))| Cable { number, near: plug(near), far: plug(far) }).collect()
}

/// The cables whose far end is `machine`.
fn pairs_towards(shape: Shape, machine: u16) -> Vec<(u16, u16)> {
    match shape {
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

// === impl MachineNumber ===

impl MachineNumber {
    /// The seed.
    pub const SEED: Self = Self(0);

    /// The name of the machine: `seed`, `node1`, `node2`, …
    #[must_use]
    pub fn name(self) -> String {
        if self == Self::SEED { "seed".to_owned() } else { format!("node{}", self.0) }
    }
}

impl fmt::Display for MachineNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

// === impl Shape ===

impl FromStr for Shape {
    type Err = ParseShapeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "grid" => Ok(Self::Grid),
            "line" => Ok(Self::Line),
            other => Err(ParseShapeError(other.to_owned())),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grid => "grid",
            Self::Line => "line",
        })
    }
}

#[cfg(test)]
mod tests;
