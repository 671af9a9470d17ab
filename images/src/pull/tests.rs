use std::io;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{StreamExt, TryStreamExt};
use reqwest::Method;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::store::{Descriptor, OCI_INDEX};
use crate::upstream::UpstreamError;
use elsewhere::{Door, Elsewhere, Fault};

mod elsewhere;
mod manifests;
mod neighbours;

/// More than any test needs that is not about it.
const LIMIT: u64 = 1 << 30;

struct Here {
    dir: TempDir,
    elsewhere: Elsewhere,
    puller: Puller,
}

impl Here {
    async fn with(door: Door, credentials: Option<(&str, &str)>, revalidate: Revalidate) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = Elsewhere::open(door).await;
        let puller = puller(&dir, &elsewhere, credentials, revalidate);
        Self { dir, elsewhere, puller }
    }

    async fn open() -> Self {
        Self::with(Door::Open, None, Revalidate::Always).await
    }

    /// As after a restart.
    fn again(&mut self) {
        self.puller = puller(&self.dir, &self.elsewhere, None, Revalidate::Always);
    }

    async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        blob(&self.puller, digest).await
    }

    async fn tagged(&self, tag: &str) -> Result<Held, PullError> {
        tagged(&self.puller, tag).await
    }

    async fn settled(&self) {
        settled(&self.puller).await;
    }
}

async fn blob(puller: &Puller, digest: &Digest) -> Result<Vec<u8>, String> {
    let found = puller.blob(&registry(), &repository(), digest).await;
    read(found.map_err(|error| error.to_string())?).await
}

async fn tagged(puller: &Puller, tag: &str) -> Result<Held, PullError> {
    let tag = tag.parse().unwrap();
    puller.tagged(&Reference { registry: registry(), repository: repository(), tag }).await
}

/// Once what came is stored.
async fn settled(puller: &Puller) {
    while !puller.flights().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn puller(
    dir: &TempDir,
    elsewhere: &Elsewhere,
    credentials: Option<(&str, &str)>,
    revalidate: Revalidate,
) -> Puller {
    // For its TLS provider.
    crate::client::client(None).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let upstreams = Upstreams::new(vec![elsewhere.config(credentials)], false, &client).unwrap();
    Puller::new(Store::open(dir.path()).unwrap(), LIMIT, upstreams, revalidate).unwrap()
}

fn registry() -> RegistryName {
    "registry.example".parse().unwrap()
}

fn repository() -> Repository {
    "a/b".parse().unwrap()
}

async fn read(found: Found) -> Result<Vec<u8>, String> {
    match found {
        Found::Stored(mut blob) => {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut blob.file, &mut bytes).map_err(|error| error.to_string())?;
            Ok(bytes)
        }
        Found::Coming(flight, _) => {
            let chunks = flight.read(0, None).try_collect::<Vec<_>>().await;
            Ok(chunks.map_err(|error| error.to_string())?.concat())
        }
    }
}

/// Bytes of which no two pieces are equal.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at % 251).to_le_bytes()[0]).collect()
}

fn ranges(asked: &[(Method, String, Option<String>)]) -> Vec<Option<&str>> {
    asked.iter().map(|(_, _, range)| range.as_deref()).collect()
}

