//! What an image is made of, under which licences, and where its source is: Debian's packages as dpkg lists them.
//!
//! The form is SPDX 2.3, which tools read that look for known faults. A package's licences are those that its copyright
//! file names, as a comment: Debian's names are not SPDX's, and nobody here has compared the texts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache::{Cache, CacheError};
use crate::catalog::Catalog;
use crate::root::debian::Debian;

const KIND: &str = "packages";
const FILE: &str = "packages.json";
/// Where dpkg writes down what is installed, in an archive of the root.
const STATUS: &str = "var/lib/dpkg/status";
/// Where packages say under which licences they are.
const DOCUMENTATION: &str = "usr/share/doc";
const COMMON_LICENSES: &str = "/usr/share/common-licenses/";
/// It has every version of every package that ever was in Debian's archive, with its source.
const SNAPSHOT: &str = "https://snapshot.debian.org/package";

/// Why nobody can tell what an image is made of.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// A file cannot be read or written, or is another.
    #[error("the list of packages: {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A package of Debian's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, as Debian calls it.
    pub architecture: String,
    /// What it was built from.
    pub source: String,
    /// The version of that.
    pub source_version: String,
    /// What its copyright file names, in Debian's words; empty if that is for people to read only.
    pub licences: BTreeSet<String>,
}

// === impl Package ===

impl Package {
    /// Where its source is.
    #[must_use]
    pub fn source_url(&self) -> String {
        format!("{SNAPSHOT}/{}/{}/", self.source, self.source_version)
    }

    /// Reads one paragraph of dpkg's; none if it is not of a package that is installed.
    fn parse(paragraph: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = paragraph
            .lines()
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let field = |name| fields.get(name).map(|value| (*value).to_owned());
        fields.get("Status").filter(|status| status.ends_with(" installed"))?;
        let (name, version) = (field("Package")?, field("Version")?);
        // `linux-signed-amd64 (6.12.1+1)`, where it is not called as the package, or has not its version.
        let source = field("Source").unwrap_or_else(|| name.clone());
        let (source, source_version) = match source.split_once(" (") {
            Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (source, version.clone()),
        };
        let architecture = field("Architecture")?;
        Some(Self { name, version, architecture, source, source_version, licences: BTreeSet::new() })
    }

    fn spdx(&self, suite: &str) -> Value {
        let licences: Vec<&str> = self.licences.iter().map(String::as_str).collect();
        let comment = match licences.is_empty() {
            true => "for people to read: its file copyright".to_owned(),
            false => format!("its file copyright names: {}", licences.join(", ")),
        };
        let version = self.version.replace(':', "%3A").replace('+', "%2B").replace('~', "%7E");
        json!({
            "SPDXID": format!("SPDXRef-deb-{}", identifier(&self.name)),
            "name": self.name,
            "versionInfo": self.version,
            "supplier": "Organization: Debian",
            "downloadLocation": self.source_url(),
            "filesAnalyzed": false,
            "sourceInfo": format!("built from {} {}", self.source, self.source_version),
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "licenseComments": comment,
            "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator":
                    format!("pkg:deb/debian/{}@{version}?arch={}&distro={suite}", self.name, self.architecture),
            }],
        })
    }
}

/// What is installed in a root, read once.
pub(crate) fn of(cache: &Cache, debian: &Debian) -> Result<Vec<Package>, SbomError> {
    if let Some(dir) = cache.finished(KIND, &debian.key) {
        return read(&dir);
    }
    let failed = |source| SbomError::Io { path: debian.archive.clone(), source };
    let packages = packages(&debian.archive, &debian.subtree).map_err(failed)?;
    let made = cache.begin(KIND)?;
    write(&packages, made.path())?;
    cache.finish(made, KIND, &debian.key)?;
    Ok(packages)
}

/// Writes them down in a folder.
pub(crate) fn write(packages: &[Package], dir: &Path) -> Result<(), SbomError> {
    let path = dir.join(FILE);
    let text = serde_json::to_vec_pretty(packages).map_err(io::Error::other);
    text.and_then(|text| fs::write(&path, text)).map_err(|source| SbomError::Io { path, source })
}

/// Reads what the folder of a catalogue says of its packages.
///
/// # Errors
///
/// [`SbomError::Io`].
pub fn read(dir: &Path) -> Result<Vec<Package>, SbomError> {
    let path = dir.join(FILE);
    let text = fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other));
    text.map_err(|source| SbomError::Io { path, source })
}

/// Reads what is installed in the archive of a root, and the licences from the part of it that is unpacked.
pub(crate) fn packages(archive: &Path, subtree: &Path) -> io::Result<Vec<Package>> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.strip_prefix("./").unwrap_or(&path) == Path::new(STATUS) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            let mut all: Vec<Package> = text.split("\n\n").filter_map(Package::parse).collect();
            for package in &mut all {
                let path = subtree.join(DOCUMENTATION).join(&package.name).join("copyright");
                let text = fs::read(&path).unwrap_or_default();
                package.licences = licences(&String::from_utf8_lossy(&text));
            }
            all.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(all);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no {STATUS} in it")))
}

