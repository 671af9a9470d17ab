//! What `ignition` renders, before the tools that read it: Debian's `ignition-validate`, and a POSIX shell.

mod scripts;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ignition::{
    BootLink, Cni, ControlPlaneSpec, KubernetesSource, KubernetesVersion, NodePlan, NodeSpec, PkiFile,
    RoleDetail, Secret, SitePlan, Uplink,
};
use mesh::{AddressPlan, BlockNumber, Mac, Machine, MachineId, Port, Role};

fn site(version: &str, cni: Cni) -> SitePlan {
    SitePlan {
        id: "5eed0000-0000-4000-8000-000000000001".parse().unwrap(),
        plan: AddressPlan::default(),
        kubernetes: version.parse::<KubernetesVersion>().unwrap(),
        kubernetes_source: KubernetesSource::Upstream,
        cni,
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 deploy".to_owned()],
        ca_cert_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----".to_owned(),
        ca_spki_sha256: "0123456789abcdef".repeat(4),
        nameservers: Vec::new(),
    }
}

fn machine(role: Role, number: u8, ports: u8) -> Machine {
    let mac = |port| Mac([2, 0, 0x5e, 0, number, port]);
    let port = |index| Port {
        index: mesh::PortIndex::try_from(index).unwrap(),
        mac: mac(index),
        name: format!("enp{index}s0"),
    };
    Machine {
        id: MachineId::from_mac(mac(0)),
        name: format!("{role}-{number}").parse().unwrap(),
        role,
        block: BlockNumber(mac(0).to_u48()),
        router_id: u32::from(number).try_into().unwrap(),
        ports: (0..ports).map(port).collect(),
    }
}

fn seed(version: &str, cni: Cni) -> NodePlan {
    let file = |path: &str, mode| PkiFile {
        path: path.to_owned(),
        mode,
        contents: Secret::new("secret\n".to_owned()),
    };
    let uplink = Uplink {
        mac: Mac([2, 0, 0x5e, 0, 1, 0xff]),
        addresses: vec!["172.30.0.2/30".parse().unwrap(), "2001:db8:a001::2/64".parse().unwrap()],
        gateways: vec!["172.30.0.1".parse().unwrap()],
        automatic: false,
    };
    NodePlan {
        spec: NodeSpec::default(),
        site: site(version, cni),
        machine: machine(Role::Seed, 1, 4),
        detail: RoleDetail::Seed {
            uplink: Some(uplink),
            pki: vec![file("ca.crt", 0o644), file("ca.key", 0o600), file("etcd/ca.key", 0o600)],
            control_plane: ControlPlaneSpec::default(),
        },
        gateway_settings: Secret::new(serde_json::json!({ "a": 1 })),
    }
}

pub(crate) fn node(version: &str, cni: Cni) -> NodePlan {
    let site = site(version, cni);
    let neighbour = site.plan.block(machine(Role::Seed, 1, 1).block).unwrap();
    let machine = machine(Role::Node, 2, 60);
    let prefix = neighbour.link(0.try_into().unwrap());
    let boot = Some(BootLink { mac: machine.ports[59].mac, prefix });
    NodePlan {
        spec: NodeSpec::default(),
        detail: RoleDetail::Node { token: "abcdef.0123456789abcdef".parse().unwrap(), boot },
        gateway_settings: Secret::new(serde_json::json!({ "a": 1 })),
        site,
        machine,
    }
}

/// A kubelet that is a little older than the mesh's Kubernetes.
fn own_kubelet(mesh: KubernetesVersion) -> NodeSpec {
    NodeSpec { kubernetes_version: Some(mesh.oldest_kubelet()), ..NodeSpec::default() }
}

