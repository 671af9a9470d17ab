//! Several meshes on one computer: each has a name, a directory and addresses of its own.
//!
//! A profile's addresses are made of its name, so that two meshes never have the same ones and one mesh always has
//! them again. Whatever settings say stands over them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml::Value;

use crate::settings::{Origin, Raw};

/// Longest name: with what stands before it, it is a directory's name and a part of messages.
const MAX_NAME: usize = 40;
/// Networks of four addresses in 172.30.0.0/16. The first is the mesh's without a name.
const UPLINKS: u16 = 1 << 14;

/// The name of a mesh on this computer: small letters, digits and dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

/// A text that cannot name a mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a mesh: 1 to {MAX_NAME} of a-z, 0-9 and `-`, first and last a letter or digit")]
pub struct ProfileNameError(String);

/// A /48 of a site's own, `fd` and 40 bits that no other site has `[RFC 4193 § 3.1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPrefix(pub [u8; 5]);

// === impl ProfileName ===

impl ProfileName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Settings with the addresses of this profile where nothing else says any.
    #[must_use]
    pub fn settings_under(&self, mut raw: Raw) -> Raw {
        let [a, b, c, d, e, high, low, ..] = self.hash();
        let prefix = LocalPrefix([a, b, c, d, e]);
        // Never the first: that is the one of the mesh without a name.
        let uplink = 1 + u16::from_be_bytes([high, low]) % (UPLINKS - 1);
        let [third, fourth] = (uplink << 2 | 1).to_be_bytes();
        let values = [
            ("addresses.anycast", prefix.anycast()),
            ("addresses.machines", prefix.machines()),
            ("libvirt.host-v6", format!("{}/64", prefix.subnet(0x4000, 1))),
            ("libvirt.host-v4", format!("{}/30", Ipv4Addr::new(172, 30, third, fourth))),
        ];
        for (name, value) in values {
            raw.or_value(name, Value::String(value), Origin::Profile(self.0.clone()));
        }
        raw
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(format!("meshboot profile {}", self.0)).into()
    }
}

/// The directory of a profile's files, beside that of the mesh without a name.
#[must_use]
pub fn directory(plain: &Path, profile: Option<&ProfileName>) -> PathBuf {
    let Some(name) = profile else { return plain.to_owned() };
    let mut file = plain.file_name().unwrap_or_default().to_owned();
    file.push(format!("-{name}"));
    plain.with_file_name(file)
}

/// The directories that may be some profile's, or of the mesh without a name.
#[must_use]
pub fn directories(plain: &Path) -> Vec<PathBuf> {
    let name = plain.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let above = plain.parent().filter(|above| !above.as_os_str().is_empty());
    let is_one =
        |other: &str| other.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let all = std::fs::read_dir(above.unwrap_or_else(|| Path::new("."))).into_iter().flatten().flatten();
    all.filter(|entry| is_one(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        let good = (1..=MAX_NAME).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good { Ok(Self(text.to_owned())) } else { Err(ProfileNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for ProfileName {
    type Error = ProfileNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProfileName> for String {
    fn from(name: ProfileName) -> Self {
        name.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl LocalPrefix ===

impl LocalPrefix {
    /// The /64 of anycast addresses: the first.
    #[must_use]
    pub fn anycast(self) -> String {
        format!("{}/64", self.subnet(0, 0))
    }

    /// What machines' blocks are cut from: a /71 in its second half.
    #[must_use]
    pub fn machines(self) -> String {
        format!("{}/71", self.subnet(0x8000, 0))
    }

    /// An address of a subnet.
    #[must_use]
    pub fn subnet(self, subnet: u16, interface: u16) -> Ipv6Addr {
        let [a, b, c, d, e] = self.0;
        let words = [[0xfd, a], [b, c], [d, e]].map(u16::from_be_bytes);
        let [first, second, third] = words;
        Ipv6Addr::new(first, second, third, subnet, 0, 0, 0, interface)
    }
}

impl fmt::Display for LocalPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/48", self.subnet(0, 0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::Settings;

    fn settings(name: &str) -> Settings {
        let name: ProfileName = name.parse().unwrap();
        Settings::from_raw(name.settings_under(Raw::default())).unwrap()
    }

    #[test]
    fn names() {
        for name in ["a", "lab", "rack-2", "0", &"n".repeat(40)] {
            assert_eq!(name.parse::<ProfileName>().unwrap().as_str(), name);
        }
        for name in ["", "-", "a-", "-a", "Lab", "a_b", "a.b", "a/b", "ä", &"n".repeat(41)] {
            assert!(name.parse::<ProfileName>().is_err(), "{name}");
        }
    }

    #[test]
    fn directories_lie_beside_each_other() {
        let lab = "lab".parse().unwrap();
        assert_eq!(directory(Path::new("cluster"), None), Path::new("cluster"));
        assert_eq!(directory(Path::new("cluster"), Some(&lab)), Path::new("cluster-lab"));
        let temporary = tempfile::tempdir().unwrap();
        let plain = temporary.path().join("mesh.d");
        assert_eq!(directory(&plain, Some(&lab)), temporary.path().join("mesh.d-lab"));
        for name in ["mesh.d", "mesh.d-lab", "mesh.dd", "other"] {
            std::fs::create_dir(temporary.path().join(name)).unwrap();
        }
        let mut found = directories(&plain);
        found.sort();
        assert_eq!(found, [plain.clone(), temporary.path().join("mesh.d-lab")]);
    }

    #[test]
    fn no_two_profiles_have_the_same_addresses_and_one_always_has_its_own() {
        let mut seen = BTreeSet::new();
        let plain = Settings::from_raw(Raw::default()).unwrap();
        let names = ["a", "b", "lab", "lab2", "test", "prod", "x1", "x2"];
        for settings in names.map(settings).into_iter().chain([plain]) {
            let (addresses, libvirt) = (&settings.addresses, &settings.libvirt);
            for net in [addresses.anycast.to_string(), addresses.machines.to_string()] {
                assert!(seen.insert(net));
            }
            assert!(seen.insert(libvirt.host_v4.trunc().to_string()));
            assert!(seen.insert(libvirt.host_v6.trunc().to_string()));
        }
        assert_eq!(settings("lab"), settings("lab"));
    }

    #[test]
    fn what_settings_say_stands_over_it() {
        let raw = Raw::default().with_flag("addresses.anycast", "--test", Some("fd00:1::/64"));
        let raw = "lab".parse::<ProfileName>().unwrap().settings_under(raw);
        let settings = Settings::from_raw(raw).unwrap();
        assert_eq!(settings.addresses.anycast.to_string(), "fd00:1::/64");
        assert!(settings.addresses.machines.to_string().ends_with("/71"));
    }
}
