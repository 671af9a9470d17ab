//! Traffic that shows what a user would see: numbered datagrams at a steady rate, and who answered which.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::netns::Network;

const PORT: u16 = 7;
/// How often a waiting thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);
const LENGTH: usize = 8;

/// Answers every datagram to the echo port with the same bytes and its own name.
#[derive(Debug)]
pub struct Echo(Worker<()>);

impl Echo {
    /// Starts to answer on all addresses of the namespace, as `name`.
    pub fn start(network: &Network, name: &str) -> Result<Self> {
        let name = name.as_bytes().to_vec();
        Worker::start(network, "echo", move |stop| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
            socket.set_read_timeout(Some(LOOK))?;
            let mut buffer = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                if let Some((length, from)) = receive(&socket, &mut buffer)? {
                    let mut answer = buffer[..length].to_vec();
                    answer.extend(octets_of(from));
                    answer.extend(&name);
                    // No route back is a loss like any other on the way.
                    let _lost = socket.send_to(&answer, from);
                }
            }
            Ok(())
        })
        .map(Self)
    }

    /// Stops and gives the port free.
    pub fn stop(self) -> Result<()> {
        self.0.stop()
    }
}

/// An answer to one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The name of the machine that answered.
    pub by: String,
    /// The address it answered from.
    pub from: Ipv6Addr,
    /// The source address under which it saw the probe.
    pub saw: Ipv6Addr,
}

/// When each probe was sent, and its answer if one came.
#[derive(Debug, Clone)]
pub struct Trace(Vec<(Instant, Option<Answer>)>);

impl Trace {
    /// How many probes that were sent after `event` were lost.
    #[must_use]
    pub fn lost_since(&self, event: Instant) -> usize {
        self.since(event).filter(|(_, answer)| answer.is_none()).count()
    }

    /// How long after `event` the last lost probe was sent; `None` when none was lost.
    #[must_use]
    pub fn dark_until(&self, event: Instant) -> Option<Duration> {
        let (sent, _) = self.since(event).filter(|(_, answer)| answer.is_none()).last()?;
        Some(sent.duration_since(event))
    }

    /// How long after `event` the first answered probe was sent.
    #[must_use]
    pub fn light_from(&self, event: Instant) -> Option<Duration> {
        let (sent, _) = self.since(event).find(|(_, answer)| answer.is_some())?;
        Some(sent.duration_since(event))
    }

    /// How often each machine answered after `event`.
    #[must_use]
    pub fn answers_since(&self, event: Instant) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for (_, answer) in self.since(event) {
            if let Some(answer) = answer {
                *answers.entry(answer.by.clone()).or_default() += 1;
            }
        }
        answers
    }

    fn since(&self, event: Instant) -> impl Iterator<Item = &(Instant, Option<Answer>)> {
        self.0.iter().filter(move |(sent, _)| *sent >= event)
    }
}

/// A flow of probes to one address.
#[derive(Debug)]
pub struct Prober(Worker<Trace>);

/// Flows of one prober: with a hash over ports, several of them use all paths of a route.
const SOCKETS: usize = 4;
/// How long an answer may take; what comes later counts as lost.
const PATIENCE: Duration = Duration::from_millis(200);

impl Prober {
    /// Starts to send a probe each `interval` to `to`.
    pub fn start(network: &Network, to: Ipv6Addr, interval: Duration) -> Result<Self> {
        Worker::start(network, "prober", move |stop| probe(to, interval, stop)).map(Self)
    }

    /// Stops, waits for what is still on its way, and tells what happened.
    pub fn stop(self) -> Result<Trace> {
        self.0.stop()
    }
}

fn probe(to: Ipv6Addr, interval: Duration, stop: &AtomicBool) -> Result<Trace> {
    let to = SocketAddrV6::new(to, PORT, 0, 0);
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let mut trace = Trace(Vec::new());
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        collect(&sockets, &mut trace)?;
        let number = trace.0.len();
        trace.0.push((Instant::now(), None));
        // No route is a loss like any other.
        let _lost = sockets[number % SOCKETS].send_to(&u64::try_from(number)?.to_be_bytes(), to);
        next += interval;
        match next.checked_duration_since(Instant::now()) {
            Some(wait) => std::thread::sleep(wait),
            // After a stall there is nothing to catch up with.
            None => next = Instant::now(),
        }
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        collect(&sockets, &mut trace)?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(trace)
}

fn collect(sockets: &[UdpSocket], trace: &mut Trace) -> Result<()> {
    let mut buffer = [0; 128];
    for socket in sockets {
        while let Some((length, from)) = receive(socket, &mut buffer)? {
            let Some((number, answer)) = parse(&buffer[..length], from) else { continue };
            if let Some(entry) = trace.0.get_mut(usize::try_from(number)?) {
                entry.1 = (entry.0.elapsed() < PATIENCE).then_some(answer);
            }
        }
    }
    Ok(())
}

/// Sends a probe to `to` until one is answered, for as long as `limit`.
pub fn ask(network: &Network, to: Ipv6Addr, limit: Duration) -> Result<Option<Answer>> {
    network.enter(move || -> Result<Option<Answer>> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(LOOK))?;
        let end = Instant::now() + limit;
        let mut buffer = [0; 128];
        while Instant::now() < end {
            if socket.send_to(&[0; LENGTH], SocketAddrV6::new(to, PORT, 0, 0)).is_err() {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if let Some((length, from)) = receive(&socket, &mut buffer)? {
                return Ok(parse(&buffer[..length], from).map(|(_, answer)| answer));
            }
        }
        Ok(None)
    })?
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        Err(error) if is_loss(&error) => Ok(None),
        Err(error) => Err(error).context("receiving on a probe socket"),
    }
}

/// Nothing came, or an ICMP error came instead of an answer.
fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
    )
}

fn octets_of(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(address) => address.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(address) => address.ip().octets(),
    }
}

fn parse(bytes: &[u8], from: SocketAddr) -> Option<(u64, Answer)> {
    let (number, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (saw, name) = rest.split_first_chunk::<16>()?;
    let answer = Answer {
        by: String::from_utf8_lossy(name).into_owned(),
        from: Ipv6Addr::from(octets_of(from)),
        saw: Ipv6Addr::from(*saw),
    };
    Some((u64::from_be_bytes(*number), answer))
}

/// A thread inside a namespace that works until it is told to stop.
#[derive(Debug)]
struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Result<T>>>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(
        network: &Network,
        role: &str,
        work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = network.spawn(role, move || work(&told))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    fn stop(mut self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the worker has ended")?;
        match thread.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _nobody_to_tell = thread.join();
        }
    }
}
