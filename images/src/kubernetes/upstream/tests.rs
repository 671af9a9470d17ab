use std::{
    collections::BTreeMap,
    fs,
    net::Ipv6Addr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tempfile::TempDir;

use super::*;
use crate::store::Digest;

/// What is wrong with a file's transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Breaks off after so many bytes of each answer.
    Breaks(usize),
    /// Breaks off like that, and knows no ranges.
    BreaksWithoutRanges(usize),
    /// Sends nothing and breaks off.
    Mute,
    /// Says "busy" this often.
    Busy(u32),
    /// Is another file than its checksum says.
    Wrong,
    /// Is a login page.
    Page,
    /// Is a login page that calls itself a file.
    HiddenPage,
    /// Is not there.
    Absent,
    /// Ends early without saying so.
    Short,
}

#[derive(Debug, Default)]
struct Server {
    files: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<String, Fault>,
    asked: Vec<(String, Option<String>)>,
}

type Shared = Arc<Mutex<Server>>;

async fn answer(State(server): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let mut server = server.lock().unwrap();
    server.asked.push((path.clone(), range.clone()));
    let fault = server.faults.get(&path).copied();
    if fault == Some(Fault::Absent) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if matches!(fault, Some(Fault::Page | Fault::HiddenPage)) {
        let kind = if fault == Some(Fault::Page) { "text/html; charset=utf-8" } else { "text/plain" };
        return ([(header::CONTENT_TYPE, kind)], "<html>Welcome to our hotel").into_response();
    }
    if let Some(Fault::Busy(left)) = fault {
        let next = if left > 1 { Some(Fault::Busy(left - 1)) } else { None };
        server.faults.remove(&path);
        server.faults.extend(next.map(|next| (path, next)));
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let Some(bytes) = server.files.get(&path).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let ranges = !matches!(fault, Some(Fault::BreaksWithoutRanges(_)));
    let start = range.filter(|_| ranges).map_or(0, |range| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    if start > 0 && start >= bytes.len() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let rest = match fault {
        Some(Fault::Wrong) => vec![b'?'; bytes.len() - start],
        _ => bytes[start..].to_vec(),
    };
    let length = rest.len();
    let sent = match fault {
        Some(Fault::Breaks(count) | Fault::BreaksWithoutRanges(count)) => count.min(length),
        Some(Fault::Mute) => 0,
        Some(Fault::Short) => length / 2,
        _ => length,
    };
    let first = Bytes::from(rest[..sent].to_vec());
    let broken = sent < length && fault != Some(Fault::Short);
    let end = stream::unfold(broken, |broken| async move {
        // The first bytes have to be out before the connection breaks.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        broken.then(|| (Err(std::io::Error::other("unplugged")), false))
    });
    let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(first)]).chain(end));
    let mut response = body.into_response();
    if fault != Some(Fault::Short) {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    if start > 0 {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        response.headers_mut().insert(header::CONTENT_RANGE, value.parse().unwrap());
    }
    response
}

struct Bench {
    cache: TempDir,
    server: Shared,
    upstream: Upstream,
}

const VERSION: &str = "v1.30.1";

fn path_of(name: &str) -> String {
    format!("/release/{VERSION}/bin/linux/amd64/{name}")
}

fn content(name: &str) -> Vec<u8> {
    name.as_bytes().repeat(10_000)
}

async fn bench() -> Bench {
    let mut files = BTreeMap::new();
    files.insert("/release/stable.txt".to_owned(), VERSION.as_bytes().to_vec());
    for name in [KUBEADM, KUBELET, KUBECTL].into_iter().chain(ARCHIVES) {
        let bytes = content(name);
        files.insert(path_of(&format!("{name}.sha256")), Digest::of(&bytes).hex().into_bytes());
        files.insert(path_of(name), bytes);
    }
    let server = Arc::new(Mutex::new(Server { files, ..Server::default() }));
    let socket = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
    tokio::spawn(async move { axum::serve(socket, router).await });
    let cache = tempfile::tempdir().unwrap();
    let upstream = Upstream {
        base_url: format!("http://{address}/"),
        cache: cache.path().to_owned(),
        authorities: None,
    };
    Bench { cache, server, upstream }
}

impl Bench {
    fn fault(&self, name: &str, fault: Fault) {
        self.server.lock().unwrap().faults.insert(path_of(name), fault);
    }

    fn asked(&self, name: &str) -> Vec<Option<String>> {
        let path = path_of(name);
        let server = self.server.lock().unwrap();
        server.asked.iter().filter(|(asked, _)| *asked == path).map(|(_, range)| range.clone()).collect()
    }