#[tokio::test]
async fn a_blob_is_fetched_once_however_many_ask_and_nobody_waits_for_a_slow_one() {
    let here = Here::open().await;
    let all = bytes(300_000);
    let digest = here.elsewhere.blob(all.clone());
    let (drops, drip) = mpsc::unbounded();
    here.elsewhere.fault(Fault::Drip(drip));
    drops.unbounded_send(all[..1000].to_vec().into()).unwrap();
    // The first one leaves before anything else has come.
    let Ok(Found::Coming(first, size)) = here.puller.blob(&registry(), &repository(), &digest).await else {
        panic!("it cannot be here yet");
    };
    assert_eq!(size, Some(300_000));
    let begun = Box::pin(first.read(0, None)).next().await.unwrap().unwrap();
    assert_eq!(begun, all[..1000], "what came is handed on at once");
    drop(first);
    // One that reads nothing for as long as the others read.
    let Ok(Found::Coming(slow, _)) = here.puller.blob(&registry(), &repository(), &digest).await else {
        panic!("it cannot be here yet");
    };
    let mut slow = Box::pin(slow.read(0, None));
    slow.next().await.unwrap().unwrap();
    let mut others = JoinSet::new();
    for _ in 0..50 {
        let puller = here.puller.clone();
        others.spawn(async move {
            read(puller.blob(&registry(), &repository(), &digest).await.unwrap()).await.unwrap()
        });
    }
    drops.unbounded_send(all[1000..].to_vec().into()).unwrap();
    drop(drops);
    while let Some(other) = others.join_next().await {
        assert_eq!(other.unwrap(), all);
    }
    let rest: Vec<u8> = slow.try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(rest.len(), 299_000);
    here.settled().await;
    assert_eq!(here.blob(&digest).await.unwrap(), all);
    assert_eq!(here.elsewhere.asked().len(), 1);
}

#[tokio::test]
async fn a_part_of_what_is_coming_is_read_when_it_is_there() {
    let here = Here::open().await;
    let all = bytes(10_000);
    let digest = here.elsewhere.blob(all.clone());
    let Ok(Found::Coming(flight, Some(10_000))) = here.puller.blob(&registry(), &repository(), &digest).await
    else {
        panic!("it cannot be here yet");
    };
    for (from, to) in [(0, 10), (5000, 9999), (9999, 10_000), (0, 10_000)] {
        let part = flight.read(from, Some(to)).try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(part, all[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()]);
    }
}

#[tokio::test]
async fn what_breaks_off_is_gone_on_with() {
    let here = Here::open().await;
    let all = bytes(200_000);
    let digest = here.elsewhere.blob(all.clone());
    for fault in [
        Fault::Break(70_000),
        Fault::Status(503, None),
        Fault::Break(0),
        Fault::Break(60_000),
        Fault::Status(429, Some(0)),
    ] {
        here.elsewhere.fault(fault);
    }
    assert_eq!(here.blob(&digest).await.unwrap(), all);
    let asked = here.elsewhere.asked();
    let ranges = ranges(&asked);
    let (first, second) = (Some("bytes=70000-"), Some("bytes=130000-"));
    assert_eq!(ranges, [None, first, first, first, second, second]);
}

#[tokio::test]
async fn a_registry_without_ranges_begins_again_and_its_bytes_count_once() {
    let here = Here::open().await;
    let all = bytes(200_000);
    let digest = here.elsewhere.blob(all.clone());
    for fault in [Fault::Break(70_000), Fault::Whole] {
        here.elsewhere.fault(fault);
    }
    assert_eq!(here.blob(&digest).await.unwrap(), all);
}

#[tokio::test]
async fn nobody_ever_has_the_whole_of_something_wrong() {
    let here = Here::open().await;
    let all = bytes(100_000);
    let digest = here.elsewhere.blob(all.clone());
    here.elsewhere.fault(Fault::Lie);
    let Ok(Found::Coming(flight, _)) = here.puller.blob(&registry(), &repository(), &digest).await else {
        panic!("it cannot be here yet");
    };
    let mut had = 0;
    let mut chunks = Box::pin(flight.read(0, None));
    let error = loop {
        match chunks.next().await.unwrap() {
            Ok(chunk) => had += chunk.len(),
            Err(error) => break error.to_string(),
        }
    };
    assert!(had < all.len() && error.contains("expected sha256:"), "{had} {error}");
    here.settled().await;
    assert!(!here.puller.store().contains(&digest));
    // Nothing of it is left to go on with.
    assert_eq!(here.blob(&digest).await.unwrap(), all);
    assert_eq!(ranges(&here.elsewhere.asked()), [None, None]);
}

