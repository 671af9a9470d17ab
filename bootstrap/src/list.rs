//! `meshboot list`: every mesh of this computer, also those whose files are lost.
//!
//! There are two witnesses: libvirt, whose objects say whose they are, and the directories of deployments, both those
//! that libvirt's objects name and those beside that of the mesh without a name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hardware::libvirt::{Found, Kind};
use hardware::{DeploymentId, Libvirt};
use mesh::plan::APISERVER_PORT;
use schemars::JsonSchema;
use serde::Serialize;

use crate::deployment::{Deployment, Directory};
use crate::exit::Failure;
use crate::profile;
use crate::progress::Reporter;
use crate::status::columns;

/// One mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Listed {
    /// Its profile; none if it has none, or if its files are lost.
    pub profile: Option<String>,
    /// Where its files are, or were.
    pub directory: String,
    /// What its objects are known by.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub id: DeploymentId,
    /// How it is.
    pub state: State,
    /// How many virtual machines it has, the seed among them.
    pub machines: usize,
    /// How many of them have power; none if libvirt does not answer.
    pub running: Option<usize>,
    /// Where its API servers answer, if that is known.
    pub endpoint: Option<String>,
}

/// How a mesh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All of its machines became Ready.
    Complete,
    /// It was not finished.
    Unfinished,
    /// Its seed is on a stick: its machines are not of this computer.
    Stick,
    /// libvirt has its objects, and its files are gone.
    FilesLost,
    /// Its files are there, and libvirt has lost its machines.
    MachinesLost,
}

/// All that there is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct List {
    meshes: Vec<Listed>,
    /// Why libvirt said nothing, if it did not.
    libvirt: Option<String>,
}

/// What libvirt knows.
#[derive(Debug, Default)]
struct Objects {
    found: Vec<Found>,
    powered: BTreeSet<String>,
    silence: Option<String>,
}

/// Lists every mesh of this computer; `plain` is the directory of the one without a name.
///
/// # Errors
///
/// There is none: what cannot be read is told of the mesh it is about.
pub async fn run(plain: &Path, reporter: &Reporter) -> Result<(), Failure> {
    let objects = Objects::ask(&Libvirt::default()).await;
    let mut records = BTreeMap::new();
    let named = objects.found.iter().map(|object| PathBuf::from(&object.owner.directory));
    for path in named.chain(profile::directories(plain)).collect::<BTreeSet<_>>() {
        let Ok(directory) = Directory::new(&path) else { continue };
        match directory.load() {
            Ok(Some(deployment)) => drop(records.insert(directory.text().to_owned(), deployment)),
            Ok(None) => {}
            Err(error) => reporter.warn(&format!("{error:#}")),
        }
    }
    let meshes = listed(&records, &objects);
    let text = table(&meshes, objects.silence.as_deref());
    reporter.result(&List { meshes, libvirt: objects.silence }, &text);
    Ok(())
}

/// Every mesh that a record or an object of libvirt speaks of.
fn listed(records: &BTreeMap<String, Deployment>, objects: &Objects) -> Vec<Listed> {
    let mut keys: BTreeSet<(&str, DeploymentId)> =
        records.iter().map(|(directory, known)| (directory.as_str(), known.id)).collect();
    keys.extend(
        objects.found.iter().map(|object| (object.owner.directory.as_str(), object.owner.deployment)),
    );
    let all = keys.into_iter().map(|(directory, id)| {
        let record = records.get(directory).filter(|known| known.id == id);
        let own = objects.found.iter().filter(|object| object.owner.deployment == id);
        let domains: Vec<&str> = own
            .clone()
            .filter(|object| object.kind == Kind::Domain)
            .map(|object| object.name.as_str())
            .collect();
        let running = domains.iter().filter(|name| objects.powered.contains(**name)).count();
        let is_silent = objects.silence.is_some();
        let has_objects = own.count() > 0;
        Listed {
            profile: record.and_then(|known| known.profile.as_ref()).map(ToString::to_string),
            directory: directory.to_owned(),
            id,
            state: match record {
                None => State::FilesLost,
                Some(known) if known.stick.is_some() => State::Stick,
                Some(known) if !known.complete => State::Unfinished,
                Some(_) if !has_objects && !is_silent => State::MachinesLost,
                Some(_) => State::Complete,
            },
            machines: record.map_or(domains.len(), |known| known.machines.len()),
            running: (!is_silent).then_some(running),
            endpoint: record.map(|known| format!("https://[{}]:{APISERVER_PORT}", known.addresses.apiserver)),
        }
    });
    all.collect()
}

