//! Pushing, without the guard: that is tried with the programs that people push with.

use axum::Router;
use futures::{StreamExt as _, stream};
use reqwest::Body;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::pull::{Revalidate, Upstreams};
use crate::push::{PushError, Pusher};
use crate::registry::answer::{Shelf, shelf_router};
use crate::registry::uploads::Uploads;
use crate::store::{Reference, RegistryName, WholeError, tests::put_image};
use crate::upstream::Credentials;

const CONFIG: &[u8] = b"{}";
const ROOM: u64 = 4000;

struct Pushed {
    dir: TempDir,
    store: Store,
    client: Client,
    address: SocketAddr,
}

async fn registry() -> Pushed {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let puller = Puller::new(store.clone(), ROOM, Upstreams::none(), Revalidate::Never).unwrap();
    let uploads = Some(Uploads::new(puller.clone()));
    let registry: Option<RegistryName> = Some("mesh.internal".parse().unwrap());
    let router: Router = shelf_router(Shelf { puller, registry, uploads });
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    crate::client::client(None).unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    Pushed { dir, store, client, address }
}

fn manifest(config: &[u8], layers: &[&[u8]], more: serde_json::Value) -> Vec<u8> {
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len() });
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect();
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config), "layers": layers });
    manifest.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    manifest.to_string().into_bytes()
}

impl Pushed {
    async fn send(&self, method: Method, path: &str, range: Option<&str>, body: impl Into<Body>) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).body(body);
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        request.send().await.unwrap()
    }

    async fn begin(&self) -> String {
        let begun = self.send(Method::POST, "/v2/a/b/blobs/uploads/", None, "").await;
        assert_eq!((begun.status().as_u16(), header(&begun, "range").as_str()), (202, "0-0"));
        header(&begun, "location")
    }

    async fn blob(&self, bytes: &[u8]) -> StatusCode {
        let path = format!("/v2/a/b/blobs/uploads/?digest={}", Digest::of(bytes));
        self.send(Method::POST, &path, None, bytes.to_vec()).await.status()
    }

    async fn manifest(&self, name: &str, bytes: &[u8]) -> Response {
        self.send(Method::PUT, &format!("/v2/a/b/manifests/{name}"), None, bytes.to_vec()).await
    }

    async fn get(&self, path: &str) -> StatusCode {
        self.send(Method::GET, path, None, "").await.status()
    }

    fn unfinished(&self) -> usize {
        let sessions = fs::read_dir(self.dir.path().join("tmp")).unwrap();
        sessions.map(|session| fs::read_dir(session.unwrap().path()).unwrap().count()).sum()
    }
}

