//! What befalls a ring in the comparison, step by step, and what each step cost.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::identity::Identity;
use super::protocol::Protocol;
use super::ring::{Cut, Ring};
use super::truth::Place;

/// The anycast address that moves.
pub(crate) const ANYCAST: Ipv6Addr =
    Ipv6Addr::new(0xfd65, 0x7b9c, 0x569, 0x680, 0x98eb, 0xc508, 0xeb8c, 0x1b80);
/// Machines in the ring.
pub(crate) const SIZE: usize = 4;
/// What is not right by then is wrong.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How long it must stay right.
pub(crate) const HOLD: Duration = Duration::from_millis(1500);
const EVERY: Duration = Duration::from_millis(1);

/// What one step cost.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) step: &'static str,
    /// From the event until all kernel routes were right; `None` when they never were.
    pub(crate) routes: Option<Duration>,
    /// From the event until the last lost probe of a flow that had a path before and after.
    pub(crate) dark: Option<Duration>,
    /// From the event until the first answer of a flow that had no path before.
    pub(crate) light: Option<Duration>,
    /// Routes or answers that were not right in the end.
    pub(crate) wrong: Vec<String>,
}

/// One thing that happens.
pub(crate) type Act = fn(&mut Ring) -> Result<Instant>;

/// Steps that follow each other, from a ring that is whole.
pub(crate) type Unit = &'static [(&'static str, Act)];

/// All that is compared.
pub(crate) const UNITS: &[Unit] = &[
    &[
        ("cut, carrier lost at both ends", |ring| ring.cut(0, Cut::BothEnds)),
        ("  that healed", |ring| ring.heal(0)),
    ],
    &[
        ("cut, carrier lost at one end", |ring| ring.cut(0, Cut::OneEnd)),
        ("  this healed", |ring| ring.heal(0)),
    ],
    &[("cut, carrier kept", |ring| ring.cut(0, Cut::Silent)), ("  healed", |ring| ring.heal(0))],
    &[
        ("cut, carrier kept, for a minute", |ring| ring.cut(0, Cut::Silent)),
        ("  healed after a minute", |ring| {
            // Not a wait for anything: how long it was cut is what is compared.
            std::thread::sleep(Duration::from_secs(60));
            ring.heal(0)
        }),
    ],
    &[
        ("first of two cuts", |ring| ring.cut(0, Cut::BothEnds)),
        ("second: two halves", |ring| ring.cut(2, Cut::BothEnds)),
        ("  second healed first", |ring| ring.heal(2)),
        ("  first healed", |ring| ring.heal(0)),
    ],
    &[
        ("two cuts again, silent: first", |ring| ring.cut(1, Cut::Silent)),
        ("two cuts again, silent: second", |ring| ring.cut(3, Cut::Silent)),
        ("  the first healed first", |ring| ring.heal(1)),
        ("  the second healed", |ring| ring.heal(3)),
    ],
    &[("node loses power", |ring| ring.power_off(1)), ("  boots again", |ring| boot(ring, 1, Identity(2)))],
    &[("FRR killed and started", |ring| {
        let at = Instant::now();
        ring.crash_frr(1)?;
        ring.start_frr(1)?;
        Ok(at)
    })],
    &[
        ("anycast appears", |ring| ring.add_anycast(1, ANYCAST)),
        ("  on a second owner", |ring| ring.add_anycast(3, ANYCAST)),
        ("  leaves the first", |ring| ring.remove_anycast(1, ANYCAST)),
        ("  leaves the second", |ring| ring.remove_anycast(3, ANYCAST)),
    ],
    &[
        ("node leaves for good", |ring| ring.power_off(2)),
        ("  another takes its place", |ring| boot(ring, 2, Identity(5))),
    ],
];

/// A ring that is whole, and what its cold start cost.
pub(crate) fn cold_start(protocol: Protocol) -> Result<(Ring, Outcome)> {
    let mut ring = Ring::new(protocol, SIZE)?;
    for place in 0..SIZE {
        ring.power_on(place, Identity(u16::try_from(place)? + 1))?;
    }
    let mut outcome = run(&mut ring, "cold start", &[], |ring| {
        let at = Instant::now();
        (0..SIZE).try_for_each(|place| ring.start_frr(place))?;
        Ok(at)
    })?;
    outcome.dark = None;
    Ok((ring, outcome))
}

/// Switches a machine on and starts its FRR.
pub(crate) fn boot(ring: &mut Ring, place: Place, identity: Identity) -> Result<Instant> {
    ring.power_on(place, identity)?;
    let at = Instant::now();
    ring.start_frr(place)?;
    Ok(at)
}

/// The flows that are watched, from machines that no step switches off.
pub(crate) fn flows() -> Vec<(Place, Ipv6Addr)> {
    vec![(0, Identity(2).vip()), (0, Identity(3).vip()), (3, Identity(2).vip()), (0, ANYCAST)]
}

/// Lets something happen and sees what becomes of it.
pub(crate) fn run(
    ring: &mut Ring,
    step: &'static str,
    flows: &[(Place, Ipv6Addr)],
    act: impl FnOnce(&mut Ring) -> Result<Instant>,
) -> Result<Outcome> {
    let flows: Vec<_> = flows.iter().filter(|(from, _)| ring.world.machines.contains_key(from)).collect();
    let before: Vec<bool> = flows.iter().map(|flow| has_path(ring, flow)).collect();
    let mut probers = Vec::new();
    for (from, to) in &flows {
        probers.push(ring.probe(*from, *to, EVERY)?);
    }
    let at = act(ring)?;
    let settled = ring.board.settle(&ring.world.routes(), at, LIMIT, HOLD);
    let mut outcome = Outcome { step, routes: None, dark: None, light: None, wrong: Vec::new() };
    match settled {
        Ok(right) => outcome.routes = Some(right.duration_since(at)),
        Err(wrong) => outcome.wrong = wrong.differences,
    }
    for ((flow, prober), before) in flows.iter().zip(probers).zip(before) {
        let trace = prober.stop()?;
        match (before, has_path(ring, flow)) {
            (true, true) => outcome.dark = outcome.dark.max(trace.dark_until(at)),
            (false, true) => outcome.light = outcome.light.max(trace.light_from(at)),
            (_, false) => {}
        }
    }
    outcome.wrong.extend(ring.ask_all()?);
    Ok(outcome)
}

fn has_path(ring: &Ring, (from, to): &(Place, Ipv6Addr)) -> bool {
    let none = BTreeSet::new();
    !ring.world.reachable(*from).get(to).unwrap_or(&none).is_empty()
}

/// Lets something happen; anything wrong afterwards, or not right soon enough, fails the test.
pub(crate) fn must(
    ring: &mut Ring,
    step: &'static str,
    soon: Duration,
    act: impl FnOnce(&mut Ring) -> Result<Instant>,
) -> Result<()> {
    let outcome = run(ring, step, &flows(), act)?;
    let took = outcome.routes.max(outcome.dark).max(outcome.light);
    if !outcome.wrong.is_empty() || took.is_none_or(|took| took > soon) {
        bail!("{step}: wanted within {soon:?}: {outcome:#?}\n{}", ring.describe());
    }
    Ok(())
}