    async fn fetch(&self) -> Result<Release, FetchError> {
        self.upstream.fetch(&VERSION.parse().expect("a version"), &|_| {}).await
    }

    fn cached(&self, name: &str) -> PathBuf {
        self.cache.path().join(VERSION).join("linux-amd64").join(name)
    }
}

#[tokio::test]
async fn a_release_is_fetched_once() {
    let bench = bench().await;
    assert_eq!(bench.upstream.latest().await.unwrap().to_string(), VERSION);
    let seen = Mutex::new(BTreeMap::new());
    let progress = |progress: Progress| {
        seen.lock().unwrap().insert(progress.file, (progress.done, progress.total));
    };
    let release = bench.upstream.fetch(&VERSION.parse().unwrap(), &progress).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 7);
    let size = content("kubelet").len() as u64;
    assert_eq!(seen.lock().unwrap()["kubelet"], (size, Some(size)));
    assert_eq!(fs::read(&release.kubelet).unwrap(), content("kubelet"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&release.kubeadm).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(release.archives.len(), 4);

    // The second time without the network, and a damaged file is seen.
    let asked = bench.server.lock().unwrap().asked.len();
    assert_eq!(bench.fetch().await.unwrap(), release);
    assert_eq!(bench.server.lock().unwrap().asked.len(), asked);
    fs::write(&release.kubelet, "damaged").unwrap();
    bench.fetch().await.unwrap();
    assert_eq!(fs::read(&release.kubelet).unwrap(), content("kubelet"));
    assert_eq!(bench.asked("kubelet").len(), 2);
}

#[tokio::test]
async fn a_kubelet_comes_alone_and_is_the_one_of_its_release() {
    let bench = bench().await;
    bench.fault("kubelet", Fault::Breaks(30_000));
    let version = VERSION.parse().unwrap();
    let kubelet = bench.upstream.fetch_kubelet(&version, &|_| {}).await.unwrap();
    assert_eq!(fs::read(&kubelet).unwrap(), content("kubelet"));
    assert!(bench.asked("kubelet")[1..].iter().all(Option::is_some), "it was resumed");
    assert!(bench.asked("kubeadm").is_empty() && bench.asked("kube-proxy.tar").is_empty());
    // The whole release needs it no more, and it needs the network no more.
    let asked = bench.asked("kubelet").len();
    assert_eq!(bench.fetch().await.unwrap().kubelet, kubelet);
    assert_eq!(bench.upstream.fetch_kubelet(&version, &|_| {}).await.unwrap(), kubelet);
    assert_eq!(bench.asked("kubelet").len(), asked);

    let error = bench.upstream.fetch_kubelet(&"v9.9.9".parse().unwrap(), &|_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::UnknownVersion { .. }), "{error}");
    fs::remove_file(kubelet).unwrap();
    bench.fault("kubelet", Fault::Wrong);
    let error = bench.upstream.fetch_kubelet(&version, &|_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::WrongChecksum { .. }), "{error}");
}

#[tokio::test]
async fn a_broken_transfer_is_resumed() {
    let bench = bench().await;
    bench.fault("kubelet", Fault::Breaks(30_000));
    bench.fetch().await.unwrap();
    assert_eq!(fs::read(bench.cached("kubelet")).unwrap(), content("kubelet"));
    let asked = bench.asked("kubelet");
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[0], None);
    assert!(asked[1..].iter().all(Option::is_some), "{asked:?}");
}

