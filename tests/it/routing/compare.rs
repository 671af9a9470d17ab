//! The comparison behind the choice of protocol: everything, several times, for each, as a table.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Result;

use super::chaos::{Dice, chaos, mend};
use super::protocol::Protocol;
use super::ring::Ring;
use super::scenario::{Outcome, UNITS, cold_start, flows, run};

const REPETITIONS: &str = "MESHBOOT_ROUTING_REPETITIONS";
const ROUNDS: &str = "MESHBOOT_ROUTING_ROUNDS";

#[test]
#[ignore = "takes a quarter of an hour; prints a table of tests/README.md"]
fn ospf6() {
    compare(Protocol::Ospf6);
}

#[test]
#[ignore = "takes a quarter of an hour; prints a table of tests/README.md"]
fn ospf6_external() {
    compare(Protocol::Ospf6External);
}

#[test]
#[ignore = "takes a quarter of an hour; prints a table of tests/README.md"]
fn bgp() {
    compare(Protocol::Bgp);
}

#[test]
#[ignore = "takes a quarter of an hour; prints a table of tests/README.md"]
fn bgp_with_bfd() {
    compare(Protocol::BgpBfd);
}

/// To the terminal at once, past the test harness: a run takes many minutes.
macro_rules! note {
    ($($words:tt)*) => {{
        let _the_terminal_is_gone = writeln!(io::stderr(), $($words)*);
    }};
}

fn compare(protocol: Protocol) {
    let number = |name, default| {
        std::env::var(name).map_or(default, |text| text.parse::<usize>().expect("a number of times"))
    };
    let repetitions = number(REPETITIONS, 5);
    let mut all = Vec::new();
    for _ in 0..repetitions {
        all.extend(once(protocol).expect("the ring can be built"));
    }
    all.extend(chaotic(protocol, number(ROUNDS, 20)).expect("the ring can be built"));
    note!("\n| {protocol} | runs | routes ms | dark ms | first answer ms | wrong |");
    note!("|---|---|---|---|---|---|");
    for (step, outcomes) in by_step(&all) {
        note!("{}", row(step, &outcomes));
    }
}

fn once(protocol: Protocol) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut whole = None;
    for unit in UNITS {
        let mut ring = match whole.take() {
            Some(ring) => ring,
            None => {
                let (ring, outcome) = cold_start(protocol)?;
                let wrong = tell(protocol, &outcome, &ring);
                outcomes.push(outcome);
                if wrong {
                    continue;
                }
                ring
            }
        };
        let mut right = true;
        for (step, act) in *unit {
            let outcome = run(&mut ring, step, &flows(), act)?;
            note!("{protocol}: {step}: {:?} {:?} {:?}", outcome.routes, outcome.dark, outcome.light);
            right = !tell(protocol, &outcome, &ring);
            outcomes.push(outcome);
            if !right {
                break;
            }
        }
        // What went wrong once must not count against the next unit.
        whole = right.then_some(ring);
    }
    Ok(outcomes)
}

fn chaotic(protocol: Protocol, rounds: usize) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut whole: Option<Ring> = None;
    for round in 0..rounds {
        let mut ring = match whole.take() {
            Some(ring) => ring,
            None => cold_start(protocol)?.0,
        };
        let mut story = Vec::new();
        let mut dice = Dice(u64::try_from(round)?);
        let outcome = run(&mut ring, "many things at once", &[], |ring| {
            let (at, told) = chaos(ring, &mut dice, 12)?;
            story = told;
            Ok(at)
        })?;
        note!("{protocol}: chaos {round}: {:?} {story:?}", outcome.routes);
        let mut wrong = tell(protocol, &outcome, &ring);
        outcomes.push(outcome);
        if !wrong {
            let outcome = run(&mut ring, "  and all mended", &[], mend)?;
            note!("{protocol}: mend {round}: {:?}", outcome.routes);
            wrong = tell(protocol, &outcome, &ring);
            outcomes.push(outcome);
        }
        whole = (!wrong).then_some(ring);
    }
    Ok(outcomes)
}

/// Says what was wrong, if anything was.
fn tell(protocol: Protocol, outcome: &Outcome, ring: &Ring) -> bool {
    let wrong = !outcome.wrong.is_empty();
    if wrong {
        note!("{protocol}: {}: {:#?}\n{}", outcome.step, outcome.wrong, ring.describe());
    }
    wrong
}

/// In the order of their first appearance.
fn by_step(all: &[Outcome]) -> Vec<(&'static str, Vec<&Outcome>)> {
    let mut order = Vec::new();
    let mut map: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in all {
        if !map.contains_key(outcome.step) {
            order.push(outcome.step);
        }
        map.entry(outcome.step).or_default().push(outcome);
    }
    order.into_iter().map(|step| (step, map.remove(step).unwrap_or_default())).collect()
}

fn row(step: &str, outcomes: &[&Outcome]) -> String {
    let wrong = outcomes.iter().filter(|outcome| !outcome.wrong.is_empty()).count();
    format!(
        "| {step} | {} | {} | {} | {} | {wrong} |",
        outcomes.len(),
        figures(outcomes.iter().filter_map(|outcome| outcome.routes)),
        figures(outcomes.iter().filter_map(|outcome| outcome.dark)),
        figures(outcomes.iter().filter_map(|outcome| outcome.light)),
    )
}

/// Median and maximum.
fn figures(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<u128> = times.map(|time| time.as_millis()).collect();
    times.sort_unstable();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(max)) => format!("{median} / {max}"),
        _ => "-".to_owned(),
    }
}
