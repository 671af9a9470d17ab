//! A TFTP client that knows windows `[RFC 7440]`, and waits for nothing but packets.

use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::tests::netns::Network;
use anyhow::{Context, Result, bail, ensure};

/// What firmware asks for on Ethernet.
pub(crate) const BLOCK: usize = 1428;
/// Far longer than any server takes here.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_SILENCES: u32 = 20;

/// What is to be fetched.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) server: Ipv6Addr,
    pub(crate) file: String,
    pub(crate) window: u16,
    /// What the file must hold; none: only its length is looked at, once it is here.
    pub(crate) proof: Option<Arc<Vec<u8>>>,
}

/// What was fetched, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fetched {
    pub(crate) octets: u64,
    /// The window that the server agreed to; 1 is none.
    pub(crate) window: u16,
    /// How often nothing came for so long that the last packet was sent again.
    pub(crate) silences: u32,
}

/// Fetches a file once by each of `clients` at the same time. Gives the seconds from the first request to the last
/// block, and what each fetched.
pub(crate) fn fetch_all(network: &Network, wanted: &Wanted, clients: usize) -> Result<(f64, Vec<Fetched>)> {
    let begun = Instant::now();
    let fetching: Vec<_> = (0..clients)
        .map(|_| {
            let wanted = wanted.clone();
            network.spawn("tftp", move || fetch(&wanted))
        })
        .collect::<Result<_>>()?;
    let fetched = fetching.into_iter().map(|one| one.join().ok().context("a client panicked")??);
    let fetched = fetched.collect::<Result<_>>()?;
    Ok((begun.elapsed().as_secs_f64(), fetched))
}

fn fetch(wanted: &Wanted) -> Result<Fetched> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let server = SocketAddrV6::new(wanted.server, 69, 0, 0);
    let request = request(wanted);
    let mut buffer = [0; 2048];
    let mut fetched = Fetched { window: 1, ..Fetched::default() };
    // The first answer comes from the transfer's own port.
    let len = loop {
        socket.send_to(&request, server)?;
        match heard(socket.recv_from(&mut buffer))? {
            Some((len, from)) => {
                socket.connect(from)?;
                break len;
            }
            None => fetched.silence()?,
        }
    };
    let agreed = buffer.get(..len).context("no packet")?;
    let [0, 6, options @ ..] = agreed else {
        bail!("the first answer is no OACK: {:?}", agreed.get(..40.min(len)))
    };
    let (block, window) = agree(options)?;
    ensure!(block == BLOCK && window <= wanted.window.max(1), "blocks of {block}, window {window}");
    fetched.window = window;
    receive(&socket, &mut buffer, wanted, &mut fetched)?;
    Ok(fetched)
}

/// Acknowledges the OACK, and from there on each window's last block.
fn receive(socket: &UdpSocket, buffer: &mut [u8], wanted: &Wanted, fetched: &mut Fetched) -> Result<()> {
    let (mut have, mut since_ack) = (0_u16, 0);
    let acknowledge = |block: u16| {
        let [high, low] = block.to_be_bytes();
        socket.send(&[0, 4, high, low])
    };
    acknowledge(0)?;
    loop {
        let Some(len) = heard(socket.recv(buffer))? else {
            fetched.silence()?;
            acknowledge(have)?;
            since_ack = 0;
            continue;
        };
        let (high, low, data) = match buffer.get(..len) {
            Some([0, 3, high, low, data @ ..]) => (*high, *low, data),
            // Repeated: the acknowledgement is on its way.
            Some([0, 6, ..]) => continue,
            other => {
                bail!("neither a block nor an OACK: {:?}", other.and_then(|octets| octets.get(..40.min(len))))
            }
        };
        if u16::from_be_bytes([high, low]) != have.wrapping_add(1) {
            // Once for a gap: what follows it is dropped until the server begins again.
            if since_ack > 0 {
                acknowledge(have)?;
                since_ack = 0;
            }
            continue;
        }
        if let Some(proof) = &wanted.proof {
            let at = usize::try_from(fetched.octets)?;
            ensure!(
                proof.get(at..at + data.len()) == Some(data),
                "another octet than in the file behind {at}"
            );
        }
        fetched.octets += u64::try_from(data.len())?;
        have = have.wrapping_add(1);
        since_ack += 1;
        let last = data.len() < BLOCK;
        if last || since_ack == fetched.window {
            acknowledge(have)?;
            since_ack = 0;
        }
        if last {
            return Ok(());
        }
    }
}

fn request(wanted: &Wanted) -> Vec<u8> {
    let (block, window) = (BLOCK.to_string(), wanted.window.to_string());
    let mut words = vec![wanted.file.as_str(), "octet", "blksize", &block];
    if wanted.window > 1 {
        words.extend(["windowsize", &window]);
    }
    let mut request = vec![0, 1];
    for word in words {
        request.extend(word.as_bytes());
        request.push(0);
    }
    request
}

/// The block's length and the window of an OACK.
fn agree(options: &[u8]) -> Result<(usize, u16)> {
    let text = String::from_utf8_lossy(options).to_lowercase();
    let words: Vec<&str> = text.split('\0').collect();
    let value =
        |name: &str| words.chunks(2).find(|pair| pair.first() == Some(&name)).and_then(|pair| pair.get(1));
    let block = value("blksize").context("blksize was refused")?.parse()?;
    let window = value("windowsize").map_or(Ok(1), |window| window.parse())?;
    Ok((block, window))
}

/// What came, or nothing for so long as one waits.
fn heard<T>(received: io::Result<T>) -> Result<Option<T>> {
    match received {
        Ok(received) => Ok(Some(received)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error).context("receiving by TFTP"),
    }
}

// === impl Fetched ===

impl Fetched {
    fn silence(&mut self) -> Result<()> {
        self.silences += 1;
        ensure!(
            self.silences <= MAX_SILENCES,
            "nothing came {MAX_SILENCES} times, after {} octets",
            self.octets
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_oack_agrees_on() {
        assert_eq!(agree(b"blksize\x001428\0windowsize\x004\0").unwrap(), (1428, 4));
        assert_eq!(agree(b"BLKSIZE\x00512\0").unwrap(), (512, 1));
        assert!(agree(b"windowsize\x004\0").is_err());
    }

    #[test]
    fn a_window_of_one_is_not_asked_for() {
        let mut wanted = Wanted { server: Ipv6Addr::LOCALHOST, file: "f".to_owned(), window: 1, proof: None };
        assert_eq!(request(&wanted), b"\0\x01f\0octet\0blksize\x001428\0");
        wanted.window = 4;
        assert!(request(&wanted).ends_with(b"windowsize\x004\0"));
    }
}
