//! Answers a request for a configuration: judge, allocate, render, mint the token that was rendered, in this order, and
//! each step durable before the next.

use std::sync::Arc;

use anyhow::{Context, Result};
use ignition::NodeSpec;
use jiff::Timestamp;
use mesh::store::{TransactError, transact};
use mesh::{AdmitError, Claim, Ledger, Mac, Machine, MachineId, NodeName, allocate};

use super::admit::{Refusal, Request, check_alive, check_images, claim, tie};
use super::api::Api;
use super::follow::{Follower, Journey};
use super::render::node_config;
use super::settings::{GatewaySettings, Reservation};
use crate::join::{self, Cluster, Grant, NodeState};
use crate::store::journal::MeshStore;

/// Admits machines.
#[derive(Debug, Clone)]
pub struct Admitter {
    settings: Arc<GatewaySettings>,
    store: Arc<MeshStore>,
    api: Api,
    follower: Follower,
}

/// Why a machine gets no configuration.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It may not have one; asking again does not help as things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is none to give.
    #[error(transparent)]
    Full(#[from] AdmitError),
    /// It cannot be made at the moment: the machine asks again by itself.
    #[error("not ready: {0:#}")]
    NotReady(anyhow::Error),
}

// === impl Admitter ===

impl Admitter {
    /// An admitter with nobody on the way.
    #[must_use]
    pub fn new(settings: Arc<GatewaySettings>, store: Arc<MeshStore>, api: Api, follower: Follower) -> Self {
        Self { settings, store, api, follower }
    }

    /// The configuration for the machine that asks.
    ///
    /// # Errors
    ///
    /// See [`AnswerError`]. What was durable before the failure stays and is found again at the next request.
    pub async fn answer(&self, request: Request) -> Result<String, AnswerError> {
        let cluster = self.api.cluster().map_err(|reason| AnswerError::NotReady(anyhow::anyhow!(reason)))?;
        let wanted = self.reservation(&cluster, &request).await.map_err(AnswerError::NotReady)?;
        let (claim, machine) = self.admit(request.clone(), wanted.as_ref()).await?;
        check_images(&request, wanted.as_ref().and_then(|wanted| wanted.spec.image.as_ref()))?;
        let before = cluster.node(&machine.name).await.map_err(AnswerError::NotReady)?;
        self.tie(&claim, &machine, &request, before.clone()).await?;
        let spec = wanted.map(|wanted| wanted.spec).unwrap_or_default();
        self.configure(&cluster, &claim, &machine, &request, spec, before)
            .await
            .map_err(AnswerError::NotReady)
    }

    /// What the operator wants of the machine: what he said last is in Kubernetes.
    async fn reservation(&self, cluster: &Cluster, request: &Request) -> Result<Option<Reservation>> {
        let ports: Vec<Mac> = request.ports.iter().map(|(mac, _)| *mac).collect();
        // As when its boot file is chosen: who is one machine here and another there would start over for ever.
        let uuid = request.uuid.filter(|uuid| !MachineId(*uuid).is_shared());
        let later = cluster.reservation(uuid, &ports).await?;
        let first = || uuid.and_then(|uuid| self.settings.reservations.get(&uuid).cloned());
        Ok(later.or_else(first))
    }

    async fn admit(
        &self,
        request: Request,
        wanted: Option<&Reservation>,
    ) -> Result<(Claim, Machine), AnswerError> {
        let this = self.clone();
        let name = wanted.map(|wanted| wanted.name.clone());
        blocking(move || {
            transact(&*this.store, |ledger| {
                let claim = claim(&this.settings.site.plan, ledger, &request, free_name(ledger, &request, name.as_ref()))?;
                let admission = allocate::admit(ledger, &this.settings.site.plan, &claim)?;
                if admission.change.is_some() {
                    let machine = &admission.machine;
                    tracing::info!(node = %machine.name, machine = %machine.id, link = %request.link, "machine admitted");
                }
                Ok(((claim, admission.machine), admission.change))
            })
        })
        .await
    }

    async fn tie(
        &self,
        claim: &Claim,
        machine: &Machine,
        request: &Request,
        node: Option<NodeState>,
    ) -> Result<(), AnswerError> {
        let (this, claim, machine, link) = (self.clone(), claim.clone(), machine.clone(), request.link);
        blocking(move || {
            transact(&*this.store, |ledger| {
                check_alive(ledger, &machine, link, node.as_ref())?;
                let change = tie(&this.settings.site.plan, ledger, &machine, &claim, link);
                Ok(((), change.map_err(|error| AnswerError::NotReady(error.into()))?))
            })
        })
        .await
    }

    async fn configure(
        &self,
        cluster: &Cluster,
        claim: &Claim,
        machine: &Machine,
        request: &Request,
        spec: NodeSpec,
        before: Option<NodeState>,
    ) -> Result<String> {
        let token = join::new_token()?;
        let config = node_config(&self.settings, machine, spec, token.clone(), request.link, claim.boot_mac)?;
        let grant = Grant::for_next_boot(machine, before.as_ref(), Timestamp::now());
        cluster.mint(&token, &self.settings.machine.name, &grant).await?;
        tracing::info!(node = %machine.name, link = %request.link, token = token.id(), "configuration handed out");
        let journey = Journey { machine: machine.id, node: grant.node, link: request.link, before };
        self.follower.follow(cluster.clone(), journey);
        Ok(config)
    }
}

/// The wanted name, unless another machine has it.
fn free_name(ledger: &Ledger, request: &Request, name: Option<&NodeName>) -> Option<NodeName> {
    let name = name?;
    let owner = ledger.machine_named(name.as_str()).map(|machine| machine.id);
    (owner.is_none() || owner == request.uuid.map(MachineId)).then(|| name.clone())
}

/// Runs a transaction where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransactError<AnswerError>> + Send + 'static,
) -> Result<T, AnswerError> {
    let done = tokio::task::spawn_blocking(work).await.context("the ledger's task ended");
    match done.map_err(AnswerError::NotReady)? {
        Ok(done) => Ok(done),
        Err(TransactError::Decide(error)) => Err(error),
        Err(TransactError::Store(error)) => Err(AnswerError::NotReady(error.into())),
    }
}
