use std::{fs, net::Ipv6Addr};

use proptest::prelude::*;
use reqwest::{Client, Method, Response, StatusCode};
use tempfile::TempDir;

use super::{
    range::Wanted,
    request::{ManifestRef, Wish, page},
    *,
};
use crate::store::{Descriptor, Digest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Store};

mod push;

struct Running {
    _dir: TempDir,
    store: Store,
    client: Client,
    address: SocketAddr,
    any: SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    manifest: Descriptor,
    layer: Digest,
}

const LAYER: &[u8] = b"0123456789";

fn running() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let config = store.put(b"{}").unwrap();
    let layer = store.put(LAYER).unwrap();
    // With odd spaces: what is served are the bytes that came, not their meaning.
    let bytes = format!(
        r#"{{ "schemaVersion":2,  "mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"{OCI_CONFIG}","digest":"{config}","size":2}},
        "layers":[{{"mediaType":"{OCI_LAYER}","digest":"{layer}","size":10}}]}}"#
    );
    let manifest = Descriptor::new(OCI_MANIFEST, store.put(bytes.as_bytes()).unwrap(), bytes.len() as u64);
    for name in ["busybox", "busybox:1.36", "a/manifests/b:x", "registry.k8s.io/pause:3.2"] {
        store.set_ref(&name.parse().unwrap(), &manifest).unwrap();
    }
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let listeners = vec![
        Listener { address, registry: Some("docker.io".parse().unwrap()), guard: None },
        Listener { address, registry: None, guard: None },
    ];
    let bound = bind(listeners).unwrap();
    let [address, any] = bound.addresses().try_into().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(bound.serve(Puller::offline(store.clone()), stop.clone().cancelled_owned()));
    // For its TLS provider.
    crate::client::client(None).unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    Running { _dir: dir, store, client, address, any, stop, task, manifest, layer }
}

