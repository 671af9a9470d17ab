//! An apt of our own: its sources, lists and cache lie in one folder, and nothing of this machine's packages is read
//! or changed. So it gives Debian's packages on any distribution that has an apt.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use crate::{
    command::{CommandError, Runner},
    mirror::KEYRING,
};

/// One suite of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite {
    /// `deb` for packages, `deb-src` for their sources.
    pub kind: &'static str,
    /// The server's root.
    pub uri: String,
    /// The release's name.
    pub name: &'static str,
    /// Whether its signature may have run out: the archive of old releases is not signed anew.
    pub old: bool,
}

/// apt, in a folder.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
}

// === impl Apt ===

impl Apt {
    /// Sets an apt up; nothing is fetched yet.
    pub(crate) fn new(dir: &Path, suites: &[Suite]) -> io::Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial", "preferences", "sources", "state", "work"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        fs::write(dir.join("state/status"), "")?;
        fs::write(dir.join("sources/meshboot.sources"), sources(suites))?;
        fs::write(dir.join("apt.conf"), configuration(dir))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where it puts what it fetches.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub(crate) async fn update(&self, runner: &Runner<'_>) -> Result<(), CommandError> {
        runner.run(self.get().arg("update")).await
    }

    /// Fetches a source package, verified and still packed.
    pub(crate) async fn source(&self, package: &str, runner: &Runner<'_>) -> Result<(), CommandError> {
        runner.run(self.get().args(["source", "--download-only", "--only-source", package])).await
    }

    /// Fetches packages, verified and still packed.
    pub(crate) async fn download(&self, packages: &[&str], runner: &Runner<'_>) -> Result<(), CommandError> {
        runner.run(self.get().arg("download").args(packages)).await
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args([
            "--quiet",
            "--option",
            "APT::Update::Error-Mode=any",
            "--option",
            "Acquire::Retries=3",
        ]);
        command
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.work());
        command
    }
}

fn sources(suites: &[Suite]) -> String {
    suites
        .iter()
        .map(|suite| {
            format!(
                "Types: {}\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: amd64\nCheck-Valid-Until: {}\nSigned-By: {KEYRING}\n\n",
                suite.kind,
                suite.uri,
                suite.name,
                if suite.old { "no" } else { "yes" },
            )
        })
        .collect()
}

/// What the machine's own configuration says of proxies still holds: it is read as well.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        r#"Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{dir}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "{dir}/preferences";
Dir::State "{dir}/state";
Dir::State::Lists "{dir}/lists";
Dir::State::Status "{dir}/state/status";
Dir::Cache "{dir}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
Acquire::Languages "none";
APT::Sandbox::User "";
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_sources_count() {
        let dir = tempfile::tempdir().unwrap();
        let suites = [
            Suite {
                kind: "deb-src",
                uri: "http://a.example/debian".to_owned(),
                name: "bookworm",
                old: false,
            },
            Suite { kind: "deb", uri: "http://b.example/debian".to_owned(), name: "bullseye", old: true },
        ];
        Apt::new(dir.path(), &suites).unwrap();
        let sources = fs::read_to_string(dir.path().join("sources/meshboot.sources")).unwrap();
        assert_eq!(sources.matches("Types:").count(), 2);
        assert!(
            sources
                .contains("Suites: bullseye\nComponents: main\nArchitectures: amd64\nCheck-Valid-Until: no")
        );
        let configuration = fs::read_to_string(dir.path().join("apt.conf")).unwrap();
        assert!(configuration.contains(&format!("Dir::State::Lists \"{}/lists\"", dir.path().display())));
    }
}
