//! Shows the links' stages in Kubernetes: `kubectl get machines,links`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh::{LinkId, LinkStatus};
use tokio::sync::watch;

use crate::store::journal::MeshStore;

/// A boot changes its counters many times a second; nobody reads that fast.
const PAUSE: Duration = Duration::from_secs(2);

/// Writes what changes to Kubernetes, once the ledger is there. What cannot be written is written later: the
/// status page has it all the time.
pub async fn publish(store: Arc<MeshStore>, mut links: watch::Receiver<Vec<LinkStatus>>) {
    let mut written: BTreeMap<LinkId, LinkStatus> = BTreeMap::new();
    loop {
        let mut left_over = false;
        let seen = links.borrow_and_update().clone();
        for status in seen {
            // Nobody at the far end yet: Kubernetes has no such link.
            let news = status.far_mac.is_some() && written.get(&status.link) != Some(&status);
            if !news {
                continue;
            }
            match write(&store, status.clone()).await {
                Some(true) => drop(written.insert(status.link, status)),
                Some(false) | None => left_over = true,
            }
        }
        tokio::time::sleep(PAUSE).await;
        if !left_over && links.changed().await.is_err() {
            return;
        }
    }
}

async fn write(store: &Arc<MeshStore>, status: LinkStatus) -> Option<bool> {
    let kubernetes = store.kubernetes()?;
    let link = status.link;
    let done = tokio::task::spawn_blocking(move || kubernetes.update_link_status(&status)).await.ok()?;
    done.inspect_err(|error| tracing::debug!(%link, %error, "a link's status was not written")).ok()
}
