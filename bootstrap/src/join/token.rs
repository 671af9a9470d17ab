//! Bootstrap tokens as Kubernetes keeps them.

use ignition::BootstrapToken;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mesh::{Machine, MachineId, NodeName};

use super::{GROUP, MACHINE_LABEL, NAMESPACE, NODE_LABEL, NodeState, TOKEN_LIFETIME};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const EXPIRATION: &str = "expiration";
/// The annotation that names the boot in which the node was seen before; the token is for another.
const BOOT_BEFORE: &str = "meshboot.io/boot-before";

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The machine that it was minted for.
    pub machine: MachineId,
    /// The one node that it may become.
    pub node: NodeName,
    /// When it ends.
    pub expires: Timestamp,
    /// The boot that the node was seen in before, as the kernel named it; none if Kubernetes knew no such node.
    pub boot_before: Option<String>,
}

/// Why a token is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoGrant {
    /// It has no Secret any more.
    #[error("its token was revoked or has ended")]
    Gone,
    /// Its Secret does not say what it is for: it was not minted here.
    #[error(
        "its token's Secret is not one that a gateway mints: it lacks {MACHINE_LABEL}, {NODE_LABEL}, or when it ends"
    )]
    Unbound,
}

/// The Secret that makes a token known to the API server.
#[must_use]
pub fn secret(token: &BootstrapToken, relay: &NodeName, grant: &Grant) -> Secret {
    let Grant { machine, node, expires, boot_before } = grant;
    let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let labels = [(MACHINE_LABEL, machine.to_string()), (NODE_LABEL, node.to_string())];
    let annotations = boot_before.iter().map(|boot| (BOOT_BEFORE.to_owned(), boot.clone()));
    let data = [
        ("token-id", token.id().to_owned()),
        ("token-secret", token.expose_secret().to_owned()),
        (EXPIRATION, expires),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
        ("auth-extra-groups", GROUP.to_owned()),
        ("description", format!("one boot of {node}, served by {relay}")),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(token.id())),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            annotations: Some(annotations.collect()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        string_data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ..Secret::default()
    }
}

/// The name of a token's Secret.
pub(super) fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

// === impl Grant ===

impl Grant {
    /// For the next boot of a machine, as this node; `before` is what Kubernetes says of the node now.
    #[must_use]
    pub fn for_next_boot(machine: &Machine, before: Option<&NodeState>, now: Timestamp) -> Self {
        Self {
            machine: machine.id,
            node: machine.name.clone(),
            expires: now + TOKEN_LIFETIME,
            boot_before: before.map(|before| before.boot_id.clone()),
        }
    }

    /// Reads it off a Secret, as the API server gives it.
    ///
    /// # Errors
    ///
    /// [`NoGrant::Unbound`].
    pub fn of_secret(secret: &Secret) -> Result<Self, NoGrant> {
        let read = || {
            let labels = secret.metadata.labels.as_ref()?;
            let annotations = secret.metadata.annotations.as_ref();
            let expires = secret.data.as_ref()?.get(EXPIRATION)?;
            Some(Self {
                machine: MachineId(labels.get(MACHINE_LABEL)?.parse().ok()?),
                node: labels.get(NODE_LABEL)?.parse().ok()?,
                expires: std::str::from_utf8(&expires.0).ok()?.parse().ok()?,
                boot_before: annotations.and_then(|annotations| annotations.get(BOOT_BEFORE).cloned()),
            })
        };
        read().filter(|_| secret.type_.as_deref() == Some(TYPE)).ok_or(NoGrant::Unbound)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    /// A secret as it is minted, and as the API server gives it back.
    fn minted() -> (Secret, Grant) {
        let token = BootstrapToken::from_random(7, 7);
        let machine = MachineId::from_mac(mesh::Mac([2, 0, 0, 0, 0, 1]));
        let [node, relay] = ["node4", "node2"].map(|name| name.parse::<NodeName>().unwrap());
        let expires = "2026-01-02T03:04:05Z".parse().unwrap();
        let grant = Grant { machine, node, expires, boot_before: Some("d2e1".to_owned()) };
        let mut secret = secret(&token, &relay, &grant);
        assert_eq!(secret.metadata.name, Some(format!("bootstrap-token-{}", token.id())));
        let data = secret.string_data.take().unwrap();
        secret.data =
            Some(data.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect());
        (secret, grant)
    }

    #[test]
    fn a_secret_names_its_machine_and_node_and_its_end() {
        let (secret, grant) = minted();
        assert_eq!(Grant::of_secret(&secret), Ok(grant));
        let data = secret.data.unwrap();
        assert_eq!(data["expiration"].0, b"2026-01-02T03:04:05Z");
        assert_eq!(data["description"].0, b"one boot of node4, served by node2");
    }

    #[test]
    fn a_grant_is_for_a_boot_that_was_not_seen_before() {
        let machine = Machine {
            id: MachineId::from_mac(mesh::Mac([2, 0, 0, 0, 0, 1])),
            name: "node4".parse().unwrap(),
            role: mesh::Role::Node,
            block: mesh::BlockNumber(4),
            router_id: 4.try_into().unwrap(),
            ports: Vec::new(),
        };
        let before = NodeState { ready: true, boot_id: "d2e1".to_owned(), reason: None };
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let grant = Grant::for_next_boot(&machine, Some(&before), now);
        assert!(
            !before.is_ready_since(grant.boot_before.as_deref()),
            "the boot before is no reason to revoke it"
        );
        assert_eq!(grant.expires.as_second() - now.as_second(), 30 * 60);
        assert_eq!(Grant::for_next_boot(&machine, None, now).boot_before, None);
    }

    #[test]
    fn a_token_is_not_of_the_group_whose_every_request_is_approved() {
        let (secret, _) = minted();
        assert_eq!(secret.data.unwrap()["auth-extra-groups"].0, b"system:bootstrappers:meshboot");
    }

    #[test]
    fn a_secret_that_lacks_anything_grants_nothing() {
        let spoil: [fn(&mut Secret); 7] = [
            |secret| secret.metadata.labels = None,
            |secret| drop(secret.metadata.labels.as_mut().unwrap().remove(MACHINE_LABEL)),
            |secret| drop(secret.metadata.labels.as_mut().unwrap().remove(NODE_LABEL)),
            |secret| {
                let labels = secret.metadata.labels.as_mut().unwrap();
                labels.insert(NODE_LABEL.to_owned(), "Node4".to_owned());
            },
            |secret| drop(secret.data.as_mut().unwrap().remove(EXPIRATION)),
            |secret| {
                let data = secret.data.as_mut().unwrap();
                data.insert(EXPIRATION.to_owned(), ByteString(vec![0xff]));
            },
            |secret| secret.type_ = Some("Opaque".to_owned()),
        ];
        for spoil in spoil {
            let (mut secret, _) = minted();
            spoil(&mut secret);
            assert_eq!(Grant::of_secret(&secret), Err(NoGrant::Unbound));
        }
    }
}
