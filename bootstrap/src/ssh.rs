//! A node's shell, by this computer's `ssh` and the deployment's own key.
//!
//! Nothing of the user's own configuration counts, and a node is known by its name in the deployment's own
//! `auth/known_hosts`: whoever answers first under a name is believed, and nobody else afterwards. [`Ssh::forget`] is for
//! machines whose disk, and with it their host key, was taken from them.
//!
//! Every connection and every command has a limit.

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hardware::process::{Invocation, Outcome, RunError};
use serde::{Deserialize, Serialize};

use crate::deployment::Directory;
use crate::private_file;

/// The client.
pub const PROGRAM: &str = "ssh";
/// How long a node may take to let somebody in.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A node that is silent for so many of so long is gone. An emulated one that makes a control plane was seen to keep a
/// session waiting for 15 s.
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const ALIVE_COUNT: u8 = 6;
/// What ssh ends with when it is itself that failed.
const OWN_FAILURE: i32 = 255;
/// What ssh says of a host whose key is not the known one.
const OTHER_KEY: &str = "Host key verification failed";

/// Opens shells on the nodes of one deployment.
#[derive(Debug, Clone)]
pub struct Ssh {
    key: PathBuf,
    known_hosts: PathBuf,
}

/// A node to log in to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub address: Ipv6Addr,
}

/// Why a node did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// ssh could not be run, or did not end in time.
    #[error("cannot run a command on {host}")]
    Run {
        /// The node.
        host: Host,
        /// Why.
        #[source]
        source: RunError,
    },
    /// Nobody answers, or does not let us in.
    #[error("{host} cannot be logged in to: {reason}")]
    Unreachable {
        /// The node.
        host: Host,
        /// What ssh said.
        reason: String,
    },
    /// Somebody else answers than before.
    #[error(
        "{host} shows another host key than before: its disk is another, or another machine answers; if that is right, \
         remove the line of `{name}` from {}", known_hosts.display(), name = host.name
    )]
    OtherKey {
        /// The node.
        host: Host,
        /// Where its key is remembered.
        known_hosts: PathBuf,
    },
    /// The command itself failed.
    #[error("a command on {host} failed{}: {stderr}", code.map(|code| format!(" with exit code {code}")).unwrap_or_default())]
    Command {
        /// The node.
        host: Host,
        /// The command's exit code; none if a signal ended ssh.
        code: Option<i32>,
        /// What it wrote to its standard error.
        stderr: String,
    },
}

// === impl Ssh ===

impl Ssh {
    /// The shells of the deployment in this directory.
    #[must_use]
    pub fn new(directory: &Directory) -> Self {
        Self { key: directory.ssh_key(), known_hosts: directory.path().join("auth/known_hosts") }
    }

    /// The options by which `ssh`, `scp` and `sftp` reach this node; where they connect to is not among them.
    #[must_use]
    pub fn options(&self, host: &Host) -> Vec<OsString> {
        let alive = ALIVE_INTERVAL.as_secs();
        let settings = [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            format!("IdentityFile={}", quoted(&self.key)),
            format!("UserKnownHostsFile={}", quoted(&self.known_hosts)),
            "GlobalKnownHostsFile=none".to_owned(),
            format!("HostKeyAlias={}", host.name),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "HashKnownHosts=no".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            format!("ConnectTimeout={}", CONNECT_LIMIT.as_secs()),
            format!("ServerAliveInterval={alive}"),
            format!("ServerAliveCountMax={ALIVE_COUNT}"),
            "LogLevel=ERROR".to_owned(),
        ];
        let settings = settings.into_iter().flat_map(|setting| ["-o".into(), OsString::from(setting)]);
        ["-F".into(), "none".into()].into_iter().chain(settings).collect()
    }

    /// All that `ssh` needs to be at this node: a command may follow.
    #[must_use]
    pub fn arguments(&self, host: &Host) -> Vec<OsString> {
        let mut arguments = self.options(host);
        arguments.push(host.login().into());
        arguments
    }

