//! Who promotes, and whom: one object that a promoter must renew.
//!
//! A Lease of Kubernetes' own kind. Every write names the version that was read, so of two that take it one gets a
//! conflict. It is over when it was not renewed for [`DURATION`] by the observer's own clock: what is written in it about
//! time is for people.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use mesh::NodeName;

use super::Board;
use crate::join::Cluster;
use crate::store::kubernetes::NAMESPACE;

/// The lease's name; it is in the namespace of the ledger.
pub const NAME: &str = "meshboot-control-planes";
/// How long a promoter that is not heard of is waited for.
pub const DURATION: Duration = Duration::from_secs(30);
/// The annotation that names the node whose promotion was begun.
const BEGUN: &str = "meshboot.io/begun";
/// The annotation with the [`Board`].
const BOARD: &str = "meshboot.io/control-planes";

/// The lease, as it was read or written.
#[derive(Debug, Clone, Default)]
pub struct Lease {
    /// Who holds it.
    pub holder: Option<String>,
    /// Whose promotion was begun.
    pub begun: Option<NodeName>,
    /// What the holder last saw.
    pub board: Board,
    /// The version of the object that this was read from; none for the first one.
    pub version: Option<String>,
}

/// Whether the lease may be taken.
#[derive(Debug, Default)]
pub struct Election {
    /// The version that was seen, and since when it has been the same.
    seen: Option<(String, Instant)>,
}

// === impl Election ===

impl Election {
    /// Whether `me` may hold the lease, for all that it has seen of it until `now`.
    pub fn may_hold(&mut self, lease: Option<&Lease>, me: &NodeName, now: Instant) -> bool {
        let Some((holder, version)) =
            lease.and_then(|lease| lease.holder.as_ref().zip(lease.version.as_ref()))
        else {
            return true;
        };
        if holder == me.as_str() {
            return true;
        }
        match &self.seen {
            Some((seen, since)) if seen == version => now.duration_since(*since) >= DURATION,
            Some(_) | None => {
                self.seen = Some((version.clone(), now));
                false
            }
        }
    }
}

// === impl Lease ===

impl Lease {
    /// Reads it, if there was ever a promoter.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn read(client: &Client) -> kube::Result<Option<Self>> {
        let leases: Api<Object> = Api::namespaced(client.clone(), NAMESPACE);
        Ok(leases.get_opt(NAME).await?.map(Self::of))
    }

    fn of(object: Object) -> Self {
        let annotations = object.metadata.annotations.unwrap_or_default();
        // What cannot be read was written by somebody else, and is written anew.
        let board = annotations.get(BOARD).and_then(|text| serde_json::from_str(text).ok());
        Self {
            holder: object.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty()),
            begun: annotations.get(BEGUN).and_then(|name| name.parse().ok()),
            board: board.unwrap_or_default(),
            version: object.metadata.resource_version,
        }
    }

    fn object(&self, now: Timestamp) -> Result<Object> {
        let board = serde_json::to_string(&self.board).context("cannot write what was seen as JSON")?;
        let begun = self.begun.iter().map(|name| (BEGUN.to_owned(), name.to_string()));
        Ok(Object {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                resource_version: self.version.clone(),
                annotations: Some(begun.chain([(BOARD.to_owned(), board)]).collect()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: self.holder.clone(),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// The lease, if there was ever a promoter.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn promoters_lease(&self) -> Result<Option<Lease>> {
        Lease::read(self.client()).await.with_context(|| format!("cannot read the lease {NAME}"))
    }

    /// Takes or renews the lease with what it says; none if somebody else wrote it meanwhile.
    ///
    /// # Errors
    ///
    /// The API server refused or did not answer.
    pub async fn hold_promoters_lease(&self, lease: &Lease, me: &NodeName) -> Result<Option<Lease>> {
        let object = Lease { holder: Some(me.to_string()), ..lease.clone() }.object(Timestamp::now())?;
        let leases: Api<Object> = Api::namespaced(self.client().clone(), NAMESPACE);
        let params = PostParams::default();
        let written = match &lease.version {
            None => leases.create(&params, &object).await,
            Some(_) => leases.replace(NAME, &params, &object).await,
        };
        match written {
            Ok(object) => Ok(Some(Lease::of(object))),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot write the lease {NAME}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Lease {
        Lease { holder: Some(holder.to_owned()), version: Some(version.to_owned()), ..Lease::default() }
    }

    #[test]
    fn a_lease_is_over_when_it_was_looked_at_for_long_enough() {
        let (me, start) = ("node1".parse().unwrap(), Instant::now());
        let mut election = Election::default();
        let mut may = |lease: Option<&Lease>, seconds| {
            election.may_hold(lease, &me, start + Duration::from_secs(seconds))
        };
        assert!(may(None, 0));
        assert!(may(Some(&lease("node1", "1")), 0), "it is ours");
        assert!(!may(Some(&lease("seed", "2")), 100), "it may have been renewed a moment ago");
        assert!(!may(Some(&lease("seed", "2")), 129));
        assert!(!may(Some(&lease("seed", "3")), 131), "it was renewed");
        assert!(!may(Some(&lease("seed", "3")), 160));
        assert!(may(Some(&lease("seed", "3")), 161));
        assert!(may(Some(&Lease { holder: None, ..lease("", "4") }), 161), "it was given back");
    }

    #[test]
    fn what_it_says_comes_back() {
        let waits = [("node2".parse().unwrap(), "its turn comes".to_owned())].into();
        let board = Board { waits, ..Board::default() };
        let lease = Lease { begun: "node1".parse().ok(), board, ..lease("seed", "7") };
        let read = Lease::of(lease.object(Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!((read.holder, read.begun, read.board), (lease.holder, lease.begun, lease.board));
        assert_eq!(read.version.as_deref(), Some("7"));
    }
}
