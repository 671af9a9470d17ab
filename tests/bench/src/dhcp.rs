//! DHCPv6 under load, by ISC's perfdhcp; and how long one answer takes, by a client that asks one thing at a time.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};

use crate::cable::{Cable, FAR_PORT};

/// What one run of perfdhcp came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Run {
    /// Exchanges of four messages that were completed, each second.
    pub(crate) rate: f64,
    /// The share of the clients, of those that began, that were not served within a second.
    pub(crate) lost: f64,
    /// From Solicit to Advertise, in ms.
    pub(crate) solicit_ms: f64,
    /// Two clients were given one address.
    pub(crate) shared: u64,
}

/// Finds the highest rate of completed exchanges, by offering more and more.
///
/// Past its limit a server answers Solicits of clients whose Requests it then drops, so the highest rate is found just
/// before, and not by a flood.
#[derive(Debug)]
pub(crate) struct Ladder {
    /// Where the next climb begins.
    start: f64,
    seconds: f64,
    /// Every run has clients of its own.
    runs: u8,
}

const FIRST: f64 = 200.0;
const STEP: f64 = 1.3;
/// How often the last step is halved.
const REFINEMENTS: u32 = 2;
/// The share of a run's exchanges that may fail.
const MAX_LOST: f64 = 0.01;
/// A rate that nobody here reaches.
const CEILING: f64 = 200_000.0;

// === impl Ladder ===

impl Ladder {
    /// A ladder for one server, whose runs take so long.
    pub(crate) fn new(seconds: f64) -> Self {
        Self { start: FIRST, seconds, runs: 0 }
    }

    /// Climbs until offering more no longer brings more, and then tries what lies between. Gives the best run.
    ///
    /// A run with lost exchanges counts for what it completed only as long as it lost no more than one in a hundred.
    pub(crate) fn climb(&mut self, cable: &Cable) -> Result<Run> {
        let mut best = Run::default();
        let mut offered = self.start;
        let mut reached = offered;
        let mut misses = 0;
        while misses < 2 && offered < CEILING {
            let (run, clean) = self.run(cable, offered)?;
            if clean && run.rate > best.rate {
                (best, reached) = (run, offered);
            }
            // A server that falls behind at the start of a climb may have been pushed too far by the last one.
            if best.rate == 0.0 && !clean {
                offered /= 2.0;
                ensure!(offered > 1.0, "nothing completes even {offered:.0} exchanges each second: {run:?}");
                continue;
            }
            misses = if clean && run.rate > 0.9 * offered { 0 } else { misses + 1 };
            offered *= STEP;
        }
        let mut step = STEP;
        for _ in 0..REFINEMENTS {
            step = step.sqrt();
            let (run, clean) = self.run(cable, reached * step)?;
            if clean && run.rate > best.rate {
                best = run;
                reached *= step;
            }
        }
        self.start = (best.rate / STEP / STEP).max(FIRST);
        Ok(best)
    }

    /// One run with clients of its own, and whether it lost few enough of them.
    fn run(&mut self, cable: &Cable, offered: f64) -> Result<(Run, bool)> {
        self.runs = self.runs.wrapping_add(1);
        let run = perfdhcp(cable, offered, self.seconds, self.runs)?;
        Ok((run, run.lost <= MAX_LOST))
    }
}

