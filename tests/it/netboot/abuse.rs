//! Clients that are many, slow, greedy or rude: each harms itself at the most. Nothing here is a matter of speed; the
//! limits are what a loaded machine stays far below.

use std::fs;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netboot_proto::tftp::{Limits, PORT};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::tftp::First;
use tests::{firmware, http, tftp};

use super::MIB;
use super::lab::{FAR, Lab, NEAR};

/// Everything ends in much less.
const PATIENCE: Duration = Duration::from_secs(100);
/// The server's memory, whatever it is put through.
const MEMORY_KIB: u64 = 64 * 1024;

pub(super) fn at(port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(NEAR.parse().unwrap(), port, 0, 0)
}

/// Runs something many times at once, each on a thread of its own at the far end.
fn crowd<T: Send + 'static>(
    lab: &Lab,
    many: usize,
    one: impl Fn(usize) -> Result<T> + Clone + Send + 'static,
) -> Result<Vec<JoinHandle<Result<Result<T>>>>> {
    let network = lab.far.network()?;
    (0..many)
        .map(|at| {
            let one = one.clone();
            network.spawn("client", move || one(at))
        })
        .collect()
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().ok().context("a client panicked")?
}

/// A socket for each of a thousand clients.
fn raise_file_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum.map(|most| most.min(8192)), maximum })?)
}

fn is_small(lab: &Lab) -> Result<()> {
    let resident = lab.resident_kib()?;
    ensure!(resident < MEMORY_KIB, "the server had {resident} KiB");
    Ok(())
}

#[test]
fn two_hundred_clients_by_tftp_and_two_hundred_by_http_at_once_all_have_their_file() -> Result<()> {
    let lab = Lab::start("nbcrowd")?;
    fs::write(lab.path("level"), "info")?;
    let file = lab.content("node.efi", MIB + 333)?;
    lab.serve()?;
    lab.configure_far()?;
    let by_tftp = crowd(&lab, 200, |number| {
        let window = u16::try_from(number % 64)? + 1;
        tftp::get(at(PORT), "node.efi", 1428, window, PATIENCE)
    })?;
    let by_http = crowd(&lab, 200, |_| Ok(http::get(at(80), b"/boot/node.efi", PATIENCE)?.body))?;
    for thread in by_tftp.into_iter().chain(by_http) {
        ensure!(join(thread)?? == file, "a client has another file");
    }
    is_small(&lab)
}

#[test]
fn a_client_that_stops_reading_harms_nobody_and_is_let_go() -> Result<()> {
    let lab = Lab::start("nbstop")?;
    fs::write(lab.path("level"), "info")?;
    // More than all the kernel's buffers hold.
    let root = lab.content("root", 48 * MIB)?;
    let file = lab.content("node.efi", MIB)?;
    lab.serve()?;
    lab.configure_far()?;
    let sockets = lab.datagram_sockets()?;
    let path = format!("/artefacts/{}", super::served::digest("root"));
    let stopped = lab.far.network()?.enter(move || {
        let mut stream = http::connect(at(80), PATIENCE)?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
        let options = [("blksize", "1428"), ("windowsize", "64")];
        let transfer = tftp::begin(at(PORT), "node.efi", &options, PATIENCE)?;
        transfer.acknowledge(0)?;
        Ok::<_, anyhow::Error>((stream, transfer))
    })??;
    lab.wait_for("both clients", |lab| Ok(lab.connections()? == 1 && lab.datagram_sockets()? > sockets))?;
    let others = crowd(&lab, 4, |number| match number % 2 {
        0 => tftp::get(at(PORT), "node.efi", 1428, 16, PATIENCE),
        _ => Ok(http::get(at(80), b"/boot/node.efi", PATIENCE)?.body),
    })?;
    for thread in others {
        ensure!(join(thread)?? == file, "another client has another file");
    }
    lab.wait_within(PATIENCE, "the end of both", |lab| {
        Ok(lab.connections()? == 0 && lab.datagram_sockets()? == sockets)
    })?;
    drop(stopped);
    ensure!(fs::metadata(lab.path("root"))?.len() == root.len() as u64);
    is_small(&lab)
}

#[test]
fn a_window_of_65535_is_capped() -> Result<()> {
    let lab = Lab::start("nbwindow")?;
    lab.content("node.efi", MIB)?;
    lab.serve()?;
    lab.configure_far()?;
    let (first, packets) = lab.far.network()?.enter(|| {
        let options = [("blksize", "512"), ("windowsize", "65535")];
        let transfer = tftp::begin(at(PORT), "node.efi", &options, PATIENCE)?;
        transfer.acknowledge(0)?;
        // Shorter than the server's patience, or it would send them again.
        let packets = transfer.count_until_silence(Duration::from_millis(90))?;
        Ok::<_, anyhow::Error>((transfer.first, packets))
    })??;
    let First::Options(options) = first else { anyhow::bail!("{first:?}") };
    let most = Limits::DEFAULT_WINDOW;
    ensure!(options["windowsize"] == most.to_string(), "{options:?}");
    // The same window may have come again, and never a larger one.
    ensure!(packets > 0 && packets.is_multiple_of(most.into()), "{packets} packets");
    is_small(&lab)
}

