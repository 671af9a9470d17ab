//! Which server Debian's packages come from.

use tokio::process::Command;

use crate::command::{CommandError, Runner};

/// The keys that Debian signs its archive with.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where releases go when the mirrors drop them.
pub(crate) const ARCHIVE: &str = "http://archive.debian.org/debian";

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Root of the archive: the folder that holds `dists` and `pool`.
    pub main: String,
    /// The same of the security updates; `None` to go without, such as where there is only a copy of the archive.
    pub security: Option<String>,
}

// === impl Mirror ===

impl Mirror {
    /// The mirror that this machine's apt uses, if it is a Debian one.
    pub(crate) async fn of_host(runner: &Runner<'_>) -> Result<Option<Self>, CommandError> {
        let mut command = Command::new("apt-get");
        command.args([
            "indextargets",
            "--format",
            "$(ORIGIN)|$(CODENAME)|$(REPO_URI)",
            "Created-By: Packages",
        ]);
        Ok(Self::from_targets(&runner.output(&mut command).await?))
    }

    fn from_targets(targets: &str) -> Option<Self> {
        let mut found = Self { main: String::new(), security: None };
        for line in targets.lines() {
            let mut fields = line.split('|');
            let (Some("Debian"), Some(codename), Some(uri)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let uri = uri.trim_end_matches('/').to_owned();
            if codename.ends_with("-security") {
                found.security.get_or_insert(uri);
            } else if found.main.is_empty() {
                found.main = uri;
            }
        }
        (!found.main.is_empty()).then_some(found)
    }

    /// The sources of a release, in apt's one-line format.
    pub(crate) fn sources(&self, suite: &str) -> String {
        let signed = format!("[signed-by={KEYRING}]");
        let mut sources = format!(
            "deb {signed} {main} {suite} main\ndeb {signed} {main} {suite}-updates main\n",
            main = self.main
        );
        if let Some(security) = &self.security {
            sources.push_str(&format!("deb {signed} {security} {suite}-security main\n"));
        }
        sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_names_the_mirror() {
        let mirror = Mirror::from_targets(
            "Debian Backports|bookworm-backports|http://mirror.example/debian/\n\
             Debian|bookworm-security|http://mirror.example/debian-security/\n\
             Debian|bookworm|http://mirror.example/debian/\n",
        )
        .unwrap();
        assert_eq!(mirror.main, "http://mirror.example/debian");
        assert_eq!(mirror.security.as_deref(), Some("http://mirror.example/debian-security"));
    }

    #[test]
    fn another_distribution_names_none() {
        assert_eq!(Mirror::from_targets("Ubuntu|noble|http://mirror.example/ubuntu/\n"), None);
        assert_eq!(Mirror::from_targets(""), None);
    }

    #[test]
    fn a_copy_without_security_updates_is_used_as_it_is() {
        let mirror = Mirror::from_targets("Debian|trixie|http://copy.example/debian\n").unwrap();
        assert_eq!(mirror.security, None);
        assert_eq!(mirror.sources("trixie").lines().count(), 2);
    }
}