#[tokio::test]
async fn a_registry_that_sends_too_little_every_time_is_given_up() {
    let here = Here::open().await;
    let all = bytes(1000);
    let digest = here.elsewhere.blob(all);
    // The first one looks whole; it is not.
    here.elsewhere.fault(Fault::Short(500));
    let error = here.blob(&digest).await.unwrap_err();
    assert!(error.contains("expected sha256:"), "{error}");
    for _ in 0..5 {
        here.elsewhere.fault(Fault::Status(500, None));
    }
    here.settled().await;
    let error = here.blob(&digest).await.unwrap_err();
    assert!(error.contains("500"), "{error}");
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_what_it_had() {
    let mut here = Here::open().await;
    let all = bytes(200_000);
    let digest = here.elsewhere.blob(all.clone());
    let (drops, drip) = mpsc::unbounded();
    here.elsewhere.fault(Fault::Drip(drip));
    drops.unbounded_send(all[..150_000].to_vec().into()).unwrap();
    // What a killed process leaves is its file.
    let partial = here.dir.path().join("partial").join(digest.hex());
    let Ok(Found::Coming(flight, _)) = here.puller.blob(&registry(), &repository(), &digest).await else {
        panic!("it cannot be here yet");
    };
    let mut chunks = Box::pin(flight.read(0, Some(140_000)));
    while chunks.next().await.is_some() {}
    let left = std::fs::read(&partial).unwrap();
    drop((chunks, flight));
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap();
    std::fs::write(dir.path().join("partial").join(digest.hex()), &left).unwrap();
    here.dir = dir;
    here.again();
    here.elsewhere.asked();
    assert_eq!(here.blob(&digest).await.unwrap(), all);
    let asked = here.elsewhere.asked();
    assert_eq!(ranges(&asked), [Some(format!("bytes={}-", left.len()).as_str())]);
    here.settled().await;
    assert!(here.puller.store().contains(&digest));
    // What is longer than the blob is none of it.
    let (digest, path) = (here.elsewhere.blob(bytes(10)), here.dir.path().join("partial"));
    std::fs::write(path.join(digest.hex()), [0; 20]).unwrap();
    assert_eq!(here.blob(&digest).await.unwrap(), bytes(10));
    // All of it may be there, and who had it was killed before that was proved.
    let digest = here.elsewhere.blob(bytes(20));
    std::fs::write(path.join(digest.hex()), bytes(20)).unwrap();
    assert_eq!(here.blob(&digest).await.unwrap(), bytes(20));
    here.settled().await;
    assert!(here.puller.store().contains(&digest));
}

#[tokio::test]
async fn nobody_is_asked_for_what_is_no_public_name() {
    let client = crate::client::client(None).unwrap();
    let others = Upstreams::new(Vec::new(), true, &client).unwrap();
    for name in ["localhost:5000", "10.0.0.1", "[fd00::1]:5000", "seed", "printer.local", "127.0.0.1:80"] {
        assert!(others.of(&name.parse().unwrap()).unwrap().is_none(), "{name}");
    }
    for name in ["ghcr.io", "registry.example.org:8443", "docker.io"] {
        assert!(others.of(&name.parse().unwrap()).unwrap().is_some(), "{name}");
    }
    assert!(Upstreams::none().of(&"ghcr.io".parse().unwrap()).unwrap().is_none());
}

/// A puller whose store may grow up to a limit.
fn limited(here: &Here, limit: u64) -> Puller {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let upstreams = Upstreams::new(vec![here.elsewhere.config(None)], false, &client).unwrap();
    Puller::new(Store::open(here.dir.path()).unwrap(), limit, upstreams, Revalidate::Always).unwrap()
}

#[tokio::test]
async fn what_was_used_longest_ago_gives_way_and_what_was_given_here_stays() {
    let mut here = Here::open().await;
    let store = here.puller.store();
    let text = format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_INDEX}\",\"manifests\":[]}}");
    let given = store.put(text.as_bytes()).unwrap();
    let reference: Reference = "registry.example/own/image:v1".parse().unwrap();
    store.set_ref(&reference, &Descriptor::new(OCI_INDEX, given, text.len() as u64)).unwrap();
    here.puller = limited(&here, 3000 + text.len() as u64);
    let blobs: Vec<Digest> = (0..5).map(|at| here.elsewhere.blob(bytes(1000 - at))).collect();
    for digest in &blobs[..3] {
        here.blob(digest).await.unwrap();
        here.settled().await;
    }
    // The first one is wanted again.
    here.blob(&blobs[0]).await.unwrap();
    for digest in &blobs[3..] {
        here.blob(digest).await.unwrap();
        here.settled().await;
    }
    let there = |digest: &Digest| here.puller.store().contains(digest);
    assert_eq!(blobs.iter().map(there).collect::<Vec<_>>(), [true, false, false, true, true]);
    assert!(there(&given));
    // After a restart as well.
    here.puller = limited(&here, 1000 + text.len() as u64);
    here.blob(&blobs[1]).await.unwrap();
    here.settled().await;
    assert!(here.puller.store().contains(&given) && !here.puller.store().contains(&blobs[0]));
}

