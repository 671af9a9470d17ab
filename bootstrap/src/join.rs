//! Joining: bootstrap tokens, what they are good for, and what Kubernetes says of a node.
//!
//! A token is minted when a machine's configuration is rendered, for that machine and that boot alone. It
//! lives for minutes, and a seed revokes it when its node is Ready, or when the machine is given another one
//! ([`Cluster::sweep`]).
//!
//! It is bound to the one node that it was minted for. kubeadm's tokens are not: they are of the group
//! `system:bootstrappers:kubeadm:default-node-token`, and kubeadm binds that group (`kubeadm:node-autoapprove-bootstrap`)
//! to a right by which kube-controller-manager approves the certificate of **any** node. So machines' tokens are of
//! another group, [`GROUP`], which has no such right: nothing approves their requests but a seed's gateway
//! ([`Cluster::approve`]), and that only for the node that the token's Secret names ([`decide`]). No
//! object of kubeadm's is changed, so `kubeadm upgrade` cannot bring back what it never granted, there is no moment in
//! which it could be used, the renewal of certificates by nodes stays as it is, and tokens that an operator makes by
//! `kubeadm token create` work as they do everywhere: Kubernetes approves what they ask for, and this module
//! leaves it alone. Before each token the API server is asked whether its group is still without the right; if
//! somebody has given it to all bootstrap tokens there is no token, but an error that names the binding.
//!
//! What else a token may do, until it ends: read `cluster-info` as everybody may, the ConfigMaps of `kube-system` that
//! `kubeadm join` reads, any Node object, and any request for a certificate, of which it may make more. It may read no
//! Secret and change nothing. Whoever steals it can be, within its minutes, the node that it is for; only a
//! machine with a key of its own before it boots (a TPM) could be told from its thief.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use aws_lc_rs::rand;
use ignition::{BootstrapToken, KubernetesVersion};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mesh::NodeName;
use serde::de::DeserializeOwned;

pub(crate) use self::approve::WATCH;
pub use self::certify::Certifier;
pub use self::token::{Grant, NoGrant, secret};

mod approve;
pub mod certify;
pub mod decide;
mod reserve;
mod sweep;
mod token;

/// How long a token lives, unless its node is Ready before: as long as a machine tries to join.
pub const TOKEN_LIFETIME: Duration = ignition::JOIN_LIMIT;
/// The group of machines' tokens. What it may do is installed with the ledger's definitions.
pub const GROUP: &str = "system:bootstrappers:meshboot";
/// The label that names the machine a token was minted for.
pub const MACHINE_LABEL: &str = "meshboot.io/machine";
/// The label that names the node a token is bound to.
pub const NODE_LABEL: &str = "meshboot.io/node";
/// The group that the API server puts every bootstrap token into.
const ALL_TOKENS: &str = "system:bootstrappers";
/// Where bootstrap tokens live.
const NAMESPACE: &str = "kube-system";
/// How long a question to the API server may take.
const API_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of the cluster's API server with the right to admit machines.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

/// What Kubernetes says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeState {
    /// Whether its Ready condition is true.
    pub ready: bool,
    /// Names the boot that it speaks of.
    pub boot_id: String,
    /// The Ready condition's message, where it is not true.
    pub reason: Option<String>,
}

/// The files a node may find its credentials in: an administrator's on a control plane, a kubelet's elsewhere.
#[must_use]
pub fn credentials() -> [PathBuf; 2] {
    ["/etc/kubernetes/admin.conf", "/etc/kubernetes/kubelet.conf"].map(PathBuf::from)
}

/// A token that is good for nothing yet.
///
/// # Errors
///
/// The kernel has no randomness to give.
pub fn new_token() -> Result<BootstrapToken> {
    Ok(BootstrapToken::from_random(u64::from_ne_bytes(random()?), u128::from_ne_bytes(random()?)))
}