fn table(meshes: &[Listed], silence: Option<&str>) -> String {
    let mut text = if meshes.is_empty() {
        "there is no mesh on this computer\n".to_owned()
    } else {
        let header = ["PROFILE", "STATE", "MACHINES", "RUNNING", "API", "DIRECTORY"].map(str::to_owned);
        let dash = || "-".to_owned();
        let rows = meshes.iter().map(|mesh| {
            [
                mesh.profile.clone().unwrap_or_else(dash),
                mesh.state.word().to_owned(),
                mesh.machines.to_string(),
                mesh.running.map_or_else(dash, |running| running.to_string()),
                mesh.endpoint.clone().unwrap_or_else(dash),
                mesh.directory.clone(),
            ]
        });
        columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
    };
    for lost in meshes.iter().filter(|mesh| mesh.state == State::FilesLost) {
        text.push_str(&format!("meshboot teardown --cluster {}\n", lost.directory));
    }
    if let Some(reason) = silence {
        text.push_str(&format!("libvirt does not answer: {reason}\n"));
    }
    text
}

// === impl Objects ===

impl Objects {
    async fn ask(libvirt: &Libvirt) -> Self {
        let answers = async {
            let found = libvirt.survey().await.map_err(anyhow::Error::from)?;
            let powered = libvirt.virsh.active_domains().await.map_err(anyhow::Error::from)?;
            anyhow::Ok(Self { found, powered, silence: None })
        };
        answers.await.unwrap_or_else(|error| Self { silence: Some(format!("{error:#}")), ..Self::default() })
    }
}

// === impl State ===

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unfinished => "unfinished",
            Self::Stick => "on a stick",
            Self::FilesLost => "files lost",
            Self::MachinesLost => "machines lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use hardware::Owner;

    use super::*;
    use crate::deployment::sample;

    fn object(id: DeploymentId, directory: &str, kind: Kind, name: &str) -> Found {
        let owner = Owner { deployment: id, directory: directory.to_owned() };
        Found { kind, name: id.object_prefix() + name, owner }
    }

    #[test]
    fn every_mesh_is_listed_by_whoever_knows_of_it() {
        let mut running = sample(4);
        running.mark_complete();
        running.profile = Some("lab".parse().unwrap());
        let (here, lost) = (running.id, DeploymentId::random());
        let records =
            BTreeMap::from([("/a/cluster-lab".to_owned(), running), ("/b/cluster".to_owned(), sample(4))]);
        let found = vec![
            object(here, "/a/cluster-lab", Kind::Domain, "seed"),
            object(here, "/a/cluster-lab", Kind::Domain, "node1"),
            object(here, "/a/cluster-lab", Kind::Network, "uplink"),
            object(lost, "/gone", Kind::Domain, "seed"),
        ];
        let powered = BTreeSet::from([here.object_prefix() + "node1"]);
        let meshes = listed(&records, &Objects { found, powered, silence: None });
        let told: Vec<_> = meshes.iter().map(|mesh| (mesh.state, mesh.machines, mesh.running)).collect();
        assert_eq!(
            told,
            [(State::Complete, 5, Some(1)), (State::Unfinished, 5, Some(0)), (State::FilesLost, 1, Some(0))]
        );
        let text = table(&meshes, None);
        assert!(text.contains("lab") && text.contains("https://[fd65:"), "{text}");
        assert!(text.ends_with("meshboot teardown --cluster /gone\n"), "{text}");
        let silent = Objects { silence: Some("it is off".to_owned()), ..Objects::default() };
        let meshes = listed(&records, &silent);
        assert_eq!((meshes[0].state, meshes[0].running), (State::Complete, None));
        assert!(table(&[], Some("it is off")).contains("no mesh") && table(&[], Some("x")).contains("x"));
    }

    #[test]
    fn a_mesh_that_libvirt_forgot_is_told_apart() {
        let mut known = sample(4);
        known.mark_complete();
        let records = BTreeMap::from([("/a/cluster".to_owned(), known)]);
        assert_eq!(listed(&records, &Objects::default())[0].state, State::MachinesLost);
    }
}