#[tokio::test]
async fn what_an_earlier_process_left_is_resumed() {
    let bench = bench().await;
    let part = bench.cached("kubelet.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, &content("kubelet")[..50_000]).unwrap();
    bench.fetch().await.unwrap();
    assert_eq!(bench.asked("kubelet"), [Some("bytes=50000-".to_owned())]);

    // Another file's beginning, or more than there is, or all of it: fetched anew, once.
    for left in [vec![b'!'; 50_000], vec![b'!'; 5_000_000], content("kubelet")] {
        fs::remove_file(bench.cached("kubelet")).unwrap();
        fs::write(&part, left).unwrap();
        bench.fetch().await.unwrap();
        assert_eq!(fs::read(bench.cached("kubelet")).unwrap(), content("kubelet"));
        assert!(!part.exists());
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_borne_with_until_it_is_hopeless() {
    let bench = bench().await;
    bench.fault("kubectl", Fault::BreaksWithoutRanges(30_000));
    let error = bench.fetch().await.unwrap_err();
    let FetchError::Transfer { url, done, total, .. } = &error else { panic!("{error}") };
    assert!(url.ends_with("/kubectl"));
    assert_eq!((*done, *total), (30_000, Some(content("kubectl").len() as u64)));
    assert!(error.to_string().contains("after 30000 of 70000 bytes"), "{error}");
    assert!(!bench.cached("kubectl").exists());
}

#[tokio::test]
async fn a_wrong_file_is_never_kept() {
    for (fault, whole) in [(Fault::Wrong, true), (Fault::Short, false)] {
        let bench = bench().await;
        bench.fault("kube-proxy.tar", fault);
        let error = bench.fetch().await.unwrap_err();
        let FetchError::WrongChecksum { url, expected, size, .. } = &error else { panic!("{error}") };
        assert!(url.ends_with("/kube-proxy.tar"));
        assert_eq!(*expected, Digest::of(content("kube-proxy.tar")));
        assert_eq!(*size == content("kube-proxy.tar").len() as u64, whole);
        assert!(!bench.cached("kube-proxy.tar").exists());
        // The next attempt begins anew.
        bench.server.lock().unwrap().faults.clear();
        bench.fetch().await.unwrap();
        assert_eq!(bench.asked("kube-proxy.tar").last().unwrap(), &None);
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let bench = bench().await;
    let error = bench.upstream.fetch(&"v9.9.9".parse().unwrap(), &|_| {}).await.unwrap_err();
    assert!(matches!(error, FetchError::UnknownVersion { .. }), "{error}");
    assert!(error.to_string().contains("v9.9.9"), "{error}");

    type Check = fn(&FetchError) -> bool;
    let cases: [(&str, Fault, Check); 6] = [
        ("kubelet", Fault::Absent, |e| matches!(e, FetchError::NotFound { .. })),
        ("kubelet", Fault::Page, |e| matches!(e, FetchError::Portal { .. })),
        ("kubelet.sha256", Fault::Page, |e| matches!(e, FetchError::Portal { .. })),
        (
            "kubelet.sha256",
            Fault::HiddenPage,
            |e| matches!(e, FetchError::NotAChecksum { start, .. } if start.starts_with("<html>")),
        ),
        ("kubelet", Fault::HiddenPage, |e| matches!(e, FetchError::WrongChecksum { .. })),
        ("kubelet", Fault::Mute, |e| matches!(e, FetchError::Transfer { done: 0, attempts: 5, .. })),
    ];
    for (name, fault, check) in cases {
        let bench = self::bench().await;
        bench.fault(name, fault);
        let error = bench.fetch().await.unwrap_err();
        assert!(check(&error), "{name} {fault:?}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    bench.server.lock().unwrap().files.insert("/release/stable.txt".to_owned(), b"<html>".to_vec());
    let error = bench.upstream.latest().await.unwrap_err();
    assert!(matches!(error, FetchError::NotAVersion { .. }), "{error}");
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let bench = bench().await;
    bench.fault("kubelet", Fault::Busy(2));
    bench.fault("kubectl.sha256", Fault::Busy(2));
    bench.fetch().await.unwrap();
    assert_eq!(bench.asked("kubelet").len(), 3);
}

#[tokio::test]
async fn a_server_that_is_away_is_said_to_be() {
    let mut bench = bench().await;
    bench.upstream.base_url = "http://[::1]:1".to_owned();
    let error = bench.upstream.latest().await.unwrap_err();
    assert!(matches!(error, FetchError::Transfer { .. }), "{error}");
}

#[tokio::test]
async fn two_processes_do_not_fetch_one_file() {
    let bench = bench().await;
    let part = bench.cached("kubelet.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    let held = fs::File::create(&part).unwrap();
    held.lock().unwrap();
    let error = bench.fetch().await.unwrap_err();
    assert!(matches!(&error, FetchError::Busy(path) if *path == part), "{error}");
}

#[tokio::test]
async fn authorities_are_checked() {
    let mut bench = bench().await;
    for (bytes, message) in [(None, "reading"), (Some(""), "no PEM certificate")] {
        let path = bench.cache.path().join("ca.pem");
        let _ = fs::remove_file(&path);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        bench.upstream.authorities = Some(path);
        let error = bench.upstream.latest().await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn versions_are_strict() {
    for text in ["v1.20.2", "v1.35.0-rc.1", "v1.0.0-alpha.1.2-x"] {
        assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
    }
    for text in [
        "1.20.2",
        "v1.20",
        "v1.20.2.3",
        "v1.20.x",
        "v01.2.3",
        "v1.2.3-",
        "v1.2.3/..",
        "v1.2.3-../..",
        "v1.2.+3",
        "v",
        "",
    ] {
        assert!(text.parse::<Version>().is_err(), "{text}");
    }
    assert!("v1.9.0".parse::<Version>().unwrap() < "v1.10.0".parse::<Version>().unwrap());
}
