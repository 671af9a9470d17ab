//! An HTTP client that can be asked to behave badly: what it says is given in octets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV6, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, or 0 if the connection was closed without one.
    pub status: u16,
    /// What is behind the head.
    pub body: Vec<u8>,
}

/// Gets a path, written as it is.
///
/// # Errors
///
/// The server cannot be reached, or does not end its answer in time.
pub fn get(server: SocketAddrV6, path: &[u8], patience: Duration) -> Result<Answer> {
    ask(
        server,
        &[b"GET ", path, b" HTTP/1.1\r\nHost: meshboot\r\nConnection: close\r\n\r\n"].concat(),
        patience,
    )
}

/// Says something, and reads until the server closes the connection. It may do so before all was said.
///
/// # Errors
///
/// The server cannot be reached, or does not end its answer in time.
pub fn ask(server: SocketAddrV6, said: &[u8], patience: Duration) -> Result<Answer> {
    let mut stream = connect(server, patience)?;
    let gone =
        |error: &std::io::Error| matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
    match stream.write_all(said) {
        Err(error) if !gone(&error) => return Err(error).context("asking"),
        Ok(()) | Err(_) => {}
    }
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if !gone(&error) => return Err(error).context("reading the answer"),
        Ok(_) | Err(_) => {}
    }
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n");
    let status = heard.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    let body = heard.split_off(end.map_or(heard.len(), |end| end + 4));
    Ok(Answer { status: status.unwrap_or(0), body })
}

/// A connection on which nothing was said.
///
/// # Errors
///
/// The server cannot be reached.
pub fn connect(server: SocketAddrV6, patience: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server.into(), patience).context("connecting")?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}
