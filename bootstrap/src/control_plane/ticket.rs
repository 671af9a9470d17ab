//! What a node becomes a control plane with, for as long as it takes: a Secret, and the right to read that one, for that
//! node alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use ignition::Secret;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Node, Secret as Object};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::Resource;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use mesh::NodeName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::TICKET;
use super::etcd::MemberId;
use crate::join::Cluster;

/// Where it is.
const NAMESPACE: &str = "kube-system";
const RBAC: &str = "rbac.authorization.k8s.io";
/// Who writes it.
const MANAGER: &str = "meshboot";
/// The member's number, and all members as etcd is told of them.
const MEMBER: &str = "member";
const MEMBERS: &str = "members";
/// The files under kubeadm's folder of keys, and what they are called in the Secret, whose names have no slash. The last
/// two are of firmware's authority, which a site need not have.
const FILES: [(&str, &str); 10] = [
    ("ca.crt", "ca.crt"),
    ("ca.key", "ca.key"),
    ("sa.pub", "sa.pub"),
    ("sa.key", "sa.key"),
    ("front-proxy-ca.crt", "front-proxy-ca.crt"),
    ("front-proxy-ca.key", "front-proxy-ca.key"),
    ("etcd/ca.crt", "etcd-ca.crt"),
    ("etcd/ca.key", "etcd-ca.key"),
    ("boot-ca.crt", "boot-ca.crt"),
    ("boot-ca.key", "boot-ca.key"),
];
/// How many of them a control plane cannot do without.
const NEEDED: usize = 8;

/// What a node becomes a control plane with.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The member that it becomes.
    pub member: MemberId,
    /// Every member of etcd, as `name=URL`, with this one.
    pub members: Vec<String>,
    /// The cluster's keys and certificates, by their paths under kubeadm's folder.
    pub keys: BTreeMap<&'static str, Secret<String>>,
}

/// The name of the Secret, and of the right to read it.
#[must_use]
pub fn name(node: &NodeName) -> String {
    format!("meshboot-control-plane-{node}")
}

/// The keys of a control plane, out of its folder.
///
/// # Errors
///
/// One cannot be read that every control plane has.
pub fn keys(folder: &Path) -> Result<BTreeMap<&'static str, Secret<String>>> {
    let mut keys = BTreeMap::new();
    for (at, (path, _)) in FILES.into_iter().enumerate() {
        let file = folder.join(path);
        match fs::read_to_string(&file) {
            Ok(text) => drop(keys.insert(path, Secret::new(text))),
            Err(error) if at >= NEEDED && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }
    Ok(keys)
}

// === impl Ticket ===

impl Ticket {
    fn object(&self, node: &NodeName) -> Object {
        let words = [(MEMBER, self.member.to_string()), (MEMBERS, self.members.join(","))];
        let words = words.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
        let keys = FILES.into_iter().filter_map(|(path, name)| {
            let text = self.keys.get(path)?.expose().clone();
            Some((name.to_owned(), ByteString(text.into_bytes())))
        });
        Object {
            metadata: metadata(node),
            type_: Some("meshboot.io/control-plane".to_owned()),
            data: Some(words.into_iter().chain(keys).collect()),
            ..Object::default()
        }
    }

    fn of(object: Object) -> Result<Self> {
        let mut data = object.data.unwrap_or_default();
        let mut take = |name: &str| data.remove(name).and_then(|text| String::from_utf8(text.0).ok());
        let member = take(MEMBER).and_then(|text| text.parse().ok()).context("it names no member")?;
        let members = take(MEMBERS).context("it does not name etcd's members")?;
        let mut keys = BTreeMap::new();
        for (at, (path, name)) in FILES.into_iter().enumerate() {
            match take(name) {
                Some(text) => drop(keys.insert(path, Secret::new(text))),
                None if at >= NEEDED => {}
                None => return Err(anyhow::anyhow!("it lacks {name}")),
            }
        }
        Ok(Self { member, members: members.split(',').map(str::to_owned).collect(), keys })
    }
}

fn metadata(node: &NodeName) -> ObjectMeta {
    ObjectMeta { name: Some(name(node)), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() }
}

/// May read the one Secret.
fn role(node: &NodeName) -> Role {
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".to_owned()]),
        resource_names: Some(vec![name(node)]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    };
    Role { metadata: metadata(node), rules: Some(vec![rule]) }
}

/// Who may: the node's own user, no group.
fn binding(node: &NodeName) -> RoleBinding {
    RoleBinding {
        metadata: metadata(node),
        role_ref: RoleRef { api_group: RBAC.to_owned(), kind: "Role".to_owned(), name: name(node) },
        subjects: Some(vec![Subject {
            api_group: Some(RBAC.to_owned()),
            kind: "User".to_owned(),
            name: format!("system:node:{node}"),
            namespace: None,
        }]),
    }
}

// === impl Cluster ===

