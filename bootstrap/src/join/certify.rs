//! Certificates for those who serve boot files by HTTPS: nodes ask Kubernetes for them, and a seed signs.
//!
//! Who asks is the API server's word. From the request itself only the key is taken: what it is signed for is the node's
//! own, by the ledger. So a node can be shown to firmware as itself and as nobody else, and no key leaves its machine.

use std::collections::BTreeSet;
use std::fmt;
use std::future::ready;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use mesh::{Block, NodeName};

use super::Cluster;
use super::approve::{WATCH, condition};
use super::decide::{Request, shown};
use crate::pki::boot::BootSigner;

/// The signer of boot servers' certificates.
pub const BOOT_SIGNER: &str = "meshboot.io/boot-server";
/// What such a certificate is for.
const USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];
/// What the user name of a node begins with, and its group.
const NODE_USER: &str = "system:node:";
const NODES: &str = "system:nodes";
/// How long a seed may take to sign.
const SIGN_LIMIT: Duration = Duration::from_secs(60);

/// What a seed needs to certify boot servers.
pub struct Certifier {
    signer: BootSigner,
    block_of: Box<BlockOf>,
}

/// Says which block a node has.
type BlockOf = dyn Fn(&NodeName) -> Option<Block> + Send + Sync;

/// Why a boot server's certificate is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No node asks.
    #[error("a node of the mesh asks for its own certificate, and this was asked for by {0}")]
    NotANode(String),
    /// It is to be used for something else.
    #[error(
        "a boot server's certificate is for digital signature, key encipherment and server auth, not for: {0}"
    )]
    OtherUsages(String),
    /// The ledger has no such node.
    #[error("the ledger knows no node {0}; if it is new it may ask again")]
    UnknownNode(NodeName),
    /// The request is none.
    #[error("the request cannot be read, or is not signed with the key that it is for")]
    Malformed,
}

/// Who asks for a boot server's certificate.
///
/// # Errors
///
/// Nobody who may have one, or for something else.
pub fn asking_node(request: &Request<'_>) -> Result<NodeName, Denial> {
    let name = request.username.strip_prefix(NODE_USER).and_then(|name| name.parse().ok());
    let is_node = request.groups.iter().any(|group| group == NODES);
    let node = name.filter(|_| is_node).ok_or_else(|| Denial::NotANode(shown(request.username)))?;
    let usages: BTreeSet<&str> = request.usages.iter().map(String::as_str).collect();
    if usages != BTreeSet::from(USAGES) {
        return Err(Denial::OtherUsages(shown(&request.usages.join(", "))));
    }
    Ok(node)
}

// === impl Certifier ===

impl Certifier {
    /// Signs by `signer` for the blocks that nodes have.
    #[must_use]
    pub fn new(
        signer: BootSigner,
        block_of: impl Fn(&NodeName) -> Option<Block> + Send + Sync + 'static,
    ) -> Self {
        Self { signer, block_of: Box::new(block_of) }
    }

    fn judge(&self, request: &Request<'_>, now: SystemTime) -> Result<(NodeName, String), Denial> {
        let node = asking_node(request)?;
        let block = (self.block_of)(&node).ok_or_else(|| Denial::UnknownNode(node.clone()))?;
        let pem = std::str::from_utf8(request.pem).map_err(|_| Denial::Malformed)?;
        let signed = self.signer.sign(pem, &node, block, now).map_err(|_| Denial::Malformed)?;
        Ok((node, signed))
    }
}

impl fmt::Debug for Certifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certifier").finish_non_exhaustive()
    }
}

// === impl Denial ===

impl Denial {
    fn reason(&self) -> &'static str {
        match self {
            Self::NotANode(_) => "NotANode",
            Self::OtherUsages(_) => "OtherUsages",
            Self::UnknownNode(_) => "UnknownNode",
            Self::Malformed => "Malformed",
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Asks for this node's certificate as a boot server, and waits for it; gives it in PEM.
    ///
    /// # Errors
    ///
    /// The API server did not answer, or no seed signed in time, or one denied it.
    pub async fn certify(&self, node: &NodeName, request_pem: &str) -> Result<String> {
        let object = CertificateSigningRequest {
            metadata: ObjectMeta {
                generate_name: Some(format!("boot-server-{node}-")),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                signer_name: BOOT_SIGNER.to_owned(),
                usages: Some(USAGES.map(str::to_owned).into()),
                request: ByteString(request_pem.as_bytes().to_vec()),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        };
        let created = self.requests().create(&PostParams::default(), &object).await;
        let name = created.context("cannot ask for a boot server's certificate")?.name_any();
        let config = watcher::Config::default().timeout(WATCH).fields(&format!("metadata.name={name}"));
        let changes = watcher(self.requests(), config).applied_objects();
        let mut decided = pin!(changes.try_filter(|object| ready(is_settled(object))));
        let Ok(decided) = tokio::time::timeout(SIGN_LIMIT, decided.try_next()).await else {
            let limit = SIGN_LIMIT.as_secs();
            bail!("no seed's gateway signed the request {name} within {limit} s");
        };
        let decided = decided.with_context(|| format!("cannot wait for the request {name}"))?;
        let status = decided.and_then(|object| object.status).unwrap_or_default();
        let Some(certificate) = status.certificate else {
            let message = status.conditions.into_iter().flatten().find_map(|condition| condition.message);
            bail!("the request {name} was not granted: {}", message.unwrap_or_default());
        };
        String::from_utf8(certificate.0).with_context(|| format!("the certificate of {name} is no PEM"))
    }

    /// Decides on a request for a boot server's certificate, and signs what was granted: each is a step of its own, and
    /// what is left to be done is read off the request.
    pub(super) async fn settle_boot_server(
        &self,
        object: CertificateSigningRequest,
        request: &Request<'_>,
        certifier: &Certifier,
    ) -> Result<()> {
        let name = object.name_any();
        match (certifier.judge(request, SystemTime::now()), is_approved(&object)) {
            (Ok((node, _)), false) => {
                let message = format!("the ledger knows {node}");
                if self.mark(object, condition("Approved", "NodeOfTheMesh", message)).await? {
                    tracing::info!(request = name, %node, "a boot server's certificate is approved");
                }
            }
            (Ok((node, signed)), true) => {
                let mut object = object;
                object.status.get_or_insert_default().certificate = Some(ByteString(signed.into_bytes()));
                if self.write(&object, "status").await? {
                    tracing::info!(request = name, %node, "a boot server's certificate is signed");
                }
            }
            // Approved by somebody else; it is not signed.
            (Err(denial), true) => {
                let condition = condition("Failed", denial.reason(), denial.to_string());
                self.mark_in(object, condition, "status").await?;
            }
            (Err(denial), false) => {
                if self.mark(object, condition("Denied", denial.reason(), denial.to_string())).await? {
                    tracing::warn!(request = name, reason = %denial, "a boot server's certificate is denied");
                }
            }
        }
        Ok(())
    }
}

fn is_approved(object: &CertificateSigningRequest) -> bool {
    has(object, &["Approved"])
}

/// Whether it is signed, or never will be.
pub(super) fn is_settled(object: &CertificateSigningRequest) -> bool {
    let signed = object.status.as_ref().is_some_and(|status| status.certificate.is_some());
    signed || has(object, &["Denied", "Failed"])
}

fn has(object: &CertificateSigningRequest, kinds: &[&str]) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions).flatten();
    conditions.into_iter().any(|condition| kinds.contains(&condition.type_.as_str()))
}

#[cfg(test)]
mod tests;