#[tokio::test]
async fn what_lies_there_for_another_reason_stays_and_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (artefact, blob) = (store.put(&bytes(900)).unwrap(), store.put(&bytes(600)).unwrap());
    let limit = Limit { bytes: 1000, beside: [artefact].into() };
    let puller = Puller::new(store.clone(), limit, Upstreams::none(), Revalidate::Never).unwrap();
    let mut given = puller.begin_given().unwrap();
    given.append(&bytes(700)).unwrap();
    given.finish(&Digest::of(bytes(700))).unwrap();
    assert_eq!([artefact, blob].map(|digest| store.contains(&digest)), [true, false]);
}

#[tokio::test]
async fn what_has_no_room_is_handed_on_and_not_stored() {
    let mut here = Here::open().await;
    here.puller = limited(&here, 50_000);
    let all = bytes(100_000);
    let digest = here.elsewhere.blob(all.clone());
    assert_eq!(here.blob(&digest).await.unwrap(), all);
    here.settled().await;
    assert!(!here.puller.store().contains(&digest));
    let Ok(Found::Coming(flight, Some(100_000))) =
        here.puller.blob(&registry(), &repository(), &digest).await
    else {
        panic!("it cannot be here");
    };
    let part = flight.read(10, Some(60_000)).try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(part, all[10..60_000]);
    here.settled().await;
    // Nor is there ever the whole of what is wrong.
    for fault in [Fault::Whole, Fault::Lie] {
        here.elsewhere.fault(fault);
    }
    let error = here.blob(&digest).await.unwrap_err();
    assert!(error.contains("expected sha256:"), "{error}");
}

#[tokio::test]
async fn what_is_left_of_a_fetch_that_failed_gives_way_and_nothing_goes_for_nothing() {
    let mut here = Here::open().await;
    here.puller = limited(&here, 2500);
    let first = here.elsewhere.blob(bytes(1000));
    here.blob(&first).await.unwrap();
    here.settled().await;
    let broken = here.elsewhere.blob(bytes(1200));
    here.elsewhere.fault(Fault::Break(1100));
    here.elsewhere.fault(Fault::Status(403, None));
    assert!(here.blob(&broken).await.is_err());
    here.settled().await;
    let store = here.puller.store();
    assert_eq!(store.begun(&broken), 1100);
    // It would not fit in if all went.
    let large = here.elsewhere.blob(bytes(5000));
    assert_eq!(here.blob(&large).await.unwrap(), bytes(5000));
    here.settled().await;
    assert_eq!((store.contains(&first), store.begun(&broken), store.begun(&large)), (true, 1100, 0));
    // After a restart it counts as well; the first one is wanted, and it is not.
    here.puller = limited(&here, 2500);
    here.blob(&first).await.unwrap();
    let last = here.elsewhere.blob(bytes(900));
    let store = here.puller.store();
    store.touch(&first, std::time::SystemTime::now()).unwrap();
    here.puller = limited(&here, 2500);
    here.blob(&last).await.unwrap();
    here.settled().await;
    let store = here.puller.store();
    assert!(store.contains(&last));
    assert_eq!((store.contains(&first), store.begun(&broken)), (true, 0));
}