impl Running {
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[]).await
    }
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: serde_json::Value = response.json().await.unwrap();
    assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn manifests_are_served_as_they_are() {
    let running = running();
    let by_digest = format!("/v2/library/busybox/manifests/{}", running.manifest.digest);
    for path in ["/v2/library/busybox/manifests/latest", &by_digest, "/v2/a/manifests/b/manifests/x"] {
        for method in [Method::GET, Method::HEAD] {
            let response = running.ask(method.clone(), path, &[]).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(header(&response, "docker-content-digest"), running.manifest.digest.to_string());
            assert_eq!(header(&response, "content-type"), OCI_MANIFEST);
            assert_eq!(header(&response, "content-length"), running.manifest.size.to_string());
            let bytes = response.bytes().await.unwrap();
            if method == Method::GET {
                assert_eq!(Digest::of(&bytes), running.manifest.digest);
            } else {
                assert!(bytes.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn blobs_are_served_whole_and_in_parts() {
    let running = running();
    let path = format!("/v2/library/busybox/blobs/{}", running.layer);
    let head = running.ask(Method::HEAD, &path, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, "10".to_owned()));
    assert_eq!(header(&head, "accept-ranges"), "bytes");
    let etag = header(&head, "etag");
    let escaped = path.replace(':', "%3A");
    for (path, headers, status, range, body) in [
        (&path, vec![], 200, "", "0123456789"),
        (&escaped, vec![], 200, "", "0123456789"),
        (&path, vec![("range", "bytes=2-4")], 206, "bytes 2-4/10", "234"),
        (&path, vec![("range", "bytes=7-")], 206, "bytes 7-9/10", "789"),
        (&path, vec![("range", "bytes=-3")], 206, "bytes 7-9/10", "789"),
        (&path, vec![("range", "bytes=0-99")], 206, "bytes 0-9/10", "0123456789"),
        (&path, vec![("range", "bytes=1-2,4-5")], 200, "", "0123456789"),
        (&path, vec![("range", "bytes=2-4"), ("if-range", &etag)], 206, "bytes 2-4/10", "234"),
        (&path, vec![("range", "bytes=2-4"), ("if-range", "\"other\"")], 200, "", "0123456789"),
    ] {
        let response = running.ask(Method::GET, path, &headers).await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
        assert_eq!(header(&response, "content-range"), range, "{headers:?}");
        assert_eq!(response.text().await.unwrap(), body, "{headers:?}");
    }
    let response = running.ask(Method::GET, &path, &[("range", "bytes=10-")]).await;
    assert_eq!(header(&response, "content-range"), "bytes */10");
    assert_eq!(code(response).await, (416, "RANGE_INVALID".to_owned()));
}

#[tokio::test]
async fn refusals_say_why() {
    let running = running();
    let absent = Digest::of("absent");
    for (path, expected) in [
        ("/v2/library/busybox/manifests/9".to_owned(), (404, "MANIFEST_UNKNOWN")),
        (format!("/v2/library/busybox/manifests/{absent}"), (404, "MANIFEST_UNKNOWN")),
        // A blob that is no manifest.
        (format!("/v2/library/busybox/manifests/{}", running.layer), (404, "MANIFEST_UNKNOWN")),
        (format!("/v2/library/other/manifests/{}", running.manifest.digest), (404, "NAME_UNKNOWN")),
        ("/v2/library/other/manifests/latest".to_owned(), (404, "MANIFEST_UNKNOWN")),
        // Another registry's.
        ("/v2/pause/manifests/3.2".to_owned(), (404, "MANIFEST_UNKNOWN")),
        (format!("/v2/library/busybox/blobs/{absent}"), (404, "BLOB_UNKNOWN")),
        (format!("/v2/other/blobs/{}", running.layer), (404, "NAME_UNKNOWN")),
        ("/v2/library/busybox/blobs/sha512:00".to_owned(), (400, "DIGEST_INVALID")),
        ("/v2/library/busybox/manifests/sha256:00".to_owned(), (400, "DIGEST_INVALID")),
        ("/v2/library/busybox/manifests/-x".to_owned(), (400, "TAG_INVALID")),
        ("/v2/Library/busybox/manifests/x".to_owned(), (400, "NAME_INVALID")),
        ("/v2/library%2F..%2F..%2Fx/manifests/x".to_owned(), (400, "NAME_INVALID")),
        ("/v2/library/other/tags/list".to_owned(), (404, "NAME_UNKNOWN")),
        ("/v2/library/busybox/tags/list?n=x".to_owned(), (400, "PAGINATION_NUMBER_INVALID")),
        ("/v2/library/busybox/manifests/latest?ns=quay.io".to_owned(), (404, "MANIFEST_UNKNOWN")),
        ("/v2/library/busybox/manifests/latest?ns=../x".to_owned(), (400, "NAME_INVALID")),
        ("/v2/what".to_owned(), (404, "UNSUPPORTED")),
        ("/".to_owned(), (404, "UNSUPPORTED")),
    ] {
        let answer = code(running.get(&path).await).await;
        assert_eq!(answer, (expected.0, expected.1.to_owned()), "{path}");
    }
    for (method, path) in [
        (Method::POST, "/v2/library/busybox/blobs/uploads/"),
        (Method::PUT, "/v2/library/busybox/manifests/latest"),
        (Method::DELETE, "/v2/library/busybox/manifests/latest"),
        (Method::POST, "/v2/"),
    ] {
        let response = running.ask(method, path, &[]).await;
        assert_eq!(header(&response, "allow"), "GET, HEAD");
        assert_eq!(code(response).await, (405, "UNSUPPORTED".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn the_namespace_chooses_the_registry() {
    let running = running();
    for (path, status) in [
        ("/v2/pause/manifests/3.2?ns=registry.k8s.io", 200),
        ("/v2/pause/manifests/3.2?ns=k8s.gcr.io", 200),
        ("/v2/library/busybox/manifests/latest?ns=docker.io", 200),
        ("/v2/library/busybox/manifests/latest?ns=quay.io", 404),
        ("/v2/library/busybox/manifests/latest", 404),
    ] {
        let url = format!("http://{}{path}", running.any);
        let response = running.client.get(url).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    // The mirror of one registry knows the others, too.
    for (ns, name) in
        [("docker.io", "library/busybox/manifests/latest"), ("registry.k8s.io", "pause/manifests/3.2")]
    {
        let response = running.get(&format!("/v2/{name}?ns={ns}")).await;
        assert_eq!(header(&response, "oci-namespace"), ns);
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn listings_come_in_pages() {
    let running = running();
    let response = running.get("/v2/library/busybox/tags/list?n=1").await;
    assert_eq!(header(&response, "link"), "</v2/library/busybox/tags/list?n=1&last=1.36>; rel=\"next\"");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body, serde_json::json!({ "name": "library/busybox", "tags": ["1.36"] }));
    let response = running.get("/v2/library/busybox/tags/list?n=1&last=1.36").await;
    assert_eq!(header(&response, "link"), "");
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["tags"], serde_json::json!(["latest"]));
    let body: serde_json::Value = running.get("/v2/_catalog").await.json().await.unwrap();
    assert_eq!(body["repositories"], serde_json::json!(["a/manifests/b", "library/busybox"]));
    let referrers = format!("/v2/library/busybox/referrers/{}", running.manifest.digest);
    let response = running.get(&referrers).await;
    assert_eq!(header(&response, "content-type"), OCI_INDEX);
    let body: serde_json::Value = response.json().await.unwrap();
    assert_eq!(body["manifests"], serde_json::json!([]));
}

#[tokio::test]
async fn a_probe_tells_a_registry_from_others() {
    let running = running();
    let limit = Duration::from_secs(5);
    probe(running.address, limit).await.unwrap();
    running.stop.cancel();
    running.task.await.unwrap();
    assert!(matches!(probe(running.address, limit).await, Err(ProbeError::Io { .. })));

    let mute = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = mute.local_addr().unwrap();
    let error = probe(address, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error}");
    let other = tokio::spawn(async move {
        // The first connection is the one that timed out.
        for _ in 0..2 {
            let (stream, _) = mute.accept().await.unwrap();
            let _ = stream.try_write(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        }
    });
    let error = probe(address, limit).await.unwrap_err();
    assert!(matches!(&error, ProbeError::NoRegistry { status, .. } if status.contains("503")), "{error}");
    other.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_transfers_end_and_takes_no_more() {
    let running = running();
    let big = vec![7; 64 * 1024 * 1024];
    let digest = running.store.put(&big).unwrap();
    let path = format!("/v2/library/busybox/blobs/{digest}");
    let response = running.get(&path).await;
    running.stop.cancel();
    let bytes = response.bytes().await.unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    timeout(DRAIN_TIMEOUT, running.task).await.unwrap().unwrap();
    assert!(running.client.get(format!("http://{}/v2/", running.address)).send().await.is_err());
}

#[tokio::test]
async fn two_cannot_listen_at_one_address() {
    let running = running();
    let listener = Listener { address: running.address, registry: None, guard: None };
    let error = bind(vec![listener]).unwrap_err();
    assert_eq!(error.address, running.address);
}

#[tokio::test]
async fn an_address_may_come_later() {
    // Of the documentation prefix: no machine has it.
    let address = "[2001:db8:ffff::1]:0".parse().unwrap();
    let bound = bind(vec![Listener { address, registry: None, guard: None }]).unwrap();
    assert_eq!(bound.addresses()[0].ip(), address.ip());
}

#[tokio::test]
async fn a_tag_whose_manifest_is_gone_is_unknown() {
    let running = running();
    fs::remove_file(running._dir.path().join("blobs/sha256").join(running.manifest.digest.hex())).unwrap();
    let answer = code(running.get("/v2/library/busybox/manifests/latest").await).await;
    assert_eq!(answer, (404, "MANIFEST_UNKNOWN".to_owned()));
}

#[test]
fn ranges_are_read_as_http_says() {
    for (header, size, wanted) in [
        ("bytes=0-0", 10, Wanted::Part(0..=0)),
        ("bytes=0-", 10, Wanted::Part(0..=9)),
        ("bytes = 3 - 4 ", 10, Wanted::Part(3..=4)),
        ("bytes=5-99999999999999999999999", 10, Wanted::Part(5..=9)),
        ("bytes=99999999999999999999999-", 10, Wanted::Unsatisfiable),
        ("bytes=-0", 10, Wanted::Unsatisfiable),
        ("bytes=-20", 10, Wanted::Part(0..=9)),
        ("bytes=0-", 0, Wanted::Unsatisfiable),
        ("bytes=-1", 0, Wanted::Unsatisfiable),
        ("bytes=4-3", 10, Wanted::Whole),
        ("bytes=-", 10, Wanted::Whole),
        ("bytes=+1-2", 10, Wanted::Whole),
        ("bytes=a-b", 10, Wanted::Whole),
        ("lines=0-1", 10, Wanted::Whole),
        ("bytes", 10, Wanted::Whole),
        ("", 10, Wanted::Whole),
    ] {
        assert_eq!(range::parse(header, size), wanted, "{header} of {size}");
    }
}

proptest! {
    #[test]
    fn no_range_leads_out_of_a_blob(header in "bytes=[0-9]{0,21}-[0-9]{0,21}|\\PC{0,30}", size: u64) {
        if let Wanted::Part(part) = range::parse(&header, size) {
            prop_assert!(part.start() <= part.end() && *part.end() < size);
        }
    }

    #[test]
    fn paths_are_read_from_their_end(
        name in "[a-z0-9]{1,8}(/(manifests|blobs|tags|list|[a-z0-9]{1,8})){0,4}",
        tag in "[a-z0-9_][a-zA-Z0-9_.\\-]{0,20}",
    ) {
        let wish = Wish::parse(&format!("{name}/manifests/{tag}")).unwrap();
        prop_assert_eq!(wish, Wish::Manifest(name.parse().unwrap(), ManifestRef::Tag(tag.parse().unwrap())));
        let digest = Digest::of(&tag);
        let wish = Wish::parse(&format!("{name}/blobs/{digest}")).unwrap();
        prop_assert_eq!(wish, Wish::Blob(name.parse().unwrap(), digest));
        let wish = Wish::parse(&format!("{name}/tags/list")).unwrap();
        prop_assert_eq!(wish, Wish::Tags(name.parse().unwrap()));
    }

    #[test]
    fn no_path_panics(path in "\\PC{0,60}") {
        let _ = Wish::parse(&path);
    }

    /// Page by page one sees everything once.
    #[test]
    fn pages_cover_all(names in prop::collection::btree_set("[a-z]{1,4}", 0..20), n in 1_usize..7) {
        let all = names.into_iter().collect::<Vec<_>>();
        let mut seen = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let (names, more) = page(&all, Some(&n.to_string()), last.as_deref()).unwrap();
            seen.extend_from_slice(names);
            last = names.last().cloned();
            if !more {
                break;
            }
        }
        prop_assert_eq!(seen, all);
    }
}
