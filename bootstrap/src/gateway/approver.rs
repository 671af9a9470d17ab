//! A control plane decides who may become which node, who may show himself to firmware, and whose token is needed no more, for as
//! long as its gateway runs. Several of them do no harm: each decision is written on the version that it was made on, and
//! who comes second finds it made.

use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use futures::future::join;

use super::api::Api;
use crate::join::{Certifier, Cluster};

/// Time between two watches, where the one before lasted; it doubles each time that it did not.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest it becomes, and how long a watch has to last to be called a good one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// By whose right something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// The node's own.
    Node,
    /// A control plane's, as soon as the node is one.
    Administrator,
}

/// Approves what machines' tokens may ask for and denies what they may not, signs boot servers' certificates by a
/// certifier, and takes away tokens, once this node is a control plane and until the API server's watcher ends. See
/// [`join`](crate::join).
pub async fn run(api: Api, certifier: impl Fn() -> Result<Option<Certifier>>) {
    let lack = "no certificate is approved here";
    let approve = keep(&api, Right::Administrator, lack, |cluster| {
        // The key comes with the rest of what makes a node a control plane.
        let certifier = certifier().unwrap_or_else(|error| {
            tracing::warn!("boot servers are not certified here: {error:#}");
            None
        });
        async move { cluster.approve(certifier.as_ref()).await }
    });
    let lack = "tokens are not revoked here and end by their age only";
    let sweep = keep(&api, Right::Administrator, lack, |cluster| async move { cluster.sweep().await });
    join(approve, sweep).await;
}

// === impl Right ===

impl Right {
    async fn of(self, api: &Api) -> Option<Cluster> {
        match self {
            Self::Node => api.ready().await,
            Self::Administrator => api.administrator().await,
        }
    }
}

/// Does something that should last for ever again and again.
pub(crate) async fn keep<W: Future<Output = Error>>(
    api: &Api,
    right: Right,
    lack: &str,
    work: impl Fn(Cluster) -> W,
) {
    let mut pause = SHORTEST_PAUSE;
    while let Some(cluster) = right.of(api).await {
        let started = Instant::now();
        let error = work(cluster).await;
        if started.elapsed() >= LONGEST_PAUSE {
            pause = SHORTEST_PAUSE;
        }
        if pause == SHORTEST_PAUSE {
            tracing::debug!("a watch begins anew: {error:#}");
        } else {
            let again_s = pause.as_secs();
            tracing::warn!(again_s, "{lack}: {error:#}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
