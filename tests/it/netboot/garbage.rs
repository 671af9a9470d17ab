//! Garbage on one port while another serves: `cargo nextest run -p tests --test it --run-ignored only --no-capture
//! garbage::` has it at 50,000 datagrams a second for a minute, and says by how much the other port's boots are slower.

use std::fs;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mesh::Stage;
use netboot_proto::tftp::PORT;
use tests::{firmware, garbage, http, tftp};

use super::MIB;
use super::lab::Lab;
use super::served::{digest, near_mac};

/// The link beside the one with the garbage.
const NEAR: &str = "2001:db8::15";
const FAR: &str = "2001:db8::16";
const PATIENCE: Duration = Duration::from_secs(100);
const MEMORY_KIB: u64 = 64 * 1024;

/// Two cables, the second of which is used, and files of so many MiB.
fn lab(name: &str, (node, root): (usize, usize)) -> Result<Lab> {
    let lab = Lab::start(name)?;
    fs::write(lab.path("level"), "info")?;
    fs::write(lab.path("ignition"), "ready")?;
    lab.content("node.efi", node * MIB + 1)?;
    lab.content("root", root * MIB)?;
    lab.plug_as("near1", "far1", 1)?;
    lab.serve()?;
    lab.wait_for("both links", |lab| {
        Ok(lab.statuses()?.iter().filter(|status| status.stage == Stage::Carrier).count() == 2)
    })?;
    for port in ["far0", "far1"] {
        lab.wait_for("link-local addresses", |lab| {
            let usable = ["-6", "-o", "addr", "show", "dev", port, "scope", "link", "-tentative"];
            Ok(!lab.far.run("ip", &usable)?.is_empty())
        })?;
    }
    Ok(lab)
}

/// Throws garbage at the first port, and returns when it has begun.
fn throw(lab: &Lab, rate: u32, time: Duration) -> Result<JoinHandle<Result<Result<u64>>>> {
    let near = near_mac(0).link_local();
    let (begins, begun) = mpsc::channel();
    let thrown =
        lab.far.network()?.spawn("garbage", move || garbage::throw("far0", near, rate, time, &begins))?;
    begun.recv_timeout(PATIENCE).context("no garbage was thrown")?;
    Ok(thrown)
}

/// A whole boot on the second port, up to the configuration, and how long it takes.
fn boot(lab: &Lab, number: u8) -> Result<Duration> {
    let begun = Instant::now();
    let duid = [&[0, 4][..], &[number; 16]].concat();
    let given =
        lab.far.network()?.enter(move || firmware::boot("far1", &duid, number.into(), PATIENCE))??;
    ensure!(given.address == FAR.parse::<Ipv6Addr>()?, "{given:?}");
    lab.far.run("ip", &["-6", "addr", "replace", &format!("{FAR}/126"), "dev", "far1", "nodad"])?;
    let (file, root, config) = lab.far.network()?.enter(move || {
        let at = |port| Ok::<_, anyhow::Error>(SocketAddrV6::new(NEAR.parse()?, port, 0, 0));
        let file = tftp::get(at(PORT)?, "node.efi", 1428, 16, PATIENCE)?;
        let root = http::get(at(80)?, format!("/artefacts/{}", digest("root")).as_bytes(), PATIENCE)?;
        let config = http::get(at(80)?, b"/ignition?port=eth0,02:00:00:00:01:02", PATIENCE)?;
        Ok::<_, anyhow::Error>((file, root.body, config))
    })??;
    let took = begun.elapsed();
    ensure!(file == fs::read(lab.path("node.efi"))? && root == fs::read(lab.path("root"))?);
    ensure!(config.status == 200 && config.body.starts_with(b"far=02:00:00:00:01:02"), "{config:?}");
    Ok(took)
}

fn is_small(lab: &Lab) -> Result<()> {
    let resident = lab.resident_kib()?;
    ensure!(resident < MEMORY_KIB, "the server had {resident} KiB");
    Ok(())
}

#[test]
fn a_machine_boots_on_one_port_while_garbage_comes_to_another() -> Result<()> {
    let lab = lab("nbgarbage", (1, 2))?;
    let thrown = throw(&lab, 5000, Duration::from_secs(5))?;
    boot(&lab, 1)?;
    let sent = thrown.join().ok().context("the garbage's thread panicked")???;
    ensure!(sent > 0);
    boot(&lab, 2)?;
    is_small(&lab)
}

#[test]
#[ignore = "a measurement of a minute and a half; two cores should have nothing else to do"]
fn how_much_slower_a_boot_is_beside_fifty_thousand_datagrams_a_second() -> Result<()> {
    let lab = lab("nbflood", (4, 16))?;
    let alone = median(&lab, Duration::from_secs(20))?;
    let thrown = throw(&lab, 50_000, Duration::from_secs(60))?;
    let beside = median(&lab, Duration::from_secs(55))?;
    let sent = thrown.join().ok().context("the garbage's thread panicked")???;
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    eprintln!(
        "{sent} datagrams in 60 s; a boot takes {alone:?} alone and {beside:?} beside them: {ratio:.2}"
    );
    eprintln!("the server's memory: {} KiB at the most", lab.resident_kib()?);
    is_small(&lab)
}

/// The median time of the boots that end within some time.
fn median(lab: &Lab, time: Duration) -> Result<Duration> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while begun.elapsed() < time || times.is_empty() {
        times.push(boot(lab, u8::try_from(times.len() % 250)?)?);
    }
    times.sort();
    Ok(times[times.len() / 2])
}
