//! What has to hold before a line is rendered.
//!
//! Names and texts end up in files whose syntax they could break out of: an interface's name comes over the network
//! from a machine that has not joined yet, so it is believed only when it looks like one.

use std::collections::BTreeSet;

use mesh::Role;

use crate::{Cni, KubernetesVersion, NodePlan, PkiFile, RenderError, RoleDetail, SitePlan};

/// Longest name of an interface: `IFNAMSIZ` without its NUL.
const MAX_PORT_NAME: usize = 15;
/// What `kubeadm init` must find rather than make, for the CA to be the one that nodes pin.
const NEEDED_PKI: [&str; 2] = ["ca.crt", "ca.key"];

pub(super) fn check(plan: &NodePlan) -> Result<(), RenderError> {
    check_site(&plan.site)?;
    check_ports(plan)?;
    if let Some(mistake) = plan.spec.mistakes().into_iter().next() {
        return Err(RenderError::Spec { machine: plan.machine.name.clone(), mistake });
    }
    let (role, name) = (plan.machine.role, &plan.machine.name);
    if let Some(kubelet) = plan.spec.own_kubelet(plan.site.kubernetes) {
        let taken = plan.site.kubernetes.takes_kubelet(kubelet);
        taken.map_err(|mistake| RenderError::Kubelet { machine: name.clone(), mistake })?;
    }
    match (&plan.detail, role) {
        (RoleDetail::Seed { pki, control_plane, .. }, Role::Seed) => {
            match control_plane.mistakes().into_iter().next() {
                Some(mistake) => Err(RenderError::Spec { machine: name.clone(), mistake }),
                None => check_pki(pki),
            }
        }
        (RoleDetail::Node { boot, .. }, Role::Node) => match boot {
            Some(link) if plan.machine.port(link.mac).is_none() => {
                Err(RenderError::ForeignBootPort { machine: name.clone(), mac: link.mac })
            }
            _ => Ok(()),
        },
        (RoleDetail::Seed { .. }, Role::Node) | (RoleDetail::Node { .. }, Role::Seed) => {
            Err(RenderError::OtherRole { machine: name.clone(), role })
        }
    }
}

fn check_site(site: &SitePlan) -> Result<(), RenderError> {
    if site.kubernetes < KubernetesVersion::OLDEST {
        return Err(RenderError::KubernetesTooOld(site.kubernetes));
    }
    let is_key = |line: &str| !line.trim().is_empty() && !line.contains(['\n', '\r', '\0']);
    if let Some(at) = site.ssh_keys.iter().position(|line| !is_key(line)) {
        return Err(RenderError::SshKey { number: at + 1 });
    }
    let pem = site.ca_cert_pem.trim();
    if !pem.starts_with("-----BEGIN CERTIFICATE-----") || !pem.ends_with("-----END CERTIFICATE-----") {
        return Err(RenderError::CaCertificate);
    }
    let hash = &site.ca_spki_sha256;
    if hash.len() != 64 || !hash.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(RenderError::CaHash(hash.clone()));
    }
    if let Some(mirror) = site.plan.mirrors.iter().find(|mirror| !is_registry(&mirror.registry)) {
        return Err(RenderError::Registry(mirror.registry.clone()));
    }
    if let Cni::File(contents) = &site.cni { check_cni(contents) } else { Ok(()) }
}

/// The name becomes a folder's: no slash, and no dot that a folder's name could consist of.
fn is_registry(name: &str) -> bool {
    let octets = name.as_bytes();
    let edge = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    edge(octets.first())
        && edge(octets.last())
        && octets.iter().all(|octet| octet.is_ascii_alphanumeric() || b".-:".contains(octet))
}

fn check_cni(contents: &str) -> Result<(), RenderError> {
    let parsed = serde_json::from_str::<serde_json::Value>(contents);
    let Ok(value) = parsed else { return Err(RenderError::CniFile("it is not JSON")) };
    if value.get("name").and_then(serde_json::Value::as_str).is_none() {
        return Err(RenderError::CniFile("it has no `name`"));
    }
    if value.get("plugins").is_none() && value.get("type").is_none() {
        return Err(RenderError::CniFile("it has neither `plugins` nor `type`"));
    }
    Ok(())
}

fn check_ports(plan: &NodePlan) -> Result<(), RenderError> {
    let machine = &plan.machine;
    let mut seen = BTreeSet::new();
    if let RoleDetail::Seed { uplink: Some(uplink), .. } = &plan.detail {
        seen.insert(uplink.mac);
    }
    for port in &machine.ports {
        if !seen.insert(port.mac) {
            return Err(RenderError::SamePort { machine: machine.name.clone(), mac: port.mac });
        }
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
        let name = &port.name;
        if !(1..=MAX_PORT_NAME).contains(&name.len()) || !name.bytes().all(allowed) || name == "lo" {
            return Err(RenderError::PortName { machine: machine.name.clone(), name: name.clone() });
        }
    }
    Ok(())
}

fn check_pki(pki: &[PkiFile]) -> Result<(), RenderError> {
    for file in pki {
        let good = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet))
        };
        if !file.path.split('/').all(good) {
            return Err(RenderError::PkiPath(file.path.clone()));
        }
        if file.path.ends_with(".key") && file.mode != crate::tree::PRIVATE {
            return Err(RenderError::PkiMode { path: file.path.clone(), mode: file.mode });
        }
    }
    let has = |path: &str| pki.iter().any(|file| file.path == path);
    if let Some(path) = NEEDED_PKI.into_iter().find(|path| !has(path)) {
        return Err(RenderError::PkiIncomplete(path));
    }
    // kubeadm takes a service account's private key for a sign that the public one is there as well.
    if has("sa.key") && !has("sa.pub") {
        return Err(RenderError::PkiIncomplete("sa.pub beside sa.key"));
    }
    Ok(())
}
