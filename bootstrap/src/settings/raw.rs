//! Settings as they were given.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use super::ConfigError;
use super::keys::{KEYS, Key};
use crate::meshfile::Place;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The settings file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// The command line.
    Flag(&'static str),
    /// A mesh's file, here.
    Mesh(Place),
    /// The name of the profile, which others are made of.
    Profile(String),
}

/// What was given, by the names of settings.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    pub(super) values: BTreeMap<&'static str, (Value, Origin)>,
    pub(super) mistakes: Vec<ConfigError>,
}

// === impl Raw ===

impl Raw {
    /// What a settings file says. Mistakes in it are kept, to be told with all others.
    #[must_use]
    pub fn from_toml(text: &str, path: &Path) -> Self {
        let origin = Origin::File(path.to_owned());
        let mut raw = Self::default();
        match text.parse::<toml::Table>() {
            Ok(table) => {
                for (section, value) in table {
                    raw.take_section(&section, value, &origin);
                }
            }
            Err(error) => raw.mistakes.push(ConfigError {
                key: String::new(),
                origin: Some(origin),
                problem: error.to_string().trim().replace('\n', "\n    "),
            }),
        }
        raw
    }

    /// The same, with what the environment says over it. Lists are divided by commas.
    #[must_use]
    pub fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        for key in KEYS {
            let name = key.variable();
            if let Some(text) = variables.get(&name) {
                self.values.insert(key.name, (as_value(key, text), Origin::Variable(name)));
            }
        }
        self
    }

    /// The same, with what a flag says over it, if it was given.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, flag: &'static str, text: Option<&str>) -> Self {
        if let (Some(key), Some(text)) = (Key::find(name), text) {
            self.values.insert(key.name, (as_value(key, text), Origin::Flag(flag)));
        }
        self
    }

    /// The same of a list, whose items the flag gives one by one.
    #[must_use]
    pub fn with_flags(mut self, name: &'static str, flag: &'static str, items: &[String]) -> Self {
        if let Some(key) = Key::find(name).filter(|_| !items.is_empty()) {
            let items = items.iter().map(|item| Value::String(item.clone())).collect();
            self.values.insert(key.name, (Value::Array(items), Origin::Flag(flag)));
        }
        self
    }

    /// Takes a value where nothing else gives one.
    pub(crate) fn or_value(&mut self, name: &'static str, value: Value, origin: Origin) {
        self.values.entry(name).or_insert((value, origin));
    }

    /// Every setting that has another value than its default, with its value.
    pub(crate) fn differing(&self) -> BTreeMap<String, Value> {
        let defaults = Self::default().resolved();
        self.resolved().into_iter().filter(|(name, value)| defaults.get(name) != Some(value)).collect()
    }

    /// Every setting that has a value, with its value.
    pub(crate) fn resolved(&self) -> BTreeMap<String, Value> {
        KEYS.iter()
            .filter_map(|key| {
                let given = self.values.get(key.name).map(|(value, _)| value.clone());
                Some((key.name.to_owned(), given.or_else(|| key.default_value())?))
            })
            .collect()
    }

    /// The resolved settings as a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut sections: BTreeMap<String, toml::Table> = BTreeMap::new();
        for (name, value) in self.resolved() {
            if let Some((section, leaf)) = name.split_once('.') {
                sections.entry(section.to_owned()).or_default().insert(leaf.to_owned(), value);
            }
        }
        toml::to_string(&sections).unwrap_or_default()
    }

    fn take_section(&mut self, section: &str, value: Value, origin: &Origin) {
        let Value::Table(table) = value else {
            let problem = "there is no such setting outside a section".to_owned();
            self.mistake(section.to_owned(), problem, origin);
            return;
        };
        if !self.is_section(section, origin) {
            return;
        }
        for (leaf, value) in table {
            self.take(section, &leaf, value, origin);
        }
    }

    /// Whether there is such a section; if not, that is noted.
    pub(crate) fn is_section(&mut self, section: &str, origin: &Origin) -> bool {
        let known = KEYS.iter().any(|key| key.section() == section);
        if !known {
            let near = nearest(section, KEYS.iter().map(Key::section));
            self.mistake(format!("[{section}]"), format!("there is no such section{near}"), origin);
        }
        known
    }

    /// Takes one setting, if there is such a one; if not, that is noted.
    pub(crate) fn take(&mut self, section: &str, leaf: &str, value: Value, origin: &Origin) {
        let name = format!("{section}.{leaf}");
        match Key::find(&name) {
            Some(key) => {
                self.values.insert(key.name, (value, origin.clone()));
            }
            None => {
                let near = nearest(&name, KEYS.iter().map(|key| key.name));
                self.mistake(name, format!("there is no such setting{near}"), origin);
            }
        }
    }

    fn mistake(&mut self, key: String, problem: String, origin: &Origin) {
        self.mistakes.push(ConfigError { key, origin: Some(origin.clone()), problem });
    }
}

/// A text of the environment or of a flag, in the form that the setting has in a file.
fn as_value(key: &Key, text: &str) -> Value {
    if matches!(key.default_value(), Some(Value::Array(_))) {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    }
    Value::String(text.to_owned())
}

/// A word for the known name that differs least, if it differs little.
pub(crate) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let best = known.map(|name| (distance(given, name), name)).min();
    // Half of a short word is another word.
    let limit = (given.chars().count() / 2).clamp(1, 3);
    best.filter(|(distance, _)| *distance <= limit)
        .map(|(_, name)| format!(": did you mean {name}?"))
        .unwrap_or_default()
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut next = vec![line + 1];
        for (column, other) in right.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or(usize::MAX - 1);
            let before = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(letter != *other)).min(above + 1).min(before + 1));
            diagonal = above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
            Self::Mesh(place) => place.fmt(f),
            Self::Profile(name) => write!(f, "the name of profile {name}"),
        }
    }
}