/// The licences that a copyright file names: in DEP-5's fields, or by the texts that all packages share.
fn licences(text: &str) -> BTreeSet<String> {
    let fields = text.lines().filter_map(|line| line.strip_prefix("License:")).map(str::trim);
    let named: BTreeSet<String> = fields.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if !named.is_empty() {
        return named;
    }
    let shared = text.split(COMMON_LICENSES).skip(1);
    let name = |rest: &str| -> String {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default().trim_end_matches('.').to_owned()
    };
    shared.map(name).filter(|name| !name.is_empty()).collect()
}

/// The document of a set of images.
#[must_use]
pub fn spdx(catalog: &Catalog, packages: &[Package]) -> Value {
    let own = |name: &str, version: &str, place: &str| {
        json!({
            "SPDXID": format!("SPDXRef-{name}"), "name": name, "versionInfo": version,
            "downloadLocation": place, "filesAnalyzed": false,
            "licenseConcluded": "Apache-2.0", "licenseDeclared": "Apache-2.0", "copyrightText": "NOASSERTION",
        })
    };
    let kubernetes = match catalog.kubernetes_source.as_str() {
        "debian" => format!("{SNAPSHOT}/kubernetes/"),
        version if version.starts_with('v') => format!("https://dl.k8s.io/{version}/"),
        _ => "NOASSERTION".to_owned(),
    };
    let mut all = vec![
        own("meshboot", env!("CARGO_PKG_VERSION"), "NOASSERTION"),
        own("kubernetes", &catalog.kubernetes, &kubernetes),
    ];
    all.extend(packages.iter().map(|package| package.spdx(&catalog.suite)));
    let contains = all.iter().map(|package| {
        json!({ "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
            "relatedSpdxElement": package["SPDXID"] })
    });
    let contains: Vec<Value> = contains.collect();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("meshboot-{}", catalog.id),
        "documentNamespace": format!("https://meshboot.io/spdx/{}", catalog.root.sha256.hex()),
        // Of the same images the same document is made, whenever.
        "creationInfo": {
            "created": "1970-01-01T00:00:00Z",
            "creators": [format!("Tool: meshboot-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": all,
        "relationships": contains,
    })
}

/// Letters, digits, dots and hyphens are all that an identifier may have.
fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::files::{Content, Entry, archive};

    const DPKG: &str = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\n\
                        Version: 2.41-12\nDescription: GNU C Library\n Package: not a field\n\n\
                        Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
                        Package: linux-image-6.12\nStatus: install ok installed\nArchitecture: amd64\n\
                        Source: linux-signed-amd64 (6.12.1+1)\nVersion: 6.12.1-1\n\n\
                        Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:5.2+b1\n";

    #[test]
    fn packages_are_those_that_are_installed_with_their_source_and_licences() {
        let dir = tempfile::tempdir().unwrap();
        let status = Entry { path: STATUS.to_owned(), mode: 0o644, content: Content::Text(DPKG) };
        let tar = dir.path().join("debian.tar");
        archive(&[status], &tar).unwrap();
        let copyright = |package: &str, text: &str| {
            let folder = dir.path().join(DOCUMENTATION).join(package);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("copyright"), text).unwrap();
        };
        copyright("bash", "Files: *\nLicense: GPL-3+\n text\n\nFiles: doc\nLicense: GFDL-1.3\nLicense:\n");
        copyright(
            "libc6",
            "see /usr/share/common-licenses/LGPL-2.1.\nand `/usr/share/common-licenses/GPL-2'",
        );
        let all = packages(&tar, dir.path()).unwrap();
        let names: Vec<&str> = all.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["bash", "libc6", "linux-image-6.12"]);
        let licences = |at: usize| all[at].licences.iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!((licences(0), licences(1)), (vec!["GFDL-1.3", "GPL-3+"], vec!["GPL-2", "LGPL-2.1"]));
        assert_eq!(all[1].source_url(), "https://snapshot.debian.org/package/glibc/2.41-12/");
        assert_eq!(all[2].source_url(), "https://snapshot.debian.org/package/linux-signed-amd64/6.12.1+1/");
        let spdx = all[0].spdx("trixie");
        assert_eq!(
            spdx["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/bash@1%3A5.2%2Bb1?arch=amd64&distro=trixie"
        );
        assert_eq!(spdx["licenseComments"], "its file copyright names: GFDL-1.3, GPL-3+");
    }

    #[test]
    fn an_archive_of_something_else_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("other.tar");
        archive(&[], &tar).unwrap();
        assert!(packages(&tar, dir.path()).unwrap_err().to_string().contains("var/lib/dpkg/status"));
    }
}
