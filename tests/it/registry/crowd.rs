//! Fifty-one clients for one large blob that is not here yet, and one of them does not read.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use images::client::{Route, client_by};
use images::pull::{Revalidate, Upstreams};
use images::upstream::UpstreamConfig;

use super::*;

/// What takes a second, and what takes a minute.
const SMALL: usize = 32 << 20;
const LARGE: usize = 500 << 20;
const FAST: usize = 50;
/// What the slow one reads before the fast ones are through.
const SIP: usize = 64 * 1024;
const READ: usize = 256 * 1024;

/// A registry that has one blob, and counts how often it was asked for it.
struct OneBlob {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl OneBlob {
    fn start(blob: Arc<Vec<u8>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (blob, counted) = (Arc::clone(&blob), Arc::clone(&counted));
                std::thread::spawn(move || {
                    let head = BufReader::new(stream.try_clone().unwrap()).lines();
                    let head: Vec<String> =
                        head.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    if head.first().is_some_and(|request| request.contains("/blobs/")) {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", blob.len());
                    let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&blob));
                });
            }
        });
        Self { address, asked }
    }
}

/// A client that has read the head of its answer.
fn ask(mirror: SocketAddr, digest: &Digest, size: usize) -> TcpStream {
    let mut stream = TcpStream::connect(mirror).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // Octet by octet: what follows is the blob.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).unwrap();
        head.extend(octet);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&size.to_string()), "{head}");
    stream
}

/// Reads on, and sees that it is the blob.
fn read(stream: &mut TcpStream, blob: &[u8]) {
    let mut buffer = vec![0; READ];
    for expected in blob.chunks(READ) {
        let got = &mut buffer[..expected.len()];
        stream.read_exact(got).unwrap();
        assert!(got == expected, "other octets than the blob's");
    }
}

#[test]
fn one_slow_client_keeps_fifty_fast_ones_from_nothing_and_all_are_one_fetch() {
    crowd(SMALL);
}

#[test]
#[ignore = "takes a minute"]
fn one_slow_client_and_fifty_fast_ones_have_half_a_gigabyte_by_one_fetch() {
    crowd(LARGE);
}

fn crowd(size: usize) {
    // No piece of it is like another.
    let word = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let blob: Arc<Vec<u8>> = Arc::new((0..size / 8).flat_map(word).collect());
    let digest = Digest::of(blob.as_slice());
    let upstream = OneBlob::start(Arc::clone(&blob));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let endpoint = Some(format!("http://{}", upstream.address).parse().unwrap());
    let config = UpstreamConfig { registry: DOCKER_IO.parse().unwrap(), endpoint, credentials: None };
    let (bound, mirror) = runtime.block_on(async {
        let listener = Listener {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            registry: Some(DOCKER_IO.parse().unwrap()),
            guard: None,
        };
        let bound = registry::bind(vec![listener]).unwrap();
        let address = bound.addresses()[0];
        (bound, address)
    });
    let serving = runtime.spawn({
        let client = client_by(&Route::default()).unwrap();
        let upstreams = Upstreams::new(vec![config], false, &client).unwrap();
        let puller = Puller::new(store.clone(), 4 << 30, upstreams, Revalidate::Never).unwrap();
        bound.serve(puller, async {
            let _ = stopped.await;
        })
    });

    let mut slow = ask(mirror, &digest, size);
    read(&mut slow, &blob[..SIP]);
    std::thread::scope(|scope| {
        for _ in 0..FAST {
            let blob = &blob;
            scope.spawn(move || read(&mut ask(mirror, &digest, size), blob));
        }
    });
    // All fifty have all of it, and the slow one its first sip; the rest is there for it.
    wait_for("the blob in the store", || store.contains(&digest));
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 1);
    read(&mut slow, &blob[SIP..]);
    drop(stop);
    runtime.block_on(serving).unwrap();
}
