//! etcd's members, by the JSON form of its API that each member serves beside gRPC: no client of etcd's is in the image.

use std::fmt;
use std::fs;
use std::net::Ipv6Addr;
use std::num::ParseIntError;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use mesh::plan::ETCD_PORT;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// How long a member may take to answer. A change waits for a majority of them.
const LIMIT: Duration = Duration::from_secs(10);
/// How long one that may be dead is waited for.
const PROBE: Duration = Duration::from_secs(3);
/// Where kubeadm leaves a client's certificate on every control plane.
const FOLDER: &str = "/etc/kubernetes/pki/etcd";

/// A member's number: made by etcd when it is entered, and never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A member as the cluster has it entered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its number.
    #[serde(rename = "ID", deserialize_with = "decimal")]
    pub id: MemberId,
    /// Its name, which it brings when it first starts.
    #[serde(default)]
    pub name: String,
    /// Where the others reach it.
    #[serde(rename = "peerURLs", default)]
    pub peers: Vec<String>,
    /// Whether it has no vote yet.
    #[serde(rename = "isLearner", default)]
    pub learner: bool,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// The member was not reached, or said nothing that is an answer.
    #[error("etcd at {at} does not answer")]
    Silent {
        /// Whom was asked.
        at: Ipv6Addr,
        /// What happened.
        #[source]
        cause: reqwest::Error,
    },
    /// It will not.
    #[error("etcd at {at} says: {message}")]
    Refused {
        /// Whom was asked.
        at: Ipv6Addr,
        /// Its own words.
        message: String,
    },
}

/// A client of etcd.
#[derive(Debug, Clone)]
pub struct Etcd {
    http: reqwest::Client,
    port: u16,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Added {
    member: Member,
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Status {
    header: Header,
    /// The member that leads, as a number; none while there is no majority.
    #[serde(default)]
    leader: String,
}

#[derive(Deserialize)]
struct Header {
    #[serde(deserialize_with = "decimal")]
    member_id: MemberId,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: String,
}

// === impl Etcd ===

impl Etcd {
    /// A client with the certificate that kubeadm made on this machine.
    ///
    /// # Errors
    ///
    /// There is none: the machine is no control plane.
    pub fn open() -> Result<Self> {
        let read = |name: &str| {
            let path = Path::new(FOLDER).join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let (certificate, key) = (read("healthcheck-client.crt")?, read("healthcheck-client.key")?);
        Self::new(&read("ca.crt")?, &certificate, &key, ETCD_PORT)
    }

    /// A client that trusts this authority and shows this certificate, all in PEM.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn new(authority: &str, certificate: &str, key: &str, port: u16) -> Result<Self> {
        let identity = reqwest::Identity::from_pem(format!("{certificate}\n{key}").as_bytes());
        let authority = reqwest::Certificate::from_pem(authority.as_bytes()).context("etcd's authority")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(LIMIT)
            .identity(identity.context("the certificate for etcd")?)
            .tls_certs_only([authority]);
        Ok(Self { http: http.build().context("cannot build a client for etcd")?, port })
    }

    /// All members, as the one at an address has them; it may lag behind the others.
    ///
    /// # Errors
    ///
    /// [`EtcdError`].
    pub async fn members(&self, at: Ipv6Addr) -> Result<Vec<Member>, EtcdError> {
        Ok(self.ask::<Listed>(at, "cluster/member/list", &json!({}), LIMIT).await?.members)
    }

    /// The number of the member at an address, if it runs and has a leader.
    pub async fn answers(&self, at: Ipv6Addr) -> Option<MemberId> {
        let status: Status = self.ask(at, "maintenance/status", &json!({}), PROBE).await.ok()?;
        let led = !matches!(status.leader.as_str(), "" | "0");
        led.then_some(status.header.member_id)
    }

    /// Enters a member without a vote. Gives it, and all members with it.
    ///
    /// # Errors
    ///
    /// [`EtcdError`]: also if there is another learner, or a member at that address.
    pub async fn add_learner(&self, at: Ipv6Addr, peer: &str) -> Result<(Member, Vec<Member>), EtcdError> {
        let wanted = json!({ "peerURLs": [peer], "isLearner": true });
        let added: Added = self.ask(at, "cluster/member/add", &wanted, LIMIT).await?;
        Ok((added.member, added.members))
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    ///
    /// [`EtcdError`]: also if it has not caught up yet, or the others could not do with one more.
    pub async fn promote(&self, at: Ipv6Addr, id: MemberId) -> Result<(), EtcdError> {
        let which = json!({ "ID": id.0.to_string() });
        self.ask::<Value>(at, "cluster/member/promote", &which, LIMIT).await.map(drop)
    }

    /// Removes a member for good. One that is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`EtcdError`]: also if too few would be left that run.
    pub async fn remove(&self, at: Ipv6Addr, id: MemberId) -> Result<(), EtcdError> {
        let which = json!({ "ID": id.0.to_string() });
        match self.ask::<Value>(at, "cluster/member/remove", &which, LIMIT).await {
            Err(EtcdError::Refused { message, .. }) if message.contains("member not found") => Ok(()),
            done => done.map(drop),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        at: Ipv6Addr,
        what: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<T, EtcdError> {
        let silent = |cause| EtcdError::Silent { at, cause };
        let url = format!("https://[{at}]:{}/v3/{what}", self.port);
        let answer = self.http.post(url).timeout(limit).json(body).send().await.map_err(silent)?;
        if answer.status().is_success() {
            return answer.json().await.map_err(silent);
        }
        let code = answer.status();
        let text = answer.text().await.map_err(silent)?;
        let refusal: Option<Refusal> = serde_json::from_str(&text).ok();
        let words = refusal.map(|said| if said.message.is_empty() { said.error } else { said.message });
        let message = words.filter(|words| !words.is_empty()).unwrap_or_else(|| format!("HTTP {code}"));
        Err(EtcdError::Refused { at, message })
    }
}

// === impl Member ===

impl Member {
    /// Whether the others reach it here.
    #[must_use]
    pub fn is_at(&self, peer: &str) -> bool {
        self.peers.iter().any(|known| known == peer)
    }
}

// === impl MemberId ===

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for MemberId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// As etcd writes numbers in JSON. People and files have them in hexadecimal, as `etcdctl` does.
fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
    String::deserialize(deserializer)?.parse().map(MemberId).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_etcd_writes_them() {
        let text = r#"{"header":{"cluster_id":"1"},"members":[
            {"ID":"10276657743932975437","name":"seed","peerURLs":["https://[::1]:2380"],"clientURLs":["https://[::1]:2379"]},
            {"ID":"7","peerURLs":["https://[::2]:2380"],"isLearner":true}]}"#;
        let Listed { members } = serde_json::from_str(text).unwrap();
        assert_eq!(members[0].id.to_string(), "8e9e05c52164694d");
        assert_eq!((members[0].name.as_str(), members[0].learner), ("seed", false));
        assert!(members[1].learner && members[1].name.is_empty() && members[1].is_at("https://[::2]:2380"));
    }

    #[test]
    fn numbers_are_hexadecimal_everywhere_else() {
        let id = MemberId(10_276_657_743_932_975_437);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"8e9e05c52164694d\"");
        assert!("".parse::<MemberId>().is_err() && "x".parse::<MemberId>().is_err());
    }
}
