use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use super::*;

fn octets() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn artefact() -> Artefact {
    Artefact { sha256: Digest::of(octets()).hex(), size: octets().len() as u64 }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// What a source does.
#[derive(Clone)]
struct Source {
    octets: Arc<Vec<u8>>,
    /// It ends after so many, without a word.
    most: usize,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve(octets: Vec<u8>, most: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::default();
    let source = Source { octets: Arc::new(octets), most, asked: Arc::clone(&asked) };
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(source);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, asked)
}

async fn answer(State(source): State<Source>, headers: HeaderMap) -> Response {
    let range = headers[RANGE].to_str().unwrap().to_owned();
    let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
    source.asked.lock().unwrap().push(range);
    let all = source.octets.len();
    let to = all.min(from + source.most);
    let part = format!("bytes {from}-{}/{all}", to - 1);
    (StatusCode::PARTIAL_CONTENT, [("content-range", part)], source.octets[from..to].to_vec()).into_response()
}

#[test]
fn only_a_digest_names_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (_dir, store) = store();
    let digest = "ab".repeat(32);
    std::fs::write(folder.path().join(&digest), b"x").unwrap();
    std::fs::write(folder.path().join("passwd"), b"x").unwrap();
    let stored = store.put(b"y").unwrap();
    let artefacts = Artefacts::new(vec![folder.path().to_owned()], Some(store), Vec::new());
    assert_eq!(artefacts.find(&digest), Some(folder.path().join(&digest)));
    assert!(artefacts.find(&stored.hex()).is_some());
    for name in ["passwd", "../passwd", "", &digest.to_uppercase(), &"cd".repeat(32)] {
        assert_eq!(artefacts.find(name), None, "{name}");
    }
}

#[tokio::test]
async fn what_breaks_off_is_gone_on_with_elsewhere() {
    let (_dir, store) = store();
    let client = client_to_neighbours().unwrap();
    let (artefact, digest) = (artefact(), Digest::of(octets()));
    let (first, asked_first) = serve(octets(), 500_000).await;
    let broken = download(&client, &first, store.partial(&digest).unwrap(), &artefact).await;
    assert!(broken.unwrap_err().to_string().contains("broken off after 500000 of 1200000"));
    assert!(!store.contains(&digest));
    let (second, asked_second) = serve(octets(), usize::MAX / 2).await;
    download(&client, &second, store.partial(&digest).unwrap(), &artefact).await.unwrap();
    assert_eq!(*asked_first.lock().unwrap(), ["bytes=0-"]);
    assert_eq!(*asked_second.lock().unwrap(), ["bytes=500000-"]);
    assert_eq!(store.read(&digest, 1 << 30).unwrap().unwrap(), octets());
}

#[tokio::test]
async fn what_is_wrong_is_forgotten_and_fetched_anew() {
    let (_dir, store) = store();
    let client = client_to_neighbours().unwrap();
    let (artefact, digest) = (artefact(), Digest::of(octets()));
    let mut wrong = octets();
    wrong[7] ^= 1;
    let (url, _) = serve(wrong, usize::MAX / 2).await;
    let refused = download(&client, &url, store.partial(&digest).unwrap(), &artefact).await.unwrap_err();
    assert!(refused.to_string().contains("the bytes are wrong"), "{refused}");
    assert_eq!(store.begun(&digest), 0);
    let long = [octets(), vec![0]].concat();
    let (url, _) = serve(long, usize::MAX / 2).await;
    let refused = download(&client, &url, store.partial(&digest).unwrap(), &artefact).await.unwrap_err();
    assert!(refused.to_string().contains("longer than"), "{refused}");
    assert!(!store.contains(&digest));
    let (url, _) = serve(octets(), usize::MAX / 2).await;
    download(&client, &url, store.partial(&digest).unwrap(), &artefact).await.unwrap();
    assert!(store.contains(&digest));
}
