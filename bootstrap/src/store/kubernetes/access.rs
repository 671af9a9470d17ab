//! The connection to the API: made from a kubeconfig when it is needed, and made anew when it is suspect.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Config};
use mesh::StoreError;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{HEAD, NAMESPACE};
use crate::store::crds::MachineObject;

/// A neighbour answers in milliseconds; who does not answer in this time is away.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a kubeconfig is believed.
const MAX_AGE: Duration = Duration::from_secs(300);

/// A connection and what it is made from.
pub(super) struct Access {
    kubeconfig: PathBuf,
    runtime: Handle,
    held: Mutex<Option<Held>>,
}

#[derive(Clone)]
struct Held {
    client: Client,
    url: String,
    since: Instant,
}

// === impl Access ===

impl Access {
    pub(super) fn new(kubeconfig: PathBuf, runtime: Handle) -> Self {
        Self { kubeconfig, runtime, held: Mutex::default() }
    }

    /// Does something with the API within a time, on a thread that may block.
    pub(super) fn run<T>(
        &self,
        limit: Duration,
        doing: &str,
        act: impl AsyncFnOnce(Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            let held = self.client().await?;
            let result = tokio::time::timeout(limit, act(held.client)).await.unwrap_or_else(|_| {
                let reason = format!("no answer within {} s", limit.as_secs());
                Err(StoreError::Unavailable { reason })
            });
            result.map_err(|error| self.blame(error, doing, &held.url))
        })
    }

    /// See [`KubernetesStore::watch`](super::KubernetesStore::watch).
    pub(super) async fn watch(&self, changed: &Notify) -> StoreError {
        let held = match self.client().await {
            Ok(held) => held,
            Err(error) => return error,
        };
        let heads: Api<ConfigMap> = Api::namespaced(held.client.clone(), NAMESPACE);
        let head = watcher(heads, watcher::Config::default().fields(&format!("metadata.name={HEAD}")));
        // A machine that somebody deletes is gone from the ledger, and its head is the same.
        let machines =
            watcher(Api::<PartialObjectMeta<MachineObject>>::all(held.client), watcher::Config::default());
        let (mut head, mut machines) = (pin!(head), pin!(machines));
        let reason = loop {
            let seen = tokio::select! {
                event = head.try_next() => event.map(|event| event.map(|event| !begins(&event))),
                event = machines.try_next() => {
                    event.map(|event| event.map(|event| matches!(event, watcher::Event::Delete(_))))
                }
            };
            match seen {
                Ok(Some(true)) => changed.notify_one(),
                Ok(Some(false)) => {}
                Ok(None) => break "the watch ended".to_owned(),
                Err(error) => break chain(&error),
            }
        };
        self.blame(StoreError::Unavailable { reason }, "watch the ledger", &held.url)
    }

    async fn client(&self) -> Result<Held, StoreError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(held) = held.filter(|held| held.since.elapsed() < MAX_AGE) {
            return Ok(held);
        }
        let made = connect(&self.kubeconfig).await.map_err(|reason| StoreError::Unavailable {
            reason: format!("the kubeconfig {} cannot be used: {reason}", self.kubeconfig.display()),
        })?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
        Ok(made)
    }

    /// Names the API in the error, and forgets a connection that may be the cause of it.
    fn blame(&self, error: StoreError, doing: &str, url: &str) -> StoreError {
        let StoreError::Unavailable { reason } = error else { return error };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        StoreError::Unavailable { reason: format!("cannot {doing} in the Kubernetes API at {url}: {reason}") }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

async fn connect(kubeconfig: &Path) -> Result<Held, String> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).map_err(|error| chain(&error))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| chain(&error))?;
    config.connect_timeout = Some(CONNECT);
    // The API is a machine of this mesh: no proxy leads to it.
    config.proxy_url = None;
    // Whoever calls has a limit and a plan for what comes after it.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| chain(&error))?;
    Ok(Held { client, url, since: Instant::now() })
}

/// Whether it is a part of the list that a watch begins with. What is at its end is news: of what was before it, nobody knew.
fn begins<K>(event: &watcher::Event<K>) -> bool {
    matches!(event, watcher::Event::Init | watcher::Event::InitApply(_))
}

/// An answer that has no meaning for whoever asked.
pub(super) fn unavailable(error: &kube::Error) -> StoreError {
    let reason = if let kube::Error::Api(status) = error {
        format!("HTTP {}: {}", status.code, status.message)
    } else if let kube::Error::Service(cause) = error {
        chain(&**cause)
    } else {
        chain(error)
    };
    StoreError::Unavailable { reason }
}

/// An error and its causes; those that repeat what was said already are left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
