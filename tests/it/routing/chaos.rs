//! Many things at once: no waiting in between, and in the end everything must be right.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::identity::Identity;
use super::ring::{Cut, Ring};
use super::scenario::{ANYCAST, SIZE};

/// Numbers from a seed: the same run again when the seed is the same.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// SplitMix64; `below` is small, so that the bias is.
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let below = u64::try_from(below).expect("a usize has 64 bits");
        usize::try_from((z ^ (z >> 31)) % below).expect("it is below a usize")
    }
}

/// Lets `events` things happen in short order; says what they were.
pub(crate) fn chaos(ring: &mut Ring, dice: &mut Dice, events: usize) -> Result<(Instant, Vec<String>)> {
    let mut story = Vec::new();
    for _ in 0..events {
        story.push(event(ring, dice)?);
        let pause = [0, 20, 150, 700, 1500][dice.roll(5)];
        std::thread::sleep(Duration::from_millis(pause));
        story.push(format!("{pause} ms"));
    }
    Ok((Instant::now(), story))
}

/// Heals every cable and switches every machine on.
pub(crate) fn mend(ring: &mut Ring) -> Result<Instant> {
    for cable in ring.world.cut.clone() {
        ring.heal(cable)?;
    }
    for place in 0..SIZE {
        if !ring.world.machines.contains_key(&place) {
            ring.power_on(place, Identity(u16::try_from(place)? + 1))?;
            ring.start_frr(place)?;
        }
    }
    Ok(Instant::now())
}

fn event(ring: &mut Ring, dice: &mut Dice) -> Result<String> {
    let place = dice.roll(SIZE);
    Ok(match dice.roll(8) {
        0..=2 if ring.world.cut.contains(&place) => {
            ring.heal(place)?;
            format!("heal {place}")
        }
        0..=2 => {
            let how = [Cut::BothEnds, Cut::OneEnd, Cut::Silent][dice.roll(3)];
            ring.cut(place, how)?;
            format!("cut {place} {how:?}")
        }
        3..=5 if ring.world.machines.contains_key(&place) => {
            let has = ring.world.anycast.get(&ANYCAST).is_some_and(|owners| owners.contains(&place));
            if has {
                ring.remove_anycast(place, ANYCAST)?
            } else {
                ring.add_anycast(place, ANYCAST)?
            };
            format!("anycast {place} {}", !has)
        }
        6 if ring.world.machines.contains_key(&place) => {
            ring.power_off(place)?;
            format!("off {place}")
        }
        7 if ring.world.machines.contains_key(&place) => {
            ring.crash_frr(place)?;
            ring.start_frr(place)?;
            format!("crash {place}")
        }
        _ if !ring.world.machines.contains_key(&place) => {
            ring.power_on(place, Identity(u16::try_from(place)? + 1))?;
            ring.start_frr(place)?;
            format!("on {place}")
        }
        _ => "nothing".to_owned(),
    })
}
