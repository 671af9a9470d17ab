//! What Kubernetes must have before it can hold a ledger and machines can join: definitions, a namespace, and rights.
//!
//! A relay speaks to the API as its own node: it has the kubelet's client certificate and no other secret, and
//! thus the rights of the group `system:nodes` and no more. The rights that are added to the group:
//!
//! | what | verbs | why not less |
//! |---|---|---|
//! | `machines`, `links` and their status | get, list, watch, create, update, patch | every relay allocates. No delete: a removal is written into the head, and who may delete sweeps |
//! | `reservations` | get, list, watch | a relay looks there for what is wanted of the machine that it serves |
//! | the head, by name | get, list, watch, update | it is the lock of the ledger. It cannot be created or deleted |
//! | `nodes` | get | a relay shows how far its neighbour has come. Newer versions let a node read only itself |
//! | Secrets of `kube-system` | create | bootstrap tokens are Secrets there, and their names are random. A seed deletes them |
//!
//! RBAC cannot bind a right to a name that is not known yet, nor to a Secret's type. So a node that was broken
//! into could write Machines and Links and make Secrets in `kube-system`, bootstrap tokens among them; it could read and
//! delete none. A token that it mints may be for any node (the binding of tokens to nodes, [`join`], is against those
//! who steal one, not against those who mint).
//!
//! A machine that joins has its token and no other secret. The group of machines' tokens may do what `kubeadm join` and
//! a kubelet without a certificate do, which is what kubeadm lets its own tokens do, less one thing: nobody but
//! a seed's gateway approves what they ask for.
//!
//! | what | verbs | why not less |
//! |---|---|---|
//! | `certificatesigningrequests` | create, get, list, watch | the kubelet asks for its certificate and waits for it. Its requests have no names that could be known before |
//! | `nodes` | get | kubeadm looks whether the name is another's |
//! | ConfigMaps of `kube-system`, by name | get | kubeadm's own, and the kubelet's configuration, whose name has the version in it up to 1.23 |

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions::is_crd_established};
use kube::{Api, Client, CustomResourceExt as _, Resource};
use mesh::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::unavailable;
use super::{HEAD, KubernetesStore, NAMESPACE, objects};
use crate::join;
use crate::store::crds::{GROUP, LinkObject, MachineObject, ReservationObject};

/// An API server takes seconds to serve a new definition, and more on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How long to wait before asking again whether a definition is served: nothing tells when it is.
const PAUSE: Duration = Duration::from_millis(250);

const NAME: &str = "meshboot:relay";
const TOKENS: &str = "meshboot:relay-tokens";
const JOIN: &str = "meshboot:join";
const KUBE_SYSTEM: &str = "kube-system";
/// What `kubeadm join` reads of the cluster's configuration, in all versions from 1.20 on.
const JOIN_CONFIGS: [&str; 7] = [
    "kube-proxy",
    "kubeadm-config",
    "kubelet-config",
    "kubelet-config-1.20",
    "kubelet-config-1.21",
    "kubelet-config-1.22",
    "kubelet-config-1.23",
];
const RBAC: &str = "rbac.authorization.k8s.io";
/// The group of every node's kubelet.
const NODES: &str = "system:nodes";

// === impl KubernetesStore ===

impl KubernetesStore {
    /// Makes definitions, namespace and rights what this version wants them to be, and waits until the
    /// definitions are served. It needs an administrator's kubeconfig; it may be called as often as one likes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] after at most a minute.
    pub fn install(&self) -> Result<(), StoreError> {
        self.access.run(LIMIT, "install the definitions of machines and links", async |client| {
            apply_all(&client).await?;
            try_join_all(definitions().map(|crd| established(&client, crd))).await?;
            // An established definition is not served by every API server at once.
            loop {
                match objects::list(&client).await {
                    Err(StoreError::Unavailable { reason }) if reason.starts_with("HTTP 404") => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    result => return result.map(drop),
                }
            }
        })
    }
}

