use clap::Parser as _;
use hardware::DeploymentId;
use hardware::topology::{Shape, cables};

use super::scene::{Line, Place, Scene, Socket};
use super::*;
use crate::cli::{Cli, Verb};

mod courses;
mod records;
mod said;

/// A seed and four machines in a grid, and a fifth with hyphens in its name that is plugged into node4 twice.
fn scene() -> Scene {
    let id = DeploymentId(uuid::uuid!("ab120000-0000-4000-8000-000000000000"));
    let mut all = cables(Shape::Grid, 4);
    for port in 2..4 {
        let end = |machine, port| hardware::End { machine: hardware::MachineNumber(machine), port };
        all.push(hardware::Cable { number: 4 + u16::from(port), near: end(4, port), far: end(5, port - 2) });
    }
    let name = |number: hardware::MachineNumber| match number.0 {
        5 => "node-a-1".to_owned(),
        _ => number.usual_name(),
    };
    let numbers = (0..=5).map(hardware::MachineNumber);
    let machines = numbers.map(|number| Place {
        number: Some(number),
        name: name(number),
        domain: Some(id.domain(&name(number))),
    });
    let line = |cable: &hardware::Cable| {
        let socket = |end: hardware::End| Socket {
            domain: id.domain(&name(end.machine)),
            tap: id.tap(end),
            mac: id.mac(end),
        };
        let [near, far] = [name(cable.near.machine), name(cable.far.machine)];
        let ends = Ends { cable: cable.number, near, far };
        Line { ends, near: socket(cable.near), far: socket(cable.far) }
    };
    Scene {
        tag: id.tag(),
        machines: machines.collect(),
        cables: all.iter().map(line).collect(),
        mirror_ports: vec![5000, 5001],
        is_real: false,
    }
}

/// The words of a command line.
fn words(line: &str) -> Fault {
    let all = ["meshboot", "fault"].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Verb::Fault(words) = cli.verb else { panic!("{line}: {:?}", cli.verb) };
    words
}

/// What a command line asks for.
fn asked(line: &str) -> (Asked, Option<Duration>) {
    match understand(&words(line), &scene()) {
        Ok(Some(Wish::Make { asked, lasts, .. })) => (asked, lasts),
        other => panic!("{line}: {other:?}"),
    }
}

fn mistakes(line: &str) -> String {
    match understand(&words(line), &scene()) {
        Err(mistakes) => mistakes.to_string(),
        Ok(wish) => panic!("{line}: {wish:?}"),
    }
}

fn at(uptime: u64) -> Moment {
    Moment { wall: 1_000_000 + uptime, uptime, boot: "a".to_owned() }
}
