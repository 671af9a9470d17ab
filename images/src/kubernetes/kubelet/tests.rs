use std::{collections::BTreeMap, fs, net::Ipv6Addr};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tempfile::TempDir;

use super::*;
use crate::{store::Digest, unpack};

const NAME: &str = "mesh.internal/meshboot/kubelet:v1.30.4";

/// A server of files, and a cache.
struct Bench {
    cache: TempDir,
    server: String,
}

async fn answer(State(files): State<BTreeMap<String, String>>, request: Request) -> Response {
    let file = files.get(request.uri().path()).cloned();
    file.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}

/// A program that says of itself that it is this kubelet.
fn program(version: &str) -> String {
    format!("#!/bin/sh\n[ \"$*\" = --version ] && echo Kubernetes {version}\n")
}

/// One that has these kubelets, each with what it says of itself.
async fn bench(kubelets: &[(&str, &str)]) -> Bench {
    let mut files = BTreeMap::new();
    for (version, said) in kubelets {
        let path = format!("/release/{version}/bin/linux/amd64/kubelet");
        files.insert(format!("{path}.sha256"), Digest::of(program(said).as_bytes()).hex());
        files.insert(path, program(said));
    }
    let socket = tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let server = format!("http://{}", socket.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(files);
    tokio::spawn(async move { axum::serve(socket, router).await });
    Bench { cache: tempfile::tempdir().unwrap(), server }
}

impl Bench {
    async fn provide(&self, version: &str) -> Result<Descriptor, ProvideKubeletError> {
        let version = version.parse().unwrap();
        provide(self.cache.path(), &self.server, &version, &NAME.parse().unwrap(), &()).await
    }

    fn store(&self) -> Store {
        Store::open(self.cache.path().join("store")).unwrap()
    }
}

#[tokio::test]
async fn a_kubelet_becomes_an_image_and_is_fetched_once() {
    let mut bench = bench(&[("v1.30.4", "v1.30.4")]).await;
    let target = bench.provide("v1.30.4").await.unwrap();
    let store = bench.store();
    assert_eq!(store.resolve(&NAME.parse().unwrap()).unwrap().unwrap().digest, target.digest);
    let mut taken = Vec::new();
    unpack::file(&store, &target.digest, PROGRAM, &mut taken).unwrap();
    assert_eq!(String::from_utf8(taken).unwrap(), program("v1.30.4"));
    // The same program is the same image on any computer, and the second time nobody is asked.
    bench.server = "http://[::1]:1".to_owned();
    assert_eq!(bench.provide("v1.30.4").await.unwrap().digest, target.digest);
    let other = self::bench(&[("v1.30.4", "v1.30.4")]).await;
    assert_eq!(other.provide("v1.30.4").await.unwrap().digest, target.digest);
}

#[tokio::test]
async fn a_kubelet_that_says_that_it_is_another_one_is_refused() {
    let bench = bench(&[("v1.30.4", "v1.30.5"), ("v1.30.6", "nothing")]).await;
    let error = bench.provide("v1.30.4").await.unwrap_err();
    assert!(matches!(error, ProvideKubeletError::Other { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("is the kubelet v1.30.5, and not v1.30.4"), "{said}");
    let error = bench.provide("v1.30.6").await.unwrap_err();
    assert!(matches!(error, ProvideKubeletError::Ask(_)), "{error}");
    let error = bench.provide("v1.30.7").await.unwrap_err();
    assert_eq!(error.to_string(), "fetching the kubelet v1.30.7");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("has no Kubernetes v1.30.7"));
    assert_eq!(bench.store().resolve(&NAME.parse().unwrap()).unwrap(), None, "nothing has the name");
}

#[tokio::test]
async fn what_the_disk_has_damaged_is_made_again() {
    let bench = bench(&[("v1.30.4", "v1.30.4")]).await;
    let target = bench.provide("v1.30.4").await.unwrap();
    let store = bench.store();
    let (digest, ..) =
        store.blobs().unwrap().into_iter().find(|(digest, ..)| *digest != target.digest).unwrap();
    fs::remove_file(store.blob(&digest).unwrap().unwrap().path).unwrap();
    assert_eq!(bench.provide("v1.30.4").await.unwrap().digest, target.digest);
    assert!(store.closure(&target.digest).is_ok());
}