    /// Runs a script of the node's shell there, and gives what it printed.
    ///
    /// # Errors
    ///
    /// [`SshError`].
    pub async fn run(&self, host: &Host, script: &str, limit: Duration) -> Result<String, SshError> {
        let outcome = self.outcome(host, script, limit).await?;
        if outcome.code == Some(0) {
            return Ok(outcome.stdout);
        }
        Err(SshError::Command { host: host.clone(), code: outcome.code, stderr: outcome.stderr })
    }

    /// Runs a script there and says how it ended, well or badly.
    ///
    /// # Errors
    ///
    /// [`SshError`], but not [`SshError::Command`].
    pub async fn outcome(&self, host: &Host, script: &str, limit: Duration) -> Result<Outcome, SshError> {
        // Half of the time is for the login, which takes a loaded machine longer than any cable. ssh takes the first of two
        // settings.
        let patience = format!("ConnectTimeout={}", (limit / 2).max(CONNECT_LIMIT).as_secs());
        let invocation = Invocation::new(PROGRAM, limit).args(["-o", &patience]);
        let invocation = invocation.args(self.arguments(host)).args(["--", script]);
        let outcome = invocation.outcome().await;
        let outcome = outcome.map_err(|source| SshError::Run { host: host.clone(), source })?;
        if outcome.code != Some(OWN_FAILURE) {
            return Ok(outcome);
        }
        if outcome.stderr.contains(OTHER_KEY) {
            return Err(SshError::OtherKey { host: host.clone(), known_hosts: self.known_hosts.clone() });
        }
        // That it gave a silent node up ssh tells those only who want to know more than its errors.
        let reason = match outcome.stderr.trim() {
            "" => {
                let patience = ALIVE_INTERVAL * u32::from(ALIVE_COUNT);
                format!("ssh ended without a word, as when a node is silent for {} s", patience.as_secs())
            }
            said => said.to_owned(),
        };
        Err(SshError::Unreachable { host: host.clone(), reason })
    }

    /// Forgets a node's host key.
    ///
    /// # Errors
    ///
    /// The file of known hosts cannot be read or written.
    pub fn forget(&self, name: &str) -> Result<()> {
        let what = || format!("cannot forget the host key of {name} in {}", self.known_hosts.display());
        let text = match std::fs::read_to_string(&self.known_hosts) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(what),
        };
        let others = text.lines().filter(|line| line.split_whitespace().next() != Some(name));
        let others: String = others.map(|line| format!("{line}\n")).collect();
        private_file::replace(&self.known_hosts, others.as_bytes()).with_context(what)
    }
}

// === impl Host ===

impl Host {
    /// Whom to be there: `root@2001:db8::1`.
    #[must_use]
    pub fn login(&self) -> String {
        format!("root@{}", self.address)
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// A path as a value in ssh's configuration, where blanks divide and `%` begins a placeholder.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(folder: &Path) -> Ssh {
        Ssh::new(&Directory::new(&folder.join("my cluster")).unwrap())
    }

    #[test]
    fn a_node_is_known_by_its_name_and_paths_may_have_blanks() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host { name: "node1".to_owned(), address: "2001:db8::1".parse().unwrap() };
        let words: Vec<String> =
            ssh(folder.path()).arguments(&host).into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(words.last().unwrap(), "root@2001:db8::1");
        assert!(words.contains(&"HostKeyAlias=node1".to_owned()));
        assert!(words.iter().any(|word| word.ends_with("/my cluster/auth/known_hosts\"")), "{words:?}");
    }

    #[test]
    fn only_the_one_host_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let ssh = ssh(folder.path());
        ssh.forget("node1").unwrap();
        std::fs::create_dir_all(ssh.known_hosts.parent().unwrap()).unwrap();
        std::fs::write(&ssh.known_hosts, "node1 ssh-ed25519 A\nnode10 ssh-ed25519 B\nnode1 ssh-rsa C\n")
            .unwrap();
        ssh.forget("node1").unwrap();
        assert_eq!(std::fs::read_to_string(&ssh.known_hosts).unwrap(), "node10 ssh-ed25519 B\n");
    }
}
