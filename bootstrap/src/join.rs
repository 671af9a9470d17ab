//! Joining: bootstrap tokens and what Kubernetes says of a node.
//!
//! A token is minted when a machine's configuration is rendered, for that machine and that boot alone. It
//! lives for minutes and is revoked when its node is Ready, or when the machine is given another one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ignition::BootstrapToken;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mesh::{MachineId, NodeName};
use ring::rand::{SecureRandom, SystemRandom};

pub use self::token::secret;

mod token;

/// How long a token lives, unless its node is Ready before: as long as a machine tries to join.
pub const TOKEN_LIFETIME: Duration = ignition::JOIN_LIMIT;
/// The label that names the machine a token was minted for.
pub const MACHINE_LABEL: &str = "meshboot.io/machine";
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

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| anyhow!("the kernel gave no random numbers"))?;
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

    /// Whether the API server answers.
    ///
    /// # Errors
    ///
    /// It does not.
    pub async fn ping(&self) -> Result<()> {
        self.client.apiserver_version().await.map(drop).context("the API server does not answer")
    }

    /// Mints a token for one machine and takes away the ones that it had.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer: the machine gets no configuration.
    pub async fn mint(
        &self,
        machine: MachineId,
        name: &NodeName,
        relay: &NodeName,
    ) -> Result<BootstrapToken> {
        let token =
            BootstrapToken::from_random(u64::from_ne_bytes(random()?), u128::from_ne_bytes(random()?));
        let lifetime = jiff::SignedDuration::try_from(TOKEN_LIFETIME).context("a constant")?;
        let secret = secret(&token, machine, name, relay, Timestamp::now() + lifetime);
        self.secrets()
            .create(&PostParams::default(), &secret)
            .await
            .with_context(|| format!("cannot store a bootstrap token for {name}"))?;
        Ok(token)
    }

    /// Takes a token away. One that is gone already is no error.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer; the token still ends by its lifetime.
    pub async fn revoke(&self, token_id: &str) -> Result<()> {
        let name = token::secret_name(token_id);
        match self.secrets().delete(&name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot revoke the bootstrap token {token_id}")),
        }
    }

    /// The identifiers of all tokens that were minted for machines, with the node each was for.
    ///
    /// # Errors
    ///
    /// The API server refused (only an administrator may list secrets) or did not answer.
    pub async fn minted(&self) -> Result<Vec<(String, MachineId)>> {
        let list = self.secrets().list(&ListParams::default().labels(MACHINE_LABEL)).await;
        let list = list.context("cannot list the bootstrap tokens")?;
        Ok(list.items.iter().filter_map(token::of_secret).collect())
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

    /// Whether the node is Ready in a boot other than the one it was seen in before.
    #[must_use]
    pub fn is_ready_since(&self, before: Option<&Self>) -> bool {
        self.ready && before.is_none_or(|before| before.boot_id != self.boot_id)
    }
}
