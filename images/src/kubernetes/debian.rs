//! Kubernetes from Debian's source package: the only one that a Debian mirror alone can give.
//!
//! It is 1.20, built with the Go of its time: with a newer one it compiles, and then kubeadm panics while it
//! writes the kubelet's configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::process::Command;

use super::version::{ParseVersionError, Version};
use crate::{
    apt::{Apt, Suite},
    cache::{Cache, CacheError, Recipe},
    command::{CommandError, Runner},
    mirror::{self, Mirror},
};

#[cfg(test)]
mod tests;

/// The release whose source package is taken.
const SUITE: &str = "bookworm";
/// The last release with the Go that it wants.
const GO_SUITE: &str = "bullseye";
const GO_PACKAGES: [&str; 2] = ["golang-1.15-go", "golang-1.15-src"];
const GO_ROOT: &str = "usr/lib/go-1.15";

/// What is built of it.
pub const PROGRAMS: [&str; 7] = [
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
];

/// The packages that carry the version: in a tree with `vendor`, each by its vendored name.
const VERSION_PACKAGES: [&str; 2] = [
    "k8s.io/kubernetes/vendor/k8s.io/component-base/version",
    "k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version",
];

/// Packages that are marked for the API's description and are not part of what is built.
const FOREIGN: [&str; 2] = ["k8s.io/code-generator/", "k8s.io/sample-apiserver/"];

const KIND: &str = "kubernetes";
/// Raised when this file makes something else of the same source.
const RECIPE: &str = "1";

/// Debian's Kubernetes, built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianKubernetes {
    /// Which.
    pub version: Version,
    /// The folder of [`PROGRAMS`] and `pause`, all statically linked.
    pub programs: PathBuf,
}

/// Why Debian's Kubernetes could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildDebianError {
    /// A tool failed.
    #[error("building Debian's Kubernetes")]
    Command(#[from] CommandError),
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file of the build cannot be read or written.
    #[error("building Debian's Kubernetes: {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// apt fetched something else than what is expected.
    #[error("Debian's source package of Kubernetes has no file that ends in .dsc")]
    NoSource,
    /// The package's version does not say which Kubernetes it is.
    #[error("Debian's Kubernetes {package}")]
    Version {
        /// The package's version.
        package: String,
        /// What is wrong with it.
        #[source]
        source: ParseVersionError,
    },
}

/// Builds Debian's Kubernetes, or takes what was built before.
pub(crate) async fn build(
    cache: &Cache,
    mirror: &Mirror,
    runner: &Runner<'_>,
) -> Result<DebianKubernetes, BuildDebianError> {
    let key = PROGRAMS.iter().fold(Recipe::new("debian").with(RECIPE).with(SUITE), Recipe::with).key();
    let finished = match cache.finished(KIND, &key) {
        Some(finished) => finished,
        None => {
            let made = Build { dir: cache.begin(KIND)?, runner }.run(mirror).await?;
            cache.finish(made, KIND, &key)?
        }
    };
    let file = finished.join("version");
    let text = fs::read_to_string(&file).map_err(|source| BuildDebianError::Io { path: file, source })?;
    let version = text.parse().map_err(|source| BuildDebianError::Version { package: text, source })?;
    Ok(DebianKubernetes { version, programs: finished.join("bin") })
}

/// A build in a folder: `bin` and `version` are what stays of it.
struct Build<'a> {
    dir: TempDir,
    runner: &'a Runner<'a>,
}

// === impl Build ===

