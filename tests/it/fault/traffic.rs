//! What becomes of frames: two machines, and a bridge between them that is the cable.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hardware::traffic::{self, Impairment, Means, Share};
use tests::netns::{Namespace, Network};

const NEAR: &str = "2001:db8::1";
const FAR: &str = "2001:db8::2";
/// The tap interfaces, as the computer in the middle has them.
const TAPS: [&str; 2] = ["near0", "far0"];

struct Cable {
    middle: Network,
    near: Namespace,
    _far: Namespace,
    _middle: Namespace,
}

impl Cable {
    fn lay(name: &str) -> Result<Self> {
        let start = |end: &str| Namespace::start(&format!("{name}-{end}"));
        let (middle, near, far) = (start("middle")?, start("near")?, start("far")?);
        let network = middle.network()?;
        network.ip(&[
            "link",
            "add",
            "dev",
            "cable",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
        ])?;
        for (end, tap, address) in [(&near, TAPS[0], NEAR), (&far, TAPS[1], FAR)] {
            let pid = end.pid().to_string();
            network
                .ip(&["link", "add", "dev", tap, "type", "veth", "peer", "name", "port", "netns", &pid])?;
            network.ip(&["link", "set", "dev", tap, "master", "cable", "up"])?;
            let port = end.network()?;
            port.ip(&["address", "add", &format!("{address}/64"), "dev", "port", "nodad"])?;
            port.ip(&["link", "set", "dev", "port", "up"])?;
        }
        network.ip(&["link", "set", "dev", "cable", "up"])?;
        let cable = Self { middle: network, near, _far: far, _middle: middle };
        ensure!(cable.answers(20)? == 20, "the cable does not even work untouched");
        Ok(cable)
    }

    /// Does something on the computer in the middle.
    fn act<T: Send + 'static>(&self, act: impl AsyncFnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.middle.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(act())
        })?
    }

    /// How many of so many pings are answered.
    fn answers(&self, count: u32) -> Result<usize> {
        let count = count.to_string();
        let words = ["-6", "-n", "-c", &count, "-i", "0.01", "-W", "1", FAR];
        let output = self.near.command("ping").args(words).output().context("ping")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(said.lines().filter(|line| line.contains("bytes from")).count())
    }

    fn has_carrier(&self) -> Result<bool> {
        Ok(self.near.run("ip", &["-o", "link", "show", "dev", "port"])?.contains("LOWER_UP"))
    }

    fn means(&self) -> Result<Means> {
        self.act(async || Ok(Means::probe().await?))
    }
}

#[test]
fn frames_are_dropped_and_carriers_stay() -> Result<()> {
    let cable = Cable::lay("drop")?;
    ensure!(cable.means()?.frames, "this kernel cannot drop frames on a bridge");
    // Twice is harmless, before and after.
    for _ in 0..2 {
        cable.act(async || Ok(traffic::pass_frames("meshboot-test-f1-c1").await?))?;
    }
    for _ in 0..2 {
        cable.act(async || Ok(traffic::drop_frames("meshboot-test-f1-c1", TAPS[0], Share::ALL).await?))?;
        ensure!(cable.answers(10)? == 0, "frames pass");
        ensure!(cable.has_carrier()?, "the carrier is lost");
    }
    for _ in 0..2 {
        cable.act(async || Ok(traffic::pass_frames("meshboot-test-f1-c1").await?))?;
        ensure!(cable.answers(10)? == 10, "frames do not pass again");
    }
    Ok(())
}

#[test]
fn a_share_of_the_frames_is_lost() -> Result<()> {
    let cable = Cable::lay("lose")?;
    let half = Share::millionths(500_000).context("half is a share")?;
    cable.act(async move || Ok(traffic::drop_frames("meshboot-test-f2-c1", TAPS[1], half).await?))?;
    // There and back: a quarter of them. Fewer than 40 or more than 160 of 400 come once in more than a billion times.
    let answered = cable.answers(400)?;
    ensure!((40..160).contains(&answered), "{answered} of 400");
    cable.act(async || Ok(traffic::pass_frames("meshboot-test-f2-c1").await?))?;
    ensure!(cable.answers(100)? == 100, "frames are lost still");
    Ok(())
}

#[test]
fn a_cable_is_paced() -> Result<()> {
    let cable = Cable::lay("pace")?;
    let Means { netem, tbf, .. } = cable.means()?;
    ensure!(netem || tbf, "this kernel cannot pace a device");
    // 200 frames of 1400 octets there and as many back.
    let flood = |cable: &Cable| -> Result<Duration> {
        let begun = Instant::now();
        let said = cable.near.run("ping", &["-6", "-n", "-f", "-c", "200", "-s", "1352", "-W", "2", FAR])?;
        ensure!(said.contains(" 200 received"), "{said}");
        Ok(begun.elapsed())
    };
    let free = flood(&cable)?;
    let rate = 1_000_000;
    let both = Impairment { rate: Some(rate), ..Impairment::default() };
    let disciplines = [(netem, both.netem()), (tbf, Impairment::tbf(rate))];
    for (_, discipline) in disciplines.into_iter().filter(|(works, _)| *works) {
        // Twice is harmless.
        for _ in 0..2 {
            let discipline = discipline.clone();
            cable.act(async move || {
                for tap in TAPS {
                    traffic::shape(tap, &discipline).await?;
                }
                Ok(())
            })?;
        }
        let paced = flood(&cable)?;
        // 280 kB at 125 kB/s is more than two seconds, but for what the buckets hold.
        ensure!(
            paced > Duration::from_millis(1500) && paced > 3 * free,
            "{discipline:?}: {paced:?}, free {free:?}"
        );
        for _ in 0..2 {
            cable.act(async || {
                for tap in TAPS {
                    traffic::unshape(tap).await?;
                }
                traffic::unshape("absent0").await?;
                Ok(())
            })?;
        }
        let again = flood(&cable)?;
        ensure!(again < paced / 2, "{discipline:?}: {again:?} after {paced:?}");
    }
    Ok(())
}

#[test]
fn a_cable_is_late_where_the_kernel_has_netem() -> Result<()> {
    let cable = Cable::lay("late")?;
    if !cable.means()?.netem {
        eprintln!("this kernel has no netem: not tried");
        return Ok(());
    }
    let late = Impairment { latency: Some(Duration::from_millis(50)), ..Impairment::default() };
    cable.act(async move || {
        for tap in TAPS {
            traffic::shape(tap, &late.netem()).await?;
        }
        Ok(())
    })?;
    let said = cable.near.run("ping", &["-6", "-n", "-c", "3", FAR])?;
    let fastest = said.lines().find_map(|line| line.split_once("min/avg/max/mdev = ")?.1.split('/').next());
    let fastest: f64 = fastest.context("ping tells no times")?.parse()?;
    ensure!((100.0..150.0).contains(&fastest), "{said}");
    Ok(())
}
