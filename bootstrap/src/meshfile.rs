//! A mesh in one file: its site, its machines and their specs, its cables.
//!
//! As settings do, it goes through named stages. [`Written`] is what stands there, each part with its place. [`Draft`]
//! is that with the mistakes that were found while it was read; flags of the command line make one, too. [`MeshPlan`]
//! is what can be made. Every mistake is told at once, with its line. [`changes()`] is what a running mesh lacks of it.

use serde::de::DeserializeOwned;

use crate::settings::{Origin, Raw, Settings};

mod changes;
mod check;
mod flags;
mod given;
mod mistake;
mod plan;
mod schema;
mod show;
mod written;
mod yaml;

pub use changes::{Change, Socket, changes, changes_from_nothing};
pub use given::Given;
pub use mistake::{Mistake, Mistakes, Place};
pub use plan::MeshPlan;
pub use schema::schema;
pub(crate) use schema::schema_of;
pub use written::{API_VERSION, CONTROL_PLANES, KIND, Written};

/// Reads the text of a file of another kind: what can be read of it, and what is wrong with how it is written.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<Mistake>) {
    let (node, mut mistakes) = yaml::read(text);
    let read = node.and_then(|node| given::from_node(&node, &mut mistakes));
    (read, mistakes)
}

/// A mesh as somebody wrote it, and what is wrong with how it is written.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What the file is called.
    file: String,
    written: Written,
    mistakes: Vec<Mistake>,
    /// Whether anything of it can be understood.
    is_readable: bool,
}

// === impl Draft ===

impl Draft {
    /// Reads a file's text. Mistakes in it are kept, to be told with all others.
    #[must_use]
    pub fn parse(file: &str, text: &str) -> Self {
        let (node, mistakes) = yaml::read(text);
        let mut draft =
            Self { file: file.to_owned(), written: Written::default(), mistakes, is_readable: false };
        let Some(node) = node else {
            if draft.mistakes.is_empty() {
                draft.mistakes.push(Mistake { place: None, problem: format!("{file} is empty") });
            }
            return draft;
        };
        // Another form of the file may have other fields, and none of them is a mistake.
        if let Some(mistake) = form(&node) {
            draft.mistakes.push(mistake);
            return draft;
        }
        let read = given::from_node(&node, &mut draft.mistakes);
        draft.is_readable = read.is_some();
        draft.written = read.unwrap_or_default();
        draft.check_settings();
        draft
    }

    /// Settings with what the mesh says over them.
    #[must_use]
    pub fn settings_over(&self, mut raw: Raw) -> Raw {
        for (section, leaves) in self.written.settings.get().into_iter().flatten() {
            let Some((leaves, place)) = leaves.pair() else { continue };
            if !raw.is_section(section, &Origin::Mesh(place)) {
                continue;
            }
            for (leaf, value) in leaves {
                if let Some((value, place)) = value.pair() {
                    raw.take(section, leaf, value.clone(), &Origin::Mesh(place));
                }
            }
        }
        for (leaf, value, place) in self.usual() {
            raw.take("libvirt", leaf, toml::Value::String(value), &Origin::Mesh(place));
        }
        raw
    }

    /// The mesh's name, if it has one that can be one.
    #[must_use]
    pub fn name(&self) -> Option<crate::profile::ProfileName> {
        self.written.name.get()?.parse().ok()
    }

    /// Checks all of it, with the settings that hold for it.
    ///
    /// # Errors
    ///
    /// Every mistake, in it and in the settings.
    pub fn plan(&self, raw: Raw) -> Result<(MeshPlan, Settings), Mistakes> {
        let mut mistakes = self.mistakes.clone();
        if !self.is_readable {
            return Err(Mistakes::new(&self.file, mistakes));
        }
        // Machines are checked even so, with the settings that they have by default.
        let settings = Settings::from_raw(raw.clone()).or_else(|errors| {
            mistakes.extend(errors.0.into_iter().map(Mistake::from));
            Settings::from_raw(Raw::default())
        });
        let settings = match settings {
            Ok(settings) => settings,
            Err(errors) => {
                mistakes.extend(errors.0.into_iter().map(Mistake::from));
                return Err(Mistakes::new(&self.file, mistakes));
            }
        };
        match check::check(&self.written, &settings, raw) {
            Ok(plan) if mistakes.is_empty() => Ok((plan, settings)),
            Ok(_) => Err(Mistakes::new(&self.file, mistakes)),
            Err(more) => {
                mistakes.extend(more);
                Err(Mistakes::new(&self.file, mistakes))
            }
        }
    }

    /// What `defaults` and `topology` say instead of `settings.libvirt`.
    fn usual(&self) -> Vec<(&'static str, String, Place)> {
        let defaults = self.written.defaults.get();
        let words = defaults.into_iter().flat_map(|defaults| {
            [("memory", &defaults.memory), ("cpus", &defaults.cpus), ("disk", &defaults.disk)]
        });
        let words =
            words.filter_map(|(leaf, word)| word.pair().map(|(word, place)| (leaf, word.0.clone(), place)));
        let shape = self.written.topology.pair();
        words.chain(shape.map(|(shape, place)| ("topology", shape.to_string(), place))).collect()
    }

    /// A setting under both of its names is said twice.
    fn check_settings(&mut self) {
        let libvirt = self.written.settings.get().and_then(|sections| sections.get("libvirt")?.get());
        let Some(libvirt) = libvirt else { return };
        let twice = self.usual().into_iter().filter_map(|(leaf, _, place)| {
            let (_, other) = libvirt.get(leaf)?.pair()?;
            Some(Mistake::at(place, format!("{leaf}: settings.libvirt.{leaf} says it, too: {other}")))
        });
        let twice: Vec<Mistake> = twice.collect();
        self.mistakes.extend(twice);
    }
}

/// What is wrong with the form of the file, so that nothing else can be said of it.
fn form(node: &yaml::Node) -> Option<Mistake> {
    use yaml::{Kind, Scalar};
    let Kind::Map(pairs) = &node.kind else {
        return Some(Mistake::at(node.place, "it is no mesh: a mapping with apiVersion, kind and machines"));
    };
    for (field, known) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let Some((_, value)) = pairs.iter().find(|(key, _)| key.text == field) else {
            return Some(Mistake::at(node.place, format!("{field} is missing: `{field}: {known}`")));
        };
        match &value.kind {
            Kind::Scalar(Scalar::Text(text)) if text == known => {}
            Kind::Scalar(Scalar::Text(text)) if field == "apiVersion" => {
                let newer = "a file of another form may be a newer meshboot's";
                return Some(Mistake::at(
                    value.place,
                    format!("apiVersion `{text}`: this meshboot knows {known}; {newer}"),
                ));
            }
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => {
                return Some(Mistake::at(value.place, format!("{field} must be {known}")));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
