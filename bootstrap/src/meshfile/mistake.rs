//! What is wrong, and where it stands.

use std::fmt;

use crate::settings::{ConfigError, Origin};

/// Where something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    Line {
        /// The line, from 1.
        line: u32,
        /// The column, from 1.
        column: u32,
    },
    /// On the command line, by this flag.
    Flag(&'static str),
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where; none if it is nowhere in particular.
    pub place: Option<Place>,
    /// What is wrong.
    pub problem: String,
}

/// Every mistake of a mesh as it was written, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    /// What the file is called.
    pub file: String,
    /// The mistakes, at least one.
    pub all: Vec<Mistake>,
}

// === impl Place ===

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, column } => write!(f, "line {line}, column {column}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

// === impl Mistake ===

impl Mistake {
    /// A mistake at a place.
    pub(super) fn at(place: Place, problem: impl Into<String>) -> Self {
        Self { place: Some(place), problem: problem.into() }
    }
}

impl From<ConfigError> for Mistake {
    fn from(error: ConfigError) -> Self {
        match error.origin {
            Some(Origin::Mesh(place)) => {
                Self { place: Some(place), problem: ConfigError { origin: None, ..error }.to_string() }
            }
            Some(Origin::File(_) | Origin::Variable(_) | Origin::Flag(_) | Origin::Profile(_)) | None => {
                Self { place: None, problem: error.to_string() }
            }
        }
    }
}

// === impl Mistakes ===

impl Mistakes {
    /// Mistakes in the order of the file, each once.
    pub(crate) fn new(file: &str, mut all: Vec<Mistake>) -> Self {
        all.sort_by_key(|mistake| (mistake.place.is_none(), mistake.place));
        all.dedup();
        Self { file: file.to_owned(), all }
    }

    /// One of them on a line, as editors and compilers have it.
    pub(crate) fn line(&self, mistake: &Mistake) -> String {
        match mistake.place {
            Some(Place::Line { line, column }) => {
                format!("{}:{line}:{column}: {}", self.file, mistake.problem)
            }
            Some(Place::Flag(flag)) => format!("{flag}: {}", mistake.problem),
            None => mistake.problem.clone(),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all.as_slice() {
            [only] => f.write_str(&self.line(only)),
            many => {
                write!(f, "the mesh has {} mistakes:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {}", self.line(mistake)))
            }
        }
    }
}

impl std::error::Error for Mistakes {}
