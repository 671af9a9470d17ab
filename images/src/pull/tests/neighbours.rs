//! Mirrors that ask each other: each of them behind its own socket, as in a mesh.

use std::net::{Ipv6Addr, SocketAddr};

use futures::stream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::client::client_to_neighbours;
use crate::registry::router;
use crate::upstream::{Neighbours, Trail};

struct Mirror {
    puller: Puller,
    address: SocketAddr,
    server: JoinHandle<io::Result<()>>,
    _dir: Option<TempDir>,
}

impl Mirror {
    /// Of a node that asks these, nearest first.
    async fn of(name: &str, places: &[SocketAddr]) -> Self {
        let listener = listen().await;
        Self::on(listener, name, places)
    }

    fn on(listener: TcpListener, name: &str, places: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let places = places.iter().map(|place| format!("http://{place}").parse().unwrap()).collect();
        let neighbours = Neighbours { name: name.to_owned(), places };
        let upstreams = Upstreams::neighbours(neighbours, &client_to_neighbours().unwrap());
        let store = Store::open(dir.path()).unwrap();
        let puller = Puller::new(store, LIMIT, upstreams, Revalidate::Always).unwrap();
        Self { _dir: Some(dir), ..Self::before(listener, puller) }
    }

    fn before(listener: TcpListener, puller: Puller) -> Self {
        let address = listener.local_addr().unwrap();
        let router = router(puller.clone(), None);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        Self { puller, address, server, _dir: None }
    }

    async fn seed(here: &Here) -> Self {
        Self::before(listen().await, here.puller.clone())
    }

    /// Where its blobs came from.
    fn sources(&self) -> Vec<(String, u64)> {
        let counts = self.puller.counts().into_iter();
        counts.map(|Count { source, blobs, .. }| (source, blobs)).collect()
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap()
}

#[tokio::test]
async fn each_of_a_line_has_it_from_its_neighbour_and_the_seed_may_go() {
    let here = Here::open().await;
    let seed = Mirror::seed(&here).await;
    let first = Mirror::of("node1", &[seed.address]).await;
    let second = Mirror::of("node2", &[first.address, seed.address]).await;
    let third = Mirror::of("node3", &[second.address, first.address, seed.address]).await;
    let all = bytes(200_000);
    let digest = here.elsewhere.blob(all.clone());
    let manifest = here.elsewhere.manifest("v1", "{\"schemaVersion\":2}");

    assert_eq!(tagged(&third.puller, "v1").await.unwrap().digest, manifest);
    assert_eq!(blob(&third.puller, &digest).await.unwrap(), all);
    let blobs = here.elsewhere.asked().iter().filter(|(_, path, _)| path.contains("/blobs/")).count();
    assert_eq!(blobs, 1);
    for (mirror, source) in [(&third, &second), (&second, &first), (&first, &seed)] {
        settled(&mirror.puller).await;
        assert!(mirror.puller.store().contains(&digest));
        assert_eq!(mirror.sources(), [(source.address.to_string(), 1)]);
    }

    // Somebody else, when neither the seed nor what is behind it is there any more.
    seed.server.abort();
    first.server.abort();
    assert!(seed.server.await.is_err() && first.server.await.is_err());
    let fourth = [third.address, second.address, first.address, seed.address];
    let fourth = Mirror::of("node4", &fourth).await;
    assert_eq!(tagged(&fourth.puller, "v1").await.unwrap().digest, manifest);
    assert_eq!(blob(&fourth.puller, &digest).await.unwrap(), all);
    assert_eq!(fourth.sources(), [(third.address.to_string(), 1)]);
    assert_eq!(here.elsewhere.asked(), []);
    let unknown = tagged(&fourth.puller, "v2").await.unwrap_err();
    assert!(!unknown.is_absence(), "nobody knows: {unknown}");
}

#[tokio::test]
async fn what_does_not_exist_is_asked_for_once_however_long_the_line_is() {
    let here = Here::open().await;
    let seed = Mirror::seed(&here).await;
    let mut line = vec![seed.address];
    let mut mirrors = Vec::new();
    for number in 1..=6 {
        let mirror = Mirror::of(&format!("node{number}"), &line).await;
        line.insert(0, mirror.address);
        mirrors.push(mirror);
    }
    let last = mirrors.last().unwrap();
    assert!(tagged(&last.puller, "none").await.unwrap_err().is_absence());
    assert_eq!(here.elsewhere.asked().len(), 1);
    // And if its registry is out of order no mirror asks another one twice.
    here.elsewhere.manifest("v1", "{}");
    for _ in 0..1000 {
        here.elsewhere.fault(Fault::Status(503, None));
    }
    assert!(!tagged(&last.puller, "v1").await.unwrap_err().is_absence());
    let asked = here.elsewhere.asked().len();
    // The seed makes three attempts for each who asks it, and they come one after the other.
    assert!(asked <= 3 * mirrors.len(), "{asked}");
}

#[tokio::test]
async fn a_question_that_comes_back_is_not_waited_for() {
    let (one, other) = (listen().await, listen().await);
    let (at_one, at_other) = (one.local_addr().unwrap(), other.local_addr().unwrap());
    let one = Mirror::on(one, "node1", &[at_other]);
    let other = Mirror::on(other, "node2", &[at_one]);
    let digest = Digest::of(b"x");
    let error = blob(&one.puller, &digest).await.unwrap_err();
    assert!(error.contains("no neighbour knows"), "{error}");
    assert!(tagged(&one.puller, "v1").await.is_err());
    // What is here is given to anybody.
    one.puller.store().put(b"x").unwrap();
    let mut trail = HeaderMap::new();
    trail.insert(reqwest::header::VIA, "1.1 node1, 1.1 node2".parse().unwrap());
    let asked = one.puller.on_behalf_of(Trail::of(&trail));
    assert!(asked.blob(&registry(), &repository(), &digest).await.is_ok());
    let circle = asked.blob(&registry(), &repository(), &Digest::of(b"y")).await.unwrap_err();
    assert!(matches!(circle, PullError::Circle { .. }), "{circle}");
    drop(other);
}

#[tokio::test]
async fn a_neighbour_that_breaks_off_or_says_nothing_is_passed_by() {
    let silent = listen().await;
    let (near, far) = (Elsewhere::open(Door::Open).await, Elsewhere::open(Door::Open).await);
    let all = bytes(100_000);
    let digest = near.blob(all.clone());
    far.blob(all.clone());
    near.fault(Fault::Break(1000));
    near.fault(Fault::Status(502, None));
    let mirror = Mirror::of("node1", &[silent.local_addr().unwrap(), near.address, far.address]).await;
    let accept = stream::unfold(silent, async |silent| Some((silent.accept().await, silent)));
    let accepted = tokio::spawn(accept.collect::<Vec<_>>());
    assert_eq!(blob(&mirror.puller, &digest).await.unwrap(), all);
    assert_eq!(ranges(&near.asked()), [None, Some("bytes=1000-")]);
    assert_eq!(ranges(&far.asked()), [Some("bytes=1000-")]);
    accepted.abort();
}