fn definitions() -> [CustomResourceDefinition; 3] {
    [MachineObject::crd(), LinkObject::crd(), ReservationObject::crd()]
}

async fn apply_all(client: &Client) -> Result<(), StoreError> {
    let all = || Api::all(client.clone());
    let namespace = Namespace { metadata: named(NAMESPACE, None), ..Namespace::default() };
    apply(&all(), NAMESPACE, &namespace).await?;
    for crd in definitions() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        apply(&definitions, &name, &crd).await?;
    }

    let read = ["get", "list", "watch"];
    let write = ["create", "update", "patch"];
    let relay = vec![
        rule(GROUP, &["machines", "links"], &[read, write].concat()),
        rule(GROUP, &["machines/status", "links/status"], &["get", "update", "patch"]),
        rule(GROUP, &["reservations"], &read),
        rule("", &["nodes"], &["get"]),
    ];
    apply_cluster_role(client, NAME, NODES, relay).await?;

    // A field selector for the one name makes list and watch requests for it.
    let head = PolicyRule {
        resource_names: Some(vec![HEAD.to_owned()]),
        ..rule("", &["configmaps"], &["get", "list", "watch", "update"])
    };
    apply_role(client, NAMESPACE, NAME, NODES, head).await?;
    let tokens = rule("", &["secrets"], &["create"]);
    apply_role(client, KUBE_SYSTEM, TOKENS, NODES, tokens).await?;

    let joining = vec![
        rule("certificates.k8s.io", &["certificatesigningrequests"], &["create", "get", "list", "watch"]),
        rule("", &["nodes"], &["get"]),
    ];
    apply_cluster_role(client, JOIN, join::GROUP, joining).await?;
    let configs = PolicyRule {
        resource_names: Some(JOIN_CONFIGS.map(str::to_owned).into()),
        ..rule("", &["configmaps"], &["get"])
    };
    apply_role(client, KUBE_SYSTEM, JOIN, join::GROUP, configs).await
}

async fn apply_cluster_role(
    client: &Client,
    name: &str,
    group: &str,
    rules: Vec<PolicyRule>,
) -> Result<(), StoreError> {
    let role = ClusterRole { metadata: named(name, None), rules: Some(rules), ..ClusterRole::default() };
    apply(&Api::all(client.clone()), name, &role).await?;
    let binding = ClusterRoleBinding {
        metadata: named(name, None),
        role_ref: role_ref("ClusterRole", name),
        subjects: Some(vec![subject(group)]),
    };
    apply(&Api::all(client.clone()), name, &binding).await
}

async fn apply_role(
    client: &Client,
    namespace: &str,
    name: &str,
    group: &str,
    rule: PolicyRule,
) -> Result<(), StoreError> {
    let role = Role { metadata: named(name, Some(namespace)), rules: Some(vec![rule]) };
    apply(&Api::namespaced(client.clone(), namespace), name, &role).await?;
    let binding = RoleBinding {
        metadata: named(name, Some(namespace)),
        role_ref: role_ref("Role", name),
        subjects: Some(vec![subject(group)]),
    };
    apply(&Api::namespaced(client.clone(), namespace), name, &binding).await
}

async fn apply<K>(api: &Api<K>, name: &str, object: &K) -> Result<(), StoreError>
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let params = PatchParams::apply("meshboot").force();
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    applied.map(drop).map_err(|error| unavailable(&error))
}

async fn established(client: &Client, crd: CustomResourceDefinition) -> Result<(), StoreError> {
    let name = crd.metadata.name.unwrap_or_default();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let waited = await_condition(definitions, &name, is_crd_established()).await;
    waited.map(drop).map_err(|error| StoreError::Unavailable {
        reason: format!("whether the definition {name} is established was not to be seen: {error}"),
    })
}

fn named(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(texts(&[group])),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: RBAC.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn subject(group: &str) -> Subject {
    Subject {
        api_group: Some(RBAC.to_owned()),
        kind: "Group".to_owned(),
        name: group.to_owned(),
        namespace: None,
    }
}