/// Deletes an object; whether there was one.
async fn delete<K>(api: Api<K>, name: &NodeName) -> kube::Result<bool>
where
    K: Clone + DeserializeOwned + fmt::Debug,
{
    match api.delete(name.as_str(), &DeleteParams::default()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut octets = [0; N];
    rand::fill(&mut octets).map_err(|_| anyhow!("the kernel gave no random numbers"))?;
    Ok(octets)
}

// === impl Cluster ===

impl Cluster {
    /// A client with the credentials of a kubeconfig file.
    ///
    /// # Errors
    ///
    /// The file is absent or no kubeconfig. The API server is not asked yet.
    pub async fn open(kubeconfig: &Path) -> Result<Self> {
        let what = || format!("cannot use the credentials in {}", kubeconfig.display());
        let file = Kubeconfig::read_from(kubeconfig).with_context(what)?;
        let mut config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(what)?;
        config.proxy_url = None;
        config.connect_timeout = Some(API_TIMEOUT);
        config.read_timeout = Some(API_TIMEOUT);
        config.write_timeout = Some(API_TIMEOUT);
        Ok(Self { client: Client::try_from(config).with_context(what)? })
    }

    /// The client itself, for what is no business of this module.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Deletes a node; whether there was one.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn delete_node(&self, name: &NodeName) -> Result<bool> {
        let what = || format!("cannot delete the node {name}");
        delete(Api::<Node>::all(self.client.clone()), name).await.with_context(what)
    }

    /// Whether the API server answers.
    ///
    /// # Errors
    ///
    /// It does not.
    pub async fn ping(&self) -> Result<()> {
        self.client.apiserver_version().await.map(drop).context("the API server does not answer")
    }

    /// The version of the API server.
    ///
    /// # Errors
    ///
    /// It does not answer, or names none.
    pub async fn version(&self) -> Result<KubernetesVersion> {
        let info = self.client.apiserver_version().await.context("the API server does not answer")?;
        let version = info.git_version.parse();
        version.with_context(|| format!("the API server says that it is {}", info.git_version))
    }

    /// Makes a token good for something: for one boot of one machine as one node.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer, or Kubernetes would approve any node's certificate for the token:
    /// the machine gets no configuration.
    pub async fn mint(&self, token: &BootstrapToken, relay: &NodeName, grant: &Grant) -> Result<()> {
        self.check_unapproved(token).await?;
        self.secrets()
            .create(&PostParams::default(), &secret(token, relay, grant))
            .await
            .with_context(|| format!("cannot store a bootstrap token for {}", grant.node))
            .map(drop)
    }

    /// What a token was minted for.
    ///
    /// # Errors
    ///
    /// The API server refused (only an administrator may read secrets) or did not answer.
    pub async fn grant(&self, token_id: &str) -> Result<Result<Grant, NoGrant>> {
        let secret = self.secrets().get_opt(&token::secret_name(token_id)).await;
        let secret = secret.with_context(|| format!("cannot read the bootstrap token {token_id}"))?;
        Ok(secret.as_ref().ok_or(NoGrant::Gone).and_then(Grant::of_secret))
    }

    /// What Kubernetes says of a node; none if it knows no such node.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn node(&self, name: &NodeName) -> Result<Option<NodeState>> {
        let node = Api::<Node>::all(self.client.clone()).get_opt(name.as_str()).await;
        Ok(node.with_context(|| format!("cannot ask for the node {name}"))?.as_ref().map(NodeState::of))
    }

    /// Asks whether Kubernetes itself would approve what a token of ours asks for, whichever node's name that is: as
    /// kube-controller-manager asks when it sees such a request.
    async fn check_unapproved(&self, token: &BootstrapToken) -> Result<()> {
        let groups = [ALL_TOKENS, GROUP, "system:authenticated"];
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("{}{}", decide::TOKEN_USER, token.id())),
                groups: Some(groups.map(str::to_owned).into()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some("nodeclient".to_owned()),
                    verb: Some("create".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let what = "cannot ask what a bootstrap token may do";
        let answer =
            Api::all(self.client.clone()).create(&PostParams::default(), &review).await.context(what)?;
        let status = answer.status.with_context(|| format!("{what}: the API server did not say"))?;
        ensure!(
            !status.allowed,
            "a bootstrap token could be used for any node's certificate ({}): take the groups {ALL_TOKENS} and {GROUP} \
             out of that binding",
            status.reason.as_deref().unwrap_or("the API server does not say why")
        );
        Ok(())
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

// === impl NodeState ===

impl NodeState {
    /// Reads it off a Node object.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let Some(status) = &node.status else { return Self::default() };
        let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        Self {
            ready: ready.is_some_and(|condition| condition.status == "True"),
            boot_id: status.node_info.as_ref().map(|info| info.boot_id.clone()).unwrap_or_default(),
            reason: ready.filter(|condition| condition.status != "True").and_then(|one| one.message.clone()),
        }
    }

    /// Whether the node is Ready in a boot other than the one it was seen in before, if it was.
    #[must_use]
    pub fn is_ready_since(&self, boot_before: Option<&str>) -> bool {
        self.ready && boot_before != Some(&self.boot_id)
    }
}

#[cfg(test)]
mod tests;
