//! A TFTP client that can be asked to behave badly.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A packet that is not answered for so long is sent again.
const AGAIN: Duration = Duration::from_millis(700);
const MAX_PACKET: usize = 65_536;

/// What a server said first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// The options that it agrees on.
    Options(BTreeMap<String, String>),
    /// The first block.
    Data(Vec<u8>),
    /// An ERROR, with its number and its words.
    Error(u16, String),
}

/// A transfer that has begun.
#[derive(Debug)]
pub struct Fetch {
    socket: UdpSocket,
    server: SocketAddr,
    /// What came first.
    pub first: First,
}

/// Gets a file, as firmware does.
///
/// # Errors
///
/// The server refuses, falls silent, or sends something that is no TFTP.
pub fn get(server: SocketAddrV6, name: &str, block: u16, window: u16, patience: Duration) -> Result<Vec<u8>> {
    let options = [("blksize", block.to_string()), ("windowsize", window.to_string())];
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    begin(server, name, &options, patience)?.finish(patience)
}

/// Asks for a file.
///
/// # Errors
///
/// The server falls silent, or sends something that is no TFTP.
pub fn begin(
    server: SocketAddrV6,
    name: &str,
    options: &[(&str, &str)],
    patience: Duration,
) -> Result<Fetch> {
    let mut request = [&[0, 1], name.as_bytes(), b"\0octet\0"].concat();
    for (name, value) in options {
        request.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    let socket = UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0))?;
    socket.set_read_timeout(Some(AGAIN))?;
    let begun = Instant::now();
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        ensure!(begun.elapsed() < patience, "no answer from {server}");
        socket.send_to(&request, server)?;
        let Some((len, from)) = receive(&socket, &mut buffer)? else { continue };
        let first = match buffer.get(..len).unwrap_or_default() {
            [0, 6, options @ ..] => {
                let text = String::from_utf8_lossy(options).into_owned();
                let words: Vec<&str> = text.split_terminator('\0').collect();
                let pairs = words.chunks(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
                First::Options(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
            }
            [0, 3, 0, 1, data @ ..] => First::Data(data.to_vec()),
            [0, 5, high, low, text @ ..] => {
                let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                First::Error(u16::from_be_bytes([*high, *low]), text)
            }
            other => bail!("{other:?} is no answer to a request"),
        };
        return Ok(Fetch { socket, server: from, first });
    }
}

/// The next datagram, unless none comes.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error).context("receiving"),
    }
}

// === impl Fetch ===

impl Fetch {
    /// Acknowledges a block.
    ///
    /// # Errors
    ///
    /// The datagram cannot be sent.
    pub fn acknowledge(&self, block: u16) -> Result<()> {
        let [high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], self.server)?;
        Ok(())
    }

    /// How many DATA packets come until there is silence for some time.
    ///
    /// # Errors
    ///
    /// Receiving fails.
    pub fn count_until_silence(&self, silence: Duration) -> Result<usize> {
        self.socket.set_read_timeout(Some(silence))?;
        let mut buffer = vec![0; MAX_PACKET];
        let mut packets = 0;
        while receive(&self.socket, &mut buffer)?.is_some() {
            packets += usize::from(buffer.starts_with(&[0, 3]));
        }
        Ok(packets)
    }

    /// Gets the rest of the file.
    ///
    /// # Errors
    ///
    /// The server refuses or falls silent.
    pub fn finish(self, patience: Duration) -> Result<Vec<u8>> {
        let number = |options: &BTreeMap<String, String>, name: &str, default: usize| {
            options.get(name).map_or(Ok(default), |text| text.parse())
        };
        let (block, window, mut file, mut have) = match &self.first {
            First::Options(options) => {
                (number(options, "blksize", 512)?, number(options, "windowsize", 1)?, Vec::new(), 0_u16)
            }
            First::Data(data) => (512, 1, data.clone(), 1),
            First::Error(code, text) => bail!("ERROR {code}: {text}"),
        };
        let begun = Instant::now();
        let mut buffer = vec![0; MAX_PACKET];
        let (mut since, mut ended) = (0, have == 1 && file.len() < block);
        self.acknowledge(have)?;
        while !ended {
            ensure!(begun.elapsed() < patience, "the file did not come: {} octets", file.len());
            let Some((len, from)) = receive(&self.socket, &mut buffer)? else {
                self.acknowledge(have)?;
                continue;
            };
            if from != self.server {
                continue;
            }
            match buffer.get(..len).unwrap_or_default() {
                [0, 3, high, low, data @ ..] => {
                    let number = u16::from_be_bytes([*high, *low]);
                    if number == have.wrapping_add(1) {
                        file.extend(data);
                        have = number;
                        since += 1;
                        ended = data.len() < block;
                        if ended || since == window {
                            since = 0;
                            self.acknowledge(have)?;
                        }
                    } else if since > 0 {
                        since = 0;
                        self.acknowledge(have)?;
                    }
                }
                [0, 5, _, code, text @ ..] => bail!("ERROR {code}: {}", String::from_utf8_lossy(text)),
                _ => {}
            }
        }
        Ok(file)
    }
}
