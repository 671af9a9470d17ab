use mesh::Role;

use super::*;
use crate::fixture::{TOKEN, machine, seed, site};
use crate::{KubernetesSource, RoleDetail};

fn at(minor: u16) -> SitePlan {
    SitePlan {
        kubernetes: KubernetesVersion::new(1, minor, 2),
        kubernetes_source: KubernetesSource::Upstream,
        ..site()
    }
}

fn init(minor: u16) -> String {
    let RoleDetail::Seed { uplink, .. } = seed().detail else { unreachable!() };
    let (site, machine) = (at(minor), machine(Role::Seed, 1, 2));
    init_config(&site, &machine.name, site.plan.block(machine.block).unwrap(), uplink.as_ref())
}

fn join(minor: u16) -> String {
    let (site, machine) = (at(minor), machine(Role::Node, 2, 4));
    let block = site.plan.block(machine.block).unwrap();
    join_config(&site, &machine.name, block, &TOKEN.parse().unwrap())
}

#[test]
fn golden_v1beta2() {
    insta::assert_snapshot!("init_v1.20", init(20));
    insta::assert_snapshot!("join_v1.20", join(20));
}

#[test]
fn golden_v1beta3() {
    insta::assert_snapshot!("init_v1.28", init(28));
    insta::assert_snapshot!("join_v1.28", join(28));
}

#[test]
fn golden_v1beta4() {
    insta::assert_snapshot!("init_v1.33", init(33));
    insta::assert_snapshot!("join_v1.33", join(33));
}

#[test]
fn every_document_is_json_of_its_version() {
    for (minor, api) in [(20, "v1beta2"), (21, "v1beta2"), (22, "v1beta3"), (30, "v1beta3"), (31, "v1beta4")]
    {
        let kinds: Vec<(String, String)> = init(minor)
            .split("---\n")
            .map(|document| serde_json::from_str::<Value>(document).unwrap())
            .map(|document| {
                let text = |key: &str| document[key].as_str().unwrap().to_owned();
                (text("apiVersion"), text("kind"))
            })
            .collect();
        let kubeadm = format!("kubeadm.k8s.io/{api}");
        let expected = [
            (kubeadm.as_str(), "InitConfiguration"),
            (kubeadm.as_str(), "ClusterConfiguration"),
            ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"),
            ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"),
        ];
        assert_eq!(kinds, expected.map(|(api, kind)| (api.to_owned(), kind.to_owned())));
    }
}