impl Build<'_> {
    async fn run(self, mirror: &Mirror) -> Result<TempDir, BuildDebianError> {
        let progress = self.runner.progress();
        progress.stage("fetching Debian's Kubernetes and its Go");
        let packages = self.fetch(mirror).await?;
        let (dsc, version) = source_of(&packages)?;
        self.unpack(&packages, &dsc).await?;

        progress.stage("building Debian's Kubernetes (some minutes)");
        self.describe_api().await?;
        let programs = PROGRAMS.map(|name| format!("./cmd/{name}"));
        let flags = linker_flags(&version);
        let bin = self.make_dir("bin")?;
        let mut build = self.go();
        build.args(["build", "-v", "-ldflags", &flags, "-o"]).arg(&bin).args(programs);
        self.runner.run(&mut build).await?;
        self.runner
            .run(
                Command::new("gcc")
                    .args(["-Os", "-static", "-s", "-DVERSION=v3.2", "-o"])
                    .arg(bin.join("pause"))
                    .arg(self.tree().join("build/pause/linux/pause.c")),
            )
            .await?;

        for leftover in ["apt", "go", "gopath", "gocache"] {
            let path = self.dir.path().join(leftover);
            fs::remove_dir_all(&path).map_err(|source| BuildDebianError::Io { path, source })?;
        }
        self.write("version", &version.to_string())?;
        Ok(self.dir)
    }

    /// Old releases leave the mirrors one day: then they are in the archive.
    async fn fetch(&self, mirror: &Mirror) -> Result<PathBuf, BuildDebianError> {
        let dir = self.dir.path().join("apt");
        let mut result = Ok(());
        for (source_uri, go_uri) in [
            (mirror.main.as_str(), mirror.main.as_str()),
            (mirror.main.as_str(), mirror::ARCHIVE),
            (mirror::ARCHIVE, mirror::ARCHIVE),
        ] {
            let suite = |kind, uri: &str, name| Suite {
                kind,
                uri: uri.to_owned(),
                name,
                old: uri == mirror::ARCHIVE,
            };
            let suites = [suite("deb-src", source_uri, SUITE), suite("deb", go_uri, GO_SUITE)];
            let apt = Apt::new(&dir, &suites)
                .map_err(|source| BuildDebianError::Io { path: dir.clone(), source })?;
            result = async {
                apt.update(self.runner).await?;
                apt.source("kubernetes", self.runner).await?;
                apt.download(&GO_PACKAGES, self.runner).await
            }
            .await;
            match &result {
                Ok(()) => return Ok(apt.work()),
                Err(CommandError::Failed { .. }) => self.runner.progress().line("trying another server"),
                Err(CommandError::Missing { .. } | CommandError::Io { .. }) => break,
            }
        }
        result?;
        Ok(dir)
    }

    async fn unpack(&self, packages: &Path, dsc: &Path) -> Result<(), BuildDebianError> {
        let go = self.make_dir("go")?;
        for entry in read_dir(packages)? {
            if entry.extension().is_some_and(|extension| extension == "deb") {
                self.runner.run(Command::new("dpkg-deb").arg("--extract").args([&entry, &go])).await?;
            }
        }
        self.make_dir("gopath/src/k8s.io")?;
        // apt has verified the files against the archive's signature.
        self.runner
            .run(Command::new("dpkg-source").args(["--no-check", "--extract"]).arg(dsc).arg(self.tree()))
            .await?;
        Ok(())
    }

    /// Generates the description of the API, which the package's own build makes with tools that Debian's tree lacks.
    async fn describe_api(&self) -> Result<(), BuildDebianError> {
        let generator = self.dir.path().join("go/openapi-gen");
        self.runner
            .run(
                self.go()
                    .args(["build", "-o"])
                    .arg(&generator)
                    .arg("./vendor/k8s.io/kube-openapi/cmd/openapi-gen"),
            )
            .await?;
        let tree = self.tree();
        let mut packages = Vec::new();
        for folder in ["pkg", "staging/src"] {
            marked_packages(&tree, Path::new(folder), &mut packages)
                .map_err(|source| BuildDebianError::Io { path: tree.join(folder), source })?;
        }
        packages.sort_unstable();
        let mut command = Command::new(generator);
        self.environment(&mut command);
        self.runner
            .run(
                command
                    .args(["--logtostderr", "-i", &packages.join(",")])
                    .args(["-p", "k8s.io/kubernetes/pkg/generated/openapi", "-O", "zz_generated.openapi"])
                    .args(["-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt", "-r"])
                    .arg(self.dir.path().join("go/violations")),
            )
            .await?;
        Ok(())
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("gopath/src/k8s.io/kubernetes")
    }

    fn go(&self) -> Command {
        let mut command = Command::new(self.dir.path().join("go").join(GO_ROOT).join("bin/go"));
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        let dir = self.dir.path();
        command
            .current_dir(self.tree())
            .env("GOROOT", dir.join("go").join(GO_ROOT))
            .env("GOPATH", dir.join("gopath"))
            .env("GOCACHE", dir.join("gocache"))
            .env("HOME", dir)
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "-trimpath")
            .env("CGO_ENABLED", "0")
            .env("GOOS", "linux")
            .env("GOARCH", "amd64");
    }

    fn make_dir(&self, name: &str) -> Result<PathBuf, BuildDebianError> {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).map_err(|source| BuildDebianError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), BuildDebianError> {
        let path = self.dir.path().join(name);
        fs::write(&path, text).map_err(|source| BuildDebianError::Io { path, source })
    }
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, BuildDebianError> {
    let failed = |source| BuildDebianError::Io { path: dir.to_owned(), source };
    fs::read_dir(dir).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// The file that describes the source package, and the Kubernetes that its version names.
fn source_of(dir: &Path) -> Result<(PathBuf, Version), BuildDebianError> {
    for path in read_dir(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(package) = name.strip_prefix("kubernetes_").and_then(|name| name.strip_suffix(".dsc")) {
            let version = kubernetes_version(package)
                .map_err(|source| BuildDebianError::Version { package: package.to_owned(), source })?;
            return Ok((path, version));
        }
    }
    Err(BuildDebianError::NoSource)
}

/// `1.20.5+really1.20.2-1.1+deb12u1` is v1.20.2.
fn kubernetes_version(package: &str) -> Result<Version, ParseVersionError> {
    let upstream = package.rsplit_once('-').map_or(package, |(upstream, _)| upstream);
    let upstream = upstream.split_once("+really").map_or(upstream, |(_, really)| really);
    let upstream = upstream.split_once('+').map_or(upstream, |(version, _)| version);
    format!("v{upstream}").parse()
}

/// Without these the kubelet calls itself 0.0.0-master, and kubeadm refuses it.
fn linker_flags(version: &Version) -> String {
    let mut flags = "-s -w".to_owned();
    for package in VERSION_PACKAGES {
        for (name, value) in [
            ("gitVersion", version.to_string()),
            ("gitMajor", version.major.to_string()),
            ("gitMinor", version.minor.to_string()),
            ("gitTreeState", "archive".to_owned()),
            ("gitCommit", "debian".to_owned()),
            ("buildDate", "1970-01-01T00:00:00Z".to_owned()),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

/// Go packages below `dir` that are marked `+k8s:openapi-gen=`, by the names they have within the tree.
fn marked_packages(tree: &Path, dir: &Path, found: &mut Vec<String>) -> io::Result<()> {
    let mut marked = false;
    for entry in fs::read_dir(tree.join(dir))? {
        let entry = entry?;
        let name = entry.file_name();
        // Links lead to what is visited anyway.
        if entry.file_type()?.is_dir() {
            marked_packages(tree, &dir.join(&name), found)?;
        } else if !marked && is_go_source(&name.to_string_lossy()) {
            let text = fs::read(entry.path())?;
            marked = text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"// +k8s:openapi-gen="));
        }
    }
    let name = dir.to_string_lossy();
    let name =
        name.strip_prefix("staging/src/").map_or_else(|| name.to_string(), |name| format!("vendor/{name}"));
    if marked && !FOREIGN.iter().any(|foreign| name.contains(foreign)) {
        found.push(format!("k8s.io/kubernetes/{name}"));
    }
    Ok(())
}

fn is_go_source(name: &str) -> bool {
    name.ends_with(".go") && !name.ends_with("_test.go")
}
