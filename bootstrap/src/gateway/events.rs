//! What happens to this node besides its links and routes, which note their events themselves: its services and the API
//! server.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use mesh::{AddressPlan, Block, Happening};
use netboot_server::{EventLog, RouteScope, watch_routes};
use tokio::sync::watch;

use super::status::ApiStatus;
use crate::anycast::AnycastStatus;

/// Routes that cannot be watched are tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// Which routes are worth an event: those to other machines and to every anycast address. The boot address is not among
/// them: each node has it itself for as long as it serves, and then no route leads there.
#[must_use]
pub fn route_scope(plan: &AddressPlan, own: Block) -> RouteScope {
    let anycasts =
        plan.anycast_addresses().map(|(_, address)| address).filter(|address| *address != plan.boot);
    RouteScope { machines: plan.machines, own, anycasts: anycasts.collect() }
}

/// Notes what becomes of routes, for ever: machines boot also where nobody can watch them.
pub async fn follow_routes(scope: RouteScope, log: EventLog) {
    loop {
        if let Err(error) = watch_routes(scope.clone(), log.clone()).await {
            tracing::warn!("routes are not among the events: {:#}", anyhow::Error::new(error));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Notes which anycast addresses are taken and dropped, until nobody keeps them any more.
pub async fn follow_anycasts(mut seen: watch::Receiver<Vec<AnycastStatus>>, log: EventLog) {
    let mut held = BTreeMap::new();
    loop {
        for what in moves(&mut held, &seen.borrow_and_update()) {
            log.note(what);
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

/// Notes when the API server comes and goes, until nobody watches it any more.
pub async fn follow_api(mut seen: watch::Receiver<ApiStatus>, log: EventLog) {
    let mut known = None;
    loop {
        let ApiStatus { available, reason } = seen.borrow_and_update().clone();
        // That it does not answer yet when the service starts is no event.
        if known.unwrap_or(false) != available {
            log.note(Happening::Api { available, reason });
        }
        known = Some(available);
        if seen.changed().await.is_err() {
            return;
        }
    }
}

/// What is told of addresses that are held now and were not, or the other way round.
fn moves(held: &mut BTreeMap<Ipv6Addr, bool>, now: &[AnycastStatus]) -> Vec<Happening> {
    let mut told = Vec::new();
    for AnycastStatus { name, address, held: is_held, reason } in now {
        if held.insert(*address, *is_held).unwrap_or(false) != *is_held {
            let (name, reason) = (name.clone(), reason.clone().filter(|_| !is_held));
            told.push(Happening::Anycast { name, address: *address, held: *is_held, reason });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, held: bool, reason: Option<&str>) -> AnycastStatus {
        let address = AddressPlan::default().apiserver;
        AnycastStatus { name: name.to_owned(), address, held, reason: reason.map(str::to_owned) }
    }

    #[test]
    fn only_what_moves_is_told() {
        let mut held = BTreeMap::new();
        let refused = Some("refused");
        assert_eq!(moves(&mut held, &[status("apiserver", false, refused)]), []);
        let told = moves(&mut held, &[status("apiserver", true, None)]);
        assert!(matches!(&told[..], [Happening::Anycast { held: true, reason: None, .. }]), "{told:?}");
        // One answer that was missed is no reason to drop it.
        assert_eq!(moves(&mut held, &[status("apiserver", true, refused)]), []);
        let told = moves(&mut held, &[status("apiserver", false, refused)]);
        assert!(matches!(&told[..], [Happening::Anycast { held: false, reason: Some(_), .. }]), "{told:?}");
    }

    #[tokio::test]
    async fn the_api_is_told_of_when_it_comes_and_goes() {
        let (sender, seen) =
            watch::channel(ApiStatus { available: false, reason: Some("starts".to_owned()) });
        let log = EventLog::new();
        let following = tokio::spawn(follow_api(seen, log.clone()));
        for (available, events) in [(true, 1), (true, 1), (false, 2)] {
            sender.send_replace(ApiStatus { available, reason: None });
            let told = async {
                while log.page(0).events.len() < events {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
        }
        drop(sender);
        following.await.unwrap();
        let told: Vec<_> = log.page(0).events.into_iter().map(|event| event.what).collect();
        let api = |available| Happening::Api { available, reason: None };
        assert_eq!(told, [api(true), api(false)]);
    }

    #[test]
    fn routes_to_what_the_node_has_itself_are_no_events() {
        let plan = AddressPlan::default();
        let own = plan.block(mesh::BlockNumber(3)).unwrap();
        let other = plan.block(mesh::BlockNumber(4)).unwrap();
        let scope = route_scope(&plan, own);
        assert!(!scope.covers(own.net()) && scope.covers(other.net()));
        assert!(scope.covers(plan.apiserver.into()) && !scope.covers(plan.boot.into()));
    }
}
