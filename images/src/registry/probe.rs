//! Asks a registry whether it answers: before its anycast address is announced, and as long as it is.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The longest head of an answer that is read.
const MAX_HEAD: usize = 4096;

/// Why a registry does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It cannot be reached, or broke off.
    #[error("the registry at {address} does not answer")]
    Io {
        /// Which.
        address: SocketAddr,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the registry at {address} did not answer within {limit:?}")]
    Timeout {
        /// Which.
        address: SocketAddr,
        /// How long it had.
        limit: Duration,
    },
    /// It answers, and not as a registry does.
    #[error("what answers at {address} is no registry: `{status}`")]
    NoRegistry {
        /// Which.
        address: SocketAddr,
        /// The first line of its answer.
        status: String,
    },
}

/// Asks for `/v2/` and expects 200. Ask by an address that is always there (`[::1]`): an anycast address that is
/// not on this machine leads to another one's registry.
///
/// # Errors
///
/// [`ProbeError`].
pub async fn probe(address: SocketAddr, limit: Duration) -> Result<(), ProbeError> {
    let head = timeout(limit, ask(address))
        .await
        .map_err(|_| ProbeError::Timeout { address, limit })?
        .map_err(|source| ProbeError::Io { address, source })?;
    let head = String::from_utf8_lossy(&head);
    let status = head.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(ProbeError::NoRegistry { address, status: status.to_owned() })
}

/// No HTTP client for one line: this runs every second, on every node, with nothing kept between.
async fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /v2/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while head.len() < MAX_HEAD && !head.contains(&b'\n') {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}