#[tokio::test]
async fn a_blob_comes_piece_by_piece_and_counts_when_it_is_whole() {
    let registry = registry().await;
    let digest = Digest::of(LAYER);
    let upload = registry.begin().await;
    let first = registry.send(Method::PATCH, &upload, Some("0-3"), &LAYER[..4]).await;
    assert_eq!((first.status().as_u16(), header(&first, "range").as_str()), (202, "0-3"));
    // Twice, or too far behind it.
    for range in ["0-3", "5-6"] {
        let wrong = registry.send(Method::PATCH, &upload, Some(range), "xxxx").await;
        assert_eq!((wrong.status().as_u16(), header(&wrong, "range").as_str()), (416, "0-3"));
    }
    let status = registry.send(Method::GET, &upload, None, "").await;
    assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-3"));
    assert!(!registry.store.contains(&digest));
    let last = format!("{upload}?digest={digest}");
    let ended = registry.send(Method::PUT, &last, Some("4-9"), &LAYER[4..]).await;
    assert_eq!(ended.status(), StatusCode::CREATED);
    assert_eq!(header(&ended, "docker-content-digest"), digest.to_string());
    assert_eq!(registry.store.read(&digest, 100).unwrap().unwrap(), LAYER);
    // docker looks whether it is there, though nothing in the repository has a name yet.
    assert_eq!(registry.get(&format!("/v2/a/b/blobs/{digest}")).await, StatusCode::OK);
    assert_eq!(code(registry.send(Method::PUT, &last, None, "").await).await.1, "BLOB_UPLOAD_UNKNOWN");
    // Another repository has it for the asking.
    let mount = format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b");
    assert_eq!(registry.send(Method::POST, &mount, None, "").await.status(), StatusCode::CREATED);
    let unknown = format!("/v2/c/blobs/uploads/?mount={}&from=a/b", Digest::of(b"?"));
    assert_eq!(registry.send(Method::POST, &unknown, None, "").await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_not_stored() {
    let registry = registry().await;
    let digest = Digest::of(b"other");
    let upload = registry.begin().await;
    let wrong = registry.send(Method::PUT, &format!("{upload}?digest={digest}"), None, LAYER).await;
    assert_eq!(code(wrong).await, (400, "DIGEST_INVALID".to_owned()));
    let upload = registry.begin().await;
    assert_eq!(code(registry.send(Method::PUT, &upload, None, LAYER).await).await.1, "DIGEST_INVALID");
    assert_eq!(registry.send(Method::DELETE, &upload, None, "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(code(registry.send(Method::GET, &upload, None, "").await).await.1, "BLOB_UPLOAD_UNKNOWN");
    // It is another repository's, so nobody else's.
    let upload = registry.begin().await.replace("/a/b/", "/c/");
    assert_eq!(code(registry.send(Method::GET, &upload, None, "").await).await.0, 404);
    for path in ["/v2/a/b/blobs/uploads/x", "/v2/a/b/blobs/uploads/../../x", "/v2/..%2f..%2fx/blobs/uploads/"]
    {
        assert!(registry.send(Method::PUT, path, None, "x").await.status().is_client_error(), "{path}");
    }
    assert_eq!(registry.store.blobs().unwrap(), []);
}

#[tokio::test]
async fn an_upload_that_stops_half_way_is_gone_on_with() {
    let registry = registry().await;
    let upload = registry.begin().await;
    let mut socket = TcpStream::connect(registry.address).await.unwrap();
    let head = format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    // Refused or not, the connection ends.
    let _ended = socket.read_to_end(&mut Vec::new()).await;
    drop(socket);
    let status = registry.send(Method::GET, &upload, None, "").await;
    assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-3"));
    let last = format!("{upload}?digest={}", Digest::of(LAYER));
    let rest = registry.send(Method::PUT, &last, Some("4-9"), &LAYER[4..]).await;
    assert_eq!(rest.status(), StatusCode::CREATED);
    assert_eq!(registry.unfinished(), 0);
}

#[tokio::test]
async fn an_image_has_a_name_when_all_of_it_is_there() {
    let registry = registry().await;
    let image = manifest(CONFIG, &[LAYER], json!({}));
    let path = "/v2/a/b/manifests/v1";
    assert_eq!(code(registry.manifest("v1", &image).await).await, (404, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    assert_eq!(registry.store.blobs().unwrap(), []);
    for blob in [CONFIG, LAYER] {
        assert_eq!(registry.blob(blob).await, StatusCode::CREATED);
    }
    let pushed = registry.manifest("v1", &image).await;
    let digest = Digest::of(&image).to_string();
    assert_eq!((pushed.status().as_u16(), header(&pushed, "docker-content-digest")), (201, digest.clone()));
    let served = registry.send(Method::GET, path, None, "").await;
    assert_eq!(header(&served, "content-type"), OCI_MANIFEST);
    assert_eq!(served.bytes().await.unwrap(), image);
    // It goes, by its name or by what it is.
    assert_eq!(registry.manifest("v2", &image).await.status(), StatusCode::CREATED);
    assert_eq!(registry.send(Method::DELETE, path, None, "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(
        (registry.get(path).await.as_u16(), registry.get("/v2/a/b/manifests/v2").await.as_u16()),
        (404, 200)
    );
    let by_digest = format!("/v2/a/b/manifests/{digest}");
    assert_eq!(registry.send(Method::DELETE, &by_digest, None, "").await.status(), StatusCode::ACCEPTED);
    assert_eq!(code(registry.send(Method::DELETE, &by_digest, None, "").await).await.1, "MANIFEST_UNKNOWN");
    assert_eq!(registry.get("/v2/a/b/manifests/v2").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_however_large() {
    let registry = registry().await;
    for blob in [CONFIG, LAYER] {
        registry.blob(blob).await;
    }
    let image = manifest(CONFIG, &[LAYER], json!({}));
    let other = Digest::of(b"other").to_string();
    assert_eq!(code(registry.manifest(&other, &image).await).await.1, "DIGEST_INVALID");
    assert_eq!(code(registry.manifest("v1", b"{}").await).await.1, "MANIFEST_INVALID");
    let url = format!("http://{}/v2/a/b/manifests/v1", registry.address);
    let kind = registry.client.put(&url).header("content-type", OCI_INDEX).body(image.clone());
    assert_eq!(code(kind.send().await.unwrap()).await.1, "MANIFEST_INVALID");
    // Ten gigabytes: nobody waits for them, or has them in memory.
    let spaces = stream::repeat_with(|| Ok::<_, io::Error>(vec![b' '; 1 << 20])).take(10 << 10);
    let sent = registry.client.put(&url).body(Body::wrap_stream(spaces)).send().await;
    // Who still sends may see no more than that nobody listens.
    assert!(sent.is_err() || sent.is_ok_and(|sent| sent.status() == StatusCode::PAYLOAD_TOO_LARGE));
    assert_eq!(registry.get("/v2/a/b/manifests/v1").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_pushed_image_stays_and_one_that_lost_its_name_gives_way() {
    let registry = registry().await;
    let layers: Vec<Vec<u8>> = (0..3).map(|which| vec![which; 1500]).collect();
    registry.blob(CONFIG).await;
    for layer in &layers[..2] {
        assert_eq!(registry.blob(layer).await, StatusCode::CREATED);
        let image = manifest(CONFIG, &[layer], json!({}));
        assert_eq!(registry.manifest("v1", &image).await.status(), StatusCode::CREATED);
    }
    // There is no room for three layers, and nobody wants the first any more.
    assert_eq!(registry.blob(&layers[2]).await, StatusCode::CREATED);
    let there: Vec<bool> = layers.iter().map(|layer| registry.store.contains(&Digest::of(layer))).collect();
    assert_eq!(there, [false, true, true]);
    let image = manifest(CONFIG, &[&layers[2]], json!({}));
    assert_eq!(registry.manifest("v2", &image).await.status(), StatusCode::CREATED);
    // Now both are in use.
    let none = registry.blob(&layers[0]).await;
    assert_eq!((none, registry.unfinished()), (StatusCode::INSUFFICIENT_STORAGE, 0));
    assert!(registry.store.closure(&Digest::of(&image)).is_ok());
}

#[tokio::test]
async fn what_says_something_of_an_image_is_found_by_it() {
    let registry = registry().await;
    for blob in [CONFIG, LAYER] {
        registry.blob(blob).await;
    }
    let image = manifest(CONFIG, &[LAYER], json!({}));
    registry.manifest("v1", &image).await;
    let subject = json!({ "mediaType": OCI_MANIFEST, "digest": Digest::of(&image), "size": image.len() });
    let about = json!({ "subject": subject, "artifactType": "text/sbom", "annotations": { "a": "b" } });
    let sbom = manifest(CONFIG, &[LAYER], about);
    let pushed = registry.manifest(&Digest::of(&sbom).to_string(), &sbom).await;
    assert_eq!(
        (pushed.status().as_u16(), header(&pushed, "oci-subject")),
        (201, Digest::of(&image).to_string())
    );
    let path = format!("/v2/a/b/referrers/{}", Digest::of(&image));
    let listed: serde_json::Value = registry.send(Method::GET, &path, None, "").await.json().await.unwrap();
    let found = json!([{ "mediaType": OCI_MANIFEST, "digest": Digest::of(&sbom), "size": sbom.len(),
        "artifactType": "text/sbom", "annotations": { "a": "b" } }]);
    assert_eq!(listed["manifests"], found);
    let other = registry.send(Method::GET, &format!("{path}?artifactType=other"), None, "").await;
    assert_eq!(header(&other, "oci-filters-applied"), "artifactType");
    assert_eq!(other.json::<serde_json::Value>().await.unwrap()["manifests"], json!([]));
}

/// What our own client pushes is the image that it was, and is not sent twice.
#[tokio::test]
async fn our_own_client_pushes_what_is_missing_and_the_name_last() {
    let pushed = registry().await;
    let here = tempfile::tempdir().unwrap();
    let store = Store::open(here.path()).unwrap();
    let name: Reference = "mesh.internal/a/b:v1".parse().unwrap();
    let target = put_image(&store, "mesh.internal/a/b:v1", b"layer");
    let credentials = Credentials { user: "meshboot".to_owned(), password: "secret".to_owned() };
    let pusher = |place: &str| Pusher::new(place, pushed.client.clone(), credentials.clone()).unwrap();
    let place = format!("http://{}", pushed.address);
    for _ in 0..2 {
        pusher(&place).push(&store, &name, &()).await.unwrap();
        assert_eq!(pushed.store.resolve(&name).unwrap().unwrap().digest, target.digest);
        assert!(pushed.store.closure(&target.digest).is_ok());
    }
    let unknown: Reference = "mesh.internal/a/b:v2".parse().unwrap();
    let error = pusher(&place).push(&store, &unknown, &()).await.unwrap_err();
    assert!(matches!(error, PushError::Image(WholeError::Unknown(_))), "{error}");
    // There is no room for it.
    let large: Reference = "mesh.internal/a/large:v1".parse().unwrap();
    put_image(&store, "mesh.internal/a/large:v1", &[7; 5000]);
    let error = pusher(&place).push(&store, &large, &()).await.unwrap_err();
    assert!(matches!(error, PushError::Refused { .. }), "{error}");
    assert_eq!(pushed.store.resolve(&large).unwrap(), None);
    let error = pusher("http://[::1]:1").push(&store, &name, &()).await.unwrap_err();
    assert!(matches!(error, PushError::Transfer { .. }), "{error}");
    assert!(Pusher::new("mailto:x", pushed.client.clone(), credentials.clone()).is_err());
}
