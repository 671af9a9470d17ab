//! A seed decides who may become which node, for as long as its gateway runs.

use std::time::{Duration, Instant};

use super::api::Api;

/// Time between two watches, where the one before lasted; it doubles each time that it did not.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest it becomes, and how long a watch has to last to be called a good one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Approves what machines' tokens may ask for and denies what they may not, until the API server's watcher ends. See
/// [`join`](crate::join).
pub async fn run(api: Api) {
    let mut pause = SHORTEST_PAUSE;
    while let Some(cluster) = api.ready().await {
        let started = Instant::now();
        let error = cluster.approve().await;
        if started.elapsed() >= LONGEST_PAUSE {
            pause = SHORTEST_PAUSE;
        }
        if pause == SHORTEST_PAUSE {
            tracing::debug!("the approval of certificates begins anew: {error:#}");
        } else {
            let again_s = pause.as_secs();
            tracing::warn!(again_s, "no certificate is approved, and no machine can join: {error:#}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
