//! A mesh of IPv6 alone, and registries that have IPv4 alone: the seed reaches them, most of them by a proxy.

use std::net::TcpStream;

use bootstrap::pki::boot;
use serde_json::json;
use tests::debian::unpacked;
use tests::netns::Namespace;

use super::line::{Machine, Seed, line, name};
use super::pull::{Elsewhere, PASSWORD, USER};
use super::*;

const SEED: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.2";
/// Reached without the proxy.
const NEAR: &str = "192.0.2.3";
const PROXY_PORT: u16 = 8888;

/// The proxy, as it may stand between a site and the Internet.
struct Proxy {
    child: Child,
    log: PathBuf,
}

impl Proxy {
    fn start(outside: &Namespace, folder: &Path) -> Self {
        let (config, log) = (folder.join("tinyproxy.conf"), folder.join("tinyproxy.log"));
        let text = format!(
            "Port {PROXY_PORT}\nListen {OUTSIDE}\nTimeout 60\nMaxClients 20\nLogFile \"{}\"\nLogLevel Connect\n\
             Allow {SEED}\nConnectPort 443\n",
            log.display()
        );
        fs::write(&config, text).unwrap();
        let program = unpacked("bookworm", "tinyproxy-bin").unwrap().join("usr/bin/tinyproxy");
        let mut command = Command::new(program);
        command
            .args(["-d", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = outside.network().unwrap().enter(move || command.spawn()).unwrap().unwrap();
        Self { child, log }
    }

    /// How many requests it has passed on to this address.
    fn requests(&self, address: &SocketAddr) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(&format!("http://{address}/"))).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The world behind the seed's uplink: IPv4 only.
fn outside(seed: &Namespace) -> Namespace {
    let outside = Namespace::start("line-outside").unwrap();
    let pid = outside.pid().to_string();
    let ends = ["link", "add", "uplink", "type", "veth", "peer", "name", "seed", "netns", &pid];
    seed.network().unwrap().ip(&ends).unwrap();
    for (namespace, port, address) in
        [(seed, "uplink", SEED), (&outside, "seed", OUTSIDE), (&outside, "seed", NEAR)]
    {
        namespace.run("sysctl", &["-q", "-w", &format!("net.ipv6.conf.{port}.disable_ipv6=1")]).unwrap();
        namespace.run("ip", &["addr", "add", &format!("{address}/24"), "dev", port]).unwrap();
        namespace.run("ip", &["link", "set", port, "up"]).unwrap();
    }
    outside
}

#[test]
fn nodes_without_ipv4_pull_from_registries_without_ipv6_by_way_of_a_proxy() {
    let served = Served::start();
    let mut registries = [Elsewhere::start(), Elsewhere::start()];
    for registry in &registries {
        registry.push(&served, "library/busybox:latest", "a/busybox:v1");
    }
    let mut namespaces = line("proxy");
    namespaces.truncate(2);
    let outside = outside(&namespaces[0]);
    let proxy = Proxy::start(&outside, served.dir.path());
    for (address, registry) in [OUTSIDE, NEAR].iter().zip(&mut registries) {
        registry.move_to(&outside, &format!("{address}:5001"));
    }
    let [far, near] = &registries;
    let reached = [far.address, near.address, SocketAddr::new(far.address.ip(), PROXY_PORT)];
    wait_for("the world outside", || {
        let all = move || reached.iter().all(|address| TcpStream::connect(address).is_ok());
        namespaces[0].network().unwrap().enter(all).unwrap()
    });

    let credentials = json!({ "user": USER, "password": PASSWORD });
    let mirrors = json!({
        "ask": "mirrored",
        "room": 1 << 30,
        "revalidate": null,
        "endpoints": { "docker.io": format!("http://{}", far.address), "quay.io": format!("http://{}", near.address) },
        "credentials": { "docker.io": credentials, "quay.io": credentials },
        "proxy": format!("http://{OUTSIDE}:{PROXY_PORT}"),
        "no_proxy": [NEAR],
        "authorities": null,
    });
    let authority = boot::authority(std::time::SystemTime::now()).unwrap();
    let settings = json!({ "excluded": [], "mirrors": mirrors });
    let seed = Seed { authority_pem: authority.certificate_pem, settings };
    let machines = (0..).zip(namespaces);
    let start = |(number, namespace)| Machine::start(namespace, number, served.path(&name(number)), &seed);
    let machines: Vec<Machine> = machines.map(start).collect();
    let node = &machines[1];
    assert_eq!(node.namespace.run("ip", &["-4", "-o", "addr", "show", "scope", "global"]).unwrap(), "");

    let digest = served.images[0].1.digest.to_string();
    assert_eq!(node.pull("far", "docker.io/a/busybox:v1"), digest);
    let passed = proxy.requests(&far.address);
    assert!(passed >= 3, "a manifest and two blobs: {passed}");
    assert_eq!(node.pull("near", "quay.io/a/busybox:v1"), digest);
    assert!(near.requests("/manifests/") > 0);
    assert_eq!((proxy.requests(&near.address), proxy.requests(&far.address)), (0, passed));
}