#[test]
fn no_path_leads_out_of_what_is_served() -> Result<()> {
    let lab = Lab::start("nbpath")?;
    lab.serve()?;
    lab.configure_far()?;
    lab.far.network()?.enter(|| {
        for name in [
            "../../etc/passwd",
            "/../../etc/passwd",
            "/etc/passwd",
            "etc/passwd",
            "node.efi/../../../etc/passwd",
            "./.././../etc/passwd",
            "....//....//etc/passwd",
            "..\\..\\etc\\passwd",
            "%2e%2e/%2e%2e/etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "..\u{2215}..\u{2215}etc\u{2215}passwd",
            "boot/node.efi",
            "root",
            "ledger",
            "",
        ] {
            let transfer = tftp::begin(at(PORT), name, &[("blksize", "1428")], PATIENCE)?;
            ensure!(matches!(transfer.first, First::Error(1 | 2, _)), "{name}: {:?}", transfer.first);
        }
        for path in [
            &b"/../../etc/passwd"[..],
            b"/boot/../../etc/passwd",
            b"/boot/%2e%2e/%2e%2e/etc/passwd",
            b"/boot/..%2f..%2fetc%2fpasswd",
            b"/boot/%2e%2e%5cetc%5cpasswd",
            b"/boot/..\\..\\etc\\passwd",
            b"/boot/%252e%252e/%252e%252e/etc/passwd",
            b"/boot/%c0%ae%c0%ae/etc/passwd",
            b"/boot/\xc0\xae\xc0\xae/etc/passwd",
            b"/boot//etc/passwd",
            b"//etc/passwd",
            b"/boot/node.efi/../../../etc/passwd",
            b"/boot/node.efi%00.txt",
            b"/boot/root",
            b"/artefacts/../../etc/passwd",
            b"/artefacts/../node.efi",
            b"file:///etc/passwd",
        ] {
            let answer = http::get(at(80), path, PATIENCE)?;
            ensure!(matches!(answer.status, 400 | 404), "{}: {}", path.escape_ascii(), answer.status);
            ensure!(!answer.body.starts_with(b"root:"));
        }
        Ok(())
    })?
}

#[test]
fn heads_without_an_end_are_refused() -> Result<()> {
    let lab = Lab::start("nbhead")?;
    fs::write(lab.path("level"), "info")?;
    let file = lab.content("node.efi", MIB)?;
    lab.serve()?;
    lab.configure_far()?;
    let line = b"GET /boot/node.efi HTTP/1.1\r\n";
    let long = [&b"X-Long: "[..], &vec![b'a'; MIB]].concat();
    let many = b"X-Many: a\r\n".repeat(5000);
    let path = [&b"GET /"[..], &vec![b'a'; MIB]].concat();
    let heads = [
        [&line[..], &long, b"\r\n\r\n"].concat(),
        [&line[..], &many, b"\r\n"].concat(),
        [&line[..], &long].concat(),
        path,
        vec![b'\n'; MIB],
        vec![0; MIB],
    ];
    for head in heads {
        let answer = lab.far.network()?.enter(move || http::ask(at(80), &head, PATIENCE))??;
        ensure!(matches!(answer.status, 0 | 400 | 414 | 431), "{}", answer.status);
    }
    let got = lab.far.network()?.enter(|| http::get(at(80), b"/boot/node.efi", PATIENCE))??;
    ensure!(got.body == file);
    is_small(&lab)
}

#[test]
fn a_thousand_half_open_requests_keep_nobody_out() -> Result<()> {
    raise_file_limit()?;
    let lab = Lab::start("nbhalf")?;
    fs::write(lab.path("level"), "info")?;
    let file = lab.content("node.efi", MIB)?;
    lab.serve()?;
    lab.configure_far()?;
    let halves: Vec<TcpStream> = lab.far.network()?.enter(|| {
        let half = |_| {
            let mut stream = http::connect(at(80), PATIENCE)?;
            stream.write_all(b"GET /boot/node.efi HTTP/1.1\r\nX-Half: ")?;
            Ok(stream)
        };
        (0..1000).map(half).collect::<Result<_>>()
    })??;
    // They go on for as long as the others load, one letter at a time.
    for _ in 0..5 {
        let got = lab.far.network()?.enter(|| http::get(at(80), b"/boot/node.efi", PATIENCE))??;
        ensure!(got.body == file);
        for mut half in &halves {
            // Some had to make room.
            let _closed = half.write_all(b"a");
        }
    }
    lab.wait_within(PATIENCE, "the end of all half requests", |lab| Ok(lab.connections()? == 0))?;
    drop(halves);
    is_small(&lab)
}

#[test]
fn ten_machines_one_after_the_other_boot_on_one_link() -> Result<()> {
    let lab = Lab::start("nbten")?;
    let file = lab.content("node.efi", MIB + 1)?;
    lab.serve()?;
    lab.wait_for("the far end's link-local address", |lab| {
        Ok(!lab
            .far
            .run("ip", &["-6", "-o", "addr", "show", "dev", "far0", "scope", "link", "-tentative"])?
            .is_empty())
    })?;
    for number in 0..10 {
        let begun = Instant::now();
        let given = lab.far.network()?.enter(move || {
            let duid = [&[0, 4][..], &[number; 16]].concat();
            firmware::boot("far0", &duid, number.into(), PATIENCE)
        })??;
        let (far, near): (Ipv6Addr, Ipv6Addr) = (FAR.parse()?, NEAR.parse()?);
        ensure!(given.address == far && given.url == format!("tftp://[{near}]/node.efi"), "{given:?}");
        lab.far.run("ip", &["-6", "addr", "replace", &format!("{FAR}/126"), "dev", "far0", "nodad"])?;
        let got = lab.far.network()?.enter(|| tftp::get(at(PORT), "node.efi", 1428, 16, PATIENCE))??;
        ensure!(got == file, "machine {number}");
        lab.far.run("ip", &["-6", "addr", "del", &format!("{FAR}/126"), "dev", "far0"])?;
        ensure!(begun.elapsed() < PATIENCE);
    }
    ensure!(lab.ledger()?.len() == 1, "one station: {:?}", lab.ledger()?);
    ensure!(lab.status()?.faults.is_empty(), "{:?}", lab.status()?);
    is_small(&lab)
}
