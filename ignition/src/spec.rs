//! From a [`Tree`] to Ignition, spec 3.3.0: the newest that Debian's Ignition (2.14) reads.
//!
//! The only module that names the crate `ignition-config`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ignition_config::v3_3;

use crate::tree::{File, Tree};

/// An Ignition config, ready to be written to a disk or served.
#[derive(Clone, PartialEq)]
pub struct Config(v3_3::Config);

// === impl Config ===

impl Config {
    /// The config that makes this tree. Whatever is in its way is replaced.
    #[must_use]
    pub fn new(tree: &Tree) -> Self {
        let storage = v3_3::Storage {
            directories: Some(tree.folders.iter().map(|(path, mode)| directory(path, *mode)).collect()),
            files: Some(tree.files.iter().map(|(path, contents)| file(path, contents)).collect()),
            links: Some(tree.links.iter().map(|(path, target)| link(path, target)).collect()),
            ..v3_3::Storage::default()
        };
        let written = tree.units.iter().map(|(name, contents)| {
            let mut unit = v3_3::Unit::new(name.clone());
            unit.contents = Some(contents.clone());
            unit
        });
        let masked = tree.masked.iter().map(|name| {
            let mut unit = v3_3::Unit::new(name.clone());
            unit.mask = Some(true);
            unit
        });
        let systemd = v3_3::Systemd { units: Some(written.chain(masked).collect()) };
        Self(v3_3::Config { storage: Some(storage), systemd: Some(systemd), ..v3_3::Config::default() })
    }

    /// The config as JSON. It holds secrets.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.0).expect("strings, numbers and lists of them are always JSON")
    }
}

/// Shows which files there are, not what is in them: some hold secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.0.storage.iter().flat_map(|storage| storage.files.iter().flatten());
        f.write_str("Config ")?;
        f.debug_list().entries(files.map(|file| &file.path)).finish()
    }
}

fn file(path: &str, file: &File) -> v3_3::File {
    let source = format!("data:;base64,{}", STANDARD.encode(&file.contents));
    let contents = v3_3::Resource { source: Some(source), ..v3_3::Resource::default() };
    let mut written = v3_3::File::new(path.to_owned());
    written.contents = Some(contents);
    written.mode = Some(i64::from(file.mode));
    written.overwrite = Some(true);
    if let Some((user, group)) = file.owner {
        written.user = Some(v3_3::NodeUser { name: Some(user.to_owned()), ..v3_3::NodeUser::default() });
        written.group = Some(v3_3::NodeGroup { name: Some(group.to_owned()), ..v3_3::NodeGroup::default() });
    }
    written
}

/// A folder of the image keeps what is in it: `overwrite` stays unset.
fn directory(path: &str, mode: u32) -> v3_3::Directory {
    let mut directory = v3_3::Directory::new(path.to_owned());
    directory.mode = Some(i64::from(mode));
    directory
}

fn link(path: &str, target: &str) -> v3_3::Link {
    let mut link = v3_3::Link::new(path.to_owned());
    link.target = Some(target.to_owned());
    link.overwrite = Some(true);
    link
}
