//! Bootstrap tokens as Kubernetes keeps them.

use std::collections::BTreeMap;

use ignition::BootstrapToken;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mesh::{MachineId, NodeName};

use super::{MACHINE_LABEL, NAMESPACE};

/// The Secret that makes a token known to the API server.
#[must_use]
pub fn secret(
    token: &BootstrapToken,
    machine: MachineId,
    name: &NodeName,
    relay: &NodeName,
    expires: Timestamp,
) -> Secret {
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let data = [
        ("token-id", token.id().to_owned()),
        ("token-secret", token.expose_secret().to_owned()),
        ("expiration", expires),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token".to_owned()),
        ("description", format!("one boot of {name}, served by {relay}")),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(token.id())),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(MACHINE_LABEL.to_owned(), machine.to_string())])),
            ..ObjectMeta::default()
        },
        type_: Some("bootstrap.kubernetes.io/token".to_owned()),
        string_data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..Secret::default()
    }
}

/// The name of a token's Secret.
pub(super) fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// A token's identifier and the machine that it was minted for.
pub(super) fn of_secret(secret: &Secret) -> Option<(String, MachineId)> {
    let id = secret.metadata.name.as_deref()?.strip_prefix("bootstrap-token-")?;
    let machine = secret.metadata.labels.as_ref()?.get(MACHINE_LABEL)?.parse().ok()?;
    Some((id.to_owned(), MachineId(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_token_and_machine_and_its_end() {
        let token = BootstrapToken::from_random(7, 7);
        let machine = MachineId::from_mac(mesh::Mac([2, 0, 0, 0, 0, 1]));
        let names = ["node4", "node2"].map(|name| name.parse::<NodeName>().unwrap());
        let expires = "2026-01-02T03:04:05Z".parse().unwrap();
        let secret = secret(&token, machine, &names[0], &names[1], expires);
        assert_eq!(of_secret(&secret), Some((token.id().to_owned(), machine)));
        let data = secret.string_data.unwrap();
        assert_eq!(data["expiration"], "2026-01-02T03:04:05Z");
        assert_eq!(data["description"], "one boot of node4, served by node2");
    }
}
