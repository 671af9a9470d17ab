//! A registry that sends its clients to a service for tokens, as most of those on the Internet do: Debian's
//! `docker-registry`, and a service that gives short-lived ones for one repository to whoever it knows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SigningKey as _};
use serde_json::{Value, json};

use super::pull::{Elsewhere, Mirror, PASSWORD, USER};
use super::*;

const SERVICE: &str = "elsewhere";
/// Tokens live for so long, in seconds: the registry refuses less than a minute's worth of a clock's error.
const LIFE: u64 = 60;

/// Signs tokens. It is cloned for nobody: one thread has it.
struct Issuer {
    key: KeyPair,
    certificate: Vec<u8>,
    pem: String,
}

// === impl Issuer ===

impl Issuer {
    fn new() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        Self { key, pem: certificate.pem(), certificate: certificate.der().to_vec() }
    }

    /// A token [RFC 7519] that opens what the scope names, `repository:<name>:<actions>`.
    fn token(&self, scope: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let parts: Vec<&str> = scope.split(':').collect();
        let [kind, name, actions] = parts[..] else { panic!("{scope}") };
        let actions: Vec<&str> = actions.split(',').collect();
        let header =
            json!({ "typ": "JWT", "alg": "RS256", "x5c": [BASE64_STANDARD.encode(&self.certificate)] });
        let claims = json!({ "iss": SERVICE, "aud": SERVICE, "sub": USER, "jti": "1", "iat": now, "nbf": now,
            "exp": now + LIFE, "access": [{ "type": kind, "name": name, "actions": actions }] });
        let encode = |part: &Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string());
        let text = format!("{}.{}", encode(&header), encode(&claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()).unwrap());
        format!("{text}.{signature}")
    }

    /// Answers one client, and tells for which scope it asked.
    fn answer(&self, mut stream: TcpStream) -> Option<String> {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let request = lines.next()?.ok()?;
        let expected = format!("basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let known = head.iter().any(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_default();
            name.eq_ignore_ascii_case("authorization")
                && value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "))
                && value.get(6..) == expected.get(6..)
        });
        let query = request.split(['?', ' ']).nth(2).unwrap_or_default();
        let scope = query.split('&').find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let (status, body) = match known && !scope.is_empty() {
            true => ("200 OK", json!({ "token": self.token(&scope), "expires_in": LIFE })),
            false => {
                ("401 Unauthorized", json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "who?" }] }))
            }
        };
        let body = body.to_string();
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).ok()?;
        (status == "200 OK").then_some(scope)
    }
}

#[test]
fn tokens_are_fetched_for_each_repository_and_by_those_who_may() {
    let issuer = Issuer::new();
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let realm = format!("http://{}/token", service.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, &issuer.pem).unwrap();
    let auth = format!(
        "token: {{ realm: \"{realm}\", service: {SERVICE}, issuer: {SERVICE}, rootcertbundle: {} }}",
        roots.display()
    );
    let (gave, scopes) = std::sync::mpsc::channel();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in service.incoming().flatten() {
            issuer.answer(stream).into_iter().for_each(|scope| drop(gave.send(scope)));
        }
    });
    let served = Served::start();
    let elsewhere = Elsewhere::with(dir, &auth);
    for name in ["a/busybox:v1", "b/busybox:v1"] {
        elsewhere.push(&served, "library/busybox:latest", name);
    }
    let pushed: Vec<String> = scopes.try_iter().collect();
    assert!(pushed.iter().any(|scope| scope.contains("push")), "{pushed:?}");

    let mirror = Mirror::start(&served.path("mirrored"), &elsewhere, PASSWORD);
    let digest = served.images[0].1.digest;
    for name in ["a/busybox:v1", "b/busybox:v1", "a/busybox:v1"] {
        let inspected = mirror.inspect(name);
        assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
        assert_eq!(Digest::of(&inspected.stdout), digest);
    }
    // One for each repository, and no right more than is needed.
    let pulled: Vec<String> = scopes.try_iter().collect();
    assert_eq!(pulled, ["repository:a/busybox:pull", "repository:b/busybox:pull"]);

    let stranger = Mirror::start(&served.path("another"), &elsewhere, "wrong");
    let refused = stranger.inspect("a/busybox:v1");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("credentials") && !said.contains("wrong"), "{said}");
    assert_eq!(scopes.try_iter().count(), 0);
}
