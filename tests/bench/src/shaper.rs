//! A way to somewhere far: what is sent arrives later, and no faster than the way allows.
//!
//! Where the kernel has no `netem`, a process that passes connections on does the same to them: each direction has its
//! delay, and what comes back shares the rate.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// From one end to the other: half of 20 ms there and back.
const DELAY: Duration = Duration::from_millis(10);
/// Octets a second: 100 Mbit/s.
const RATE: f64 = 12_500_000.0;
/// What is passed on at once: 1.3 ms of the rate.
const PIECE: usize = 16 * 1024;
/// Pieces that are on their way: what fits into 20 ms at that rate, and some more, as routers have buffers.
const ON_THE_WAY: usize = 64;

/// When the way is free again.
type Way = Arc<Mutex<Instant>>;

/// Passes connections on for ever.
pub(crate) fn serve(listen: SocketAddr, to: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let way: Way = Arc::new(Mutex::new(Instant::now()));
    for client in listener.incoming() {
        let (client, way) = (client.context("accepting a connection")?, Arc::clone(&way));
        thread::spawn(move || {
            // A handshake takes the way there and back before anything is sent.
            thread::sleep(DELAY * 2);
            // A connection that breaks is the ends' affair.
            let _broken = pass(&client, to, &way);
        });
    }
    Ok(())
}

fn pass(client: &TcpStream, to: SocketAddr, way: &Way) -> io::Result<()> {
    let server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (there, back) = (direction(client.try_clone()?, server.try_clone()?, None)?, Some(Arc::clone(way)));
    direction(server, client.try_clone()?, back)?.join().map_err(|_panicked| ErrorKind::BrokenPipe)?;
    there.join().map_err(|_panicked| ErrorKind::BrokenPipe.into())
}

/// One direction: one thread notes when octets were sent, and the other one lets them arrive.
fn direction(mut from: TcpStream, mut to: TcpStream, way: Option<Way>) -> io::Result<thread::JoinHandle<()>> {
    let (sent, arriving): (SyncSender<(Instant, Vec<u8>)>, Receiver<_>) = sync_channel(ON_THE_WAY);
    thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; PIECE];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let mut at = Instant::now();
            if let Some(way) = &way {
                let mut free = way.lock().unwrap_or_else(PoisonError::into_inner);
                at = at.max(*free) + Duration::from_secs_f64(crate::http::as_f64(len as u64) / RATE);
                *free = at;
            }
            if sent.send((at + DELAY, buffer.get(..len).unwrap_or_default().to_vec())).is_err() {
                break;
            }
        }
    })?;
    thread::Builder::new().spawn(move || {
        for (at, octets) in arriving {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if to.write_all(&octets).is_err() {
                break;
            }
        }
        // The other end reads an end.
        let _gone = to.shutdown(Shutdown::Write);
    })
}
