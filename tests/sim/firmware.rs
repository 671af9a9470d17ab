//! What firmware does before it loads anything: Solicit, Advertise, Request, Reply. The system's clients take seconds for
//! that, and their identity cannot be chosen.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netboot_proto::wire::dhcp6::{ALL_SERVERS, CLIENT_PORT, SERVER_PORT};
use netboot_proto::wire::walk::{self, code};
use nix::net::if_::if_nametoindex;

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 7;
/// A message that is not answered for so long is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a server gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The address.
    pub address: Ipv6Addr,
    /// Where the boot file is: option 59.
    pub url: String,
}

/// Asks for an address and a boot file on a port, by the name of a machine that is x64 and loads by TFTP.
///
/// # Errors
///
/// Nobody answers, or the answer has no address or no URL.
pub fn boot(port: &str, duid: &[u8], iaid: u32, patience: Duration) -> Result<Given> {
    let socket = UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0))?;
    socket.set_read_timeout(Some(AGAIN))?;
    let servers = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, if_nametoindex(port)?);
    let begun = Instant::now();
    let ask = |kind: u8, wanted: u8, server: Option<&[u8]>| -> Result<Vec<u8>> {
        let xid = [duid.last().copied().unwrap_or_default(), iaid.to_be_bytes()[3], kind];
        let message = message(kind, xid, duid, iaid, server);
        let mut buffer = [0; 2048];
        loop {
            ensure!(begun.elapsed() < patience, "no answer to message {kind} on {port}");
            socket.send_to(&message, servers)?;
            match socket.recv_from(&mut buffer) {
                Ok((len, _)) => {
                    let answer = buffer.get(..len).unwrap_or_default();
                    if answer.first() == Some(&wanted) && answer.get(1..4) == Some(&xid[..]) {
                        return Ok(answer.to_vec());
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    };
    let advertised = ask(SOLICIT, ADVERTISE, None)?;
    let server = option(&advertised, code::SERVERID)?;
    let reply = ask(REQUEST, REPLY, Some(&server))?;
    let association = option(&reply, code::IA_NA)?;
    let nested = walk::walk_options(association.get(12..).unwrap_or_default())?;
    let given = nested.iter().find(|option| option.code == code::IAADDR).context("no address")?;
    let octets: [u8; 16] = given.body.get(..16).context("half an address")?.try_into()?;
    Ok(Given { address: octets.into(), url: String::from_utf8(option(&reply, code::BOOTFILE_URL)?)? })
}

fn message(kind: u8, xid: [u8; 3], duid: &[u8], iaid: u32, server: Option<&[u8]>) -> Vec<u8> {
    let mut message = [&[kind], &xid[..]].concat();
    let mut put = |code: u16, body: &[u8]| {
        message.extend(code.to_be_bytes());
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
    };
    put(code::CLIENTID, duid);
    if let Some(server) = server {
        put(code::SERVERID, server);
    }
    put(code::IA_NA, &[&iaid.to_be_bytes()[..], &[0; 8]].concat());
    put(code::ORO, &code::BOOTFILE_URL.to_be_bytes());
    put(code::CLIENT_ARCH_TYPE, &[0, 7]);
    let class = b"PXEClient:Arch:00007:UNDI:003000";
    put(code::VENDOR_CLASS, &[&[0, 0, 1, 0x57, 0, 32], &class[..]].concat());
    message
}

fn option(message: &[u8], code: u16) -> Result<Vec<u8>> {
    let walked = walk::walk(message)?;
    let found = walked.options.iter().find(|option| option.code == code);
    Ok(found.with_context(|| format!("no option {code}"))?.body.to_vec())
}