fn every_kind_of_plan() -> Vec<NodePlan> {
    let file = Cni::File(r#"{"cniVersion":"1.0.0","name":"own","plugins":[{"type":"bridge"}]}"#.to_owned());
    let mut plans = Vec::new();
    for version in ["v1.20.2", "v1.28.0", "v1.33.1"] {
        for cni in [Cni::Routed, Cni::None, file.clone()] {
            plans.push(seed(version, cni.clone()));
            plans.push(node(version, cni));
        }
        let own = |plan: NodePlan| NodePlan { spec: own_kubelet(plan.site.kubernetes), ..plan };
        plans.extend([seed(version, Cni::Routed), node(version, Cni::Routed)].map(own));
    }
    plans
}

/// Runs a tool on `input`; `package` is what to install where it is missing.
fn feed(command: &mut Command, package: &str, input: &[u8]) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child
        .unwrap_or_else(|error| panic!("cannot run {command:?} (of Debian's package `{package}`): {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn ignition_validate_has_nothing_to_say() {
    for plan in every_kind_of_plan() {
        let json = ignition::render(&plan).unwrap().to_json();
        let output = feed(Command::new("ignition-validate").arg("-"), "ignition", json.as_bytes());
        // An unknown key is a warning, with exit code 0: any word is a mistake of ours.
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn ignition_validate_would_say_something() {
    let json = ignition::render(&node("v1.20.2", Cni::Routed)).unwrap().to_json();
    let wrong = json.replacen("\"3.3.0\"", "\"3.4.0\"", 1);
    let output = feed(Command::new("ignition-validate").arg("-"), "ignition", wrong.as_bytes());
    assert!(!output.status.success());
}

#[test]
fn scripts_are_sound_shell() {
    for plan in [seed("v1.20.2", Cni::Routed), node("v1.20.2", Cni::Routed)] {
        let tree = ignition::render::tree(&plan).unwrap();
        let scripts = tree.files.iter().filter(|(_, file)| file.mode == ignition::tree::SCRIPT);
        let mut seen = 0;
        for (path, file) in scripts {
            let shell = if file.contents.starts_with(b"#!/bin/bash\n") { "bash" } else { "dash" };
            let output = feed(Command::new(shell).args(["-n", "-s"]), shell, &file.contents);
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
            seen += 1;
        }
        assert!(seen >= 3, "{seen} scripts");
    }
}

/// A service that nobody ordered would start before its files are there.
#[test]
fn every_unit_and_script_that_a_unit_names_exists() {
    for plan in every_kind_of_plan() {
        let tree = ignition::render::tree(&plan).unwrap();
        let text = |contents: &[u8]| String::from_utf8(contents.to_vec()).unwrap();
        let added = tree.files.iter().filter(|(path, _)| path.contains(".service.d/"));
        let added = added.map(|(path, file)| (path.clone(), text(&file.contents)));
        let units = tree.units.iter().map(|(name, contents)| (name.clone(), contents.clone()));
        for (name, contents) in units.chain(added) {
            for line in contents.lines().filter(|line| line.starts_with("ExecStart")) {
                let path = line.split_once('=').unwrap().1.split(' ').next().unwrap().trim_start_matches('-');
                let ours = Path::new(path).starts_with("/usr/lib/meshboot");
                assert!(!ours || tree.files.contains_key(path), "{name} runs {path}, which is nowhere");
            }
            let of = |what: &'static str| contents.lines().filter_map(move |line| line.strip_prefix(what));
            let required = of("Requires=").flat_map(str::split_whitespace);
            // Others may be units of the image.
            let wanted =
                of("Wants=").flat_map(str::split_whitespace).filter(|unit| unit.starts_with("meshboot-"));
            for required in required.chain(wanted) {
                assert!(tree.units.contains_key(required), "{name} needs {required}, which is nowhere");
                let after = contents.lines().filter_map(|line| line.strip_prefix("After="));
                assert!(
                    after.flat_map(str::split_whitespace).any(|unit| unit == required),
                    "{name} needs {required} and does not wait for it"
                );
            }
        }
    }
}
