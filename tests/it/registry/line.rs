//! Four machines in a line: each has the real service, its own mirrors, and a cable to the next one. Behind the first is
//! a registry that nobody else reaches.

use std::net::Ipv6Addr;

use bootstrap::pki::boot;
use mesh::{AddressPlan, Mac};
use serde_json::json;
use tests::netns::Namespace;

use super::pull::{Elsewhere, PASSWORD, USER};
use super::*;
use crate::cli::binary;
use crate::cli::explain::settings;

const IMAGE: &str = "docker.io/library/busybox:latest";
pub(super) const MACHINES: u8 = 4;
/// The status page, with the counters.
const STATUS_PORT: u16 = 8047;

/// What the first machine is told besides.
pub(super) struct Seed {
    pub(super) authority_pem: String,
    pub(super) settings: serde_json::Value,
}

pub(super) struct Machine {
    pub(super) namespace: Namespace,
    pub(super) folder: PathBuf,
    gateway: Child,
}

/// The address that a machine has on all its cables.
pub(super) fn vip(number: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(AddressPlan::default().machines.network().to_bits() + (u128::from(number) << 9))
}

/// An end of the cable between a machine and the next one.
fn end(cable: u8, side: u8) -> String {
    format!("fd00:{cable:x}::{side:x}")
}

pub(super) fn name(number: u8) -> String {
    if number == 0 { "seed".to_owned() } else { format!("node{number}") }
}

impl Machine {
    /// Its settings, as Ignition would have written them.
    fn settings(number: u8, folder: &Path, seed: &Seed) -> serde_json::Value {
        let port = (Mac([2, 0, 0, 0, number, 1]), "other".to_owned());
        let mut settings = settings(folder, &[port]);
        settings["machine"]["name"] = name(number).into();
        settings["machine"]["block"] = number.into();
        settings["machine"]["router_id"] = (number + 1).into();
        settings["sources"] = (0..number).rev().map(vip).map(|vip| vip.to_string()).collect();
        settings["relay"] = json!({ "images": folder.join("images"), "room": 1 << 30 });
        if number > 0 {
            settings["machine"]["role"] = "node".into();
            return settings;
        }
        settings["site"]["ca_cert_pem"] = seed.authority_pem.clone().into();
        settings["seed"] = seed.settings.clone();
        settings["seed"]["image_stores"] = json!([folder.join("images")]);
        settings
    }

    pub(super) fn start(namespace: Namespace, number: u8, folder: PathBuf, seed: &Seed) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let text = Self::settings(number, &folder, seed).to_string();
        fs::write(folder.join("gateway.json"), text).unwrap();
        let gateway = Self::serve(&namespace, &folder);
        let machine = Self { namespace, folder, gateway };
        machine.wait();
        machine
    }

    fn serve(namespace: &Namespace, folder: &Path) -> Child {
        let log = fs::File::options().append(true).create(true).open(folder.join("log")).unwrap();
        let mut command = Command::new(binary());
        command.arg("--settings").arg(folder.join("gateway.json")).arg("gateway").stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        namespace.network().unwrap().enter(move || command.spawn()).unwrap().expect("the gateway starts")
    }

    /// Until its own containerd would ask its own mirror.
    fn wait(&self) {
        let mirror = AddressPlan::default().mirrors[0].address.to_string();
        wait_for("the mirrors", || {
            let held = self.namespace.run("ip", &["-6", "-o", "addr", "show", "dev", "lo", "to", &mirror]);
            held.is_ok_and(|held| !held.is_empty())
        });
    }

    /// As after it got another disk.
    fn forget(&mut self) {
        self.stop();
        fs::remove_dir_all(self.folder.join("images")).unwrap();
        self.gateway = Self::serve(&self.namespace, &self.folder);
        self.wait();
    }

    pub(super) fn stop(&mut self) {
        let _gone = self.gateway.kill().and_then(|()| self.gateway.wait());
        // As its unit does.
        let anycast = AddressPlan::default().anycast.to_string();
        self.namespace.run("ip", &["-6", "addr", "flush", "dev", "lo", "to", &anycast]).unwrap();
    }

    /// Pulls an image as this node's containerd does, which has nothing yet, and gives its digest.
    pub(super) fn pull(&self, times: &str, image: &str) -> String {
        let (registry, _) = image.split_once('/').unwrap();
        let mirror = AddressPlan::default().mirror(registry).unwrap().clone();
        let folder = self.folder.join(times);
        let hosts = folder.join("hosts");
        fs::create_dir_all(hosts.join(registry)).unwrap();
        let server = format!("http://[{}]:{}", mirror.address, mirror.port);
        let text = format!("server = \"{server}\"\ncapabilities = [\"pull\", \"resolve\"]\n[host]\n");
        fs::write(hosts.join(registry).join("hosts.toml"), text).unwrap();
        // It is the client that pulls, not containerd.
        let image = image.to_owned();
        let pull = move || {
            let containerd = Containerd::start(&folder);
            let hosts = hosts.display().to_string();
            containerd.ctr(&["images", "pull", "--snapshotter", "native", "--hosts-dir", &hosts, &image]);
            containerd.image(&image).0
        };
        self.namespace.network().unwrap().enter(pull).unwrap()
    }

    /// How many blobs came from each place.
    fn blobs(&self, number: u8) -> Vec<(String, u64)> {
        let url = format!("http://[{}]:{STATUS_PORT}/metrics", vip(number));
        let text = self.namespace.run("curl", &["-sSf", &url]).unwrap();
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
        let lines =
            text.lines().filter_map(|line| line.strip_prefix("meshboot_mirror_blobs_total{source=\""));
        let count = |line: &str| {
            let (source, count) = line.split_once("\"} ").unwrap();
            (source.to_owned(), count.parse().unwrap())
        };
        let mut counts: Vec<_> = lines.map(count).collect();
        counts.sort();
        counts
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.gateway.kill().and_then(|()| self.gateway.wait());
    }
}

