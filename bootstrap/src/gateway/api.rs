//! Finds the API server, keeps looking whether it answers, and moves the ledger there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh::{AddressPlan, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::status::ApiStatus;
use crate::join::{Cluster, credentials};
use crate::store::journal::MeshStore;
use crate::store::kubernetes::KubernetesStore;

/// Time between two questions while the API server has not answered yet, and afterwards.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The API server as this node sees it.
#[derive(Debug, Clone)]
pub struct Api {
    cluster: watch::Receiver<Option<Cluster>>,
    status: watch::Receiver<ApiStatus>,
}

/// Keeps an [`Api`] true.
#[derive(Debug)]
pub struct Watcher {
    cluster: watch::Sender<Option<Cluster>>,
    status: watch::Sender<ApiStatus>,
    store: Arc<MeshStore>,
    plan: AddressPlan,
    /// Whose ledger a seed hands over; it also prepares the cluster for its relays.
    origin: Option<String>,
    /// The credentials in use, once the ledger is kept in Kubernetes.
    adopted: Option<PathBuf>,
}

// === impl Api ===

impl Api {
    /// The cluster, if its API server answers; else why not.
    ///
    /// # Errors
    ///
    /// The reason, as `status` shows it.
    pub fn cluster(&self) -> Result<Cluster, String> {
        let absent =
            || self.status.borrow().reason.clone().unwrap_or_else(|| "it was not asked yet".to_owned());
        self.cluster.borrow().clone().ok_or_else(absent)
    }

    /// The cluster, as soon as its API server answers; none if nobody looks for it any more.
    pub async fn ready(&self) -> Option<Cluster> {
        let mut seen = self.cluster.clone();
        let cluster = seen.wait_for(Option::is_some).await.ok()?;
        cluster.clone()
    }

    /// For the status page.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ApiStatus> {
        self.status.clone()
    }
}

// === impl Watcher ===

impl Watcher {
    /// Knows nothing yet. `origin` names the seed whose ledger is handed over; a relay has none.
    #[must_use]
    pub fn new(store: Arc<MeshStore>, plan: AddressPlan, origin: Option<String>) -> (Self, Api) {
        let reason = Some("the API server was not asked yet".to_owned());
        let (status, status_seen) = watch::channel(ApiStatus { available: false, reason });
        let (cluster, cluster_seen) = watch::channel(None);
        let watcher = Self { cluster, status, store, plan, origin, adopted: None };
        (watcher, Api { cluster: cluster_seen, status: status_seen })
    }

    /// Asks again and again until `stop` changes.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut slow = tokio::time::interval(INTERVALS.1);
        let mut fast = tokio::time::interval(INTERVALS.0);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        fast.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let ticks = if self.cluster.borrow().is_some() { &mut slow } else { &mut fast };
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.changed() => break,
            }
            let answer = self.look().await;
            self.tell(answer);
        }
    }

    async fn look(&mut self) -> Result<Cluster> {
        let known = self.cluster.borrow().clone();
        if let Some(cluster) = known
            && cluster.ping().await.is_ok()
        {
            return Ok(cluster);
        }
        // A fresh client also reads credentials that were renewed in the meantime.
        // Files that look like credentials are there long before the node is a member.
        let member = Path::new(ignition::cluster::MEMBER_MARK).exists();
        let Some(file) = credentials().into_iter().find(|file| member && file.exists()) else {
            bail!("this node has not joined yet");
        };
        let cluster = Cluster::open(&file).await?;
        cluster.ping().await?;
        if self.adopted.as_ref() != Some(&file) {
            self.adopt(&file).await.context("the ledger is not in Kubernetes yet")?;
            self.adopted = Some(file);
        }
        Ok(cluster)
    }

    async fn adopt(&self, credentials: &Path) -> Result<()> {
        let kubernetes = Arc::new(KubernetesStore::new(credentials, self.plan.clone(), Handle::current()));
        let (store, origin) = (Arc::clone(&self.store), self.origin.clone());
        let adopt = move || -> Result<(), StoreError> {
            if origin.is_some() {
                kubernetes.install()?;
            }
            store.connect(kubernetes, origin.as_deref())
        };
        tokio::task::spawn_blocking(adopt).await.context("the ledger's task ended")??;
        tracing::info!("the ledger is kept in Kubernetes");
        Ok(())
    }

    fn tell(&self, answer: Result<Cluster>) {
        let status = match &answer {
            Ok(_) => ApiStatus { available: true, reason: None },
            Err(error) => ApiStatus { available: false, reason: Some(format!("{error:#}")) },
        };
        self.status.send_if_modified(|known| {
            let changed = *known != status;
            if changed {
                tracing::info!(available = status.available, reason = status.reason, "API server");
                known.clone_from(&status);
            }
            changed
        });
        if answer.is_ok() != self.cluster.borrow().is_some() || answer.is_ok() {
            self.cluster.send_replace(answer.ok());
        }
    }
}
