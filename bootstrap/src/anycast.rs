//! Which anycast addresses this node holds: those whose service answers here.
//!
//! A checker asks each local service again and again and puts the address on `lo` while it answers; the
//! routing daemon announces what is on `lo`. Withdrawn at once when the service refuses, and after some silence
//! when it does not answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, CacheInfo};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

pub use self::health::{Health, Outcome};
pub use self::probe::Probe;

mod health;
mod probe;

/// Time between two questions to one service.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long one answer may take.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// An address and the service that earns it.
#[derive(Debug, Clone)]
pub struct Anycast {
    /// The name of the setting: `apiserver`, `mirror docker.io`.
    pub name: String,
    /// The address.
    pub address: Ipv6Addr,
    /// How to ask the service.
    pub probe: Probe,
    /// The file without which this node has no such service, and is not asked for it.
    pub only_with: Option<PathBuf>,
}

/// What `status` tells of one address.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AnycastStatus {
    /// The name of the setting.
    pub name: String,
    /// The address.
    pub address: Ipv6Addr,
    /// Whether this node holds it.
    pub held: bool,
    /// What the last question brought, if it was no good answer.
    pub reason: Option<String>,
}

/// Keeps the addresses on `lo` true until `stop` changes, then takes all of them away.
///
/// # Errors
///
/// Netlink cannot be opened. A probe or an address that fails is logged and shown, and tried again.
pub async fn keep(
    anycasts: Vec<Anycast>,
    status: watch::Sender<Vec<AnycastStatus>>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection().context("cannot open netlink")?;
    let connection = tokio::spawn(connection);
    let lo = Loopback::find(&netlink).await?;

    let board = Board { status, all: Mutex::default() };
    // Each for itself: a service that does not answer keeps no other's address.
    let kept = anycasts.iter().enumerate().map(|(place, anycast)| {
        let one = Kept { anycast, lo: &lo, health: Health::default() };
        let (board, stop) = (&board, stop.clone());
        one.tend(move |status| board.put(place, status), stop)
    });
    futures::future::join_all(kept).await;
    connection.abort();
    Ok(())
}

/// What is told of all addresses, each in its place.
struct Board {
    status: watch::Sender<Vec<AnycastStatus>>,
    all: Mutex<BTreeMap<usize, AnycastStatus>>,
}

/// An address that is put on `lo` and taken away.
struct Kept<'a> {
    anycast: &'a Anycast,
    lo: &'a Loopback<'a>,
    health: Health,
}

// === impl Board ===

impl Board {
    /// Has one address told of in another way, or not any more.
    fn put(&self, place: usize, status: Option<AnycastStatus>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            Some(status) => drop(all.insert(place, status)),
            None => drop(all.remove(&place)),
        }
        self.status.send_replace(all.values().cloned().collect());
    }
}

// === impl Kept ===

impl Kept<'_> {
    async fn tend(mut self, tell: impl Fn(Option<AnycastStatus>), mut stop: watch::Receiver<bool>) {
        let Anycast { name, address, .. } = self.anycast;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            let asked = async {
                ticks.tick().await;
                self.anycast.ask().await
            };
            let outcome = tokio::select! {
                outcome = asked => outcome,
                _ = stop.changed() => break,
            };
            self.heed(outcome).await;
            tell(self.anycast.is_here().then(|| AnycastStatus {
                name: name.clone(),
                address: *address,
                held: self.health.held(),
                reason: self.health.reason().map(str::to_owned),
            }));
        }
        if self.health.held()
            && let Err(error) = self.lo.remove(*address).await
        {
            tracing::warn!(name, %address, "{error:#}");
        }
    }

    /// Takes an answer down, and puts the address on `lo` or takes it away if it says so.
    async fn heed(&mut self, outcome: Outcome) {
        let Anycast { name, address, .. } = self.anycast;
        let held = self.health.held();
        self.health.observe(outcome);
        if self.health.held() == held {
            return;
        }
        let done = if held { self.lo.remove(*address).await } else { self.lo.add(*address).await };
        match done {
            Ok(()) if held => {
                tracing::warn!(name, %address, reason = self.health.reason(), "anycast address withdrawn");
            }
            Ok(()) => tracing::info!(name, %address, "anycast address held"),
            Err(error) => {
                tracing::warn!(name, %address, "{error:#}");
                self.health.undo();
            }
        }
    }
}

// === impl Anycast ===

impl Anycast {
    /// Whether the service is one of this node's.
    fn is_here(&self) -> bool {
        self.only_with.as_ref().is_none_or(|file| file.exists())
    }

    async fn ask(&self) -> Outcome {
        match self.is_here() {
            true => self.probe.ask(TIMEOUT).await,
            false => Outcome::Gone("this node has no such service".to_owned()),
        }
    }
}

/// The loopback device, which holds a node's own and its anycast addresses.
struct Loopback<'a> {
    netlink: &'a rtnetlink::Handle,
    index: u32,
}

impl<'a> Loopback<'a> {
    async fn find(netlink: &'a rtnetlink::Handle) -> Result<Self> {
        let mut links = netlink.link().get().match_name("lo".to_owned()).execute();
        let link = links.try_next().await.context("cannot ask for the device lo")?;
        let index = link.context("there is no device lo")?.header.index;
        Ok(Self { netlink, index })
    }

    async fn add(&self, address: Ipv6Addr) -> Result<()> {
        let mut request = self.netlink.address().add(self.index, IpAddr::V6(address), 128).replace();
        // Deprecated: an owner answers from its anycast address and never begins from it, for the answer might go to
        // another owner [RFC 6724 § 5, rule 3].
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = u32::MAX;
        request.message_mut().attributes.push(AddressAttribute::CacheInfo(lifetimes));
        request.execute().await.with_context(|| format!("cannot put {address} on lo"))
    }

    async fn remove(&self, address: Ipv6Addr) -> Result<()> {
        let what = || format!("cannot take {address} from lo");
        let filter = self.netlink.address().get().set_link_index_filter(self.index);
        let mut held = filter.set_address_filter(IpAddr::V6(address)).execute();
        while let Some(message) = held.try_next().await.with_context(what)? {
            self.netlink.address().del(message).execute().await.with_context(what)?;
        }
        Ok(())
    }
}
