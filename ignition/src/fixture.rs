//! Plans that the tests render.

use mesh::{AddressPlan, BlockNumber, Machine, MachineId, Port, Role};
use serde_json::json;

use crate::{
    BootLink, Cni, ControlPlaneSpec, KubernetesSource, KubernetesVersion, NodePlan, NodeSpec, PkiFile,
    RoleDetail, Secret, SitePlan, Uplink,
};

pub(crate) const TOKEN: &str = "abcdef.0123456789abcdef";
pub(crate) const KEY: &str = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";

pub(crate) fn site() -> SitePlan {
    SitePlan {
        id: "5eed0000-0000-4000-8000-000000000001".parse().unwrap(),
        plan: AddressPlan::default(),
        kubernetes: KubernetesVersion::new(1, 20, 2),
        kubernetes_source: KubernetesSource::Debian,
        cni: Cni::Routed,
        ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 deploy".to_owned()],
        ca_cert_pem: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
        ca_spki_sha256: "0123456789abcdef".repeat(4),
        nameservers: Vec::new(),
    }
}

pub(crate) fn machine(role: Role, number: u8, ports: u8) -> Machine {
    let mac = |port: u8| mesh::Mac([2, 0, 0x5e, 0, number, port]);
    Machine {
        id: MachineId::from_mac(mac(0)),
        name: format!("{role}-{number}").parse().unwrap(),
        role,
        block: BlockNumber(mac(0).to_u48()),
        router_id: u32::from(number).try_into().unwrap(),
        ports: (0..ports)
            .map(|port| Port {
                index: port.try_into().unwrap(),
                mac: mac(port),
                name: format!("enp{}s0", port + 1),
            })
            .collect(),
    }
}

pub(crate) fn seed() -> NodePlan {
    let file = |path: &str, mode, contents: &str| PkiFile {
        path: path.to_owned(),
        mode,
        contents: Secret::new(contents.to_owned()),
    };
    NodePlan {
        spec: NodeSpec::default(),
        site: site(),
        machine: machine(Role::Seed, 1, 2),
        detail: RoleDetail::Seed {
            uplink: Some(Uplink {
                mac: "02:00:5e:00:01:ff".parse().unwrap(),
                addresses: vec!["172.30.0.2/30".parse().unwrap(), "2001:db8:a001::2/64".parse().unwrap()],
                gateways: vec!["2001:db8:a001::1".parse().unwrap()],
                automatic: false,
            }),
            pki: vec![
                file("ca.crt", 0o644, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"),
                file("ca.key", 0o600, KEY),
                file("etcd/ca.key", 0o600, KEY),
                file("sa.key", 0o600, KEY),
                file("sa.pub", 0o644, "public\n"),
            ],
            control_plane: ControlPlaneSpec::default(),
        },
        gateway_settings: Secret::new(json!({ "ports": 2, "b": { "z": 1, "a": [1, { "y": 1, "x": 2 }] } })),
    }
}

pub(crate) fn node() -> NodePlan {
    let site = site();
    let neighbour = site.plan.block(machine(Role::Seed, 1, 1).block).unwrap();
    let machine = machine(Role::Node, 2, 4);
    let boot = BootLink { mac: machine.ports[1].mac, prefix: neighbour.link(0.try_into().unwrap()) };
    NodePlan {
        spec: NodeSpec::default(),
        detail: RoleDetail::Node { token: TOKEN.parse().unwrap(), boot: Some(boot) },
        gateway_settings: Secret::new(json!({ "ports": 4 })),
        site,
        machine,
    }
}
