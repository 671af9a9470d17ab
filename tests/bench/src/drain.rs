//! HTTP by clients that throw away what they get, in the kernel.
//!
//! On two processors a client that copies what it gets takes most of one, and the faster a server the more it is the client
//! that is measured. These ones tell TCP that they have read `[tcp(7), MSG_TRUNC]`, and nothing is copied; what the
//! octets are was looked at before.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use ::tests::netns::Network;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::{MsgFlags, recv};

use crate::http::{Fetched, as_f64};

/// How much is thrown away at once.
const AT_ONCE: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Several clients that want a file again and again, each on a connection that it keeps.
pub(crate) fn many(
    network: &Network,
    server: SocketAddr,
    path: &str,
    clients: usize,
    time: Duration,
) -> Result<Fetched> {
    let begun = Instant::now();
    let draining: Vec<_> = (0..clients)
        .map(|_| {
            let path = path.to_owned();
            network.spawn("drain", move || drain(server, &path, begun + time))
        })
        .collect::<Result<_>>()?;
    let mut all = Fetched { seconds: 0.0, octets: 0.0, requests: 0.0 };
    for one in draining {
        let drained = one.join().ok().context("a client panicked")??;
        let (octets, requests) = drained?;
        all.octets += as_f64(octets);
        all.requests += as_f64(requests);
    }
    all.seconds = begun.elapsed().as_secs_f64();
    Ok(all)
}

/// Fetches until it is time, and gives how many octets came in how many answers; the last one need not be whole.
fn drain(server: SocketAddr, path: &str, until: Instant) -> Result<(u64, u64)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let mut buffer = vec![0; AT_ONCE];
    let (mut octets, mut requests) = (0, 0);
    while Instant::now() < until {
        stream.write_all(request.as_bytes())?;
        let mut left = head(&mut stream)?;
        while left > 0 && Instant::now() < until {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(AT_ONCE);
            let wanted = buffer.get_mut(..most).context("a buffer")?;
            let len = recv(stream.as_raw_fd(), wanted, MsgFlags::MSG_TRUNC)? as u64;
            ensure!(len > 0, "{server} ended an answer {left} octets early");
            left -= len;
            octets += len;
        }
        requests += 1;
    }
    Ok((octets, requests))
}

/// Reads the head of an answer, octet by octet, for what follows is not to be read; gives the body's length.
fn head(stream: &mut TcpStream) -> Result<u64> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        head.extend(octet);
    }
    let head = String::from_utf8(head)?.to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200 "), "the answer is {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.context("an answer without a length")?.trim().parse().context("a length")
}