/// Offers so many exchanges each second, each by a client that was not seen before.
fn perfdhcp(cable: &Cable, rate: f64, duration: f64, number: u8) -> Result<Run> {
    let rate = format!("{rate:.0}");
    let (period, base) = (format!("{duration}"), format!("mac=02:be:{number:02x}:00:00:00"));
    // Clients are drawn from as many as the last three octets tell apart. After the end it waits for what is on its way.
    // Two threads of it take more than one processor, and where there are two in all they are what is measured.
    let load = ["-r", &rate, "-p", &period, "-R", "16777215", "-b", &base, "-g", "single"];
    let line = [&["-6", "-l", FAR_PORT, "-u"][..], &load].concat();
    let mut command = cable.far.command("/usr/sbin/perfdhcp");
    command.args(&line).args(["-W", "500000"]).stdin(Stdio::null());
    let output = command.output().context("running perfdhcp")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // 3: some exchanges were not completed.
    if !matches!(output.status.code(), Some(0 | 3)) {
        bail!("perfdhcp {line:?}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    parse(&said, duration).with_context(|| format!("perfdhcp {line:?} said:\n{said}"))
}

/// Reads what it counted. Its own rate counts the wait after the end as well.
fn parse(said: &str, duration: f64) -> Result<Run> {
    let (_, rest) = said.split_once("SOLICIT-ADVERTISE").context("no figures of Solicits")?;
    let (solicits, requests) = rest.split_once("REQUEST-REPLY").context("no figures of Requests")?;
    let (sent, done) = (figure(solicits, "sent packets: ")?, figure(requests, "received packets: ")?);
    let delay = solicits.lines().find_map(|line| line.trim().strip_prefix("avg delay: ")).unwrap_or_default();
    Ok(Run {
        rate: done / duration,
        lost: if sent > 0.0 { 1.0 - done / sent } else { 1.0 },
        solicit_ms: delay.split(' ').next().and_then(|ms| ms.parse().ok()).unwrap_or(f64::NAN),
        shared: said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("non unique addresses: "))
            .try_fold(0, |sum, text| Ok::<_, anyhow::Error>(sum + text.trim().parse::<u64>()?))?,
    })
}

fn figure(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
    Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
}

/// The times from Solicit to Advertise, in ms, of a client that begins anew with each.
pub(crate) fn solicit(cable: &Cable, times: usize) -> Result<Vec<f64>> {
    cable.far.network()?.enter(move || ask(times))?
}

fn ask(times: usize) -> Result<Vec<f64>> {
    let scope = nix::net::if_::if_nametoindex(FAR_PORT)?;
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, CLIENT_PORT))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let servers = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, scope);
    let mut buffer = [0; 2048];
    let mut delays = Vec::with_capacity(times);
    let mut silent = 0;
    while delays.len() < times {
        let solicit = message(u32::try_from(delays.len() + silent)?);
        let begun = Instant::now();
        socket.send_to(&solicit, servers)?;
        loop {
            match socket.recv(&mut buffer) {
                Ok(len) if is_answer(buffer.get(..len).unwrap_or_default(), &solicit) => {
                    delays.push(begun.elapsed().as_secs_f64() * 1e3);
                    break;
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    silent += 1;
                    ensure!(silent < times.max(20), "no Advertise came to {silent} Solicits");
                    break;
                }
                Err(error) => return Err(error).context("receiving an Advertise"),
            }
        }
        // One that boots, and not a load.
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(delays)
}

/// A Solicit as firmware's: a DUID that nobody had before, one IA_NA, elapsed time, and a wish for a boot file's URL.
fn message(number: u32) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let [.., a, b, c] = number.to_be_bytes();
    let mut octets = vec![1, a, b, c];
    octets.extend([0, 1, 0, 18, 0, 4]);
    octets.extend(now.as_nanos().to_be_bytes());
    octets.extend([0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    octets.extend([0, 8, 0, 2, 0, 0]);
    octets.extend([0, 6, 0, 4, 0, 59, 0, 23]);
    octets
}

fn is_answer(octets: &[u8], solicit: &[u8]) -> bool {
    octets.first() == Some(&2) && octets.get(1..4) == solicit.get(1..4)
}

/// Whether somebody advertises an address: rivals' sockets are open some time before.
pub(crate) fn answers(cable: &Cable) -> Result<bool> {
    Ok(cable.far.network()?.enter(|| ask(1))?.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfdhcps_words_are_read() {
        let said = "***Rate statistics***\nRate: 99.5 4-way exchanges/second, expected rate: 100\n\
            ***Statistics for: SOLICIT-ADVERTISE***\nsent packets: 200\nreceived packets: 199\ndrops: 1\n\
            non unique addresses: 0\n\nmin delay: 0.1 ms\navg delay: 0.25 ms\n\
            ***Statistics for: REQUEST-REPLY***\nsent packets: 199\nreceived packets: 198\nnon unique addresses: 3\n";
        let run = parse(said, 2.0).unwrap();
        assert_eq!((run.rate, run.solicit_ms, run.shared), (99.0, 0.25, 3));
        assert!((run.lost - 0.01).abs() < 1e-9);
    }
}
