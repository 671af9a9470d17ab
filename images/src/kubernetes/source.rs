//! Which Kubernetes is wanted, as the user says it.

use std::{fmt, path::PathBuf, str::FromStr};

use super::version::{ParseVersionError, Version};

/// Where Kubernetes comes from: `auto`, `debian`, `dir:PATH` or `vX.Y.Z`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// The newest release of the project if its server answers, else Debian's.
    #[default]
    Auto,
    /// Debian's source package, built here: old, and for test meshes only, but a Debian mirror is all it needs.
    Debian,
    /// A folder of programs and image archives.
    Dir(PathBuf),
    /// A release of the project.
    Upstream(Version),
}

/// Why a text names no source of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSourceError {
    /// `dir:` with nothing behind it.
    #[error("`dir:` lacks the folder: expected dir:PATH")]
    NoFolder,
    /// It looks like a version, and is none.
    #[error(transparent)]
    Version(#[from] ParseVersionError),
    /// None of the words.
    #[error("`{0}` names no source of Kubernetes: expected auto, debian, dir:PATH or vX.Y.Z")]
    Unknown(String),
}

impl FromStr for Source {
    type Err = ParseSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "debian" => Ok(Self::Debian),
            "dir:" => Err(ParseSourceError::NoFolder),
            _ => match text.strip_prefix("dir:") {
                Some(path) => Ok(Self::Dir(path.into())),
                None if text.starts_with('v') => Ok(Self::Upstream(text.parse()?)),
                None => Err(ParseSourceError::Unknown(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Debian => f.write_str("debian"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::Upstream(version) => version.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_written_the_same() {
        for text in ["auto", "debian", "dir:/srv/kubernetes", "dir:with space", "v1.34.2", "v1.35.0-rc.1"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, said) in [
            ("", "expected auto"),
            ("Debian", "expected auto"),
            ("1.34.2", "expected auto"),
            ("v1.34", "expected something like v1.34.2"),
            ("dir:", "lacks the folder"),
        ] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