/// Namespaces, one cable from each to the next, and the routes that FRR would find.
pub(super) fn line(what: &str) -> Vec<Namespace> {
    let named = |number| Namespace::start(&format!("{what}-{}", name(number))).unwrap();
    let all: Vec<Namespace> = (0..MACHINES).map(named).collect();
    for (cable, pair) in (0..).zip(all.windows(2)) {
        let [left, right] = pair else { unreachable!("windows of two") };
        let pid = right.pid().to_string();
        let ends = ["link", "add", "right", "type", "veth", "peer", "name", "left", "netns", &pid];
        left.network().unwrap().ip(&ends).unwrap();
        for (machine, port, side) in [(left, "right", 1), (right, "left", 2)] {
            let address = format!("{}/64", end(cable, side));
            machine.run("ip", &["addr", "add", &address, "dev", port, "nodad"]).unwrap();
            machine.run("ip", &["link", "set", port, "up"]).unwrap();
        }
    }
    for (number, machine) in (0..).zip(&all) {
        machine.run("sysctl", &["-q", "-w", "net.ipv6.conf.all.forwarding=1"]).unwrap();
        machine.run("ip", &["addr", "add", &vip(number).to_string(), "dev", "lo", "nodad"]).unwrap();
        for other in (0..MACHINES).filter(|other| *other != number) {
            let via = if other < number { end(number - 1, 1) } else { end(number, 2) };
            machine.run("ip", &["route", "add", &vip(other).to_string(), "via", &via]).unwrap();
        }
    }
    all
}

#[test]
fn the_last_of_four_machines_has_its_image_from_its_neighbour_and_needs_no_seed() {
    let served = Served::start();
    let mut elsewhere = Elsewhere::start();
    elsewhere.push(&served, "library/busybox:latest", "library/busybox:latest");
    let mut namespaces = line("line");
    // The same registry, where only the seed reaches it.
    let address = elsewhere.address.to_string();
    elsewhere.move_to(&namespaces[0], &address);
    // The API server's; it is not asked yet.
    let authority = boot::authority(std::time::SystemTime::now()).unwrap();
    let mirrors = json!({
        "ask": "mirrored",
        "room": 1 << 30,
        "revalidate": 0,
        "endpoints": { "docker.io": format!("http://{}", elsewhere.address) },
        "credentials": { "docker.io": { "user": USER, "password": PASSWORD } },
        "proxy": null,
        "no_proxy": [],
        "authorities": null,
    });
    let settings = json!({ "excluded": [], "mirrors": mirrors });
    let seed = Seed { authority_pem: authority.certificate_pem, settings };
    let mut machines: Vec<Machine> = (0..MACHINES)
        .map(|number| {
            let folder = served.path(&name(number));
            Machine::start(namespaces.remove(0), number, folder, &seed)
        })
        .collect();

    let digest = served.images[0].1.digest.to_string();
    assert_eq!(machines[3].pull("first", IMAGE), digest);
    let fetched = elsewhere.requests("/blobs/");
    // The image's configuration and its layer, over each cable once.
    let from = |number: u8| vec![(format!("[{}]:5000", vip(number)), 2)];
    let registry = vec![(elsewhere.address.to_string(), 2)];
    assert_eq!(machines[0].blobs(0), registry);
    for number in 1..MACHINES {
        assert_eq!(machines[usize::from(number)].blobs(number), from(number - 1), "node{number}");
    }

    // The second time its neighbour is enough, with and without a seed.
    let stored = |times: u64| [from(1), vec![("store".to_owned(), 2 * times)]].concat();
    machines[3].forget();
    assert_eq!(machines[3].pull("second", IMAGE), digest);
    assert_eq!(machines[3].blobs(3), from(2));
    assert_eq!(machines[2].blobs(2), stored(1));
    assert_eq!((machines[1].blobs(1), machines[0].blobs(0)), (from(0), registry));
    assert_eq!(elsewhere.requests("/blobs/"), fetched);

    let mut seed = machines.remove(0);
    seed.stop();
    drop(seed);
    machines[2].forget();
    assert_eq!(machines[2].pull("third", IMAGE), digest);
    assert_eq!(machines[2].blobs(3), from(2));
    assert_eq!(machines[1].blobs(2), stored(2));
    assert_eq!(machines[0].blobs(1), from(0));
}
