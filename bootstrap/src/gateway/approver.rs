//! A seed decides who may become which node, who may show himself to firmware, and whose token is needed no more, for as
//! long as its gateway runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Error;
use futures::future::join;

use super::api::Api;
use crate::join::{Certifier, Cluster};

/// Time between two watches, where the one before lasted; it doubles each time that it did not.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest it becomes, and how long a watch has to last to be called a good one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Approves what machines' tokens may ask for and denies what they may not, signs boot servers' certificates by
/// `certifier`, and takes away tokens, until the API server's watcher ends. See [`join`](crate::join).
pub async fn run(api: Api, certifier: Option<Certifier>) {
    let certifier = certifier.map(Arc::new);
    let approve = keep(&api, "no certificate is approved, and no machine can join", |cluster| {
        let certifier = certifier.clone();
        async move { cluster.approve(certifier.as_deref()).await }
    });
    let sweep = keep(&api, "tokens are not revoked and end by their age only", |cluster| async move {
        cluster.sweep().await
    });
    join(approve, sweep).await;
}

/// Does something that should last for ever again and again.
async fn keep<W: Future<Output = Error>>(api: &Api, lack: &str, work: impl Fn(Cluster) -> W) {
    let mut pause = SHORTEST_PAUSE;
    while let Some(cluster) = api.ready().await {
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
