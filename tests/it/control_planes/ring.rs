//! Each of three control planes is told to end and loses its power in turn.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::asking::Asked;
use super::site::{CONTROL_PLANES, Site};

/// How long `kubectl` may fail.
const FAILS: Duration = Duration::from_secs(10);
/// How many answers there are before one dies.
const BEFORE: usize = 10;
/// For how long one is away: longer than it may be missed.
const AWAY: Duration = Duration::from_secs(20);
/// A connection that is being made when a route changes comes to a server that does not know it.
const UNDER_WAY: usize = 1;

#[test]
#[ignore = "needs Kubernetes: MESHBOOT_TEST_KUBERNETES names a folder of binaries"]
fn any_one_of_three_may_lose_its_power() -> Result<()> {
    let mut site = Site::new()?;
    site.found()?;
    site.join("node1", 1)?;
    site.join("node3", 3)?;
    site.wait_until_whole(&CONTROL_PLANES)?;
    let mut table = "| lost | answers | longest time without one |\n|---|---|---|\n".to_owned();
    for (name, place) in [CONTROL_PLANES[1], CONTROL_PLANES[2], CONTROL_PLANES[0]] {
        let asking = site.ask()?;
        site.wait("who asks is answered", |_| Ok(asking.answers() >= BEFORE))?;
        site.power_off(place)?;
        std::thread::sleep(AWAY);
        site.power_on(place)?;
        site.wait_until_whole(&CONTROL_PLANES)?;
        let Asked { answers, gap, .. } = asking.stop()?;
        table.push_str(&format!("| {name} | {answers} | {:.1} s |\n", gap.as_secs_f64()));
        ensure!(answers > 50 && gap < FAILS, "{name} died: {answers} answers, {gap:?} without one");
    }
    table.push_str("\n| told to end | answers | without | connections | refused |\n|---|---|---|---|---|\n");
    // Those first that answer the witness: the routes to them are the shortest.
    for (name, place) in [CONTROL_PLANES[1], CONTROL_PLANES[2], CONTROL_PLANES[0]] {
        let (asking, knocking) = (site.ask()?, site.knock()?);
        site.wait("who asks is answered", |_| Ok(asking.answers() >= BEFORE))?;
        site.end_server(place)?;
        site.start_server(place)?;
        site.wait_until_whole(&CONTROL_PLANES)?;
        let (asked, knocked) = (asking.stop()?, knocking.stop()?);
        let (answers, failed, connections, refused) =
            (asked.answers, asked.failed, knocked.answers, knocked.failed);
        table.push_str(&format!("| {name} | {answers} | {failed} | {connections} | {refused} |\n"));
        ensure!(
            answers > BEFORE && failed <= UNDER_WAY,
            "{name} was told to end: {answers} answers, {failed} failed"
        );
        ensure!(
            connections > 10 * BEFORE && refused <= UNDER_WAY,
            "{name} was told to end: {connections} connections, {refused} refused"
        );
    }
    eprintln!("{table}");
    Ok(())
}
