//! Finds the API server, keeps looking whether it answers, and moves the ledger there.
//!
//! A node that becomes a control plane gets an administrator's credentials while its gateway runs: they are taken from then
//! on.

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
    known: watch::Receiver<Option<Known>>,
    status: watch::Receiver<ApiStatus>,
}

/// The API server that answers, and by whose right it is asked.
#[derive(Debug, Clone)]
struct Known {
    cluster: Cluster,
    credentials: PathBuf,
}

/// Keeps an [`Api`] true.
#[derive(Debug)]
pub struct Watcher {
    known: watch::Sender<Option<Known>>,
    status: watch::Sender<ApiStatus>,
    store: Arc<MeshStore>,
    plan: AddressPlan,
    /// Whose ledger a seed hands over.
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
        self.known.borrow().as_ref().map(|known| known.cluster.clone()).ok_or_else(absent)
    }

    /// The cluster, as soon as its API server answers; none if nobody looks for it any more.
    pub async fn ready(&self) -> Option<Cluster> {
        self.when(|_| true).await
    }

    /// The same, once this node may do everything: on a control plane.
    pub async fn administrator(&self) -> Option<Cluster> {
        self.when(Known::is_administrators).await
    }

    async fn when(&self, is_it: impl Fn(&Known) -> bool) -> Option<Cluster> {
        let mut seen = self.known.clone();
        let known = seen.wait_for(|known| known.as_ref().is_some_and(&is_it)).await.ok()?;
        known.as_ref().map(|known| known.cluster.clone())
    }

    /// For the status page.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ApiStatus> {
        self.status.clone()
    }
}

// === impl Known ===

impl Known {
    fn is_administrators(&self) -> bool {
        is_administrators(&self.credentials)
    }
}

// === impl Watcher ===

impl Watcher {
    /// Knows nothing yet. `origin` names the seed whose ledger is handed over; a relay has none.
    #[must_use]
    pub fn new(store: Arc<MeshStore>, plan: AddressPlan, origin: Option<String>) -> (Self, Api) {
        let reason = Some("the API server was not asked yet".to_owned());
        let (status, status_seen) = watch::channel(ApiStatus { available: false, reason });
        let (known, known_seen) = watch::channel(None);
        let watcher = Self { known, status, store, plan, origin, adopted: None };
        (watcher, Api { known: known_seen, status: status_seen })
    }

    /// Asks again and again until `stop` changes.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut slow = tokio::time::interval(INTERVALS.1);
        let mut fast = tokio::time::interval(INTERVALS.0);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        fast.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let ticks = if self.known.borrow().is_some() { &mut slow } else { &mut fast };
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.changed() => break,
            }
            let answer = self.look().await;
            self.tell(answer);
        }
    }

    async fn look(&mut self) -> Result<Known> {
        // Files that look like credentials are there long before the node is a member.
        let member = Path::new(ignition::cluster::MEMBER_MARK).exists();
        let Some(file) = credentials().into_iter().find(|file| member && file.exists()) else {
            bail!("this node has not joined yet");
        };
        let known = self.known.borrow().clone();
        if let Some(known) = known.filter(|known| known.credentials == file)
            && known.cluster.ping().await.is_ok()
        {
            return Ok(known);
        }
        // A fresh client also reads credentials that were renewed in the meantime.
        let cluster = Cluster::open(&file).await?;
        cluster.ping().await?;
        if self.adopted.as_ref() != Some(&file) {
            self.adopt(&file).await.context("the ledger is not in Kubernetes yet")?;
            self.adopted = Some(file.clone());
        }
        Ok(Known { cluster, credentials: file })
    }

    async fn adopt(&self, credentials: &Path) -> Result<()> {
        let kubernetes = Arc::new(KubernetesStore::new(credentials, self.plan.clone(), Handle::current()));
        let (store, origin) = (Arc::clone(&self.store), self.origin.clone());
        let may_install = is_administrators(credentials);
        let adopt = move || -> Result<(), StoreError> {
            if may_install {
                kubernetes.install()?;
            }
            store.connect(kubernetes, origin.as_deref())
        };
        tokio::task::spawn_blocking(adopt).await.context("the ledger's task ended")??;
        tracing::info!("the ledger is kept in Kubernetes");
        Ok(())
    }

    fn tell(&self, answer: Result<Known>) {
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
        if answer.is_ok() != self.known.borrow().is_some() || answer.is_ok() {
            self.known.send_replace(answer.ok());
        }
    }
}

/// Whether a file of credentials is the one that a control plane alone has.
fn is_administrators(file: &Path) -> bool {
    let [administrators, _] = credentials();
    file == administrators
}
