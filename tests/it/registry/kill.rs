//! A mirror that is killed again and again while ten clients pull.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use images::client::{Route, client_by};
use images::pull::{Puller, Revalidate, Upstreams};
use images::store::Verdict;
use images::upstream::UpstreamConfig;

use super::*;

/// Tells the child that it is one: where its store is, and whom it asks.
const CHILD: &str = "MESHBOOT_TEST_MIRROR";
const REPOSITORY: &str = "library/busybox";
const CLIENTS: usize = 10;
const LIVES: usize = 12;
const BLOBS: usize = 12;
const BLOB: usize = 2 << 20;

/// The child of the test below; alone it does nothing.
#[test]
fn mirror_child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (folder, upstream) = told.split_once(' ').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let registry: images::store::RegistryName = DOCKER_IO.parse().unwrap();
        let endpoint = Some(format!("http://{upstream}").parse().unwrap());
        let config = UpstreamConfig { registry: registry.clone(), endpoint, credentials: None };
        let upstreams = Upstreams::new(vec![config], false, &client_by(&Route::default()).unwrap()).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound =
            registry::bind(vec![Listener { address, registry: Some(registry), guard: None }]).unwrap();
        let store = Store::open(folder).unwrap();
        let puller = Puller::new(store, 1 << 30, upstreams, Revalidate::Always).unwrap();
        let mut out = std::io::stdout();
        writeln!(out, "listens {}", bound.addresses()[0]).unwrap();
        out.flush().unwrap();
        bound.serve(puller, std::future::pending()).await;
    });
}

struct Life {
    child: Child,
    address: SocketAddr,
}

impl Life {
    fn begin(folder: &Path, upstream: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "registry::kill::mirror_child"])
            .env(CHILD, format!("{} {upstream}", folder.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = |line: Result<String, std::io::Error>| {
            let line = line.unwrap();
            line.split_once("listens ").map(|(_, address)| address.parse().unwrap())
        };
        let address = lines.filter_map(told).next().expect("the mirror listens");
        Self { child, address }
    }

    fn end(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What became of pulls.
#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    broken: AtomicUsize,
}

/// Pulls a blob; none if the mirror broke off.
fn pull(mirror: SocketAddr, digest: &Digest) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(mirror).ok()?;
    let head =
        format!("GET /v2/{REPOSITORY}/blobs/{digest} HTTP/1.1\r\nhost: mirror\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A reset is a break like any other.
    let _broken = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let length: usize = length.trim().parse().unwrap();
    let body = answer.split_off(end);
    assert!(body.len() <= length);
    (body.len() == length).then_some(body)
}

/// Ten clients until the mirror is gone.
fn clients(mirror: SocketAddr, blobs: &[Digest], counts: &Counts) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for turn in 0.. {
                    let digest = &blobs[(client * 5 + turn * 7) % blobs.len()];
                    match pull(mirror, digest) {
                        Some(bytes) => {
                            assert_eq!(Digest::of(&bytes), *digest, "a finished pull is another blob");
                            counts.whole.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {
                            counts.broken.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn a_mirror_that_is_killed_again_and_again_serves_nothing_wrong() {
    let served = Served::start();
    let blobs: Vec<Digest> = (0..BLOBS)
        .map(|number| {
            let words =
                (0..BLOB / 8).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number as u64);
            let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
            served.store.put(&bytes).unwrap()
        })
        .collect();
    let folder = served.path("mirrored");
    let counts = Counts::default();
    for number in 0..LIVES {
        let life = Life::begin(&folder, served.for_skopeo);
        let address = life.address;
        let before = counts.whole.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| clients(address, &blobs, &counts));
            // After more and more pulls, and somewhere in the next ones: no event tells of the middle of a write.
            wait_for("pulls", || counts.whole.load(Ordering::Relaxed) >= before + number);
            std::thread::sleep(Duration::from_millis(number as u64 * 7));
            life.end();
        });
        // What counts as stored is right, at every such moment.
        let store = Store::open(&folder).unwrap();
        for digest in &blobs {
            assert!(matches!(store.verify(digest).unwrap(), Verdict::Sound | Verdict::Absent), "{digest}");
        }
    }
    let life = Life::begin(&folder, served.for_skopeo);
    for digest in &blobs {
        let bytes = pull(life.address, digest).expect("nobody kills it now");
        assert_eq!(Digest::of(&bytes), *digest);
    }
    life.end();
    let (whole, broken) = (counts.whole.into_inner(), counts.broken.into_inner());
    assert!(
        whole > 0 && broken >= CLIENTS,
        "{whole} whole, {broken} broken: it was not killed while they pulled"
    );
}