impl Cluster {
    /// Gives a node its ticket, and tells it so.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer. Whatever was written is written again the next time.
    pub async fn give_ticket(&self, node: &NodeName, ticket: &Ticket) -> Result<()> {
        let what = || format!("cannot give {node} what it becomes a control plane with");
        let given = async {
            self.apply(node, &role(node)).await?;
            self.apply(node, &binding(node)).await?;
            self.apply(node, &ticket.object(node)).await?;
            self.annotate(node, TICKET, Some(&ticket.member.to_string())).await
        };
        given.await.with_context(what)
    }

    /// The ticket of a node.
    ///
    /// # Errors
    ///
    /// There is none, it is damaged, or the API server refused or did not answer.
    pub async fn ticket(&self, node: &NodeName) -> Result<Ticket> {
        let what = || format!("cannot read the Secret {NAMESPACE}/{}", name(node));
        let secrets: Api<Object> = Api::namespaced(self.client().clone(), NAMESPACE);
        let found = secrets.get(&name(node)).await.with_context(what)?;
        Ticket::of(found).with_context(what)
    }

    /// Takes a node's ticket away; that there is none is no error.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn take_ticket(&self, node: &NodeName) -> Result<()> {
        let what = || format!("cannot take back what {node} becomes a control plane with");
        let taken = async {
            self.annotate(node, TICKET, None).await?;
            self.discard::<Object>(node).await?;
            self.discard::<RoleBinding>(node).await?;
            self.discard::<Role>(node).await
        };
        taken.await.with_context(what)
    }

    /// Writes an annotation of a node, or takes it away; a node that is gone has none.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn annotate(&self, node: &NodeName, key: &str, value: Option<&str>) -> kube::Result<()> {
        let nodes: Api<Node> = Api::all(self.client().clone());
        let patch = json!({ "metadata": { "annotations": { key: value } } });
        match nodes.patch(node.as_str(), &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() && value.is_none() => Ok(()),
            patched => patched.map(drop),
        }
    }

    async fn apply<K>(&self, node: &NodeName, object: &K) -> kube::Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let all: Api<K> = Api::namespaced(self.client().clone(), NAMESPACE);
        let params = PatchParams::apply(MANAGER).force();
        all.patch(&name(node), &params, &Patch::Apply(object)).await.map(drop)
    }

    async fn discard<K>(&self, node: &NodeName) -> kube::Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let all: Api<K> = Api::namespaced(self.client().clone(), NAMESPACE);
        match all.delete(&name(node), &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => deleted.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etcd")).unwrap();
        for file in files {
            fs::write(folder.path().join(file), format!("PRIVATE {file}")).unwrap();
        }
        folder
    }

    fn all() -> Vec<&'static str> {
        FILES.map(|(path, _)| path).to_vec()
    }

    #[test]
    fn keys_come_back_as_they_were_and_are_never_shown() {
        let node: NodeName = "node1".parse().unwrap();
        for files in [all(), all()[..NEEDED].to_vec()] {
            let keys = keys(folder(&files).path()).unwrap();
            let members = vec!["seed=https://[::1]:2380".to_owned(), "node1=https://[::2]:2380".to_owned()];
            let ticket = Ticket { member: MemberId(10), members, keys };
            assert!(!format!("{ticket:?}").contains("PRIVATE"));
            let object = ticket.object(&node);
            assert_eq!(object.metadata.name.as_deref(), Some("meshboot-control-plane-node1"));
            let read = Ticket::of(object).unwrap();
            assert_eq!((read.member, &read.members), (ticket.member, &ticket.members));
            let exposed = |ticket: &Ticket| -> Vec<(&str, String)> {
                ticket.keys.iter().map(|(path, text)| (*path, text.expose().clone())).collect()
            };
            assert_eq!(exposed(&read), exposed(&ticket));
            assert_eq!(read.keys.len(), files.len());
        }
    }

    #[test]
    fn what_lacks_a_key_is_no_ticket() {
        let error = keys(folder(&["ca.crt"]).path()).unwrap_err();
        assert!(error.to_string().contains("ca.key"), "{error}");
        let ticket = Ticket { member: MemberId(10), members: vec!["a=b".to_owned()], keys: BTreeMap::new() };
        let error = Ticket::of(ticket.object(&"node1".parse().unwrap())).unwrap_err();
        assert!(error.to_string().contains("ca.crt"), "{error}");
        assert!(Ticket::of(Object::default()).unwrap_err().to_string().contains("no member"));
    }

    #[test]
    fn only_the_node_itself_may_read_it_and_nothing_else() {
        let node = "node1".parse().unwrap();
        let rules = role(&node).rules.unwrap();
        assert_eq!((rules.len(), &*rules[0].verbs), (1, &["get".to_owned()][..]));
        assert_eq!(rules[0].resource_names.as_deref(), Some(&[name(&node)][..]));
        let subjects = binding(&node).subjects.unwrap();
        let subjects: Vec<_> = subjects.iter().map(|one| (one.kind.as_str(), one.name.as_str())).collect();
        assert_eq!(subjects, [("User", "system:node:node1")]);
    }
}
